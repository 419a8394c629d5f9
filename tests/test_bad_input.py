"""Bad input of every kind: one line that names it, exit code 1, no traceback, nothing half-written."""

from __future__ import annotations

import errno
import json
import struct
import zlib
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.small_footage import clip_of, movie, simple_tools

from handi.core.errors import HandiError, InputError, OutputError, item_failure
from handi.core.executors import Serial
from handi.core.files import writing
from handi.core.images import open_image, write_image
from handi.core.inputs import check_clip, check_numbers, check_prompt
from handi.core.video import read_video, write_video
from handi.data.prepare import write_shards
from handi.data.sources.common import SourceClips
from handi.data.stages import PrepareSettings
from handi.generation import batch as batching
from handi.generation import run as generating
from handi.hands import report as hand_report
from handi.world import rendering

HUGE = 10**9


def refused(result: tuple[int, str, str], *words: str) -> None:
    code, _, err = result
    assert code in (1, 2), err
    assert "Traceback" not in err
    assert "unexpected" not in err
    for word in words:
        assert word in err, err


# ------------------------------------------------------------------------------------------- command


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--frames", HUGE), ("frames", "use 2 to 1024")),
        (("--size", "1000000x1000000"), ("megapixels", "smaller size")),
        (("--size", "9" * 5000 + "x64"), ("--size",)),
        (("--steps", HUGE), ("denoising steps", "at most")),
        (("--area-steps", HUGE), ("stage 1",)),
        (("--seed", 2**70), ("the seed has 71 bits",)),
        (("--motion", "nan"), ("motion is nan",)),
        (("--guidance", "inf"), ("guidance",)),
        (("--device", "cuda:99"), ("no device 'cuda:99'",)),
        (("--device", "cuda:x"), ("no device",)),
        (("--image", "n" * 5000), ("n" * 100,)),
        (("--mask", "m" * 5000), ("m" * 100,)),
        (("--model", "m" * 5000), ("m" * 100,)),
        (("--model", "no/such/folder"), ("no such model folder",)),
        (("--prompt", "Cut \udcff it."), ("half a character",)),
    ],
)  # fmt: skip
def test_generate_refuses_before_it_loads_anything(options, words, handi, picture, tmp_path, monkeypatch):
    monkeypatch.setattr(generating, "Runner", None)  # what would load the model
    given = {"--image": picture, "--prompt": "Cut.", "--out": tmp_path / "out", "--model": "random"}
    given |= {options[0]: options[1]}
    refused(handi("generate", *(word for pair in given.items() for word in pair)), *words)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("world", "--clips", 2 * HUGE), ("world", "--clips", 10**30), ("world", "--seed", 10**30),
        ("world", "--size", HUGE), ("prepare", "folder", ".", "--size", f"{HUGE}x{HUGE}"),
        ("prepare", "folder", "n" * 5000), ("hands", "n" * 5000), ("report", "n" * 5000),
        ("train", "n" * 5000), ("train", "mini_vae", "--optim.batch", HUGE),
        ("train", "mini_vae", "--optim.batch", "9" * 400), ("train", "mini_vae", "--data.frames", HUGE),
        ("train", "mini_vae", "--run.steps", "9" * 400), ("train", "mini_vae", "--optim.lr", "nan"),
        ("train", "mini_vae", "--data.size", f"[{16 * HUGE}, 16]"),
        ("evaluate", "--pred", "n" * 5000, "--ref", "."),
        ("bench", "table1", "--data", ".", "--methods", "static", "--runs", HUGE),
        ("bench", "table2", "--data", "n" * 5000, "--methods", "static"),
        ("bench", "table2", "--data", "../x=.", "--methods", "static"),
        ("bench", "table2", "--data", ".", "--methods", "..=static"),
        ("gallery", "--methods", "n" * 5000),
    ],
)  # fmt: skip
def test_other_commands_refuse_by_name(arguments, handi, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    out = () if arguments[0] in ("train", "report") else ("--out", tmp_path / "out")
    refused(handi(*arguments, *out))
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "runs").exists()


def test_a_model_is_missed_before_another_one_writes_prompts(picture, tmp_path, monkeypatch, handi):
    monkeypatch.setattr(generating, "open_enricher", None)
    refused(handi("generate", "--image", picture, "--prompt", "Cut.", "--model", tmp_path, "--enrich", "x",
                  "--out", tmp_path / "out"), "has no unet/")  # fmt: skip


def test_what_a_training_starts_from_is_missed_before_clips_are_packed(tmp_path, monkeypatch, handi):
    from handi.training import setup

    monkeypatch.setattr(setup, "open_data", None)
    refused(handi("train", "folder_lora", "--data.path", tmp_path, "--model.init", tmp_path / "gone",
                  "--run.device", "cpu", "--run.out", tmp_path / "run"), "no such model folder")  # fmt: skip


# ------------------------------------------------------------------------------------------ the items


def test_any_exception_is_the_items_own_unless_the_disk_is_full(tmp_path):
    failure = item_failure(KeyError("joints"), "clip 3")
    assert isinstance(failure, HandiError)
    assert str(failure) == "clip 3: KeyError: 'joints'"
    for number, stops in ((errno.ENOSPC, True), (errno.EROFS, True), (errno.EACCES, False)):
        with pytest.raises(OutputError) as found, writing(tmp_path):
            raise OSError(number, "no")
        assert found.value.everywhere is stops
        if stops:
            with pytest.raises(OutputError):
                item_failure(found.value, "clip 3")
        else:
            assert "clip 3" in str(item_failure(found.value, "clip 3"))


