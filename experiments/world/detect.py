"""Does a real hand detector see the hands of the synthetic world?

Two steps, as MediaPipe's wheel and handi do not live in one environment:

    python -m experiments.world.detect render OUT            # with handi: pictures and true joints
    python -m experiments.world.detect detect OUT            # with mediapipe 0.10.21, or with handi.hands

`detect` takes an installed mediapipe (legacy Hands, static images, two hands), else handi's own detector.
What counts as found is said in `handi.hands.matching`. 128-pixel pictures are enlarged to 256.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
from PIL import Image

from experiments.estimates import ratio
from handi.hands.matching import enlarge, match_hands
from handi.world.judges import ACTION_FRAMES

FIRST_STILL, FIRST_CLIP = 940_000, 910_000  # test seeds


def render(out: Path, stills: int, clips: int, only: list[str], first: int, sizes: list[int]) -> None:
    """Write PNGs and `truth.json`: a list of pictures with set, action, acting sides, joints, insides."""
    from experiments.world.stills import render_still
    from handi.world import ACTIONS, find_seed, render_clip
    from handi.world.truth import OUTSIDE

    out.mkdir(parents=True, exist_ok=True)
    truth = []

    def keep(
        name: str, picture: np.ndarray, joints: np.ndarray, visible: np.ndarray, **about: object
    ) -> None:
        Image.fromarray(picture).save(out / name)
        inside = (visible != OUTSIDE) & joints.any(-1)
        truth.append({"file": name, "joints": joints.tolist(), "inside": inside.tolist(), **about})

    for n in range(stills):
        for size in sizes:
            still = render_still(FIRST_STILL + n, size=size)
            keep(
                f"still-{n}-{size}.png", still.picture, still.joints2d, still.visible, set="stills", size=size
            )
    for action in only or ACTIONS:
        seed = first - 1
        for n in range(clips):
            seed = find_seed(action, seed + 1)
            for size in sizes:
                clip = render_clip(seed, size=size, action=action)
                about = {"set": "actions", "size": size, "action": action, "seed": seed, "hands": clip.hands}
                for f in ACTION_FRAMES:
                    name = f"{action.replace(' ', '_')}-{n}-{f}-{size}.png"
                    keep(name, clip.frames[f], clip.joints2d[f], clip.visible[f], **about)
    (out / "truth.json").write_text(json.dumps(truth))


def detector(confidence: float):
    """Name, and a function from an H×W×3 picture to a list of 21×2 joints in [0, 1]."""
    try:
        import mediapipe
    except ImportError:
        from handi.hands import HandDetector

        ours = HandDetector.from_pretrained()

        def see_ours(picture: np.ndarray) -> list[np.ndarray]:
            hands = np.asarray(ours.detect(picture[None]).joints)[0].reshape(2, 21, 2)
            return [hand for hand in hands if hand.any()]

        return "handi.hands.HandDetector", see_ours
    hands = mediapipe.solutions.hands.Hands(
        static_image_mode=True, max_num_hands=2, min_detection_confidence=confidence
    )

    def see(picture: np.ndarray) -> list[np.ndarray]:
        found = hands.process(picture).multi_hand_landmarks or []
        return [np.array([(p.x, p.y) for p in hand.landmark]) for hand in found]

    return f"mediapipe {mediapipe.__version__}", see


def detect(out: Path, confidence: float) -> None:
    """Print the table as Markdown; write `detected.json` with the misses."""
    name, see = detector(confidence)
    rates: dict[tuple[str, int], dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    acting: dict[tuple[str, int], list[bool]] = defaultdict(list)
    errors: dict[tuple[str, int], list[float]] = defaultdict(list)
    misses = []
    for row in json.loads((out / "truth.json").read_text()):
        seen = see(enlarge(np.asarray(Image.open(out / row["file"]).convert("RGB"))))
        for side, error in match_hands(np.array(row["joints"]), np.array(row["inside"]), seen).items():
            group = row["file"] if row["set"] == "stills" else f"{row['action']} {row['seed']}"
            keys = [(row["set"], row["size"])]
            if row["set"] == "actions":
                keys.append((row["action"], row["size"]))
                if ("left", "right")[side] in row["hands"]:
                    acting[row["action"], row["size"]].append(error is not None)
            for key in keys:
                rates[key][group].append(error is not None)
                if error is not None:
                    errors[key].append(error)
            if error is None:
                misses.append({"file": row["file"], "side": ("left", "right")[side]})
    (out / "detected.json").write_text(json.dumps(misses))
    print(f"{name}, confidence {confidence}\n")
    print("| set | size | hands | found | 95 % interval | acting hands found | error / box (median) |")
    print("|---|---|---|---|---|---|---|")
    for (label, size), groups in rates.items():
        hits = [sum(group) for group in groups.values()]
        found = ratio(hits, [len(group) for group in groups.values()])
        own = acting.get((label, size))
        acted = f"{100 * np.mean(own):.0f} % of {len(own)}" if own else ""
        middle = f"{np.median(errors[label, size]):.3f}" if errors[label, size] else "–"
        share = f"{100 * found.value:.1f} % | {100 * found.low:.0f}–{100 * found.high:.0f} %"
        hands = sum(len(group) for group in groups.values())
        print(f"| {label} | {size} | {hands} | {share} | {acted} | {middle} |")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("step", choices=("render", "detect"))
    parser.add_argument("out", type=Path)
    parser.add_argument("--stills", type=int, default=150)
    parser.add_argument("--clips", type=int, default=6, help="for each action")
    parser.add_argument("--actions", nargs="*", default=[], help="only these")
    parser.add_argument("--first", type=int, default=FIRST_CLIP, help="seed from which to look for clips")
    parser.add_argument("--sizes", type=int, nargs="*", default=[256, 128])
    parser.add_argument("--confidence", type=float, default=0.5)
    arguments = parser.parse_args()
    if arguments.step == "render":
        render(
            arguments.out,
            arguments.stills,
            arguments.clips,
            arguments.actions,
            arguments.first,
            arguments.sizes,
        )
    else:
        detect(arguments.out, arguments.confidence)


if __name__ == "__main__":
    main()
