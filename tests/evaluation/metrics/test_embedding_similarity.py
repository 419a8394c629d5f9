"""CLIP, EgoVLP, BLIP and the set metrics as `handi evaluate` uses them, with tiny seeded models on disk."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from metrics.seeded import WORDS, thin_egovlp, tiny_blip, tiny_clip
from PIL import Image
from safetensors.torch import save_file
from torch.nn import functional as F
from transformers import (
    BlipForConditionalGeneration,
    CLIPImageProcessor,
    CLIPModel,
)

from handi.core.errors import ModelError
from handi.evaluation.metrics import METRICS, distances, metric_class
from handi.evaluation.metrics import embedding_similarity as similarity
from handi.evaluation.metrics.networks import blip, clip
from handi.evaluation.metrics.networks.egovlp import EgoVLP
from handi.evaluation.metrics.networks.folders import load_words
from handi.evaluation.metrics.protocol import Metric, Pair, Unscored
from handi.evaluation.metrics.weights import CATALOGUE


@pytest.fixture(autouse=True)
def no_weights(monkeypatch, tmp_path) -> None:
    """An empty cache, and no variable of the user's."""
    for entry in CATALOGUE.values():
        monkeypatch.delenv(entry.variable, raising=False)
    monkeypatch.setenv("HANDI_CACHE", str(tmp_path / "no-cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "no-hub"))


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory) -> Path:
    return tiny_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def words_file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("words") / "vocab.txt"
    path.write_text("\n".join(WORDS) + "\n")
    return path


def frames(count: int = 3, seed: int = 0, height: int = 24, width: int = 40) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def uncached(extractor, shown: np.ndarray) -> np.ndarray:
    return extractor(shown)


# --------------------------------------------------------------------------------------------------- CLIP


def test_clip_is_transformers(clip_folder):
    """The embeddings of transformers' own forward on the same pixels and tokens."""
    ours = clip.load_clip(clip_folder)
    model = CLIPModel.from_pretrained(clip_folder).eval()
    shown = torch.from_numpy(frames()).permute(0, 3, 1, 2).float() / 255
    square = F.interpolate(shown, size=(32, 32), mode="bicubic", align_corners=False)
    processor = CLIPImageProcessor()
    mean, deviation = (torch.tensor(v)[:, None, None] for v in (processor.image_mean, processor.image_std))
    tokens = ours.tokenizer(["cut the carrot"], return_tensors="pt")
    with torch.no_grad():
        whole = model(pixel_values=(square - mean) / deviation, **tokens)
    assert torch.allclose(ours.embed_frames(shown), whole.image_embeds, atol=1e-6)
    assert torch.allclose(ours.embed_text("cut the carrot"), whole.text_embeds[0], atol=1e-6)
    assert float(ours.embed_frames(shown).norm(dim=-1).sub(1).abs().max()) < 1e-6


def test_clip_sees_the_whole_width(clip_folder):
    """No centre crop: what is at the edge of a wide frame counts."""
    ours = clip.load_clip(clip_folder)
    shown = torch.zeros(2, 3, 16, 64)
    shown[1, :, :, :8] = 1
    first, second = ours.embed_frames(shown)
    assert float(first @ second) < 0.999


def test_a_long_text_is_cut(clip_folder):
    ours = clip.load_clip(clip_folder)
    assert torch.isfinite(ours.embed_text("cut the carrot " * 50)).all()


def test_the_wrong_clip(clip_folder, tmp_path):
    with pytest.raises(ModelError, match="is CLIP of another size, not ViT-L/14"):
        clip.load_clip(clip_folder, "ViT-L/14")
    with pytest.raises(ModelError, match=r"has no config\.json"):
        clip.load_clip(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "blip"}')
    with pytest.raises(ModelError, match="is a blip model, not clip"):
        clip.load_clip(tmp_path)
    (tmp_path / "config.json").write_text((clip_folder / "config.json").read_text())
    (tmp_path / "model.safetensors").write_bytes((clip_folder / "model.safetensors").read_bytes()[:999])
    with pytest.raises(ModelError, match="weights cannot be loaded") as cut:
        clip.load_clip(tmp_path)
    assert "\n" not in str(cut.value)


def test_clip_scores(clip_folder, monkeypatch):
    """By hand: frame to true frame, neighbour to neighbour, frame to text."""
    monkeypatch.setitem(clip.SHAPES, "ViT-L/14", (16, 2, 8))
    monkeypatch.setitem(clip.SHAPES, "ViT-B/32", (16, 2, 8))
    for name in ("clip-l14", "clip-b32"):
        monkeypatch.setenv(CATALOGUE[name].variable, str(clip_folder))
    # the file has the name of the published one and not its content
    monkeypatch.setattr("handi.evaluation.metrics.weights.check", unchecked)
    images, text = similarity.ClipImages(), similarity.ClipText()
    pair = Pair(
        "v", frames(seed=1), reference=frames(seed=2), text="cut", description="a hand cut the carrot"
    )
    generated, true = (images.frames(x) for x in (pair.generated, pair.reference))
    cosines = [float(np.dot(a, b)) for a, b in zip(generated, true, strict=True)]
    scores = images.scores(pair, uncached)
    assert scores["clip_gt"] == pytest.approx(np.mean(cosines), abs=1e-6)
    neighbours = [np.dot(a, b) for a, b in pairwise(generated)]
    assert scores["clip_cs"] == pytest.approx(np.mean(neighbours), abs=1e-6)
    same = images.scores(Pair("v", pair.generated, reference=pair.generated), uncached)
    assert same["clip_gt"] == pytest.approx(1, abs=1e-6) != scores["clip_gt"]
    still = images.scores(Pair("v", np.repeat(pair.generated[:1], 3, axis=0)), uncached)
    assert still == {"clip_cs": pytest.approx(1, abs=1e-6)}  # and no clip_gt without a true video
    with pytest.raises(Unscored, match="3 generated frames for 2 true ones"):
        images.scores(Pair("v", pair.generated, reference=frames(2)), uncached)
    embedded = text.frames.clip.embed_text("cut").numpy()
    found = text.scores(pair, uncached)
    assert found["clip_tx"] == pytest.approx(100 * np.mean(generated @ embedded), abs=1e-4)
    assert found["clip_tx_description"] != found["clip_tx"]
    assert len(images.weights) == 1


def unchecked(weights, path):
    from handi.evaluation.metrics.weights import FoundWeights, digests_of

    return FoundWeights(weights, path, digests_of(path / "model.safetensors" if path.is_dir() else path)[0])


# --------------------------------------------------------------------------------------------------- BLIP


def published(model: BlipForConditionalGeneration) -> dict[str, torch.Tensor]:
    """A captioner's weights under the names of the published .pth."""
    names = {
        "vision_model.embeddings.class_embedding": "visual_encoder.cls_token",
        "vision_model.embeddings.position_embedding": "visual_encoder.pos_embed",
        "vision_model.embeddings.patch_embedding": "visual_encoder.patch_embed.proj",
        "vision_model.post_layernorm": "visual_encoder.norm",
        "vision_model.encoder.layers": "visual_encoder.blocks",
        "self_attn.projection": "attn.proj",
        "self_attn.qkv": "attn.qkv",
        "layer_norm": "norm",
    }
    renamed = {}
    for key, value in model.state_dict().items():
        if key.startswith("vision_model"):
            for ours, theirs in names.items():
                key = key.replace(ours, theirs)
        renamed[key] = value.clone()
    renamed["text_decoder.bert.embeddings.position_ids"] = torch.arange(32)[None]  # of old transformers
    return renamed


def test_blip_is_transformers(words_file):
    """The published names lead to the same network, and its captions are transformers' beam search."""
    model = tiny_blip()
    captioner = blip.build_blip(published(model), "x.pth", load_words(words_file))
    state = captioner.model.state_dict()
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert captioner.model.config.vision_config.layer_norm_eps == 1e-6
    for picture in frames(2, seed=5):
        square = Image.fromarray(picture).resize((32, 32), Image.Resampling.BICUBIC)
        pixels = torch.from_numpy(np.array(square)).permute(2, 0, 1).float() / 255
        processor = CLIPImageProcessor()
        mean, deviation = (
            torch.tensor(v)[:, None, None] for v in (processor.image_mean, processor.image_std)
        )
        tokens = model.generate(
            pixel_values=((pixels - mean) / deviation)[None], input_ids=torch.tensor([[2, 5, 6, 7, 3]]),
            num_beams=3, max_length=20, min_length=5,
        )[0].tolist()  # fmt: skip
        assert tokens[:4] == [len(WORDS), 5, 6, 7]  # [DEC] a picture of
        kept = [WORDS[token] for token in tokens[4:] if 4 < token < len(WORDS) or token == 1]
        assert captioner.caption(picture).split() == [word for word in kept if word != "[UNK]"]
        assert captioner.caption(picture) == captioner.caption(picture)


def test_blip_from_a_folder(words_file, tmp_path):
    model = tiny_blip()
    model.save_pretrained(tmp_path)
    captioner = blip.load_blip_folder(tmp_path, load_words(words_file))
    other = blip.build_blip(published(model), "x.pth", load_words(words_file))
    picture = frames(1, seed=6)[0]
    # the folder's config says its norms' epsilon; the captions of both are those of one network
    assert captioner.caption(picture) == other.caption(picture)


def test_the_wrong_blip(words_file, tmp_path):
    words = load_words(words_file)
    with pytest.raises(ModelError, match="is BLIP of another size, not large"):
        blip.build_blip(published(tiny_blip()), "x.pth", words, "large")
    with pytest.raises(ModelError, match=r"not a BLIP captioner: visual_encoder\.cls_token is missing"):
        blip.build_blip({"a": torch.zeros(1)}, "x.pth", words)
    short = published(tiny_blip())
    del short["text_decoder.bert.encoder.layer.1.crossattention.self.key.weight"]
    with pytest.raises(ModelError, match="1 weights are missing"):
        blip.build_blip(short, "x.pth", words)
    (tmp_path / "vocab.txt").write_text("a\nb\n")
    with pytest.raises(ModelError, match="not BERT's"):
        load_words(tmp_path / "vocab.txt")


# ---------------------------------------------------------------------------------- EgoVLP and the BLIP score


@pytest.fixture(scope="module")
def towers() -> dict[int, EgoVLP]:
    return {slots: thin_egovlp(slots) for slots in (16, 4)}


@pytest.fixture
def ego_files(monkeypatch, tmp_path, towers):
    """Files at the variables, and the thin towers for whatever is in them."""
    for name in ("egovlp-epic", "egovlp-ego4d"):
        save_file({"w": torch.ones(1)}, tmp_path / f"{name}.safetensors")
        monkeypatch.setenv(CATALOGUE[name].variable, str(tmp_path / f"{name}.safetensors"))
    monkeypatch.setattr(similarity, "build_egovlp", lambda tensors, where, slots: towers[slots])


def test_egovlp_scores(ego_files):
    pair = Pair("v", frames(15, seed=1), reference=frames(15, seed=2))
    for kind in (similarity.EgoVlp, similarity.EgoVlpEgo4d):
        metric = kind()
        (score,) = metric.scores(pair, uncached).values()
        (same,) = metric.scores(Pair("v", pair.generated, reference=pair.generated), uncached).values()
        assert same == pytest.approx(1)
        assert score < 0.99999
        assert metric.frames(pair.generated).shape == (1, 256)
    # Ego4D's reads frames 1, 4, 8, 12 and no other
    others = pair.generated.copy()
    others[[0, 2, 3, 14]] = 0
    metric = similarity.EgoVlpEgo4d()
    assert np.array_equal(metric.frames(others), metric.frames(pair.generated))
    others[8] = 0
    assert not np.array_equal(metric.frames(others), metric.frames(pair.generated))


def test_egovlp_of_stills(ego_files):
    """Each frame a video of 16 equal frames, whatever the others are."""
    metric = similarity.EgoVlpStills()
    shown = frames(2, seed=3)
    rows = metric.frames(shown)
    assert rows.shape == (2, 256)
    video = similarity.EgoVlp().frames(np.repeat(shown[1:], 16, axis=0))
    assert np.allclose(rows[1], video[0], atol=1e-5)
    assert metric.frames.key != similarity.EgoVlp().frames.key


def test_blip_score(ego_files, words_file, monkeypatch, tmp_path, towers):
    """Captions of the frames against the enriched text, by EgoVLP's text tower."""
    save_file({k: v.contiguous() for k, v in published(tiny_blip()).items()}, tmp_path / "blip.safetensors")
    monkeypatch.setenv("HANDI_BLIP_BASE", str(tmp_path / "blip.safetensors"))
    monkeypatch.setenv("HANDI_BERT_WORDS", str(words_file))
    monkeypatch.setitem(blip.WIDTHS, 64, "base")
    monkeypatch.setattr("handi.evaluation.metrics.weights.check", unchecked)
    metric = similarity.BlipBase()
    pair = Pair("v", frames(2, seed=4), text="cut the carrot", description="a hand cut the carrot")
    captions = [str(caption) for caption in metric.captions(pair.generated)]
    assert all(captions)
    words = load_words(words_file)

    def embed(text: str) -> np.ndarray:
        with torch.no_grad():
            return towers[16].embed_text(words(text, return_tensors="pt").input_ids)[0].numpy()

    target = embed("a hand cut the carrot")
    expected = [embed(c) @ target / np.linalg.norm(embed(c)) / np.linalg.norm(target) for c in captions]
    (score,) = metric.scores(pair, uncached).values()
    assert score == pytest.approx(float(np.mean(expected)), abs=1e-5)
    # the short action where nothing else is known
    short = metric.scores(Pair("v", pair.generated, text="cut the carrot"), uncached)
    assert short["blip_base"] != pytest.approx(score, abs=1e-4)
    assert len(metric.weights) == 3
    # with all metrics on, the captioner and EgoVLP are in memory once
    assert similarity.BlipBaseEgo4d().captions.captioner is metric.captions.captioner
    assert similarity.EgoVlp().frames.network is similarity.EgoVlpStills().frames.network is metric.tower


# ------------------------------------------------------------------------------- FID, KID, FVD, KVD


class _Mean(torch.nn.Module):
    """A stand-in whose features are known: channel means, one row per frame (4-d input) or per clip (5-d)."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(2).mean(dim=2) * self.scale


@pytest.mark.parametrize(("name", "rows"), [("fid", 9), ("kid", 9), ("fvd", 1), ("kvd", 1)])
def test_set_metrics(name, rows, monkeypatch, tmp_path):
    save_file({"w": torch.ones(1)}, tmp_path / "w.safetensors")
    monkeypatch.setenv("HANDI_INCEPTION", str(tmp_path / "w.safetensors"))
    monkeypatch.setenv("HANDI_I3D", str(tmp_path / "w.safetensors"))
    for loader in ("load_inception", "load_i3d"):
        monkeypatch.setattr(distances, loader, lambda found: _Mean())
    metric = metric_class(name)()
    video = frames(9, seed=1)
    features = metric.extractor(video)
    assert features.shape == (rows, 3)
    means = video.reshape(9, -1, 3).mean(axis=1) / 255
    assert np.allclose(features, means if rows == 9 else means.mean(axis=0, keepdims=True), atol=1e-6)
    a = np.concatenate([metric.extractor(frames(9, seed=s)) for s in range(6)])
    b = np.concatenate([metric.extractor(frames(9, seed=s) // 2) for s in range(6)])
    assert metric.distance(a, b) > 100 * abs(metric.distance(a, a)) or metric.distance(a, a) < 1e-9
    assert next(iter(metric.weights.values())) in metric.extractor.key
    assert metric.enough == (2048 if name in ("fid", "fvd") else 0)


def test_a_short_clip_has_no_fvd(monkeypatch, tmp_path):
    save_file({"w": torch.ones(1)}, tmp_path / "w.safetensors")
    monkeypatch.setenv("HANDI_I3D", str(tmp_path / "w.safetensors"))
    monkeypatch.setattr(distances, "load_i3d", lambda found: _Mean())
    with pytest.raises(Unscored, match="9 frames or more, not 8"):
        distances.Fvd().extractor(frames(8))


def test_the_script_stands_in_for_i3d(monkeypatch, tmp_path):
    """Only the published file is run: a program of another content is refused by its hash, of another
    name because nothing is known of it."""
    script = tmp_path / "i3d_torchscript.pt"
    torch.jit.script(torch.nn.Identity()).save(str(script))
    monkeypatch.setenv("HANDI_I3D_SCRIPT", str(script))
    with pytest.raises(ModelError, match="not the published file"):
        distances.Fvd()
    script.rename(tmp_path / "other.pt")
    monkeypatch.setenv("HANDI_I3D_SCRIPT", str(tmp_path / "other.pt"))
    with pytest.raises(ModelError, match="only under its published name"):
        distances.Fvd()


# ------------------------------------------------------------------------------------------------- the table


WITH_WEIGHTS = [
    name
    for name, where in METRICS.items()
    if where.split(":")[0].endswith(("distances", "embedding_similarity"))
]


@pytest.mark.parametrize("name", WITH_WEIGHTS)
def test_without_weights_a_metric_says_so(name):
    """Each says in one line which file it lacks and what to do; none gives a number."""
    kind = metric_class(name)
    assert kind.name == name
    assert all(need in CATALOGUE for need in kind.needs)
    with pytest.raises(ModelError) as missing:
        kind()
    text = str(missing.value)
    assert "is not on this machine" in text
    assert "HANDI_" in text
    assert "\n" not in text


def test_figures_have_names_of_their_own():
    kinds = [metric_class(name) for name in WITH_WEIGHTS]
    names = [figure.name for kind in kinds for figure in kind.figures]
    assert len(WITH_WEIGHTS) == 13
    assert len(set(names)) == len(names)
    assert all(isinstance(kind.__new__(kind), object) and hasattr(kind, "preprocessing") for kind in kinds)


def test_they_are_metrics(ego_files):
    metric = similarity.EgoVlp()
    assert isinstance(metric, Metric)
    assert all(math.isfinite(v) for v in metric.scores(
        Pair("v", frames(2), reference=frames(2, seed=9)), uncached).values())  # fmt: skip
