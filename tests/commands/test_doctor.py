"""`handi doctor`: says what is here, and how to fix what is not."""

from __future__ import annotations

import json
import sys

from handi.core import machine
from handi.models.inventory import COMPONENTS, models_found


def test_a_sound_machine(handi):
    code, out, _ = handi("doctor")
    assert code == 0
    for topic in ("torch", "diffusers", "cpu", "H.264", "hub cache", "random"):
        assert topic in out


def test_findings_as_json(handi, monkeypatch):
    monkeypatch.setattr(machine, "LIBRARIES", ("torch", "no-such-library"))
    code, out, _ = handi("doctor", "--json")
    assert code == 1
    findings = {finding["topic"]: finding for finding in json.loads(out)}
    assert findings["torch"]["ok"]
    assert findings["no-such-library"]["hint"] == "pip install no-such-library"


def test_a_missing_library_has_its_hint(handi, monkeypatch):
    monkeypatch.setattr(machine, "LIBRARIES", ("no-such-library",))
    code, out, _ = handi("doctor")
    assert code == 1
    assert "pip install no-such-library" in out


def test_a_library_that_breaks_transformers_is_found(handi, monkeypatch, tmp_path):
    (tmp_path / "torchvision.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    monkeypatch.syspath_prepend(str(tmp_path))
    code, out, _ = handi("doctor")
    sys.modules.pop("torchvision", None)
    assert code == 1
    assert "pip uninstall torchvision" in out


def test_models_in_the_hub_cache_are_listed(handi, monkeypatch, tmp_path):
    for name, folders in (("whole", [*COMPONENTS, "area_unet"]), ("half", ["unet", "vae"])):
        snapshot = tmp_path / f"models--me--{name}" / "snapshots" / ("0" * 40)
        for folder in folders:
            (snapshot / folder).mkdir(parents=True)
            (snapshot / folder / "config.json").write_text("{}")
        (tmp_path / f"models--me--{name}" / "refs").mkdir()
        (tmp_path / f"models--me--{name}" / "refs/main").write_text("0" * 40)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    findings = [f for f in models_found() if f.topic == "model" and "me/" in f.text]
    assert [(f.ok, f.text) for f in findings] == [
        (False, "me/half: incomplete, no text_encoder, tokenizer, scheduler"),
        (True, "me/whole, both stages"),
    ]