def test_a_batch_goes_on_after_any_exception(picture, tmp_path, monkeypatch, handi):
    lines = [{"image": str(picture), "prompt": prompt, "id": prompt} for prompt in ("a", "b", "c")]
    batch = tmp_path / "batch.jsonl"
    batch.write_text("".join(json.dumps(line) + "\n" for line in lines))
    made = []

    class Runner:
        def __init__(self, settings, device):
            pass

        def run(self, requests, folders, descriptions, *, watch):
            if requests[0].id == "b":
                raise IndexError("of a network")
            made.append(requests[0].id)

    monkeypatch.setattr(batching, "Runner", Runner)
    result = handi("generate", "--batch", batch, "--model", "random", "--out", tmp_path / "out")
    assert result[0] == 1
    assert made == ["a", "c"]
    assert "request 'b': IndexError: of a network" in result[2]
    assert "2 of 3 clips" in result[2]


def test_a_folder_of_footage_goes_on_after_any_exception(tmp_path, monkeypatch, handi):
    for name in ("a", "B", "c"):
        write_image(tmp_path / "in" / f"{name}.png", np.zeros((8, 8 if name == "a" else 9, 3), np.uint8))
    done = []

    class Job:
        def __init__(self, footage, folder, settings, detector):
            self.footage, self.folder = footage, folder

        def run(self):
            if self.footage.path.name == "B.png":
                raise ZeroDivisionError("odd")
            done.append(self.folder.name)
            return "fine"

    monkeypatch.setattr(hand_report, "Job", Job)
    monkeypatch.setattr(hand_report.HandDetector, "from_pretrained", lambda *_, **__: SimpleNamespace())
    code, _, err = handi("hands", tmp_path / "in", "--out", tmp_path / "out")
    assert code == 1
    assert done == ["a", "c"]
    assert "B.png: ZeroDivisionError: odd" in err


def test_the_world_goes_on_after_any_exception(tmp_path, monkeypatch):
    def broken(seed, **look):
        raise ArithmeticError(f"of {seed}")

    monkeypatch.setattr(rendering, "render_clip", broken)
    failures = rendering.render_folder(tmp_path, clips=2, seed=0, settings=rendering.WorldSettings(32))
    assert failures == ["seed 0: ArithmeticError: of 0", "seed 1: ArithmeticError: of 1"]


def test_prepare_goes_on_after_any_exception_and_says_so(tmp_path):
    video = movie(tmp_path / "film.mp4", 20)
    clips = [clip_of(video, name) for name in ("a", "b", "c")]
    calls = []

    def tools(number):
        right = simple_tools(number)

        def detect(frames):
            calls.append(len(frames))
            if len(calls) == 2:
                raise AttributeError("of a detector")
            return right.detect(frames)

        return type(right)(detect)

    summary = write_shards(
        SourceClips(clips), tmp_path / "out", PrepareSettings(size=(32, 32)), tools, Serial()
    )
    (counts,) = summary["splits"].values()
    assert (counts["kept"], counts["failed"]) == (2, 1)
    rows = [json.loads(line) for line in (tmp_path / "out" / "ledger.jsonl").read_text().splitlines()]
    assert rows[1]["reason"] == "handi failed on it: AttributeError: of a detector"


# ---------------------------------------------------------------------------------------- big and odd


def bomb(width: int, height: int) -> bytes:
    """A PNG whose header announces a huge picture."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    )


def test_a_decompression_bomb_is_refused_by_its_header(tmp_path):
    path = tmp_path / "bomb.png"
    path.write_bytes(bomb(60_000, 60_000))
    with pytest.raises(InputError, match=r"bomb\.png: has more than \d+ megapixels"):
        open_image(path)


def test_a_video_that_fits_in_no_memory_is_refused_on_the_way(tmp_path, monkeypatch):
    path = tmp_path / "long.mp4"
    write_video(path, np.zeros((9, 16, 16, 3), np.uint8))
    monkeypatch.setattr("handi.core.video.MAX_BYTES", 5 * 16 * 16 * 3)
    with pytest.raises(InputError, match="longer than fits in memory: 5 frames"):
        read_video(path)


def test_frames_that_change_their_size_are_said(tmp_path, monkeypatch):
    frames = [np.zeros((16, 16, 3), np.uint8), np.zeros((16, 24, 3), np.uint8)]
    monkeypatch.setattr("handi.core.video.read_frames", lambda path: iter(frames))
    with pytest.raises(InputError, match="change their size from 16×16 to 24×16"):
        read_video(tmp_path / "odd.ts")


def test_numbers_and_texts_that_nothing_can_be_made_of():
    for frames in (-1, 1, HUGE, 2**70):
        with pytest.raises(InputError, match="a clip of"):
            check_numbers(frames=frames)
    with pytest.raises(InputError, match="megapixels"):
        check_clip(16, 10**6, 10**6)
    check_clip(81, 1088, 1920)
    for prompt in ("a\0b", "a\ud800b"):
        with pytest.raises(InputError, match="at place 2"):
            check_prompt(prompt)
    with pytest.raises(InputError, match="is empty"):
        check_prompt(" ")
