"""Recipes: what a training run is. A YAML file fills them in, and `--section.key value` replaces entries.

The comments beside the entries are what `handi train RECIPE --explain` shows.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from handi.core.entries import Only, overridden, read_entries
from handi.core.errors import InputError
from handi.core.reading import read_yaml

MOST = 4096  # of what takes memory, and of a side in pixels
LONGEST = 2**63 - 1  # of what only takes time

Count = Annotated[int, Only(lambda n: 1 <= n <= MOST, f"1 or more, {MOST} at most")]
CountOrNone = Annotated[int, Only(lambda n: 0 <= n <= MOST, f"0 or more, {MOST} at most")]
Steps = Annotated[int, Only(lambda n: 1 <= n <= LONGEST, "1 or more")]
StepsOrNever = Annotated[int, Only(lambda n: 0 <= n <= LONGEST, "0 or more")]
Some = Annotated[int | None, Only(lambda n: n >= 1, "1 or more, or none for all")]
Share = Annotated[float, Only(lambda x: 0 <= x <= 1, "0 to 1")]
BelowOne = Annotated[float, Only(lambda x: 0 <= x < 1, "0 to below 1")]
Sides = Annotated[
    tuple[int, ...],
    Only(
        lambda sides: len(sides) in (0, 2) and all(0 < side <= MOST and side % 16 == 0 for side in sides),
        f"[height, width] in multiples of 16, {MOST} at most",
    ),
]
Betas = Annotated[
    tuple[float, ...], Only(lambda b: len(b) == 2 and all(0 <= x < 1 for x in b), "two in [0, 1)")
]
NotNegative = Annotated[float, Only(lambda x: x >= 0, "0 or more")]


@dataclass(frozen=True)
class ModelRecipe:
    """Where the weights come from and which of them are trained."""

    init: str | None = None  # a model folder or hub id to start from
    preset: str | None = None  # or a fresh model: mini
    poses: bool = False  # give a stage 2 that has none the input for hand poses
    area_only: bool = False  # let it compute the motion area's cells alone
    from_stage1: bool = False  # stage 2 starts from stage 1's weights, where names and shapes are the same
    # Patterns of names to train, such as "unet.*" or "vae.decoder.*"; empty: the stage's own network.
    train: tuple[str, ...] = ()
    lora_rank: CountOrNone = 0  # above 0: adapters of this rank are trained, not the weights they change
    # Scale of the adapters; none: the rank.
    lora_alpha: Annotated[float | None, Only(lambda x: x > 0, "more than 0")] = None
    lora_targets: tuple[str, ...] = ("to_q", "to_k", "to_v", "to_out.0")  # ends of the layers' names
    # Precision in which untrained weights are held. int8: the matrices of a transformer's blocks in eight
    # bits and the rest in bf16, for adapters on a base of diffusers.
    frozen: Literal["fp32", "bf16", "fp16", "int8"] = "fp32"


@dataclass(frozen=True)
class PoseRecipe:
    """The hand poses P that stage 2 is conditioned on, where its network takes them (`model.poses`)."""

    share: Share = 0.85  # of the samples that have them, so that a model without them works too
    # Largest sd of a hand's shift, as a share of the frame's side: predicted poses are off, and more so late
    # in a clip. Much of it teaches a network to draw blurred hands.
    noise: float = 0.015


@dataclass(frozen=True)
class MaskRecipe:
    """Which motion area stage 2 is given: shares of its samples, which add up to 1."""

    true: float = 0.0  # each clip's own
    generated: float = 0.0  # stage 1's: of shards those that `handi areas` stored
    prior: float = 0.0  # where the prior mask of the model to start from reaches half of its highest value
    full: float = 0.0  # the whole frame


@dataclass(frozen=True)
class DataRecipe:
    """Clips, and the samples that are made of them."""

    path: str = ""  # what `handi prepare` wrote; its split train is trained on
    validation: str | None = None  # likewise, of its split val, or else test; none: no clips are held out
    size: Sides = ()  # height, width in px that the clips must have; empty: any
    frames: Count = 16  # of a sample, context included; fewer than the clip's are taken evenly spaced
    fps: float | None = None  # at which the clips must have been prepared; none: at any rate, or spread
    unfinished: bool = False  # take the shards that there are, of folders that are still being prepared
    choice: Literal["even", "random"] = "even"  # of those frames: evenly spaced, or any
    mask: MaskRecipe = MaskRecipe(true=1.0)
    # Mask video that stage 1 learns: the clip's area in every frame, or each frame's own (of hulls only).
    target: Literal["union", "per_frame"] = "union"
    flip: bool = False  # mirror half of the samples, words included
    zoom: BelowOne = 0.0  # largest share of the side that is cut off, in half of the samples
    colour: BelowOne = 0.0  # largest change of a sample's colour channels and brightness, as a share
    poses: PoseRecipe = PoseRecipe()
    # Kinds to sample from, where a clip has them.
    texts: tuple[str, ...] = ("short", "paraphrase", "enriched")
    dropout: Share = 0.15  # share of samples without text, for classifier-free guidance
    workers: CountOrNone = 2  # threads that make batches ahead
    # Hold all clips on the device: a GPU never waits for them, and they need its memory.
    resident: bool = False

    @property
    def shown_text(self) -> str:
        """Held-out losses and sample sheets: the enriched text where clips are trained on it and have one."""
        return "enriched" if "enriched" in self.texts else "short"


@dataclass(frozen=True)
class HandLossRecipe:
    """The Hand Refinement Loss (Eq. 2, docs/method.md §7)."""

    weight: float = 0.1  # η of Eq. 7; 0: no hand loss
    form: Literal["roi", "literal"] = "roi"  # on regions around the hands, or Eq. 2 as printed
    frames: int = 4  # of a batch that are decoded for it
    noise_limit: float = 1.0  # sigma/alpha above which ẑ0 cannot be read
    features: float = 0.0  # weight of matching the landmark network's activations, in units of `weight`
    jitter: float = 1.0  # scale of the regions' random shift, size and turn
    # Side in px of the square around a hand that is decoded, a multiple of a latent cell; 0: whole frames. An
    # autoencoder that looks at the whole frame then makes slightly other pixels.
    crop: CountOrNone = 0
    # A folder with a smaller autoencoder of the same latents, to decode with for this loss alone.
    decoder: str | None = None
    # The norm of this loss's gradient as a share of the noise loss's, to which `weight` is scaled whenever
    # run.gradients_every measures them; none: `weight` stays.
    share: Annotated[float | None, Only(lambda x: x > 0, "more than 0")] = None


@dataclass(frozen=True)
class LossRecipe:
    """Loss terms and their weights."""

    snr_gamma: float | None = None  # min-SNR weighting of the noise loss; none: unweighted
    snr_least: float = 0.0  # lower limit of that weight, for prediction type "sample" (truncated SNR: 1)
    inside_only: bool = False  # noise loss of stage 2 in the motion area only
    on_hands: float = 0.0  # what a cell with a hand counts in stage 2's noise loss beside the 1 of every cell
    # Cells of a sample that a network with `area_only` computes: all samples alike, so that a batch is one
    # tensor (those of the area first, then its neighbours); 0: each clip's own.
    cells: int = 0
    high_noise: float = 0.0  # share of samples in the upper 40 % of the noise levels, beside the uniform ones
    pure_noise: float = 0.0  # share of samples at the last level
    # Share of samples with no more noise than signal, where pixel losses act: with a shifted flow a uniform
    # draw gives few of them.
    low_noise: float = 0.0
    miou: float = 0.1  # α of Eq. 5 (stage 1)
    miou_noise_limit: float | None = None  # sigma/alpha above which ẑ0 is too coarse for it; none: no limit
    miou_clips: Some = None  # of a batch that are decoded for it; none: all
    miou_frames: Some = None  # of each, chosen anew in every step; none: all L, as Eq. 6 has it
    # Weight, beside stage 1's other terms, of finding the things and the hands that the words mean in the
    # context image (of a lean model, on world clips: they alone say which those are).
    grounding: float = 0.0
    motion: float = 0.0  # AnimateAnything's motion loss; its own weight is 0.001
    latent_noise: float = 0.05  # sd of the noise on latents that the autoencoder learns to decode, at most
    hand: HandLossRecipe = HandLossRecipe()


@dataclass(frozen=True)
class OptimRecipe:
    """AdamW and its schedule."""

    lr: NotNegative = 5e-5  # learning rate
    betas: Betas = (0.9, 0.999)
    weight_decay: NotNegative = 0.0
    batch: Count = 8  # clips of one forward pass of one process
    accumulate: Count = 1  # forward passes of a step
    warmup: StepsOrNever = 0  # steps over which the learning rate rises from 0
    schedule: Literal["constant", "cosine"] = "constant"  # cosine falls to 0 at run.steps
    clip: NotNegative = 1.0  # largest norm of the gradient; 0: no limit
    eight_bit: bool = False  # bitsandbytes' 8-bit AdamW
    ema: BelowOne = 0.999  # decay of the averaged weights, which are the ones that are kept; 0: none
    explosion: NotNegative = 100.0  # stop at a loss this many times the median of late; 0: never


@dataclass(frozen=True)
class RunRecipe:
    """How long, how exactly, and what is written."""

    out: str = ""  # folder of the run; default: runs/RECIPE'S NAME
    steps: Steps = 1000  # of the whole run; the schedule follows it
    minutes: Annotated[float | None, Only(lambda x: x >= 0, "0 or more")] = None  # stop after so long
    seed: StepsOrNever = 0
    # Of the arithmetic; trained weights are always fp32. auto: bf16 where that is faster, see `arithmetic`.
    precision: Literal["auto", "no", "bf16", "fp16"] = "no"
    checkpointing: bool = False  # recompute activations in the backward pass: slower, far less memory
    device: Literal["auto", "cpu"] = "auto"  # auto: a GPU where there is one
    # torch.compile of the trained network's blocks: a minute at first, then faster steps; auto: where it pays
    compile: Literal["auto", "yes", "no"] = "no"
    log_every: Steps = 10  # steps
    gradients_every: StepsOrNever = 0  # steps between logs of every loss term's gradient norm; 0: never
    validate_every: StepsOrNever = 500  # steps; 0: never
    validation_clips: Count = 64
    sample_every: StepsOrNever = 0  # steps between sample sheets; 0: none
    samples: Count = 4  # clips of a sample sheet
    save_every: Steps = 500  # steps
    keep: Count = 2  # checkpoints, beside the best one
    trackers: tuple[str, ...] = ()  # tensorboard, trackio
    accept_changes: bool = False  # resume although the recipe has changed


@dataclass(frozen=True)
class Recipe:
    """A training run."""

    name: Annotated[str, tyro.conf.Suppress] = field(default="", compare=False, kw_only=True)  # of its file

    stage: Literal["vae", "stage1", "poses", "stage2"]  # what is trained; poses: where the hands will be

    model: ModelRecipe = ModelRecipe()
    data: DataRecipe = DataRecipe()
    loss: LossRecipe = LossRecipe()
    optim: OptimRecipe = OptimRecipe()
    run: RunRecipe = RunRecipe()

    def as_dict(self) -> dict[str, Any]:
        """Nested dictionaries of what JSON holds."""
        content = json.loads(json.dumps(asdict(self)))
        content.pop("name")
        return content

    def fingerprint(self) -> str:
        """SHA-256 over every entry."""
        return hashlib.sha256(json.dumps(self.as_dict(), sort_keys=True).encode()).hexdigest()

    @property
    def out(self) -> Path:
        """Folder of the run."""
        return Path(self.run.out or f"runs/{self.name or self.stage}").expanduser()


def load_recipe(path: str | Path, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """A recipe file with some entries overridden: {"optim.lr": "1e-4"}.

    Raises: InputError naming the file and the entry, with the nearest name for one that is not known.
    """
    path = Path(path)
    if not path.exists():
        raise InputError("no such recipe", where=path)
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise InputError("is not a recipe: it has no entries", where=path)
    return replace(parse_recipe(content, overrides, where=path), name=path.stem)


def parse_recipe(
    content: Mapping[str, Any], overrides: Mapping[str, Any] | None = None, *, where: str | Path = "recipe"
) -> Recipe:
    """A recipe of nested mappings, as YAML gives them. Raises: InputError."""
    recipe = read_entries(Recipe, overridden(content, overrides or {}), where)
    _check(recipe, where)
    return recipe


def parse_overrides(entries: Iterable[str]) -> dict[str, str]:
    """["optim.lr=1e-4", "run.save-every=5"] → {"optim.lr": "1e-4", "run.save_every": "5"}."""
    pairs = (entry.partition("=") for entry in entries)
    return {key.replace("-", "_"): value for key, _, value in pairs}


def _check(recipe: Recipe, where: str | Path) -> None:
    """What no entry says alone. Raises: InputError."""
    data, model, run, stage = recipe.data, recipe.model, recipe.run, recipe.stage

    def need(fine: bool, what: str, hint: str) -> None:
        if not fine:
            raise InputError(what, where=where, hint=hint)

    need((model.init is None) != (model.preset is None), "needs model.init or model.preset", "give one")
    need(bool(data.path), "has no data.path", "name the folder of the training clips")
    shares = asdict(data.mask)
    need(
        all(share >= 0 for share in shares.values()) and abs(sum(shares.values()) - 1) < 1e-6,
        f"data.mask has the shares {', '.join(f'{name} {share:g}' for name, share in shares.items())}",
        "use shares of 0 or more that add up to 1, all four counted",
    )
    need(
        stage == "stage2" or data.mask == MaskRecipe(true=1.0),
        f"data.mask is set for {stage}",
        "leave it out: only stage 2 is given an area",
    )
    need(data.fps is None or data.fps > 0, f"data.fps is {data.fps}", "use more than 0, or none")
    need(stage == "poses" or data.frames >= 2, f"data.frames is {data.frames} for {stage}", "use 2 or more")
    need(
        data.target == "union" or stage == "stage1",
        f"data.target is {data.target} for {stage}",
        "leave it out: it is what stage 1 learns",
    )
    need(
        data.target == "union" or not (data.resident or data.zoom),
        "data.target is per_frame",
        "leave out data.resident and data.zoom, which hold one area per clip",
    )
    need(
        recipe.loss.hand.share is None or run.gradients_every > 0,
        "loss.hand.share needs the norms of gradients",
        "set run.gradients_every, such as 20",
    )
    held = {"int8": "bf16"}.get(model.frozen, model.frozen)
    need(
        held in ("fp32", run.precision) or (held, run.precision) == ("bf16", "auto"),
        f"model.frozen is {model.frozen}, run.precision {run.precision}",
        f"set run.precision to {held}, or model.frozen to fp32",
    )
