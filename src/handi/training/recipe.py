"""Recipes: what a training run is; YAML files and `--dotted.key value` fill them in."""

from __future__ import annotations

import difflib
import hashlib
import json
import types
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from handi.core.errors import InputError
from handi.core.reading import finite, read_yaml

# Entries that take memory, and the most of them (`data.size` in pixels too).
SIZES, MOST = (
    ("frames", "workers", "batch", "accumulate", "lora_rank", "validation_clips", "samples", "keep"),
    4096,
)


@dataclass(frozen=True)
class ModelRecipe:
    """Where the weights come from and which of them are trained."""

    init: str | None = None  # a model folder or hub id to start from
    preset: str | None = None  # or a fresh model: mini, small
    poses: bool = False  # give a stage 2 that has none the input for hand poses
    area_only: bool = False  # let it compute the motion area's cells alone
    from_stage1: bool = False  # stage 2 starts from stage 1's weights, where names and shapes are the same
    # Patterns of names to train, such as "unet.*" or "vae.decoder.*"; empty: the stage's own network.
    train: tuple[str, ...] = ()
    lora_rank: int = 0  # above 0: adapters of this rank are trained in the place of the matching weights
    lora_alpha: float | None = None  # scale of the adapters; default: the rank
    lora_targets: tuple[str, ...] = ("to_q", "to_k", "to_v", "to_out.0")  # ends of the layers' names
    frozen: Literal["fp32", "bf16", "fp16"] = "fp32"  # precision in which untrained weights are held


@dataclass(frozen=True)
class PoseRecipe:
    """What stage 2 is told of the hands' poses P, where its network takes them (`model.poses`)."""

    share: float = 0.85  # of the samples that are told them, so that a model without them works too
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
    """Clips, and what is drawn from each."""

    kind: Literal["world", "first-frames", "folder", "shards"] = "world"
    path: str = ""  # the training clips; of shards, whose train split is taken
    validation: str | None = None  # held-out clips (of shards: split val, else test); none: none are
    size: tuple[int, ...] = ()  # height, width in px, of kinds that resize; empty: the model's own
    frames: int = 16  # of a sample, context included; fewer than the clip's are drawn evenly spaced
    choice: Literal["even", "random"] = "even"  # of those frames: evenly spaced, or any
    mask: MaskRecipe = MaskRecipe(true=1.0)
    # Mask video that stage 1 learns: the clip's area in every frame, or each frame's own (of hulls only).
    target: Literal["union", "per_frame"] = "union"
    flip: bool = False  # mirror half of the samples, words included
    zoom: float = 0.0  # largest share of the side that is cut off, in half of the samples
    colour: float = 0.0  # largest change of a sample's colour channels and brightness, as a share
    poses: PoseRecipe = PoseRecipe()
    texts: tuple[str, ...] = ("short", "paraphrase", "enriched")  # kinds to draw from, where a clip has them
    dropout: float = 0.15  # share of samples without text, for classifier-free guidance
    workers: int = 2  # threads that make batches ahead
    resident: bool = (
        False  # hold all clips on the device: a GPU never waits for them, and they need its memory
    )

    @property
    def shown_text(self) -> str:
        """Held-out losses and sample sheets: the enriched text where clips are trained on it and have one."""
        return "enriched" if "enriched" in self.texts else "short"


@dataclass(frozen=True)
class HandLossRecipe:
    """The Hand Refinement Loss (Eq. 2, docs/method.md §7)."""

    weight: float = 0.1  # η of Eq. 7; 0: no hand loss
    form: Literal["roi", "literal"] = "roi"
    frames: int = 4  # of a batch that are decoded for it
    noise_limit: float = 1.0  # sigma/alpha above which ẑ0 cannot be read
    features: float = 0.0  # weight of matching the landmark network's activations, in units of `weight`
    jitter: float = 1.0  # scale of the regions' random shift, size and turn


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
    miou: float = 0.1  # α of Eq. 5 (stage 1)
    miou_noise_limit: float | None = None  # sigma/alpha above which ẑ0 is too coarse for it; none: no limit
    miou_clips: int | None = None  # of a batch that are decoded for it; none: all
    miou_frames: int | None = None  # of each, drawn anew in every step; none: all L, as Eq. 6 has it
    # Weight, beside stage 1's other terms, of finding the things and the hands that the words mean in the
    # context image (of a lean model, on world clips: they alone say which those are).
    grounding: float = 0.0
    motion: float = 0.0  # AnimateAnything's motion loss; its own weight is 0.001
    latent_noise: float = 0.05  # sd of the noise on latents that the autoencoder learns to decode, at most
    hand: HandLossRecipe = HandLossRecipe()


