"""Own footage: videos and text files to clips."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.lossless import lossless

from handi.core.errors import InputError
from handi.core.images import resize
from handi.core.types import Hands
from handi.core.video import read_video
from handi.data.clips import Batches, Drawing
from handi.data.folder import FolderClips
from handi.hands import HandDetector
from handi.world import render_clip


class Reader:
    """Stands in for Υ: a hand wherever a frame is not black. Counts the clips that it was shown."""

    def __init__(self):
        self.clips = 0

    def __call__(self):
        return self

    def detect(self, frames):
        self.clips += 1
        count, height, width = frames.shape[:3]
        there = torch.from_numpy(frames.reshape(count, -1).mean(1) > 20)
        visible = torch.stack([there, torch.zeros_like(there)], 1)
        joints = torch.zeros(count, 2, 21, 2)
        joints[:, 0, :, 0] = 0.25 + 0.5 * torch.arange(21) / 20
        joints[:, 0, :, 1] = 0.25 + 0.5 * (torch.arange(21) % 5) / 4
        joints = (joints * visible[..., None, None]).reshape(count, 42, 2)
        rois = torch.tensor([width / 2, height / 2, width / 2, 0.0]) * visible[..., None]
        return Hands(
            joints, torch.zeros(count, 2), torch.zeros(count, 2), rois, visible, (height, width), "test"
        )


def movie(path, frames=40, size=(48, 64), brightness=200, text="Cut the carrot."):
    """Frames whose green tells their number."""
    clip = np.full((frames, *size, 3), brightness, np.uint8)
    clip[..., 1] = np.minimum(brightness, np.arange(frames) * 4)[:, None, None]
    lossless(path, clip)
    if text is not None:
        path.with_suffix(".txt").write_text(text)


def test_sixteen_even_frames_cropped_and_resized_with_their_words(tmp_path):
    movie(tmp_path / "a b.mp4", text="Cut the carrot.\n\n  Slice it thinly. \n")
    clips = FolderClips(tmp_path, (32, 32), detector=Reader())
    clip = clips[0]
    assert (len(clips), clips.frames, clips.size, clip.name) == (1, 16, (32, 32), "a b.mp4")
    assert clip.texts == {"short": ("Cut the carrot.",), "paraphrase": ("Slice it thinly.",)}
    video = read_video(tmp_path / "a b.mp4")
    indices = [round(i) for i in np.linspace(0, 39, 16)]
    expected = resize(video[indices][:, :, 8:56], 32, 32)  # 48×64 → its middle 48×48
    assert np.array_equal(clip.frames, expected)
    assert clip.visible[:, 0].all()
    assert not clip.visible[:, 1].any()
    assert 0.15 < clip.area.mean() < 0.3
    batch = Batches(clips, Drawing(frames=8, texts=("short", "paraphrase")), 0).at(0, 2)
    assert batch.frames.shape == (2, 8, 32, 32, 3)
    assert batch.names == ["a b.mp4"] * 2


def test_only_what_is_new_or_changed_is_packed(tmp_path):
    movie(tmp_path / "a.mp4")
    first, second, third = Reader(), Reader(), Reader()
    one = FolderClips(tmp_path, (32, 32), detector=first)
    movie(tmp_path / "b.mp4", brightness=0)
    two = FolderClips(tmp_path, (32, 32), detector=second)
    assert (first.clips, second.clips) == (1, 1)
    (tmp_path / "a.txt").write_text("Peel the carrot.")
    three = FolderClips(tmp_path, (32, 32), detector=third)
    assert third.clips == 1  # b.mp4 is known to show no hands
    assert three[0].texts["short"] == ("Peel the carrot.",)
    assert one.fingerprint() == two.fingerprint() != three.fingerprint()


def test_what_cannot_be_used_is_named_and_left_out(tmp_path):
    movie(tmp_path / "good.mp4")
    movie(tmp_path / "dark.mp4", brightness=0)
    movie(tmp_path / "short.mp4", frames=15)
    movie(tmp_path / "silent.mp4", text=None)
    movie(tmp_path / "empty.mp4", text=" \n")
    (tmp_path / "broken.mp4").write_bytes((tmp_path / "good.mp4").read_bytes()[:700])
    (tmp_path / "broken.txt").write_text("Cut it.")
    for _ in range(2):  # from the videos, then from the store
        clips = FolderClips(tmp_path, (32, 32), detector=Reader())
        assert [clips[n].name for n in range(len(clips))] == ["good.mp4"]
        notes = "\n".join(clips.notes)
        for name, why in (
            ("dark", "no hands were found"), ("short", "has 15 frames, 16 are needed"),
            ("silent", "there is no silent.txt"), ("empty", "empty.txt is empty"), ("broken", "damaged"),
        ):  # fmt: skip
            assert f"left out: {name}.mp4: " in notes
            assert why in notes
        assert len(clips.notes) == 5


def test_folders_that_give_nothing(tmp_path):
    with pytest.raises(InputError, match="holds no videos"):
        FolderClips(tmp_path, (32, 32), detector=Reader())
    with pytest.raises(InputError, match="is not a folder"):
        FolderClips(tmp_path / "none", (32, 32), detector=Reader())
    movie(tmp_path / "dark.mp4", brightness=0)
    with pytest.raises(InputError, match=r"none of 1 videos can be used; left out: dark\.mp4: no hands"):
        FolderClips(tmp_path, (32, 32), detector=Reader())


def test_real_hands_are_found_and_trained_on(tmp_path):
    clip = render_clip(3, size=128)
    lossless(tmp_path / "clip.mp4", clip.frames)
    (tmp_path / "clip.txt").write_text(clip.text)
    clips = FolderClips(tmp_path, (128, 128), detector=HandDetector.from_pretrained)
    found = clips[0]
    assert found.visible.sum() >= 8
    errors = []
    for frame, hand in np.argwhere(found.visible):
        read, true = (joints[frame].reshape(2, 21, 2)[hand] for joints in (found.joints, clip.joints2d))
        errors.append(np.linalg.norm(read - true, axis=1).mean())
    assert np.median(errors) < 0.06
    both = (found.area & clip.area_hull).sum() / (found.area | clip.area_hull).sum()
    assert both > 0.5
