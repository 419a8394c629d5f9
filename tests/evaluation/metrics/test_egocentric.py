"""The paper's published videos, six methods on six samples, give the flow shares measured on them before."""

from __future__ import annotations

from pathlib import Path

import pytest

from handi.evaluation.run import EvaluationConfig, evaluate

# Real footage that is not in this repository: next to the checkout or above it.
ABOVE = [up / "shared/data/egocentric" for up in Path(__file__).resolve().parents]
EGOCENTRIC = next((folder for folder in ABOVE if folder.is_dir()), None)

# Share of the flow inside the published motion area, and mean flow (means over six samples).
SHARES = {
    "handi": (0.859, 0.128),
    "animate_anything": (0.869, 0.079),
    "pia": (0.483, 0.162),
    "avdc": (0.277, 0.456),
    "lfdm": (0.257, 0.479),
    "open_sora": (0.239, 0.621),
}


@pytest.mark.skipif(EGOCENTRIC is None, reason="the egocentric samples are not at hand")
@pytest.mark.parametrize("method", SHARES)
def test_flow_shares_of_the_published_videos(method, tmp_path):
    assert EGOCENTRIC is not None
    config = EvaluationConfig(metrics=("motion", "pixels"))
    results = evaluate(EGOCENTRIC / method, EGOCENTRIC, tmp_path, config)
    share, mean = SHARES[method]
    metrics = results["metrics"]
    assert results["n"] == metrics["flow_inside"]["n"] == 6
    assert metrics["flow_inside"]["value"] == pytest.approx(share, abs=0.005)
    assert metrics["flow_mean"]["value"] == pytest.approx(mean, abs=0.005)
    assert metrics["psnr"]["skipped"] == "there is no true video"  # it was never published
