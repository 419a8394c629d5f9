"""The hand detector against MediaPipe: networks against LiteRT, and the whole against native 0.10.21.

    python3.11 -m venv /tmp/native && /tmp/native/bin/pip install mediapipe==0.10.21
    python -m experiments.hands.parity --native /tmp/native/bin/python VIDEO_OR_FOLDER...

Prints the tables of docs/hands.md. `--golden tests/pictures/hands` re-makes the tests' golden numbers
instead: what native MediaPipe says of the pictures there. Needs `pip install 'handi[litert]'`; native
MediaPipe has an environment of its own, as it needs another numpy.

The row "native, one pixel" compares native MediaPipe with itself on frames in which one pixel is one level
brighter: as far as that moves its answer, no other implementation can be told from it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import torch

from handi.core.footage import find_footage
from handi.core.images import read_image
from handi.hands import HandDetector
from handi.hands.crops import LEVEL
from handi.hands.tflite import TFLiteModule, read_graph
from handi.hands.weights import load_hand_weights

Clips = dict[str, np.ndarray]  # name → F×H×W×3 uint8
REFERENCE_WIDTH = 448  # px; landmark distances are stated as in a frame this wide


def machine() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    model = next((line.split(":")[1].strip() for line in lines if "model name" in line), platform.machine())
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{model}, {os.cpu_count()} cores{gpu}; torch {torch.__version__}"


def load_clips(paths: list[Path], limit: int | None = None) -> Clips:
    """Every video, sequence and picture under the paths."""
    clips: Clips = {}
    for path in paths:
        files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        for file in files:
            if file.suffix in (".mp4", ".png", ".jpg") and not file.parent.name.startswith(
                ("flow_", "motion_")
            ):
                (footage,) = find_footage(file)
                frames = np.stack([f for _, f in itertools.islice(footage.frames(), limit)])
                clips[f"{file.parent.name}_{file.stem}"] = frames
    return clips


def run_native(
    python: str, clips: Clips, mode: str, complexity: str = "full", confidence: float = 0.5
) -> dict[str, np.ndarray]:
    """Native MediaPipe: a clip's landmarks F×4×21×2 px (NaN where none), right F×4 and seconds F."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "frames.npz", Path(folder) / "result.npz"
        np.savez(source, **clips)  # type: ignore[arg-type]
        script = Path(__file__).with_name("native.py")
        command = [python, *map(str, (script, source, target, mode, complexity, confidence))]
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        subprocess.run(command, check=True, env=environment, capture_output=True)
        return dict(np.load(target))


def compare_networks(clips: Clips) -> None:
    """Largest differences between the torch networks and LiteRT on the same input."""
    from ai_edge_litert.interpreter import Interpreter

    rng = np.random.default_rng(0)
    frames = [frame for clip in clips.values() for frame in clip[:1]][:40]
    print("| network | input | n | boxes or landmarks, px | scores |\n|---|---|---|---|---|")
    for complexity in ("full", "lite"):
        weights = load_hand_weights(complexity)
        for name, data in (("palm", weights.palm), ("landmark", weights.landmark)):
            module = TFLiteModule(read_graph(data))
            interpreter = Interpreter(model_content=data)
            interpreter.allocate_tensors()
            detail = interpreter.get_input_details()[0]
            side = detail["shape"][1]
            real = [np.ascontiguousarray(frame[: frame.shape[0], : frame.shape[0]]) for frame in frames]
            inputs = {
                "random": [rng.random((side, side, 3), np.float32) for _ in range(20)],
                "real": [resized(frame, side) * LEVEL for frame in real],
            }
            for kind, pictures in inputs.items():
                worst = np.zeros(2)
                for picture in pictures:
                    interpreter.set_tensor(detail["index"], picture[None])
                    interpreter.invoke()
                    with torch.inference_mode():
                        ours = module(torch.from_numpy(picture)[None].permute(0, 3, 1, 2))
                    for place, output in enumerate(interpreter.get_output_details()):
                        theirs = interpreter.get_tensor(output["index"])
                        if place == 3:  # world landmarks, in metres, are not used
                            continue
                        if name == "palm" and place == 1:
                            theirs, ours[1] = sigmoid(theirs), torch.sigmoid(ours[1])
                        difference = float(np.abs(theirs - ours[place].numpy()).max())
                        worst[min(place, 1)] = max(worst[min(place, 1)], difference)
                print(f"| {name} {complexity} | {kind} | {len(pictures)} | {worst[0]:.1e} | {worst[1]:.1e} |")


def resized(picture: np.ndarray, side: int) -> np.ndarray:
    import cv2

    return cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(x, -100, 100)))


