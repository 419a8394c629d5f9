"""LoRA: adapters on networks, and their files in diffusers' form, for training and for pipelines.

A file holds `unet.LAYER.lora_A.weight` and `…lora_B.weight` (stage 1: `area_unet.…`), and rank, alpha and
targets in its metadata, as `DiffusionPipeline.load_lora_weights` and peft's LoraConfig read them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from diffusers.loaders.lora_base import LORA_ADAPTER_METADATA_KEY, LoraBaseMixin, _fetch_state_dict
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from handi.core.errors import HandiError, InputError, ModelError
from handi.core.files import replacing
from handi.core.reading import parse_json

STAGES = {"area", "clip"}  # adapters of a network that serves both stages
NETWORKS = ("unet", "area_unet")  # stage 2, stage 1
LORA = ".lora_"  # in the names of peft's adapter weights


def need_peft() -> None:
    """Raises: InputError where peft is not installed."""
    if find_spec("peft") is None:
        raise InputError("LoRA needs peft, which is not installed", hint="run: pip install 'handi[train]'")


def save_lora(network: Any, name: str, path: Path, *, adapter: str = "default") -> None:
    """Write one adapter of a network, which is called `name` in a pipeline. Raises: OutputError."""
    from peft import get_peft_model_state_dict

    config = network.peft_config[adapter]
    layers = get_peft_model_state_dict(network, adapter_name=adapter)
    weights = {f"{name}.{key}": value.detach().cpu().contiguous() for key, value in layers.items()}
    about = {
        f"{name}.r": config.r,
        f"{name}.lora_alpha": config.lora_alpha,
        f"{name}.target_modules": sorted(config.target_modules),
    }
    metadata = {"format": "pt", LORA_ADAPTER_METADATA_KEY: json.dumps(about, indent=2, sort_keys=True)}
    with replacing(path) as temporary:
        save_file(weights, temporary, metadata=metadata)


def load_adapter(network: Any, name: str, adapter: str, path: Path) -> None:
    """Put a LoRA file, of a network that is called `name` in it, on a network. Raises: ModelError."""
    need_peft()
    try:
        with safe_open(path, "pt") as file:
            weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dictionary)
            about = parse_json((file.metadata() or {}).get(LORA_ADAPTER_METADATA_KEY, "{}"), path)
        if not weights or not all(key.startswith(f"{name}.") for key in weights):
            raise ValueError(f"its weights are not of {name}")
        network.load_lora_adapter(weights, prefix=name, adapter_name=adapter, metadata=about or None)
    except Exception as error:  # peft, torch and safetensors, each with its own kinds
        hint = "use a LoRA of this very model"
        raise ModelError(f"does not fit this model ({_short(error)})", where=path, hint=hint) from error


def use_adapter(network: Any, adapter: str) -> None:
    """Let one of the adapters "area" and "clip" of a network act, beside adapters of other names; a network
    with the other one alone runs without it, and one with neither is left as it is."""
    known = set(getattr(network, "peft_config", None) or ())
    if not known & STAGES:
        return
    from peft.tuners.tuners_utils import BaseTunerLayer

    layer = next(module for module in network.modules() if isinstance(module, BaseTunerLayer))
    named = set(network.active_adapters())
    acting = set() if layer.disable_adapters else named
    wanted = (named - STAGES) | ({adapter} & known)
    if wanted == acting:
        return
    flags = [(parameter, parameter.requires_grad) for parameter in network.parameters()]
    if wanted:
        network.enable_adapters()
        network.set_adapter(sorted(wanted))
    else:
        network.disable_adapters()
    for parameter, flag in flags:  # peft switches gradients on and off with adapters
        parameter.requires_grad_(flag)


def add_lora(
    network: nn.Module, rank: int, alpha: float | None, targets: Sequence[str], adapter: str = "default"
) -> None:
    """Low-rank adapters on the layers whose names end as `targets`, through peft. alpha: default the rank.

    Raises: InputError where peft is not installed, no layer has such a name, or peft adapts none of its kind.
    """
    need_peft()
    from peft import LoraConfig, inject_adapter_in_model

    ends = tuple(targets)
    layers = [name for name, _ in network.named_modules() if name.split(".", 1)[-1] and _ends(name, ends)]
    if not layers:
        raise InputError(
            f"model.lora_targets: no layer's name ends in {' or '.join(ends)}",
            hint="use ends of names, such as to_q or proj_in",
        )
    config = LoraConfig(
        r=rank,
        lora_alpha=rank if alpha is None else alpha,  # type: ignore[arg-type]
        target_modules=list(ends),
    )
    try:
        inject_adapter_in_model(config, network, adapter)
        if adapter in STAGES:
            network._hf_peft_config_loaded = True  # type: ignore[assignment]  # diffusers' note that adapters can be switched
    except ValueError as error:  # a layer of a kind that peft does not adapt
        raise InputError(
            f"model.lora_targets: peft cannot adapt a layer whose name ends in {' or '.join(ends)} ({error})",
            hint="name linear layers or convolutions",
        ) from error


def _ends(name: str, ends: Sequence[str]) -> bool:
    return any(name == end or name.endswith(f".{end}") for end in ends)


def merge_lora(network: nn.Module) -> None:
    """Add the adapters into the weights that they adapt, and remove them: an ordinary network again."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, layer in list(network.named_modules()):
        if isinstance(layer, BaseTunerLayer):
            layer.merge()
            parent, _, last = name.rpartition(".")
            setattr(network.get_submodule(parent), last, layer.get_base_layer())
    if hasattr(network, "peft_config"):  # peft's note that there are adapters
        del network.peft_config


