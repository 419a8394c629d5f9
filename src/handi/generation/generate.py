"""`handi generate`: requests in, folders of finished files out."""

from __future__ import annotations

import difflib
import json
import math
import platform
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from handi.core.device import choose_device, choose_dtype
from handi.core.errors import HandiError, InputError, item_failure
from handi.core.files import staged, sweep
from handi.core.images import open_image, read_image, write_image
from handi.core.inputs import check_clip, check_numbers, check_prompt, check_seed
from handi.core.kinds import named
from handi.core.names import alike, check_name, place_in
from handi.core.progress import Progress
from handi.core.reading import read_json, read_jsonl
from handi.core.video import write_video
from handi.data.enrich import Description, open_enricher
from handi.data.shards import hash_of
from handi.generation.poses import follows, given_poses, write_pose_files
from handi.hands.weights import cache_folder
from handi.motion.flow import motion_flow

if TYPE_CHECKING:
    from handi.method.pipeline import HandiPipeline, HandiPipelineOutput

RUN_FILE = "run.json"  # written last: a folder that has it is finished
OWNED = ("video.mp4", "motion_area.png", "motion_area_soft.png", "motion_flow.png", "poses.json", "poses.png",
         "frames")  # fmt: skip
LIBRARIES = ("handi", "torch", "diffusers", "transformers", "numpy", "av", "opencv-python-headless")


@dataclass(frozen=True)
class Request:
    """One clip to make; a line of a batch file."""

    image: str
    prompt: str
    mask: str | None = None  # a file, or "full"; None: stage 1 makes the motion area
    poses: str | None = None  # a poses.json, or a video of hands that move as these shall; None: predicted
    seed: int = 0
    motion: float | None = None
    id: str = ""  # the folder's name in a batch

    def check(self) -> None:
        """Raises: InputError for a prompt or a file that cannot be used; before any model is loaded."""
        check_prompt(self.prompt)
        check_seed(self.seed)
        if self.motion is not None and not math.isfinite(self.motion):
            raise InputError(f"motion is {self.motion}", mend="use a finite number")
        open_image(self.image_file)
        if self.mask is not None and self.mask != "full":
            open_image(self.mask)
        if self.poses is not None and not Path(self.poses).is_file():
            raise InputError("no such file of poses", where=self.poses, mend="give a poses.json or a video")

    @property
    def image_file(self) -> Path:
        """The context image; "example" is the picture that ships with the package."""
        if self.image == "example":
            return Path(str(files("handi.assets") / "example.png"))
        return Path(self.image)


@dataclass(frozen=True)
class Settings:
    """What all clips of a run share; None: as the model's card says."""

    model: str = "mini"
    variant: str | None = None  # of its weight files, such as "fp16"
    lora: str | None = None  # a LoRA file for it
    frames: int | None = None
    height: int | None = None
    width: int | None = None
    steps: int | None = None
    guidance: float | None = None
    area_steps: int | None = None
    area_guidance: float | None = None
    area_from: Literal["mask", "poses"] = "mask"  # or the hulls of the hands
    pose_steps: int = 1
    restore_background: bool = True
    save_frames: bool = False
    device: str = "auto"
    dtype: str = "auto"
    offload: bool = False
    enrich: str | None = None  # who writes the prompts out in full: see `handi.data.enrich.open_enricher`
    enrich_model: str | None = None

    def check(self) -> None:
        """Raises: InputError for a number or a device that cannot be; before any model is loaded."""
        check_numbers(frames=self.frames)
        if self.height is not None and self.width is not None:
            check_clip(self.frames or 2, self.height, self.width)
        choose_device(self.device)
        check_numbers(steps=self.steps, guidance=self.guidance, stage="stage 2")
        check_numbers(steps=self.area_steps, guidance=self.area_guidance, stage="stage 1")
        check_numbers(steps=self.pose_steps, stage="poses")
        if self.lora is not None and self.lora.endswith(".safetensors") and not Path(self.lora).is_file():
            raise InputError("no such file", where=self.lora, mend="name a file, a folder or a hub id")


