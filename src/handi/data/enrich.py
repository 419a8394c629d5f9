"""Prompt enrichment: a short action and its picture → what the hands do, in full (docs/method.md §2).

Descriptions come from a local vision-language model, or from an OpenAI-compatible endpoint
(`handi.data.endpoint`). What a model says is cached by content: the same
picture, action, model and question are asked once.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from handi.core.errors import InputError, ModelError
from handi.core.files import write_json
from handi.core.reading import read_json
from handi.core.types import Picture
from handi.data.endpoint import Endpoint

# LEGO's question to its VLM (docs/method.md §2), and what keeps a general model from writing a recipe.
# Whoever changes a word raises the version: it stands in every cached answer.
TEMPLATE_VERSION = 1
TEMPLATE = (
    "How does the person properly {action} that is displayed in the video frame? "
    "Answer with two sentences that say what each hand holds and how it moves."
)
NEW_TOKENS = 128


@dataclass(frozen=True)
class Description:
    """An enriched text, and the model that wrote it."""

    text: str
    source: str


class Describer(Protocol):
    """A model that answers a question about a picture H×W×3 uint8."""

    name: str  # tells apart whatever may answer differently: it is part of the cache's key

    def describe(self, picture: Picture, question: str) -> str: ...


class Enricher:
    """Descriptions of actions by a model; what it has said once is taken from the cache."""

    def __init__(self, describer: Describer, cache: str | Path | None = None) -> None:
        self.describer = describer
        self.cache = Cache(cache) if cache is not None else None

    def describe(self, action: str, picture: Picture) -> Description:
        """The description of an action ("Cut the carrot.") and its context image (H×W×3 uint8).

        Raises: InputError for a picture that the model gives no answer to, ModelError for a model that cannot
        be used, OutputError for the cache.
        """
        asked, about = question(action), self._about(action, picture)
        text = self.cache.get(about) if self.cache else None
        if text is None:
            text = tidy(self.describer.describe(picture, asked))
            if not text:
                raise InputError(f"{self.describer.name} has nothing to say about {action!r}")
            if self.cache:
                self.cache.put(about, text)
        return Description(text, self.describer.name)

    def _about(self, action: str, picture: Picture) -> dict[str, Any]:
        """All that an answer depends on."""
        pixels = np.ascontiguousarray(picture)
        digest = hashlib.sha256(repr((pixels.shape, str(pixels.dtype))).encode() + pixels.tobytes())
        return {
            "model": self.describer.name,
            "template": TEMPLATE_VERSION,
            "question": question(action),
            "picture": digest.hexdigest(),
        }


def question(action: str) -> str:
    """TEMPLATE about an action sentence: "Cut the carrot." is asked as "… properly cut the carrot that …"."""
    phrase = action.strip().rstrip(".!").strip()
    first = phrase.split(" ", 1)[0]
    if first.istitle() and len(first) > 1:
        phrase = phrase[0].lower() + phrase[1:]
    return TEMPLATE.format(action=phrase)


def tidy(text: str) -> str:
    """One line, single spaces, without half characters or the speaker's name that some models repeat."""
    line = " ".join(text.encode("utf-8", "replace").decode().split())
    for speaker in ("ASSISTANT:", "Assistant:", "Answer:"):
        line = line.removeprefix(speaker).lstrip()
    return line


class Cache:
    """Answers in a folder, a small JSON file each, named by the hash of what was asked. Safe to share."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).expanduser()

    def path(self, about: dict[str, Any]) -> Path:
        """Where the answer lies, or would."""
        key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
        return self.folder / key[:2] / f"{key}.json"

    def get(self, about: dict[str, Any]) -> str | None:
        """The answer; None where there is none, or the file is damaged or about something else."""
        try:
            entry = read_json(self.path(about))
            same = entry["about"] == about
            text = entry["text"]
        except (OSError, ValueError, LookupError, TypeError):
            return None
        return text if same and isinstance(text, str) and text else None

    def put(self, about: dict[str, Any], text: str) -> None:
        """Keep an answer. Raises: OutputError."""
        write_json(self.path(about), {"text": text, "about": about}, ensure_ascii=False)


class LocalModel:
    """An `image-text-to-text` model of transformers, from a folder or the hub; it answers greedily.

    Raises: ModelError for one that cannot be loaded.
    """

    def __init__(
        self, source: str, *, device: str = "cpu", dtype: Any = None, tokens: int = NEW_TOKENS
    ) -> None:
        import torch
        from transformers import AutoModelForImageTextToText, AutoProcessor

        self._tokens, self._device = tokens, device
        try:
            self._processor = AutoProcessor.from_pretrained(source, trust_remote_code=False)
            model = AutoModelForImageTextToText.from_pretrained(
                source, dtype=dtype or torch.float32, trust_remote_code=False
            )
        except (OSError, ValueError, ImportError, RuntimeError, KeyError) as error:
            raise ModelError(
                f"is not an image-text-to-text model that can be loaded ({_short(error)})",
                where=source,
                hint="name a model folder, a hub id, or the address of an endpoint (http://…/v1)",
            ) from error
        if not getattr(self._processor, "chat_template", None):
            raise ModelError("has no chat template", where=source, hint="use an instruction-tuned model")
        self._model = model.eval().to(device)
        tokenizer = self._processor.tokenizer
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        self.name = f"{source}@{_identity(source, model)}"

    def describe(self, picture: Picture, question: str) -> str:
        """The answer."""
        import torch
        from PIL import Image

        content = [{"type": "image"}, {"type": "text", "text": question}]
        prompt = self._processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
        )
        image = Image.fromarray(np.ascontiguousarray(picture))
        inputs = self._processor(images=[[image]], text=[prompt], return_tensors="pt")
        inputs = inputs.to(self._device, dtype=self._model.dtype)
        with torch.inference_mode():
            tokens = self._model.generate(
                **inputs,
                do_sample=False,
                max_new_tokens=self._tokens,
                pad_token_id=self._processor.tokenizer.pad_token_id,
            )
        fresh = tokens[0, inputs["input_ids"].shape[1] :]
        return str(self._processor.decode(fresh, skip_special_tokens=True))


def open_enricher(
    source: str, *, model: str | None = None, cache: str | Path | None = None, device: str = "cpu",
    dtype: Any = None,
) -> Enricher:  # fmt: skip
    """What `--enrich SOURCE` says: an endpoint's address (with its `model`), or a local model.

    Raises: InputError, ModelError.
    """
    if source.startswith(("http://", "https://")):
        return Enricher(Endpoint(source, model or ""), cache)
    return Enricher(LocalModel(source, device=device, dtype=dtype), cache)


def _identity(source: str, model: Any) -> str:
    """The hub's commit, or a hash of a local folder's files: another model may lie there tomorrow."""
    folder = Path(source)
    if not folder.is_dir():
        return str(getattr(model.config, "_commit_hash", None) or "unknown")[:12]
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.is_file():
            digest.update(path.name.encode())
            with path.open("rb") as file:
                while block := file.read(2**22):
                    digest.update(block)
    return digest.hexdigest()[:12]


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:160]
