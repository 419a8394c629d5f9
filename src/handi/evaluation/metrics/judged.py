"""Clips of the synthetic world, judged against what the world knows: was it done, and are the hands right?"""

from __future__ import annotations

import numpy as np

from handi.core.errors import InputError
from handi.evaluation.metrics.hand import FindHands
from handi.evaluation.metrics.protocol import Features, Figure, Pair, Unscored
from handi.hands.matching import match_hands
from handi.world.files import read_record
from handi.world.judges import ACTION_FRAMES, own_sibling, state_change
from handi.world.truth import OUTSIDE


class World:
    """The world's judges (docs/world.md). All see whole frames, at any scope."""

    name = "world"
    figures = (
        Figure("state_change", "state change", "higher",
               of="share of the changed pixels in which the last frame is nearer to the true end than to the "
                  "start: 0 is a still video", none="the true clip ends as it began"),
        Figure("same_context", "own prompt nearest", "higher",
               of="of clips that start from one image, the share nearest to the truth of its own prompt",
               wants=("siblings",)),
        Figure("true_hands_found", "true hands found", "higher",
               of=f"share of the true hands of frames {', '.join(map(str, ACTION_FRAMES))} that Υ finds",
               none="the true clip has no hand in those frames, or other frames"),
        Figure("true_hand_error", "true hands' error", "lower",
               of="mean joint distance of those found from the exact joints, as a share of the hand's box",
               none="none of the true hands is found"),
    )  # fmt: skip
    needs = ("hands",)
    wants = ("truth", "reference", "context")
    scoped = False
    preprocessing = FindHands.preprocessing

    def __init__(self, device: str = "cpu") -> None:
        self.find = FindHands(device)
        self.weights = self.find.weights

    def scores(self, pair: Pair, features: Features) -> dict[str, float]:
        """See `figures`; each is left out where the true clip gives it nothing to judge."""
        assert pair.truth is not None  # they are in `wants`
        assert pair.reference is not None
        assert pair.context is not None
        scores = {}
        try:
            true = np.concatenate([pair.context[None], pair.reference])
            scores["state_change"] = state_change(pair.generated, true)
        except InputError:  # it ends as it began
            pass
        if pair.siblings:
            scores["same_context"] = own_sibling(pair.generated, [pair.reference, *pair.siblings], 0)
        record = read_record(pair.truth)
        if len(pair.generated) == record["frames"] - 1:
            errors = _errors(record, features(self.find, pair.generated))
            found = [error for error in errors if error is not None]
            if errors:
                scores["true_hands_found"] = len(found) / len(errors)
            if found:
                scores["true_hand_error"] = float(np.mean(found))
        if not scores:
            raise Unscored("the true clip gives nothing to judge")
        return scores


def _errors(record: dict, found: np.ndarray) -> list[float | None]:
    """For each true hand that counts, its error as a share of its box; None where Υ misses it."""
    joints = np.array(record["joints2d"], np.float32)
    inside = (np.array(record["visible"]) != OUTSIDE) & joints.any(-1)
    errors: list[float | None] = []
    for frame in ACTION_FRAMES:
        hands = [hand for hand in found[frame - 1].reshape(2, 21, 2) if hand.any()]
        errors += match_hands(joints[frame], inside[frame], hands).values()
    return errors
