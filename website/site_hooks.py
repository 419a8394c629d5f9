"""What mkdocs does beside its own work: pages made from code, and links that lead out of docs/."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from site_pages import MADE

ROOT = Path(__file__).parents[1]
# Files of the repository that are pages of the site too: where they stand, and where they go.
ELSEWHERE = {
    "README.md": "overview.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "experiments/mini/LOG.md": "logs/mini.md",
    "experiments/hand_loss/LOG.md": "logs/hand_loss.md",
}
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)#\s]*)(#[^)\s]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are made from code, and those that stand elsewhere in the repository."""
    for place, page in ELSEWHERE.items():
        files.append(File.generated(config, page, content=(ROOT / place).read_text()))
    for page, make in MADE.items():
        files.append(File.generated(config, page, content=make()))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: Any, files: Files) -> str:
    """Let links lead to where their files are in the site; to files that are not in it there is no link."""
    at = {page: place for place, page in ELSEWHERE.items()}.get(page.file.src_uri)
    home = posixpath.dirname(at if at is not None else f"docs/{page.file.src_uri}")

    def lead(match: re.Match[str]) -> str:
        picture, text, target, anchor = match[1], match[2], match[3], match[4] or ""
        if not target or re.match(r"[a-z]+:", target):
            return match[0]
        place = posixpath.normpath(posixpath.join(home, target))
        there = ELSEWHERE.get(place) or (place.removeprefix("docs/") if place.startswith("docs/") else None)
        if there is None:
            return text
        relative = posixpath.relpath(there, posixpath.dirname(page.file.src_uri) or ".")
        return f"{picture}[{text}]({relative}{anchor})"

    # Fenced code stays as it is.
    parts = re.split(r"(^ *```.*?^ *```)", markdown, flags=re.S | re.M)
    return "".join(part if number % 2 else LINK.sub(lead, part) for number, part in enumerate(parts))
