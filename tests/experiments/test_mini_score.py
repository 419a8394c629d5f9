"""experiments/mini/score.py scores the truth as the truth, a still as a still, and keeps what it measured."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from experiments.estimates import mean, pooled_psnr, psnr_difference, ratio
from experiments.mini.clips import Store, shuffled
from experiments.mini.compare import compare
from experiments.mini.curve import step_errors
from experiments.mini.measures import (
    Bench,
    found,
    found_again,
    iou,
    joint_error,
    mean_state,
    psnr_in_area,
    score_videos,
    squared_error,
    unpack,
)
from experiments.mini.model import NULL, PipelineModel, restored, still
from experiments.mini.prompts import prompts
from experiments.mini.sheets import clip_page, sibling_page
from experiments.mini.siblings import area_groups, on_other_things
from experiments.mini.stage1 import Found, area_rows, best_cut, grounded, shares, stage1, training_areas
from experiments.mini.stage2 import autoencoder, control_rows, generated_rows, stage2, sweeps
from experiments.mini.summary import summary
from handi import HandiPipeline
from handi.core.errors import InputError
from handi.data.sources.world import referents_of
from handi.hands.matching import match_hands
from handi.models.fresh import from_preset
from handi.world import render_clip, siblings, write_clip
from handi.world.clip import either_hand


class Oracle:
    """Knows the truth where it is asked with the clip's own prompt; anything else gives it a still."""

    name, sha256, steps, guidance = "oracle", "0", (2, 2), 1.0
    pose_guidance, reads_poses = 1.0, True

    def __init__(self) -> None:
        self.calls = 0

    def reconstruct(self, clips):
        return np.stack([clip.frames for clip in clips])

    def areas(self, clips, prompts, steps=None):
        self.calls += 1
        areas = [
            clip.area_moved if clip.text == text else np.ones_like(clip.area_moved)
            for clip, text in zip(clips, prompts, strict=True)
        ]
        return np.stack(areas).astype(np.float32), np.stack(areas)

    def grounding(self, clips, prompts):
        known = [shares(referents_of(clip), (16, 16)) for clip in clips]
        return np.stack([10 * (share > 0) for share in known]).astype(np.float32)

    def videos(self, clips, prompts, areas, steps=None, guidance=None, poses=None, pose_guidance=None):
        self.calls += 1
        stands = still(clips)
        made = [
            clip.frames if clip.text == text else stands[n]
            for n, (clip, text) in enumerate(zip(clips, prompts, strict=True))
        ]
        return np.where(np.asarray(areas)[:, None, :, :, None], np.stack(made), stands)


@pytest.fixture(scope="module")
def clips():
    return [render_clip(seed, size=128) for seed in (900_011, 900_012)]


@pytest.fixture(scope="module")
def group():
    return siblings(900_013, size=64, count=2)  # of different things


@pytest.fixture
def bench(clips, group, tmp_path):
    return Bench(Oracle(), clips, [group], Store(tmp_path / "scores", "0"), tmp_path, some=1)


def test_truth_scores_as_truth_and_a_still_as_a_still(bench, clips):
    truth = score_videos(bench, clips, lambda part, _: np.stack([clip.frames for clip in part]))
    stands = score_videos(bench, clips, lambda part, _: still(part))
    assert psnr_in_area(truth).value == np.inf
    assert 10 < psnr_in_area(stands).value < 25
    assert mean_state(truth).value == 1
    assert mean_state(stands).value == 0
    assert found_again(truth, truth, acting=True).value == 1
    assert found(truth, acting=True).value > 0.5
    assert found_again(stands, truth, acting=True).value < found_again(truth, truth, acting=True).value
    assert 0 < joint_error(truth, acting=True).value < 0.35


def test_what_does_not_move_gains_pixels_and_half_the_state_but_no_hands(bench, clips):
    rows = control_rows(bench)
    state = {name: mean_state(scored).value for name, scored in rows.items()}
    psnr = {name: psnr_in_area(scored).value for name, scored in rows.items()}
    assert state["still"] == 0
    assert 0.1 < state["smear"] < 0.9
    assert 0.1 < state["ghost"] < 0.9
    assert psnr["ghost"] > psnr["still"]
    assert "hands" not in rows["ghost"][0]


