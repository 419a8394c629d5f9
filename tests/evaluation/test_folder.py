"""What a folder or a manifest may hold."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from helpers.small_footage import clip_of, movie, simple_tools

from handi.core.errors import InputError
from handi.core.executors import Serial
from handi.core.images import write_image
from handi.core.video import write_video
from handi.data.dataset import PreparedClips
from handi.data.prepare import write_shards
from handi.data.sources.common import SourceClips
from handi.data.stages import PrepareSettings
from handi.evaluation.folder import read_videos

CLIP = np.random.default_rng(0).integers(0, 256, (4, 16, 24, 3), dtype=np.uint8)


def test_a_folder_of_every_kind(tmp_path, world):
    write_video(tmp_path / "film.mp4", CLIP)
    np.save(tmp_path / "bytes.npy", CLIP)
    np.save(tmp_path / "floats.npy", CLIP.astype(np.float64) / 255)
    for n, frame in enumerate(CLIP):
        write_image(tmp_path / "pictures" / f"{n:04}.png", frame)
        write_image(tmp_path / "run" / "frames" / f"{n:04}.png", frame)
        write_image(tmp_path / "notes" / f"picture{n * n}.png", frame)  # not evenly numbered: no sequence
    write_video(tmp_path / "run" / "video.mp4", CLIP[:2])
    write_image(tmp_path / "motion_area" / "film.png", np.eye(16, 24) > 0)
    write_image(tmp_path / "context" / "film.png", CLIP[0])
    (tmp_path / "film.txt").write_text("Cut the carrot.\nThe person cuts a carrot.\n")
    (tmp_path / "prompts.jsonl").write_text('{"id": "bytes", "action": "Stir.", "enriched": "She stirs."}\n')
    (tmp_path / "results.json").write_text("{}")
    side = read_videos(tmp_path)
    assert list(side) == ["bytes", "film", "floats", "pictures", "run"]
    for id in ("bytes", "floats", "pictures", "run"):
        assert side[id].shape() == (4, 16, 24)
        np.testing.assert_array_equal(side[id].frames(), CLIP)
    assert side["film"].shape() == side["film"].frames().shape[:3] == (4, 16, 24)
    assert side["film"].area().sum() == 16
    np.testing.assert_array_equal(side["film"].context(), CLIP[0])
    assert side["film"].text == "Cut the carrot."
    assert side["film"].description == "The person cuts a carrot."
    assert (side["bytes"].text, side["bytes"].description) == ("Stir.", "She stirs.")
    assert side["bytes"].area() is None


def test_world_clips_and_a_manifest_of_them(tmp_path, world):
    from handi.world.files import read_clip

    side = read_videos(world)
    id, entry = next(iter(side.items()))
    clip = read_clip(world / f"{id}.json")
    np.testing.assert_array_equal(entry.frames(), clip.frames)
    np.testing.assert_array_equal(entry.area(), clip.area_moved)
    assert entry.shape() == clip.frames.shape[:3]
    assert (entry.text, entry.description) == (clip.text, clip.enriched)
    manifest = tmp_path / "clips.jsonl"
    manifest.write_text(
        json.dumps({"id": "one", "truth": str(world / f"{id}.json"), "text": "Do it."}) + "\n\n"
    )
    named = read_videos(manifest)["one"]
    np.testing.assert_array_equal(named.frames(), clip.frames)
    assert named.text == "Do it."


def test_world_clips_as_films(tmp_path, world):
    from handi.world import write_clip
    from handi.world.files import read_clip

    id = next(iter(read_videos(world)))
    write_clip(tmp_path, read_clip(world / f"{id}.json"), pictures="mp4")
    entry = read_videos(tmp_path)[id]
    assert entry.video == tmp_path / f"{id}.mp4"
    assert entry.shape() == entry.frames().shape[:3]
    assert entry.area().any()


def test_a_folder_as_handi_world_leaves_it(tmp_path):
    """With the lists of its clips, which are JSON too and no clips."""
    from handi.world import rendering

    rendering.render_folder(tmp_path, clips=1, seed=900_000, settings=rendering.WorldSettings(size=32))
    assert {rendering.MANIFEST, rendering.CAPTIONS} < {path.name for path in tmp_path.iterdir()}
    side = read_videos(tmp_path)
    assert list(side) == ["0000900000"]
    assert side["0000900000"].shape() == (16, 32, 32)


def test_a_world_clip_that_is_damaged_or_not_there(tmp_path, world):
    good = next(world.glob("[0-9]*.json"))
    record = json.loads(good.read_text())
    del record["video"]
    (tmp_path / good.name).write_text(json.dumps(record))
    np.save(tmp_path / "sound.npy", CLIP)
    side = read_videos(tmp_path)
    assert list(side) == [good.stem, "sound"]
    with pytest.raises(InputError, match="the clip is damaged: it has no 'video'"):
        side[good.stem].frames()
    (tmp_path / "m.jsonl").write_text(
        '{"id": "a", "truth": "nowhere.json"}\n{"id": "b", "video": "sound.npy"}'
    )
    side = read_videos(tmp_path / "m.jsonl")
    assert side["b"].problem is None
    with pytest.raises(InputError, match=r"nowhere\.json: no such file"):
        side["m.jsonl, line 1"].check()


def test_prepared_clips(tmp_path):
    video = movie(tmp_path / "a.mp4", frames=40)
    clips = [clip_of(video, "P01.a_0")]
    clips += [clip_of(video, f"z.{n}", split="test", start=float(n), action=f"Do {n}.") for n in range(2)]
    settings = PrepareSettings(size=(32, 32), pictures="png", models={"vae": "test"})
    write_shards(SourceClips(clips), tmp_path / "out", settings, simple_tools, Serial())
    side, shards = read_videos(tmp_path / "out"), PreparedClips(tmp_path / "out", "test")
    assert list(side) == ["z.0", "z.1"]
    for n, entry in enumerate(side.values()):
        assert entry.shape() == (16, 32, 32)
        np.testing.assert_array_equal(entry.frames(), shards[n].frames)
        np.testing.assert_array_equal(entry.area(), shards[n].area)
        assert entry.text == f"Do {n}."
    settings = replace(settings, pictures="none")
    write_shards(SourceClips(clips[:1]), tmp_path / "blind", settings, simple_tools, Serial())
    with pytest.raises(InputError, match="no clips of the split 'val'"):
        read_videos(tmp_path / "blind")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"id": "a"}\n{"id": "a"}', "line 2: the id 'a' was used before"),
        ('{"video": "a.mp4"}', "line 1: has no id"),
        ("[1]", "line 1: is not a JSON object"),
        ("{", "line 1: is not JSON"),
        ("[" * 100_000, "line 1: "),
    ],
)
def test_a_bad_line_of_a_manifest_is_a_problem_of_its_own(tmp_path, text, message):
    (tmp_path / "m.jsonl").write_text(f'{text}\n{{"id": "good \\u2028", "text": "Cut."}}')
    side = read_videos(tmp_path / "m.jsonl")
    assert side["good \u2028"].text == "Cut."
    assert [message in entry.problem for entry in side.values() if entry.problem] == [True]


def test_a_manifest_of_nothing(tmp_path):
    (tmp_path / "m.jsonl").write_text("")
    with pytest.raises(InputError, match="holds no video"):
        read_videos(tmp_path / "m.jsonl")


def test_a_bad_text_is_named_and_what_is_passed_over_is_said(tmp_path):
    for name in ("a", "b", "c"):
        np.save(tmp_path / f"{name}.npy", CLIP)
    (tmp_path / "a.txt").write_bytes(b"Cut the chef\x92s carrot.")
    (tmp_path / "b.TXT").write_text("Cut.\x85really")
    (tmp_path / "alone.txt").write_text("Cut.")
    (tmp_path / "d.xlsx").write_bytes(b"PK")
    (tmp_path / "prompts.jsonl").write_text('{"id": "c", "action": "Stir."}\n{"action": "Whisk."}\n')
    said = []
    side = read_videos(tmp_path, said.append)
    assert list(side) == ["a", "b", "c", "prompts.jsonl, line 2"]
    assert side["a"].problem.startswith(f"{tmp_path / 'a.txt'}: is not UTF-8 text (byte 0x92 in line 1")
    assert side["b"].text == "Cut.\x85really"
    assert side["c"].text == "Stir."
    assert said == [f"note: {tmp_path}: not read, as no video: alone.txt, d.xlsx"]


def test_nothing_of_a_world_s_folder_is_called_passed_over(world):
    said = []
    read_videos(world, said.append)
    assert not said


def test_bad_folders_and_arrays(tmp_path):
    np.save(tmp_path / "a.npy", CLIP)
    write_video(tmp_path / "a.mp4", CLIP)
    with pytest.raises(InputError, match="two videos of one id"):
        read_videos(tmp_path)["a"].check()
    (tmp_path / "a.mp4").unlink()
    for array, message in ((CLIP[0], "not F×H×W×3"), (CLIP.astype(np.int32), "holds int32"),
                           (CLIP.astype(np.float32), "not in \\[0, 1\\]")):  # fmt: skip
        np.save(tmp_path / "a.npy", array)
        with pytest.raises(InputError, match=message):
            read_videos(tmp_path)["a"].frames()
