"""The metric networks: layouts of the published files, and what the original code gives with seeded weights.

The reference values were computed by the original implementations (pytorch-fid 0.3.0; VideoGPT's
InceptionI3d; EgoVLP's SpaceTimeTransformer) with the weights of `seeded` and the input of `wave`.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from metrics.seeded import seeded
from torch import Tensor, nn
from torch.nn import functional as F

from handi.core.errors import InputError, ModelError
from handi.evaluation.metrics.networks.egovlp import (
    TEMPORAL,
    EgoVLP,
    SpaceTimeTransformer,
    build_egovlp,
    even_frames,
    shorter_side_and_crop,
)
from handi.evaluation.metrics.networks.i3d import I3D, ScriptedI3D, build_i3d, stretched
from handi.evaluation.metrics.networks.inception import Inception, build_inception
from handi.evaluation.metrics.networks.running import as_tensor, fill, measuring


def wave(*shape: int) -> Tensor:
    return (torch.arange(float(np.prod(shape))).reshape(shape) * 0.7).sin() / 2 + 0.5


def on_meta(kind: type[nn.Module], *arguments: int) -> nn.Module:
    with torch.device("meta"):
        return kind(*arguments)


def sampled(values: Tensor) -> list[float]:
    return values.flatten()[:: max(values.numel() // 6, 1)][:6].tolist()


# ------------------------------------------------------------------------------------------------ layouts


@pytest.mark.parametrize(
    ("kind", "arguments", "tensors", "millions"),
    [(Inception, (), 566, 23.85), (I3D, (), 344, 12.70), (EgoVLP, (16,), 327, 180.93)],
)
def test_as_many_tensors_as_published(kind, arguments, tensors, millions):
    network = on_meta(kind, *arguments)
    assert len(network.state_dict()) == tensors
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.01)


@pytest.mark.parametrize(
    ("kind", "arguments", "expected"),
    [
        (
            Inception,
            (),
            {
                "Conv2d_1a_3x3.conv.weight": (32, 3, 3, 3),
                "Mixed_5b.branch_pool.conv.weight": (32, 192, 1, 1),
                "Mixed_6a.branch3x3dbl_3.conv.weight": (96, 96, 3, 3),
                "Mixed_6c.branch7x7dbl_2.conv.weight": (160, 160, 7, 1),
                "Mixed_7a.branch7x7x3_2.conv.weight": (192, 192, 1, 7),
                "Mixed_7c.branch3x3dbl_3b.conv.weight": (384, 384, 3, 1),
                "Mixed_7c.branch_pool.bn.running_var": (192,),
                "fc.weight": (1008, 2048),
            },
        ),
        (
            I3D,
            (),
            {
                "Conv3d_1a_7x7.conv3d.weight": (64, 3, 7, 7, 7),
                "Mixed_4f.b1b.conv3d.weight": (320, 160, 3, 3, 3),
                "Mixed_5c.b3b.bn.running_mean": (128,),
                "logits.conv3d.bias": (400,),
            },
        ),
        (
            EgoVLP,
            (4,),
            {
                "video_model.cls_token": (1, 1, 768),
                "video_model.pos_embed": (1, 197, 768),
                "video_model.temporal_embed": (1, 4, 768),
                "video_model.patch_embed.proj.weight": (768, 3, 16, 16),
                "video_model.blocks.11.timeattn.qkv.bias": (2304,),
                "video_model.blocks.0.norm3.weight": (768,),
                "video_model.blocks.0.mlp.fc1.weight": (3072, 768),
                "text_model.embeddings.word_embeddings.weight": (30522, 768),
                "text_model.embeddings.position_embeddings.weight": (512, 768),
                "text_model.transformer.layer.5.attention.out_lin.weight": (768, 768),
                "text_model.transformer.layer.5.sa_layer_norm.bias": (768,),
                "text_model.transformer.layer.0.ffn.lin1.weight": (3072, 768),
                "txt_proj.1.weight": (256, 768),
                "vid_proj.0.weight": (256, 768),
            },
        ),
    ],
)
def test_keys_and_shapes(kind, arguments, expected):
    found = {key: tuple(value.shape) for key, value in on_meta(kind, *arguments).state_dict().items()}
    assert {key: found.get(key) for key in expected} == expected


# ----------------------------------------------------------------------------------- values of the originals


def test_inception_is_pytorch_fids():
    network = build_inception(seeded(on_meta(Inception)), "seeded").eval()
    with measuring():
        features = network(wave(1, 3, 48, 64))
    assert features.shape == (1, 2048)
    expected = [1.72257, 0.08211, 2.39294, 2.58413, 1.73675, 0.32893]
    assert sampled(features) == pytest.approx(expected, abs=2e-4)
    assert float(features.mean()) == pytest.approx(2.40682, abs=2e-4)


def test_i3d_is_videogpts():
    network = build_i3d(seeded(on_meta(I3D)), "seeded").eval()
    with measuring():
        features = network(wave(1, 3, 9, 224, 224))
    assert features.shape == (1, 400)
    expected = [-2.91607, 9.60947, -3.2464, -4.39498, 0.41953, 5.31393]
    assert sampled(features) == pytest.approx(expected, abs=2e-3)
    with pytest.raises(InputError, match="9 frames or more, not 8"):
        network(torch.zeros(1, 3, 8, 16, 16))


def test_egovlps_video_tower_is_the_original():
    """Fewer frames than slots, in a small tower; the block's residual and both attentions show in it."""
    network = SpaceTimeTransformer(6, 48, 2, 4)
    network.load_state_dict(seeded(network))
    with measuring():
        features = network.eval()((wave(1, 5, 3, 224, 224) - 0.5) * 2)
        with pytest.raises(InputError, match="6 frames at most, not 7"):
            network(torch.zeros(1, 7, 3, 224, 224))
    expected = [0.83259, -0.94184, 1.09121, -1.05908, 0.24475, 0.21521]
    assert sampled(features) == pytest.approx(expected, abs=1e-4)


