"""Clips to shards: the same bytes whoever works and whatever is killed; one clear word for each mishap."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import time
from collections.abc import Callable
from dataclasses import replace

import cv2
import pytest
import torch
from helpers.alone import alone
from helpers.small_footage import DEADLY, clip_of, content, deadly_tools, movie, read_hands, simple_tools

from handi.core.errors import InputError, ModelError, OutputError
from handi.core.executors import Processes, Ray, Serial
from handi.data import shards
from handi.data.ledger import read_rows
from handi.data.plan import make_plan
from handi.data.prepare import write_shards
from handi.data.shard_writer import TRIES, Done
from handi.data.sources import read_source
from handi.data.sources.common import SourceClips
from handi.data.stages import PrepareSettings, Tools

SETTINGS = PrepareSettings(size=(32, 32), clips_per_shard=3)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """20 clips of one video in two splits, and two bad ones."""
    home = tmp_path_factory.mktemp("footage")
    video = movie(home / "a.mp4", frames=100)
    dark = movie(home / "dark.mp4", brightness=0)
    (home / "broken.mp4").write_bytes(b"nothing")
    splits = ("train", "train", "test")
    clips = [clip_of(video, f"a.{n:02d}", start=n / 4, end=n / 4 + 3, split=splits[n % 3]) for n in range(20)]
    bad = [clip_of(dark, split="val"), clip_of(home / "broken.mp4")]
    return SourceClips([*reversed(clips), *bad], ["one thing about the whole"])


@pytest.fixture(scope="module")
def whole(found, tmp_path_factory):
    """An undisturbed run."""
    out = tmp_path_factory.mktemp("whole") / "out"
    write_shards(found, out, SETTINGS, simple_tools, Serial())
    return out


def test_every_clip_has_one_line_and_every_kept_one_a_place(found, whole):
    rows = list(read_rows(whole / shards.LEDGER))
    assert sorted(row["id"] for row in rows) == sorted(clip.id for clip in found.clips)
    reasons = {row["id"]: row["reason"] for row in rows if row["status"] == "rejected"}
    assert reasons.keys() == {"dark", "broken"}
    assert reasons["dark"] == "no hands were found"
    about = shards.read_prepared(whole)
    assert {name: (split["kept"], split["rejected"]) for name, split in about["splits"].items()} == {
        "test": (6, 0), "train": (14, 1), "val": (0, 1)
    }  # fmt: skip
    assert about["notes"] == found.notes
    index = shards.read_clip_rows(whole).to_pylist()
    kept = [row for row in rows if row["status"] == "kept"]
    assert [row["id"] for row in index] == [row["id"] for row in kept]
    places = [[row[name] for name in shards.PLACE] for row in index]
    assert places == [[row[name] for name in shards.PLACE] for row in kept]
    for row in index:
        assert json.loads(shards.read_piece(whole, row)["json"])["id"] == row["id"]
    assert not list(whole.rglob(".*"))
    assert not (whole / "shards" / "val-00000.tar").exists()  # it would be empty


@pytest.mark.timeout(900)  # of a busy machine: each worker loads torch
def test_processes_give_the_same_bytes(found, whole, tmp_path):
    write_shards(found, tmp_path / "out", SETTINGS, simple_tools, Processes(3))
    assert content(tmp_path / "out") == content(whole)


@pytest.mark.timeout(900)
def test_a_local_ray_gives_the_same_bytes(found, whole, tmp_path):
    write_shards(found, tmp_path / "out", SETTINGS, simple_tools, Ray(2))
    assert content(tmp_path / "out") == content(whole)


def test_a_source_in_another_order_gives_the_same_bytes(found, whole, tmp_path):
    shuffled = replace(found, clips=random.Random(1).sample(found.clips, len(found.clips)))
    write_shards(shuffled, tmp_path / "out", SETTINGS, simple_tools, Serial())
    assert content(tmp_path / "out") == content(whole)


# ------------------------------------------------------------------------------------------- kills


def child(work: Callable[[], object]) -> int:
    """A process of its own that does the work; one that dies on its own exits with 0, else with 1."""
    if pid := os.fork():
        return pid
    status = 1
    try:
        work()
        status = 0
    finally:
        os._exit(status)


@alone
def test_ten_kills_at_random_points_of_two_hundred_clips_leave_no_trace(tmp_path):
    video = movie(tmp_path / "a.mp4", frames=40, size=(32, 32))
    clips = [clip_of(video, f"a{n}", start=(n % 20) / 10, split=("train", "val")[n % 2]) for n in range(200)]
    found = SourceClips([*clips, clip_of(tmp_path / "gone.mp4")])
    settings = replace(SETTINGS, clips_per_shard=8, camera="ignore")
    begin = time.monotonic()
    write_shards(found, tmp_path / "whole", settings, simple_tools, Serial())
    seconds = time.monotonic() - begin
    whole, out = content(tmp_path / "whole"), tmp_path / "out"
    chance = random.Random(0)
    seen = []
    for _ in range(10):
        pid = child(lambda: write_shards(found, out, settings, simple_tools, Serial()))
        time.sleep(chance.uniform(0, seconds / 6))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        shards_now = [name for name in content(out) if name.endswith(".tar")] if out.exists() else []
        seen.append((len(shards_now), any("/." in name for name in shards_now)))
        if (out / shards.PREPARED).exists():
            assert content(out) == whole
    assert sum(half for _, half in seen) >= 3, f"too few were killed in the midst of a shard: {seen}"
    write_shards(found, out, settings, simple_tools, Serial())
    assert content(out) == whole
    rows = [row["id"] for row in read_rows(out / shards.LEDGER)]
    assert len(rows) == len(set(rows)) == 201


def test_a_cut_off_shard_is_made_anew(found, whole, tmp_path):
    out = tmp_path / "out"
    write_shards(found, out, SETTINGS, simple_tools, Serial())
    for name in ("train-00001.tar", "train-00002.jsonl"):
        data = (out / "shards" / name).read_bytes()
        (out / "shards" / name).write_bytes(data[: len(data) // 2])
    (out / "shards" / "train-00003.tar").unlink()
    write_shards(found, out, SETTINGS, simple_tools, Serial())
    assert content(out) == content(whole)


# ---------------------------------------------------------------------------------- what goes wrong


@alone
def test_a_clip_that_kills_its_workers_is_rejected_and_costs_no_other(tmp_path):
    good, bad = movie(tmp_path / "good.mp4"), movie(tmp_path / "bad.mp4", brightness=DEADLY)
    clips = [clip_of(good, f"good{n}") for n in range(4)] + [clip_of(bad, "good1.deadly")]

    class Replaced:
        """An executor whose workers die, and are replaced in the same run."""

        deaths = 0

        def run(self, build, pieces):
            for piece in pieces:
                while os.waitpid(child(lambda piece=piece: build(0)(piece)), 0)[1]:
                    self.deaths += 1
                yield Done(piece.name, 4, 1)

    executor = Replaced()
    write_shards(
        SourceClips(clips), tmp_path / "out", replace(SETTINGS, clips_per_shard=5), deadly_tools, executor
    )
    assert executor.deaths == TRIES
    rows = {row["id"]: row["reason"] for row in read_rows(tmp_path / "out" / shards.LEDGER)}
    assert rows.pop("good1.deadly") == "the worker died on it, 3 times"
    assert rows == {f"good{n}": None for n in range(4)}


def test_a_changed_video_is_prepared_anew_and_nothing_else(tmp_path):
    a, b = movie(tmp_path / "a.mp4"), movie(tmp_path / "b.mp4")
    clips = [clip_of(a, f"a{n}") for n in range(3)] + [clip_of(b, f"b{n}") for n in range(3)]
    out = tmp_path / "out"
    first = write_shards(SourceClips(clips), out, SETTINGS, simple_tools, Serial())
    kept = (out / "shards" / "train-00000.tar").stat().st_mtime_ns
    movie(tmp_path / "b.mp4", frames=30, brightness=150)
    second = write_shards(SourceClips(clips), out, SETTINGS, simple_tools, Serial())
    assert first["splits"]["train"]["sha256"] != second["splits"]["train"]["sha256"]
    assert (out / "shards" / "train-00000.tar").stat().st_mtime_ns == kept
    third = write_shards(SourceClips(clips[:2]), out, SETTINGS, simple_tools, Serial())
    assert third["splits"]["train"]["kept"] == 2
    assert not (out / "shards" / "train-00001.tar").exists()


def test_folders_that_cannot_be_used(found, whole, tmp_path):
    with pytest.raises(InputError, match=r"other settings: hull hand, not all"):
        write_shards(found, whole, replace(SETTINGS, hull="all"), simple_tools, Serial())
    (tmp_path / "photo.jpg").write_bytes(b"mine")
    with pytest.raises(InputError, match="holds other files"):
        write_shards(found, tmp_path, SETTINGS, simple_tools, Serial())
    with pytest.raises((InputError, OutputError), match=r"photo\.jpg"):
        write_shards(found, tmp_path / "photo.jpg" / "out", SETTINGS, simple_tools, Serial())
    with pytest.raises(InputError, match="is a file"):
        write_shards(found, tmp_path / "photo.jpg", SETTINGS, simple_tools, Serial())
    assert (tmp_path / "photo.jpg").read_bytes() == b"mine"
    twice = SourceClips([found.clips[0], found.clips[0]])
    with pytest.raises(InputError, match="two clips have the id"):
        make_plan(twice.clips, SETTINGS)
    with pytest.raises(InputError, match="use 1 to 65535"):
        make_plan(found.clips, replace(SETTINGS, clips_per_shard=65536))


def test_settings_that_kept_nothing_can_be_changed(found, whole, tmp_path):
    """A model that cannot be used stops a run at its first clip: the right one must be able to go on."""

    def broken(number):
        raise ModelError("is not there", where="a model")

    out = tmp_path / "out"
    wrong = replace(SETTINGS, models={"enrich": "a name with a slip"}, hull="all")
    with pytest.raises(ModelError):
        write_shards(found, out, wrong, broken, Serial())
    write_shards(found, out, SETTINGS, simple_tools, Serial())
    assert content(out) == content(whole)


def test_a_shard_with_a_damaged_sum_of_areas_is_made_anew(found, whole, tmp_path):
    """Running again is what the error says; a part that is taken for whole would fail there again."""
    out = tmp_path / "out"
    write_shards(found, out, SETTINGS, simple_tools, Serial())
    part = out / "shards" / "train-00001.jsonl"
    head, lines = part.read_text().split("\n", 1)
    areas = json.loads(head)["areas"]
    flipped = areas[:90] + ("0" if areas[90] != "0" else "1") + areas[91:]
    part.write_text(head.replace(areas, flipped) + "\n" + lines)
    with pytest.raises(InputError, match=r"train-00001\.jsonl: is damaged"):
        shards.read_part(out, "train-00001")
    write_shards(found, out, SETTINGS, simple_tools, Serial())
    assert content(out) == content(whole)


def test_names_and_words_that_are_no_utf8_cost_no_run(tmp_path):
    video = movie(tmp_path / "a.mp4").rename(os.fsdecode(bytes(tmp_path / "caf") + b"\xe9.mp4"))
    table = [
        {"caption": "Cut it \ud83d.", "video": video.name},
        {"caption": "Peel it.", "video": "n\udce9.mp4"},
    ]
    (tmp_path / "list.json").write_text(json.dumps(table))
    found = read_source("json", tmp_path / "list.json")
    write_shards(found, tmp_path / "out", SETTINGS, simple_tools, Serial())
    good, bad = read_rows(tmp_path / "out" / shards.LEDGER)
    assert (good["action"], good["video"], good["status"]) == ("Cut it ?.", "caf?.mp4", "kept")
    assert bad["reason"] == "there is no video n?.mp4"


def test_a_worker_computes_on_one_thread_and_gives_them_back(found, tmp_path):
    before = cv2.getNumThreads(), torch.get_num_threads()

    def tools(number):
        def detect(frames):
            assert (cv2.getNumThreads(), torch.get_num_threads()) == (1, 1)
            return read_hands(frames)

        return Tools(detect)

    write_shards(replace(found, clips=found.clips[:1]), tmp_path / "out", SETTINGS, tools, Serial())
    assert (cv2.getNumThreads(), torch.get_num_threads()) == before


def test_two_runs_do_not_work_in_one_folder(found, tmp_path):
    class Nosy:
        def run(self, build, pieces):
            with pytest.raises(InputError, match="another handi prepare is at work"):
                write_shards(found, tmp_path / "out", SETTINGS, simple_tools, Serial())
            yield from Serial().run(build, pieces)

    write_shards(found, tmp_path / "out", SETTINGS, simple_tools, Nosy())


def test_a_full_disk_is_one_clear_error_and_leaves_no_half_shard(found, whole, tmp_path):
    out = tmp_path / "out"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (8000, before[1]))  # what a disk that is full answers
        with pytest.raises(OutputError, match=r"cannot be written \(File too large\); free some space"):
            write_shards(found, out, SETTINGS, simple_tools, Serial())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert not list(out.glob("shards/*.tar"))
    with pytest.raises(InputError, match="not finished"):
        shards.read_prepared(out)
    write_shards(found, out, SETTINGS, simple_tools, Serial())
    assert content(out) == content(whole)
