"""The lean noise predictor: what a fresh one says, what it reads, and that it is saved whole."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDPMScheduler

from handi.models.attention import rotary_at, rotate
from handi.models.lite import SCHEDULE, LiteTransformer

CHANNELS, FRAMES = 6, 3


def lite(**changes) -> LiteTransformer:
    torch.manual_seed(0)
    sizes = {
        "latent_channels": CHANNELS, "width": 16, "heads": 2, "reader_depth": 1, "mover_depth": 1,
        "cross_attention_dim": 8,
    }  # fmt: skip
    return LiteTransformer(**(sizes | changes)).eval()


def inputs(height: int = 8, width: int = 5, batch: int = 2) -> dict:
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


def stirred(network: LiteTransformer) -> LiteTransformer:
    """With weights that are no longer zero anywhere."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    return network


def test_a_fresh_one_says_that_nothing_moves():
    given = inputs()
    assert torch.equal(lite()(**given), given["condition_latent"].expand_as(given["sample"]))
    assert not lite(from_context=False)(**given).any()


def test_grounding_is_told_beside_the_latents_and_changes_nothing_of_them():
    given = inputs()
    network = stirred(lite(grounding=True))
    latents, scores = network(**given, return_grounding=True)
    assert torch.equal(latents, network(**given))
    assert scores.shape == (2, 2, 8, 5)
    other = network(**{**given, "sample": 2 * given["sample"], "timestep": 5}, return_grounding=True)[1]
    assert torch.equal(scores, other)  # what is meant follows from the picture and the words alone
    changed = {**given, "encoder_hidden_states": -given["encoder_hidden_states"]}
    assert not torch.allclose(scores, network(**changed, return_grounding=True)[1])
    with pytest.raises(ValueError, match="no finder"):
        lite()(**given, return_grounding=True)


def test_what_is_found_reaches_the_latents():
    network, given = stirred(lite(grounding=True)), inputs()
    before = network(**given)
    with torch.no_grad():
        network.finder.thing[-1].weight.neg_()
    assert not torch.allclose(before, network(**given))


def test_one_look_answers_many_sentences():
    finder = stirred(lite(grounding=True)).finder
    context, text = torch.randn(1, 8, 5, CHANNELS), torch.randn(3, 5, 8)
    cells = finder.see(context)
    together = finder.answer(cells.expand(3, -1, -1), text).unflatten(1, (8, 5))
    torch.testing.assert_close(together, finder(context.expand(3, -1, -1, -1), text))
    assert not torch.allclose(together[0], together[1])


def test_a_clip_is_the_same_alone_and_in_a_batch():
    network, given = stirred(lite()), inputs()
    both = network(**given)
    alone = network(**{name: value[1:] for name, value in given.items()})
    torch.testing.assert_close(both[1:], alone, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "change", ["sample", "timestep", "encoder_hidden_states", "condition_latent", "mask", "frame_index"]
)
def test_every_condition_is_read(change):
    network, given = stirred(lite()), inputs()
    before = network(**given)
    if change == "frame_index":
        given[change] = torch.tensor([[0, 4, 9]]).expand(2, -1)
    else:
        given[change] = given[change] * 0.5
    if change == "timestep":
        given[change] = given[change].round()
    assert (network(**given) - before).abs().max() > 1e-4


def test_every_frame_sees_the_scene_and_the_other_frames():
    """What changes in one corner of the context, or in one frame, is seen far away and in every frame."""
    network, given = stirred(lite()), inputs()
    before = network(**given)
    for name, place in (
        ("condition_latent", (0, slice(None), 0, 0, 0)),
        ("sample", (0, slice(None), 1, 0, 0)),
    ):
        changed = {**given, name: given[name].clone()}
        changed[name][place] += 1
        far = (network(**changed) - before)[0, :, :, -1, -1].abs().amax(0)
        assert (far > 1e-7).sum() >= (FRAMES if name == "condition_latent" else 1), name
    changed = {**given, "sample": given["sample"].clone()}
    changed["sample"][0, :, 1, 3, 3] += 1
    same_place = (network(**changed) - before)[0, :, :, 3, 3].abs().amax(0)
    assert (same_place > 1e-6).all()


