"""Several sentences, one video: each clip starts from the last frame of the one before.

A clip changes its context image inside its motion area alone, and its last frame is handed on as it is,
without a codec between. So outside the areas of all clips, every frame is the first photo to the bit.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from handi.core.errors import InputError
from handi.core.files import replacing, staged
from handi.core.images import write_image
from handi.core.reading import read_json
from handi.core.types import BinaryMask, Frames
from handi.core.video import write_video
from handi.generation.mini_check import warn
from handi.generation.record import LAST_FRAME, OWNED, RUN_FILE, is_finished, versions
from handi.generation.requests import ClipRequest, GenerationSettings
from handi.generation.run import Runner, describe, require
from handi.motion.flow import motion_flow

if TYPE_CHECKING:
    from handi.method.pipeline import HandiPipelineOutput

CLIPS = "clips"  # the folder, beside a sequence's video, of the clips that it is made of


@dataclass(frozen=True)
class Part:
    """A clip of a sequence."""

    request: ClipRequest
    frames: Frames  # the first one is the last of the part before
    area: BinaryMask

    @classmethod
    def of(cls, request: ClipRequest, output: HandiPipelineOutput) -> Part:
        """The part that a run of one request gave."""
        return cls(request, output.frames[0], output.motion_area[0])

    def keep(self, path: Path) -> None:
        """Write the pixels to a file, until the sequence is whole. Raises: OutputError."""
        with replacing(path) as temporary:
            np.savez(temporary, frames=self.frames, area=self.area)

    @classmethod
    def kept(cls, request: ClipRequest, path: Path) -> Part | None:
        """The part that `keep` wrote; None where there is none that can be read."""
        try:
            with np.load(path) as kept:
                return cls(request, kept["frames"], kept["area"])
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None


def run_sequence(
    first: ClipRequest,
    prompts: Sequence[str],
    settings: GenerationSettings,
    out: str | Path,
    *,
    say: Callable[[str], None],
) -> None:
    """Generate one clip for each prompt, and the video of all of them, into the folder `out`.

    first: what the clips share; its image begins the first one, and a mask of it counts for all. The clips
    are in out/clips/1 and so on, whole as they become ready. Stopped, it resumes after the last clip that is
    whole; what is finished is left as it is. Raises: HandiError.
    """
    settings.check()
    requests = [
        replace(first, prompt=prompt, id=str(number)) for number, prompt in enumerate(prompts, start=1)
    ]
    for request in requests:
        request.check()
    out = Path(out)
    if _is_whole(first, prompts, settings, out):
        say(f"{out} is finished already")
        return
    require(settings)
    warn([first], settings, say)
    parts: list[Part] = []
    with ExitStack() as stack:
        runner: Runner | None = None
        for number, request in enumerate(requests, start=1):
            folder, own = out / CLIPS / str(number), settings
            if parts:
                request = replace(request, image=str(out / CLIPS / str(number - 1) / LAST_FRAME))
                height, width = parts[0].area.shape
                own = replace(settings, height=height, width=width)
            # Once a clip is made anew, so are all that go on from it.
            found = Part.kept(request, _pixels(folder)) if is_finished(request, own, folder) else None
            if found is not None and runner is None and (not parts or _goes_on(parts[-1], found)):
                say(f"clip {number} of {len(requests)} is finished already")
                parts.append(found)
                continue
            say(f"clip {number} of {len(requests)}: {request.prompt}")
            runner = runner or stack.enter_context(Runner(own))
            runner.settings = own
            descriptions, errors = describe([request], settings)
            for error in errors.values():
                raise error
            output = runner.run([request], [folder], descriptions)
            for note in output.notes:
                say(f"note: {note}")
            parts.append(part := Part.of(request, output))
            part.keep(_pixels(folder))
    fps = float(read_json(out / CLIPS / "1" / RUN_FILE)["result"]["fps"])
    join(parts, settings, out, fps=fps)
    for path in (out / CLIPS).glob("*.npz"):
        path.unlink()


def _is_whole(first: ClipRequest, prompts: Sequence[str], settings: GenerationSettings, out: Path) -> bool:
    request = replace(first, prompt=" ".join(prompts), id="")
    return is_finished(request, settings, out) and read_json(out / RUN_FILE).get("prompts") == list(prompts)


def _pixels(folder: Path) -> Path:
    """Where a part's pixels are kept: its video has been through a codec."""
    return folder.with_suffix(".npz")


def _goes_on(before: Part, after: Part) -> bool:
    return np.array_equal(before.frames[-1], after.frames[0])


def join(parts: Sequence[Part], settings: GenerationSettings, out: str | Path, *, fps: float) -> Frames:
    """Write the video of all parts, the union of their motion areas and run.json to the folder `out`.

    settings: of the run, for the record. Gives the frames, F×H×W×3: a part begins with the last frame of the
    one before, which is there once.
    Raises: InputError for parts that do not go on from one another, OutputError.
    """
    for before, after in pairwise(parts):
        if not _goes_on(before, after):
            raise InputError(f"{after.request.prompt!r} does not start from the last frame of the one before")
    frames = np.concatenate([parts[0].frames, *(part.frames[1:] for part in parts[1:])])
    area = np.any([part.area for part in parts], axis=0)
    prompts = [part.request.prompt for part in parts]
    record: dict[str, Any] = {
        "request": asdict(replace(parts[0].request, prompt=" ".join(prompts), id="")),
        "settings": asdict(settings),
        "prompts": prompts,
        "result": {
            "frames": len(frames),
            "height": frames.shape[1],
            "width": frames.shape[2],
            "fps": fps,
            "motion_area_share": round(float(area.mean()), 4),
        },
        "versions": versions(),
    }
    owned = [name for name in OWNED if name != CLIPS]
    with staged(out, last=RUN_FILE, owned=owned) as folder:
        write_video(folder / "video.mp4", frames, fps=fps)
        write_image(folder / "motion_area.png", area)
        write_image(folder / "motion_flow.png", np.rint(motion_flow(frames) * 255).astype(np.uint8))
        write_image(folder / LAST_FRAME, frames[-1])
        (folder / RUN_FILE).write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    return frames
