"""Weight files: where they are looked for, what is refused, and pickles that want to run something."""

from __future__ import annotations

import argparse
import hashlib
import os
import pickle
import subprocess
import sys
import types
from collections import OrderedDict
from pathlib import Path, PosixPath

import pytest
import torch
from metrics.seeded import seeded
from safetensors.torch import load_file, save_file

from handi.core.errors import ModelError
from handi.evaluation.metrics import weights
from handi.evaluation.metrics.convert import convert, recognise
from handi.evaluation.metrics.networks.egovlp import SpaceTimeTransformer
from handi.evaluation.metrics.pickled import read_pickled
from handi.evaluation.metrics.weights import CATALOGUE, check, find, read_tensors, survey


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path) -> Path:
    """An empty cache, and no variable of the user's."""
    for entry in CATALOGUE.values():
        monkeypatch.delenv(entry.variable, raising=False)
    monkeypatch.setenv("HANDI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "cache" / "metrics"


class Runs:
    """A pickle of it runs a command."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self):
        return os.system, (f"touch '{self.proof}'",)


class Evaluates(Runs):
    def __reduce__(self):
        return eval, (f"open({str(self.proof)!r}, 'w')",)


class Reads(Runs):
    """Through a method of a harmless type: nothing but torch's own functions may be called."""

    def __reduce__(self):
        return getattr, (self.proof, "touch")


@pytest.mark.parametrize("attack", [Runs, Evaluates, Reads])
@pytest.mark.parametrize("legacy", [False, True])
def test_a_malicious_pickle_runs_nothing(tmp_path, attack, legacy):
    path, proof = tmp_path / "epic_mir_plus.pth", tmp_path / "proof"
    content = {"state_dict": {"w": torch.zeros(2)}, "config": attack(proof)}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(ModelError, match="refused") as refused:
        read_pickled(path)
    assert "\n" not in str(refused.value)
    assert not proof.exists()


def test_a_naked_pickle_runs_nothing(tmp_path):
    path, proof = tmp_path / "model.bin", tmp_path / "proof"
    for protocol in (0, 2, 4):
        path.write_bytes(pickle.dumps({"w": Runs(proof)}, protocol=protocol))
        with pytest.raises(ModelError):
            read_pickled(path)
        assert not proof.exists()


def test_a_trainers_classes_are_left_behind(tmp_path, monkeypatch):
    """EgoVLP's file: the weights beside a ConfigParser of the trainer, which is never imported."""
    trainer = types.ModuleType("parse_config")
    kind = type("ConfigParser", (), {"__module__": "parse_config"})
    trainer.ConfigParser = kind  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "parse_config", trainer)
    config = kind()
    config.resume, config.args = PosixPath("x"), argparse.Namespace(lr=1.0)
    config.settings = OrderedDict(name="EgoVLP")
    path = tmp_path / "egovlp.pth"
    stored = OrderedDict([("module.a", torch.arange(3.0)), ("module.b.weight", torch.ones(2, 2))])
    optimizer = {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 1e-5}]}
    torch.save(
        {"arch": "F", "epoch": 3, "state_dict": stored, "optimizer": optimizer, "config": config}, path
    )
    monkeypatch.delitem(sys.modules, "parse_config")
    tensors = read_pickled(path)
    assert list(tensors) == ["a", "b.weight"]
    assert torch.equal(tensors["a"], torch.arange(3.0))
    assert "parse_config" not in sys.modules


@pytest.mark.parametrize("legacy", [False, True])
def test_files_that_are_no_weights(tmp_path, legacy):
    path = tmp_path / "file.pth"
    torch.save({"w": torch.ones(64, 64)}, path, _use_new_zipfile_serialization=not legacy)
    assert torch.equal(read_pickled(path)["w"], torch.ones(64, 64))
    path.write_bytes(path.read_bytes()[:-900])
    with pytest.raises(ModelError, match=r"file\.pth"):
        read_pickled(path)
    path.write_text("<html>404</html>")
    with pytest.raises(ModelError, match=r"file\.pth"):
        read_pickled(path)
    torch.save([1, 2], path)
    with pytest.raises(ModelError, match="holds no weights"):
        read_pickled(path)
    with pytest.raises(ModelError, match="no such file"):
        read_pickled(tmp_path / "none.pth")


