from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from handi.core.errors import InputError, ModelError
from handi.hands import HandDetector, Hands, Track
from handi.hands import networks as networks_module
from handi.hands.regions import F32

BACKENDS = ["torch", "litert"]


def same(one: Hands, other: Hands, px: float = 0.1) -> None:
    """Equal to rounding: a unit in the last place may move a pixel of a crop by a level."""
    torch.testing.assert_close(one.visible, other.visible)
    scale = torch.tensor(one.size[::-1])
    torch.testing.assert_close(one.joints * scale, other.joints * scale, rtol=0, atol=px)
    torch.testing.assert_close(one.presence, other.presence, rtol=0, atol=1e-3)
    torch.testing.assert_close(one.handedness, other.handedness, rtol=0, atol=5e-3)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("mode", ["image", "video"])
@pytest.mark.parametrize("name", ["cut", "pick"])
def test_native_mediapipe_says_the_same(weights, clips, native, name, mode, backend):
    clip = clips[name]
    hands = HandDetector(weights, backend=backend, threads=2).detect(clip, mode=mode)
    assert hands.backend.startswith(backend)
    ours = hands.joints.view(-1, 2, 21, 2).double().numpy() * (clip.shape[2], clip.shape[1])
    for row, theirs in enumerate(native[name][mode]):
        mine = np.flatnonzero(hands.visible[row])
        assert len(mine) == len(theirs)
        for order in itertools.permutations(mine):
            gaps = [
                np.linalg.norm(ours[row, slot] - t["landmarks"], axis=-1)
                for slot, t in zip(order, theirs, strict=True)
            ]
            labels = [
                (hands.handedness[row, slot] >= 0.5).item() == t["right"]
                for slot, t in zip(order, theirs, strict=True)
            ]
            if all(labels):
                break
        assert all(labels)
        assert max((gap.max() for gap in gaps), default=0) < 0.3  # px


def test_left_hand_first_and_zeros_where_there_is_none(detector, clips):
    hands = detector.detect(clips["cut"])
    assert hands.counts.tolist() == [2, 2, 2, 2]
    assert (hands.handedness[:, 0] < 0.5).all()
    assert (hands.handedness[:, 1] > 0.5).all()
    reach = detector.detect(clips["pick"])
    assert reach.counts.tolist() == [1, 0]
    slot = int(reach.visible[0].nonzero())
    empty = ~reach.visible
    assert reach.joints.view(2, 2, 21, 2)[empty].abs().max() == 0
    assert reach.joints.view(2, 2, 21, 2)[0, slot].min() > 0
    assert reach.rois[empty].abs().max() == 0
    assert reach.presence[empty].max() < 1e-6
    assert len(reach) == 2


def test_mirrored_footage_swaps_the_labels(weights, detector, clips):
    hands = detector.detect(clips["cut"])
    swapped = HandDetector(weights, backend="torch", mirrored=True).detect(clips["cut"])
    torch.testing.assert_close(swapped.joints, hands.joints.view(-1, 2, 21, 2).flip(1).reshape(-1, 42, 2))
    torch.testing.assert_close(swapped.handedness, 1 - hands.handedness.flip(1))


def test_a_frame_says_the_same_alone_in_a_batch_and_in_chunks(detector, clips):
    whole = detector.detect(clips["cut"])
    for chunk in (1, 3):
        same(detector.detect(clips["cut"], chunk=chunk), whole)
    for row in range(4):
        alone = detector.detect(clips["cut"][row : row + 1])
        torch.testing.assert_close(alone.joints[0], whole.joints[row], rtol=0, atol=1e-3)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_video_in_pieces_is_a_video(weights, clips, backend):
    detector = HandDetector(weights, backend=backend, threads=2)
    whole = detector.detect(clips["cut"], mode="video")
    track = Track()
    pieces = [
        detector.detect(clips["cut"][part], mode="video", track=track) for part in (slice(0, 1), slice(1, 4))
    ]
    assert len(track.regions) == 2
    torch.testing.assert_close(torch.cat([piece.joints for piece in pieces]), whole.joints, rtol=0, atol=1e-3)


def test_tracking_needs_no_palms_while_two_hands_are_followed(weights, clips, monkeypatch):
    detector = HandDetector(weights, backend="torch")
    calls = []
    plain = networks_module.TorchNetworks.palms
    monkeypatch.setattr(
        networks_module.TorchNetworks, "palms", lambda self, f: calls.append(len(f)) or plain(self, f)
    )
    detector.detect(clips["cut"], mode="video")
    assert calls == [1]
    calls.clear()
    detector.detect(clips["pick"], mode="video")  # one hand, then none: looked for in every frame
    assert calls == [1, 1]


