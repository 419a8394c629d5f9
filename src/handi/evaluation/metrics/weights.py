"""The weight files of the metrics: which there are, where they are looked for, what their SHA-256 is.

None ships with handi; `handi weights get` fetches them (`evaluation.catalogue`). Each is looked for at its
environment variable, and nowhere else if that is set; in the user cache (`~/.cache/handi/metrics`), as
`handi convert-weights` writes it or as published; and, for the hub's models, in the hub's cache.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from handi.core.errors import ModelError
from handi.core.files import cache_folder

if TYPE_CHECKING:
    from torch import Tensor  # `handi doctor` lists without reading tensors


@dataclass(frozen=True)
class Weights:
    """One weight file, or one folder of transformers."""

    name: str
    file: str  # as it is published; of a folder: the folder's name in the user cache
    serves: str  # metrics
    origin: str  # where it is published
    size: float  # MB
    licence: str = "none stated"
    sha256: str = ""  # where it is known, of `file` (of a folder: of `hashed`)
    git: str = ""  # git's name of the content (SHA-1 of "blob SIZE\\0" and it), known where no SHA-256 is
    hub: str = ""  # its repository on the hub, whose cache is looked into
    address: str = ""  # of a file that is elsewhere
    hashed: str = ""  # of a folder: the file in it that `sha256` is of
    folder: bool = False

    @property
    def variable(self) -> str:
        """Its environment variable."""
        return "HANDI_" + self.name.upper().replace("-", "_")

    @property
    def places(self) -> tuple[Path, ...]:
        """Where it is expected in the user cache, in this order."""
        cache = cache_folder(METRICS)
        if self.folder:
            return (cache / self.file,)
        return (cache / f"{self.name}.safetensors", cache / self.file)


METRICS = "metrics"  # in the user cache
HUB, LEGO = "huggingface.co/", "bolinlai/LEGO-Metrics"
FVD = "github.com/JunyaoHu/common_metrics_on_video_quality"
FID = "github.com/mseitzer/pytorch-fid"
INCEPTION, I3D, SCRIPT = "pt_inception-2015-12-05-6726825d.pth", "i3d_pretrained_400.pt", "i3d_torchscript.pt"
CLIP_L, CLIP_B = "openai/clip-vit-large-patch14", "openai/clip-vit-base-patch32"
BERT = "distilbert/distilbert-base-uncased"
CATALOGUE = {
    entry.name: entry
    for entry in (
        Weights("inception", INCEPTION, "FID, KID", f"{FID}, release fid_weights", 95.6, "Apache-2.0",
                address=f"https://{FID}/releases/download/fid_weights/{INCEPTION}",
                sha256="6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"),
        Weights("i3d", I3D, "FVD, KVD", f"{FVD} (fvd/videogpt)", 51,
                address=f"https://{FVD}/raw/HEAD/fvd/videogpt/{I3D}",
                git="a867b87ac3a9097d200598b1d48a1b890d8ec744"),
        Weights("i3d-script", SCRIPT, "FVD, KVD in place of i3d", f"{FVD} (fvd/styleganv)", 51,
                address=f"https://{FVD}/raw/HEAD/fvd/styleganv/{SCRIPT}",
                git="93daef59c7ae0e9e8f76225521407e60cbafa6aa"),
        Weights("clip-l14", "clip-vit-large-patch14", "CLIP_GT, CLIP_Cs", HUB + CLIP_L, 1711, "MIT",
                sha256="a2bf730a0c7debf160f7a6b50b3aaf3703e7e88ac73de7a314903141db026dcb",
                hub=CLIP_L, hashed="model.safetensors", folder=True),
        Weights("clip-b32", "clip-vit-base-patch32", "CLIP_Tx", HUB + CLIP_B, 605, "MIT",
                sha256="a63082132ba4f97a80bea76823f544493bffa8082296d62d71581a4feff1576f",
                hub=CLIP_B, hashed="pytorch_model.bin", folder=True),
        Weights("egovlp-epic", "epic_mir_plus.pth", "EgoVLP and BLIP on EPIC-KITCHENS", HUB + LEGO, 724,
                hub=LEGO),
        Weights("egovlp-ego4d", "egovlp.pth", "EgoVLP and BLIP on Ego4D", HUB + LEGO, 724, hub=LEGO),
        Weights("blip-base", "model_base_caption_capfilt_large.pth", "BLIP base", HUB + LEGO, 896, hub=LEGO),
        Weights("blip-large", "model_large_caption.pth", "BLIP large", HUB + LEGO, 1785, hub=LEGO),
        Weights("bert-words", "vocab.txt", "EgoVLP's text tower, BLIP", HUB + BERT, 0.2, "Apache-2.0",
                hub=BERT, sha256="07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"),
    )
}  # fmt: skip


@dataclass(frozen=True)
class FoundWeights:
    """A weight file on this machine, its hash checked if the right one is known."""

    weights: Weights
    path: Path  # the file, or the folder
    sha256: str  # of the file, or of the folder's weight file
    note: str = ""  # what it was converted from

    @property
    def record(self) -> dict[str, str]:
        """For `results.json`: name and file → SHA-256."""
        return {f"{self.weights.name} ({self.path.name}{self.note})": self.sha256}


@dataclass(frozen=True)
class Place:
    """What `survey` found of one weight file."""

    weights: Weights
    state: Literal["found", "missing", "refused"]
    text: str
    hint: str = ""


def find(name: str) -> FoundWeights:
    """The weight file of a name in `CATALOGUE`.

    Raises: ModelError, in one line that says where to get it and where to put it; also for a wrong hash.
    """
    weights = CATALOGUE[name]
    path = _locate(weights)
    if path is None:
        raise ModelError(f"{weights.file} is not on this machine", hint=how_to_get(weights))
    return check(weights, path)


def check(weights: Weights, path: Path) -> FoundWeights:
    """Hash a file or folder and compare with what is published, if that is known. Raises: ModelError."""
    file = _weight_file(weights, path)
    if file.name == (weights.hashed or weights.file):
        check_content(weights, file)
    return FoundWeights(weights, path, digests_of(file)[0], _origin_of(file))


def check_content(weights: Weights, file: Path) -> None:
    """Compare a file, whatever it is called, with what is published. Raises: ModelError."""
    sha256, git = digests_of(file)
    hint = f"take it from {weights.origin} again"
    if weights.sha256 and sha256 != weights.sha256:
        what = f"has SHA-256 {sha256[:12]}…, not {weights.sha256[:12]}…: it was cut, altered or exchanged"
        raise ModelError(what, where=file, hint=hint)
    if weights.git and git != weights.git:
        what = f"is not the published file (git blob {git[:12]}…, not {weights.git[:12]}…)"
        raise ModelError(what, where=file, hint=hint)


def how_to_get(weights: Weights) -> str:
    """Where a weight file comes from and where to put it."""
    place = weights.places[-1]
    return (
        f"run `handi weights get {weights.name}`, or get it from {weights.origin} and put it at {place}, "
        f"or set {weights.variable} to its path"
    )


def survey() -> list[Place]:
    """Every weight file, found or not (for `handi doctor`); reads those that are there, to hash them."""
    seen = []
    for weights in CATALOGUE.values():
        try:
            path = _locate(weights)
            if path is None:
                text = f"{weights.file} ({weights.size:,g} MB; {weights.serves}) is not here"
                seen.append(Place(weights, "missing", text, how_to_get(weights)))
                continue
            found = check(weights, path)
        except ModelError as error:
            seen.append(Place(weights, "refused", f"{error.where}: {error.what}", error.hint or ""))
            continue
        known = "as published" if _is_published(found) else "recorded; what is published states none"
        text = f"{found.path}{found.note} ({weights.serves}), SHA-256 {found.sha256[:16]}… ({known})"
        seen.append(Place(weights, "found", text))
    return seen


def read_tensors(found: FoundWeights) -> dict[str, Tensor]:
    """The weights of a file by name: safetensors, or pickled ones through the restricted unpickler.

    Raises: ModelError.
    """
    from handi.evaluation.metrics.pickled import read_pickled

    if found.path.suffix != ".safetensors":
        return read_pickled(found.path)
    from safetensors.torch import load_file

    try:
        return load_file(found.path)
    except Exception as error:  # safetensors' own error is not a subclass of anything useful
        raise ModelError(
            f"cannot be read as safetensors ({error})", where=found.path, hint="convert or copy it again"
        ) from error


@lru_cache(maxsize=64)
def _digests(path: Path, size: int, changed: int) -> tuple[str, str]:
    """SHA-256 of a file, and git's name of it; kept while neither size nor time change."""
    sha, git = hashlib.sha256(), hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            sha.update(block)
            git.update(block)
    return sha.hexdigest(), git.hexdigest()


