"""A reader sees a whole result or none, whatever interrupts the writer."""

from __future__ import annotations

import errno

import pytest
from helpers.faults import NO_PROCESS, changes, killed, left_behind, tree

from handi.core.errors import HandiError, OutputError
from handi.core.files import present, replace_folder, replacing, scratch_folder, staged, sweep


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
    ("code", "hint"),
    [(errno.ENOSPC, "free some space"), (errno.EACCES, "may write to"), (errno.EIO, "another")],
)
def test_the_hint_fits_the_failure(tmp_path, code, hint):
    with pytest.raises(OutputError, match=hint), staged(tmp_path / "out", last="x"):
        raise OSError(code, "it failed")
    assert list(tmp_path.iterdir()) == []


def test_a_file_where_the_folder_should_be(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(OutputError, match="a file is in the way"), staged(tmp_path / "out", last="x"):
        pass


def result(folder, request, names):
    """As a command writes one: everything says which request it belongs to."""
    with staged(folder, last="run.json", owned=("a.txt", "b.txt", "frames")) as scratch:
        for name in names:
            (scratch / name).parent.mkdir(exist_ok=True)
            (scratch / name).write_text(request)
        (scratch / "run.json").write_text(request)


def test_a_staged_folder_that_is_finished_holds_one_request_alone_wherever_it_was_killed(tmp_path):
    folder = tmp_path / "out"
    first, second = ["a.txt", "b.txt", "frames/0.txt"], ["b.txt", "frames/1.txt"]
    (folder / "mine").mkdir(parents=True)

    def both():
        result(folder, "first", first)
        result(folder, "second", second)

    for at in range(changes(folder, both)):
        assert killed(folder, both, at)
        if (folder / "run.json").exists():
            request = (folder / "run.json").read_text()
            whole = {*(first if request == "first" else second), "run.json"}
            there = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
            visible = {name for name in there if not name.startswith(".")}
            assert visible == whole, at
            assert {(folder / name).read_text() for name in visible} == {request}
        both()
        assert sorted(tree(folder)) == ["b.txt", "frames", "frames/1.txt", "mine", "run.json"]  # nothing left


def test_a_replaced_folder_is_the_old_or_the_new_one_wherever_it_was_killed(tmp_path):
    folder = tmp_path / "model"

    def save(text):
        with scratch_folder(tmp_path) as scratch:
            (scratch / "new").mkdir()
            for name in ("card", "weights"):
                (scratch / "new" / name).write_text(text)
            replace_folder(scratch / "new", folder)

    save("old")
    seen = set()
    for at in range(changes(tmp_path, lambda: save("old"))):
        assert killed(tmp_path, lambda: save("new"), at)
        found = tree(present(folder))
        assert found in ({"card": b"old", "weights": b"old"}, {"card": b"new", "weights": b"new"}), at
        seen.add(found["card"])
        save("old")
        assert tree(tmp_path) == {"model": None, "model/card": b"old", "model/weights": b"old"}
    assert seen == {b"old", b"new"}


def test_only_what_the_dead_left_is_swept(tmp_path):
    (tmp_path / "item").mkdir()
    left_behind(tmp_path).mkdir()
    (left_behind(tmp_path) / "half").write_text("")
    left_behind(tmp_path / "item").write_text("")
    elsewhere = tmp_path / f".unfinished-00000000-{NO_PROCESS}-abcdefgh"  # on another machine
    elsewhere.mkdir()
    (tmp_path / ".unfinished-mine").write_text("not ours")
    with replacing(tmp_path / "file.txt") as alive:
        sweep(tmp_path, depth=1)
        assert alive.exists()
        alive.write_text("whole")
    assert sorted(p.name for p in tmp_path.rglob("*")) == sorted(
        [elsewhere.name, ".unfinished-mine", "file.txt", "item"]
    )


def test_a_name_that_just_fits_can_be_written(tmp_path):
    path = tmp_path / ("n" * 251 + ".txt")
    with replacing(path) as temporary:
        temporary.write_text("")
    assert path.exists()
    with pytest.raises(OutputError, match="choose a shorter name"), replacing(tmp_path / ("n" * 300)):
        pass
