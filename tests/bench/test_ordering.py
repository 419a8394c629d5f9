"""The truth, a video that stands still, a shuffled one and noise come out in the order that they should."""

from __future__ import annotations

import pytest

from handi.bench.evaluate import Settings, evaluate

METRICS = ("hand", "pixels", "motion", "world")


@pytest.fixture(scope="module")
def scores(world, predictions, tmp_path_factory) -> dict[str, dict[str, float | None]]:
    """Kind of prediction → figure → value, None where it is skipped."""
    cache = tmp_path_factory.mktemp("features")
    found = {}
    for kind, folder in predictions.items():
        results = evaluate(
            folder, world, tmp_path_factory.mktemp("out"), Settings(metrics=METRICS, resamples=20),
            cache_folder=cache,
        )  # fmt: skip
        assert results["n"] == results["asked"] == 2
        found[kind] = {name: entry.get("value") for name, entry in results["metrics"].items()}
    return found


def of(scores, figure: str) -> tuple[float, float, float, float]:
    return tuple(scores[kind][figure] for kind in ("truth", "static", "shuffled", "noise"))


def test_hands(scores):
    # Eq. 2 as written knows the truth and orders nothing else: a hand not found lies in the corner, so
    # a hand with the wrong label can cost more than none at all. Hence the matched error and the rates.
    truth, *others = of(scores, "hs_err_literal")
    assert truth == 0 < min(others)
    truth, static, shuffled, noise = of(scores, "hs_err_matched")
    assert truth == 0 < min(static, shuffled)
    assert noise is None  # there is no hand to match, which is not an error of 0
    truth, _, shuffled, noise = of(scores, "hands_matched")
    assert noise == 0 < shuffled <= truth == 1
    truth, static, shuffled, noise = of(scores, "hand_rate")
    assert noise == 0 < static
    assert shuffled == truth == scores["noise"]["hand_rate_reference"] > 0.5


def test_pixels(scores):
    for figure in ("psnr", "ssim"):
        truth, static, shuffled, noise = of(scores, figure)
        assert noise < min(static, shuffled)
        assert max(static, shuffled) < truth
    assert scores["truth"]["ssim"] == 1


def test_motion(scores):
    truth, static, _, noise = of(scores, "flow_inside")
    assert static is None  # nothing moves: no share
    assert noise < truth
    truth, static, shuffled, noise = of(scores, "flow_mean")
    assert static == 0 < truth < shuffled < noise
    truth, static, shuffled, noise = of(scores, "background_drift")
    assert static == 0 < truth
    assert truth == pytest.approx(shuffled)  # the same frames, in another order
    assert noise > 5 * truth
    assert of(scores, "background_error") == of(scores, "background_drift")  # they share frame 0


def test_the_world(scores):
    truth, static, shuffled, noise = of(scores, "state_change")
    assert (truth, static) == (1, 0)
    assert static < shuffled < truth
    assert static < noise < truth
    truth, _, shuffled, noise = of(scores, "true_hands_found")
    assert noise == 0 < shuffled <= truth
    assert scores["truth"]["true_hand_error"] < 0.35
    assert scores["noise"]["true_hand_error"] is None
    assert scores["truth"]["same_context"] is None  # no two of these clips start alike