def test_noise_in_the_area_hides_the_hands_and_the_state(bench, clips):
    rng = np.random.default_rng(0)

    def noise(part, _):
        frames = rng.integers(0, 255, (len(part), 16, 128, 128, 3), dtype=np.uint8)
        return restored(frames, part, np.stack([clip.area_moved for clip in part]))

    truth = score_videos(bench, clips, lambda part, _: np.stack([clip.frames for clip in part]))
    rows = score_videos(bench, clips, noise)
    assert found_again(rows, truth, acting=True).value == 0
    assert psnr_in_area(rows).value < 12
    assert mean_state(rows).value < 0.9


def test_grounding_counts_the_meant_thing_and_the_right_one_of_two_hands():
    clip = next(
        clip
        for clip in (render_clip(seed, size=64) for seed in range(900_000, 900_040))
        if len(clip.hands) == 1 and {2, 3} <= set(np.unique(clip.ids[0]))
    )
    meant = shares(referents_of(clip), (16, 16))
    either = either_hand(clip.seed, clip.action, clip.choice)
    assert grounded(meant, clip) == Found(thing=True, hand=True, either=either)
    assert grounded(-meant, clip) == Found(thing=False, hand=False, either=either)


def test_the_whole_report_of_an_oracle(bench, clips):
    tables = autoencoder(bench) + stage1(bench, None) + stage2(bench) + sweeps(bench) + prompts(bench)
    assert "**stage 1, cleaned area** | 1.000 (1.000 to 1.000)" in tables
    assert "Fewest steps that reach 0.8: 1." in tables
    assert "a thing that the words mean has the highest score | 100.0 %" in tables
    assert "differ from the context: 0 of" in tables
    generated = next(line for line in tables.splitlines() if "**generated, stage-1 area**" in line)
    assert "exact" in generated
    assert "100.0 % (100.0 to 100.0)" in generated
    assert "**generated**, each in its stage-1 area | 1.000" in tables
    assert "the true clips | 1.000" in tables
    assert "stills (chance) | 0.500" in tables
    assert "| 0.9 to 1 | exact" in tables
    assert "| 0 to 0.5 |" not in tables
    asked = summary(bench, [{"in all": 10.0}, {"in all": 12.0}, {"in all": 30.0}])
    reached = [line.split("|")[4].strip() for line in asked.splitlines()[2:]]
    assert len(reached) == 18
    missed = [line.split("|")[1].strip() for line in asked.splitlines()[2:] if "**no**" in line]
    assert missed == []


def test_what_was_measured_is_not_measured_again(bench, clips):
    first = generated_rows(bench)
    calls = bench.model.calls
    assert generated_rows(bench) == first
    assert bench.model.calls == calls
    bench.store = Store(bench.store.folder, "another model")
    generated_rows(bench)
    assert bench.model.calls > calls
    path = bench.store.folder / "stage2.json"
    assert json.loads(path.read_text())["key"]["model"] == "another model"


def test_an_area_survives_the_store(bench, clips):
    row = area_rows(bench, "areas", clips, [clip.text for clip in clips])[0]
    assert (unpack(row["area"], 128) == clips[0].area_moved).all()
    assert row["iou"] == row["iou_raw"] == 1


def test_pixels_changed_outside_the_area_are_counted(bench, clips):
    class Leaky(Oracle):
        def videos(self, *arguments):
            videos = super().videos(*arguments)
            videos[:, 3, 0, 0] ^= 1
            return videos

    bench.model = Leaky()
    outside = [row["outside"] for row in generated_rows(bench)]
    assert outside == [int(not clip.area_moved[0, 0]) for clip in clips]
    assert sum(outside) > 0


def test_siblings_of_one_thing_and_of_another():
    cup = SimpleNamespace(choice={"object": "cup 1", "which": "0"})
    can = SimpleNamespace(choice={"object": "can 1", "which": "0"})
    both = SimpleNamespace(choice={"object": "can 1", "into": "cup 1"})
    assert on_other_things(cup, can)
    assert not on_other_things(cup, both)


