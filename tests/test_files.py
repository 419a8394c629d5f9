"""A reader sees a whole result or none, whatever interrupts the writer."""

from __future__ import annotations

import errno

import pytest

from handi.errors import HandiError, OutputError
from handi.files import replacing, staged


def test_replacing_keeps_the_old_file_when_the_writer_fails(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail():
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power"):
        fail()
    assert path.read_text() == "old"
    with replacing(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    assert path.stat().st_mode & 0o444 == 0o444  # readable by others, as an ordinary file


def test_staged_moves_all_or_nothing(tmp_path):
    target = tmp_path / "new" / "deep"

    def fail():
        with staged(target, last="run.json") as scratch:
            (scratch / "video.mp4").write_text("half")
            raise HandiError("bad")

    with pytest.raises(HandiError, match="bad"):
        fail()
    assert list(tmp_path.iterdir()) == []
    target.mkdir(parents=True)
    (target / "notes.txt").write_text("mine")
    (target / "frames").mkdir()
    (target / "frames" / "old.png").write_text("")
    with staged(target, last="run.json") as scratch:
        (scratch / "run.json").write_text("{}")
        (scratch / "frames").mkdir()
        (scratch / "frames" / "0000.png").write_text("")
    assert sorted(p.relative_to(target).as_posix() for p in target.rglob("*")) == [
        "frames",
        "frames/0000.png",
        "notes.txt",
        "run.json",
    ]


@pytest.mark.parametrize(
    ("code", "mend"),
    [(errno.ENOSPC, "free some space"), (errno.EACCES, "may write to"), (errno.EIO, "another")],
)
def test_the_mend_fits_the_failure(tmp_path, code, mend):
    with pytest.raises(OutputError, match=mend), staged(tmp_path / "out", last="x"):
        raise OSError(code, "it failed")
    assert list(tmp_path.iterdir()) == []


def test_a_file_where_the_folder_should_be(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(OutputError, match="a file is in the way"), staged(tmp_path / "out", last="x"):
        pass
