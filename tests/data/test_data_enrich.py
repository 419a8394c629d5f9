"""Enrichment: what a tiny random model says, and that it is asked once."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import numpy as np
import pytest
from helpers.tiny_vlm import save_tiny_vlm

import handi
from handi.core.errors import InputError, ModelError
from handi.data import enrich
from handi.data.enrich import Enricher, LocalModel, open_enricher, question, tidy

RNG = np.random.default_rng(0)
PICTURES = [RNG.integers(0, 255, (48, 64, 3), dtype=np.uint8) for _ in range(3)]


class Echo:
    """Says what it was asked, and counts."""

    name = "echo"

    def __init__(self) -> None:
        self.asked: list[str] = []

    def describe(self, picture, question):
        self.asked.append(question)
        return f"ASSISTANT: {question}\n(mean {picture.mean():.2f})"


@pytest.fixture(scope="module")
def vlm(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("vlm")
    save_tiny_vlm(folder)
    return folder


def test_the_question_is_legos_about_the_action():
    assert question("Cut the carrot.").startswith(
        "How does the person properly cut the carrot that is displayed in the video frame?"
    )
    assert " properly TV on " in question("TV on")  # no capital of a sentence
    assert tidy(" Answer: The  left\nhand. ") == "The left hand."


def test_the_same_is_asked_once_and_anything_else_again(tmp_path, monkeypatch):
    echo = Echo()
    first = [Enricher(echo, tmp_path).describe("Cut it.", picture) for picture in PICTURES]
    assert len({d.text for d in first}) == 3
    assert echo.asked == [question("Cut it.")] * 3
    again = [Enricher(other := Echo(), tmp_path).describe("Cut it.", picture) for picture in PICTURES]
    assert again == first
    assert other.asked == []
    Enricher(other, tmp_path).describe("Hold it.", PICTURES[0])  # another action
    changed = PICTURES[0].copy()
    changed[0, 0, 0] ^= 1
    Enricher(other, tmp_path).describe("Cut it.", changed)  # another picture
    Enricher(other, tmp_path).describe("Cut it.", PICTURES[0].reshape(64, 48, 3))  # another shape
    monkeypatch.setattr(enrich, "TEMPLATE_VERSION", enrich.TEMPLATE_VERSION + 1)
    Enricher(other, tmp_path).describe("Cut it.", PICTURES[0])  # another template
    other.name = "newer"
    Enricher(other, tmp_path).describe("Cut it.", PICTURES[0])  # another model
    assert len(other.asked) == 5


def test_a_damaged_entry_of_the_cache_is_asked_anew(tmp_path):
    echo = Echo()
    kept = Enricher(echo, tmp_path).describe("Cut it.", PICTURES[0])
    (entry,) = tmp_path.rglob("*.json")
    about = json.loads(entry.read_text())["about"]
    assert about["template"] == enrich.TEMPLATE_VERSION
    for damage in (
        "",
        '{"text": "half',
        json.dumps({"text": "wrong", "about": {**about, "model": "x"}}),
        "[]",
    ):
        entry.write_text(damage)
        assert Enricher(echo, tmp_path).describe("Cut it.", PICTURES[0]) == kept
    assert len(echo.asked) == 5


def test_an_empty_answer_is_an_error_and_is_not_kept(tmp_path):
    echo = Echo()
    echo.describe = lambda picture, question: " \n"
    with pytest.raises(InputError, match=r"nothing to say about 'Cut it\.'"):
        Enricher(echo, tmp_path).describe("Cut it.", PICTURES[0])
    assert not list(tmp_path.rglob("*.json"))


def test_a_local_model_looks_at_the_picture(vlm):
    model = LocalModel(str(vlm), tokens=6)
    said = model.describe(PICTURES[0], "cuts the carrot")
    assert said
    assert model.describe(PICTURES[0], "cuts the carrot") == said
    assert (
        model.describe(np.zeros_like(PICTURES[0]), "cuts the carrot") != said
    )  # same words, another picture
    assert model.name.startswith(f"{vlm}@")


def test_another_model_in_the_same_folder_is_another_model(vlm, tmp_path):
    save_tiny_vlm(tmp_path, seed=1)
    before = LocalModel(str(tmp_path)).name
    save_tiny_vlm(tmp_path, seed=2)
    assert LocalModel(str(tmp_path)).name != before


def test_what_is_no_such_model_is_said(tmp_path):
    with pytest.raises(ModelError, match="not an image-text-to-text model"):
        open_enricher(str(tmp_path))


def test_code_that_comes_with_a_model_is_never_run(tmp_path):
    folder = tmp_path / "vlm"
    save_tiny_vlm(folder)
    config = json.loads((folder / "config.json").read_text())
    names = {"AutoConfig": "evil.Config", "AutoModelForImageTextToText": "evil.Model"}
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "evil", "auto_map": names}))
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()")
    with pytest.raises(ModelError, match="is not an image-text-to-text model that can be loaded"):
        LocalModel(str(folder))
    assert not (tmp_path / "ran").exists()


def test_every_loader_is_told_to_trust_no_code():
    """Classes of transformers that could run a repository's own code."""
    could = re.compile(r"\b(Auto(?!encoder)\w+|CLIPTokenizer|CLIPTextModel|kind)\.from_pretrained")
    for path in sorted(Path(handi.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and could.match(ast.unparse(node.func)):
                assert "trust_remote_code=False" in ast.unparse(node), f"{path}:{node.lineno}"
