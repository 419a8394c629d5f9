"""Small text encoders of our own: CLIP's classes, with a tokenizer that accepts any sentence."""

from __future__ import annotations

import json
from collections.abc import Iterable

from transformers import CLIPTextModel, CLIPTokenizer


def byte_tokenizer(max_length: int = 77) -> CLIPTokenizer:
    """A CLIP tokenizer without merges: one token per byte (and a byte that ends a word), 514 in all."""
    return CLIPTokenizer(vocab=_byte_vocabulary(), merges=[], model_max_length=max_length)


def learn_tokenizer(sentences: Iterable[str], *, merges: int, max_length: int) -> CLIPTokenizer:
    """A CLIP tokenizer that has learned byte pairs from sentences: common words are one token.

    Every byte stays a token of its own, so any other sentence is accepted too, in smaller pieces.
    """
    vocabulary = _byte_vocabulary()
    learned = byte_tokenizer(max_length).train_new_from_iterator(
        sentences, len(vocabulary) + merges, show_progress=False
    )
    pairs = [tuple(pair) for pair in json.loads(learned.backend_tokenizer.to_str())["model"]["merges"]]
    pairs = pairs[:merges]
    for first, second in pairs:
        vocabulary.setdefault(first + second, len(vocabulary))
    return CLIPTokenizer(vocab=vocabulary, merges=pairs, model_max_length=max_length)


def small_text_encoder(
    tokenizer: CLIPTokenizer, *, width: int = 32, depth: int = 2, heads: int = 4
) -> CLIPTextModel:
    """CLIP's text encoder for a tokenizer, with fresh weights from torch's generator."""
    return CLIPTextModel(
        CLIPTextModel.config_class(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=2 * width,
            num_hidden_layers=depth,
            num_attention_heads=heads,
            max_position_embeddings=tokenizer.model_max_length,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def _byte_vocabulary() -> dict[str, int]:
    """The 256 letters that stand for bytes (GPT-2's alphabet), each inside and at the end of a word."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in printable]
    letters = [chr(byte) for byte in printable] + [chr(256 + i) for i in range(len(hidden))]
    tokens = letters + [letter + "</w>" for letter in letters] + ["<|startoftext|>", "<|endoftext|>"]
    return {token: index for index, token in enumerate(tokens)}
