"""The format: read at random, read by WebDataset, and every kind of damage noticed."""

from __future__ import annotations

import json
import tarfile

import numpy as np
import pyarrow.parquet
import pytest
from helpers.small_footage import clip_of, movie, simple_tools

from handi.core.errors import InputError
from handi.core.executors import Serial
from handi.data import shards
from handi.data.dataset import PreparedClips
from handi.data.prepare import write_shards
from handi.data.sources.common import SourceClips
from handi.data.stages import PrepareSettings, prepare_clip
from handi.method.area import PriorMask
from handi.training.batches import Batches, Sampling

SETTINGS = PrepareSettings(size=(32, 32), pictures="png", clips_per_shard=2, models={"vae": "test"})


@pytest.fixture
def prepared(tmp_path):
    """Five training clips and a test clip: (their folder, the clips)."""
    video = movie(tmp_path / "a.mp4", frames=80)
    clips = [
        clip_of(video, f"P01.a_{n}", start=n / 2, action=f"Do {n}.", paraphrases=(f"Try {n}.",), verb="do")
        for n in range(5)
    ]
    clips.append(clip_of(video, "z", split="test", description="All\u2028of it."))
    write_shards(SourceClips(clips), tmp_path / "out", SETTINGS, simple_tools, Serial())
    return tmp_path / "out", clips


def test_any_clip_at_random_is_what_was_prepared(prepared):
    folder, clips = prepared
    read = PreparedClips(folder)
    assert (len(read), read.size, read.frames) == (5, (32, 32), 16)
    for index in (4, 0, 2):
        made = prepare_clip(clips[index], SETTINGS, simple_tools(0))
        clip = read[index]
        assert clip.name == clips[index].id
        frames = [shards.decode_picture(made.members[f"{n:02d}.png"]) for n in range(16)]
        assert np.array_equal(clip.frames, np.stack(frames))
        assert np.array_equal(clip.area, made.area)
        hands = shards.decode_array(made.members["hands.npz"])
        for name in ("joints", "visible", "rois"):
            assert np.array_equal(getattr(clip, name), hands[name])
        assert clip.texts == {"short": (f"Do {index}.",), "paraphrase": (f"Try {index}.",)}
        assert clip.latents is None
    read.latents = True
    assert read[1].latents.shape == (16, 3, 4, 4)


def test_splits_are_read_by_name(prepared):
    folder, _ = prepared
    assert [PreparedClips(folder, split)[0].name for split in ("test", "held-out")] == ["z", "z"]
    assert PreparedClips(folder, "test").fingerprint() != PreparedClips(folder).fingerprint()
    with pytest.raises(InputError, match="no clips of the split 'val'; it has 1 test, 5 train"):
        PreparedClips(folder, "val")


def test_samples_bear_the_drawn_frames_latents(prepared):
    read = PreparedClips(prepared[0])
    read.latents = True
    batch = Batches(read, Sampling(frames=6), 3).at(0, 4)
    assert batch.latents.shape == (4, 3, 6, 4, 4)
    for row, (name, index) in enumerate(zip(batch.names, batch.frame_index, strict=True)):
        clip = read[["P01.a_0", "P01.a_1", "P01.a_2", "P01.a_3", "P01.a_4"].index(name)]
        assert np.array_equal(batch.latents[row].transpose(0, 1).numpy(), clip.latents[index.numpy()])
    with pytest.raises(ValueError, match="cannot be mirrored"):
        Batches(read, Sampling(flip=True), 0).at(0, 8)


def test_the_prior_is_the_mean_of_the_training_areas(prepared):
    read = PreparedClips(prepared[0])
    prior = PriorMask(32, 32)
    for index in range(len(read)):
        prior.add(read[index].area)
    assert np.abs(read.prior() - prior.mean).max() < 1e-5
    assert prior.mean.max() > 0.9


def test_webdataset_reads_them(prepared):
    import webdataset

    folder, clips = prepared
    urls = [str(path) for path in sorted((folder / "shards").glob("train-*.tar"))]
    data = webdataset.WebDataset(urls, shardshuffle=False).decode("rgb8")
    samples = list(data)
    assert [sample["json"]["id"] for sample in samples] == [clip.id for clip in clips[:5]]
    clip = PreparedClips(folder)[3]
    sample = samples[3]
    assert np.array_equal(np.stack([sample[f"{n:02d}.png"] for n in range(16)]), clip.frames)
    assert np.array_equal(sample["hands.npz"]["joints"], clip.joints)
    assert sample["latents.npy"].dtype == np.float16


