"""Small whole inputs of every kind, made once for all processes, and stand-ins for the networks that are not the subject."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import io
import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import av
import numpy as np
import torch
import yaml
from helpers.small_footage import movie, read_hands
from helpers.tiny_training import TINY, tiny_clip
from PIL import Image

from handi.core.images import write_image

SIDE = 32


class Materials:
    """Folders of inputs below `home`, each made when a process first asks for it, for all of them."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def __getattr__(self, name: str) -> Path:
        make = MAKERS.get(name)
        if make is None:
            raise AttributeError(name)
        folder = self.home / name
        self.home.mkdir(parents=True, exist_ok=True)
        with (self.home / f"{name}.lock").open("a+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            lock.seek(0)
            if lock.read() != "made":
                shutil.rmtree(folder, ignore_errors=True)  # of a process that died at it
                folder.mkdir()
                make(folder, self)
                lock.write("made")
        return folder

    def copy(self, name: str, target: Path) -> Path:
        """A copy of one of the folders, to be damaged."""
        return Path(shutil.copytree(getattr(self, name), target))


# ------------------------------------------------------------------------------------------ pictures


def _noise(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, shape, dtype=np.uint8)


def _pictures(folder: Path, _: Materials) -> None:
    small = Image.fromarray(_noise(0, 6, 8, 3)).resize((64, 48), Image.Resampling.BICUBIC)
    grey = small.convert("L")
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x011A] = 6, "camera", (72, 1)
    small.save(folder / "rgb.png")
    grey.save(folder / "grey.png")
    grey.point(lambda value: 255 * (value > 120)).convert("1").save(folder / "bits.png")
    small.convert("P").save(folder / "palette.png", transparency=3)
    small.convert("RGBA").save(folder / "alpha.png")
    small.convert("LA").save(folder / "grey_alpha.png")
    Image.fromarray(np.asarray(grey).astype(np.uint16) * 257).save(folder / "deep.png")
    Image.fromarray(np.asarray(grey).astype(np.float32) / 255).save(folder / "float.tiff")
    small.save(folder / "exif.jpg", exif=exif)
    small.convert("CMYK").save(folder / "cmyk.jpg")
    small.save(folder / "progressive.jpeg", progressive=True)
    small.save(folder / "lossy.webp")
    small.save(folder / "plain.bmp")
    small.save(folder / "packed.tif", compression="tiff_lzw")
    moving = [small, small.rotate(90), small.rotate(180)]
    for name in ("moving.gif", "moving.png", "moving.webp", "pages.tiff"):
        small.save(folder / name, save_all=True, append_images=moving)


def _odd_pictures(folder: Path, _: Materials) -> None:
    for width, height in ((1, 1), (31, 33), (33, 200), (129, 32), (32, 32), (2000, 3)):
        Image.fromarray(_noise(1, height, width, 3)).save(folder / f"{width}x{height}.png")


# -------------------------------------------------------------------------------------------- videos


def _videos(folder: Path, _: Materials) -> None:
    frames = np.repeat(_noise(2, 1, 8, 12, 3), 8, axis=0).repeat(4, axis=1).repeat(4, axis=2)
    for number, frame in enumerate(frames):
        frame[4:12, number : number + 8] = 255
    for name, codec, form in (
        ("h264.mp4", "libx264", "yuv420p"), ("mpeg4.avi", "mpeg4", "yuv420p"), ("vp8.webm", "libvpx", "yuv420p"),
        ("mjpeg.mov", "mjpeg", "yuvj420p"), ("ffv1.mkv", "ffv1", "yuv420p"), ("h264.mkv", "libx264", "yuv444p"),
    ):  # fmt: skip
        with av.open(str(folder / name), "w") as container:
            stream = container.add_stream(codec, rate=8)
            stream.width, stream.height, stream.pix_fmt = 48, 32, form
            for frame in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode())


# -------------------------------------------------------------------------------------------- models


def tiny_pipe() -> Any:
    """A pipeline of the `tiny` preset, fresh."""
    from handi.method.pipeline import HandiPipeline
    from handi.models import fresh

    parts = fresh.from_preset("tiny", ["Cut the carrot.", "Stir the soup."])
    pipe = HandiPipeline.from_checkpoint(replace(parts, source="random"))
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _model(folder: Path, _: Materials) -> None:
    folder.rmdir()
    tiny_pipe().save_pretrained(folder)


# ----------------------------------------------------------------------------------------- data sets


def _world(folder: Path, _: Materials) -> None:
    from handi.world.files import write_clip

    for seed in range(2):
        write_clip(folder, tiny_clip(seed), pictures="png")


def _footage(folder: Path, _: Materials) -> None:
    for name in ("one", "two"):
        movie(folder / f"{name}.mp4", frames=30, size=(32, 48))
        (folder / f"{name}.txt").write_text("Cut the carrot.\nSlice a carrot.\n")


def _shards(folder: Path, materials: Materials) -> None:
    quietly("prepare", "folder", materials.footage, "--out", folder, "--size", "32x32", "--executor", "serial",
            "--clips-per-shard", 1)  # fmt: skip


def _clips(folder: Path, materials: Materials) -> None:
    quietly("prepare", "world", materials.world, "--out", folder, "--executor", "serial")


