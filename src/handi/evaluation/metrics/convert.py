"""`handi convert-weights`: pickled weight files of the metrics become safetensors, which hold no program."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from handi.core.errors import ModelError
from handi.core.files import cache_folder, replacing, sweep
from handi.evaluation.metrics.pickled import read_pickled
from handi.evaluation.metrics.weights import CATALOGUE, METRICS, Weights, check, digests_of


def convert(path: str | Path, out: str | Path | None = None) -> tuple[Path, Weights]:
    """Write the tensors of a pickled file, as they are, to where handi looks for them, or to `out`.

    → the file that was written, and which one of `CATALOGUE` it is. A .bin of a transformers folder becomes
    its model.safetensors. The file's name and SHA-256 go into the new one's header.
    Raises: ModelError for a file that asks for more than tensors, is of another model, or has a wrong hash.
    """
    path = Path(path).expanduser()
    tensors = read_pickled(path)
    weights = recognise(tensors, path)
    check(weights, path)
    if out is not None:
        target = Path(out).expanduser()
        if target.suffix != ".safetensors":
            target = target / f"{weights.name}.safetensors"
    elif weights.folder:
        target = path.with_name("model.safetensors")
    else:
        target = cache_folder(METRICS) / f"{weights.name}.safetensors"
    metadata = {"format": "pt", "source": path.name, "source_sha256": digests_of(path)[0]}
    # own memory for each: safetensors has no two names for one tensor
    owned = {key: value.clone().contiguous() for key, value in tensors.items()}
    sweep(target.parent)
    with replacing(target) as temporary:
        save_file(owned, temporary, metadata=metadata)
    return target, weights


def recognise(tensors: Mapping[str, Tensor], where: str | Path) -> Weights:
    """Which weight file these tensors are, by names and shapes. Raises: ModelError for any other."""
    from handi.evaluation.metrics.networks.blip import WIDTHS
    from handi.evaluation.metrics.networks.clip import SHAPES
    from handi.evaluation.metrics.networks.egovlp import TEMPORAL

    def side(key: str, axis: int) -> int:
        shape = tensors[key].shape
        return shape[axis] if -len(shape) <= axis < len(shape) else 0

    name = ""
    if "Conv2d_1a_3x3.conv.weight" in tensors and side("fc.weight", 0) == 1008:
        name = "inception"
    elif "Conv3d_1a_7x7.conv3d.weight" in tensors:
        name = "i3d"
    elif TEMPORAL in tensors:
        name = {16: "egovlp-epic", 4: "egovlp-ego4d"}.get(side(TEMPORAL, 1), "")
    elif "visual_encoder.cls_token" in tensors and "text_decoder.cls.predictions.bias" in tensors:
        size = WIDTHS.get(side("visual_encoder.cls_token", -1))
        name = f"blip-{size}" if size else ""
    elif (
        "vision_model.embeddings.patch_embedding.weight" in tensors and "visual_projection.weight" in tensors
    ):
        kernel = "vision_model.embeddings.patch_embedding.weight"
        names = {"ViT-L/14": "clip-l14", "ViT-B/32": "clip-b32"}
        found = {names[kind]: (shape[0], shape[2]) for kind, shape in SHAPES.items()}
        name = next((n for n, size in found.items() if size == (side(kernel, 0), side(kernel, -1))), "")
    if not name:
        raise ModelError(
            f"is of none of the metrics' models (its first weight is {next(iter(tensors))})",
            where=where,
            hint=f"they are {', '.join(CATALOGUE)}: see `handi doctor`",
        )
    return CATALOGUE[name]
