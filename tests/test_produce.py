"""Clips to shards: the same bytes whoever works and whatever is killed; one clear word for each mishap."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from small_footage import DEADLY, clip_of, content, deadly_tools, movie, simple_tools, stillborn_tools
from tiny_training import start

from handi.data import shards
from handi.data.executors import Processes, Ray, Serial, executor
from handi.data.ledger import read_rows
from handi.data.prepare import Settings
from handi.data.produce import make_plan, produce
from handi.data.sources.common import Found
from handi.errors import HandiError, InputError, OutputError

SETTINGS = Settings(size=(32, 32), clips_per_shard=3)


def clips_in(home: Path) -> Found:
    """20 clips of one video in two splits, and two bad ones."""
    splits = ("train", "train", "test")
    clips = [
        clip_of(home / "a.mp4", f"a.{n:02d}", start=n / 4, end=n / 4 + 3, split=splits[n % 3])
        for n in range(20)
    ]
    bad = [clip_of(home / "dark.mp4", split="val"), clip_of(home / "broken.mp4")]
    return Found([*reversed(clips), *bad], ["one thing about the whole"])


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    home = tmp_path_factory.mktemp("footage")
    movie(home / "a.mp4", frames=100)
    movie(home / "dark.mp4", brightness=0)
    (home / "broken.mp4").write_bytes(b"nothing")
    return clips_in(home)


@pytest.fixture(scope="module")
def whole(found, tmp_path_factory):
    """An undisturbed run."""
    out = tmp_path_factory.mktemp("whole") / "out"
    produce(found, out, SETTINGS, simple_tools, Serial())
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
        assert json.loads(shards.read_piece(whole, row, check=True)["json"])["id"] == row["id"]
    assert not list(whole.rglob(".*"))
    assert not (whole / "shards" / "val-00000.tar").exists()  # it would be empty


@pytest.mark.parametrize("workers", [1, 3])
def test_processes_give_the_same_bytes(found, whole, tmp_path, workers):
    produce(found, tmp_path / "out", SETTINGS, simple_tools, Processes(workers))
    assert content(tmp_path / "out") == content(whole)


def test_a_local_ray_gives_the_same_bytes(found, whole, tmp_path):
    pytest.importorskip("ray.data", reason="needs handi[ray]")
    produce(found, tmp_path / "out", SETTINGS, simple_tools, Ray(2))
    assert content(tmp_path / "out") == content(whole)


def test_a_source_in_another_order_gives_the_same_bytes(found, whole, tmp_path):
    shuffled = replace(found, clips=random.Random(1).sample(found.clips, len(found.clips)))
    produce(shuffled, tmp_path / "out", SETTINGS, simple_tools, Serial())
    assert content(tmp_path / "out") == content(whole)


# ------------------------------------------------------------------------------------------- kills


def go_on(home: Path, out: Path) -> subprocess.Popen[str]:
    """A run of its own, in a session of its own, so that all of it can be killed at once."""
    return start(__file__, home, out, start_new_session=True)


@pytest.mark.timeout(900)  # of a machine that is busy: it starts ten processes
def test_kill_9_at_random_points_leaves_no_trace(found, whole, tmp_path):
    home, out = Path(found.clips[0].video).parent, tmp_path / "out"
    chance = random.Random(0)
    unfinished = 0
    for _ in range(3):
        run = go_on(home, out)
        deadline = time.monotonic() + 120
        while not list(out.glob("shards/.*.tar")) and run.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(chance.uniform(0, 0.05))
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
        unfinished += not (out / shards.PREPARED).exists()
        if not (out / shards.PREPARED).exists():
            with pytest.raises(InputError, match=r"not finished|holds no prepared"):
                shards.read_prepared(out)
    assert unfinished >= 2, "too few were killed in the midst of it to prove anything"
    run = go_on(home, out)
    assert run.wait(600) == 0, run.stdout.read()
    assert content(out) == content(whole)


def test_a_cut_off_shard_is_made_anew(found, whole, tmp_path):
    out = tmp_path / "out"
    produce(found, out, SETTINGS, simple_tools, Serial())
    for name in ("train-00001.tar", "train-00002.jsonl"):
        data = (out / "shards" / name).read_bytes()
        (out / "shards" / name).write_bytes(data[: len(data) // 2])
    (out / "shards" / "train-00003.tar").unlink()
    produce(found, out, SETTINGS, simple_tools, Serial())
    assert content(out) == content(whole)


# ---------------------------------------------------------------------------------- what goes wrong


def test_a_clip_that_kills_its_workers_is_rejected_and_costs_no_other(tmp_path):
    good, bad = movie(tmp_path / "good.mp4"), movie(tmp_path / "bad.mp4", brightness=DEADLY)
    clips = [clip_of(good, f"good{n}") for n in range(4)] + [clip_of(bad, "good1.deadly")]
    produce(Found(clips), tmp_path / "out", SETTINGS, deadly_tools, Processes(2))
    rows = {row["id"]: row["reason"] for row in read_rows(tmp_path / "out" / shards.LEDGER)}
    assert rows.pop("good1.deadly") == "the worker died on it, 3 times"
    assert rows == {f"good{n}": None for n in range(4)}


def test_workers_that_die_at_their_start_end_the_run(found, tmp_path):
    with pytest.raises(HandiError, match=r"die before their first clip \(signal 9, SIGKILL\)"):
        produce(found, tmp_path / "out", SETTINGS, stillborn_tools, Processes(2))


def test_a_changed_video_is_prepared_anew_and_nothing_else(tmp_path):
    a, b = movie(tmp_path / "a.mp4"), movie(tmp_path / "b.mp4")
    clips = [clip_of(a, f"a{n}") for n in range(3)] + [clip_of(b, f"b{n}") for n in range(3)]
    out = tmp_path / "out"
    first = produce(Found(clips), out, SETTINGS, simple_tools, Serial())
    kept = (out / "shards" / "train-00000.tar").stat().st_mtime_ns
    movie(tmp_path / "b.mp4", frames=30, brightness=150)
    second = produce(Found(clips), out, SETTINGS, simple_tools, Serial())
    assert first["splits"]["train"]["sha256"] != second["splits"]["train"]["sha256"]
    assert (out / "shards" / "train-00000.tar").stat().st_mtime_ns == kept
    third = produce(Found(clips[:2]), out, SETTINGS, simple_tools, Serial())
    assert third["splits"]["train"]["kept"] == 2
    assert not (out / "shards" / "train-00001.tar").exists()


def test_folders_that_cannot_be_used(found, whole, tmp_path):
    with pytest.raises(InputError, match=r"other settings: hull hand, not all"):
        produce(found, whole, replace(SETTINGS, hull="all"), simple_tools, Serial())
    (tmp_path / "photo.jpg").write_bytes(b"mine")
    with pytest.raises(InputError, match="holds other files"):
        produce(found, tmp_path, SETTINGS, simple_tools, Serial())
    with pytest.raises((InputError, OutputError), match=r"photo\.jpg"):
        produce(found, tmp_path / "photo.jpg" / "out", SETTINGS, simple_tools, Serial())
    with pytest.raises(InputError, match="is a file"):
        produce(found, tmp_path / "photo.jpg", SETTINGS, simple_tools, Serial())
    assert (tmp_path / "photo.jpg").read_bytes() == b"mine"
    twice = Found([found.clips[0], found.clips[0]])
    with pytest.raises(InputError, match="two clips have the id"):
        make_plan(twice.clips, SETTINGS)
    with pytest.raises(InputError, match="use serial, processes or ray"):
        executor("threads", 2)


def test_two_runs_do_not_work_in_one_folder(found, tmp_path):
    class Nosy:
        def run(self, build, pieces):
            with pytest.raises(InputError, match="another handi prepare is at work"):
                produce(found, tmp_path / "out", SETTINGS, simple_tools, Serial())
            yield from Serial().run(build, pieces)

    produce(found, tmp_path / "out", SETTINGS, simple_tools, Nosy())


@pytest.mark.parametrize("kind", ["serial", "processes"])
def test_a_full_disk_is_one_clear_error_and_leaves_no_half_shard(found, whole, tmp_path, kind):
    home, out = Path(found.clips[0].video).parent, tmp_path / "out"
    run = start(__file__, home, out, kind, 8000)
    message = run.communicate(timeout=240)[0].strip().splitlines()[-1]
    assert run.returncode == 1
    assert "cannot be written (File too large); free some space" in message
    assert not list(out.glob("shards/*.tar"))
    produce(found, out, SETTINGS, simple_tools, Serial())
    assert content(out) == content(whole)


if __name__ == "__main__":  # a run in a process of its own: HOME OUT [EXECUTOR [LARGEST FILE]]
    arguments = sys.argv[3:]
    if arguments[1:]:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(arguments[1]), int(arguments[1])))
    kind = arguments[0] if arguments else "processes"
    try:
        produce(clips_in(Path(sys.argv[1])), Path(sys.argv[2]), SETTINGS, simple_tools, executor(kind, 2))
    except HandiError as error:
        sys.exit(f"error: {error}")
