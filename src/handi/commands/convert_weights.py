"""`handi convert-weights`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

from handi.commands.options import optional, say, usage
from handi.core.errors import HandiError, item_failure


def convert_weights(
    files: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FILE …")],
    out: Annotated[Path | None, optional("PATH")] = None,
) -> int:
    """Turn pickled weight files of the metrics (.pth, .pt, .bin) into safetensors, running nothing in them.

    A pickled file is a program; a safetensors file holds numbers alone. A file is recognised by its weights;
    its SHA-256 is checked if the published one is known, and is written into the new file. `handi doctor`
    lists the files and where each is published.

        handi convert-weights epic_mir_plus.pth egovlp.pth pt_inception-2015-12-05-6726825d.pth

    Args:
        files: Weight files as published. Trainer settings and optimizer in EgoVLP's files are left out.
        out: A folder, or for one file a .safetensors file. Without it: where `handi evaluate` looks; the
            .bin of a transformers folder becomes the model.safetensors beside it.
    """
    from handi.evaluation.metrics.convert import convert

    if not files:
        usage("convert-weights", "name a file")
    if len(files) > 1 and out is not None and out.suffix == ".safetensors":
        usage("convert-weights", "several files need a folder as --out")
    failures = 0
    for file in files:
        try:
            target, weights = convert(file, out)
            say(f"{file} is {weights.name} ({weights.serves}): wrote {target}")
        except Exception as error:
            failures += 1
            say(f"error: {error if isinstance(error, HandiError) else item_failure(error, str(file))}")
    return 1 if failures else 0