def digests_of(path: Path) -> tuple[str, str]:
    """SHA-256 of a file, and git's name of its content. Raises: ModelError if it cannot be read."""
    try:
        status = path.stat()
        return _digests(path, status.st_size, status.st_mtime_ns)
    except OSError as error:
        raise ModelError(f"cannot be read ({error.strerror or error})", where=path) from error


def _locate(weights: Weights) -> Path | None:
    """Where the file or folder lies. Raises: ModelError for a variable that names nothing."""
    if named := os.environ.get(weights.variable):
        path = Path(named).expanduser()
        if path.exists():
            return path
        raise ModelError(
            "no such file or folder", where=path, hint=f"{weights.variable} names it: set it right"
        )
    for place in weights.places:
        if place.exists():
            return place
    if not weights.hub:
        return None
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(weights.hub, "config.json" if weights.folder else weights.file)
    if not isinstance(cached, str):
        return None
    return Path(cached).parent if weights.folder else Path(cached)


def _weight_file(weights: Weights, path: Path) -> Path:
    """The file itself, or the one with the weights in a folder. Raises: ModelError."""
    if not weights.folder and not path.is_dir():
        return path
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (path / name).is_file():
            return path / name
    raise ModelError("has no model.safetensors and no pytorch_model.bin", where=path, hint="copy it again")


def _is_published(found: FoundWeights) -> bool:
    weights = found.weights
    file = _weight_file(weights, found.path)
    return bool(weights.sha256 or weights.git) and file.name == (weights.hashed or weights.file)


def _origin_of(file: Path) -> str:
    """ ", from NAME SHA" of a file that `handi convert-weights` wrote."""
    if file.suffix != ".safetensors":
        return ""
    from safetensors import safe_open

    try:
        with safe_open(file, "pt") as opened:
            metadata: Mapping[str, str] = opened.metadata() or {}
    except Exception:  # a damaged file: whoever reads its tensors says so
        return ""
    if "source" not in metadata:
        return ""
    return f", converted from {metadata['source']} {metadata.get('source_sha256', '')[:12]}"
