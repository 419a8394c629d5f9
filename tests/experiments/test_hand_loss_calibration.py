"""The calibration of the hand loss: its rule, and that it measures what it says."""

from __future__ import annotations

import pytest
import torch

from experiments.hand_loss import calibration
from handi.world import render_clip


def level(t: int | None, presence: float, again: list[float | None]) -> calibration.Level:
    found = calibration.Level(f"t = {t}", t, 0.0 if t is None else t / 100)
    found.presence, found.error, found.again = [presence] * 4, [0.1] * 4, again
    return found


def test_the_recommended_level_keeps_presence_and_detection_from_the_lowest_on():
    plain = level(None, 1.0, [0.1, 0.1, 0.1, None])
    good = [level(t, 0.95, [0.1, 0.2, None, 0.1]) for t in (100, 200, 400)]
    faint, lost = level(300, 0.8, [0.1, 0.1, 0.1, 0.1]), level(300, 0.95, [0.1, None, None, 0.1])
    assert calibration.again_share(good[0], plain) == pytest.approx(2 / 3)  # the fourth does not count
    assert calibration.recommended([plain, *good]).t == 400
    for bad in (faint, lost):
        assert calibration.recommended([plain, *good[:2], bad, good[2]]).t == 200
        assert calibration.recommended([plain, bad, good[2]]) is None
    text = calibration.report([plain, *good[:2], lost])
    assert "Recommended noise_limit: 2.00 (t = 200)" in text
    assert "67 %" in text
    assert "No level" in calibration.report([plain, lost])


class Knowing(torch.nn.Module):
    """A noise predictor that knows the clip, up to one weight: it predicts the true noise plus the weight."""

    def __init__(self, real: torch.nn.Module) -> None:
        super().__init__()
        self.config, self.traits, self.mask_mode = real.config, real.traits, real.mask_mode
        self.noise = None
        self.weight = torch.nn.Parameter(torch.tensor(0.05))

    def forward(self, x_t: torch.Tensor, t: torch.Tensor, text: torch.Tensor, **more: object) -> torch.Tensor:
        return self.noise + self.weight


def test_a_predictor_that_knows_the_noise_gives_the_reconstruction_back(pipe, detector):
    clip = render_clip(900_003, size=64)
    with torch.no_grad():
        scene = calibration.scene_of(pipe, clip, True)
    assert scene.rois[..., 2].any()
    # Outside the area the latents are the context's.
    outside = scene.layout.free.expand_as(scene.layout.z) == 0
    assert outside.any()
    assert torch.equal(scene.layout.z[outside], scene.layout.z[:, :, :1].expand_as(scene.layout.z)[outside])

    real, pipe.unet = pipe.unet, Knowing(pipe.unet)
    try:
        pipe.unet.noise = calibration.diffusion.clip_noise(scene.layout.z.shape[1:], [clip.seed], stream=2)
        noise, x0 = calibration.predict(pipe, scene, 500)
        bar = pipe.scheduler.alphas_cumprod[500]
        assert noise.item() == pytest.approx(0.05**2, rel=1e-3)
        gain = ((1 - bar) / bar).sqrt()
        torch.testing.assert_close(x0, scene.layout.z - 0.05 * gain, atol=1e-4, rtol=1e-4)
        found = calibration.Level("t = 500", 500, float(gain))
        terms = {"hand": 3 * noise, "hand_features": -0.5 * noise}
        calibration.compare_gradients(pipe, noise, terms, found)
        calibration.compare_gradients(
            pipe, noise, {"hand": 0 * noise, "hand_features": torch.ones(())}, found
        )
        assert found.ratio == {"hand": [pytest.approx(3)], "hand_features": [pytest.approx(0.5)]}
        assert found.cosine == {"hand": [pytest.approx(1)], "hand_features": [pytest.approx(-1)]}
    finally:
        pipe.unet = real


def test_presence_falls_and_errors_grow_in_spoilt_frames(pipe, detector):
    clip = render_clip(900_003, size=64)
    with torch.no_grad():
        scene = calibration.scene_of(pipe, clip, True)
    plain = calibration.Level("true frames")
    calibration.look(detector, scene, scene.true, plain)
    assert plain.presence
    assert min(plain.presence) > 0.5
    assert max(plain.error) < 1e-3
    assert len(plain.again) == len(plain.presence)
    blurred = calibration.Level("blurred", true=True)
    soft = calibration.gaussian_blur(scene.true, 3.0)
    assert soft.shape == scene.true.shape
    assert soft.mean() == pytest.approx(scene.true.mean().item(), abs=0.02)
    calibration.look(detector, scene, soft, blurred)
    assert sum(blurred.presence) < 0.8 * sum(plain.presence)
    assert min(blurred.error) > max(plain.error)
    noisy = calibration.speckle(torch.zeros(4, 3, 64, 64), 0.1)
    assert noisy.std() == pytest.approx(0.2, rel=0.05)


def test_the_command_runs_to_its_table(model_folder, detector, tmp_path, monkeypatch):
    monkeypatch.setattr(calibration.HandDetector, "from_pretrained", lambda: detector)
    report = calibration.main(
        ["--model", str(model_folder), "--clips", "1", "--world", str(tmp_path / "world"), "--levels", "100"]
    )
    assert "| t = 100 | " in report
    assert "| blurred, sd 0.5 px |" in report
    assert "Rule: the largest t" in report