def test_rotary_products_depend_on_the_distance_alone():
    generator = torch.Generator().manual_seed(3)
    query, key = torch.randn(2, 1, 8, generator=generator)
    down, across = torch.tensor([0.0, 2, 5, 7]), torch.tensor([1.0, 4, 3, 6])  # the same step, twice
    turns = rotary_at([down, across], torch.zeros(1, 8), heads=1)
    queries, keys = (rotate(x.expand(1, 4, 8), turns)[0] for x in (query, key))
    torch.testing.assert_close(queries[0] @ keys[1], queries[2] @ keys[3], atol=1e-4, rtol=1e-4)
    assert abs(queries[0] @ keys[1] - queries[0] @ keys[2]) > 1e-3


def test_it_comes_back_from_a_folder(tmp_path):
    network, given = stirred(lite()), inputs()
    network.save_pretrained(tmp_path)
    back = LiteTransformer.from_pretrained(tmp_path).eval()(**given)
    torch.testing.assert_close(back, network(**given), atol=1e-5, rtol=1e-5)
    half = LiteTransformer.from_pretrained(tmp_path, torch_dtype=torch.bfloat16).eval()(**given)
    assert torch.isfinite(half).all()


def test_checkpointing_changes_no_gradient():
    given, gradients = inputs(), []
    for switch in (False, True):
        network = stirred(lite())
        if switch:
            network.enable_gradient_checkpointing()
        network(**given).square().mean().backward()
        gradients.append(network.mover.stem.weight.grad)
    torch.testing.assert_close(*gradients)


def test_the_schedule_ends_in_pure_noise():
    assert DDPMScheduler(**SCHEDULE).alphas_cumprod[999] == 0


def test_given_poses_a_fresh_input_changes_nothing_and_a_trained_one_does():
    given, plain = inputs(8, 8), stirred(lite())
    poses = torch.rand(2, FRAMES, 42, 2, generator=torch.Generator().manual_seed(3))
    told = lite(poses=True)
    told.load_state_dict(told.state_dict() | plain.state_dict())
    assert torch.equal(told(**given, poses=poses), plain(**given))
    assert torch.equal(plain(**given, poses=poses), plain(**given))  # it cannot be told
    with torch.no_grad():
        told.pose_stem.frames.weight.normal_()
        told.pose_stem.scene.weight.normal_()
    assert not torch.allclose(told(**given, poses=poses), plain(**given))
    assert torch.equal(told(**given), told(**given, poses=torch.zeros_like(poses)))  # no hand, no pose


def test_with_area_only_what_lies_outside_is_the_context_and_clips_do_not_mix():
    network, given = stirred(lite(poses=True, area_only=True)), inputs(6, 7)
    chance = torch.rand(2, 1, 1, 6, 7, generator=torch.Generator().manual_seed(4))
    given["mask"] = chance * (chance > torch.tensor([0.3, 0.6]).view(2, 1, 1, 1, 1))
    given["poses"] = torch.rand(2, FRAMES, 42, 2, generator=torch.Generator().manual_seed(3))
    result = network(**given)
    outside = (given["mask"] == 0).expand_as(result)
    context = given["condition_latent"].expand_as(result)
    assert torch.equal(result[outside], context[outside])
    assert not torch.isclose(result[~outside], context[~outside]).all()
    for row in range(2):
        alone = network(**{name: value[row : row + 1] for name, value in given.items()})
        torch.testing.assert_close(alone[0], result[row], atol=1e-5, rtol=1e-5)
    given["mask"] = torch.zeros_like(given["mask"])
    assert torch.equal(network(**given), context)


def test_area_only_over_all_cells_is_the_whole_grid():
    part, given = stirred(lite(area_only=True)), inputs(6, 7)
    whole = lite()
    whole.load_state_dict(part.state_dict())
    torch.testing.assert_close(part(**given), whole(**given), atol=1e-5, rtol=1e-5)
    places = torch.arange(42).expand(2, -1)
    torch.testing.assert_close(part(**given, places=places), whole(**given), atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="area_only"):
        lite(area_only=True, from_context=False)
