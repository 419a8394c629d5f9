"""The sampling process: schedule, seeds, guidance, and stopping."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDIMScheduler, EulerAncestralDiscreteScheduler

from handi.method import diffusion
from handi.models.backbone import Layout

CONFIG = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "steps_offset": 1}


def seeded(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def test_solver_keeps_the_checkpoints_schedule():
    given = DDIMScheduler(**CONFIG, prediction_type="v_prediction", timestep_spacing="trailing")
    solver = diffusion.dpm_solver(given.config)
    assert solver.config.prediction_type == "v_prediction"
    assert solver.config.timestep_spacing == "trailing"
    torch.testing.assert_close(solver.alphas_cumprod, given.alphas_cumprod)
    solver.set_timesteps(6)
    assert solver.sigmas[-1] == pytest.approx(0.0292, abs=1e-4)  # sigma of alpha_bar_0, not zero


def test_a_clip_seed_is_the_same_alone_and_in_a_batch():
    together = diffusion.clip_seeds(seeded(5, 6, 7), 3)
    assert together == [diffusion.clip_seeds(seeded(s), 1)[0] for s in (5, 6, 7)]
    noise = diffusion.clip_noise((4, 3, 2, 2), together, stream=2)
    assert torch.equal(noise[1], diffusion.clip_noise((4, 3, 2, 2), together[1:2], stream=2)[0])


def test_seeds_differ_between_clips_streams_and_unseeded_calls():
    seeds = diffusion.clip_seeds(torch.Generator().manual_seed(0), 2)
    assert len(set(seeds)) == 2
    one, two = (diffusion.clip_noise((8,), seeds[:1], stream) for stream in (1, 2))
    assert not torch.equal(one, two)
    assert diffusion.clip_seeds(None, 1) != diffusion.clip_seeds(None, 1)
    with pytest.raises(ValueError, match="2 generators for 3"):
        diffusion.clip_seeds(seeded(0, 1), 3)


def test_noise_is_standard_normal():
    noise = diffusion.clip_noise((4, 16, 32, 32), [1, 2], stream=1)
    assert abs(noise.mean()) < 0.01
    assert noise.std() == pytest.approx(1, abs=0.01)


def test_the_start_holds_6_8_percent_of_the_context():
    solver = diffusion.dpm_solver(CONFIG)
    timesteps = diffusion.set_timesteps(solver, 25, "cpu")
    assert timesteps[0] == 999
    context = torch.ones(1, 4, 1, 2, 2)
    x = diffusion.Betas(solver).start(
        context.expand(-1, -1, 3, -1, -1), torch.zeros(1, 4, 3, 2, 2), timesteps[0]
    )
    assert x.shape == (1, 4, 3, 2, 2)
    torch.testing.assert_close(x, torch.full_like(x, 0.0683), atol=1e-4, rtol=0)


@pytest.mark.parametrize(("strength", "kept"), [(1.0, 10), (0.6, 6), (0.01, 1)])
def test_strength_leaves_out_the_first_steps(strength, kept):
    solver = diffusion.dpm_solver(CONFIG)
    timesteps = diffusion.set_timesteps(solver, 10, "cpu", strength)
    assert torch.equal(timesteps, solver.timesteps[-kept:])


def test_guidance_computes_both_branches_in_one_call_or_only_one():
    calls = []

    def model(x, t, text, layout):
        calls.append(len(x))
        assert len(text) == len(layout.context) == len(x)
        return x * 0 + text.mean(dim=(1, 2))[:, None, None, None, None]

    x, t = torch.zeros(2, 4, 3, 2, 2), torch.tensor(5)
    text, null = torch.full((2, 7, 8), 3.0), torch.full((2, 7, 8), 1.0)
    context, area = torch.zeros(2, 4, 1, 2, 2), torch.zeros(2, 1, 1, 2, 2)
    layout = Layout(x, area, area, context, torch.arange(3).expand(2, 3))
    guided = diffusion.guide(model, layout, text, null, 4.0)
    assert (guided(x, t) == 1 + 4 * (3 - 1)).all()
    plain = diffusion.guide(model, layout, text, None, 1.0)
    assert (plain(x, t) == 3).all()
    assert calls == [4, 2]
    with pytest.raises(ValueError, match="null text"):
        diffusion.guide(model, layout, text, None, 2.0)


def test_guidance_acts_at_the_timesteps_that_are_named():
    """At the others one branch is computed, and the network's own answer counts."""
    calls = []

    def model(x, t, text, layout):
        calls.append(len(x))
        return x * 0 + text.mean()

    x, text, null = torch.zeros(1, 4, 3, 2, 2), torch.full((1, 7, 8), 3.0), torch.full((1, 7, 8), 1.0)
    area = torch.zeros(1, 1, 1, 2, 2)
    layout = Layout(x, area, area, x[:, :, :1], torch.arange(3)[None])
    guided = diffusion.guide(model, layout, text, null, 4.0, guided_at={5})
    assert (guided(x, torch.tensor(7)) == 3).all()
    guided(x, torch.tensor(5))
    assert calls == [1, 2]


