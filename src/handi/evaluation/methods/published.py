"""Baselines that diffusers has, from local folders: PIA and CogVideoX."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from handi.core.device import choose_device, choose_dtype
from handi.core.errors import InputError, ModelError
from handi.core.images import fit_size
from handi.core.types import Frames
from handi.data.sources.common import FRAMES
from handi.evaluation.methods.base import GeneratedClip, Origin, Task, hash_of, one_by_one


class _Diffusers:
    """A pipeline of diffusers, loaded from a folder, that turns a task into frames."""

    uses_ground_truth = ""

    def __init__(self, kind: str, model: str, device: str, dtype: str, calls: dict[str, Any]) -> None:
        self.device = choose_device(device)
        self.dtype = choose_dtype(dtype, self.device)
        self.calls = {name: value for name, value in calls.items() if value is not None}
        folder = Path(model).expanduser()
        if not folder.is_dir():
            raise InputError("no such model folder", where=folder)
        self.pipe = self._load(folder)
        self.pipe.set_progress_bar_config(disable=True)
        self.pipe.to(self.device)
        networks = {id(part): part for part in self.pipe.components.values() if hasattr(part, "parameters")}
        weights = {id(p): p.numel() for part in networks.values() for p in part.parameters()}
        self.parameters: int | None = sum(weights.values())  # what two parts share counts once
        self.config: Mapping[str, Any] = {
            "kind": kind,
            "pipeline": type(self.pipe).__name__,
            "model": Path(model).name,
            "parameters": self.parameters,
            **self.calls,
        }
        self.origin = Origin(
            "diffusers", version("diffusers"), f"{folder.name}, SHA-256 {hash_of(folder)[:12]}"
        )

    def _load(self, folder: Path) -> Any:
        raise NotImplementedError

    def _inputs(self, task: Task) -> dict[str, Any]:
        """What the pipeline is called with, beside prompt and generator."""
        raise NotImplementedError

    def generate(self, tasks: Iterable[Task]) -> Iterator[GeneratedClip]:
        return one_by_one(tasks, self._generate)

    def _generate(self, task: Task) -> Frames:
        output = self.pipe(
            prompt=task.prompt,
            generator=torch.Generator().manual_seed(task.seed),
            output_type="np",
            **self.calls,
            **self._inputs(task),
        )
        return np.rint(np.asarray(output.frames[0]).clip(0, 1) * 255).astype(np.uint8)


class Pia(_Diffusers):
    """PIA (Zhang et al.) as diffusers has it.

    model: a folder of PIAPipeline, or of a Stable Diffusion 1.5 pipeline with `adapter`, the folder of PIA's
    motion adapter. area: pixels that it generates, at the context image's aspect.
    """

    def __init__(
        self, model: str, *, adapter: str | None = None, area: int = 512 * 512, steps: int | None = None,
        guidance: float | None = None, motion_scale: int = 0, device: str = "auto", dtype: str = "auto",
    ) -> None:  # fmt: skip
        self.adapter, self.area = adapter, area
        calls = {"num_inference_steps": steps, "guidance_scale": guidance, "motion_scale": motion_scale}
        super().__init__("pia", model, device, dtype, calls)

    def _load(self, folder: Path) -> Any:
        from diffusers import MotionAdapter, PIAPipeline

        more = {}
        if self.adapter is not None:
            more["motion_adapter"] = _loaded(MotionAdapter, Path(self.adapter).expanduser(), self.dtype)
        elif not (folder / "motion_adapter").is_dir():
            hint = "give PIA's as `adapter: FOLDER` in a method file"
            raise ModelError("has no motion_adapter/", where=folder, hint=hint)
        return _loaded(PIAPipeline, folder, self.dtype, **more)

    def _inputs(self, task: Task) -> dict[str, Any]:
        high, wide = fit_size(*task.context.shape[:2], area=self.area, multiple=8)
        image = Image.fromarray(task.context).resize((wide, high), Image.Resampling.LANCZOS)
        return {"image": image, "num_frames": FRAMES, "height": high, "width": wide}


class CogVideoX(_Diffusers):
    """CogVideoX (Yang et al.) as diffusers has it: image-to-video, or text-to-video as in the paper's table.

    It is asked for as many frames as it was trained on (49, over 6 s), of which 16 are taken: with other
    numbers it falls apart. The text-to-video model never sees the context image.
    """

    def __init__(
        self, model: str, *, frames: int | None = None, steps: int | None = None,
        guidance: float | None = None, device: str = "auto", dtype: str = "auto",
    ) -> None:  # fmt: skip
        calls = {"num_inference_steps": steps, "guidance_scale": guidance, "num_frames": frames}
        super().__init__("cogvideox", model, device, dtype, calls)
        config = self.pipe.transformer.config
        self.calls.setdefault("num_frames", config.sample_frames)
        factor = self.pipe.vae_scale_factor_spatial
        self.size = config.sample_height * factor, config.sample_width * factor

    def _load(self, folder: Path) -> Any:
        from diffusers import CogVideoXImageToVideoPipeline, CogVideoXPipeline, DiffusionPipeline

        if not (folder / "model_index.json").is_file():
            raise ModelError("is no folder of a diffusers pipeline (no model_index.json)", where=folder)
        try:
            config = DiffusionPipeline.load_config(folder, local_files_only=True)
            name = str(config["_class_name"])
        except (OSError, ValueError, KeyError) as error:
            raise ModelError(f"its model_index.json cannot be read ({error})", where=folder) from error
        classes = {cls.__name__: cls for cls in (CogVideoXImageToVideoPipeline, CogVideoXPipeline)}
        if name not in classes:
            raise ModelError(f"is a {name}, not one of {', '.join(classes)}", where=folder)
        self.sees = name == "CogVideoXImageToVideoPipeline"
        return _loaded(classes[name], folder, self.dtype)

    def _inputs(self, task: Task) -> dict[str, Any]:
        high, wide = self.size
        image = Image.fromarray(task.context).resize((wide, high), Image.Resampling.LANCZOS)
        return {"height": high, "width": wide, **({"image": image} if self.sees else {})}


def _loaded(cls: Any, folder: Path, dtype: Any, **more: Any) -> Any:
    """`cls.from_pretrained` of a local folder, with our errors. Raises: InputError, ModelError."""
    if not folder.is_dir():
        raise InputError("no such model folder", where=folder)
    try:
        local = {"local_files_only": True, "trust_remote_code": False}
        return cls.from_pretrained(folder, torch_dtype=dtype, **local, **more)
    except Exception as error:  # diffusers and transformers raise a dozen unrelated kinds
        text = " ".join(str(error).split())[:160] or type(error).__name__
        raise ModelError(f"cannot be loaded as {cls.__name__} ({text})", where=folder) from error