def test_a_program_is_not_read_as_weights(tmp_path):
    path = tmp_path / "script.pt"
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(path))
    with pytest.raises(ModelError, match="TorchScript program"):
        read_pickled(path)


# ------------------------------------------------------------------------------------- places and hashes


def test_a_missing_file_has_its_hint():
    with pytest.raises(ModelError) as missing:
        find("inception")
    text = str(missing.value)
    for part in (
        "pt_inception-2015-12-05-6726825d.pth",
        "mseitzer/pytorch-fid",
        "HANDI_INCEPTION",
        "cache/metrics",
    ):
        assert part in text
    assert "\n" not in text


def test_a_variable_goes_before_the_cache(cache, monkeypatch, tmp_path):
    cache.mkdir(parents=True)
    published = cache / "epic_mir_plus.pth"
    torch.save({"w": torch.zeros(1)}, published)
    assert find("egovlp-epic").path == published
    save_file({"w": torch.ones(1)}, cache / "egovlp-epic.safetensors")
    assert find("egovlp-epic").path.name == "egovlp-epic.safetensors"  # the converted one first
    own = tmp_path / "own.safetensors"
    save_file({"w": torch.full((1,), 2.0)}, own)
    monkeypatch.setenv("HANDI_EGOVLP_EPIC", str(own))
    found = find("egovlp-epic")
    assert found.path == own
    assert found.sha256 == hashlib.sha256(own.read_bytes()).hexdigest()
    assert read_tensors(found)["w"].item() == 2
    assert list(found.record.values()) == [found.sha256]
    monkeypatch.setenv("HANDI_EGOVLP_EPIC", str(tmp_path / "gone.pth"))
    with pytest.raises(ModelError, match="HANDI_EGOVLP_EPIC names it"):
        find("egovlp-epic")


def test_a_wrong_hash_is_refused(cache):
    cache.mkdir(parents=True)
    (cache / "pt_inception-2015-12-05-6726825d.pth").write_bytes(b"something else")
    with pytest.raises(ModelError, match=r"has SHA-256 .* not 6726825d0af5"):
        find("inception")
    (cache / "i3d_pretrained_400.pt").write_bytes(b"something else")
    with pytest.raises(ModelError, match="not the published file"):
        find("i3d")
    refused = {place.weights.name for place in survey() if place.state == "refused"}
    assert refused == {"inception", "i3d"}