class LoraPipeline(LoraBaseMixin):
    """What diffusers' pipelines can do with LoRA: load, weigh, fuse and unload adapters."""

    _lora_loadable_modules = list(NETWORKS)  # noqa: RUF012 (the name and type that diffusers reads)

    @classmethod
    def lora_state_dict(cls, source: Any, **options: Any) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
        """(weights by name, what the file says of its adapters) of a file, folder, hub id or dictionary.

        Only safetensors are read. Raises: ModelError.
        """
        wanted = ("weight_name", "local_files_only", "cache_dir", "force_download", "proxies", "token",
                  "revision", "subfolder")  # fmt: skip
        if isinstance(source, str | Path) and Path(source).expanduser().exists():
            source = str(Path(source).expanduser())
        try:
            weights, about = _fetch_state_dict(
                source if isinstance(source, dict) else str(source),
                **{key: options.pop(key, None) for key in wanted},
                use_safetensors=True,
                user_agent={"file_type": "attn_procs_weights", "framework": "pytorch"},
                allow_pickle=False,
            )
        except Exception as error:  # diffusers, the hub's client and safetensors, each with its own kinds
            raise ModelError(
                f"is no LoRA file that can be read ({_short(error)})",
                where=_name(source),
                hint="give a .safetensors file, a folder that holds one, or a hub id",
            ) from error
        if options:
            raise InputError(f"load_lora_weights: no option {sorted(options)[0]!r}")
        return weights, about

    def load_lora_weights(self, source: Any, adapter_name: str | None = None, **options: Any) -> None:
        """Put a LoRA's adapters on the networks that it is for; `source`: a file, folder, hub id, dictionary.

        Raises: InputError, ModelError for one that is for other networks or shapes.
        """
        need_peft()
        weights, about = self.lora_state_dict(source, **options)
        found = {key.partition(".")[0] for key in weights}
        known = [name for name in NETWORKS if name in found and getattr(self, name, None) is not None]
        if not known or found - set(known):
            strange = sorted(found - set(known))
            what = f"holds weights of {', '.join(strange[:3])}" if strange else "holds nothing"
            hint = "use a LoRA that handi trained for this kind of model"
            raise ModelError(
                f"{what}; this model has {' and '.join(NETWORKS)}", where=_name(source), hint=hint
            )
        for name in known:
            self._load_into(name, weights, about, adapter_name, _name(source))

    def _load_into(
        self,
        name: str,
        weights: dict[str, Tensor],
        about: dict[str, Any] | None,
        adapter: str | None,
        where: str,
    ) -> None:
        network = getattr(self, name)
        layers = {layer.removesuffix(".base_layer"): module for layer, module in network.named_modules()}
        for key, value in weights.items():
            own, _, layer = key.partition(".")
            layer, _, side = layer.partition(".lora_")
            if own == name:
                base = getattr(layers.get(layer), "weight", None)
                fits = base is not None and {
                    "A.weight": value.shape[1:] == base.shape[1:],
                    "B.weight": value.shape[:1] == base.shape[:1],
                }.get(side, True)
                if not fits:
                    hint = "use a LoRA of this very model"
                    raise ModelError(f"is of another network: {key} does not fit", where=where, hint=hint)
        try:
            network.load_lora_adapter(
                dict(weights), prefix=name, metadata=about, adapter_name=adapter, _pipeline=self
            )
        except HandiError:
            raise
        except Exception as error:  # peft and torch, for shapes, ranks and names that do not fit
            hint = "use a LoRA of this very model"
            raise ModelError(f"does not fit this model ({_short(error)})", where=where, hint=hint) from error


def _name(source: Any) -> str:
    return "the LoRA" if isinstance(source, dict) else str(source)


def _short(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 160 else text[:157] + "..."
