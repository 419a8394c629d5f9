"""The benchmark of tokens outside the area: each way is exact where it leaves nothing out."""

from __future__ import annotations

import pytest
import torch

from benchmarks.outside import Grid, count, only, recording, sampled, small_networks

GRID = Grid(2, 4, 6, 0.25)


@pytest.fixture(scope="module")
def networks():
    return small_networks()


@pytest.mark.parametrize("name", ["Wan", "LTX"])
def test_kept_keys_and_values_give_the_same_answer_in_the_area(networks, name):
    network, free = networks[name], GRID.free()
    x, text = torch.randn(network.shape(GRID)), torch.randn(1, *network.text)
    flat, total = free.flatten(), free.numel()
    inside, outside = flat.nonzero()[:, 0], (~flat).nonzero()[:, 0]
    with recording(network.transformer, outside) as kept:
        whole = network(x, 0.5, free, text)
    with only(network.transformer, inside, total, kept):
        part = network(x, 0.5, free, text)
    with only(network.transformer, inside, total):
        alone = network(x, 0.5, free, text)
    cells = free.repeat_interleave(network.patch, 1).repeat_interleave(network.patch, 2)
    torch.testing.assert_close(part[:, :, cells], whole[:, :, cells])
    assert not torch.allclose(alone[:, :, cells], whole[:, :, cells])
    torch.testing.assert_close(network(x, 0.5, free, text), whole)  # nothing is left behind


def test_a_rim_that_reaches_everything_changes_nothing_and_a_smaller_one_does(networks):
    exact = sampled(networks["Wan"], GRID)[1]
    torch.testing.assert_close(sampled(networks["Wan"], GRID, rim=9)[1], exact)
    assert not torch.allclose(sampled(networks["Wan"], GRID, rim=0)[1], exact)
    assert not torch.allclose(sampled(networks["Wan"], GRID, group=4)[1], exact)


def test_flops_fall_with_the_tokens(networks):
    for network in networks.values():
        network.transformer.to("meta")
        inside = GRID.free().flatten().nonzero()[:, 0]
        whole, reused, dropped = (
            count(network, GRID, places, kept)
            for places, kept in ((None, False), (inside, True), (inside, False))
        )
        assert dropped < reused < whole