def ours_as_native(clips: Clips, mode: str, backend: str, complexity: str) -> dict[str, np.ndarray]:
    """Our detector's answer in the form of `run_native`, NaN where there is no hand."""
    detector = HandDetector.from_pretrained(complexity, backend=backend)  # type: ignore[arg-type]
    result = {}
    for name, clip in clips.items():
        hands = detector.detect(clip, mode=mode)  # type: ignore[arg-type]
        landmarks = hands.joints.view(-1, 2, 21, 2).double() * torch.tensor([clip.shape[2], clip.shape[1]])
        landmarks[~hands.visible] = torch.nan
        right = (hands.handedness >= 0.5).double()
        right[~hands.visible] = torch.nan
        result |= {f"{name}/landmarks": landmarks.numpy(), f"{name}/right": right.numpy()}
    return result


def compare(clips: Clips, one: dict[str, np.ndarray], native: dict[str, np.ndarray]) -> str:
    """The numbers of a row: how an answer agrees with native MediaPipe's."""
    frames = same = 0
    distances, labels = [], []
    for name, clip in clips.items():
        for row in range(len(clip)):
            here, there = (np.flatnonzero(~np.isnan(r[f"{name}/right"][row])) for r in (one, native))
            frames += 1
            if len(here) != len(there):
                continue
            same += 1
            gaps = one[f"{name}/landmarks"][row][:, None] - native[f"{name}/landmarks"][row][None]
            gaps = np.linalg.norm(gaps, axis=-1) * REFERENCE_WIDTH / clip.shape[2]
            orders = (list(zip(order, there, strict=True)) for order in itertools.permutations(here))
            for a, b in min(orders, key=lambda pairs: sum(gaps[pair].mean() for pair in pairs)):
                distances.append(gaps[a, b])
                labels.append(one[f"{name}/right"][row, a] == native[f"{name}/right"][row, b])
    gaps = np.concatenate(distances)
    return (
        f"{frames} | {len(labels)} | {100 * same / frames:.2f} % | {np.median(gaps):.4f} "
        f"| {np.percentile(gaps, 95):.3f} | {gaps.max():.2f} | {100 * np.mean(labels):.2f} %"
    )


def one_pixel_brighter(clips: Clips) -> Clips:
    """The pixel in the middle of each frame one level brighter (or darker, where it is white)."""
    changed = {name: clip.copy() for name, clip in clips.items()}
    for clip in changed.values():
        middle = clip[:, clip.shape[1] // 2, clip.shape[2] // 2]
        middle += np.where(middle < 255, 1, -1).astype(np.uint8)
    return changed


def make_golden(folder: Path, python: str) -> None:
    """Write native.json beside the test pictures: strips of frames, one above the other."""
    golden: dict = {"made_by": "experiments/hands/parity.py --golden", "clips": {}}
    strips = json.loads((folder / "strips.json").read_text())
    pictures = {name: read_image(folder / f"{name}.png") for name in strips}
    clips = {name: p.reshape(strips[name], -1, *p.shape[1:]) for name, p in pictures.items()}
    for mode in ("image", "video"):
        native = run_native(python, clips, mode)
        golden["mediapipe"] = str(native["version"])
        for name in clips:
            hands = [
                [
                    {"right": bool(native[f"{name}/right"][row, slot]),
                     "landmarks": native[f"{name}/landmarks"][row, slot].round(4).tolist()}
                    for slot in np.flatnonzero(~np.isnan(native[f"{name}/right"][row]))
                ]
                for row in range(len(clips[name]))
            ]  # fmt: skip
            golden["clips"].setdefault(name, {})[mode] = hands
    (folder / "native.json").write_text(json.dumps(golden) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("footage", nargs="*", type=Path)
    parser.add_argument("--native", required=True, help="Python that has mediapipe 0.10.21")
    parser.add_argument("--golden", type=Path, help="folder of the tests' pictures")
    parser.add_argument("--backends", nargs="+", default=["litert", "torch"])
    parser.add_argument("--complexities", nargs="+", default=["full"])
    options = parser.parse_args()
    if options.golden:
        make_golden(options.golden, options.native)
        return
    clips = load_clips(options.footage)
    print(f"{machine()}\n{len(clips)} clips, {sum(map(len, clips.values()))} frames\n")
    compare_networks(clips)
    print(
        "\n| mode | networks | what | frames | hands | same number of hands "
        f"| median, px at {REFERENCE_WIDTH} | 95 % | max | same handedness |\n|" + "---|" * 10
    )
    for complexity, mode in itertools.product(options.complexities, ("image", "video")):
        native = run_native(options.native, clips, mode, complexity)
        for backend in options.backends:
            row = compare(clips, ours_as_native(clips, mode, backend, complexity), native)
            print(f"| {mode} | {complexity} | handi, {backend} | {row} |", flush=True)
        again = run_native(options.native, one_pixel_brighter(clips), mode, complexity)
        print(f"| {mode} | {complexity} | native, one pixel | {compare(clips, again, native)} |", flush=True)


if __name__ == "__main__":
    main()
