"""`handi generate --enrich`: the model that draws is given what the model that sees has written."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers.chat_server import ChatServer
from helpers.tiny_vlm import save_tiny_vlm

from handi.core.images import read_image
from handi.data.enrich import question

FAST = ("--frames", 2, "--steps", 1, "--area-steps", 1, "--save-frames")
LONG = "The left hand holds the carrot, the right hand moves a knife down."


@pytest.fixture
def server(monkeypatch, tmp_path) -> Iterator[ChatServer]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("HANDI_CACHE", str(tmp_path / "cache"))
    server = ChatServer()
    yield server
    server.close()


@pytest.fixture
def generate(handi, picture, model_folder):
    def run(out, *extra):
        many = "--batch" in extra
        one = () if many else ("--image", picture)
        return handi("generate", *one, "--model", model_folder, "--out", out, *FAST, *extra)

    return run


def frames_of(folder: Path) -> np.ndarray:
    """The frames of a clip as they were generated; those of its video have been through an encoder."""
    return np.stack([read_image(path) for path in sorted((folder / "frames").iterdir())])


def test_the_enriched_prompt_is_what_the_video_is_made_from(generate, server, tmp_path):
    server.says(LONG)
    enrich = ("--enrich", server.url, "--enrich-model", "tiny")
    code, _, err = generate(tmp_path / "a", "--prompt", "Cut the carrot.", *enrich)
    assert code == 0, err
    record = json.loads((tmp_path / "a" / "run.json").read_text())
    assert record["description"] == {"text": LONG, "source": f"tiny at {server.url}"}
    assert record["request"]["prompt"] == "Cut the carrot."
    assert server.asked[0][2]["messages"][0]["content"][1]["text"] == question("Cut the carrot.")
    assert generate(tmp_path / "b", "--prompt", LONG)[0] == 0
    assert generate(tmp_path / "c", "--prompt", "Cut the carrot.")[0] == 0
    enriched, long, short = (frames_of(tmp_path / name) for name in "abc")
    np.testing.assert_array_equal(enriched, long)
    assert (enriched != short).any()
    assert "description" not in json.loads((tmp_path / "c" / "run.json").read_text())
    assert generate(tmp_path / "d", "--prompt", "Cut the carrot.", *enrich)[0] == 0
    assert len(server.asked) == 1  # the second time it is known
    np.testing.assert_array_equal(frames_of(tmp_path / "d"), enriched)


def test_a_request_without_an_answer_is_named_and_the_others_are_made(generate, server, picture, tmp_path):
    lines = [{"image": str(picture), "prompt": text, "id": text[0]} for text in ("Cut it.", "Open it.")]
    batch = tmp_path / "batch.jsonl"
    batch.write_text("\n".join(map(json.dumps, lines)))
    server.says((400, {"error": {"message": "no"}}), LONG)
    code, _, err = generate(tmp_path, "--batch", batch, "--enrich", server.url, "--enrich-model", "tiny")
    assert code == 1
    assert "request 'C': the endpoint refuses the question (HTTP 400: no)" in err
    assert "1 of 2 clips" in err
    assert not (tmp_path / "C").exists()
    assert json.loads((tmp_path / "O" / "run.json").read_text())["description"]["text"] == LONG


def test_a_local_model_does_it_too(generate, server, tmp_path):
    save_tiny_vlm(tmp_path / "vlm")
    code, _, err = generate(tmp_path / "out", "--prompt", "Cut the carrot.", "--enrich", tmp_path / "vlm")
    assert code == 0, err
    description = json.loads((tmp_path / "out" / "run.json").read_text())["description"]
    assert description["source"].startswith(str(tmp_path / "vlm"))
    assert description["text"]


@pytest.mark.parametrize(
    ("extra", "code", "message"),
    [
        (("--enrich-model", "m"), 2, "--enrich-model needs --enrich"),
        (("--enrich", "no/such/folder/here"), 1, "not an image-text-to-text model"),
        (("--enrich", "http://127.0.0.1:9/v1"), 1, "model is not named"),
    ],
)
def test_what_cannot_be_is_one_clear_line(generate, server, tmp_path, extra, code, message):
    got, _, err = generate(tmp_path / "out", "--prompt", "Cut it.", *extra)
    assert got == code
    assert message in err
    assert "Traceback" not in err
    assert not (tmp_path / "out").exists()
