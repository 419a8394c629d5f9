"""The wheel as a user gets it: what is in it, and what it does without the extras and without pip."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from handi.core.errors import EXTRAS

ROOT = Path(__file__).parents[1]
# As if none of these were installed: the libraries of every extra, and pip.
WITHOUT = f"""
import importlib.machinery, os, runpy, sys
import handi
assert handi.__file__.startswith(os.environ["PYTHONPATH"]), handi.__file__
absent = {{*{sorted(EXTRAS)!r}, "llvmlite", "pip"}}
find = importlib.machinery.PathFinder.find_spec
importlib.machinery.PathFinder.find_spec = classmethod(
    lambda cls, name, *where: None if name.split(".")[0] in absent else find(name, *where)
)
runpy.run_module("handi", run_name="__main__")
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The built wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--wheel-dir",
        str(folder),
        str(ROOT),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("handi-*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """A folder that holds the wheel's content and nothing else."""
    folder = tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def handi(installed: Path, place: Path, *arguments: str) -> subprocess.CompletedProcess:
    """The wheel's command, with the core's libraries alone."""
    environment = {**os.environ, "PYTHONPATH": str(installed), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", WITHOUT, *arguments]
    return subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True)


def test_the_wheel_has_what_a_user_needs(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (metadata,) = (archive.read(name).decode() for name in names if name.endswith("/METADATA"))
    assets = (
        "example.png",
        "mini/handi.json",
        "hands/LICENSE",
        "hands/NOTICE",
        "hands/palm_detection_full.tflite",
    )
    for name in ("py.typed", "recipes/mini_stage2.yaml", *(f"assets/{asset}" for asset in assets)):
        assert f"handi/{name}" in names
    assert not any(name.startswith(("tests", "docs")) for name in names)
    assert "Requires-Python: >=3.11" in metadata
    core = [
        line for line in metadata.splitlines() if line.startswith("Requires-Dist") and "extra ==" not in line
    ]
    for name in ("numba", "scipy", "scikit-image", "pyarrow", "gradio"):
        assert not any(name in line for line in core)
    for extra in ("world", "data", "app", "ray", "train", "track", "all"):
        assert f"Provides-Extra: {extra}" in metadata


def test_the_core_generates_without_extras_and_without_pip(installed, tmp_path):
    done = handi(installed, tmp_path, "generate", "--image", "example", "--prompt", "Cut the carrot.",
                 "--steps", "1", "--out", "clip")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "clip/video.mp4").stat().st_size > 1000


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (("world", "--clips", "1", "--out", "world"), "world"),
        (("prepare", "folder", ".", "--out", "prepared"), "data"),
    ],
)
def test_a_command_names_the_extra_that_it_needs(installed, tmp_path, arguments, extra):
    done = handi(installed, tmp_path, *arguments)
    assert done.returncode == 1
    assert f"handi[{extra}]" in done.stderr.replace("data,world", "world")
    assert len(done.stderr.strip().splitlines()) == 1


def test_every_extra_that_an_error_names_exists(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = (archive.read(n).decode() for n in archive.namelist() if n.endswith("/METADATA"))
    for extras in EXTRAS.values():
        for extra in extras.split(","):
            assert f"Provides-Extra: {extra}" in metadata


@pytest.mark.parametrize("python", ["python3.11", "python3.12", "python3.13"])
def test_every_supported_python_reads_the_sources(python, tmp_path):
    """Where such an interpreter is here: whether it compiles every file. The suite runs under one of them."""
    found = shutil.which(python)
    if found is None or subprocess.run([found, "-c", ""], capture_output=True).returncode:
        found = sys.executable
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(tmp_path), "PYTHONPATH": ""}
    command = [found, "-W", "error", "-m", "compileall", "-q", "-f", str(ROOT / "src")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_version_is_said():
    done = subprocess.run([sys.executable, "-m", "handi", "--version"], capture_output=True, text=True)
    assert done.stdout.startswith("handi 0.")
