"""`handi gallery`: one HTML page that shows methods side by side, as the paper's Figure 6 does.

The page is one file that opens from disk: every frame is in it. A video is stored as one picture that holds
its frames (a film), so that all films of the page are moved by one clock and cannot be out of step.
"""

from __future__ import annotations

import base64
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from PIL import Image

from handi import __version__
from handi.core.errors import HandiError, InputError, reason
from handi.core.files import replacing, sweep
from handi.core.images import open_image, resize, to_mask
from handi.core.progress import Progress
from handi.core.reading import read_text
from handi.core.types import Frames, Picture
from handi.evaluation.results import read_results
from handi.evaluation.shown import Clip, Shown, clip_of, context_of, own_area, same_context
from handi.evaluation.videos import Entry
from handi.motion.flow import hsv_first_pair, motion_flow

Form = Literal["methods", "actions"]
FlowStyle = Literal["flow", "authors"]
QUALITY = 85  # of the WebP pictures in the page
MAX_FRAMES = 64  # of a video: more than that is no clip, and would not fit in one picture


@dataclass(frozen=True)
class Settings:
    """How the page looks."""

    title: str = ""
    form: Form = "methods"
    flow: FlowStyle = "flow"
    width: int = 448  # px at most of a stored frame


def build_gallery(
    samples: dict[str, Entry], methods: Sequence[Shown], out: Path, settings: Settings
) -> list[HandiError]:
    """Write the page to the file `out`; what could not be shown is said in its place, and returned.

    form "methods": a block a sample, a column a method (Figure 6). "actions": a block a context image, a
    column an action, rows a method (Figure 7, appendix D); context images with a single action are left out.
    Raises: InputError where nothing can be shown, OutputError.
    """
    page = _Page(settings, [method.name for method in methods])
    results = {m.name: read_results(m.results) for m in methods if m.results is not None}
    if settings.form == "methods":
        blocks = _method_blocks(page, samples, methods, results)
    else:
        blocks = _action_blocks(page, samples, methods)
    if not page.fps:
        raise page.failures[0] if page.failures else InputError("there is nothing to show")
    text = page.render(blocks, len(samples), _summary(methods, results))
    sweep(out.parent)
    with replacing(out) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="replace")
    return page.failures


# ------------------------------------------------------------------------------------------- blocks


def _method_blocks(
    page: _Page, samples: dict[str, Entry], methods: Sequence[Shown], results: dict[str, Any]
) -> list[str]:
    """A block a sample: context and videos; area and motion flow; scores; texts."""
    page.columns = len(methods)
    blocks = []
    with Progress("gallery", len(samples), "samples") as bar:
        for number, sample in enumerate(samples.values(), start=1):
            clips = [page.clip(method, sample) for method in methods]
            top = [_cell("<div class=name>context image</div>", 0)]
            films, flows = [page.context(sample)], [page.area(sample, methods)]
            scores = ["<div class=given></div>"]
            for column, (method, clip) in enumerate(zip(methods, clips, strict=True), start=1):
                key = f" <small>{column}</small>" if column < 10 else ""
                top.append(_cell(f"<div class=name>{escape(method.name)}{key}</div>", column))
                films.append(_cell(page.film(clip), column))
                flows.append(_cell(page.flow(clip), column))
                scores.append(_cell(_scores(results.get(method.name), sample.id), column))
            rows = top + films + flows + (scores if results else [])
            title = f"<h2>{escape(_text(sample))} <small>{number} · {escape(sample.id)}</small></h2>"
            blocks.append(_block(title, "".join(rows), len(methods) + 1, _texts(sample)))
            bar.advance()
    return blocks


