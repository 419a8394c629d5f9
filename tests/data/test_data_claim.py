"""One run at a time in a folder, whose settings can be changed as long as it holds no clip."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from handi.core.errors import InputError
from handi.data.claim import HOLDER, LOCK, WORK, claimed

SETTINGS = {"size": [32, 32], "camera": "measure"}
CHILD = """
import sys, time
from pathlib import Path
from handi.data.claim import claimed
with claimed(Path(sys.argv[1]), {"size": [32, 32], "camera": "measure"}):
    print("in", flush=True)
    time.sleep(600)
"""


@pytest.fixture(params=["flock", "none"])
def locks(request, monkeypatch):
    """A file system with locks, and one without."""

    def unknown(*_):
        raise OSError(errno.ENOTSUP, "Operation not supported")

    if request.param == "none":
        monkeypatch.setattr(fcntl, "flock", unknown)
    return request.param


def test_a_second_run_is_told_the_folder_and_who_is_at_work(tmp_path, locks):
    out = tmp_path / "out"
    with claimed(out, SETTINGS):
        with pytest.raises(InputError) as error, claimed(out, SETTINGS):
            pass
        said = str(error.value)
        assert said.startswith(f"{out}: another handi prepare is at work here (process {os.getpid()} on ")
        assert "wait for it, stop it" in said
    assert [path.name for path in out.iterdir() if path.name.startswith(".")] == []
    with claimed(out, SETTINGS):
        pass


def test_a_run_that_was_killed_lets_go(tmp_path):
    out = tmp_path / "out"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(out)], stdout=subprocess.PIPE, text=True, env=environment
    )
    with child:
        assert child.stdout.readline() == "in\n"
        with pytest.raises(InputError, match=f"process {child.pid} on "), claimed(out, SETTINGS):
            pass
        child.send_signal(signal.SIGKILL)
    with claimed(out, SETTINGS):
        pass


def test_without_locks_a_dead_holder_does_not_block_and_one_elsewhere_does(tmp_path, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSYS, "none")))
    out = tmp_path / "out"
    with claimed(out, SETTINGS):
        alive = (out / WORK / HOLDER).read_text()
    (out / WORK).mkdir()
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (out / WORK / HOLDER).write_text(alive.replace(str(os.getpid()), str(dead.pid)))
    with claimed(out, SETTINGS):
        pass
    (out / WORK).mkdir()
    (out / WORK / HOLDER).write_text(f"process {dead.pid} on another-machine")
    told = r"on another-machine\).*delete .*holder if it has died"
    with pytest.raises(InputError, match=told), claimed(out, SETTINGS):
        pass


def test_a_lock_whose_name_is_gone_locks_nothing(tmp_path, monkeypatch):
    """A run opens the lock of another one, which ends and deletes it before the run takes it."""
    out, tries = tmp_path / "out", []
    original = fcntl.flock

    def late(file, how):
        if not tries:
            (out / WORK / LOCK).unlink()
        tries.append(file)
        return original(file, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with claimed(out, SETTINGS):
        assert len(tries) == 2
        with pytest.raises(InputError, match="at work"), claimed(out, SETTINGS):
            pass


def test_settings_can_be_changed_until_there_is_a_clip(tmp_path):
    out = tmp_path / "out"
    with claimed(out, SETTINGS | {"camera": "stabilise"}):
        (out / "shards" / "train-00000.jsonl").write_text("a shard that kept nothing")
    with claimed(out, SETTINGS):
        assert json.loads((out / "settings.json").read_text()) == SETTINGS
        (out / "shards" / "train-00000.tar").write_bytes(b"clips")
    other = SETTINGS | {"camera": "ignore"}
    told = "other settings: camera measure, not ignore; choose another --out"
    with pytest.raises(InputError, match=told), claimed(out, other):
        pass
    (out / "settings.json").write_bytes(b"")
    with pytest.raises(InputError, match=r"settings\.json: is damaged .*; delete it"), claimed(out, SETTINGS):
        pass
    (out / "settings.json").unlink()  # as that says
    with claimed(out, SETTINGS):
        assert (out / "shards" / "train-00000.tar").exists()


def test_a_folder_of_other_things_is_left_alone(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(b"mine")
    with pytest.raises(InputError, match="holds other files"), claimed(tmp_path, SETTINGS):
        pass
    assert [path.name for path in Path(tmp_path).iterdir()] == ["photo.jpg"]