def test_backends_agree_and_are_chosen(weights, clips):
    auto = HandDetector(weights)
    found = auto.detect(clips["cut"])
    assert found.backend.startswith("litert")
    same(HandDetector(weights, backend="torch").detect(clips["cut"]), found)
    frames = torch.from_numpy(clips["cut"]).permute(0, 3, 1, 2) / 255
    assert auto.landmarks(frames.requires_grad_(), found.rois).backend.startswith("torch")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_says_the_same(detector, clips):
    frames = torch.from_numpy(clips["cut"].copy()).cuda()
    found = detector.detect(frames)
    assert found.joints.device.type == "cuda"
    assert found.backend == "torch on cuda:0, full"
    read = detector.landmarks((frames.permute(0, 3, 1, 2) / 255).requires_grad_(), found.rois)
    torch.testing.assert_close(read.joints.detach(), found.joints, rtol=0, atol=1e-3)
    expected = detector.detect(clips["cut"])
    torch.testing.assert_close(found.joints.cpu(), expected.joints, rtol=0, atol=2e-3)


def test_without_litert_torch_does_it(weights, clips, monkeypatch):
    monkeypatch.setattr("handi.hands.detector.litert_installed", lambda: False)
    monkeypatch.setattr(networks_module, "litert_installed", lambda: False)
    assert HandDetector(weights).detect(clips["pick"]).backend == "torch on cpu, full"
    with pytest.raises(ModelError, match=r"pip install 'handi\[litert\]'"):
        HandDetector(weights, backend="litert").detect(clips["pick"])


def test_types_of_frames(detector, clips):
    whole = detector.detect(clips["cut"])
    floats = torch.from_numpy(clips["cut"]).permute(0, 3, 1, 2).float() / 255
    torch.testing.assert_close(detector.detect(floats).joints, whole.joints)
    torch.testing.assert_close(detector.detect(torch.from_numpy(clips["cut"])).joints, whole.joints)
    for wrong in (clips["cut"][0], clips["cut"][..., :2], clips["cut"].astype(np.int32), clips["cut"][:, :0]):
        with pytest.raises(InputError, match="frames must be"):
            detector.detect(wrong)
    with pytest.raises(ValueError, match="'image' or 'video'"):
        detector.detect(clips["cut"], mode="film")
    with pytest.raises(ValueError, match="rois must be"):
        detector.landmarks(floats, whole.rois[:2])


@pytest.mark.parametrize("shape", [(1, 1), (1, 400), (301, 7), (64, 64)])
def test_frames_of_any_size(detector, shape):
    hands = detector.detect(np.zeros((2, *shape, 3), np.uint8))
    assert hands.counts.tolist() == [0, 0]
    assert hands.size == shape


def test_no_hand_is_lost_when_both_get_one_label(weights, clips, monkeypatch):
    detector = HandDetector(weights, backend="torch")
    monkeypatch.setattr(HandDetector, "rightness", lambda self, reading: torch.full_like(reading.right, 0.9))
    hands = detector.detect(clips["cut"])
    assert hands.counts.tolist() == [2, 2, 2, 2]
    assert hands.joints.view(-1, 2, 21, 2).abs().amax((2, 3)).min() > 0


def test_more_than_two_regions_are_followed_and_two_are_told(weights, clips):
    detector = HandDetector(weights, backend="torch")
    track = Track()
    detector.detect(clips["cut"][:1], mode="video", track=track)
    first, second = track.regions
    third = type(first)(second.x, second.y, second.width * F32(3), second.height * F32(3), second.rotation)
    hands = detector.detect(clips["cut"][1:2], mode="video", track=Track([first, third, second]))
    assert hands.counts.tolist() == [2]


# ---------------------------------------------------------------------------------------- gradient


def float_frames(clip: np.ndarray) -> torch.Tensor:
    return (torch.tensor(clip).permute(0, 3, 1, 2) / 255).contiguous()


def test_landmarks_reads_what_detect_found(detector, clips):
    hands = detector.detect(clips["cut"])
    for frames in (float_frames(clips["cut"]), clips["cut"]):
        read = detector.landmarks(frames, hands.rois)
        same(read, hands, px=1e-3)
        assert read.visible.all()