# ------------------------------------------------------------------------------------------ requests


def read_batch(path: str | Path, *, seed: int = 0) -> tuple[list[Request], list[InputError]]:
    """The requests of a JSONL file, one object a line, and an error for each line that is none.

    Relative paths count from the file's folder. A line without an id is called by its number.
    Raises: InputError for a file that cannot be read.
    """
    path = Path(path)
    requests: dict[str, Request] = {}
    errors: list[InputError] = []
    for number, entries in read_jsonl(path):
        try:
            if isinstance(entries, InputError):
                raise entries
            request = _read_line(entries, number, path.parent, seed)
            if (key := alike(request.id)) in requests:
                other = requests[key].id
                how = "" if other == request.id else f", but for its case or Unicode form, as {other!r}"
                raise InputError(f"the id {request.id!r} was used before{how}")
            requests[key] = request
        except InputError as error:
            errors.append(InputError(error.what, where=f"{path}, line {number}", mend=error.mend))
    return list(requests.values()), errors


def _read_line(entries: dict[str, Any], number: int, folder: Path, seed: int) -> Request:
    known = {field.name for field in fields(Request)}
    for name in entries:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise InputError(
                f"has an unknown entry {name!r}", mend=f"did you mean {near[0]!r}?" if near else None
            )
    kinds = {
        "image": str,
        "prompt": str,
        "mask": str,
        "poses": str,
        "id": str,
        "seed": int,
        "motion": (int, float),
    }
    for name, value in entries.items():
        if not isinstance(value, kinds[name]) or isinstance(value, bool):  # type: ignore[arg-type]
            raise InputError(f"{name} is {value!r}, of the wrong type")
    for name in ("image", "prompt"):
        if not entries.get(name, "").strip():
            raise InputError(f"has no {name}")
    for name in ("image", "mask", "poses"):
        if name in entries and entries[name] not in ("full", "example"):
            entries[name] = str(named(folder, entries[name]) or folder / entries[name])
    request = Request(**{"seed": seed, "id": f"{number:05d}", **entries})
    check_name(request.id)
    return request


# ----------------------------------------------------------------------------------------------- run


def run_one(request: Request, settings: Settings, out: str | Path) -> HandiPipelineOutput:
    """Generate one clip into the folder `out`. Raises: HandiError; then nothing is left behind."""
    from handi.models.checkpoint import require

    settings.check()
    request.check()
    require(settings.model)
    descriptions, errors = describe([request], settings)
    if errors:
        raise errors[0]
    with Runner(settings) as runner:
        return runner.run([request], [Path(out)], descriptions)


def run_batch(
    requests: list[Request],
    settings: Settings,
    out: str | Path,
    *,
    batch_size: int,
    say: Callable[[str], None],
) -> list[HandiError]:
    """Generate each request into out/<id>, `batch_size` at a time; finished ones are skipped.

    A request that fails is reported and the others go on. Gives the failures.
    """
    from handi.models.checkpoint import require

    settings.check()
    out = Path(out)
    sweep(out, depth=1)
    todo: list[Request] = []
    errors: list[HandiError] = []
    for request in requests:
        try:
            if is_finished(request, settings, place_in(out, request.id)):
                continue
            request.check()
            todo.append(request)
        except Exception as error:
            errors.append(_of_request(error, request))
    if todo:
        require(settings.model)  # before a model that enriches is loaded, and asked for an hour
    if finished := len(requests) - len(todo) - len(errors):
        say(f"{finished} of {len(requests)} are finished already")
    descriptions, unsaid = describe(todo, settings)
    errors += unsaid
    todo = [request for request in todo if settings.enrich is None or request.id in descriptions]
    if not todo:
        return errors
    with Runner(settings) as runner:
        for first in range(0, len(todo), batch_size):
            group = todo[first : first + batch_size]
            failures = _attempt(runner, group, out, descriptions)
            if failures and len(group) > 1:  # two shapes of picture, a mask here and none there: one by one
                failures = [f for request in group for f in _attempt(runner, [request], out, descriptions)]
            errors += failures
    return errors


