"""The models on this machine: the bundled one, and those in the hub's cache."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import constants, scan_cache_dir
from huggingface_hub.errors import CacheNotFound

from handi.assets import MINI
from handi.core.machine import Finding


@dataclass(frozen=True)
class Published:
    """A model that others publish and handi runs; never downloaded without being asked for."""

    name: str
    serves: str
    licence: str
    hub: str = ""  # repository on the hub
    address: str = ""  # of an archive that is elsewhere


PUBLISHED = (
    Published("animate-anything", "the UNet that HANDI starts from", "none stated",
              address="https://cloudbook-public-production.oss-cn-shanghai.aliyuncs.com/animation/"
              "animate_anything_512_v1.02.tar"),
    Published("wan2.2-ti2v-5b", "a base for adapters; --mask without",
              "Apache-2.0", hub="Wan-AI/Wan2.2-TI2V-5B-Diffusers"),
    Published("ltx-video", "a base for adapters; --mask without",
              "its own, read it", hub="Lightricks/LTX-Video"),
)  # fmt: skip

COMPONENTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")  # folders that every model has
CARD = "handi.json"


def models_found() -> Iterator[Finding]:
    """Every model that `handi generate --model` can take without a download, and broken ones."""
    if (MINI / CARD).exists():
        yield Finding("model", f'"mini": {sum(p.stat().st_size for p in MINI.rglob("*")) / 2**20:.0f} MiB')
    else:
        yield Finding("model", f"mini is not in {MINI}", ok=False, hint="install handi again")
    yield Finding("model", '"random": built in, untrained; its pixels mean nothing')
    cache = Path(constants.HF_HUB_CACHE)
    home = next(p for p in (cache, *cache.parents) if p.exists())
    yield Finding("hub cache", f"{cache}, {shutil.disk_usage(home).free / 2**30:.0f} GiB free on its disk")
    try:
        repositories = scan_cache_dir(cache).repos
    except CacheNotFound:
        repositories = frozenset()
    for repository in sorted(repositories, key=lambda r: r.repo_id):
        for revision in repository.revisions:
            folders = {p.name for p in revision.snapshot_path.iterdir() if p.is_dir()}
            if "unet" not in folders:
                continue
            if missing := [c for c in COMPONENTS if c not in folders]:
                yield Finding(
                    "model",
                    f"{repository.repo_id}: incomplete, no {', '.join(missing)}",
                    ok=False,
                    hint=f"hf download {repository.repo_id}",
                )
            else:
                stages = "both stages" if "area_unet" in folders else "stage 2"
                yield Finding("model", f"{repository.repo_id}, {stages}")
