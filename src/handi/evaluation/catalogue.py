"""Every weight file that a command can use: what for, whose, whether it is here, and how to get it."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from huggingface_hub import hf_hub_download, snapshot_download, try_to_load_from_cache

from handi.assets import HANDS, MINI
from handi.core.errors import InputError, ModelError
from handi.core.fetching import fetch_file
from handi.core.files import cache_folder, replace_folder, scratch_folder
from handi.evaluation.metrics import weights as metrics
from handi.hands.weights import VERSION
from handi.models.inventory import PUBLISHED, Published

State = Literal["ships", "here", "missing", "refused"]
MODELS = "models"  # in the user cache


@dataclass(frozen=True)
class Listed:
    """One weight file, folder or model, as `handi weights` shows it."""

    kind: Literal["model", "hands", "metric"]
    name: str
    serves: str
    licence: str
    megabytes: float | None
    sha256: str
    origin: str
    state: State
    place: str  # where it is, else where it belongs
    hint: str = ""


def entries() -> Iterator[Listed]:
    """All of them. Files that are here are read, to hash them; nothing is fetched."""
    size = sum(path.stat().st_size for path in MINI.rglob("*")) / 1e6
    yield Listed("model", "mini", "--model mini, the default", "Apache-2.0", round(size, 1), "",
                "this package", "ships", str(MINI))  # fmt: skip
    for model in PUBLISHED:
        found = _model_place(model)
        yield Listed(
            "model", model.name, model.serves, model.licence, None, "", model.hub or model.address,
            "missing" if found is None else "here", str(found or _where(model)),
        )  # fmt: skip
    size = sum(path.stat().st_size for path in HANDS.iterdir()) / 1e6
    yield Listed("hands", "hands", "finding hands, the hand loss, HS-Err", "Apache-2.0", round(size, 1), "",
                VERSION, "ships", str(HANDS))  # fmt: skip
    for place in metrics.survey():
        each = place.weights
        state: State = "here" if place.state == "found" else place.state
        yield Listed(
            "metric", each.name, each.serves, each.licence, each.size, each.sha256, each.origin, state,
            place.text if state != "missing" else str(each.places[-1]), place.hint,
        )  # fmt: skip


def get(name: str, *, source: str | None = None, dry_run: bool = False, say: Callable[[str], None]) -> None:
    """Fetch what `entries` calls `name`, check its hash, and put it where the commands look for it.

    source: a folder or an address of a mirror that has the file under its own name (for a repository of the
    hub: another endpoint). dry_run: only say what would be done. Raises: InputError for an unknown name;
    ModelError where it cannot be had, with where to put it by hand.
    """
    if name in ("mini", "hands"):
        say(f"{name} ships with handi")
        return
    known: dict[str, Published | metrics.Weights] = {model.name: model for model in PUBLISHED}
    known |= metrics.CATALOGUE
    if name not in known:
        raise InputError(f"no weights are called {name!r}", hint=f"use one of {', '.join(known)}")
    entry = known[name]
    if isinstance(entry, Published):
        target, one_file = _where(entry), not entry.hub
        file = entry.address.rpartition("/")[2]
    else:
        target, one_file, file = entry.places[-1], not entry.folder, entry.file
    if one_file and source is not None:
        address = f"{source.rstrip('/')}/{file}"
    else:
        address = entry.address or f"{source or 'https://huggingface.co'}/{entry.hub}"
    if dry_run:
        say(f"would fetch {address} to {target if entry.address or source else 'the cache of the hub'}")
        return
    if isinstance(entry, Published):
        where = _get_model(entry, address, source, target)
    else:
        where = _get_metric(entry, address, source)
    say(f"{name} is in {where}")


def _get_model(model: Published, address: str, source: str | None, target: Path) -> Path:
    hint = f"download it elsewhere, and give its folder as --model ({model.hub or model.address})"
    if model.hub:
        return _from_hub(lambda: snapshot_download(model.hub, endpoint=source), address, hint)
    archive = target.with_name(model.address.rpartition("/")[2])
    fetch_file(address, archive, _whole_archive, hint=hint)
    with scratch_folder(target.parent) as scratch, tarfile.open(archive) as opened:
        opened.extractall(scratch, filter="data")
        inside = list(scratch.iterdir())
        # An archive of one folder is that folder.
        replace_folder(inside[0] if len(inside) == 1 and inside[0].is_dir() else scratch, target)
    archive.unlink()
    return target


def _get_metric(entry: metrics.Weights, address: str, source: str | None) -> Path:
    hint = metrics.how_to_get(entry)
    if entry.folder:
        patterns = ["*.json", "*.txt", entry.hashed]
        where = _from_hub(
            lambda: snapshot_download(entry.hub, allow_patterns=patterns, endpoint=source), address, hint
        )
    elif entry.hub and source is None:
        where = _from_hub(lambda: hf_hub_download(entry.hub, entry.file), address, hint)
    else:
        target = entry.places[-1]
        fetch_file(address, target, lambda part: metrics.check_content(entry, part), hint=hint)
        return target
    metrics.check(entry, where)
    return where


def _from_hub(download: Callable[[], str], address: str, hint: str) -> Path:
    """What the hub's client gives, which resumes by itself. Raises: ModelError."""
    try:
        return Path(download())
    except Exception as error:  # the client raises a dozen unrelated kinds, network ones among them
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"cannot be fetched ({reason})", where=address, hint=hint) from error


def _whole_archive(path: Path) -> None:
    if not tarfile.is_tarfile(path):
        raise ModelError("is no tar archive", where=path, hint="look at what the address gives")


def _where(model: Published) -> Path:
    """Where `get` puts a model that is not on the hub."""
    return cache_folder(MODELS) / model.name


def _model_place(model: Published) -> Path | None:
    if not model.hub:
        return _where(model) if _where(model).is_dir() else None
    index = try_to_load_from_cache(model.hub, "model_index.json")
    return Path(index).parent if isinstance(index, str) else None