def test_empty_slots_stay_empty_and_features_come_with_regions(detector, clips):
    hands = detector.detect(clips["pick"])
    read = detector.landmarks(float_frames(clips["pick"]), hands.rois, features=True)
    torch.testing.assert_close(read.visible, hands.visible)
    assert read.joints.view(2, 2, 21, 2)[~hands.visible].abs().max() == 0
    assert [tuple(m.shape) for m in read.features] == [
        (1, 24, 56, 56), (1, 40, 28, 28), (1, 112, 14, 14), (1, 192, 7, 7),
    ]  # fmt: skip
    nothing = detector.landmarks(float_frames(clips["pick"]).requires_grad_(), torch.zeros(2, 2, 4))
    assert not nothing.visible.any()
    assert nothing.features == ()
    assert torch.isfinite(nothing.presence_logits).all()


def test_the_gradient_is_that_of_finite_differences(detector, clips):
    frames = float_frames(clips["cut"][:1])
    rois = detector.detect(clips["cut"][:1]).rois

    def value(x: torch.Tensor) -> torch.Tensor:
        return detector.landmarks(x, rois).joints.sum()

    def difference(direction: torch.Tensor, step: float) -> float:
        with torch.no_grad():
            return (value(frames + step * direction) - value(frames - step * direction)).item() / (2 * step)

    leaf = frames.clone().requires_grad_()
    value(leaf).backward()
    assert leaf.grad.isfinite().all()
    uphill = torch.nn.functional.avg_pool2d(leaf.grad, 5, 1, 2)
    uphill = uphill / uphill.abs().max()
    assert difference(uphill, 0.004) == pytest.approx((leaf.grad * uphill).sum().item(), rel=0.1)
    # In any other direction ReLU kinks and the crop's 8 bits add noise to single differences, not to many.
    random = torch.Generator().manual_seed(0)
    coarse = torch.randn(12, 1, 3, 9, 12, generator=random)
    directions = [torch.nn.functional.interpolate(one, frames.shape[-2:], mode="bilinear") for one in coarse]
    directions = [direction / direction.abs().max() for direction in directions]
    slopes = [(leaf.grad * direction).sum().item() for direction in directions]
    differences = [difference(direction, 0.02) for direction in directions]
    assert np.corrcoef(slopes, differences)[0, 1] > 0.9


def warp_by_loss(
    detector: HandDetector,
    clip: np.ndarray,
    *,
    shift: tuple[float, float],
    grid: tuple[int, int],
    rate: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Let Eq. 2's error drive a smooth warp of one frame towards joints that lie `shift` px beside its own.

    The mean joint error of each hand in px before, and after it, with the hands found anew: palms and all,
    not in the regions that were optimised. NaN where a hand is no longer found.
    """
    frames = float_frames(clip)
    height, width = frames.shape[-2:]
    start = detector.detect(frames)
    scale = torch.tensor([width, height])
    target = start.joints + torch.tensor(shift) / scale
    flow = torch.zeros(1, 2, *grid, requires_grad=True)
    optimiser = torch.optim.Adam([flow], lr=rate)
    identity = torch.nn.functional.affine_grid(
        torch.eye(2, 3)[None], [1, 3, height, width], align_corners=False
    )

    def warped() -> torch.Tensor:
        smooth = torch.nn.functional.interpolate(flow, (height, width), mode="bicubic").permute(0, 2, 3, 1)
        return torch.nn.functional.grid_sample(
            frames, identity + smooth, padding_mode="border", align_corners=False
        )

    def error(hands: Hands) -> torch.Tensor:
        distances = ((hands.joints - target) * scale).norm(dim=-1).view(2, 21).mean(1)
        return torch.where(hands.visible[0], distances, torch.nan)

    for _ in range(40):
        optimiser.zero_grad()
        read = detector.landmarks(warped(), start.rois)
        (((read.joints - target) * scale) ** 2).mean().backward()
        optimiser.step()
    with torch.no_grad():
        return error(start), error(detector.detect(warped()))


def test_a_smooth_warp_that_follows_the_loss_moves_the_detected_hands(detector, clips):
    before, after = warp_by_loss(detector, clips["cut"][2:3], shift=(10, 0), grid=(3, 4), rate=6e-3)
    assert before.tolist() == pytest.approx([10, 10], abs=0.1)
    assert after.mean() < 7  # rendered hands of 60 px: the error has other minima on the way