@pytest.mark.parametrize(
    ("scale", "pose_scale", "branches", "expected"),
    [
        (1.0, 1.0, 1, 30 + 5),
        (1.0, 3.0, 2, 30 + 3 * 5),
        (4.0, 1.0, 2, 120 - 3 * 10 + 5),
        (4.0, 3.0, 3, 90 + 15),
    ],
)
def test_guidance_on_poses_scales_what_they_add(scale, pose_scale, branches, expected):
    """A network that adds what its text and its poses say: 30 or 10 for the text, 5 for the poses."""
    calls = []

    def model(x, t, text, layout):
        calls.append(len(x))
        poses = layout.poses.mean(dim=(1, 2, 3))
        return x * 0 + (text.mean(dim=(1, 2)) + poses)[:, None, None, None, None]

    x, t = torch.zeros(2, 4, 3, 2, 2), torch.tensor(5)
    text, null = torch.full((2, 7, 8), 30.0), torch.full((2, 7, 8), 10.0)
    area = torch.zeros(2, 1, 1, 2, 2)
    poses = torch.full((2, 3, 42, 2), 5.0)
    layout = Layout(x, area, area, x[:, :, :1], torch.arange(3).expand(2, 3), poses=poses)
    guided = diffusion.guide(model, layout, text, null if scale > 1 else None, scale, pose_scale)
    assert torch.allclose(guided(x, t), torch.tensor(float(expected)))
    assert calls == [2 * branches]


def test_guidance_on_poses_needs_poses():
    """Without them there is nothing to guide on, and no second branch."""
    x, text = torch.zeros(1, 4, 3, 2, 2), torch.ones(1, 7, 8)
    area = torch.zeros(1, 1, 1, 2, 2)
    layout = Layout(x, area, area, x[:, :, :1], torch.arange(3)[None])
    guided = diffusion.guide(lambda x, t, text, layout: x + len(x), layout, text, None, 1.0, 2.0)
    assert (guided(x, torch.tensor(5)) == 1).all()


def test_a_hook_can_change_and_stop():
    solver = diffusion.dpm_solver(CONFIG)
    timesteps = diffusion.set_timesteps(solver, 5, "cpu")
    seen = []

    def on_step(index, t, x):
        seen.append(index)
        return None if index == 2 else torch.full_like(x, 7.0)

    x = diffusion.sample(lambda x, t: x, torch.zeros(1, 4, 2, 2, 2), solver, timesteps, on_step=on_step)
    assert seen == [0, 1, 2]
    assert (x != 0).any()


def test_a_perfect_noise_predictor_gives_the_clip_back():
    """With the true noise as the prediction, any number of steps ends at the clean latents."""
    solver = diffusion.dpm_solver(CONFIG)
    clean, noise = torch.randn(1, 4, 3, 4, 4), torch.randn(1, 4, 3, 4, 4)
    timesteps = diffusion.set_timesteps(solver, 8, "cpu")
    x = solver.add_noise(clean, noise, timesteps[:1])
    result = diffusion.sample(lambda x, t: noise, x, solver, timesteps)
    # it stops at sigma_min = 0.029, so that much noise is left
    torch.testing.assert_close(result, clean + 0.0292 * noise, atol=2e-3, rtol=1e-2)


def test_schedulers_that_draw_noise_are_seeded_a_clip():
    def run(seeds):
        scheduler = EulerAncestralDiscreteScheduler(**CONFIG)
        timesteps = diffusion.set_timesteps(scheduler, 4, "cpu")
        x = torch.zeros(len(seeds), 4, 2, 2, 2)
        return diffusion.sample(lambda x, t: x * 0.1, x, scheduler, timesteps, seeds=seeds)

    both = run([1, 2])
    assert torch.equal(both[1], run([2])[0])
    assert not torch.equal(both[0], both[1])
