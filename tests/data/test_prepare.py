"""One clip through the stages: which frames are cut, what is measured, and every kind of bad footage."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
import torch
from helpers.containers import IDENTITY, TURNS, remux
from helpers.small_footage import clip_of, movie, read_hands, simple_tools, sound_only
from PIL import Image

from handi.core import video as video_module
from handi.core.errors import InputError
from handi.core.images import resize
from handi.core.video import even_indices, frame_times, frames_at, read_video
from handi.data import shards
from handi.data.cut import cut
from handi.data.ledger import Rejected
from handi.data.prepare import ToolsMaker
from handi.data.stages import PrepareSettings, Steady, Tools, prepare_clip
from handi.method.latents import encode
from handi.models import folder as model_folder
from handi.world import render_clip
from handi.world.files import write_clip

SIZE = (32, 32)
SETTINGS = PrepareSettings(size=SIZE, pictures="png")


def test_the_annotated_part_is_cut_evenly_cropped_and_resized(tmp_path):
    video = movie(tmp_path / "long.mp4", frames=80)
    made = cut(clip_of(video, start=2.0, end=5.9), SETTINGS)
    indices = [20 + index for index in even_indices(40, 16)]
    assert np.array_equal(made.frames, resize(read_video(video)[indices][:, :, 8:56], *SIZE))
    assert made.figures == {
        "seconds": 3.9, "source_frames": 40, "uneven": False, "source_size": [48, 64]
    }  # fmt: skip
    whole = cut(clip_of(video), SETTINGS)
    assert np.array_equal(whole.frames, resize(read_video(video)[even_indices(80, 16)][:, :, 8:56], *SIZE))


def test_only_the_part_is_decoded(tmp_path, monkeypatch):
    video = movie(tmp_path / "long.mp4", frames=600, size=(16, 16))
    times = frame_times(video, 58.0, 59.9).times
    assert len(times) == 20
    decoded = []
    original = video_module.decoded_frames

    def count(*arguments):
        for shown in original(*arguments):
            decoded.append(shown.time)
            yield shown

    monkeypatch.setattr(video_module, "decoded_frames", count)
    frames = list(frames_at(video, times))
    assert len(decoded) <= 120  # of 600: from the key frame before it on
    assert np.array_equal(np.stack(frames), read_video(video)[580:])


def test_a_varying_frame_rate_is_sampled_in_time(tmp_path):
    steady = movie(tmp_path / "steady.mp4", frames=40)
    # twice as many frames per second in the second half
    times = [0.2 * n for n in range(20)] + [4 + 0.1 * n for n in range(20)]
    video = tmp_path / "uneven.mp4"
    remux(steady, video, times=[round(1000 * time) for time in times])
    found = frame_times(video)
    assert found.times == pytest.approx(times, abs=0.002)
    made = cut(clip_of(video), SETTINGS)
    assert made.figures["uneven"]
    wanted = np.linspace(0, 5.9, 16)
    expected = [int(np.abs(np.array(found.times) - time).argmin()) for time in wanted]
    assert np.array_equal(made.frames, resize(read_video(video)[expected][:, :, 8:56], *SIZE))
    assert expected != even_indices(40, 16)


@pytest.mark.parametrize("degrees", [90, 180])
def test_a_turned_video_is_cut_upright(tmp_path, degrees):
    video = movie(tmp_path / "turned.mp4")
    raw = video.read_bytes()
    start = raw.index(IDENTITY, raw.index(b"tkhd"))
    a, b, c, d = (value * (1 << 16) for value in TURNS[degrees])
    matrix = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    video.write_bytes(raw[:start] + matrix + raw[start + 36 :])
    made = cut(clip_of(video), SETTINGS)
    upright = read_video(video)
    assert made.figures["source_size"] == list(upright.shape[1:3])
    chosen = upright[even_indices(len(upright), 16)]
    high = upright.shape[1] > upright.shape[2]
    middle = chosen[:, 8:56] if high else chosen[:, :, 8:56]
    assert np.array_equal(made.frames, resize(middle, *SIZE))


def test_a_folder_of_frames_has_the_frame_rate_of_its_source(tmp_path):
    folder = tmp_path / "P01_01"
    folder.mkdir()
    for number in range(50):
        Image.fromarray(np.full((32, 32, 3), 5 * number, np.uint8)).save(folder / f"frame_{number:010d}.png")
    made = cut(clip_of(folder, start=1.0, end=3.9, fps=10.0), SETTINGS)
    assert made.frames[:, 0, 0, 0].tolist() == [5 * (10 + index) for index in even_indices(30, 16)]
    with pytest.raises(Rejected, match="without a frame rate"):
        cut(clip_of(folder), SETTINGS)


@pytest.fixture(scope="module")
def bad(tmp_path_factory):
    """Damaged footage: name → clip."""
    home = tmp_path_factory.mktemp("bad")
    good = movie(home / "good.mp4", frames=40)
    data = good.read_bytes()
    (home / "cut_off.mp4").write_bytes(data[:700])
    (home / "breaks_off.mp4").write_bytes(data[: len(data) - len(data) // 3])
    (home / "text.mp4").write_text("This is no video.")
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(home / "picture.mp4", format="PNG")
    (home / "nothing.mp4").write_bytes(b"")
    (home / "folder").mkdir()
    sound_only(home / "sound.mp4")
    movie(home / "dark.mp4", brightness=0)
    movie(home / "short.mp4", frames=15)
    clips = {path.stem: clip_of(path) for path in home.glob("*.mp4")}
    (home / "wrong_name.avi").write_bytes(data)
    clips["wrong_name"] = clip_of(home / "wrong_name.avi")
    clips["past_the_end"] = clip_of(good, start=2.0, end=7.0)
    clips["begins_past_it"] = clip_of(good, start=60.0, end=62.0)
    clips["a_little_past"] = clip_of(good, start=1.0, end=4.2)
    clips["turned_round"] = clip_of(good, start=3.0, end=1.0)
    clips["brief"] = clip_of(good, start=1.0, end=2.4)
    clips["wordless"] = clip_of(good, action="")
    clips["missing"] = clip_of(home / "gone.mp4")
    clips["told"] = clip_of(None, problem="the video is not there")
    clips["folder"] = clip_of(home / "folder", fps=10.0)
    return clips


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("cut_off", "damaged"), ("breaks_off", r"breaks off at \d\.\d\d s of 4\.00 s"), ("text", "damaged"),
        ("picture", "has 1 frames|damaged|no times"), ("nothing", "empty"), ("sound", "no video stream"),
        ("dark", "no hands were found"), ("short", "has 15 frames, 16 are needed"),
        ("past_the_end", r"goes to 7\.00 s, its video ends at 3\.90 s"),
        ("begins_past_it", r"begins at 60\.00 s, its video ends at 3\.90 s"),
        ("turned_round", "has 0 frames"), ("brief", "has 15 frames"), ("wordless", "has no words"),
        ("missing", "no such video"), ("told", "the video is not there"), ("folder", "holds no frames"),
    ],
)  # fmt: skip
def test_bad_footage_is_rejected_with_its_reason(bad, name, reason):
    with pytest.raises(Rejected, match=reason):
        prepare_clip(bad[name], SETTINGS, simple_tools(0))


@pytest.mark.parametrize("name", ["good", "wrong_name", "a_little_past"])
def test_what_looks_odd_but_can_be_read_is_kept(bad, name):
    assert prepare_clip(bad[name], SETTINGS, simple_tools(0)).area.any()


def test_what_is_kept_of_a_clip(tmp_path):
    video = movie(tmp_path / "a.mp4")
    clip = clip_of(
        video, paraphrases=("Slice it.",), description="A hand\u2028cuts.", verb="cut", noun="carrot"
    )
    made = prepare_clip(clip, SETTINGS, simple_tools(0))
    assert list(made.members)[:2] == ["00.png", "01.png"]
    assert list(made.members)[16:] == ["area.png", "hands.npz", "latents.npy", "json"]
    frames = np.stack([shards.decode_picture(made.members[f"{n:02d}.png"]) for n in range(16)])
    assert np.array_equal(frames, cut(clip, SETTINGS).frames)
    hands = shards.decode_array(made.members["hands.npz"])
    assert (hands["joints"].shape, hands["rois"].shape) == ((16, 42, 2), (16, 2, 4))
    assert made.row["hands"] == [1] * 16
    assert (made.row["left"], made.row["right"]) == (16, 0)
    assert made.row["area"] == pytest.approx(made.area.mean(), abs=1e-6)
    about = json.loads(made.members["json"])
    assert about["texts"] == {
        "short": ["Cut the carrot."], "paraphrase": ["Slice it."], "enriched": ["A hand\u2028cuts."]
    }  # fmt: skip


def test_a_hand_counts_only_where_a_stabilised_frame_shows_something_of_its_own(tmp_path, monkeypatch):
    seen = np.ones((16, *SIZE), bool)
    seen[1:, :, :16] = False  # what the context frame alone shows

    def steady(frames, settings):
        return Steady(frames, {"camera": 0.1, "camera_support": 1.0, "valid": 0.5}, seen)

    def detect(frames):
        """A hand in the middle; in the context frame there is none."""
        hands = read_hands(frames)
        hands.joints[0] = 0
        return hands

    monkeypatch.setattr("handi.data.stages.hold_still", steady)
    clip = clip_of(movie(tmp_path / "a.mp4"))
    made = prepare_clip(clip, PrepareSettings(size=SIZE, camera="stabilise"), Tools(detect))
    assert made.area[:, 16:].any()
    assert not made.area[:, :16].any()
    valid = shards.decode_picture(made.members["valid.png"], grey=True)
    assert np.array_equal(valid > 0, seen[1])


def test_latents_that_are_no_numbers_are_not_kept(tmp_path):
    tools = Tools(read_hands, lambda frames: np.full((16, 4, 4, 4), np.nan, np.float16))
    with pytest.raises(Rejected, match="latents of it are not finite numbers"):
        prepare_clip(clip_of(movie(tmp_path / "a.mp4")), SETTINGS, tools)


def test_settings_that_no_clip_can_have_are_refused_before_a_folder_is_begun():
    with pytest.raises(InputError, match="leave stabilising or truth out"):
        PrepareSettings(size=SIZE, truth="hull", camera="stabilise")
    with pytest.raises(InputError, match="give a square --size"):
        PrepareSettings(truth="hull")


def test_real_hands_and_real_latents(tmp_path):
    """Υ and mini's autoencoder on a rendered clip: near the truth, and what training would encode."""
    world = render_clip(3, size=128)
    record = write_clip(tmp_path, world, pictures="png")
    clip = clip_of(tmp_path / "x.png", "x", truth=record)
    models = ToolsMaker("cpu", "full", "mini", True)
    settings = PrepareSettings(size=(128, 128), pictures="png", models=models.hashes())
    made = prepare_clip(clip, settings, models(0))
    true = prepare_clip(clip, PrepareSettings(size=(128, 128), truth="hull"), simple_tools(0))
    both = (made.area & true.area).sum() / (made.area | true.area).sum()
    assert both > 0.5
    assert np.array_equal(true.area, world.area_hull)
    latents = shards.decode_array(made.members["latents.npy"])
    pixels = torch.from_numpy(world.frames).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
    expected = encode(model_folder.load("mini").vae, pixels)[0].transpose(0, 1).numpy()
    assert latents.dtype == np.float16
    assert np.abs(latents - expected).max() < 0.01
    assert shards.decode_array(made.members["text.npy"]).shape[0] == 1
