"""Speed of the hand detector against native MediaPipe 0.10.21, in one run on one machine.

    python benchmarks/hands.py --native /tmp/native/bin/python VIDEO_OR_FOLDER...

Rounds are interleaved (native, ours, native, ...), so that a machine whose speed drifts is fair to both; the
table gives medians over rounds, their range, and each round's ratio to native. Frames are decoded beforehand
and the first frames are warm-up, on both sides. Where there is a GPU, torch runs there too, batched.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from hands_parity import Clips, load_clips, machine, run_native

from handi.hands import HandDetector, Hands
from handi.hands.networks import litert_installed

WARM_UP = 4  # frames


def seconds_of(work: Callable[[], object], device: str) -> float:
    start = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def native_speed(python: str, clips: Clips, mode: str) -> float:
    """Frames/s of native MediaPipe, its first frames of each clip left out."""
    result = run_native(python, clips, mode)
    seconds = np.concatenate([result[f"{name}/seconds"][WARM_UP:] for name in clips])
    return len(seconds) / seconds.sum()


def our_speed(detector: HandDetector, clips: Clips, mode: str, device: str, chunk: int) -> float:
    """Frames/s of `detect`, a clip a call, its first frames left out."""
    frames = {name: torch.from_numpy(clip).to(device) for name, clip in clips.items()}
    for clip in frames.values():
        detector.detect(clip[:WARM_UP], mode=mode)  # type: ignore[arg-type]
    total = sum(len(clip) - WARM_UP for clip in frames.values())
    return total / sum(
        seconds_of(lambda clip=clip: detector.detect(clip[WARM_UP:], mode=mode, chunk=chunk), device)  # type: ignore[misc]
        for clip in frames.values()
    )


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
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--frames", type=int, default=64, help="of each clip")
    parser.add_argument("--clips", type=int, default=4)
    parser.add_argument("--chunk", type=int, default=32, help="frames at a time")
    options = parser.parse_args()
    clips = {
        name: clip for name, clip in load_clips(options.footage, options.frames).items() if len(clip) > 8
    }
    clips = dict(list(clips.items())[:: max(1, len(clips) // options.clips)][: options.clips])
    shapes = ", ".join(sorted({"×".join(map(str, clip.shape[1:3])) for clip in clips.values()}))
    print(f"{machine()}, {torch.get_num_threads()} threads\n")
    print(
        f"{len(clips)} clips, {sum(map(len, clips.values()))} frames of {shapes}, {options.rounds} rounds\n"
    )
    runs = [("torch", "cpu")] + ([("litert", "cpu")] if litert_installed() else [])
    runs += [("torch", "cuda")] if torch.cuda.is_available() else []
    detectors = {run: HandDetector.from_pretrained(backend=run[0]) for run in runs}  # type: ignore[arg-type]
    print(
        "| mode | backend | frames/s, median (range) | ratio to native, median (range) |\n|---|---|---|---|"
    )
    for mode in ("image", "video"):
        speeds: dict[str, list[float]] = {}
        for _ in range(options.rounds):
            speeds.setdefault("native", []).append(native_speed(options.native, clips, mode))
            for run, detector in detectors.items():
                speed = our_speed(detector, clips, mode, run[1], options.chunk)
                speeds.setdefault(" on ".join(run), []).append(speed)
        for name, values in speeds.items():
            print(
                f"| {mode} | {name} | {spread(values)} | {spread(np.divide(values, speeds['native']), 2)} |"
            )
    print("\n| device | landmark net, forward, regions/s | forward and backward |\n|---|---|---|")
    clip = next(iter(clips.values()))[:16]
    for device in sorted({device for _, device in runs}):
        pairs = [landmark_speeds(detectors["torch", device], clip, device) for _ in range(options.rounds)]
        forward, both = zip(*pairs, strict=True)
        print(f"| {device} | {spread(forward)} | {spread(both)} |")


def spread(values: object, digits: int = 1) -> str:
    array = np.asarray(values)
    return f"{np.median(array):.{digits}f} ({array.min():.{digits}f}–{array.max():.{digits}f})"


if __name__ == "__main__":
    main()