def test_an_area_that_ignores_the_prompt_is_nearer_to_its_own_in_half_of_the_pairs(bench):
    class Deaf(Oracle):
        def areas(self, clips, prompts, steps=None):
            areas = np.zeros((len(clips), *clips[0].area_moved.shape), bool)
            areas[:, 20:50, 10:60] = True
            return areas.astype(np.float32), areas

    bench.model = Deaf()
    (row,) = area_groups(bench)
    assert np.mean(row["nearer"]) == 0.5


def test_sheets_have_a_row_for_every_picture(bench, clips):
    assert clip_page(bench, clips).shape == (2 * 3 * (128 + 16), 9 * 128, 3)
    assert sibling_page(bench, bench.groups[0]).shape == (2 * 2 * (64 + 16), 9 * 64, 3)


# ------------------------------------------------------------------------------------- the pipeline


@pytest.fixture(scope="module")
def tiny_clips():
    return [render_clip(seed, size=32) for seed in (900_011, 900_012)]


@pytest.fixture
def tiny(tiny_clips, tmp_path):
    """A model of the bundled one's classes, each weight off its start, so that both stages do something."""
    parts = from_preset("tiny", [clip.text for clip in tiny_clips])
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for network in (parts.unet, parts.area_unet):
            for weight in network.parameters():
                weight += 0.1 * torch.randn(weight.shape, generator=generator)
    HandiPipeline.from_checkpoint(parts).save_pretrained(tmp_path / "tiny")
    return PipelineModel(str(tmp_path / "tiny"), batch=1)


def test_a_real_pipeline_stage_by_stage_is_the_whole_of_it(tiny, tiny_clips):
    texts = [clip.text for clip in tiny_clips]
    soft, areas = tiny.areas(tiny_clips, texts, 2)
    assert soft.shape == areas.shape == (2, 32, 32)
    videos = tiny.videos(tiny_clips, texts, areas, steps=2)
    assert (videos[:, 1:] != still(tiny_clips)[:, 1:]).any()
    whole = tiny.pipe(
        [clip.frames[0] for clip in tiny_clips], texts, area_inference_steps=2, num_inference_steps=2,
        generator=[torch.Generator().manual_seed(clip.seed) for clip in tiny_clips],
    )  # fmt: skip
    assert (whole.motion_area == areas).all()
    assert np.abs(whole.frames.astype(int) - videos).max() <= 1  # a batch rounds otherwise than one clip
    assert tiny.reconstruct(tiny_clips).shape == (2, 16, 32, 32, 3)


def test_what_a_real_pipeline_finds_is_what_its_network_does(tiny, tiny_clips):
    texts = [clip.text for clip in tiny_clips]
    pipe, network = tiny.pipe, tiny.pipe.area_unet
    context = pipe.encode_images(np.stack([clip.frames[0] for clip in tiny_clips]))
    given = {"condition_latent": context, "return_grounding": True}
    _, scores = network(torch.zeros_like(context), 0, pipe.encode_text(texts), **given)
    np.testing.assert_allclose(
        tiny.grounding(tiny_clips, texts), scores.detach().numpy(), rtol=1e-4, atol=1e-4
    )
    pipe.area_unet.finder = None
    assert tiny.grounding(tiny_clips, texts) is None


def test_no_prompt_is_another_prompt(tiny, tiny_clips):
    own, _ = tiny.areas(tiny_clips, [clip.text for clip in tiny_clips], 1)
    none, _ = tiny.areas(tiny_clips, [NULL] * 2, 1)
    assert (own != none).any()
    with pytest.raises(InputError, match="empty"):
        tiny.areas(tiny_clips, ["", ""], 1)


