"""No id leaves its folder, and no two ids share a name on any file system."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.bench_data import clip

from handi.core.errors import InputError
from handi.core.images import write_image
from handi.core.names import MAX_BYTES, alike, check_name, distinct_names, place_in, safe_name
from handi.evaluation.clips import generate_clips
from handi.evaluation.folder import read_videos
from handi.evaluation.methods.base import Static
from handi.evaluation.videos import Entry

PLAIN = ["P01_01_0", "00001", "Karotte schneiden", "карта", "é", "a.b", "x-1", "(1)", "人参"]
EVIL = [
    "", ".", "..", "../up", "../../etc/passwd", "/abs/olute", "a/b", "a\\b", "..\\up", "C:\\x", "C:x", "~",
    "~root", "nul\0l", "a\nb", "a\u2028b", "a\u202eb", "a\ud800b", ".hidden", "-rf", " a", "a ", "a.",
    "CON", "nul", "com1.mp4", "LPT¹", "x" * 500, "é" * 100, "<b>", 'a"b', "a|b", "a?b", "a*b", "e\u0301",
]  # fmt: skip


@pytest.mark.parametrize("id", PLAIN)
def test_a_good_id_stays_as_it_is(id):
    assert safe_name(id) == check_name(id) == id


@pytest.mark.parametrize("id", EVIL)
def test_a_bad_one_becomes_a_good_one(id, tmp_path):
    name = safe_name(id)
    assert safe_name(name) == name
    assert len(name.encode()) <= MAX_BYTES
    path = tmp_path / name
    assert path.parent == tmp_path
    path.mkdir()
    assert [p.name for p in tmp_path.iterdir()] == [name]
    assert path.resolve().parent == tmp_path.resolve()
    with pytest.raises(InputError, match="cannot be the name of a folder"):
        check_name(id)


def test_different_ids_have_names_that_no_file_system_mixes_up():
    ids = [*PLAIN, *EVIL, "E\u0301", "É", "a_b", "p01_01_0", "STRASSE", "straße", "x" * 501]
    names = distinct_names(ids)
    assert len({alike(name) for name in names.values()}) == len(set(ids))
    assert all(safe_name(name) == name for name in names.values())
    assert names["karta" if "karta" in names else "карта"] == "карта"


def test_a_link_that_leads_out_is_refused(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "inside").mkdir()
    (out / "elsewhere").symlink_to(tmp_path)
    (out / "near").symlink_to(out / "inside")
    assert place_in(out, "near") == out / "near"
    with pytest.raises(InputError, match="leads out of the folder"):
        place_in(out, "elsewhere")


def test_clips_of_any_id_stay_in_their_folder_and_are_found_by_it(tmp_path):
    ids = ["../up", "/abs/olute", "a\\b", "CON", "x" * 500, "e\u0301", "\u00e9", "e", "E"]
    write_image(tmp_path / "context.png", clip(0)[0][::2, ::2])
    data = {id: Entry(id, context_file=tmp_path / "context.png", text="Push.") for id in ids}
    out = tmp_path / "videos" / "data" / "static"
    outside = tmp_path / "outside"
    outside.mkdir()
    out.mkdir(parents=True)
    (out / "E-link").symlink_to(outside)
    before = {p for p in tmp_path.rglob("*") if not p.is_relative_to(out)}
    assert generate_clips(Static(), data, out) == {}
    assert {p for p in tmp_path.rglob("*") if not p.is_relative_to(out)} == before
    found = read_videos(out)
    assert set(found) == set(ids)
    np.testing.assert_array_equal(found["e"].frames()[0], clip(0)[0][::2, ::2])

    method = Static()
    method.make = None  # type: ignore[assignment]  # nothing is made again
    assert generate_clips(method, data, out) == {}


def test_a_clip_whose_folder_is_a_link_out_is_that_clips_failure(tmp_path):
    write_image(tmp_path / "context.png", clip(0)[0][::2, ::2])
    out = tmp_path / "videos"
    out.mkdir()
    (out / "b").symlink_to(tmp_path)
    data = {id: Entry(id, context_file=tmp_path / "context.png", text="Push.") for id in "abc"}
    failures = generate_clips(Static(), data, out)
    assert list(failures) == ["b"]
    assert "leads out of the folder" in str(failures["b"])
    assert not (tmp_path / "run.json").exists()
    assert (out / "c" / "run.json").exists()
