"""HS-Err (Eq. 2 as a metric): how far the hands of a generated video are from the true ones, and how many
the detector finds at all."""

from __future__ import annotations

from functools import cached_property
from itertools import permutations

import numpy as np
import numpy.typing as npt

from handi.core.types import Frames
from handi.evaluation.metrics.protocol import Features, Figure, Pair, PairMetric, Unscored
from handi.hands.detector import HandDetector
from handi.hands.joints import JOINTS_A_HAND
from handi.hands.matching import DETECTOR_SIZE, enlarge
from handi.hands.weights import LANDMARK, PALM

Joints = npt.NDArray[np.float32]  # L×42×2 in [0, 1], left hand first, zeros for a hand that is not found


class FindHands:
    """Υ as an extractor: frames → L×42×2 joints. Each frame for itself, as the official code reads them."""

    preprocessing = f"mediapipe-hands-full-{DETECTOR_SIZE}"

    def __init__(self, device: str = "cpu") -> None:
        self.device = device
        self.detector = HandDetector.from_pretrained()
        self.weights = {file["full"].name: file["full"].sha256 for file in (PALM, LANDMARK)}

    @cached_property
    def key(self) -> str:
        """Networks and enlargement; not the backend, which moves a joint by 0.01 px."""
        return "/".join([self.preprocessing, *(sha[:12] for sha in self.weights.values())])

    def __call__(self, frames: Frames) -> Joints:
        import torch

        from handi.evaluation.metrics.networks.running import full_precision

        shown = np.stack([enlarge(frame) for frame in frames])  # in small frames Υ misses hands
        with full_precision():
            found = self.detector.detect(torch.from_numpy(shown).to(self.device))
        joints: Joints = found.joints.cpu().numpy()
        return joints


class HandError(PairMetric):
    """HS-Err, `literal` and `matched`, with the detection rates without which neither can be read."""

    name = "hand"
    figures = (
        Figure("hs_err_literal", "HS-Err (literal)", "lower",
               of="Eq. 2: squared distance of 42 joints in [0, 1], mean over joints and frames; a hand that "
                  "is not found is 0", wants=("reference",)),
        Figure("hs_err_matched", "HS-Err (matched)", "lower",
               of="the same over hands found on both sides of a frame, paired by distance",
               wants=("reference",), none="no frame has a hand that is found on both sides"),
        Figure("hands_matched", "hands found again", "higher",
               of="share of the hands found in the true frames that have a partner in the generated one",
               wants=("reference",), none="no hand is found in the true video"),
        Figure("hand_rate", "frames with a hand", "higher", of="share of generated frames with a hand found"),
        Figure("hand_rate_reference", "frames with a hand, reference", "neither",
               of="share of true frames with a hand found", wants=("reference",)),
    )  # fmt: skip
    needs = ("hands",)
    preprocessing = FindHands.preprocessing

    def __init__(self, device: str = "cpu") -> None:
        self.find = FindHands(device)
        self.weights = self.find.weights

    def scores(self, pair: Pair, features: Features) -> dict[str, float]:
        """See `figures`."""
        generated = features(self.find, pair.generated)
        scores = {"hand_rate": hand_rate(generated)}
        if pair.reference is not None:
            true = features(self.find, pair.reference)
            if len(true) != len(generated):
                raise Unscored(f"{len(generated)} generated frames for {len(true)} true ones")
            matched, share = matched_error(generated, true)
            scores["hs_err_literal"] = literal_error(generated, true)
            scores["hs_err_matched"] = matched
            scores["hands_matched"] = share
            scores["hand_rate_reference"] = hand_rate(true)
        return scores


def literal_error(generated: Joints, true: Joints) -> float:
    """Eq. 2 as written: 1/L Σ_l 1/J ‖P_gen − P_gt‖_F², over L×42×2 joints with zeros for missing hands.

    A hand found on one side only costs 21/42 of its mean squared distance from the corner (0, 0).
    """
    difference = generated.astype(np.float64) - true
    return float(np.square(difference).sum(-1).mean())


def matched_error(generated: Joints, true: Joints) -> tuple[float, float]:
    """(mean squared joint distance of the hands found on both sides, share of true hands with a partner).

    In each frame the hands are paired by least distance, whatever side the detector calls them: it labels a
    quarter of all pairs alike, and a swapped label is no wrong hand. NaN where there is nothing to pair, or
    no true hand. On frames where all hands are found it equals `literal_error` up to swapped labels and up
    to a frame with one hand, which Eq. 2 divides by J = 42 all the same.
    """
    errors: list[float] = []
    partners = there = 0
    for made, truth in zip(_hands(generated), _hands(true), strict=True):
        there += len(truth)
        if made and truth:
            found = _pairing(made, truth)
            partners += len(found)
            errors += found
    return (
        float(np.mean(errors)) if errors else float("nan"),
        partners / there if there else float("nan"),
    )


def _pairing(made: list[np.ndarray], truth: list[np.ndarray]) -> list[float]:
    """Errors of the pairing with the least sum; two hands per side at most, so all pairings are tried."""
    few, many = sorted((made, truth), key=len)
    ways = (
        [float(np.square(a - b).sum(-1).mean()) for a, b in zip(few, chosen, strict=True)]
        for chosen in permutations(many, len(few))
    )
    return min(ways, key=sum)


def hand_rate(joints: Joints) -> float:
    """Share of L frames (L×42×2) with at least one hand."""
    return float(np.mean([bool(hands) for hands in _hands(joints)]))


def _hands(joints: Joints) -> list[list[np.ndarray]]:
    """The hands of each frame that were found, 21×2 each."""
    slots = joints.astype(np.float64).reshape(len(joints), -1, JOINTS_A_HAND, 2)
    return [[hand for hand in frame if hand.any()] for frame in slots]
