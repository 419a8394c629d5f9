"""The truth, a video that stands still, a shuffled one and noise come out in the order that they should."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from handi.evaluation.folder import read_videos
from handi.evaluation.run import EvaluationConfig, evaluate
from handi.world import siblings, write_clip
from handi.world.files import name_of, read_record

METRICS = ("hand", "pixels", "motion", "world")


@pytest.fixture(scope="module")
def scores(world, predictions, tmp_path_factory) -> dict[str, dict[str, float | None]]:
    """Kind of prediction → figure → value, None where it is skipped."""
    cache = tmp_path_factory.mktemp("features")
    found = {}
    for kind, folder in predictions.items():
        results = evaluate(
            folder, world, tmp_path_factory.mktemp("out"), EvaluationConfig(metrics=METRICS, resamples=20),
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
    assert noise > 3 * truth
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


def test_siblings_ask_for_the_clip_of_their_own_prompt(tmp_path):
    ref, swapped, still = tmp_path / "ref", tmp_path / "swapped", tmp_path / "still"
    clips = siblings(900_002, size=48, count=2)
    for folder in (swapped, still):
        folder.mkdir()
    for n, clip in enumerate(clips):
        write_clip(ref, clip, pictures="png", name=f"{clip.seed:010d}-{n}")
        np.save(swapped / f"{name_of(clip.seed, 1 - n)}.npy", clip.frames)
        np.save(still / f"{name_of(clip.seed, n)}.npy", np.repeat(clip.frames[:1], len(clip.frames), 0))
    settings = EvaluationConfig(metrics=("world",), resamples=20)
    found = [
        evaluate(pred, ref, tmp_path / f"out{n}", settings)["metrics"]["same_context"]
        for n, pred in enumerate((ref, swapped, still))
    ]
    assert (found[0]["value"], found[1]["value"]) == (1, 0)
    assert found[2]["n"] == 2


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """A folder of three clips from one first frame, and the clips."""
    folder = tmp_path_factory.mktemp("three")
    clips = siblings(900_002, size=48, count=3)
    for n, clip in enumerate(clips):
        write_clip(folder, clip, pictures="png", name=f"{clip.seed:010d}-{n}")
    return folder, clips


def test_rivals_are_all_true_clips_whether_they_are_scored_or_not(three, tmp_path):
    """A clip that shows the third action is wrong, also where the third is not generated or not asked for."""
    ref, clips = three
    pred = tmp_path / "pred"
    pred.mkdir()
    np.save(pred / f"{name_of(clips[0].seed, 0)}.npy", clips[2].frames)
    for n, few in enumerate((None, 1, 2)):
        settings = EvaluationConfig(metrics=("world",), resamples=20, limit=few)
        found = evaluate(pred, ref, tmp_path / f"out{n}", settings, say=lambda line: None)
        assert (found["n"], found["asked"]) == (1, few or 3)
        assert found["metrics"]["same_context"]["value"] == 0
    areas = {
        read_record(path)["text"]: read_videos(ref)[path.stem].area().sum() for path in ref.glob("*.json")
    }
    assert max(areas, key=areas.get) != clips[2].text  # so that the subset leaves it out
    (pred / f"{name_of(clips[0].seed, 0)}.npy").unlink()
    largest = max(range(2), key=lambda n: areas[clips[n].text])
    np.save(pred / f"{name_of(clips[0].seed, largest)}.npy", clips[2].frames)
    settings = EvaluationConfig(metrics=("world",), resamples=20, subset="motion-intensive")
    found = evaluate(pred, ref, tmp_path / "subset", settings, say=lambda line: None)
    assert (found["n"], found["asked"]) == (1, 1)
    assert found["metrics"]["same_context"]["value"] == 0


def test_a_clip_is_no_rival_of_itself(three, tmp_path):
    """Listed again with another prompt, it would tie with itself."""
    ref, clips = three
    lines = [{"id": f"{n}{turn}", "truth": str(ref / f"{name_of(clips[0].seed, n)}.json")}
             for n in range(2) for turn in "ab"]  # fmt: skip
    manifest = tmp_path / "m.jsonl"
    manifest.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    found = evaluate(manifest, manifest, tmp_path / "out", EvaluationConfig(metrics=("world",), resamples=20))
    assert found["metrics"]["same_context"]["value"] == 1
    assert found["metrics"]["same_context"]["n"] == 4


def test_a_rival_that_cannot_be_read_leaves_the_figure_out(three, tmp_path):
    """With one rival less the share would be another figure."""
    ref, clips = three
    damaged = shutil.copytree(ref, tmp_path / "ref")
    strip = damaged / f"{name_of(clips[0].seed, 2)}.png"
    strip.write_bytes(strip.read_bytes()[:1000])
    found = evaluate(ref, damaged, tmp_path / "out", EvaluationConfig(metrics=("world",), resamples=20),
                     say=lambda line: None)  # fmt: skip
    assert (found["n"], found["asked"]) == (2, 3)
    assert "one that does cannot be read" in found["metrics"]["same_context"]["skipped"]
    assert found["metrics"]["state_change"]["n"] == 2