def _action_blocks(page: _Page, samples: dict[str, Entry], methods: Sequence[Shown]) -> list[str]:
    """A block a context image that several actions start from: for each method their videos, areas, flows."""
    several, failures = same_context(samples)
    page.failures += failures
    if not several:
        raise InputError(
            "no two samples start from one context image",
            mend="give `handi generate --batch` the same image with other prompts, or use --form methods",
        )
    page.columns = max(map(len, several))
    blocks = []
    with Progress("gallery", len(several), "context images") as bar:
        for number, group in enumerate(several, start=1):
            rows = [_cell("<div class=name>context image</div>", 0)]
            for column, sample in enumerate(group, start=1):
                key = f" <small>{column}</small>" if column < 10 else ""
                rows.append(_cell(f"<div class=name>{escape(_text(sample))}{key}</div>", column))
            for turn, method in enumerate(methods):
                clips = [page.clip(method, sample) for sample in group]
                rows.append(page.context(group[0]) if turn == 0 else "<div class=given></div>")
                rows += [_cell(page.film(clip), n) for n, clip in enumerate(clips, start=1)]
                rows.append(_cell(f"<div class=name>{escape(method.name)}</div>", 0))
                rows += [
                    _cell(page.area_of(method, sample) + page.flow(clip), n)
                    for n, (sample, clip) in enumerate(zip(group, clips, strict=True), start=1)
                ]
            texts = "".join(f"<dt>{escape(_text(s))}</dt><dd>{escape(s.description)}</dd>"
                            for s in group if s.description)  # fmt: skip
            title = f"<h2>Context image {number} <small>{len(group)} actions</small></h2>"
            texts = f"<dl class=texts>{texts}</dl>" if texts else ""
            blocks.append(_block(title, "".join(rows), len(group) + 1, texts))
            bar.advance()
    return blocks


def _block(title: str, cells: str, columns: int, below: str) -> str:
    return (
        f'<section class=sample>{title}<div class=grid style="grid-template-columns: '
        f'repeat({columns}, var(--film))">{cells}</div>{below}</section>'
    )


def _cell(content: str, column: int) -> str:
    """A cell of a method's (or action's) column; column 0 is what all of them are given."""
    return f"<div class=given>{content}</div>" if not column else f"<div data-column={column}>{content}</div>"


def _text(sample: Entry) -> str:
    return sample.text or sample.id


def _texts(sample: Entry) -> str:
    enriched = f"<dt>Enriched</dt><dd>{escape(sample.description)}</dd>" if sample.description else ""
    return f"<dl class=texts><dt>Text prompt</dt><dd>{escape(_text(sample))}</dd>{enriched}</dl>"


# ------------------------------------------------------------------------------------------- scores


def _scores(results: dict[str, Any] | None, id: str) -> str:
    """A table of the scores that a video has."""
    if results is None:
        return ""
    if id in results.get("refused", {}):
        return f"<div class=absent>not scored: {escape(str(results['refused'][id]))}</div>"
    rows = []
    for metric in results["metrics"].values():
        value = metric.get("per_video", {}).get(id)
        if value is not None:
            rows.append(f"<tr><td>{escape(metric['title'])}</td><td>{figure(value)}</td></tr>")
    return f"<table class=scores>{''.join(rows)}</table>" if rows else ""


def _summary(methods: Sequence[Shown], results: dict[str, Any]) -> str:
    """The methods' figures over all videos: a row a method, with n and 95 % intervals."""
    if not results:
        return ""
    columns: dict[str, dict[str, Any]] = {}
    for result in results.values():
        for name, metric in result["metrics"].items():
            if "value" in metric:
                columns.setdefault(name, metric)
    arrows = {"higher": " ↑", "lower": " ↓", "neither": ""}
    head = "".join(f"<th>{escape(m['title'])}{arrows[m['better']]}</th>" for m in columns.values())
    body = []
    for method in methods:
        if method.name not in results:
            continue
        metrics = results[method.name]["metrics"]
        n = results[method.name]["n"]
        cells = "".join(_aggregate(metrics.get(name), name, results, n) for name in columns)
        body.append(f"<tr><th>{escape(method.name)}</th><td>{escape(str(n))}</td>{cells}</tr>")
    skipped = {
        f"{metric['title']}: {metric['skipped']}"
        for result in results.values()
        for metric in result["metrics"].values()
        if "skipped" in metric
    }
    protocols = {f"{r['protocol']['id']}, scope {r['protocol']['scope']}" for r in results.values()}
    notes = [f"Protocol {', '.join(sorted(protocols))}; intervals are 95 %, bootstrapped over the videos."]
    notes += [f"Skipped: {line}" for line in sorted(skipped)]
    return (
        f"<div class=scroll><table class=summary><tr><th>Method</th><th>n</th>{head}</tr>{''.join(body)}"
        f"</table></div><p class=note>{'<br>'.join(map(escape, notes))}</p>"
    )


