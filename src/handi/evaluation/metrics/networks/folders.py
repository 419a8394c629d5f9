"""Model folders as transformers writes them, and the word list of BERT, with one-line errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import BertTokenizer

from handi.core.errors import ModelError
from handi.core.reading import read_lines


def read_config(folder: Path, kind: Any, model_type: str) -> Any:
    """The config.json of a transformers folder. Raises: ModelError: none, or another model's."""
    if not (folder / "config.json").is_file():
        raise ModelError(
            "has no config.json", where=folder, hint="give a model folder as transformers writes it"
        )
    try:
        entries, _ = kind.get_config_dict(folder, local_files_only=True)
        if entries.get("model_type") != model_type:
            raise ModelError(f"is a {entries.get('model_type')} model, not {model_type}", where=folder)
        return kind.from_dict(entries)
    except ModelError:
        raise
    except Exception as error:  # transformers raises OSError, ValueError and its own validation's kinds
        raise ModelError(f"its config.json cannot be read ({first_line(error)})", where=folder) from error


def load_transformers(kind: Any, folder: Path) -> Any:
    """A model of transformers from its folder, whole, in float32. Raises: ModelError."""
    try:
        model, info = kind.from_pretrained(
            folder,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
            dtype=torch.float32,
        )
    except Exception as error:  # three libraries, each with its own kinds for a file that is cut or absent
        raise ModelError(
            f"its weights cannot be loaded ({first_line(error)})", where=folder, hint="copy the file again"
        ) from error
    if missing := sorted(info["missing_keys"]):
        raise ModelError(f"{len(missing)} weights are missing, among them {missing[0]}", where=folder)
    if misfits := list(info["mismatched_keys"]):
        raise ModelError(f"{misfits[0][0]} has another shape than config.json says", where=folder)
    return model


def first_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 160 else text[:157] + "..."


def load_words(path: Path) -> BertTokenizer:
    """BERT's lower-case tokenizer from a vocab.txt. Raises: ModelError."""
    words = read_lines(path, error=ModelError)
    if not {"[PAD]", "[UNK]", "[CLS]", "[SEP]"} <= set(words):
        raise ModelError(
            "is not BERT's vocab.txt: it has no [PAD], [UNK], [CLS], [SEP]",
            where=path,
            hint="see `handi doctor`",
        )
    return BertTokenizer(vocab=str(path))