# -------------------------------------------------------------------------------------------- preprocessing


def test_stretch_keeps_the_frames_apart():
    video = wave(1, 3, 9, 20, 36)
    each = torch.stack([
        F.interpolate(video[:, :, t], size=(224, 224), mode="bilinear", align_corners=False) for t in range(9)
    ], dim=2)  # fmt: skip
    assert torch.equal(stretched(video), each)


def test_egovlps_crop():
    """Shorter side to 224, the middle 224 columns of the 392 that 448 become."""
    frame = torch.zeros(1, 3, 256, 448)
    frame[..., 224:] = 1
    cropped = shorter_side_and_crop(frame)
    assert cropped.shape == (1, 3, 224, 224)
    assert float(cropped[..., :111].max()) == 0
    assert float(cropped[..., 113:].min()) == pytest.approx(1)
    tall = shorter_side_and_crop(wave(1, 3, 300, 200))
    assert tall.shape == (1, 3, 224, 224)


def test_even_frames():
    assert even_frames(15, 16) == list(range(15))
    assert even_frames(15, 4) == [1, 4, 8, 12]
    assert even_frames(32, 16) == list(range(0, 32, 2))
    assert even_frames(1, 4) == [0]


def test_frames_are_bytes():
    assert float(as_tensor(np.full((1, 2, 2, 3), 255, np.uint8)).min()) == 1
    for wrong in (np.zeros((2, 2, 3), np.uint8), np.zeros((1, 2, 2, 3), np.float32)):
        with pytest.raises(InputError, match="L×H×W×3 uint8"):
            as_tensor(wrong)


# ------------------------------------------------------------------------------------------- wrong weights


def test_a_file_of_another_model():
    inception = {key: torch.zeros(value.shape) for key, value in on_meta(Inception).state_dict().items()}
    with pytest.raises(
        ModelError, match=r"x\.pth: is not I3D for FVD .*weights are missing, among them Conv3d"
    ):
        build_i3d(inception, "x.pth")
    with pytest.raises(ModelError, match="is not FID's Inception"):
        build_inception({"a": torch.zeros(1)}, "x.pth")
    wrong = inception | {"fc.weight": torch.zeros(1000, 2048)}  # torchvision's ImageNet network
    with pytest.raises(ModelError, match=r"fc\.weight is 1000×2048, not 1008×2048"):
        build_inception(wrong, "x.pth")
    with pytest.raises(ModelError, match="1 weights have no place, among them extra"):
        build_inception(inception | {"extra": torch.zeros(1)}, "x.pth")
    with pytest.raises(ModelError, match="not finite"):
        build_inception(inception | {"fc.bias": torch.full((1008,), torch.nan)}, "x.pth")
    without = {key: value for key, value in inception.items() if not key.endswith("num_batches_tracked")}
    assert len(build_inception(without, "x.pth").state_dict()) == 566  # older files have no counters


def test_egovlp_of_other_slots():
    with pytest.raises(ModelError, match="EgoVLP of 4 frames, not of 16"):
        build_egovlp({TEMPORAL: torch.zeros(1, 4, 768)}, "x.pth", slots=16)
    with pytest.raises(ModelError, match=r"is not EgoVLP: 3.. of 327 weights are missing"):
        build_egovlp({"a": torch.zeros(1)}, "x.pth", slots=16)


def test_half_precision_files_are_read_in_float32():
    layer = on_meta(nn.Linear, 3, 2)
    filled = fill(layer, {"weight": torch.ones(2, 3).half(), "bias": torch.zeros(2).half()}, "x", "a layer")
    assert filled.weight.dtype == torch.float32


class _Script(nn.Module):
    def forward(self, x: Tensor, rescale: bool, resize: bool, return_features: bool) -> Tensor:
        if rescale or resize or not return_features:
            return x
        return x.mean(dim=(3, 4)).flatten(1)


def test_the_script_gets_the_same_frames():
    """StyleGAN-V's file is a program with switches: frames of 224² in [-1, 1], raw features back."""
    network = ScriptedI3D(torch.jit.script(_Script()))
    video = wave(1, 3, 9, 20, 36)
    expected = (stretched(video) * 2 - 1).mean(dim=(3, 4)).flatten(1)
    assert torch.allclose(network(video), expected, atol=1e-6)
    with pytest.raises(InputError, match="9 frames or more"):
        network(video[:, :, :5])