@dataclass(frozen=True)
class OptimRecipe:
    """AdamW and its schedule."""

    lr: float = 5e-5
    betas: tuple[float, ...] = (0.9, 0.999)
    weight_decay: float = 0.0
    batch: int = 8  # clips of one forward pass of one process
    accumulate: int = 1  # forward passes of a step
    warmup: int = 0  # steps over which the learning rate rises from 0
    schedule: Literal["constant", "cosine"] = "constant"  # cosine falls to 0 at run.steps
    clip: float = 1.0  # largest norm of the gradient; 0: no limit
    eight_bit: bool = False  # bitsandbytes' 8-bit AdamW
    ema: float = 0.999  # decay of the averaged weights, which are the ones that are kept; 0: none
    explosion: float = 100.0  # stop at a loss this many times the median of late; 0: never


@dataclass(frozen=True)
class RunRecipe:
    """How long, how exactly, and what is written."""

    out: str = ""  # folder of the run; default: runs/RECIPE'S NAME
    steps: int = 1000  # of the whole run; the schedule follows it
    minutes: float | None = None  # stop after so long, to be gone on with later
    seed: int = 0
    # Of the arithmetic; trained weights are always fp32. auto: bf16 where that is faster, see `arithmetic`.
    precision: Literal["auto", "no", "bf16", "fp16"] = "no"
    checkpointing: bool = False  # recompute activations in the backward pass: slower, far less memory
    device: Literal["auto", "cpu"] = "auto"
    # torch.compile of the trained network's blocks: a minute at first, then faster steps; auto: where it pays
    compile: Literal["auto", "yes", "no"] = "no"
    log_every: int = 10  # steps
    gradients_every: int = 0  # steps between logs of every loss term's gradient norm; 0: never
    validate_every: int = 500  # steps; 0: never
    validation_clips: int = 64
    sample_every: int = 0  # steps between sample sheets; 0: none
    samples: int = 4  # clips of a sample sheet
    save_every: int = 500  # steps
    keep: int = 2  # checkpoints, beside the best one
    trackers: tuple[str, ...] = ()  # tensorboard, trackio
    accept_changes: bool = False  # go on although the recipe has changed


@dataclass(frozen=True)
class Recipe:
    """A training run."""

    # grounding: stage 1's finder alone, what words mean in a picture; poses: where the hands will be
    stage: Literal["vae", "grounding", "stage1", "poses", "stage2"]
    model: ModelRecipe = ModelRecipe()
    data: DataRecipe = DataRecipe()
    loss: LossRecipe = LossRecipe()
    optim: OptimRecipe = OptimRecipe()
    run: RunRecipe = RunRecipe()
    name: str = field(default="", compare=False)  # of the file

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


# --------------------------------------------------------------------------------------------- read


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
    recipe = parse_recipe(content, overrides, where=path)
    return Recipe(**{**_entries(recipe), "name": path.stem})


def parse_recipe(
    content: Mapping[str, Any], overrides: Mapping[str, Any] | None = None, *, where: str | Path = "recipe"
) -> Recipe:
    """A recipe of nested mappings, as YAML gives them. Raises: InputError."""
    recipe = _build(Recipe, _overridden(_with_text_keys(content), overrides or {}), where, "")
    _check(recipe, where)
    return recipe


def parse_overrides(arguments: Sequence[str]) -> dict[str, str]:
    """["--optim.lr", "1e-4", "--data.flip=true"] → {"optim.lr": "1e-4", "data.flip": "true"}.

    Raises: InputError for one that is not `--section.key value`.
    """
    overrides: dict[str, str] = {}
    rest = list(arguments)
    while rest:
        key, equals, value = rest.pop(0).partition("=")
        if not key.startswith("--") or "." not in key:
            raise InputError(f"{key!r} is not an option", mend="entries are set by --section.key value")
        if not equals:
            if not rest:
                raise InputError(f"{key} has no value", mend=f"write {key} VALUE")
            value = rest.pop(0)
        overrides[key.removeprefix("--").replace("-", "_")] = value
    return overrides


