"""A model folder to the Hub, with a model card that says what it is, how it was trained and how it scores."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import HfApi, ModelCardData

from handi.core.errors import InputError, OutputError
from handi.core.files import scratch_folder
from handi.core.reading import read_text, read_yaml
from handi.data import shards
from handi.evaluation.results import ARROWS, read_results
from handi.models.folder import CARD
from handi.models.parts import ModelCard

README = "README.md"
PICTURES = 3  # sample sheets of a run, the last ones


def push(
    folder: Path,
    repo: str,
    *,
    licence: str,
    scores: Path | None = None,
    private: bool = False,
    endpoint: str | None = None,
    dry_run: bool = False,
) -> tuple[str, list[str]]:
    """Upload a model folder with its card to the hub's repository `repo`, made if it is not there.

    scores: a results.json of `handi evaluate`, or its folder. dry_run: make the card and upload nothing.
    → the card, and the files of the repository. Raises: InputError for a folder that is no model; OutputError
    where the hub refuses.
    """
    if not (folder / CARD).is_file():
        raise InputError(f"no model: it has no {CARD}", where=folder, hint="give RUN/model of a training")
    with scratch_folder(tempfile.gettempdir()) as scratch:
        shutil.copytree(folder, scratch / "model", symlinks=False)
        pictures = _pictures(folder.parent)
        for path in pictures:
            (scratch / "model/samples").mkdir(exist_ok=True)
            shutil.copy(path, scratch / "model/samples" / path.name)
        text = "\n".join(_card(folder, repo, licence, scores, [path.name for path in pictures]))
        (scratch / "model" / README).write_text(text, encoding="utf-8")
        files = sorted(str(path.relative_to(scratch / "model")) for path in (scratch / "model").rglob("*.*"))
        if not dry_run:
            _upload(scratch / "model", repo, private, endpoint)
    return text, files


def _upload(folder: Path, repo: str, private: bool, endpoint: str | None) -> None:
    hub = HfApi(endpoint=endpoint)
    try:
        hub.create_repo(repo, private=private, exist_ok=True)
        hub.upload_folder(repo_id=repo, folder_path=folder, commit_message="Model and card by handi push")
    except Exception as error:  # the client raises a dozen unrelated kinds, network ones among them
        reason = " ".join(str(error).split())[:200]
        hint = "log in with `hf auth login`, and check the name and the network"
        raise OutputError(f"the hub does not take it ({reason})", where=repo, hint=hint) from error


def _card(folder: Path, repo: str, licence: str, scores: Path | None, pictures: list[str]) -> Iterator[str]:
    """Lines of the model card."""
    card = ModelCard.from_json(read_text(folder / CARD), folder / CARD)
    data = ModelCardData(
        license=licence,
        library_name="diffusers",
        pipeline_tag="image-to-video",
        tags=["handi", "hands", "video-generation"],
        base_model=card.base,
    )
    yield from ("---", data.to_yaml(), "---", "", f"# {repo.rpartition('/')[2]}", "")
    yield from _about(card)
    yield from (
        "## Use", "", "```", "pip install handi",
        f'handi generate --model {repo} --image photo.jpg --prompt "Cut the carrot." --out out/clip',
        "```", "",
    )  # fmt: skip
    recipe = folder.parent / "recipe.yaml"
    if recipe.is_file():
        yield from _training(recipe)
    if scores is not None:
        yield from _scores(read_results(scores))
    if pictures:
        yield from (
            "## Samples of the training",
            "",
            "Each: the context image and area, the truth, what was made.",
        )
        yield from (f"\n![{name}](samples/{name})" for name in pictures)


def _about(card: ModelCard) -> Iterator[str]:
    stages = "both stages" if card.stage1 is not None else "stage 2 alone: give it a motion area"
    yield (
        "A hand-centric video model for handi, after HANDI (Li, Cao, Corso), "
        f"{stages}. {card.frames} frames of {card.height}×{card.width} px at {card.fps:g} frames per second, "
        f"backbone `{card.backbone}`."
    )
    if card.base is not None:
        yield f"It is a pair of adapters on `{card.base}`, whose licence holds too."
    if card.weights == "random":
        yield "**Its weights are random: its pixels mean nothing.**"
    yield ""


def _training(recipe: Path) -> Iterator[str]:
    yield from ("## Training", "")
    entries = read_yaml(recipe)
    path = Path(str(entries["data"]["path"])).expanduser()
    if (path / shards.PREPARED).is_file():
        prepared = shards.read_prepared(path)
        settings = prepared["settings"]
        counts = ", ".join(f"{split['kept']:,} {name}" for name, split in prepared["splits"].items())
        rate = "spread over the action" if settings["fps"] is None else f"at {settings['fps']:g} per second"
        yield from (
            f"Clips: {counts}, from `{settings['source']['kind']}`; {settings['frames']} frames {rate}, "
            f"{settings['size'][0]}×{settings['size'][1]} px; motion areas: {prepared['area']}.",
            "",
        )
    yield from ("<details><summary>The recipe</summary>", "", "```yaml", _without_paths(entries), "```")
    yield from ("</details>", "")


def _without_paths(entries: dict[str, Any]) -> str:
    """A recipe without the folders of the machine that it ran on."""
    for section, key in (("data", "path"), ("data", "validation"), ("model", "init"), ("run", "out")):
        if isinstance(entries.get(section, {}).get(key), str):
            entries[section][key] = Path(entries[section][key]).name
    return yaml.safe_dump(entries, sort_keys=False, allow_unicode=True).rstrip()


def _scores(results: dict[str, Any]) -> Iterator[str]:
    protocol = results["protocol"]
    yield from (
        "## Scores", "",
        f"`handi evaluate`, protocol {protocol['id']}, {results['n']} videos, {protocol['frames']} frames, "
        f"scope {protocol['scope']}, subset {protocol['subset']}; 95 % intervals, bootstrapped.", "",
        "| metric | value | interval | n |", "|---|---|---|---|",
    )  # fmt: skip
    for metric in results["metrics"].values():
        if metric.get("value") is None:
            continue
        low_high = metric.get("interval")
        interval = "–" if low_high is None else f"{low_high[0]:.4g} to {low_high[1]:.4g}"
        title = metric["title"] + ARROWS[metric["better"]]
        yield f"| {title} | {metric['value']:.4g} | {interval} | {metric['n']} |"
    skipped = sorted({metric["metric"] for metric in results["metrics"].values() if "skipped" in metric})
    yield from ("", *([f"Not measured: {', '.join(skipped)}.", ""] if skipped else []))


def _pictures(run: Path) -> list[Path]:
    return sorted((run / "samples").glob("*.png"))[-PICTURES:]
