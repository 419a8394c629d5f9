"""Training checkpoints: written whole or not at all, checked before they are trusted.

    RUN/checkpoints/step-00001200/
        model.safetensors, ema.safetensors, optimizer.safetensors    one file per group of tensors
        state.json       step, score, recipe, facts (where the sampler stands, gradient scaler, …)
        manifest.json    size and SHA-256 of every other file; a folder without it is no checkpoint

There is no random state in it: everything random in training is a function of the seed and of a sample's
place in the run. A folder is made under another name, flushed to the disk and renamed, so whatever kills
the process leaves the old checkpoints and at most a scratch folder that the next `save` sweeps away.
"""

from __future__ import annotations

import fnmatch
import json
import math
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from safetensors.torch import load_file, save_file
from torch import Tensor

from handi.core.errors import HandiError, InputError, ModelError
from handi.core.files import sha256_of, sweep, umask, unfinished_folder, writing
from handi.core.reading import read_json
from handi.training.recipe import Recipe

MANIFEST, STATE = "manifest.json", "state.json"
STEP, ASIDE = "step-", ".aside-"
FORMAT = 1

# Recipe keys (dotted, * for any) that may change when a run is resumed: they steer what is shown and kept
# and when to stop, never the weights.
RETIRED = {
    "data.told": "own",
    "data.area": "moved",
    "loss.stage1_area": 0.0,
}  # entries that recipes no longer have, at their defaults
FREE_KEYS = (
    "run.minutes", "run.out", "run.*_every", "run.keep", "run.samples", "run.validation_clips",
    "run.trackers", "run.accept_changes", "run.device", "run.checkpointing", "run.compile", "data.workers",
    "data.resident",
    "optim.explosion",
)  # fmt: skip


@dataclass(frozen=True)
class Saved:
    """A checkpoint on disk, found whole; `tensors` reads one of its groups."""

    folder: Path
    step: int
    score: float | None  # held-out loss at this step, lower is better
    recipe: Mapping[str, Any]
    facts: Mapping[str, Any]

    def tensors(self, group: str) -> dict[str, Tensor]:
        """The tensors saved under this name, on the CPU. Raises: ModelError."""
        try:
            return load_file(self.folder / f"{group}.safetensors")
        except Exception as error:  # safetensors' own error is not a subclass of anything useful
            raise ModelError(
                f"cannot be read ({error})",
                where=self.folder / f"{group}.safetensors",
                hint="remove this checkpoint: training resumes from the one before",
            ) from error

    def check_recipe(self, now: Mapping[str, Any], *, free: Sequence[str] = FREE_KEYS) -> None:
        """Raises: InputError naming the keys in which the recipe is not the one of this checkpoint."""
        if changed := recipe_changes(self.recipe, now, free=free):
            raise InputError(
                f"was trained with another recipe: {'; '.join(changed)}",
                where=self.folder,
                hint="use another --run.out, or say --run.accept_changes true to resume with the new one",
            )


class Checkpoints:
    """The checkpoints of one run. In a distributed run every process calls; rank 0 reads and writes."""

    def __init__(
        self, folder: str | Path, *, keep: int = 3, say: Callable[[str], None] | None = None
    ) -> None:
        if keep < 1:
            raise InputError(f"run.keep {keep}", hint="keep 1 checkpoint or more")
        self.folder = Path(folder)
        self.keep = keep
        self._say = say or (lambda message: print(message, file=sys.stderr))
        self._process = PartialState()

    # ------------------------------------------------------------------------------------------ write

    def save(
        self,
        step: int,
        tensors: Mapping[str, Mapping[str, Tensor]],
        *,
        recipe: Mapping[str, Any],
        facts: Mapping[str, Any] | None = None,
        score: float | None = None,
    ) -> Path:
        """Write the checkpoint of a step; keep the last `keep` and the one of the lowest score.

        tensors: group name → name → tensor, whole ones (`gather`). recipe, facts: whatever JSON holds.
        Gives its folder. Raises: OutputError (full or read-only disk); what was there before stays.
        """
        target = self.folder / f"{STEP}{step:08d}"
        if self._process.is_main_process:
            score = None if score is None or not math.isfinite(score) else float(score)
            state = {"step": step, "score": score, "recipe": recipe, "facts": facts or {}}
            with writing(target):
                self._write(target, tensors, state)
                self.prune(step)
        self._process.wait_for_everyone()
        return target

    def _write(self, target: Path, tensors: Mapping[str, Mapping[str, Tensor]], state: Any) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._sweep()
        scratch = unfinished_folder(self.folder)
        try:
            for group, values in tensors.items():
                save_file(_alone(values), scratch / f"{group}.safetensors")
            (scratch / STATE).write_text(_json(state))
            (scratch / MANIFEST).write_text(_json({"format": FORMAT, "files": _describe(scratch)}))
            scratch.chmod(0o777 & ~umask())  # mkdtemp's 0700 is not what a result should have
            for path in (*scratch.iterdir(), scratch):
                _flush(path)
            if target.exists():  # saved twice at one step: the old one goes only when the new one is there
                os.rename(target, self.folder / f"{ASIDE}{target.name}")
            os.rename(scratch, target)
            _flush(self.folder)
        except BaseException:
            shutil.rmtree(scratch, ignore_errors=True)
            raise
        self._sweep()

    def prune(self, now: int) -> None:
        """Leave the last `keep` and the best. Beyond `now` only damaged ones can lie: a run resumes from
        its latest whole checkpoint."""
        steps = self._steps()
        scores = {step: score for step in steps if (score := self._score(step)) is not None}
        best = min(scores, key=lambda step: (scores[step], step), default=None)
        stay = {*[step for step in steps if step <= now][-self.keep :], best}
        for step in steps:
            if step not in stay:
                aside = self.folder / f"{ASIDE}{self._path(step).name}"
                os.rename(self._path(step), aside)  # never half a folder under a good name
                shutil.rmtree(aside, ignore_errors=True)

    def _sweep(self) -> None:
        """Remove what a killed `save` left: its scratch, and the old one that it was about to replace."""
        sweep(self.folder)
        for left in self.folder.glob(f"{ASIDE}*"):
            home = self.folder / left.name.removeprefix(ASIDE)
            if home.exists() or not (left / MANIFEST).exists():
                shutil.rmtree(left, ignore_errors=True)
            else:
                os.rename(left, home)

    # ------------------------------------------------------------------------------------------- read

    def latest(self) -> Saved | None:
        """The checkpoint of the highest step that is whole; damaged ones are named and passed over."""
        found: list[int | None] = [None]
        if self._process.is_main_process and self.folder.is_dir():
            with writing(self.folder):
                self._sweep()
            for step in reversed(self._steps()):
                if damage := check(self._path(step)):
                    self._say(f"warning: the checkpoint {self._path(step)} is damaged ({damage}): left out")
                else:
                    found = [step]
                    break
        if self._process.num_processes > 1:
            broadcast_object_list(found)
        return None if found[0] is None else read(self._path(found[0]))

    def _steps(self) -> list[int]:
        names = [path.name.removeprefix(STEP) for path in self.folder.glob(f"{STEP}*") if path.is_dir()]
        return sorted(int(name) for name in names if name.isdigit())

    def _path(self, step: int) -> Path:
        return self.folder / f"{STEP}{step:08d}"

    def _score(self, step: int) -> float | None:
        with suppress(OSError, ValueError, AttributeError):
            return read_json(self._path(step) / STATE, checked=False).get("score")
        return None