def _attempt(
    runner: Runner, group: list[Request], out: Path, descriptions: dict[str, Description]
) -> list[HandiError]:
    try:
        runner.run(group, [out / request.id for request in group], descriptions)
    except Exception as error:
        return [_of_request(error, group[0])]
    return []


def describe(requests: list[Request], settings: Settings) -> tuple[dict[str, Description], list[HandiError]]:
    """The requests' enriched prompts by id, and an error for each that has none; nothing where not asked for.

    Before any video is made, so that the model that sees and writes is gone when the one that draws comes.
    Raises: InputError, ModelError for a model or an endpoint that cannot be used.
    """
    if settings.enrich is None or not requests:
        return {}, []
    if settings.enrich == "stored":
        raise InputError("a prompt has no stored description", where="--enrich", mend="name a model")
    device = choose_device(settings.device)
    enricher = open_enricher(
        settings.enrich,
        model=settings.enrich_model,
        cache=cache_folder().parent / "enrich",
        device=device,
        dtype=choose_dtype(settings.dtype, device),
    )
    found: dict[str, Description] = {}
    errors: list[HandiError] = []
    with Progress("enrich", len(requests), "prompts") as bar:
        for request in requests:
            try:
                (description,) = enricher.describe([request.prompt], [read_image(request.image_file)])
                if description is not None:
                    found[request.id] = description
            except Exception as error:
                errors.append(_of_request(error, request))
            bar.advance()
    return found, errors


def is_finished(request: Request, settings: Settings, folder: Path) -> bool:
    """Whether `folder` holds the whole result of this very request and these settings."""
    try:
        record = read_json(folder / RUN_FILE)
    except InputError:
        return False
    wanted = {"request": asdict(request), "settings": asdict(settings)}
    return isinstance(record, dict) and all(record.get(key) == value for key, value in wanted.items())


def _of_request(error: Exception, request: Request) -> HandiError:
    """The failure of one request; that of the only one stands for itself."""
    if isinstance(error, HandiError) and not request.id:
        return error
    return item_failure(error, f"request {request.id!r}")


