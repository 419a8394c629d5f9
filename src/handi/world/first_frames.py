"""First frames with all that can be asked of them: what words mean in a picture, at little cost."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from handi.core.errors import InputError
from handi.core.files import replacing, write_json
from handi.core.images import read_image, write_image
from handi.core.reading import read_json
from handi.core.types import Picture
from handi.world.actions import ACTIONS, Action
from handi.world.clip import FRAMES, check_size, hand_parts, meant_ids, moment_joints, slots_of
from handi.world.files import name_of
from handi.world.film import Film, digitise, exposure_for
from handi.world.hand import rest_hand
from handi.world.render import Renderer
from handi.world.scenes import Scene, affordances, build_scene
from handi.world.seeds import split_of, stream
from handi.world.text import enriched_text, paraphrases, short_text
from handi.world.truth import normalised, project_joints

FORMAT, VERSION = "handi-world-first-frame", 2
JOINTS = ".joints.npy"  # suffix of the file with the requests' joints, R×F×42×2 float16


@dataclass(frozen=True)
class SceneRequest:
    """Something that can be done in a scene: how it is said, what the words mean, and how the hands move."""

    action: str
    text: str
    paraphrases: tuple[str, ...]
    enriched: str
    things: tuple[int, ...]  # values of the id map
    hands: tuple[int, ...]  # likewise, with their sleeves
    sides: tuple[str, ...]  # the hands that act, the leading one first
    joints: npt.NDArray[np.float32]  # F×42×2, where a clip of it has them; see `WorldClip.joints2d`


@dataclass(frozen=True)
class FirstFrame:
    """The picture H×W×3 that all clips of a seed begin with, what its pixels show H×W, and the requests."""

    seed: int
    frame: Picture
    ids: npt.NDArray[np.uint8]
    requests: tuple[SceneRequest, ...]


def render_first_frame(seed: int, *, size: int = 128, frames: int = FRAMES) -> FirstFrame:
    """The first frame of a seed, with every action on every thing that its scene affords, in an order that
    the seed draws. frames: of the clips whose later frames are not rendered. Raises: InputError."""
    check_size(size)
    scene = build_scene(seed)
    parts = [part for prop in scene.props for part in prop.parts(prop.initial)]
    for side, grip in scene.start.items():
        parts += hand_parts(scene, side, grip)
    view = Renderer(scene.backdrop, scene.light, rest_hand().skin, size).frame(scene.camera, parts)
    gain = exposure_for(view.picture, scene.brightness)
    rng = stream(seed, "requests")
    options = list(affordances(scene))
    identities = {prop.name: prop.identity for prop in scene.props}
    requests = []
    for n in rng.permutation(len(options)):
        name, choice = options[n]
        action = ACTIONS[name](scene, choice, rng)
        slots = slots_of(scene, action)
        things, hands = meant_ids(choice, action.tracks, identities)
        requests.append(
            SceneRequest(
                action=name,
                text=short_text(slots),
                paraphrases=tuple(paraphrases(slots, rng)),
                enriched=enriched_text(slots, rng),
                things=tuple(things),
                hands=tuple(hands),
                sides=tuple(action.tracks),
                joints=_way(scene, action, size, frames),
            )
        )
    frame = digitise(Film(gain).develop(view.picture), stream(seed, "noise", 0))
    return FirstFrame(seed, frame, view.identity.astype(np.uint8), tuple(requests))


def _way(scene: Scene, action: Action, size: int, frames: int) -> npt.NDArray[np.float32]:
    """F×42×2: the hands' joints in every frame of the clip that is not rendered."""
    moments = [moment_joints(scene, action, time) for time in np.linspace(0, 1, frames)]
    projected = [project_joints(joints, scene.camera, size) for joints in moments]
    return np.stack([normalised(pixels, present, size) for pixels, _, present in projected])


def write_first_frame(folder: str | Path, first: FirstFrame) -> Path:
    """Write the picture, the id map, the requests' joints (R×F×42×2) and, last, the JSON, whose path is
    returned. Raises: OutputError."""
    folder, stem = Path(folder), name_of(first.seed)
    write_image(folder / f"{stem}.png", first.frame)
    write_image(folder / f"{stem}.ids.png", first.ids)
    with replacing(folder / f"{stem}{JOINTS}") as temporary, open(temporary, "wb") as file:
        np.save(file, np.stack([request.joints for request in first.requests]).astype(np.float16))
    record = {
        "format": FORMAT,
        "version": VERSION,
        "seed": first.seed,
        "split": split_of(first.seed),
        "requests": [asdict(request) | {"joints": n} for n, request in enumerate(first.requests)],
    }
    path = folder / f"{stem}.json"
    write_json(path, record, separators=(",", ":"))
    return path


def read_first_frame(path: str | Path) -> FirstFrame:
    """Read one back from its JSON. Raises: InputError."""
    path = Path(path)
    try:
        record = read_json(path)
        if (record["format"], record["version"]) != (FORMAT, VERSION):
            raise ValueError(f"{record['format']} of version {record['version']}")
        joints = np.load(path.with_suffix(JOINTS)).astype(np.float32)
        requests = tuple(
            SceneRequest(
                action=request["action"],
                text=request["text"],
                paraphrases=tuple(request["paraphrases"]),
                enriched=request["enriched"],
                things=tuple(request["things"]),
                hands=tuple(request["hands"]),
                sides=tuple(request["sides"]),
                joints=joints[request["joints"]],
            )
            for request in record["requests"]
        )
        frame = read_image(path.with_suffix(".png"))
        ids = read_image(path.with_suffix(".ids.png"))[..., 0]
        return FirstFrame(record["seed"], frame, ids, requests)
    except (OSError, KeyError, TypeError, ValueError, IndexError, EOFError) as error:
        raise InputError(
            f"is not a first frame of the synthetic world ({type(error).__name__}: {error})",
            where=path,
            hint="delete it and run handi world again",
        ) from error
