"""From a seed to a clip with its ground truth."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from handi.core.errors import InputError
from handi.core.types import BinaryMask, Frames
from handi.method.area import hull_area
from handi.world.actions import ACTIONS, Action, Choice
from handi.world.film import Film, digitise, exposure_for
from handi.world.geometry import Array
from handi.world.hand import Grip, rest_hand
from handi.world.props import State
from handi.world.render import Camera, Part, Renderer, View
from handi.world.scenes import Scene, affordances, build_scene
from handi.world.seeds import check_seed, split_of, stream
from handi.world.setting import HAND_IDS, SLEEVE_IDS, handheld
from handi.world.text import Slots, enriched_text, paraphrases, short_text, slots_for
from handi.world.truth import SIDES, moved_area, normalised, project_joints, visibility

FRAMES = 16
MOST_FRAMES = 1024
FPS = 8.0
SIZES = (32, 1024)  # smallest and largest side of a picture
SHUTTER = 0.5  # with motion blur the shutter is open for this share of a frame's time
BLUR_STEPS = 4


@dataclass(frozen=True)
class WorldClip:
    """A rendered clip and all that is known of it. Joints: left hand first, 21 each, as in `Hands`."""

    seed: int
    action: str
    choice: Choice  # which props play which part
    hands: tuple[str, ...]  # the sides that act, the leading one first
    text: str
    paraphrases: tuple[str, ...]
    enriched: str
    frames: Frames  # F×H×W×3
    joints2d: npt.NDArray[
        np.float32
    ]  # F×42×2 in [0, 1], the detector's way; zeros for a hand not in the scene
    joints3d: npt.NDArray[np.float32]  # F×42×3, world, metres; zeros for a hand not in the scene
    visible: npt.NDArray[np.uint8]  # F×42: ABSENT, VISIBLE, OCCLUDED, OUTSIDE
    ids: npt.NDArray[np.uint8]  # F×H×W: what each pixel shows, see `objects`
    area_hull: BinaryMask  # H×W, hulls of the joints over all frames (paper §2.1)
    area_moved: BinaryMask  # H×W, every pixel that changes
    objects: tuple[dict[str, Any], ...]  # name, kind, colour and id of every prop
    before: dict[str, State]
    after: dict[str, State]
    cameras: tuple[Camera, ...]  # one per frame
    fps: float = FPS

    @property
    def split(self) -> str:
        """train, validation or test."""
        return split_of(self.seed)

    @property
    def size(self) -> int:
        """Side of the pictures."""
        return self.frames.shape[1]


def possible_actions(seed: int) -> list[str]:
    """Names of the actions that the scene of a seed affords, in the order of ACTIONS. Raises: InputError."""
    return list(dict.fromkeys(name for name, _ in affordances(build_scene(seed))))


def find_seed(action: str, start: int = 0) -> int:
    """The first seed from `start` on whose scene affords an action. Raises: InputError for an unknown one."""
    check_action(action)
    seed = check_seed(start)
    while not any(True for _ in ACTIONS[action].choices(build_scene(seed))):
        seed += 1
    return seed


def either_hand(seed: int, action: str, choice: Choice) -> bool:
    """Whether chance alone chose the hand that acts in a clip: the thing is in the middle, both are free."""
    return ACTIONS[action](build_scene(seed), choice, stream(seed, "either hand")).either_hand


def check_action(action: str) -> None:
    """Raises: InputError for an action that is not there."""
    if action not in ACTIONS:
        raise InputError(f"no action {action!r}", where="action", hint=f"use one of: {', '.join(ACTIONS)}")


def check_length(frames: int, fps: float) -> None:
    """Raises: InputError for a number of frames or a frame rate that no clip can have."""
    if not 2 <= frames <= MOST_FRAMES:
        raise InputError(f"{frames} frames", where="frames", hint=f"use 2 to {MOST_FRAMES}")
    if not 0 < fps <= 1000:
        raise InputError(f"{fps:g} frames per second", where="fps", hint="use more than 0, 1000 at most")


def check_size(size: int) -> None:
    """Raises: InputError for a side that is odd, too small or too large."""
    if not isinstance(size, (int, np.integer)) or not SIZES[0] <= size <= SIZES[1] or size % 2:
        raise InputError(
            f"{size} is not a size", where="size", hint=f"use an even number, {SIZES[0]} to {SIZES[1]}"
        )


def _choose(scene: Scene, action: str | None, rng: np.random.Generator) -> tuple[str, Choice]:
    """An action that the scene affords, by the actions' weights, then one of the ways to do it."""
    options = [(name, choice) for name, choice in affordances(scene) if action in (None, name)]
    if not options:
        raise InputError(
            f"the scene of seed {scene.seed} does not afford {action!r}",
            where="action",
            hint=f"use one of: {', '.join(possible_actions(scene.seed))}; or see handi.world.find_seed",
        )
    names = list(dict.fromkeys(name for name, _ in options))
    weights = np.array([ACTIONS[name].weight for name in names])
    action = names[int(rng.choice(len(names), p=weights / weights.sum()))]
    choices = [choice for name, choice in options if name == action]
    return action, choices[int(rng.integers(len(choices)))]