def test_the_tars_are_plain_ones(prepared):
    with tarfile.open(prepared[0] / "shards" / "train-00000.tar") as tar:
        infos = tar.getmembers()
    assert len(infos) == 2 * 20
    assert {(info.mtime, info.uid, info.uname, info.mode) for info in infos} == {(0, 0, "", 0o644)}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("byte", "its content has changed"), ("cut", "it is cut off"), ("gone", "No such file"),
    ],
)  # fmt: skip
def test_damage_is_noticed(prepared, damage, message):
    folder, _ = prepared
    row = shards.read_clip_rows(folder, "train").to_pylist()[1]
    path = folder / "shards" / "train-00000.tar"
    data = bytearray(path.read_bytes())
    if damage == "byte":
        data[row["offset"] + row["bytes"] // 2] ^= 1
        path.write_bytes(data)
    elif damage == "cut":
        path.write_bytes(data[: row["offset"] + 100])
    else:
        path.unlink()
    with pytest.raises(InputError, match=message) as error:
        shards.read_piece(folder, row)
    assert str(error.value).count("train-00000.tar") >= 1
    assert "P01.a_1" in str(error.value)


def test_a_tar_that_ends_early_and_another_clips_members_are_damage():
    members = {"area.png": b"a" * 600, "json": b"{}"}
    piece = bytearray(shards.pack("a.b", members))
    assert shards.unpack(bytes(piece), "a.b") == members
    with pytest.raises(ValueError, match=r"a~b\.area\.png is no member of it"):
        shards.unpack(bytes(piece), "c")
    piece[3 * shards.BLOCK + 100] ^= 1  # the second header: tarfile ends there without a word
    with pytest.raises(ValueError, match=r"end at byte 1536 of 2560"):
        shards.unpack(bytes(piece), "a.b")


@pytest.mark.parametrize("name", ["00.png", "area.png", "hands.npz", "latents.npy"])
@pytest.mark.parametrize("data", [b"", b"PK\3\4 no", b"\x93NUMPY"])
def test_members_that_no_longer_decode_are_one_clear_error(prepared, monkeypatch, name, data):
    read, unpack = PreparedClips(prepared[0]), shards.unpack
    read.latents = True
    monkeypatch.setattr(shards, "unpack", lambda *piece: unpack(*piece) | {name: data})
    with pytest.raises(InputError, match=r"train-00000\.tar: clip P01\.a_1 is damaged .*; delete it and run"):
        read[1]


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ({"offset": 10**9}, "cut off"), ({"offset": -512}, "cut off"), ({"bytes": 2**60}, "cut off"),
        ({"offset": 0}, "changed"), ({"bytes": None}, "int"), ({"sha256": None}, "changed"),
    ],
)  # fmt: skip
def test_a_row_that_points_elsewhere_is_damage(prepared, row, what):
    folder, _ = prepared
    true = shards.read_clip_rows(folder, "train").to_pylist()[1]
    with pytest.raises(InputError, match=f"train-00000.tar: clip P01.a_1 is damaged .*{what}"):
        shards.read_piece(folder, true | row)


def test_an_index_that_is_changed_or_lacks_columns_is_named(prepared):
    path = prepared[0] / "index.parquet"
    table, data = pyarrow.parquet.read_table(path), path.read_bytes()
    pyarrow.parquet.write_table(table.drop_columns(["mirrors", "offset"]), path)
    with pytest.raises(InputError, match=r"index\.parquet: cannot be read \(has no column mirrors, offset\)"):
        PreparedClips(prepared[0])
    rows = table.to_pylist()
    rows[2]["shard"] = None
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, table.schema), path)
    with pytest.raises(InputError, match=r"index\.parquet: cannot be read \(has rows without shard\)"):
        PreparedClips(prepared[0])
    said = []
    for place in range(4, len(data) // 3, 7):  # pages: what is behind them says how to read them
        path.write_bytes(data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :])
        try:
            said.append("whole" if shards.read_clip_rows(prepared[0]).equals(table) else "unnoticed")
        except InputError as error:
            said.append(error.where.name)
    assert "unnoticed" not in said
    assert said.count("index.parquet") > len(said) / 2


@pytest.mark.parametrize("damage", [{"splits": None}, {"settings": {}}, {"splits": {"train": {"kept": 1}}}])
def test_a_damaged_prepared_json_is_one_clear_error(prepared, damage):
    path = prepared[0] / "prepared.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | damage))
    with pytest.raises(InputError, match=r"prepared\.json: is damaged .*; run handi prepare again"):
        PreparedClips(prepared[0])


def test_folders_that_are_not_whole(prepared, tmp_path):
    folder, _ = prepared
    with pytest.raises(InputError, match="holds no prepared clips"):
        PreparedClips(tmp_path)
    about = json.loads((folder / "prepared.json").read_text())
    (folder / "prepared.json").write_text(json.dumps(about | {"version": 9}))
    with pytest.raises(InputError, match=r"format handi-shards 9, this handi reads handi-shards 2"):
        PreparedClips(folder)
    (folder / "prepared.json").unlink()
    with pytest.raises(InputError, match="not finished"):
        PreparedClips(folder)
    (folder / "prepared.json").write_text(json.dumps(about))
    (folder / "index.parquet").write_bytes((folder / "index.parquet").read_bytes()[:-9])
    with pytest.raises(InputError, match=r"index\.parquet: cannot be read"):
        PreparedClips(folder)
