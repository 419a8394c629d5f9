"""`handi weights` against a server on this machine: nothing here reaches the internet."""

from __future__ import annotations

import hashlib
import json
import tarfile
import threading
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from handi.commands.weights import weights
from handi.core.errors import InputError, ModelError
from handi.evaluation import catalogue
from handi.evaluation.metrics import weights as metrics
from handi.models.inventory import PUBLISHED

CONTENT = bytes(range(256)) * 4000


class Server(BaseHTTPRequestHandler):
    """Files of a folder, with ranges; `cut` bytes are sent of the first answer, then the line drops."""

    cut: int | None = None
    asked: list[str]

    def __init__(self, folder: Path, *args) -> None:
        self.folder = folder
        super().__init__(*args)

    def do_GET(self) -> None:
        path = self.folder / self.path.lstrip("/")
        begin = int((self.headers.get("Range") or "bytes=0-").split("=")[1].rstrip("-"))
        Server.asked.append(f"{self.path} from {begin}")
        if not path.is_file():
            self.send_error(404)
            return
        data = path.read_bytes()
        self.send_response(206 if begin else 200)
        self.send_header("Content-Length", str(len(data) - begin))
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        cut, Server.cut = Server.cut, None
        self.wfile.write(data[begin:cut])
        if cut is not None:
            self.connection.close()

    def log_message(self, *_) -> None:
        pass


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """(address of a server, the folder that it serves)."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    folder = tmp_path / "mirror"
    folder.mkdir()
    Server.asked, Server.cut = [], None
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Server, folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", folder
    server.shutdown()


@pytest.fixture
def inception(monkeypatch, tmp_path, mirror):
    """The entry of a weight file, with the hash of CONTENT; and where it belongs."""
    monkeypatch.setenv("HANDI_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HANDI_INCEPTION", raising=False)
    entry = replace(metrics.CATALOGUE["inception"], sha256=hashlib.sha256(CONTENT).hexdigest())
    monkeypatch.setitem(metrics.CATALOGUE, "inception", entry)
    (mirror[1] / entry.file).write_bytes(CONTENT)
    return tmp_path / "cache/metrics" / entry.file


def state_of(name: str) -> str:
    return next(entry.state for entry in catalogue.entries() if entry.name == name)


def test_the_list_has_every_file_with_licence_and_origin(capsys):
    assert weights() == 0
    table = capsys.readouterr().out
    assert weights(json_=True) == 0
    listed = json.loads(capsys.readouterr().out)
    names = {entry["name"] for entry in listed}
    assert names == {"mini", "hands", *metrics.CATALOGUE, *(model.name for model in PUBLISHED)}
    for entry in listed:
        assert entry["licence"]
        assert entry["origin"]
        assert entry["name"] in table
    assert {entry["state"] for entry in listed if entry["name"] in ("mini", "hands")} == {"ships"}


def test_a_file_comes_from_a_mirror_and_is_found(mirror, inception, capsys):
    assert state_of("inception") == "missing"
    assert weights("get", ("inception",), source=mirror[0]) == 0
    assert inception.read_bytes() == CONTENT
    assert str(inception) in capsys.readouterr().err
    assert state_of("inception") == "here"
    assert metrics.find("inception").path == inception


def test_a_line_that_drops_is_tried_again(mirror, inception):
    Server.cut = 300_000
    catalogue.get("inception", source=mirror[0], say=print)
    assert inception.read_bytes() == CONTENT
    assert len(Server.asked) == 2


def test_what_is_there_of_a_file_is_not_fetched_again(mirror, inception):
    inception.parent.mkdir(parents=True)
    inception.with_name(inception.name + ".part").write_bytes(CONTENT[:70_000])
    catalogue.get("inception", source=mirror[0], say=print)
    assert inception.read_bytes() == CONTENT
    assert Server.asked == [f"/{inception.name} from 70000"]


def test_a_wrong_hash_is_refused_and_nothing_stays(mirror, inception):
    (mirror[1] / inception.name).write_bytes(CONTENT[:-1] + b"x")
    with pytest.raises(ModelError, match=r"SHA-256 .*cut, altered"):
        catalogue.get("inception", source=mirror[0], say=print)
    assert list(inception.parent.iterdir()) == []


def test_a_folder_can_be_the_mirror(mirror, inception):
    catalogue.get("inception", source=str(mirror[1]), say=print)
    assert inception.read_bytes() == CONTENT


def test_a_dry_run_fetches_nothing(mirror, inception, capsys):
    weights("get", ("inception", "clip-b32", "animate-anything", "hands"), source=mirror[0], dry_run=True)
    said = capsys.readouterr().err
    assert f"would fetch {mirror[0]}/{inception.name} to {inception}" in said
    assert f"{mirror[0]}/openai/clip-vit-base-patch32" in said
    assert "hands ships with handi" in said
    assert Server.asked == []


def test_without_a_network_the_error_says_where_to_put_the_file(inception):
    with pytest.raises(ModelError) as failure:
        catalogue.get("inception", source="http://127.0.0.1:9", say=print)
    text = str(failure.value)
    assert "\n" not in text
    assert f"put it at {inception}" in text


def test_an_archive_becomes_a_model_folder(mirror, monkeypatch, tmp_path):
    monkeypatch.setenv("HANDI_CACHE", str(tmp_path / "cache"))
    (tmp_path / "v1/unet").mkdir(parents=True)
    (tmp_path / "v1/unet/config.json").write_text("{}")
    with tarfile.open(mirror[1] / "animate_anything_512_v1.02.tar", "w") as archive:
        archive.add(tmp_path / "v1", "v1")
    catalogue.get("animate-anything", source=mirror[0], say=print)
    folder = tmp_path / "cache/models/animate-anything"
    assert (folder / "unet/config.json").read_text() == "{}"
    assert [path.name for path in folder.parent.iterdir()] == ["animate-anything"]
    assert state_of("animate-anything") == "here"


def test_a_repository_of_the_hub_comes_from_another_endpoint(mirror):
    with pytest.raises(ModelError, match="cannot be fetched"):
        catalogue.get("clip-b32", source=mirror[0], say=print)
    assert any("openai/clip-vit-base-patch32" in asked for asked in Server.asked)


def test_unknown_names_and_wrong_usage_are_refused():
    with pytest.raises(InputError, match=r"no weights are called 'incepton'.*inception"):
        catalogue.get("incepton", say=print)
    with pytest.raises(SystemExit):
        weights("get")
    with pytest.raises(SystemExit):
        weights("list", ("inception",))
