"""Pages of the site that are made from code when it is built, so that none of them can be out of date."""

from __future__ import annotations

import ast
import html
import inspect
import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import tyro

from handi.commands import app
from handi.evaluation.metrics.weights import CATALOGUE
from handi.models.inventory import PUBLISHED
from handi.recipes import bundled, find_recipe
from handi.training.recipe import Recipe

SOURCES = Path(inspect.getfile(app)).parents[1]
API = {
    "Generate": ("handi.method.pipeline", "handi.generation.requests", "handi.generation.run"),
    "Find hands": ("handi.hands.detector", "handi.hands.pose_files"),
    "Motion": ("handi.method.area", "handi.motion.flow", "handi.motion.stabilise"),
    "Data": ("handi.data.sources", "handi.data.sources.common", "handi.data.dataset"),
    "Train": ("handi.method.losses", "handi.training.recipe", "handi.training.loop"),
    "Measure": ("handi.evaluation.metrics.protocol", "handi.evaluation.run", "handi.evaluation.results"),
    "Models": ("handi.models.backbone", "handi.models.folder"),
    "The synthetic world": ("handi.world",),
    "Types and errors": ("handi.core.types", "handi.core.errors"),
}
AREAS = {
    "core": "Files, pictures and videos",
    "app": "The app",
    "commands": "The command line",
    "generation": "Generating",
    "models": "Models",
    "method": "Generating and training",
    "hands": "Hands",
    "motion": "Motion",
    "world": "The synthetic world",
    "data": "Data",
    "training": "Training",
    "evaluation": "Measuring",
    "export": "Exporting to other projects",
}


def commands() -> str:
    """Every command: what its docstring says, and a table of its options."""
    lines = ["# Commands", "", "As `handi COMMAND --help` shows them.", ""]
    for name, command in app.COMMANDS.items():
        about = inspect.cleandoc(command.__doc__ or "").split("\nArgs:")[0]
        lines += [f"## handi {name}", "", *_with_fences(about.splitlines()), ""]
        lines += _options(command, prog=f"handi {name}")
    return "\n".join(lines)


def recipes() -> str:
    """Every entry of a recipe, and the recipes that ship."""
    lines = [
        "# Recipes",
        "",
        "What `handi train RECIPE` takes: a YAML file, or the name of one that ships with handi. Every entry",
        "can be set as `--section.entry VALUE`. [Training](training.md) explains the entries that need it.",
        "",
        "## Entries",
        "",
        *_options(Recipe, prog="handi train", config=(tyro.conf.FlagConversionOff,)),
        "## Those that ship",
        "",
    ]
    for name in bundled():
        lines += [f"### {name}", "", "```yaml", find_recipe(name).read_text().rstrip(), "```", ""]
    return "\n".join(lines)


def api() -> str:
    """The modules that a program uses, for mkdocstrings to fill in."""
    lines = [
        "# Python API",
        "`from handi import HandiPipeline` is the pipeline of diffusers that "
        "[the overview](overview.md#generate) shows. What else a program may want, by what it is for:",
    ]
    for title, modules in API.items():
        lines += [f"## {title}", *(f"::: {module}" for module in modules)]
    return "\n\n".join(lines)


def weights() -> str:
    """Every weight file that others publish: what for, whose, its licence."""
    lines = [
        "# Weight files",
        "",
        "handi ships its own small model and MediaPipe's hand networks (both Apache-2.0). These are others';",
        "none is downloaded unless you ask. `handi weights` says which are on your machine, and",
        "`handi weights get NAME` fetches one and checks its hash.",
        "",
        *_table(("name", "for", "licence", "MB", "published at")),
    ]
    for model in PUBLISHED:
        address = model.address or f"https://huggingface.co/{model.hub}"
        lines.append(_row(f"`{model.name}`", model.serves, model.licence, "", f"<{address}>"))
    for each in CATALOGUE.values():
        place, _, note = each.origin.partition(" (")
        place = f"<https://{place.partition(',')[0]}>" + (f" ({note}" if note else "")
        lines.append(_row(f"`{each.name}`", each.serves, each.licence, f"{each.size:,g}", place))
    return "\n".join([*lines, ""])


