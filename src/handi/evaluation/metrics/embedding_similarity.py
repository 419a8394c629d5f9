"""Similarity of embeddings: CLIP_GT, CLIP_Cs, CLIP_Tx, EgoVLP, and LEGO's BLIP score."""

from __future__ import annotations

from functools import lru_cache
from importlib.metadata import version

import numpy as np
import torch
from torch import Tensor

from handi.core.types import Frames
from handi.evaluation.metrics.networks.blip import Captioner, build_blip, load_blip_folder
from handi.evaluation.metrics.networks.clip import ClipModel, load_clip
from handi.evaluation.metrics.networks.egovlp import EgoVLP, build_egovlp, even_frames
from handi.evaluation.metrics.networks.folders import load_words
from handi.evaluation.metrics.networks.running import as_tensor, device_of, measuring, ready
from handi.evaluation.metrics.protocol import Features, Figure, Pair, PairMetric, Unscored
from handi.evaluation.metrics.weights import FoundWeights, find, read_tensors

LONGEST_TEXT = 512  # tokens that DistilBERT reads


class ClipFrames:
    """Frames → L×D CLIP embeddings of length 1."""

    preprocessing = "lego-clip-stretch-224"  # bicubic without antialiasing, aspect not kept

    def __init__(self, name: str, kind: str, device: str) -> None:
        found = find(name)
        self.weights = found.record
        self.key = f"{self.preprocessing}/{found.sha256}"
        self.clip: ClipModel = load_clip(found.path, kind, device)

    def __call__(self, frames: Frames) -> np.ndarray:
        return self.clip.embed_frames(as_tensor(frames)).numpy()


class ClipImages(PairMetric):
    """CLIP_GT and CLIP_Cs, on ViT-L/14 as LEGO."""

    name = "clip"
    figures = (
        Figure("clip_gt", "CLIP_GT", "higher", of="cosine of frame t and true frame t, mean over frames",
               wants=("reference",)),
        Figure("clip_cs", "CLIP_Cs", "higher",
               of="cosine of neighbouring frames, mean over pairs; 1 for a video without motion",
               none="a single frame has no neighbour"),
    )  # fmt: skip
    needs = ("clip-l14",)
    preprocessing = ClipFrames.preprocessing

    def __init__(self, device: str = "cpu") -> None:
        self.frames = ClipFrames("clip-l14", "ViT-L/14", device)
        self.weights = self.frames.weights

    def scores(self, pair: Pair, features: Features) -> dict[str, float]:
        """Paper §3; embeddings have length 1, so that products are cosines."""
        generated = _exact(features(self.frames, pair.generated))
        scores = {}
        if pair.reference is not None:
            true = _exact(features(self.frames, pair.reference))
            if true.shape != generated.shape:
                raise Unscored(f"{len(generated)} generated frames for {len(true)} true ones")
            scores["clip_gt"] = float((generated * true).sum(axis=1).mean())
        if len(generated) > 1:
            scores["clip_cs"] = float((generated[1:] * generated[:-1]).sum(axis=1).mean())
        return scores


class ClipText(PairMetric):
    """CLIP_Tx on ViT-B/32: 100 × cosine of each frame and the text.

    The paper names neither model nor prompt; its 28 to 31 are values of the B models. So both texts count.
    """

    name = "clip_text"
    figures = (
        Figure("clip_tx", "CLIP_Tx", "higher", of="100 × cosine of a frame and the short action, mean"),
        Figure("clip_tx_description", "CLIP_Tx (enriched)", "higher",
               of="the same with the enriched text, cut at 77 tokens", wants=("description",)),
    )  # fmt: skip
    needs = ("clip-b32",)
    wants = ("text",)
    preprocessing = ClipFrames.preprocessing

    def __init__(self, device: str = "cpu") -> None:
        self.frames = ClipFrames("clip-b32", "ViT-B/32", device)
        self.weights = self.frames.weights

    def scores(self, pair: Pair, features: Features) -> dict[str, float]:
        """T2VScore's text alignment by CLIP, without its question answering."""
        generated = _exact(features(self.frames, pair.generated))
        texts = {"clip_tx": pair.text, "clip_tx_description": pair.description}
        return {
            name: float(100 * (generated @ _exact(self.frames.clip.embed_text(text))).mean())
            for name, text in texts.items()
            if text
        }


