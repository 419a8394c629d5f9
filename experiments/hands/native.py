"""Native MediaPipe Hands on a file of frames: the other side of `parity.py` and `hands.py`.

Runs in an environment of its own, as MediaPipe 0.10.21 and handi want different numpy:
    python3.11 -m venv /tmp/native && /tmp/native/bin/pip install mediapipe==0.10.21
Usage (by the other scripts): python native.py FRAMES.npz RESULT.npz MODE COMPLEXITY CONFIDENCE
FRAMES.npz holds one N×H×W×3 uint8 RGB array a clip.
"""

from __future__ import annotations

import sys
import time

import mediapipe
import numpy as np


def main() -> None:
    source, target, mode, complexity, confidence = sys.argv[1:]
    clips = np.load(source)
    results = {"version": np.array(mediapipe.__version__)}
    for name in clips.files:
        frames = clips[name]
        with mediapipe.solutions.hands.Hands(
            static_image_mode=mode == "image",
            max_num_hands=2,
            model_complexity={"lite": 0, "full": 1}[complexity],
            min_detection_confidence=float(confidence),
            min_tracking_confidence=0.5,
        ) as hands:
            if mode == "image":
                hands.process(frames[0])  # warm up; in video mode it would change what is tracked
            landmarks = np.full((len(frames), 4, 21, 2), np.nan)
            right = np.full((len(frames), 4), np.nan)
            seconds, busy = np.zeros(len(frames)), np.zeros(len(frames))
            for number, frame in enumerate(frames):
                start, cpu = time.perf_counter(), time.process_time()
                found = hands.process(frame)
                seconds[number] = time.perf_counter() - start
                busy[number] = time.process_time() - cpu
                height, width = frame.shape[:2]
                for slot, hand in enumerate(found.multi_hand_landmarks or []):
                    landmarks[number, slot] = [(p.x * width, p.y * height) for p in hand.landmark]
                    # MediaPipe's "Left" is the right hand of footage that is not mirrored.
                    right[number, slot] = found.multi_handedness[slot].classification[0].label == "Left"
        results.update({f"{name}/landmarks": landmarks, f"{name}/right": right, f"{name}/seconds": seconds})
        results[f"{name}/cpu"] = busy
    np.savez(target, **results)


main()