def render_clip(
    seed: int,
    *,
    size: int = 128,
    action: str | None = None,
    motion_blur: bool = False,
    handheld: bool = False,
    frames: int = FRAMES,
    fps: float = FPS,
) -> WorldClip:
    """Render the clip of a seed, size×size px. The same seed gives the same pixels on one machine.

    The action takes all `frames`, and so (frames - 1) / fps seconds.

    `action` asks for one of those that the scene affords (`possible_actions`); by default the seed chooses.
    `handheld` lets the camera sway, as on a head; the motion areas are then those of the first frame's
    camera, which is what stabilising the clip should bring back. Raises: InputError.
    """
    check_size(size)
    check_length(frames, fps)
    if action is not None:
        check_action(action)
    scene = build_scene(seed)
    rng = stream(seed, "action")
    name, choice = _choose(scene, action, rng)
    return _render(scene, ACTIONS[name](scene, choice, rng), size, motion_blur, handheld, frames, fps)


def siblings(
    seed: int,
    *,
    size: int = 128,
    count: int | None = None,
    motion_blur: bool = False,
    handheld: bool = False,
    frames: int = FRAMES,
    fps: float = FPS,
) -> list[WorldClip]:
    """Clips of different actions from the identical first frame (the paper's appendix D).

    One clip for every action name that the scene affords, at most `count` of them, drawn from the seed.
    Raises: InputError for a scene that affords fewer than two, or a count below two.
    """
    check_size(size)
    check_length(frames, fps)
    if count is not None and count < 2:
        raise InputError(f"{count} clips cannot be compared", where="count", hint="use 2 or more")
    scene = build_scene(seed)
    names = list(dict.fromkeys(name for name, _ in affordances(scene)))
    if len(names) < 2:
        raise InputError(
            f"the scene of seed {seed} affords one action only", where="seed", hint="use another"
        )
    order = stream(seed, "siblings").permutation(len(names))[:count]
    clips = []
    for n in sorted(order):
        rng = stream(seed, "sibling", int(n))
        _, choice = _choose(scene, names[n], rng)
        action = ACTIONS[names[n]](scene, choice, rng)
        clips.append(_render(scene, action, size, motion_blur, handheld, frames, fps))
    return clips


# -------------------------------------------------------------------------------------- rendering


def still_parts(scene: Scene, action: Action) -> list[Part]:
    """The bodies that the action leaves alone, the hands that wait among them."""
    touched = action.states(0.0).keys() | action.states(1.0).keys()
    parts = [part for prop in scene.props if prop.name not in touched for part in prop.parts(prop.initial)]
    for side in scene.hands.keys() - action.tracks.keys():
        parts += hand_parts(scene, side, scene.start[side])
    return parts


def moving_parts(scene: Scene, action: Action, time: float) -> list[Part]:
    """The other bodies, where they are at a time."""
    states = action.states(time)
    props = [prop for prop in scene.props if prop.name in states]
    parts = [part for prop in props for part in prop.parts(states[prop.name])]
    for side, track in action.tracks.items():
        parts += hand_parts(scene, side, track.at(time))
    return parts


def hand_parts(scene: Scene, side: str, grip: Grip) -> list[Part]:
    """The bodies of a hand and its arm."""
    return scene.hands[side].parts(grip, scene.elbow(grip, side), HAND_IDS[side], SLEEVE_IDS[side])


def _grip(scene: Scene, action: Action, side: str, time: float) -> Grip:
    track = action.tracks.get(side)
    return scene.start[side] if track is None else track.at(time)


def _exposed(renderer: Renderer, scene: Scene, action: Action, camera: Camera, times: list[float]) -> View:
    """The view at the last of the times, its light averaged over all of them."""
    views = [renderer.frame(camera, moving_parts(scene, action, time)) for time in times]
    if len(views) == 1:
        return views[0]
    return View(np.mean([view.picture for view in views], axis=0), views[-1].identity, views[-1].depth)