@lru_cache(maxsize=2)  # EPIC-KITCHENS' and Ego4D's; seven metrics share them
def _egovlp(found: FoundWeights, slots: int, device: str) -> EgoVLP:
    return ready(build_egovlp(read_tensors(found), found.path, slots=slots), device)


@lru_cache(maxsize=2)  # base and large; four metrics share them
def _captioner(found: FoundWeights, words: FoundWeights, size: str, device: str) -> Captioner:
    tokenizer = load_words(words.path)
    if found.path.is_dir():
        return load_blip_folder(found.path, tokenizer, size, device)
    return build_blip(read_tensors(found), found.path, tokenizer, size, device)


class EgoFrames:
    """Frames → 1×256 EgoVLP embedding of the video, or L×256, each of a still video of one frame."""

    def __init__(self, weights: str, slots: int, device: str, still: bool) -> None:
        found = find(weights)
        self.weights, self.still = found.record, still
        self.network = _egovlp(found, slots, device)
        self.key = f"{'still' if still else 'video'}-lego-egovlp-crop-224/{found.sha256}"

    def __call__(self, frames: Frames) -> np.ndarray:
        shown = as_tensor(frames).to(device_of(self.network))
        slots = self.network.slots
        with measuring():
            if not self.still:
                return self.network.embed_video(shown[None, even_frames(len(shown), slots)]).cpu().numpy()
            rows = [self.network.embed_video(frame.expand(1, slots, -1, -1, -1)) for frame in shown]
            return torch.cat(rows).cpu().numpy()


class EgoVlp(PairMetric):
    """EgoVLP: cosine of the generated video's embedding and the true one's, EPIC-KITCHENS' weights."""

    name = "egovlp"
    figures = (Figure("egovlp", "EgoVLP", "higher", of="cosine of the embeddings of all 15 frames"),)
    needs = ("egovlp-epic",)
    wants = ("reference",)
    preprocessing = "lego-egovlp-crop-224, video"
    slots, still = 16, False

    def __init__(self, device: str = "cpu") -> None:
        self.frames = EgoFrames(self.needs[0], self.slots, device, self.still)
        self.weights = self.frames.weights

    def scores(self, pair: Pair, features: Features) -> dict[str, float]:
        """Mean cosine over the rows that are embedded: one of a video, L of stills."""
        assert pair.reference is not None  # `wants` says so
        generated = _exact(features(self.frames, pair.generated))
        true = _exact(features(self.frames, pair.reference))
        if true.shape != generated.shape:
            raise Unscored(f"{len(generated)} generated frames for {len(true)} true ones")
        return {self.figures[0].name: float(_cosine(generated, true).mean())}


class EgoVlpEgo4d(EgoVlp):
    """The same with Ego4D's weights: four frames, evenly sampled."""

    name = "egovlp_ego4d"
    figures = (
        Figure("egovlp_ego4d", "EgoVLP (Ego4D)", "higher", of="cosine of the embeddings of 4 even frames"),
    )
    needs = ("egovlp-ego4d",)
    preprocessing = "lego-egovlp-crop-224, video of 4 even frames"
    slots = 4


class EgoVlpStills(EgoVlp):
    """The same as LEGO scores a picture: each frame as a still video of 16, mean over frames."""

    name = "egovlp_stills"
    figures = (
        Figure("egovlp_stills", "EgoVLP (stills)", "higher",
               of="cosine of the embeddings of each frame repeated 16 times, mean over frames"),
    )  # fmt: skip
    preprocessing = "lego-egovlp-crop-224, stills"
    still = True


