"""The documentation site builds without a warning, and its pages that are made from code are whole."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html import unescape
from pathlib import Path

import pytest

from handi.commands.app import COMMANDS
from handi.recipes import bundled

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The built site. With --strict a link to nowhere, also to a heading, ends the build."""
    folder = tmp_path_factory.mktemp("site")
    done = build(ROOT, "--site-dir", str(folder))
    assert done.returncode == 0, done.stderr
    return folder


def build(place: Path, *options: str) -> subprocess.CompletedProcess:
    # Not --quiet: mkdocs then counts no warnings.
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", *options]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True)


def text_of(page: Path) -> str:
    """What a page says, without its marks."""
    return unescape(re.sub(r"<[^>]+>", "", page.read_text()))


def test_every_page_of_docs_is_in_it(site):
    for page in (ROOT / "docs").glob("*.md"):
        made = site / ("index.html" if page.stem == "index" else f"{page.stem}/index.html")
        assert made.is_file(), page.name


def test_the_commands_have_all_their_options(site):
    page = (site / "commands/index.html").read_text()
    for name in COMMANDS:
        assert f'id="handi-{name}"' in page
    said = text_of(site / "commands/index.html")
    for option in ("--area-guidance", "--upload-limit", "--held-out", "--versus", "--dry-run"):
        assert option in said
    assert "Denoising steps of stage 2, the video." in said


def test_the_recipes_have_all_their_entries_and_ship_whole(site):
    said = text_of(site / "recipes/index.html")
    for name in bundled():
        assert name in said
    for entry in ("--optim.lr", "--loss.hand.noise-limit", "--data.poses.share", "--run.keep"):
        assert entry in said
    assert "hardware  one GPU, or two CPU cores with 8 GB" in said


def test_the_errors_have_their_remedies(site):
    said = text_of(site / "troubleshooting/index.html")
    assert re.search(r"the painted area is not of this photo\s+paint it again", said)
    assert said.count("\n") > 400


def test_the_api_is_filled_in(site):
    said = text_of(site / "api/index.html")
    assert "A context image and a sentence" in said or "a context image and a sentence" in said
    assert "hand_refinement" in said
    assert ":::" not in said


def test_a_page_from_elsewhere_leads_into_the_site(site):
    page = (site / "overview/index.html").read_text()
    assert 'href="../app/"' in page
    assert 'href="../contributing/"' in page
    assert 'src="../demo.png"' in page


def test_nothing_is_loaded_from_elsewhere(site):
    for page in site.rglob("*.html"):
        assert not re.findall(r'<(?:script|img|link|iframe)[^>]+(?:src|href)="https?://', page.read_text()), (
            page
        )


def test_a_link_that_leads_nowhere_ends_the_build(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/index.md").write_text("# Here\n\n[there](nowhere.md)\n")
    settings = (ROOT / "mkdocs.yml").read_text()
    short = re.sub(r"^(hooks|plugins|nav):.*?(?=^\S|\Z)", "", settings, flags=re.S | re.M)
    (tmp_path / "mkdocs.yml").write_text(short)
    done = build(tmp_path)
    assert done.returncode != 0
    assert "nowhere.md" in done.stderr