def _render(
    scene: Scene, action: Action, size: int, motion_blur: bool, sway: bool, count: int, fps: float
) -> WorldClip:
    still_bodies = [*scene.backdrop, *still_parts(scene, action)]
    renderer = Renderer(still_bodies, scene.light, rest_hand().skin, size)
    steady_renderer = Renderer(still_bodies, scene.light, rest_hand().skin, size) if sway else renderer
    times = np.linspace(0, 1, count)
    still = [scene.camera] * count
    cameras = handheld(scene.camera, stream(scene.seed, "camera"), count) if sway else still
    step = SHUTTER / (count - 1)
    frames, clean, ids, steady_ids = [], [], [], []
    pixels2d, joints3d, visible, steady2d = [], [], [], []
    hand_ids = (HAND_IDS["left"], HAND_IDS["right"])
    for n, time in enumerate(times):
        # The shutter closes at the frame's time: the first frame is sharp and knows nothing of what follows.
        steps = BLUR_STEPS if motion_blur else 1
        open_for = sorted({max(0.0, time - step * k / BLUR_STEPS) for k in range(steps)})
        view = _exposed(renderer, scene, action, cameras[n], open_for)
        if n == 0:
            gain = exposure_for(view.picture, scene.brightness)
            film, steady_film = Film(gain), Film(gain)
        developed = film.develop(view.picture)
        frames.append(digitise(developed, stream(scene.seed, "noise", n)))
        steady = _exposed(steady_renderer, scene, action, scene.camera, open_for) if sway else view
        clean.append(digitise(steady_film.develop(steady.picture) if sway else developed))
        ids.append(view.identity.astype(np.uint8))
        steady_ids.append(steady.identity.astype(np.uint8))
        joints = moment_joints(scene, action, time)
        pixels, depths, present = project_joints(joints, cameras[n], size)
        pixels2d.append(normalised(pixels, present, size))
        visible.append(visibility(view, pixels, depths, present, hand_ids, scene.person.size))
        steady2d.append(normalised(project_joints(joints, scene.camera, size)[0], present, size))
        joints3d.append(
            np.concatenate([joints.get(side, np.zeros((21, 3))) for side in SIDES]).astype(np.float32)
        )
    before = {prop.name: prop.initial for prop in scene.props}
    after = before | action.states(1.0)
    moving = {HAND_IDS[side] for side in action.tracks} | {SLEEVE_IDS[side] for side in action.tracks}
    changed = action.states(1.0)
    moving |= {
        prop.identity for prop in scene.props if prop.name in changed and after[prop.name] != prop.initial
    }
    rng = stream(scene.seed, "text")
    slots = slots_of(scene, action)
    return WorldClip(
        seed=scene.seed,
        action=action.name,
        choice=action.choice,
        hands=tuple(action.tracks),
        text=short_text(slots),
        paraphrases=tuple(paraphrases(slots, rng)),
        enriched=enriched_text(slots, rng),
        frames=np.stack(frames),
        joints2d=np.stack(pixels2d),
        joints3d=np.stack(joints3d),
        visible=np.stack(visible),
        ids=np.stack(ids),
        area_hull=hull_area(np.stack(steady2d), size, size),
        area_moved=moved_area(np.stack(clean), np.stack(steady_ids), moving),
        objects=tuple(
            {"name": p.name, "kind": p.kind, "colour": p.colour, "id": p.identity} for p in scene.props
        ),
        before=before,
        after=after,
        cameras=tuple(cameras),
        fps=fps,
    )


def moment_joints(scene: Scene, action: Action, time: float) -> dict[str, Array]:
    """World joints, 21×3 a hand, at a time in [0, 1] of an action."""
    return {side: hand.landmarks(_grip(scene, action, side, time)) for side, hand in scene.hands.items()}


def meant_ids(
    choice: Choice, sides: Iterable[str], identities: Mapping[str, int]
) -> tuple[list[int], list[int]]:
    """What the words of an action mean in the id map: the things that it is done with, and the hands, with
    their sleeves, that do it. identities: of every prop, by name. Of two buttons on one base both count."""
    things = [identities[name] for name in choice.values() if name in identities]
    return things, [ids[side] for side in sides for ids in (HAND_IDS, SLEEVE_IDS)]


def slots_of(scene: Scene, action: Action) -> Slots:
    """The words that this action in this scene fixes."""
    roles = {role: scene.prop(name) for role, name in action.choice.items() if role != "which"}
    which = int(action.choice["which"]) if "which" in action.choice else None
    return slots_for(action.name, roles, which, next(iter(action.tracks)))