class Runner:
    """A loaded model that turns requests into folders of files. Close it, or use it in a `with`."""

    def __init__(self, settings: Settings) -> None:
        from handi.method.pipeline import HandiPipeline
        from handi.models.checkpoint import fingerprint

        begin = time.perf_counter()
        self.settings = settings
        self.device = choose_device(settings.device)
        self.pipe: HandiPipeline = HandiPipeline.from_pretrained(
            settings.model,
            torch_dtype=choose_dtype(settings.dtype, self.device),
            variant=settings.variant,
        )
        self._lora_hash: str | None = None
        if settings.lora is not None:
            self.pipe.load_lora_weights(settings.lora)
            self._lora_hash = hash_of(Path(settings.lora)) if Path(settings.lora).is_file() else None
        if settings.offload and self.device != "cpu":
            self.pipe.enable_model_cpu_offload(device=self.device)
        else:
            self.pipe.to(self.device)
        self.pipe.set_progress_bar_config(disable=True)  # ours takes its place
        self.load_seconds = time.perf_counter() - begin
        # Gigabytes are hashed beside the work, not before it.
        self._beside = ThreadPoolExecutor(max_workers=1)
        self._hash: Future[str] = self._beside.submit(fingerprint, self.pipe.checkpoint)

    def __enter__(self) -> Runner:
        return self

    def __exit__(self, *_: object) -> None:
        self._beside.shutdown(cancel_futures=True)

    def run(
        self, requests: list[Request], folders: list[Path], descriptions: dict[str, Description] | None = None
    ) -> HandiPipelineOutput:
        """Generate one batch into its folders, which appear whole or not at all. Raises: HandiError.

        descriptions: enriched prompts by request id, which the model is given in the prompts' place.
        """
        import torch

        s = self.settings
        described = [(descriptions or {}).get(request.id) for request in requests]
        told, notes = given_poses(self.pipe, requests, s)
        with ExitStack() as stack:
            scratch = [stack.enter_context(staged(folder, last=RUN_FILE, owned=OWNED)) for folder in folders]
            with _StageBars() as bars:
                output = self.pipe(
                    [r.image_file for r in requests],
                    [d.text if d else r.prompt for r, d in zip(requests, described, strict=True)],
                    mask=[r.mask for r in requests],
                    motion=[r.motion for r in requests],
                    poses=told,
                    area_from=s.area_from,
                    pose_inference_steps=s.pose_steps,
                    num_frames=s.frames,
                    height=s.height,
                    width=s.width,
                    num_inference_steps=s.steps,
                    guidance_scale=s.guidance,
                    area_inference_steps=s.area_steps,
                    area_guidance_scale=s.area_guidance,
                    restore_background=s.restore_background,
                    generator=[torch.Generator().manual_seed(r.seed) for r in requests],
                    callback_on_step_end=bars.step,
                )
            output.notes += notes
            for index, (request, folder) in enumerate(zip(requests, scratch, strict=True)):
                begin = time.perf_counter()
                self._write(output, index, folder)
                seconds = {"load": self.load_seconds, **output.seconds, "write": time.perf_counter() - begin}
                record = self._record(request, output, index, len(requests), seconds)
                if told is not None:
                    record["result"]["hands"] = follows(output.frames[index], told[index])
                if (description := described[index]) is not None:
                    record["description"] = asdict(description)
                (folder / RUN_FILE).write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n")
        return output

    def _write(self, output: HandiPipelineOutput, index: int, folder: Path) -> None:
        clip = output.frames[index]
        write_video(folder / "video.mp4", clip, fps=self.pipe.card.fps)
        write_image(folder / "motion_area.png", output.motion_area[index])
        write_image(folder / "motion_area_soft.png", _grey(output.motion_area_soft[index]))
        write_image(folder / "motion_flow.png", _grey(motion_flow(clip)))
        if output.poses is not None:
            write_pose_files(folder, output, index, self.pipe.card.fps)
        if self.settings.save_frames:
            for number, frame in enumerate(clip):
                write_image(folder / "frames" / f"{number:04d}.png", frame)

    def _record(
        self, request: Request, output: HandiPipelineOutput, index: int, batch: int, seconds: dict[str, float]
    ) -> dict[str, Any]:
        frames, height, width = output.frames[index].shape[:3]
        card = self.pipe.card
        return {
            "request": asdict(request),
            "settings": asdict(self.settings),
            "seed": request.seed,
            "model": {"source": self.pipe.source, "weights": card.weights, "sha256": self._hash.result()},
            "lora_sha256": self._lora_hash,
            "result": {
                "frames": frames,
                "height": height,
                "width": width,
                "fps": card.fps,
                "motion_area_share": round(float(output.motion_area[index].mean()), 4),
            },
            "notes": output.notes,
            "seconds": {name: round(value, 3) for name, value in seconds.items()},
            "batch": batch,  # the seconds are of the whole batch, but for write
            "device": self.device,
            "dtype": str(self.pipe.dtype).removeprefix("torch."),
            "versions": {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}},
        }


def _grey(mask: np.ndarray) -> np.ndarray:
    return np.rint(mask * 255).astype(np.uint8)


class _StageBars:
    """A progress bar for the stage that is running, fed by the pipeline's callback."""

    def __init__(self) -> None:
        self._stage, self._bar = 0, ExitStack()

    def __enter__(self) -> _StageBars:
        return self

    def __exit__(self, *details: Any) -> None:
        self._bar.__exit__(*details)

    def step(self, pipe: HandiPipeline, step: int, timestep: Any, state: dict[str, Any]) -> None:
        if state["stage"] != self._stage:
            self._bar.close()
            self._stage = state["stage"]
            name = {1: "stage 1, motion area", 2: "stage 2, video"}[self._stage]
            total = len(pipe.scheduler.timesteps)
            self._progress = self._bar.enter_context(Progress(name, total, "steps"))
        self._progress.advance()
