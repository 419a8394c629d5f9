"""The patch autoencoder: principal components, exact where they can be, and a decoder that starts at zero."""

from __future__ import annotations

import pytest
import torch

from handi.models.autoencoder import PatchAutoencoder, PatchBasis


@pytest.fixture(scope="module")
def pictures() -> torch.Tensor:
    """Smooth random pictures, 40×3×16×24."""
    coarse = torch.randn(40, 3, 4, 6, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.interpolate(coarse, (16, 24), mode="bilinear")


def test_a_full_basis_loses_nothing(pictures):
    basis = PatchBasis(48, 4)
    basis.fit(pictures)
    torch.testing.assert_close(basis.to_pictures(basis.to_latents(pictures)), pictures, atol=1e-4, rtol=0)


def test_fewer_components_are_the_best_there_are(pictures):
    """What PCA loses is the smallest eigenvalues, and no other basis of that size loses less."""
    basis = PatchBasis(6, 4)
    basis.fit(pictures)
    lost = (basis.to_pictures(basis.to_latents(pictures)) - pictures).square().sum()
    patches = basis.split(pictures).flatten(0, 2)
    values = torch.linalg.svdvals(patches - patches.mean(0))
    torch.testing.assert_close(lost, values[6:].square().sum(), rtol=1e-3, atol=1e-4)


def test_latents_have_unit_variance_and_a_refit_is_the_same(pictures):
    basis, again = PatchBasis(6, 4), PatchBasis(6, 4)
    basis.fit(pictures)
    again.fit(pictures)
    latents = basis.to_latents(pictures)
    assert latents.transpose(0, 1).flatten(1).var(1).mean() == pytest.approx(1, abs=0.02)
    assert torch.equal(latents, again.to_latents(pictures))


def test_it_is_called_like_autoencoder_kl(pictures, tmp_path):
    vae = PatchAutoencoder(6, (4, 4, 8))
    vae.basis.fit(pictures)
    latents = vae.encode(pictures).latent_dist.mode()
    assert latents.shape == (40, 6, 4, 6)
    assert torch.equal(vae.decode(latents).sample, vae.basis.to_pictures(latents))  # a decoder starts at zero
    vae.save_pretrained(tmp_path)
    assert torch.equal(
        PatchAutoencoder.from_pretrained(tmp_path).decode(latents).sample, vae.decode(latents).sample
    )


def test_too_few_patches_are_refused(pictures):
    with pytest.raises(ValueError, match="cannot give"):
        PatchBasis(6, 4).fit(pictures[:1])
    with pytest.raises(ValueError, match="not 49"):
        PatchBasis(49, 4)
