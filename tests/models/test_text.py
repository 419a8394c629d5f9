"""The small text encoder's tokenizer: whole words for what it learned, smaller pieces for all else."""

from __future__ import annotations

import pytest
from transformers import CLIPTokenizer

from handi.models.text import byte_tokenizer, learn_tokenizer

SENTENCES = ["cut the carrot", "pour the coffee into the bowl", "cut the bread"] * 3


@pytest.fixture(scope="module")
def tokenizer() -> CLIPTokenizer:
    return learn_tokenizer(SENTENCES, merges=60, max_length=16)


def test_learned_words_are_one_token(tokenizer):
    assert tokenizer.tokenize("cut the carrot") == ["cut</w>", "the</w>", "carrot</w>"]


@pytest.mark.parametrize("sentence", ["Julienne zucchini!", "naïve 日本語 🍜", "x" * 10, ""])
def test_any_sentence_is_accepted(tokenizer, sentence):
    for kind in (tokenizer, byte_tokenizer()):
        pieces = kind.tokenize(sentence)
        assert kind.unk_token not in pieces
        said = kind.decode(kind.convert_tokens_to_ids(pieces))
        assert "".join(said.split()) == "".join(sentence.lower().split())


def test_it_comes_back_from_a_folder(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    again = CLIPTokenizer.from_pretrained(tmp_path)
    for sentence in (*SENTENCES, "naïve 日本語"):
        assert again(sentence).input_ids == tokenizer(sentence).input_ids