def read(folder: Path) -> Saved:
    """A checkpoint that `check` found whole. Raises: HandiError for one that is not ours."""
    try:
        state = read_json(folder / STATE, checked=False)
        return Saved(folder, state["step"], state["score"], state["recipe"], state["facts"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise HandiError(f"is no training checkpoint ({error})", where=folder) from error


def check(folder: Path) -> str | None:
    """What is wrong with a checkpoint folder, in words; None: every byte is as it was written."""
    try:
        if not (folder / MANIFEST).is_file():
            return f"{MANIFEST} is missing"
        manifest = read_json(folder / MANIFEST, checked=False)
        files: dict[str, dict[str, Any]] = manifest["files"]
        if manifest["format"] != FORMAT:
            return f"format {manifest['format']}, this handi reads {FORMAT}"
        for name, entry in files.items():  # sizes first: they cost nothing
            if not (folder / name).is_file():
                return f"{name} is missing"
            if (size := (folder / name).stat().st_size) != entry["bytes"]:
                return f"{name} has {size:,} bytes, not {entry['bytes']:,}"
        for name, now in _describe(folder).items():
            if name in files and now["sha256"] != files[name]["sha256"]:
                return f"{name} was altered"
        return None if STATE in files else f"{STATE} is not in {MANIFEST}"
    except FileNotFoundError:
        return f"{MANIFEST} is missing"
    except OSError as error:
        return f"{error.strerror or error}"
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{MANIFEST} cannot be read: {error}"


def recipe_changes(
    before: Mapping[str, Any], now: Mapping[str, Any], *, free: Sequence[str] = FREE_KEYS
) -> list[str]:
    """Where two recipes (nested mappings) differ: "optim.lr 0.0001, now 5e-05"; free keys do not count, nor
    do entries at their default that recipes have got, or lost, since the first was written."""
    old, new = _dotted(before), _dotted(now)
    defaults = _dotted(Recipe(stage="stage2").as_dict())
    nothing = object()
    changes = []
    for key in sorted({*old, *new}):
        was, is_ = old.get(key, nothing), new.get(key, nothing)
        if was == is_ or any(fnmatch.fnmatch(key, pattern) for pattern in free):
            continue
        if was is nothing and is_ == defaults.get(key, nothing):
            continue
        if is_ is nothing and was == RETIRED.get(key, nothing):
            continue
        was_text = "not there" if was is nothing else repr(was)
        changes.append(f"{key} {was_text}, now {'gone' if is_ is nothing else repr(is_)}")
    return changes


def _dotted(recipe: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings → one with dotted keys, values as JSON would give them back (tuples are lists)."""
    flat: dict[str, Any] = {}
    for key, value in recipe.items():
        if isinstance(value, Mapping) and value:
            flat |= _dotted(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = json.loads(json.dumps(value, default=str))
    return flat


# -------------------------------------------------------------------------------------------- files


def _alone(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous CPU tensors none of which is part of another's memory, as safetensors wants them."""
    seen: set[int] = set()
    out = {}
    for name, value in values.items():
        tensor = value.detach().cpu().contiguous()
        storage = tensor.untyped_storage()
        if storage.data_ptr() in seen or storage.nbytes() != tensor.numel() * tensor.element_size():
            tensor = tensor.clone()
        seen.add(tensor.untyped_storage().data_ptr())
        out[name] = tensor
    return out


def _describe(folder: Path) -> dict[str, dict[str, Any]]:
    """Name → size and SHA-256 of each file but the manifest; hashed side by side (hashlib frees the GIL)."""
    paths = sorted(path for path in folder.iterdir() if path.name != MANIFEST)
    with ThreadPoolExecutor() as pool:
        hashes = list(pool.map(sha256_of, paths))
    return {
        path.name: {"bytes": path.stat().st_size, "sha256": digest}
        for path, digest in zip(paths, hashes, strict=True)
    }


def _flush(path: Path) -> None:
    """Wait until a file or a folder's entries are on the disk, so that a power cut does not undo them."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"