def troubleshooting() -> str:
    """What the errors say, and what to do: every error whose hint is written out in the package's code."""
    found: dict[str, dict[str, str]] = {area: {} for area in AREAS}
    for path in sorted(SOURCES.rglob("*.py")):
        area = path.relative_to(SOURCES).parts[0].replace("recipes", "training")
        for what, hint in _hints(ast.parse(path.read_text())):
            found[area].setdefault(what, hint)
    lines = [
        "# Troubleshooting",
        "",
        "- An error is one line: where, what, and how to fix it. The tables have the errors' own words;",
        "  … stands for a name or a value.",
        "- `handi doctor` shows what this machine has and how to add what it lacks.",
        "- `--debug`, after any command, shows the traceback. An error that says *unexpected* is a fault of",
        "  handi: please report it with that traceback.",
        "- Exit codes: 0 done, 1 failed, 2 the command was typed wrongly, 130 stopped by Ctrl-C.",
        "- A run that was stopped resumes when the same command is run again.",
        "",
    ]
    for area, errors in found.items():
        if errors:
            lines += [f"## {AREAS[area]}", "", *_table(("the error says", "what to do"))]
            pairs = sorted(errors.items(), key=lambda pair: pair[0].lstrip("… "))
            lines += [_row(_plain(what), _plain(hint)) for what, hint in pairs]
            lines.append("")
    return "\n".join(lines)


MADE: dict[str, Callable[[], str]] = {
    "commands.md": commands,
    "recipes.md": recipes,
    "api.md": api,
    "weights.md": weights,
    "troubleshooting.md": troubleshooting,
}


def _options(what: Any, **parser: Any) -> list[str]:
    """A table of what a command or a dataclass takes, as its `--help` says it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        made = tyro.extras.get_parser(what, **parser)
    lines = _table(("option", "meaning", "default"))
    for action in made._actions:
        if "--help" in action.option_strings:
            continue
        text = " ".join((action.help or "").split())
        meaning, _, default = text.partition(" (default: ")
        meaning, needed, _ = meaning.partition(" (required)")
        value = "" if action.nargs == 0 or action.metavar is None else str(action.metavar)
        name = " ".join(["/".join(action.option_strings), value.removeprefix("{None}|")])
        default = "" if needed else default.removesuffix(")")
        lines.append(_row(_code(name.strip()), _plain(meaning), "needed" if needed else _code(default)))
    return [*lines, ""]


def _with_fences(lines: Iterable[str]) -> Iterator[str]:
    """A docstring's lines with its indented commands in fences."""
    inside = False
    for line in lines:
        indented = line.startswith("    ")
        if indented != inside and (indented or line):
            yield from ("", "```") if indented else ("```", "")
            inside = indented
        yield line.removeprefix("    ") if inside else line
    if inside:
        yield "```"


def _hints(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """(what, hint) of each error that is raised with both written out."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id.endswith("Error"):
            hints = [_words(keyword.value) for keyword in node.keywords if keyword.arg == "hint"]
            what = _words(node.args[0]) if node.args else ""
            if hints and hints[0] and len(re.findall(r"[^\W\d]{3,}", what)) > 1:
                yield what, hints[0]


def _words(node: ast.expr) -> str:
    """A string as it stands in the code, with … for what is put into it; "" for anything else."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
    return ""


def _code(text: str) -> str:
    """Text as code, also in a table's cell."""
    return f"<code>{html.escape(text).replace('|', '&#124;')}</code>" if text else ""


def _plain(text: str) -> str:
    """Text in which only what stands between backticks is marked up."""
    parts = re.split(r"(`[^`]*`)", text)
    parts[::2] = [re.sub(r"([*<\[\]_])", r"\\\1", part) for part in parts[::2]]
    return "".join(parts)


def _table(titles: Iterable[str]) -> list[str]:
    titles = tuple(titles)
    return [_row(*titles), _row(*("---" for _ in titles))]


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