def _aggregate(metric: dict[str, Any] | None, name: str, results: dict[str, Any], n: int) -> str:
    """A cell; a figure that some of the n videos do not have states its own n."""
    if metric is None or "value" not in metric:
        return "<td>–</td>"
    interval = metric.get("interval")
    more = "" if interval is None else f" <small>[{figure(interval[0])}, {figure(interval[1])}]</small>"
    more += "" if metric["n"] == n else f" <small>n = {escape(str(metric['n']))}</small>"
    values = [r["metrics"][name]["value"] for r in results.values() if "value" in r["metrics"].get(name, {})]
    best = {"higher": max, "lower": min}.get(metric["better"])
    mark = " class=best" if best is not None and len(values) > 1 and metric["value"] == best(values) else ""
    return f"<td{mark}>{figure(metric['value'])}{more}</td>"


def figure(value: float) -> str:
    """A number in four significant digits: 0.01512, 0.9588, 24.16, 171.3."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digits = max(0, 3 - math.floor(math.log10(abs(value))))
    return f"{value:.{min(digits, 6)}f}"


# --------------------------------------------------------------------------------------------- page


class _Page:
    """Pictures of the page, and what it learns while they are made."""

    def __init__(self, settings: Settings, names: Sequence[str]) -> None:
        self.settings, self.names = settings, names
        self.columns = 0
        self.fps = 0.0  # of the first video
        self.frames = 0  # of the longest
        self.failures: list[HandiError] = []

    def clip(self, method: Shown, sample: Entry) -> Clip | HandiError:
        """The method's video of the sample, or why there is none."""
        try:
            clip = clip_of(method, sample.id)
            if len(clip.frames) > MAX_FRAMES:
                raise InputError(
                    f"{sample.id!r} has {len(clip.frames)} frames, a gallery shows {MAX_FRAMES} at most",
                    where=method.name,
                )
        except Exception as error:
            return self._failed(error, f"{method.name}, {sample.id}")
        self.fps = self.fps or clip.fps
        self.frames = max(self.frames, len(clip.frames))
        return clip

    def context(self, sample: Entry) -> str:
        """The context image, in the first column."""
        try:
            picture = self._fitted(context_of(sample))
        except Exception as error:
            return _cell(_absent(self._failed(error, sample.id)), 0)
        return _cell(_still(picture, f"context image of {sample.id}"), 0)

    def area(self, sample: Entry, methods: Sequence[Shown]) -> str:
        """The motion area of the first method that keeps one beside its video, or the sample's own."""
        own = next((path for method in methods if (path := own_area(method, sample.id))), None)
        if own is not None:
            return _cell(self._mask(own), 0)
        try:
            area = sample.area()
        except Exception as error:
            return _cell(_absent(self._failed(error, sample.id)), 0)
        return _cell("" if area is None else self._grey(area.astype(np.uint8) * 255), 0)

    def area_of(self, method: Shown, sample: Entry) -> str:
        """The motion area that a method used for an action."""
        path = own_area(method, sample.id)
        return "" if path is None else self._mask(path)

    def _mask(self, path: Path) -> str:
        try:
            return self._grey(np.rint(to_mask(open_image(path)) * 255).astype(np.uint8))
        except Exception as error:
            return _absent(self._failed(error, path))

    def _failed(self, error: Exception, where: str | Path) -> HandiError:
        """Count what could not be shown; any exception is a failure of its own place alone."""
        found = error if isinstance(error, HandiError) else InputError(reason(error), where=where)
        self.failures.append(found)
        return found

    def _grey(self, picture: np.ndarray) -> str:
        return _still(self._fitted(picture), "motion area") + "<div class=caption>motion area</div>"

    def film(self, clip: Clip | HandiError) -> str:
        """A window on a picture of all frames, in rows."""
        if isinstance(clip, HandiError):
            return _absent(clip)
        frames = self._fitted(clip.frames)
        count, height, width = frames.shape[:3]
        columns = math.ceil(math.sqrt(count))
        rows = math.ceil(count / columns)
        size = f"width: {100 * columns}%; height: {100 * rows}%"
        number = "" if count == self.frames else f"<div class=caption>{count} frames</div>"
        return (
            f'<div class=film style="aspect-ratio: {width} / {height}" data-count={count} '
            f'data-columns={columns} data-rows={rows}><img alt="video" style="{size}" '
            f'src="{_data(_tiled(frames, columns, rows))}"></div>{number}'
        )

    def flow(self, clip: Clip | HandiError) -> str:
        """The picture of what moves in a video."""
        if isinstance(clip, HandiError):
            return ""
        try:
            return self._flow(clip)
        except Exception as error:
            return _absent(self._failed(error, "motion flow"))

    def _flow(self, clip: Clip) -> str:
        if self.settings.flow == "authors":
            return _still(self._fitted(hsv_first_pair(clip.frames)), "motion flow")
        share = np.rint(motion_flow(clip.frames) * 255).astype(np.uint8)
        colours = cv2.cvtColor(cv2.applyColorMap(share, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
        return _still(self._fitted(colours), "motion flow")

    def _fitted(self, pixels: np.ndarray) -> np.ndarray:
        """Frames or a picture no wider than the page stores them."""
        height, width = pixels.shape[1:3] if pixels.ndim == 4 else pixels.shape[:2]
        limit = self.settings.width
        return pixels if width <= limit else resize(pixels, max(1, round(height * limit / width)), limit)

    def render(self, blocks: list[str], count: int, summary: str) -> str:
        """The whole page."""
        assets = files("handi.assets") / "gallery"
        what = {
            "methods": f"{count} samples, {len(self.names)} methods. First row: the context image that all "
            "of them are given, and their videos. Second row: the motion area, and each video's motion flow.",
            "actions": f"Several actions from one context image, {len(blocks)} images. Below each video: the "
            "motion area and the motion flow.",
        }[self.settings.form]
        flow = {
            "flow": "Motion flow (appendix E): share of frame pairs in which a pixel moves, black (none) "
            "over red to yellow (all).",
            "authors": "Motion flow as the paper's page draws it: optical flow of the first two frames; hue "
            "is its direction, brightness its length.",
        }[self.settings.flow]
        values = {
            "title": escape(self.settings.title or "Hand-centric videos, side by side"),
            "about": escape(f"{what} {flow}"),
            "style": read_text(str(assets / "gallery.css")),
            "script": read_text(str(assets / "gallery.js")),
            "columns": str(self.columns + 1),
            "shown": str(min(self.columns, 9)),
            "frames": str(self.frames),
            "last": str(self.frames - 1),
            "fps": f"{self.fps:g}",
            "summary": summary,
            "blocks": "\n".join(blocks),
            "footer": f"Made by handi {__version__}. Pictures are kept as WebP, quality {QUALITY}, at most "
            f"{self.settings.width} px wide; scores are of the original files.",
        }
        page = read_text(str(assets / "gallery.html"))
        # In one go: a text that looks like a place of the page is none.
        return re.sub(r"\{\{(\w+)\}\}", lambda place: values[place[1]], page)


def _tiled(frames: Frames, columns: int, rows: int) -> Picture:
    """F×H×W×3 frames in rows of one picture, black where there are no more."""
    count, height, width = frames.shape[:3]
    whole = np.zeros((rows * columns, height, width, 3), np.uint8)
    whole[:count] = frames
    grid = whole.reshape(rows, columns, height, width, 3).transpose(0, 2, 1, 3, 4)
    return grid.reshape(rows * height, columns * width, 3)


def _still(picture: np.ndarray, name: str) -> str:
    return f'<img class=still alt="{escape(name)}" src="{_data(picture)}">'


def _data(picture: np.ndarray) -> str:
    """A picture as a URL that holds it."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "WEBP", quality=QUALITY, method=4)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def _absent(error: HandiError) -> str:
    return f"<div class=absent>{escape(error.what)}</div>"
