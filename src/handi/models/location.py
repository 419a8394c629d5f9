"""Where a model lies: the bundled one, a folder, or the hub's snapshot."""

from __future__ import annotations

from pathlib import Path

from handi.assets import MINI
from handi.core.errors import ModelError
from handi.core.files import present
from handi.models.base import ADAPTERS, POSES, PRIOR, TRANSFORMER
from handi.models.inventory import CARD, COMPONENTS

OPTIONAL = ("area_unet", "pose_net")
INDEX = "model_index.json"


def locate(model: str | Path, *, revision: str | None = None) -> Path:
    """The local folder of a model: "mini", which ships with handi, the path itself, or the hub's snapshot
    (downloaded if need be).

    Raises: ModelError where there is no such folder and no such repository can be reached.
    """
    folder = MINI if str(model) == "mini" else present(Path(model).expanduser())
    if folder.is_dir():
        return folder
    if folder.exists():
        raise ModelError("is a file, not a model folder", where=folder)
    name = str(model)
    if not is_hub_id(name):
        raise ModelError(
            "no such model folder", where=name, hint='give a folder, a hub id like "owner/name", or "mini"'
        )
    from huggingface_hub import snapshot_download

    patterns = [f"{c}/*" for c in (*COMPONENTS, *OPTIONAL, TRANSFORMER)]
    patterns += [CARD, PRIOR, POSES, INDEX, *ADAPTERS.values()]
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=patterns))
    except Exception as error:  # the hub's client raises a dozen unrelated kinds, network ones among them
        raise ModelError(
            f"neither a folder here nor a hub repository that can be had ({first_line(error)})",
            where=name,
            hint="check the name and the network, or download it elsewhere and give its folder",
        ) from error


def is_hub_id(name: str) -> bool:
    """Whether a name can be that of a repository."""
    return name.count("/") == 1 and not name.startswith((".", "/", "~"))


def first_line(error: BaseException) -> str:
    """An error of another library in one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 160 else text[:157] + "..."
