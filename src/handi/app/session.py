"""What one browser tab works on, and the model that all tabs share in turns. Nothing here knows the page."""

from __future__ import annotations

import secrets
import shutil
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from handi.app.canvas import mask_of
from handi.core.errors import InputError
from handi.core.images import read_image, write_image
from handi.core.kinds import kind_of
from handi.core.types import BinaryMask, Picture
from handi.core.video import count_frames, read_frames
from handi.generation.poses import given_poses
from handi.generation.record import LAST_FRAME
from handi.generation.requests import ClipRequest, GenerationSettings
from handi.generation.run import Runner, Stopped, Watch
from handi.generation.sequence import Part, join
from handi.models.folder import require

if TYPE_CHECKING:
    import numpy as np

    from handi.method.pipeline import HandiPipelineOutput

# (what is being done, steps done, steps in all)
Report = Callable[[str, int, int], None]
SHOWN_STAGES = {1: "where it happens", 2: "the video"}


@dataclass(frozen=True)
class Clip:
    """A clip that a session made."""

    part: Part
    folder: Path  # with the files that `handi generate` writes
    before: tuple[Part, ...] = ()  # the clips that it goes on from

    @property
    def video(self) -> Path:
        """The file to play."""
        return self.folder / "video.mp4"

    @property
    def title(self) -> str:
        """What it is called in the history."""
        return f"{self.part.request.prompt} · seed {self.part.request.seed}"

    def files(self) -> list[Path]:
        """All its files."""
        return sorted(path for path in self.folder.rglob("*") if path.is_file())


class Studio:
    """A loaded model that many sessions use, one at a time."""

    def __init__(self, settings: GenerationSettings, out: str | Path) -> None:
        """Raises: HandiError for a model that cannot be loaded."""
        settings.check()
        require(settings.model)
        self.settings = settings
        self.out = Path(out)
        self.runner = Runner(settings)
        self.card = self.runner.pipe.card
        self._lock = threading.Lock()

    @property
    def takes_poses(self) -> bool:
        """Whether the model can be told how the hands move."""
        return bool(self.runner.pipe.backbone.traits(self.runner.pipe.unet).poses)

    def session(self) -> Session:
        """A new session, with a folder of its own."""
        name = f"{time.strftime('%Y-%m-%d_%H-%M-%S')}_{secrets.token_hex(3)}"
        return Session(self, self.out / name)

    def poses(self, request: ClipRequest, settings: GenerationSettings) -> tuple[np.ndarray, list[str]]:
        """The poses F×42×2 that a request's file gives, as they stand in its photo, and notes.

        Raises: InputError.
        """
        with self._lock:
            poses, notes = given_poses(self.runner.pipe, [request], settings)
        assert poses is not None
        return poses[0], notes

    def propose(
        self, request: ClipRequest, settings: GenerationSettings, watch: Watch
    ) -> HandiPipelineOutput:
        """The motion area and the poses of a request. Raises: HandiError."""
        with self._lock:
            self.runner.settings = settings
            return self.runner.propose(request, watch=watch)

    def run(
        self, request: ClipRequest, settings: GenerationSettings, folder: Path, watch: Watch
    ) -> HandiPipelineOutput:
        """Generate a request into a folder. Raises: HandiError."""
        with self._lock:
            self.runner.settings = settings
            return self.runner.run([request], [folder], watch=watch)


