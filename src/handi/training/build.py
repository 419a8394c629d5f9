"""A run's networks and machine: what a recipe adds to a model, and the arithmetic that it is trained in."""

from __future__ import annotations

import copy
import os
from dataclasses import dataclass, replace

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs

from handi.core.errors import InputError
from handi.hands import HandDetector
from handi.models.base import load_decoder
from handi.models.lite import LiteTransformer
from handi.models.parts import Checkpoint
from handi.models.pose_net import PoseNet
from handi.models.pose_stem import PoseStem
from handi.models.unet import HandiUNet
from handi.training.module import PARTS, StepModule
from handi.training.recipe import Recipe, RunRecipe
from handi.training.step import Networks

OUTPUT_LAYERS = ("residual.", "conv_out.")


def grown(network: torch.nn.Module, recipe: Recipe, source: str) -> LiteTransformer | HandiUNet:
    """A network with the inputs and habits that `model.poses` and `model.area_only` ask for; what is new
    starts at zero. Raises: InputError for a kind of network that cannot have them."""
    lean = isinstance(network, LiteTransformer)
    if not isinstance(network, LiteTransformer | HandiUNet) or (recipe.model.area_only and not lean):
        raise InputError(
            f"model.area_only is for lean networks, this one is {type(network).__name__}",
            where=source,
            hint="leave it out",
        )
    config = {name: value for name, value in network.config.items() if not name.startswith("_")}
    config["poses"] = recipe.model.poses or network.config.poses
    if lean:
        config["area_only"] = recipe.model.area_only or network.config.area_only
    larger = type(network)(**config).to(network.dtype)
    larger.load_state_dict(larger.state_dict() | network.state_dict())
    return larger.eval()


def with_pose_net(recipe: Recipe, parts: Checkpoint) -> Checkpoint:
    """The model with an untrained PoseNet, where the recipe trains one and the model has none yet."""
    if recipe.stage != "poses" or parts.pose_net is not None:
        return parts
    config, finder = parts.area_unet.config, parts.area_unet.finder
    width = min(128, 2 * config.width)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.run.seed)
        network = PoseNet(
            latent_channels=config.latent_channels,
            finder_width=finder.WIDTH,
            cross_attention_dim=config.cross_attention_dim,
            frames=parts.card.frames,
            width=width,
            hidden=7 * width // 2,
        )
    return replace(parts, pose_net=network.eval())


def add_pose_stem(recipe: Recipe, parts: Checkpoint) -> None:
    """Let the network of a base be given poses, where the recipe asks for it and it cannot be yet."""
    wanted = recipe.stage == "stage2" and recipe.model.poses
    if wanted and getattr(parts.unet, "pose_stem", None) is None:
        parts.unet.pose_stem = PoseStem.of(parts.unet, parts.backbone().chunk).eval()


def take_over(source: torch.nn.Module, target: torch.nn.Module) -> None:
    """Copy what both networks have under one name and in one shape, but not the output layer: what a scene
    is and what a sentence means is learned in stage 1 at a sixteenth of the cost."""
    given, own = source.state_dict(), target.state_dict()
    same = {
        name: value
        for name, value in given.items()
        if name in own and own[name].shape == value.shape and not name.startswith(OUTPUT_LAYERS)
    }
    target.load_state_dict(own | same)


def networks_of(recipe: Recipe, parts: Checkpoint) -> Networks:
    """What a step computes with; with Υ where the recipe's loss reads hands."""
    # A tokenizer remembers its last padding, and would be saved with it.
    backbone = replace(parts, tokenizer=copy.deepcopy(parts.tokenizer)).backbone()
    reader = None
    if reads_hands(recipe) and (decoder := recipe.loss.hand.decoder) is not None:
        small = load_decoder(decoder, parts.vae)
        reader = replace(parts, vae=small, tokenizer=copy.deepcopy(parts.tokenizer)).backbone()
    return Networks(
        backbone=backbone,
        vae=parts.vae,
        text_encoder=parts.text_encoder,
        unet=parts.unet,
        area_unet=parts.area_unet,
        prior_mask=parts.prior_mask,
        detector=HandDetector.from_pretrained(backend="torch") if reads_hands(recipe) else None,
        pose_net=parts.pose_net,
        reader=reader,
    )


def enable_checkpointing(module: StepModule) -> None:
    """Recompute activations in the backward pass, in every network that can."""
    for name in PARTS:
        network = getattr(module, name)
        for method in ("enable_gradient_checkpointing", "gradient_checkpointing_enable"):
            able = getattr(network, "_supports_gradient_checkpointing", True)  # diffusers' own mark
            if able and hasattr(network, method):
                getattr(network, method)()
                break


def compile_network(network: torch.nn.Module, gradients: bool = False) -> None:
    """Compile a network in place: the blocks that it repeats, which compile once for all, or all of it.

    gradients: single loss terms are to be followed backward too, so that what one pass backward needs must be
    kept for the next: compiled code would write over it.
    """
    if gradients:
        torch._functorch.config.donated_buffer = False
    if getattr(network, "_repeated_blocks", None):
        network.compile_repeated_blocks(dynamic=False)  # type: ignore[operator]
    else:
        network.compile()


def reads_hands(recipe: Recipe) -> bool:
    """Whether the recipe's loss reads hands."""
    return recipe.stage == "stage2" and recipe.loss.hand.weight > 0


# ---------------------------------------------------------------------------------------- machine


@dataclass(frozen=True)
class Arithmetic:
    """Precision of the arithmetic, whether blocks are compiled, and why, for the log."""

    precision: str
    compiled: bool
    why: str


def arithmetic(run: RunRecipe) -> Arithmetic:
    """The recipe's, or what is fastest here: bf16 and compiled blocks on a GPU and on a CPU with AMX, which
    multiplies bf16 matrices; on another CPU bf16 is slower than float32."""
    if run.device != "cpu" and torch.cuda.is_available():
        fast, machine = True, "a GPU"
    elif has_amx():
        fast, machine = True, "a CPU with AMX"
    else:
        fast, machine = False, "a CPU without AMX"
    precision = run.precision if run.precision != "auto" else "bf16" if fast else "no"
    compiled = run.compile == "yes" or (run.compile == "auto" and fast)
    name = "float32" if precision == "no" else precision
    return Arithmetic(precision, compiled, f"{name}{', compiled' if compiled else ''} on {machine}")


def has_amx() -> bool:
    """Whether this CPU multiplies bf16 matrices in tiles."""
    supported = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return bool(supported and supported())


def open_accelerator(recipe: Recipe, precision: str) -> Accelerator:
    """accelerate's view of the processes and devices that it was launched with. Raises: InputError."""
    cpu = recipe.run.device == "cpu"
    if precision == "fp16" and (cpu or not torch.cuda.is_available()):
        raise InputError("run.precision fp16 needs a GPU", hint="use bf16, or no")
    if torch.cuda.is_available():
        torch.set_float32_matmul_precision("high")
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    # A step need not use every weight that is trained (AnimateAnything's networks have dead ones).
    unused = DistributedDataParallelKwargs(find_unused_parameters=True, broadcast_buffers=False)
    accelerator = Accelerator(cpu=cpu, mixed_precision=precision, kwargs_handlers=[unused])
    if accelerator.num_processes != launched:  # they would all write to one folder
        raise InputError(
            f"{launched} processes were launched, accelerate joins {accelerator.num_processes}",
            hint="on CPUs say --run.device cpu",
        )
    return accelerator
