"""PSNR and SSIM of generated frames against the true ones, over the pixels that count."""

from __future__ import annotations

import numpy as np
from skimage.metrics import structural_similarity

from handi.core.types import BinaryMask, Frames
from handi.evaluation.metrics.protocol import Features, Figure, Pair, PairMetric, Unscored

ROUNDING = 1 / 12  # squared error, in levels, that rounding to 8 bits makes by itself: no less is claimed
SSIM_SIDE = 11  # px: the side of Wang's Gaussian window


class Pixels(PairMetric):
    """Fidelity of pixels, frame by frame in step with the truth."""

    name = "pixels"
    figures = (
        Figure("psnr", "PSNR", "higher", "dB",
               f"of a video's squared error over all frames; {10 * np.log10(255**2 / ROUNDING):.1f} dB where "
               "nothing differs"),
        Figure("ssim", "SSIM", "higher", of="Wang et al. 2004 on RGB, mean over pixels and frames",
               none=f"it is smaller than SSIM's window of {SSIM_SIDE} px"),
    )  # fmt: skip
    wants = ("reference",)
    preprocessing = "uint8-rgb"

    def scores(self, pair: Pair, features: Features) -> dict[str, float]:
        """See `figures`. SSIM is left out where a crop is smaller than its window."""
        assert pair.reference is not None  # it is in `wants`
        if pair.inside is not None and not pair.inside.any():
            raise Unscored("no pixel counts in this scope")
        scores = {"psnr": psnr(pair.generated, pair.reference, pair.inside)}
        if min(pair.generated.shape[1:3]) >= SSIM_SIDE:
            scores["ssim"] = ssim(pair.generated, pair.reference, pair.inside)
        return scores


def psnr(generated: Frames, true: Frames, inside: BinaryMask | None = None) -> float:
    """PSNR in dB of L×H×W×3 uint8 frames, pooled over frames; `inside` H×W: only there."""
    total, count = 0.0, 0
    for made, truth in zip(generated, true, strict=True):
        difference = made.astype(np.int64) - truth
        if inside is not None:
            difference = difference[inside]
        total += float(np.square(difference).sum())
        count += difference.size
    return float(10 * np.log10(255**2 / max(total / count, ROUNDING)))


def ssim(generated: Frames, true: Frames, inside: BinaryMask | None = None) -> float:
    """Mean SSIM of L×H×W×3 uint8 frames; `inside` H×W: mean of the SSIM map there.

    Wang's settings: Gaussian window of 11 px and σ = 1.5, K1 = .01, K2 = .03, weights that sum to one.
    """
    values = []
    for made, truth in zip(generated, true, strict=True):
        mean, picture = structural_similarity(
            truth, made, data_range=255, channel_axis=-1, gaussian_weights=True, sigma=1.5,
            use_sample_covariance=False, full=True,
        )  # fmt: skip
        values.append(float(mean) if inside is None else float(picture[inside].mean()))
    return float(np.mean(values))