def test_one_step_of_a_network_that_knows_and_of_one_that_copies(tiny, tiny_clips, monkeypatch):
    clips = tiny_clips[:1]
    truth = tiny.pipe.encode_images(clips[0].frames).transpose(0, 2)
    for guess, expected in ((truth, 0.0), (truth[:, :, :1], 1.0), (0.5 * (truth + truth[:, :, :1]), 0.25)):
        monkeypatch.setattr(tiny.pipe.unet, "forward", lambda *_, guess=guess, **__: guess)
        ((error, copy),) = step_errors(tiny, clips, [clips[0].text], 700)
        assert error / copy == pytest.approx(expected, abs=1e-5)


# --------------------------------------------------------------------------------------- arithmetic


def test_estimates_know_the_answers():
    assert mean([1.0, 2.0, np.nan]).value == 1.5
    assert mean([1.0, 2.0, np.nan]).n == 2
    assert ratio([1, 0], [2, 2]).value == 0.25
    assert pooled_psnr([0.5, 1.5], [100, 100]).value == pytest.approx(20)
    better = psnr_difference([1, 2, 3], [10, 20, 30], [10, 10, 10])
    assert better.value == pytest.approx(10)
    assert better.low == pytest.approx(10)  # the same gain in each clip: paired, so no spread
    rng = np.random.default_rng(1)
    spread = mean(rng.normal(size=400))
    assert spread.low < spread.value < spread.high
    assert 0.15 < spread.high - spread.low < 0.25  # 2 · 1.96 / √400


def test_areas_and_errors_know_the_answers():
    a, b = np.zeros((4, 4), bool), np.zeros((4, 4), bool)
    assert iou(a, b) == 1
    a[:2], b[1:3] = True, True
    assert iou(a, b) == pytest.approx(1 / 3)
    frames = np.zeros((2, 4, 4, 3), np.uint8)
    assert squared_error(frames + 255, frames, a) == (2 * 8 * 3, 2 * 8 * 3)


def test_the_best_cut_of_a_mean_mask():
    areas = np.zeros((10, 8, 8), bool)
    areas[:, :4] = True
    areas[:3, 4:] = True  # in three of ten: above no threshold that helps
    assert (best_cut(areas) == areas[-1]).all()


def test_baselines_refuse_test_clips(clips, tmp_path):
    write_clip(tmp_path, clips[0], pictures="png")
    with pytest.raises(InputError, match="kept for test"):
        training_areas(tmp_path)


def test_shuffled_prompts_are_others():
    texts = ["a", "b", "a", "c", "a"]
    others = shuffled([SimpleNamespace(text=text) for text in texts])
    assert set(others) <= set(texts)
    assert all(text != other for text, other in zip(texts, others, strict=True))
    with pytest.raises(SystemExit):
        shuffled([SimpleNamespace(text="a")] * 2)


def test_a_hand_is_found_within_reach_and_once():
    rng = np.random.default_rng(0)
    joints, inside = np.zeros((42, 2)), np.zeros(42, bool)
    joints[21:], inside[21:] = rng.random((21, 2)) * 0.2 + 0.4, True
    box = np.ptp(joints[21:], axis=0).max()
    assert match_hands(joints, inside, [joints[21:] + np.array([0.1 * box, 0])]) == {1: pytest.approx(0.1)}
    assert match_hands(joints, inside, [joints[21:] + np.array([0.4 * box, 0])]) == {1: None}
    inside[31:] = False  # ten joints in sight do not make a hand
    assert match_hands(joints, inside, []) == {}
    both = np.concatenate([joints[21:], joints[21:]])
    one = match_hands(both, np.ones(42, bool), [joints[21:]])
    assert sorted(one.values(), key=str) == [pytest.approx(0), None]


def test_what_was_stopped_goes_on_from_its_last_piece(tmp_path):
    asked = []

    def compute(place):
        asked.append((place.start, place.stop))
        if len(asked) == 2:
            raise KeyboardInterrupt
        return [{"seed": seed} for seed in seeds[place]]

    seeds = [7, 8, 9, 10, 11]
    with pytest.raises(KeyboardInterrupt):
        Store(tmp_path, "0").rows_in_pieces("long", seeds, compute, 2)
    rows = Store(tmp_path, "0").rows_in_pieces("long", seeds, compute, 2)
    assert rows == [{"seed": seed} for seed in seeds]
    assert asked == [(0, 2), (2, 4), (2, 4), (4, 6)]
    assert Store(tmp_path, "0").rows_in_pieces("long", seeds, compute, 2) == rows
    assert len(asked) == 4
    Store(tmp_path, "1").rows_in_pieces("long", seeds, compute, 2)  # another model's are not gone on with
    assert asked[4] == (0, 2)