def _sides(folder: Path, _: Materials) -> None:
    """Two sides of an evaluation, two videos of four frames each."""
    for side, seed in (("pred", 3), ("ref", 4)):
        for number in range(2):
            (folder / side).mkdir(exist_ok=True)
            np.save(folder / side / f"v{number}.npy", _noise(seed + number, 4, 24, 32, 3))
            mask = np.zeros((24, 32), bool)
            mask[4:16, 4:20] = True
            write_image(folder / side / "motion_area" / f"v{number}.png", mask)
        rows = [
            {"id": f"v{n}", "video": f"v{n}.npy", "area": f"motion_area/v{n}.png", "text": "Cut it."}
            for n in (0, 1)
        ]
        (folder / side / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        prompts = [{"id": f"v{n}", "action": "Cut it.", "enriched": "A hand cuts it."} for n in (0, 1)]
        (folder / side / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in prompts))


def _results(folder: Path, materials: Materials) -> None:
    sides = materials.sides
    quietly("evaluate", "--pred", sides / "pred", "--ref", sides / "ref", "--metrics", "pixels", "--resamples", 20,
            "--out", folder / "ours")  # fmt: skip
    shutil.rmtree(folder / "ours" / "features", ignore_errors=True)


def _recipe(folder: Path, _: Materials) -> None:
    content = json.loads(json.dumps(TINY))
    content["data"]["path"] = "clips"
    content["run"] |= {"out": "../out/run", "steps": 1, "validate_every": 0}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(content))


def _trained(folder: Path, materials: Materials) -> None:
    """A run of one step beside its clips."""
    shutil.copytree(materials.clips, folder / "clips")
    text = (materials.recipe / "recipe.yaml").read_text().replace("../out/run", "run")
    (folder / "recipe.yaml").write_text(text)
    with contextlib.chdir(folder):
        quietly("train", "recipe.yaml")


def _areas(folder: Path, materials: Materials) -> None:
    """Prepared clips with stage 1's areas beside them."""
    shutil.copytree(materials.shards, folder, dirs_exist_ok=True)
    quietly(*areas_of(materials.model, folder))


def areas_of(model: Path, data: Path) -> list[Any]:
    return [
        "areas",
        "--model",
        model,
        "--data",
        data,
        "--area-steps",
        1,
        "--area-guidance",
        1,
        "--device",
        "cpu",
    ]


def _lora(folder: Path, materials: Materials) -> None:
    from handi.method.pipeline import HandiPipeline
    from handi.models.lora import add_lora, save_lora

    network = HandiPipeline.from_pretrained(str(materials.model)).unet
    add_lora(network, 2, None, ("query",))
    save_lora(network, "unet", folder / "lora.safetensors")


def _hands(folder: Path, materials: Materials) -> None:
    """A finished `handi hands`, with a saved state of unfinished work beside it."""
    from handi.hands import report as hand_report

    settings = hand_report.HandSettings(flow=False)
    source = materials.videos / "mpeg4.avi"
    hand_report.report_hands(source, folder, settings, say=lambda line: None)
    (piece,) = hand_report.find_footage(source)
    job = hand_report.Job(piece, folder, settings, hand_report.HandDetector.from_pretrained())
    work = hand_report.Work()
    frames = [picture for _, picture in piece.frames()]
    work.add([0.0, 0.125], job.detector.detect(np.stack(frames[:2])), None)
    work.save(folder / ".unfinished.npz", job.key())


MAKERS = {
    "pictures": _pictures, "odd_pictures": _odd_pictures, "videos": _videos, "model": _model, "world": _world, "clips": _clips,
    "footage": _footage, "shards": _shards, "sides": _sides, "results": _results, "recipe": _recipe,
    "trained": _trained, "hands": _hands, "areas": _areas, "lora": _lora,
}  # fmt: skip


def quietly(*arguments: object) -> None:
    """A command that must work, in this process."""
    from handi.commands import app as cli

    said = io.StringIO()
    sys.argv = ["handi", *map(str, arguments)]
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            cli.main()
    except SystemExit as stop:
        if stop.code:
            raise RuntimeError(f"handi {' '.join(map(str, arguments))}: {said.getvalue()}") from None


# ----------------------------------------------------------------------------------------- stand-ins


class StillHands:
    """A detector that finds a hand in the middle of every bright frame: hands are never the subject here."""

    weights = SimpleNamespace(source="a stand-in")

    def detect(self, frames: Any, **_: Any) -> Any:
        return read_hands(np.asarray(frames))


@contextlib.contextmanager
def stand_ins() -> Iterator[None]:
    """One detector that needs no network, and one tiny pipeline for `--model random`, in every command.

    What is asked again for each case and never changes (versions of libraries, the device) is told from memory.
    """
    from handi.evaluation import run
    from handi.generation import record
    from handi.hands import HandDetector
    from handi.method.pipeline import HandiPipeline

    pipeline, pipe = HandiPipeline.from_pretrained, tiny_pipe()

    def one_pipe(model: Any, **options: Any) -> Any:
        return pipe if str(model) == "random" else pipeline(model, **options)

    known = functools.cache(version)
    with (
        patch.object(HandDetector, "from_pretrained", lambda *_, **__: StillHands()),
        patch.object(HandiPipeline, "from_pretrained", one_pipe),
        patch.object(HandiPipeline, "_execution_device", torch.device("cpu")),
        patch.object(record, "version", known),
        patch.object(run, "version", known),
    ):
        yield
