"""The training step of PoseNet: the hands' way over a clip, from its first picture and the words."""

from __future__ import annotations

import torch

from handi.data.clips import Batch
from handi.method import losses
from handi.models.pose_net import centred
from handi.training.noise import normal
from handi.training.recipe import LossRecipe
from handi.training.step import Networks, Terms, pictures_of, text_states


def poses_step(networks: Networks, batch: Batch, recipe: LossRecipe, generator: torch.Generator) -> Terms:
    """P of whole clips, of which the context images and the words are known; stage 1's finder looks.

    A picture that a batch has several times, with other words, is looked at once.
    """
    if batch.way is None:
        raise ValueError("poses need the joints of whole clips")
    finder, clean = networks.area_unet.finder, centred(batch.way)
    process = networks.backbone.process
    t = process.draw(len(batch), recipe.high_noise, recipe.pure_noise, generator).to(clean.device)
    signal, noise = process.levels(t)
    random = normal(clean.shape, generator).to(clean)
    noisy = signal.view(-1, 1, 1, 1) * clean + noise.view(-1, 1, 1, 1) * random
    context, picture = pictures_of(networks, batch)
    cells, text = finder.see(context), text_states(networks, batch)
    scores = finder.answer(cells[picture], text)
    guess = networks.pose_net(context, cells, scores, text, picture=picture, noisy=noisy, signal=signal)
    return losses.pose_loss(guess.joints, guess.presence_logits, guess.start, batch.way)