def test_with_other_counts_of_clips_only_what_is_missing_is_measured(tmp_path):
    asked = []

    def measured(seeds, **about):
        def compute(place):
            asked.extend(seeds[place])
            return [{"seed": seed} for seed in seeds[place]]

        asked.clear()
        rows = Store(tmp_path, "0").rows_in_pieces("long", seeds, compute, 3, **about)
        return [row["seed"] for row in rows], asked[:1]

    assert measured(range(4)) == ([0, 1, 2, 3], [0])
    assert measured(range(6)) == ([0, 1, 2, 3, 4, 5], [4])
    assert measured(range(2)) == ([0, 1], [])
    assert measured(range(6)) == ([0, 1, 2, 3, 4, 5], [])  # asking for fewer has lost nothing
    assert measured(range(6), steps=2) == ([0, 1, 2, 3, 4, 5], [0])
    rows = Store(tmp_path, "0").rows("at once", [0, 1], lambda: [{"seed": 0}, {"seed": 1}])
    more = Store(tmp_path, "0").rows("at once", [0, 1, 2], lambda: [{"seed": 5}, {"seed": 6}, {"seed": 7}])
    assert more == [*rows, {"seed": 7}]


def test_two_models_are_compared_on_the_clips_that_both_have(tmp_path):
    def keep(folder, condition, rows):
        (tmp_path / folder / "scores").mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / "scores" / f"{condition}.json").write_text(json.dumps({"rows": rows}))

    for folder, better in (("a", 0.0), ("b", 0.25)):
        keep(folder, "stage1", [
            {"seed": n, "action": ("cut", "stir")[n % 2], "iou": n / 10 + better, "iou_raw": n / 10}
            for n in range(4 if better else 5)
        ])  # fmt: skip
        found = [0.1, 0.1] if better else [0.1, None]
        keep(folder, "stage2", [
            {"seed": n, "error": 10.0 if better else 100.0, "count": 1000, "state": 0.5 + better,
             "hands": found, "acting": [True, True]}
            for n in range(4)
        ])  # fmt: skip
        keep(folder, "siblings_areas", [{"seed": 0, "nearer": [better * 4, 1.0], "apart": [True, False]}])
    lines = compare(tmp_path / "a", tmp_path / "b").splitlines()
    cells = {line.split(" | ")[0].strip("| "): line.strip(" |").split(" | ")[1:] for line in lines}
    assert cells["mIoU"][2:] == ["0.250 (0.250 to 0.250)", "4"]
    assert cells["mIoU of the soft mask > 0.5"][2] == "0.000 (0.000 to 0.000)"
    assert cells["PSNR in the true area, dB"][0][:5] == "10.00"
    assert cells["PSNR in the true area, dB"][2] == "10.00 (10.00 to 10.00)"
    assert cells["state change"][2] == "0.25 (0.25 to 0.25)"
    assert cells["siblings told apart"][:2] == ["0.500 (0.500 to 0.500)", "1.000 (1.000 to 1.000)"]
    assert cells["those on different things"][2] == "1.000 (1.000 to 1.000)"
    assert cells["stir"] == ["0.20", "0.45", "0.25 (0.25 to 0.25)", "2"]
    assert "acting hands found again" not in cells  # what hands there are to find was not measured
    keep("b", "reconstruction", [{"seed": n, "hands": [0.1, 0.1], "acting": [True, True]} for n in range(4)])
    text = compare(tmp_path / "a", tmp_path / "b")
    assert "acting hands found again | 50.0 % (50.0 to 50.0) | 100.0 % (100.0 to 100.0) | 50.0 %" in text
