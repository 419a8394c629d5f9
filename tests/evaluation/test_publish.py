"""Models to the Hub and back, against a stand-in of its API on this machine."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from PIL import Image

from handi import HandiPipeline
from handi.core.errors import InputError, OutputError
from handi.evaluation.publish import push
from handi.evaluation.results import write_results

COMMIT = "0123456789abcdef0123456789abcdef01234567"
RECIPE = """\
data:
  path: /home/somebody/data/train
  validation: null
model:
  init: /home/somebody/models/start
run:
  out: /home/somebody/runs/kitchen
"""


class Hub(BaseHTTPRequestHandler):
    """What the client asks of the Hub: make a repository, take a commit, list it, give its files."""

    files: dict[str, bytes]
    made: list[dict]

    def answer(self, body: bytes, kind: str = "application/json", **headers: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        url = f"http://{self.headers['Host']}/me/kitchen"
        if self.path == "/api/repos/create":
            Hub.made.append(json.loads(body))
            self.answer(json.dumps({"url": url}).encode())
        elif self.path == "/api/validate-yaml":
            self.answer(b'{"errors": [], "warnings": []}')
        elif "/preupload/" in self.path:
            asked = [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False, "oid": None}
                     for file in json.loads(body)["files"]]  # fmt: skip
            self.answer(json.dumps({"files": asked}).encode())
        elif "/commit/" in self.path:
            for line in body.decode().splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    Hub.files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
            self.answer(json.dumps({"commitUrl": f"{url}/commit/{COMMIT}", "commitOid": COMMIT}).encode())
        else:
            self.send_error(404)

    def do_GET(self) -> None:
        marker = "/resolve/"
        if "/tree/" in self.path:
            entries = [
                {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                for name, content in Hub.files.items()
            ]
            self.answer(json.dumps(entries).encode())
        elif self.path.startswith("/api/models/"):
            listed = [{"rfilename": name} for name in Hub.files]
            about = {"id": "me/kitchen", "sha": COMMIT, "siblings": listed, "private": False, "tags": []}
            self.answer(json.dumps(about).encode())
        elif marker in self.path:
            name = self.path.split(marker)[1].partition("/")[2]
            if name not in Hub.files:
                self.send_error(404)
                return
            content = Hub.files[name]
            etag = hashlib.sha1(content).hexdigest()
            self.answer(content, "application/octet-stream", ETag=f'"{etag}"', X_Repo_Commit=COMMIT)
        else:
            self.send_error(404)

    do_HEAD = do_GET

    def log_message(self, *_) -> None:
        pass


@pytest.fixture
def hub(monkeypatch):
    """The stand-in's address."""
    Hub.files, Hub.made = {}, []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    yield address
    server.shutdown()


@pytest.fixture
def run(model_folder, tmp_path):
    """A training's folder: model, recipe, a sample sheet; and scores of it."""
    run = tmp_path / "run"
    (run / "samples").mkdir(parents=True)
    (run / "model").symlink_to(model_folder, target_is_directory=True)
    (run / "recipe.yaml").write_text(RECIPE)
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(run / "samples/step-00000001.png")
    psnr = {
        "metric": "psnr",
        "title": "PSNR",
        "better": "higher",
        "value": 17.68,
        "n": 200,
        "interval": [17, 18.4],
    }
    skipped = {"metric": "fvd", "title": "FVD", "better": "lower", "skipped": "no weights"}
    protocol = {"id": "handi-1", "scope": "full", "subset": "all", "frames": 15}
    metrics = {"psnr": psnr, "fvd": skipped}
    results = {
        "protocol": protocol,
        "n": 200,
        "refused": {},
        "metrics": metrics,
        "pred": "ours",
        "paired": None,
    }
    write_results(tmp_path, results)
    return run


def test_a_model_comes_back_from_the_hub_as_it_went(hub, run, model_folder, monkeypatch, tmp_path):
    push(run / "model", "me/kitchen", licence="apache-2.0", private=True, endpoint=hub)
    assert Hub.made[0]["name"] == "kitchen"
    assert "private" in (Hub.made[0].get("visibility"), *Hub.made[0])
    assert Hub.files["handi.json"] == (model_folder / "handi.json").read_bytes()
    assert "samples/step-00000001.png" in Hub.files
    template = hub + "/{repo_id}/resolve/{revision}/{filename}"
    for name, value in (("ENDPOINT", hub), ("HUGGINGFACE_CO_URL_TEMPLATE", template)):
        monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    back, sent = HandiPipeline.from_pretrained("me/kitchen"), HandiPipeline.from_pretrained(model_folder)
    for name, value in sent.unet.state_dict().items():
        assert torch.equal(back.unet.state_dict()[name], value)


def test_the_card_says_how_it_was_trained_and_how_it_scores(run, tmp_path):
    card, files = push(run / "model", "me/kitchen", licence="mit", scores=tmp_path, dry_run=True)
    assert card.startswith("---\n")
    assert "license: mit" in card
    assert "--model me/kitchen" in card
    assert "| PSNR ↑ | 17.68 | 17 to 18.4 | 200 |" in card
    assert "Not measured: fvd." in card
    assert "![step-00000001.png](samples/step-00000001.png)" in card
    assert "/home/somebody" not in card
    assert "path: train" in card
    assert "README.md" in files


def test_a_dry_run_leaves_the_folder_as_it_was(run):
    before = sorted(path.name for path in (run / "model").iterdir())
    push(run / "model", "me/kitchen", licence="mit", dry_run=True)
    assert sorted(path.name for path in (run / "model").iterdir()) == before


def test_what_cannot_be_pushed_is_refused(run, hub, tmp_path):
    with pytest.raises(InputError, match="no model"):
        push(tmp_path, "me/kitchen", licence="mit")
    with pytest.raises(OutputError, match=r"the hub does not take it .*hf auth login"):
        push(run / "model", "me/kitchen", licence="mit", endpoint=f"{hub}/nowhere")