def _with_text_keys(content: Any) -> Any:
    """YAML reads a bare `true` as a truth value, also where it is the name of an entry."""
    if not isinstance(content, Mapping):
        return content
    names = {True: "true", False: "false"}
    return {names.get(key, key) if isinstance(key, bool) else key: _with_text_keys(value)
            for key, value in content.items()}  # fmt: skip


def _overridden(content: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    nested = {key: dict(value) if isinstance(value, Mapping) else value for key, value in content.items()}
    for dotted, value in overrides.items():
        *parents, last = dotted.split(".")
        place = nested
        for parent in parents:
            below = place.get(parent)
            place[parent] = dict(below) if isinstance(below, Mapping) else {}
            place = place[parent]
        place[last] = value
    return nested


def _build(cls: Any, content: Any, where: str | Path, prefix: str) -> Any:
    """An instance of a recipe dataclass; every entry is checked against its type."""
    if not isinstance(content, Mapping):
        raise InputError(f"{prefix.rstrip('.')} must hold entries, not {content!r}", where=where)
    hints = get_type_hints(cls)
    known = [f.name for f in fields(cls) if f.name != "name" or cls is not Recipe]
    values = {}
    for key, value in content.items():
        if key not in known:
            near = difflib.get_close_matches(str(key), known, 1)
            mend = f"did you mean {prefix}{near[0]}?" if near else f"known are: {', '.join(known)}"
            raise InputError(f"{prefix}{key} is not an entry of a recipe", where=where, mend=mend)
        values[key] = _value(hints[key], value, where, f"{prefix}{key}")
    if cls is Recipe and "stage" not in values:
        raise InputError(
            "has no stage", where=where, mend="write stage: vae, grounding, stage1, poses or stage2"
        )
    return cls(**values)


def _value(hint: Any, value: Any, where: str | Path, key: str) -> Any:
    """A value from YAML or the command line as the type of its entry."""
    if is_dataclass(hint):
        return _build(hint, value, where, f"{key}.")
    if get_origin(hint) in (Union, types.UnionType):
        if value is None or str(value).lower() in ("none", "null", "~", ""):
            return None
        (hint,) = (kind for kind in get_args(hint) if kind is not type(None))
        return _value(hint, value, where, key)
    if get_origin(hint) is Literal:
        text = str(value)
        if text.lower() in ("true", "false") and "no" in get_args(hint):  # YAML reads a bare `no` as False
            text = "yes" if text.lower() == "true" else "no"
        if text not in get_args(hint):
            raise InputError(f"{key} is {text!r}", where=where, mend=f"use {' or '.join(get_args(hint))}")
        return text
    if get_origin(hint) is tuple:
        kind = get_args(hint)[0]
        if isinstance(value, str):
            value = [part.strip() for part in value.strip("[]").split(",") if part.strip()]
        if not isinstance(value, Sequence):
            value = [value]
        return tuple(_value(kind, item, where, key) for item in value)
    if hint is bool:
        words = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
        if str(value).lower() in words:
            return words[str(value).lower()]
        raise InputError(f"{key} is {value!r}", where=where, mend="use true or false")
    try:
        if isinstance(value, bool) or (hint is int and isinstance(value, float)):
            raise ValueError
        if hint is str and not isinstance(value, (str, int, float)):
            raise ValueError
        parsed = hint(value)
        if hint is float and finite(parsed) is None:
            raise ValueError
        return parsed
    except (TypeError, ValueError, OverflowError):
        kinds = {int: "a whole number", float: "a number", str: "text"}
        raise InputError(f"{key} is {value!r}", where=where, mend=f"use {kinds[hint]}") from None


def _check(recipe: Recipe, where: str | Path) -> None:
    """What types do not say. Raises: InputError."""
    optim, run, data, model = recipe.optim, recipe.run, recipe.data, recipe.model

    def need(fine: bool, what: str, mend: str) -> None:
        if not fine:
            raise InputError(what, where=where, mend=mend)

    need((model.init is None) != (model.preset is None), "needs model.init or model.preset", "give one")
    need(bool(data.path), "has no data.path", "name the folder of the training clips")
    shares = asdict(data.mask)
    need(
        all(share >= 0 for share in shares.values()) and abs(sum(shares.values()) - 1) < 1e-6,
        f"data.mask has the shares {', '.join(f'{name} {share:g}' for name, share in shares.items())}",
        "use shares of 0 or more that add up to 1, all four counted",
    )
    need(
        recipe.stage == "stage2" or data.mask == MaskRecipe(true=1.0),
        f"data.mask is set for {recipe.stage}",
        "leave it out: only stage 2 is given an area",
    )
    need(
        recipe.stage in ("grounding", "poses") or data.kind != "first-frames",
        f"data.kind is first-frames for {recipe.stage}",
        "it needs clips: use world, folder or shards",
    )
    need(0 <= data.poses.share <= 1, f"data.poses.share is {data.poses.share}", "use 0 to 1")
    need(0 <= data.zoom < 1, f"data.zoom is {data.zoom}", "use 0 to below 1")
    need(0 <= data.colour < 1, f"data.colour is {data.colour}", "use 0 to below 1")
    alpha = model.lora_alpha
    need(alpha is None or alpha > 0, f"model.lora_alpha is {alpha}", "use more than 0")
    need(0 <= data.dropout <= 1, f"data.dropout is {data.dropout}", "use 0 to 1")
    need(
        data.target == "union" or recipe.stage == "stage1",
        f"data.target is {data.target} for {recipe.stage}",
        "leave it out: it is what stage 1 learns",
    )
    need(
        data.target == "union" or not (data.resident or data.zoom),
        "data.target is per_frame",
        "leave out data.resident and data.zoom, which hold one area a clip",
    )
    for name, count in (("miou_clips", recipe.loss.miou_clips), ("miou_frames", recipe.loss.miou_frames)):
        need(count is None or count >= 1, f"loss.{name} is {count}", "use 1 or more, or none for all")
    need(len(data.size) in (0, 2), f"data.size is {data.size}", "use [height, width]")
    need(
        all(0 < x <= MOST and x % 16 == 0 for x in data.size),
        f"data.size is {data.size}",
        f"use multiples of 16, {MOST} at most",
    )
    need(len(optim.betas) == 2 and all(0 <= b < 1 for b in optim.betas), "optim.betas", "use two in [0, 1)")
    need(0 <= optim.ema < 1, f"optim.ema is {optim.ema}", "use 0 to below 1")
    least_frames = 1 if recipe.stage in ("grounding", "poses") else 2
    for section, name, least in (
        (data, "frames", least_frames), (data, "workers", 0), (optim, "batch", 1), (optim, "accumulate", 1),
        (optim, "warmup", 0), (optim, "lr", 0), (optim, "clip", 0), (optim, "weight_decay", 0),
        (optim, "explosion", 0), (model, "lora_rank", 0), (run, "steps", 1), (run, "seed", 0),
        (run, "log_every", 1), (run, "save_every", 1), (run, "keep", 1), (run, "gradients_every", 0),
        (run, "validate_every", 0), (run, "validation_clips", 1), (run, "sample_every", 0),
        (run, "samples", 1),
    ):  # fmt: skip
        value = getattr(section, name)
        place = type(section).__name__.removesuffix("Recipe").lower()
        most = MOST if name in SIZES else 2**63 - 1
        need(least <= value <= most, f"{place}.{name} is {value}", f"use {least} or more, {most} at most")
    need(
        model.frozen in ("fp32", run.precision) or (model.frozen, run.precision) == ("bf16", "auto"),
        f"model.frozen is {model.frozen}, run.precision {run.precision}",
        f"set run.precision to {model.frozen}, or model.frozen to fp32",
    )
    need(run.minutes is None or run.minutes >= 0, f"run.minutes is {run.minutes}", "use 0 or more")


def _entries(recipe: Recipe) -> dict[str, Any]:
    return {f.name: getattr(recipe, f.name) for f in fields(recipe)}