@dataclass
class Session:
    """A tab's photo, its clips, and the sequence that they make."""

    studio: Studio
    folder: Path
    photo: Path | None = None
    picture: Picture | None = None  # the same, H×W×3
    poses: Path | None = None  # how the hands shall move in it: a poses.json, or a video of hands
    clips: list[Clip] = field(default_factory=list)  # all, in the order in which they were made
    before: tuple[Part, ...] = ()  # the clips that the photo goes on from
    _stop: threading.Event = field(default_factory=threading.Event)
    _photo_count: int = 0
    _pose_count: int = 0

    # --------------------------------------------------------------------------------------- the photo

    def take(self, upload: str | Path) -> int | None:
        """Take a photo for the context image; of a video its first frame, and give how many it has.

        Raises: InputError that names the file as its owner does.
        """
        upload = Path(upload)
        try:
            if kind_of(upload) == "video":
                frames = count_frames(upload)
                self._take(next(iter(read_frames(upload))))
                return frames
            self._take(read_image(upload))
        except InputError as error:
            raise _as_uploaded(error, upload) from error
        return None

    def take_frame(self, video: str | Path, number: int) -> None:
        """Take a frame of a video, counted from 0. Raises: InputError."""
        for index, frame in enumerate(read_frames(video)):
            if index == number:
                return self._take(frame)
        raise InputError(f"has no frame {number}", where=Path(video).name)

    def _take(self, picture: Picture) -> None:
        self._photo_count += 1
        self.photo = self.folder / f"photo-{self._photo_count}.png"
        write_image(self.photo, picture)
        self.picture = picture
        self.before, self.poses = (), None

    def take_poses(
        self, upload: str | Path, request: ClipRequest, settings: GenerationSettings
    ) -> tuple[np.ndarray, list[str]]:
        """Take poses for the photo, a poses.json or a video of hands: F×42×2 as they stand in it, and notes.

        Raises: InputError that names the file as its owner does; then there are none.
        """
        upload = Path(upload)
        self.poses = None
        photo = self._photo()
        self._pose_count += 1
        kept = self.folder / f"poses-{self._pose_count}{upload.suffix.lower()}"
        self.folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(upload, kept)
        try:
            request = replace(request, image=str(photo), poses=str(kept))
            found = self.studio.poses(request, self._fitting(settings))
        except InputError as error:
            kept.unlink()
            raise _as_uploaded(error, upload) from error
        self.poses = kept
        return found

    # ------------------------------------------------------------------------------------- generating

    def propose(
        self, request: ClipRequest, settings: GenerationSettings, report: Report
    ) -> HandiPipelineOutput:
        """The motion area and the poses that the model has in mind for the photo. Raises: HandiError."""
        request = self._of_photo(request)
        return self.studio.propose(request, self._fitting(settings), self._watch(report, "motion area"))

    def generate(
        self,
        request: ClipRequest,
        seeds: list[int],
        settings: GenerationSettings,
        mask: BinaryMask | None,
        report: Report,
    ) -> Iterator[Clip]:
        """A clip of the photo for each seed, as each is ready.

        request: its sentence and motion strength count. mask: of the canvas; None: the model finds the area.
        Raises: HandiError; Stopped where `stop` was called meanwhile.
        """
        request = self._of_photo(request)
        if mask is not None:
            request = replace(request, mask=self._write_mask(mask))
        for count, seed in enumerate(seeds, start=1):
            if self._stop.is_set():
                raise Stopped("stopped")
            what = f"clip {count} of {len(seeds)}"
            report(what, 0, 1)
            one = replace(request, seed=seed)
            folder = self.folder / f"clip-{len(self.clips) + 1}"
            output = self.studio.run(one, self._fitting(settings), folder, self._watch(report, what))
            self.clips.append(clip := Clip(Part.of(one, output), folder, self.before))
            yield clip

    def begin(self) -> None:
        """Forget an earlier `stop`."""
        self._stop.clear()

    def stop(self) -> None:
        """End what is running for this session after its step, or what is about to run."""
        self._stop.set()

    def _of_photo(self, request: ClipRequest) -> ClipRequest:
        poses = None if self.poses is None else str(self.poses)
        request = replace(request, image=str(self._photo()), poses=poses)
        request.check()
        return request

    def _photo(self) -> Path:
        if self.photo is None:
            raise InputError("there is no photo yet", hint="choose one, or take the example")
        return self.photo

    def _fitting(self, settings: GenerationSettings) -> GenerationSettings:
        """The settings, with the size of the clips before, if there are any."""
        settings.check()
        if not self.before:
            return settings
        height, width = self.before[0].area.shape
        return replace(settings, height=height, width=width)

    def _write_mask(self, mask: BinaryMask) -> str:
        assert self.picture is not None
        path = self.folder / f"mask-{len(self.clips) + 1}.png"
        write_image(path, mask_of(mask, self.picture))
        return str(path)

    def _watch(self, report: Report, what: str) -> Watch:
        def watch(stage: int, done: int, total: int) -> bool:
            report(f"{what}: {SHOWN_STAGES[stage]}", done, total)
            return self._stop.is_set()

        return watch

    # ---------------------------------------------------------------------------------------- keeping

    def packed(self, clip: Clip) -> Path:
        """A zip of all files of a clip. Raises: OutputError."""
        path = clip.folder.with_suffix(".zip")
        with zipfile.ZipFile(path, "w") as archive:
            for file in clip.files():
                archive.write(file, f"{clip.folder.name}/{file.relative_to(clip.folder)}")
        return path

    def go_on(self, clip: Clip) -> None:
        """Make a clip's last frame the photo: the next clip goes on from there."""
        self.photo = clip.folder / LAST_FRAME
        self.picture = clip.part.frames[-1]
        self.before, self.poses = (*clip.before, clip.part), None

    def joined(self, clip: Clip) -> Path | None:
        """The video of a clip and of those that it goes on from, if there are any. Raises: OutputError."""
        if not clip.before:
            return None
        folder = self.folder / f"sequence-to-{clip.folder.name}"
        join([*clip.before, clip.part], self.studio.settings, folder, fps=self.studio.card.fps)
        return folder / "video.mp4"

    def close(self) -> None:
        """Stop what runs, and leave no folder behind in which no clip was made."""
        self.stop()
        if not self.clips:
            shutil.rmtree(self.folder, ignore_errors=True)


def _as_uploaded(error: InputError, upload: Path) -> InputError:
    """The error under the name that the file's owner knows."""
    return InputError(error.what, where=upload.name, hint=error.hint)