class Captions:
    """Frames → L captions (an array of strings), one picture at a time."""

    preprocessing = "lego-blip-stretch-384"  # Pillow's bicubic; beams 3, length 5 to 20, "a picture of"

    def __init__(self, size: str, device: str) -> None:
        found, words = find(f"blip-{size}"), find("bert-words")
        self.weights = found.record | words.record
        # transformers' search for the best words has changed from version to version, and captions with it
        self.key = (
            f"{self.preprocessing}/{found.sha256}/{words.sha256}/transformers-{version('transformers')}"
        )
        self.captioner = _captioner(found, words, size, device)

    def __call__(self, frames: Frames) -> np.ndarray:
        return np.array([self.captioner.caption(frame) for frame in frames])


class BlipBase(PairMetric):
    """LEGO's BLIP score: each frame's caption against the enriched text, by EgoVLP's text tower.

    LEGO scores one picture an action; here every generated frame counts, and the mean over them.
    """

    name = "blip_base"
    figures = (
        Figure("blip_base", "BLIP base", "higher",
               of="cosine of EgoVLP's embeddings of a frame's caption and of the enriched text (the short "
                  "action where there is none), mean over frames"),
    )  # fmt: skip
    needs = ("blip-base", "egovlp-epic", "bert-words")
    wants = ("text",)
    preprocessing = f"{Captions.preprocessing}, all frames"

    def __init__(self, device: str = "cpu") -> None:
        blip, tower, words = (find(name) for name in self.needs)
        self.words = load_words(words.path)
        slots = 16 if tower.weights.name == "egovlp-epic" else 4
        self.tower = _egovlp(tower, slots, device)
        self.captions = Captions(blip.weights.name.removeprefix("blip-"), device)
        self.weights = self.captions.weights | tower.record

    def scores(self, pair: Pair, features: Features) -> dict[str, float]:
        """BLIP's caption of a frame → EgoVLP's text tower → cosine with the text's embedding."""
        target = self._embed(pair.description or pair.text or "")
        captions = [str(caption) for caption in features(self.captions, pair.generated)]
        cosines = {caption: float(_cosine(self._embed(caption), target)) for caption in set(captions)}
        return {self.figures[0].name: float(np.mean([cosines[caption] for caption in captions]))}

    def _embed(self, text: str) -> np.ndarray:
        tokens = self.words(text, truncation=True, max_length=LONGEST_TEXT, return_tensors="pt").input_ids
        with measuring():
            return _exact(self.tower.embed_text(tokens.to(device_of(self.tower)))[0].cpu())


class BlipLarge(BlipBase):
    """The same by the large captioner."""

    name = "blip_large"
    figures = (Figure("blip_large", "BLIP large", "higher", of="as BLIP base, by the large captioner"),)
    needs = ("blip-large", "egovlp-epic", "bert-words")


class BlipBaseEgo4d(BlipBase):
    """BLIP base with the text tower of Ego4D."""

    name = "blip_base_ego4d"
    figures = (
        Figure("blip_base_ego4d", "BLIP base (Ego4D)", "higher", of="as BLIP base, Ego4D's text tower"),
    )
    needs = ("blip-base", "egovlp-ego4d", "bert-words")


class BlipLargeEgo4d(BlipBase):
    """BLIP large with the text tower of Ego4D."""

    name = "blip_large_ego4d"
    figures = (
        Figure("blip_large_ego4d", "BLIP large (Ego4D)", "higher", of="as BLIP large, Ego4D's text tower"),
    )
    needs = ("blip-large", "egovlp-ego4d", "bert-words")


def _exact(values: Tensor | np.ndarray) -> np.ndarray:
    return np.asarray(values, dtype=np.float64)


def _cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cosine along the last axis."""
    lengths = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    return (a * b).sum(axis=-1) / np.maximum(lengths, 1e-16)
