"""Requests in, folders of finished files out, by a model that is loaded once."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from handi.core.device import choose_device, choose_dtype
from handi.core.errors import HandiError, item_failure
from handi.core.files import cache_folder, sha256_of, staged
from handi.core.images import read_image
from handi.core.later import later
from handi.core.progress import Progress
from handi.data.enrich import Description, open_enricher
from handi.generation.mini_check import warn
from handi.generation.poses import follows, given_poses
from handi.generation.record import OWNED, RUN_FILE, result_record, versions, write_clip
from handi.generation.requests import ClipRequest, GenerationSettings

if TYPE_CHECKING:
    import numpy as np

    from handi.method.pipeline import HandiPipeline, HandiPipelineOutput


def run_one(
    request: ClipRequest,
    settings: GenerationSettings,
    out: str | Path,
    *,
    say: Callable[[str], None] = lambda line: None,
) -> HandiPipelineOutput:
    """Generate one clip into the folder `out`; `say` is told what is worth knowing before it starts.

    Raises: HandiError; then nothing is left behind.
    """
    settings.check()
    request.check()
    require(settings)
    warn([request], settings, say)
    descriptions, errors = describe([request], settings)
    for error in errors.values():
        raise error
    with Runner(settings) as runner:
        return runner.run([request], [Path(out)], descriptions)


def describe(
    requests: list[ClipRequest], settings: GenerationSettings
) -> tuple[dict[str, Description], dict[str, HandiError]]:
    """The requests' enriched prompts and the errors of those that have none, by id; nothing if not asked for.

    Before any video is made, so that the model that sees and writes is gone when the one that draws comes.
    Raises: InputError, ModelError for a model or an endpoint that cannot be used.
    """
    if settings.enrich is None or not requests:
        return {}, {}
    device = choose_device(settings.device)
    enricher = open_enricher(
        settings.enrich,
        model=settings.enrich_model,
        cache=cache_folder("enrich"),
        device=device,
        dtype=choose_dtype(settings.dtype, device),
    )
    found: dict[str, Description] = {}
    errors: dict[str, HandiError] = {}
    with Progress("enrich", len(requests), "prompts") as bar:
        for request in requests:
            try:
                found[request.id] = enricher.describe(request.prompt, read_image(request.image_file))
            except Exception as error:
                errors[request.id] = of_request(error, request)
            bar.advance()
    return found, errors


def of_request(error: Exception, request: ClipRequest) -> HandiError:
    """The failure of one request; that of the only one stands for itself."""
    if isinstance(error, HandiError) and not request.id:
        return error
    return item_failure(error, f"request {request.id!r}")


def unused_later(settings: GenerationSettings) -> AbstractContextManager[None]:
    """While the libraries are imported and a model is loaded: put off what a run never reaches of them.

    These are seconds of every start (docs/speed.md, Start). A LoRA needs peft, and so do adapters on a base.
    """
    adapters = settings.lora is not None or settings.model != "mini"
    return later() if adapters else later("torch._dynamo", "peft", "scipy")


def require(settings: GenerationSettings) -> None:
    """Look whether the model is there, and load nothing. Raises: ModelError."""
    with unused_later(settings):
        from handi.models import folder
    folder.require(settings.model)


class Stopped(HandiError):
    """Whoever watched a run has stopped it."""


# (stage, steps done, steps in all) after each step; True stops the run.
Watch = Callable[[int, int, int], bool | None]
STAGES = {1: "stage 1, motion area", 2: "stage 2, video"}


class Runner:
    """A loaded model that turns requests into folders of files. Close it, or use it in a `with`.

    device: where it runs, in the place of the settings' own; a worker among several has one of its own.
    """

    def __init__(self, settings: GenerationSettings, device: str | None = None) -> None:
        begin = time.perf_counter()
        self.settings = settings
        self.device = choose_device(settings.device if device is None else device)
        with unused_later(settings):
            from handi.method.pipeline import HandiPipeline
            from handi.models.folder import fingerprint

            self.pipe: HandiPipeline = HandiPipeline.from_pretrained(
                settings.model,
                torch_dtype=choose_dtype(settings.dtype, self.device),
                variant=settings.variant,
                base=settings.base,
            )
        self._lora_hash: str | None = None
        if settings.lora is not None:
            self.pipe.load_lora_weights(settings.lora)
            self._lora_hash = sha256_of(Path(settings.lora)) if Path(settings.lora).is_file() else None
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
        self,
        requests: list[ClipRequest],
        folders: list[Path],
        descriptions: dict[str, Description] | None = None,
        *,
        watch: Watch | None = None,
    ) -> HandiPipelineOutput:
        """Generate one batch into its folders, which appear whole or not at all. Raises: HandiError.

        descriptions: enriched prompts by request id, which the model is given in the prompts' place.
        watch: is told of each step, and may stop the run (`Stopped`); without it there are bars.
        """
        described = [(descriptions or {}).get(request.id) for request in requests]
        given, notes = given_poses(self.pipe, requests, self.settings)
        with ExitStack() as stack:
            scratch = [stack.enter_context(staged(folder, last=RUN_FILE, owned=OWNED)) for folder in folders]
            prompts = [d.text if d else r.prompt for r, d in zip(requests, described, strict=True)]
            output = self._call(requests, prompts, given, watch)
            output.notes += notes
            for index, (request, folder) in enumerate(zip(requests, scratch, strict=True)):
                begin = time.perf_counter()
                write_clip(
                    folder, output, index, fps=self.pipe.card.fps, frames_too=self.settings.save_frames
                )
                seconds = {"load": self.load_seconds, **output.seconds, "write": time.perf_counter() - begin}
                result = result_record(output, index, self.pipe.card.fps)
                if given is not None:
                    result["hands"] = follows(output.frames[index], given[index])
                record = self._record(request, result, output.notes, len(requests), seconds)
                if (description := described[index]) is not None:
                    record["description"] = asdict(description)
                (folder / RUN_FILE).write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n")
        return output

    def propose(self, request: ClipRequest, *, watch: Watch | None = None) -> HandiPipelineOutput:
        """The motion area and the poses of a request before its video is made. Raises: HandiError."""
        given, notes = given_poses(self.pipe, [request], self.settings)
        output = self._call([request], [request.prompt], given, watch, area_only=True)
        output.notes += notes
        return output

    def _call(
        self,
        requests: list[ClipRequest],
        prompts: list[str],
        poses: list[np.ndarray] | None,
        watch: Watch | None,
        *,
        area_only: bool = False,
    ) -> HandiPipelineOutput:
        """The pipeline's answer to requests. Raises: Stopped, and what the pipeline raises."""
        import torch

        s = self.settings
        with StageBars() as bars:
            tell = watch or bars

            def on_step(pipe: HandiPipeline, step: int, timestep: Any, state: dict[str, Any]) -> None:
                if tell(state["stage"], step + 1, len(pipe.scheduler.timesteps)):
                    pipe.interrupt()

            output = self.pipe(
                [r.image_file for r in requests],
                prompts,
                mask=[r.mask for r in requests],
                motion=[r.motion for r in requests],
                poses=poses,
                area_from=s.area_from,
                pose_inference_steps=s.pose_steps,
                pose_guidance_scale=s.pose_guidance,
                guidance_interval=(s.guidance_from, s.guidance_until),
                num_frames=s.frames,
                height=s.height,
                width=s.width,
                num_inference_steps=s.steps,
                guidance_scale=s.guidance,
                area_inference_steps=s.area_steps,
                area_guidance_scale=s.area_guidance,
                restore_background=s.restore_background,
                generator=[torch.Generator().manual_seed(r.seed) for r in requests],
                area_only=area_only,
                callback_on_step_end=on_step,
            )
        if output.interrupted:
            raise Stopped("stopped")
        return output

    def _record(
        self,
        request: ClipRequest,
        result: dict[str, Any],
        notes: list[str],
        batch: int,
        seconds: dict[str, float],
    ) -> dict[str, Any]:
        return {
            "request": asdict(request),
            "settings": asdict(self.settings),
            "seed": request.seed,
            "model": {
                "source": self.pipe.source,
                "weights": self.pipe.card.weights,
                "sha256": self._hash.result(),
            },
            "lora_sha256": self._lora_hash,
            "result": result,
            "notes": notes,
            "seconds": {name: round(value, 3) for name, value in seconds.items()},
            "batch": batch,  # the seconds are of the whole batch, but for write
            "device": self.device,
            "dtype": str(self.pipe.dtype).removeprefix("torch."),
            "versions": versions(),
        }


class StageBars:
    """A progress bar for the stage that is running; a `Watch`."""

    def __init__(self) -> None:
        self._stage, self._bar = 0, ExitStack()

    def __enter__(self) -> StageBars:
        return self

    def __exit__(self, *details: Any) -> None:
        self._bar.__exit__(*details)

    def __call__(self, stage: int, done: int, total: int) -> None:
        """Show that `done` of `total` steps of a stage are done."""
        if stage != self._stage:
            self._bar.close()
            self._stage = stage
            self._progress = self._bar.enter_context(Progress(STAGES[stage], total, "steps"))
        self._progress.advance()