def test_gits_name_of_a_file_is_gits(tmp_path):
    (tmp_path / "x").write_bytes(b"hands\n")
    git = subprocess.run(
        ["git", "hash-object", "x"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert weights.digests_of(tmp_path / "x")[1] == git.stdout.strip()


def test_a_folder_of_transformers(cache, monkeypatch, tmp_path):
    folder = tmp_path / "clip"
    folder.mkdir()
    monkeypatch.setenv("HANDI_CLIP_L14", str(folder))
    with pytest.raises(ModelError, match=r"no model\.safetensors"):
        find("clip-l14")
    save_file({"w": torch.ones(1)}, folder / "model.safetensors")
    with pytest.raises(ModelError, match="not a2bf730a0c7d"):
        find("clip-l14")
    # the hub's cache is looked into too
    monkeypatch.delenv("HANDI_CLIP_L14")
    snapshot = tmp_path / "hub/models--openai--clip-vit-base-patch32/snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs/main").write_text("0" * 40)
    (snapshot / "config.json").write_text("{}")
    save_file({"w": torch.ones(1)}, snapshot / "model.safetensors")
    assert find("clip-b32").path == snapshot


# -------------------------------------------------------------------------------------------- conversion


def test_conversion(cache, handi, tmp_path, monkeypatch):
    """A published file → safetensors where handi looks, the same numbers, its origin in the header."""
    # EgoVLP is told by its slots for frames alone
    tensors = {f"video_model.{k}": v for k, v in seeded(SpaceTimeTransformer(16, 16, 1, 2)).items()}
    path = tmp_path / "epic_mir_plus.pth"
    torch.save({"state_dict": {f"module.{k}": v for k, v in tensors.items()}, "epoch": 1}, path)
    code, _, err = handi("convert-weights", path)
    assert code == 0, err
    target = cache / "egovlp-epic.safetensors"
    assert str(target) in err
    written = load_file(target)
    assert written.keys() == tensors.keys()
    assert all(torch.equal(written[key], tensors[key]) for key in tensors)
    found = find("egovlp-epic")
    origin = hashlib.sha256(path.read_bytes()).hexdigest()
    assert f"converted from epic_mir_plus.pth {origin[:12]}" in found.note
    assert not [p for p in cache.iterdir() if p != target]
    # elsewhere
    assert convert(path, tmp_path / "folder")[0] == tmp_path / "folder" / "egovlp-epic.safetensors"
    assert convert(path, tmp_path / "x.safetensors")[0] == tmp_path / "x.safetensors"


def test_conversion_of_something_else(handi, tmp_path, cache):
    strange, wrong = tmp_path / "strange.pth", tmp_path / "pt_inception-2015-12-05-6726825d.pth"
    torch.save({"layer.weight": torch.ones(1)}, strange)
    # Inception by its names, not the published file
    torch.save({"Conv2d_1a_3x3.conv.weight": torch.ones(1), "fc.weight": torch.ones(1008, 2)}, wrong)
    code, _, err = handi("convert-weights", strange, wrong)
    assert code == 1
    lines = err.strip().splitlines()
    assert "none of the metrics' models" in lines[0]
    assert "6726825d0af5" in lines[1]
    assert len(lines) == 2
    assert not cache.exists()


def test_what_a_file_is():
    ones = torch.ones
    assert recognise({"video_model.temporal_embed": ones(1, 4, 2)}, "x").name == "egovlp-ego4d"
    captioner = {"text_decoder.cls.predictions.bias": ones(1)}
    for width, name in ((768, "blip-base"), (1024, "blip-large")):
        assert recognise({"visual_encoder.cls_token": ones(1, 1, width), **captioner}, "x").name == name
    clip = {"visual_projection.weight": ones(1)}
    kernel = "vision_model.embeddings.patch_embedding.weight"
    assert recognise({kernel: ones(1024, 3, 14, 14), **clip}, "x").name == "clip-l14"
    assert recognise({kernel: ones(768, 3, 32, 32), **clip}, "x").name == "clip-b32"
    with pytest.raises(ModelError, match="none of the metrics' models"):
        recognise({kernel: ones(768, 3, 16, 16), **clip}, "x")


def test_doctor_lists_every_file(cache, handi):
    cache.mkdir(parents=True)
    save_file({"w": torch.ones(1)}, cache / "egovlp-ego4d.safetensors")
    (cache / "vocab.txt").write_text("not the published words")
    code, out, _ = handi("doctor")
    assert code == 1  # a file that is there and wrong
    flat = "".join(out.split())
    for name, entry in CATALOGUE.items():
        assert f"weights:{name}" in flat
        assert entry.variable in flat or name in ("egovlp-ego4d", "bert-words")
    digest = hashlib.sha256((cache / "egovlp-ego4d.safetensors").read_bytes()).hexdigest()
    assert digest[:16] in flat
    assert str(check(CATALOGUE["egovlp-ego4d"], cache / "egovlp-ego4d.safetensors").path) in flat
    assert str(cache / "pt_inception-2015-12-05-6726825d.pth") in flat
