"""The lean noise predictor: what a fresh one says, what its transport moves, and that it is saved whole."""

from __future__ import annotations

import pytest
import torch

from handi.models.lite import LiteUNet, signal_levels
from handi.models.skeleton import ELBOW, FOLLOWS, POINTS, REACH

PATCH, CHANNELS, FRAMES = 4, 48, 3  # as many channels as a patch has numbers: the basis loses nothing


def lite(**changes) -> LiteUNet:
    torch.manual_seed(0)
    sizes = {
        "latent_channels": CHANNELS, "patch": PATCH, "width": 8, "inner_width": 16, "heads": 2,
        "reader_depth": 1, "mover_depth": 1, "cross_attention_dim": 8,
    }  # fmt: skip
    return LiteUNet(**(sizes | changes)).eval()


def inputs(height: int = 8, width: int = 6, batch: int = 2) -> dict:
    generator = torch.Generator().manual_seed(1)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    return {
        "sample": noise(batch, CHANNELS, FRAMES, height, width),
        "timestep": torch.tensor([10, 900])[:batch],
        "encoder_hidden_states": noise(batch, 5, 8),
        "condition_latent": noise(batch, CHANNELS, 1, height, width),
        "mask": torch.ones(batch, 1, 1, height, width),
    }


def stirred(network: LiteUNet) -> LiteUNet:
    """With weights that are no longer zero anywhere."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return network


def test_a_fresh_one_says_that_nothing_moves():
    given = inputs()
    still = given["condition_latent"].expand_as(given["sample"])
    assert torch.equal(lite()(**given), still)
    moving = lite(moves_hands=True)
    with torch.no_grad():
        moving.transport.joints.presence.bias.fill_(-100.0)  # it would paint over hands before it knows them
    torch.testing.assert_close(moving(**given), still, atol=2e-5, rtol=0)
    assert not lite(from_context=False)(**given).any()


def test_a_clip_is_the_same_alone_and_in_a_batch():
    network, given = stirred(lite(moves_hands=True)), inputs()
    both = network(**given)
    alone = network(**{name: value[1:] for name, value in given.items()})
    torch.testing.assert_close(both[1:], alone, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(
    "change", ["sample", "timestep", "encoder_hidden_states", "condition_latent", "mask", "frame_index"]
)
def test_every_condition_is_read(change):
    network, given = stirred(lite(moves_hands=True)), inputs()
    before = network(**given)
    if change == "frame_index":
        given[change] = torch.tensor([[0, 4, 9]]).expand(2, -1)
    else:
        given[change] = given[change] * 0.5
    if change == "timestep":
        given[change] = given[change].round()
    assert (network(**given) - before).abs().max() > 1e-4


def covering(network: LiteUNet, monkeypatch) -> None:
    """Make both hands cover all of the picture."""
    monkeypatch.setattr(
        "handi.models.transport.nearness", lambda start, size, grid: torch.full((2, 2, *grid), 99.0)
    )
    with torch.no_grad():
        network.transport.joints.presence.bias.fill_(100.0)


def test_transport_moves_what_is_cut_out_and_leaves_the_rest(monkeypatch):
    """Hands that cover all; the left one, in front, goes right by two pixels and down by one."""
    network, given = lite(moves_hands=True), inputs()
    covering(network, monkeypatch)
    transport, gaze = network.transport, network.transport.joints.later
    with torch.no_grad():
        gaze.hidden.weight.zero_()
        gaze.hidden.bias.fill_(1.0)
        seen = torch.nn.functional.gelu(torch.ones(16)).sum()  # what `hidden` gives then
        for axis, pixels in ((0, 2.0), (1, 1.0)):
            gaze.out[:POINTS, :16, axis] = pixels / REACH / seen
            gaze.out[ELBOW, :16, axis] *= 1 - FOLLOWS  # the rest of the way it follows its wrist
    _, moved = network(**given, details=True)
    assert moved is not None
    picture = transport.basis.to_pictures(given["condition_latent"][:, :, 0])
    shown = transport.basis.to_pictures(moved.latents[:, :, 1])
    torch.testing.assert_close(shown[:, :, 1:, 2:], picture[:, :, :-1, :-2], atol=1e-3, rtol=1e-3)
    left = moved.flow[:, :, 0, 0]
    torch.testing.assert_close(left, torch.full_like(left, -2.0), atol=1e-4, rtol=0)
    assert not moved.flow[:, :, 1].any()


def test_a_hand_that_is_not_there_is_not_moved():
    network, given = stirred(lite(moves_hands=True)), inputs()
    with torch.no_grad():
        network.transport.joints.presence.bias.fill_(-100.0)
    _, moved = network(**given, details=True)
    assert moved is not None
    assert not moved.cutout.any()


def test_the_residual_is_held_back_under_hands_while_noise_is_high(monkeypatch):
    network, given = lite(moves_hands=True), inputs()
    covering(network, monkeypatch)
    with torch.no_grad():
        network.residual.bias.fill_(1.0)
    given["timestep"] = torch.tensor([0, 500])
    change = network(**given) - given["condition_latent"]
    torch.testing.assert_close(change[0], torch.ones_like(change[0]), atol=1e-4, rtol=0)
    torch.testing.assert_close(change[1], torch.full_like(change[1], 0.5), atol=1e-3, rtol=0)


def test_it_comes_back_from_a_folder(tmp_path):
    network, given = stirred(lite(moves_hands=True)), inputs()
    network.save_pretrained(tmp_path)
    back = LiteUNet.from_pretrained(tmp_path).eval()(**given)
    torch.testing.assert_close(back, network(**given), atol=1e-5, rtol=1e-5)
    half = LiteUNet.from_pretrained(tmp_path, torch_dtype=torch.bfloat16).eval()(**given)
    assert torch.isfinite(half).all()


def test_checkpointing_changes_no_gradient():
    given, gradients = inputs(), []
    for switch in (False, True):
        network = stirred(lite(moves_hands=True))
        if switch:
            network.enable_gradient_checkpointing()
        network(**given).square().mean().backward()
        gradients.append(network.mover.stem.weight.grad)
    torch.testing.assert_close(*gradients)


def test_an_odd_number_of_cells_is_refused():
    with pytest.raises(ValueError, match="even"):
        lite()(**inputs(height=7))


def test_x_t_is_let_through_as_far_as_it_is_certain():
    """x0 = c·x_t/√ᾱ + (1 − c)·network, c = skip·ᾱ/(skip·ᾱ + σ²): only the network at pure noise."""
    given, skip = inputs(), 0.25
    plain, blended = stirred(lite()), stirred(lite(skip=skip))
    for t in (0, 400, 999):
        given["timestep"] = torch.tensor(t)
        signal = signal_levels()[t].double()
        certainty = skip * signal / (skip * signal + 1 - signal)
        x0 = given["sample"] / signal.clamp(min=1e-12).sqrt()
        wanted = certainty * x0 + (1 - certainty) * plain(**given)
        torch.testing.assert_close(blended(**given), wanted.float(), atol=1e-4, rtol=1e-4)
    assert signal_levels()[999] == 0  # the schedule ends in pure noise
