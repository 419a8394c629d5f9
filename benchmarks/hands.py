"""Speed of the hand detector against native MediaPipe 0.10.21, in one run on one machine.

    python -m benchmarks.hands --native /tmp/native/bin/python VIDEO_OR_FOLDER...

Rounds are interleaved (native, ours, native, ...), so that a machine whose speed drifts is fair to both; the
table gives medians over rounds, their range, and each round's ratio to native. Frames are decoded beforehand
and the first frames are warm-up, on both sides. Where there is a GPU, torch runs there too, batched.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from experiments.hands.parity import Clips, load_clips, machine, run_native
from handi.core.video import even_indices
from handi.hands import HandDetector, Hands
from handi.hands.networks import litert_installed

WARM_UP = 4  # frames


def seconds_of(work: Callable[[], object], device: str) -> float:
    start = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def native_speed(python: str, clips: Clips, mode: str) -> tuple[float, float]:
    """Frames/s and ms of CPU a frame of native MediaPipe, its first frames of each clip left out."""
    result = run_native(python, clips, mode)
    seconds, busy = (
        np.concatenate([result[f"{name}/{what}"][WARM_UP:] for name in clips]) for what in ("seconds", "cpu")
    )
    return len(seconds) / seconds.sum(), 1000 * busy.mean()


def our_speed(
    detector: HandDetector, clips: Clips, mode: str, device: str, chunk: int
) -> tuple[float, float]:
    """The same of `detect`, a clip a call, its first frames left out."""
    frames = {name: torch.from_numpy(clip).to(device) for name, clip in clips.items()}
    for clip in frames.values():
        detector.detect(clip[:WARM_UP], mode=mode)  # type: ignore[arg-type]
    total, seconds, busy = 0, 0.0, time.process_time()
    for clip in frames.values():
        rest = clip[WARM_UP:]
        total += len(rest)
        seconds += seconds_of(partial(detector.detect, rest, mode=mode, chunk=chunk), device)  # type: ignore[arg-type]
    return total / seconds, 1000 * (time.process_time() - busy) / total


def landmark_speeds(detector: HandDetector, clip: np.ndarray, device: str) -> tuple[float, float]:
    """Regions/s of `landmarks`: forward alone, and forward and backward to the pixels."""
    hands = detector.detect(clip)
    frames = (torch.from_numpy(clip).permute(0, 3, 1, 2) / 255).to(device).contiguous()
    rois, regions = hands.rois.to(device), int(hands.visible.sum())

    def forward() -> Hands:
        with torch.no_grad():
            return detector.landmarks(frames, rois)

    def backward() -> None:
        leaf = frames.clone().requires_grad_()
        detector.landmarks(leaf, rois).joints.square().sum().backward()

    forward(), backward()
    return regions / seconds_of(forward, device), regions / seconds_of(backward, device)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("footage", nargs="+", type=Path)
    parser.add_argument("--native", required=True, help="Python that has mediapipe 0.10.21")
    parser.add_argument("--backends", nargs="+", default=["torch", "litert"], help="on the CPU")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--frames", type=int, default=64, help="of each clip")
    parser.add_argument("--clips", type=int, default=4)
    parser.add_argument("--chunk", type=int, default=32, help="frames at a time")
    options = parser.parse_args()
    clips = {
        name: clip for name, clip in load_clips(options.footage, options.frames).items() if len(clip) > 8
    }
    names = list(clips)
    clips = {names[i]: clips[names[i]] for i in even_indices(len(names), min(len(names), options.clips))}
    shapes = ", ".join(sorted({"×".join(map(str, clip.shape[1:3])) for clip in clips.values()}))
    print(f"{machine()}, {torch.get_num_threads()} threads\n")
    print(
        f"{len(clips)} clips, {sum(map(len, clips.values()))} frames of {shapes}, {options.rounds} rounds\n"
    )
    runs = [(backend, "cpu") for backend in options.backends if backend == "torch" or litert_installed()]
    runs += [("torch", "cuda")] if torch.cuda.is_available() else []
    detectors = {run: HandDetector.from_pretrained(backend=run[0]) for run in runs}  # type: ignore[arg-type]
    print(
        "| mode | backend | frames/s, median (range) | ratio to native | CPU ms per frame |\n|" + "---|" * 5
    )
    for mode in ("image", "video"):
        speeds: dict[str, list[tuple[float, float]]] = {}
        for _ in range(options.rounds):
            speeds.setdefault("native", []).append(native_speed(options.native, clips, mode))
            for run, detector in detectors.items():
                speed = our_speed(detector, clips, mode, run[1], options.chunk)
                speeds.setdefault(" on ".join(run), []).append(speed)
        native = np.array(speeds["native"])
        for name, pairs in speeds.items():
            rate, busy = np.array(pairs).T
            ratio = spread(rate / native[:, 0], 2)
            print(f"| {mode} | {name} | {spread(rate)} | {ratio} | {spread(busy)} |", flush=True)
    print("\n| device | landmark net, forward, regions/s | forward and backward |\n|---|---|---|")
    clip = next(iter(clips.values()))[:16]
    for device in sorted({device for _, device in runs}):
        torch_detector = detectors.get(("torch", device)) or HandDetector.from_pretrained(backend="torch")
        pairs = [landmark_speeds(torch_detector, clip, device) for _ in range(options.rounds)]
        forward, both = zip(*pairs, strict=True)
        print(f"| {device} | {spread(forward)} | {spread(both)} |")


def spread(values: object, digits: int = 1) -> str:
    array = np.asarray(values)
    return f"{np.median(array):.{digits}f} ({array.min():.{digits}f}–{array.max():.{digits}f})"


if __name__ == "__main__":
    main()
