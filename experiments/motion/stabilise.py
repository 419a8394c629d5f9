"""How well stabilising undoes a hand-held camera.

    python -m experiments.motion.stabilise [--clips 40] [--first 100]

Clips of the synthetic world are rendered with `handheld=True`, where every camera and every depth is known.

Residual background motion: for each pixel of the context frame that shows table, room or clutter, and that
nothing ever moves over (outside `area_moved`), the place where the true camera of frame n has that very point
of the scene. Before: its distance to the pixel in the context frame. After: the distance once the measured
homography has moved it. Mean over such pixels and frames 1..15 (those in view, and not behind something in
frame n); drop = 1 - after/before. The whole's drop divides the sums of all clips.

Motion area: the hulls of the hand-held clip's exact joints, each frame's carried into the context frame by
its measured homography, against `area_hull`, that of the same clip from a still camera: intersection over
union. With --detector also the areas that the hand detector finds: in the stabilised frames, and as they
are, against the one that it finds in the same clip rendered with a still camera.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass

import numpy as np

from handi.core.types import BinaryMask, Frames
from handi.hands import HandDetector
from handi.method.area import hull_area
from handi.motion.stabilise import CameraMotion, measure_camera, stabilise
from handi.world import WorldClip, render_clip
from handi.world.hand import rest_hand
from handi.world.render import Renderer
from handi.world.scenes import build_scene
from handi.world.setting import CLUTTER, ROOM, TABLE

BACKGROUND = (TABLE, ROOM, CLUTTER)


@dataclass(frozen=True)
class Result:
    """Of one clip: px, shares, and areas' intersection over union."""

    before: float
    after: float
    overlap: float
    overlap_raw: float
    support: float  # of the worst frame
    seconds: float  # of CPU
    detected: tuple[float, float] | None  # by the detector: stabilised, as it is

    @property
    def drop(self) -> float:
        return 1 - self.after / self.before


def background_motion(clip: WorldClip, motion: CameraMotion) -> tuple[float, float]:
    """Mean displacement of the still background in px: (as filmed, after the measured homographies)."""
    size = clip.size
    scene = build_scene(clip.seed)
    # Some prop has to be drawn too; what it covers is no background.
    view = Renderer(scene.backdrop, scene.light, rest_hand().skin, size).frame(
        clip.cameras[0], scene.props[0].parts(scene.props[0].initial)
    )
    still = np.isin(view.identity, BACKGROUND) & np.isin(clip.ids[0], BACKGROUND) & ~clip.area_moved
    y, x = np.nonzero(still)
    first = clip.cameras[0]
    depth = view.depth[y, x, None]
    pixels = np.stack([x + 0.5, y + 0.5], 1)  # the renderer counts from the picture's edge
    rays = np.concatenate([(pixels - size / 2) / first.focal(size), np.ones_like(depth)], 1)
    points = first.eye + (rays * depth) @ first.rotation
    before, after = [], []
    for n in range(1, len(clip.cameras)):
        places, _ = clip.cameras[n].project(points, size)
        column, row = np.floor(places).astype(int).T
        inside = (column >= 0) & (column < size) & (row >= 0) & (row < size)
        seen = inside.copy()
        seen[inside] = np.isin(clip.ids[n][row[inside], column[inside]], BACKGROUND)
        homogeneous = np.concatenate([places[seen] - 0.5, np.ones((seen.sum(), 1))], 1)
        moved = homogeneous @ motion.homographies[n].T
        before.append(np.linalg.norm(places[seen] - pixels[seen], axis=1))
        after.append(np.linalg.norm(moved[:, :2] / moved[:, 2:] + 0.5 - pixels[seen], axis=1))
    return float(np.concatenate(before).mean()), float(np.concatenate(after).mean())


def overlap(one: BinaryMask, other: BinaryMask) -> float:
    """Intersection over union; 1 for two empty areas."""
    union = (one | other).sum()
    return float((one & other).sum() / union) if union else 1.0


def measure(seed: int, size: int, *, detector: HandDetector | None = None) -> Result:
    """Render a clip hand-held, measure its camera, compare with the truth."""
    clip = render_clip(seed, size=size, handheld=True)
    begin = time.process_time()
    motion = measure_camera(clip.frames)
    seconds = time.process_time() - begin
    before, after = background_motion(clip, motion)
    return Result(
        before,
        after,
        overlap(hull_area(motion.carry(clip.joints2d), size, size), clip.area_hull),
        overlap(hull_area(clip.joints2d, size, size), clip.area_hull),
        float(motion.support.min()),
        seconds,
        None if detector is None else overlap_found(detector, clip, motion),
    )


def overlap_found(detector: HandDetector, clip: WorldClip, motion: CameraMotion) -> tuple[float, float]:
    """The detector's areas against its own of the still camera's clip: (stabilised, as it is)."""
    still = found(detector, render_clip(clip.seed, size=clip.size).frames)
    steady = stabilise(clip.frames, motion)[0] if motion.reliable.all() else clip.frames
    return overlap(found(detector, steady), still), overlap(found(detector, clip.frames), still)


def found(detector: HandDetector, frames: Frames) -> BinaryMask:
    """Motion area of a clip by the hand detector."""
    return hull_area(detector.detect(frames, mode="video").joints.numpy(), *frames.shape[1:3])


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=int, default=40)
    parser.add_argument("--first", type=int, default=100, help="the first clip's seed")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--detector", action="store_true", help="compare the detector's areas too")
    arguments = parser.parse_args()
    detector = HandDetector.from_pretrained() if arguments.detector else None
    print(
        "| seed | before px | after px | drop | support | area IoU as filmed | stabilised | CPU s |", end=""
    )
    print(" detector's IoU as filmed | stabilised |" if detector else "")
    print("|---|---|---|---|---|---|---|---|" + ("---|---|" if detector else ""))
    results = []
    for seed in range(arguments.first, arguments.first + arguments.clips):
        r = measure(seed, arguments.size, detector=detector)
        results.append(r)
        line = f"| {seed} | {r.before:.2f} | {r.after:.2f} | {r.drop:.1%} | {r.support:.2f} |"
        line += f" {r.overlap_raw:.3f} | {r.overlap:.3f} | {r.seconds:.2f} |"
        if r.detected is not None:
            line += f" {r.detected[1]:.3f} | {r.detected[0]:.3f} |"
        print(line, flush=True)
    summary(results)


def summary(results: list[Result]) -> None:
    """Print what the clips come to together."""
    drops, overlaps = np.array([r.drop for r in results]), np.array([r.overlap for r in results])
    whole = 1 - sum(r.after for r in results) / sum(r.before for r in results)
    print(f"\nDrop of the whole {whole:.1%}; of a clip: median {np.median(drops):.1%}, mean ", end="")
    print(f"{drops.mean():.1%}, worst {drops.min():.1%}; 80 % in {(drops >= 0.8).sum()} of {len(drops)}.")
    raw = np.mean([r.overlap_raw for r in results])
    print(
        f"Area IoU: as filmed {raw:.3f}, stabilised {overlaps.mean():.3f}, worst {overlaps.min():.3f}; ",
        end="",
    )
    print(f"0.9 in {(overlaps >= 0.9).sum()} of {len(overlaps)}.")
    pairs = [r.detected for r in results if r.detected is not None]
    if pairs:
        steady, as_filmed = np.array(pairs).T
        print(f"The detector's areas: IoU as filmed {as_filmed.mean():.3f}, stabilised {steady.mean():.3f}.")


if __name__ == "__main__":
    main()
