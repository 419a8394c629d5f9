"""`handi gallery`: one HTML page that shows methods side by side, as the paper's Figure 6 does.

The page is one file that opens from disk: every frame is in it. A video is stored as one picture that holds
its frames (a film), so that one clock moves all films of the page and they cannot be out of step. This file
collects what the page shows; how it looks is in assets/gallery.
"""

from __future__ import annotations

import base64
import io
import math
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import cv2
import jinja2
import numpy as np
from markupsafe import Markup
from PIL import Image

from handi import __version__
from handi.core.errors import HandiError, InputError, failure, reason
from handi.core.files import sweep, write_text
from handi.core.images import open_image, resize, to_mask
from handi.core.progress import Progress
from handi.core.reading import read_json, read_text
from handi.core.types import Frames, Picture
from handi.core.video import probe_video
from handi.evaluation.folder import read_videos
from handi.evaluation.gallery_scores import scores_of, summary_of
from handi.evaluation.results import ARROWS, Results, number, read_results
from handi.evaluation.videos import Entry, is_video
from handi.motion.flow import hsv_first_pair, motion_flow

QUALITY = 85  # of the WebP pictures in the page
MAX_FRAMES = 256  # of a video: a longer one is no sequence of clips, and would not fit in one picture
FPS = 8.0  # of frames that come without a rate: that of the paper's clips

# What the page shows in a place: a film or picture for the template, or why there is none.
Shown = dict[str, Any] | str


@dataclass(frozen=True)
class GalleryConfig:
    """How the page looks."""

    title: str = ""
    form: Literal["methods", "actions"] = "methods"
    flow: Literal["flow", "authors"] = "flow"
    width: int = 448  # px at most of a stored frame


@dataclass(frozen=True)
class ShownMethod:
    """A method: its name, its folder (or manifest) and videos by id, and their scores."""

    name: str
    folder: Path
    videos: dict[str, Entry]
    results: Results | None = None

    def own_area(self, id: str) -> Path | None:
        """The motion area that it kept beside its video, as `handi generate` does."""
        entry = self.videos.get(id)
        if entry is None or entry.video is None:
            return None
        folder = entry.video.parent  # ID/frames and ID/video.mp4 lie in the clip's own folder
        path = folder / "motion_area.png"
        return path if unicodedata.normalize("NFC", folder.name) == id and path.is_file() else None


@dataclass(frozen=True)
class GalleryRow:
    """Two rows of a block: the context image (or nothing) and films; area and motion flow below them."""

    context: Shown | None
    films: list[Shown]
    method: str  # its name, if the columns are actions
    area: Shown | None
    below: Sequence[tuple[Shown | None, Shown | None]]  # a method's own area, motion flow


@dataclass(frozen=True)
class GalleryBlock:
    """What the page shows of one sample, or of one context image."""

    title: str
    small: str  # beside the title
    heads: list[str]  # of the columns
    rows: list[GalleryRow]
    texts: list[tuple[str, str | None]]
    scores: Sequence[list[tuple[str, float | None]] | str] = ()  # (title, value) per column, or why none


def read_methods(items: Sequence[str], results: Path | None = None) -> list[ShownMethod]:
    """Methods named as "handi=out/a" or "out/b". results: a folder with METHOD/results.json, or with
    METHOD/full-all/results.json as `handi bench` writes it. Raises: InputError."""
    methods: dict[str, ShownMethod] = {}
    for item in items:
        name, equals, place = item.partition("=")
        if not equals:
            name, place = Path(item).name, item
        if name in methods:
            raise InputError(f"two methods are called {name!r}", hint="write NAME=FOLDER")
        scores = None
        if results is not None:
            own = results / name
            places = (path / "results.json" for path in (own, own / "full-all"))
            found = next((path for path in places if path.is_file()), None)
            scores = None if found is None else read_results(found)
        folder = Path(place).expanduser()
        methods[name] = ShownMethod(name, folder, read_videos(folder), scores)
    if not methods:
        raise InputError("no method is named", hint="write --methods NAME=FOLDER …")
    if results is not None and not any(method.results for method in methods.values()):
        raise InputError(f"holds no {next(iter(methods))}/results.json or any other method's", where=results)
    return list(methods.values())


def read_samples(
    ref: Path | None, methods: Sequence[ShownMethod], ids: Sequence[str], say: Callable[[str], None]
) -> dict[str, Entry]:
    """The samples of a folder or manifest, or without one those of the first method's run.json files, as
    `handi generate --batch` writes them; of these `ids`, if any. Raises: InputError."""
    folder = methods[0].folder
    samples = {} if ref is None else read_videos(ref, say)
    for record in sorted(folder.glob("*/run.json")) if ref is None else ():
        try:
            request = read_json(record)["request"]
            context, text = Path(request["image"]), str(request["prompt"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"is not the record of a run ({error})", where=record) from error
        samples[record.parent.name] = Entry(record.parent.name, context_file=context, text=text)
    if not samples:
        hint = "say what the samples are: --ref FOLDER_OR_MANIFEST"
        raise InputError("holds no folders with a run.json", where=folder, hint=hint)
    if unknown := [id for id in ids if id not in samples]:
        raise InputError(f"there is no sample {unknown[0]!r}", where=ref or folder)
    return {id: samples[id] for id in ids} if ids else samples


def build_gallery(
    samples: dict[str, Entry], methods: Sequence[ShownMethod], out: Path, config: GalleryConfig
) -> list[HandiError]:
    """Write the page to the file `out`; what cannot be shown is stated in its place, and returned.

    form "methods": a block per sample, a column per method (Figure 6). "actions": a block per context image,
    a column per action, rows per method (Figure 7, appendix D); images with a single action are left out.
    Raises: InputError if nothing can be shown, OutputError.
    """
    if config.width < 16:
        raise InputError(f"--width {config.width}", hint="use 16 or more")
    page = _Page(config)
    make = page.method_blocks if config.form == "methods" else page.action_blocks
    blocks = make(samples, methods)
    if not page.fps:
        raise page.failures[0] if page.failures else InputError("there is nothing to show")
    assets = files("handi.assets") / "gallery"
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    environment.filters["number"] = number
    text = environment.from_string(read_text(str(assets / "gallery.html"))).render(
        title=config.title or "Hand-centric videos, side by side",
        form=config.form,
        flow=config.flow,
        width=config.width,
        count=len(samples),
        names=[method.name for method in methods],
        columns=max(len(block.heads) for block in blocks),
        frames=page.frames,
        fps=f"{page.fps:g}",
        blocks=blocks,
        summary=summary_of({method.name: method.results for method in methods if method.results}),
        arrows=ARROWS,
        quality=QUALITY,
        version=__version__,
        style=Markup(read_text(str(assets / "gallery.css"))),
        script=Markup(read_text(str(assets / "gallery.js"))),
    )
    sweep(out.parent)
    write_text(out, text, errors="replace")
    return page.failures


class _Page:
    """Makes the pictures of the page and remembers what it must know: frame rate, frames, failures."""

    def __init__(self, config: GalleryConfig) -> None:
        self.config = config
        self.fps = 0.0  # of the first video
        self.frames = 0  # of the longest
        self.failures: list[HandiError] = []

    def method_blocks(self, samples: dict[str, Entry], methods: Sequence[ShownMethod]) -> list[GalleryBlock]:
        """A block per sample: context and videos; area and motion flow; scores; texts."""
        blocks = []
        with Progress("gallery", len(samples), "samples") as bar:
            for count, sample in enumerate(samples.values(), start=1):
                clips = [self.clip(method, sample) for method in methods]
                films = [self.film(clip) for clip in clips]
                below = [(None, self.flow(clip)) for clip in clips]
                rows = [GalleryRow(self.context(sample), films, "", self.area(sample, methods), below)]
                text, heads = sample.text or sample.id, [method.name for method in methods]
                texts = [("Text prompt", text), ("Enriched", sample.description)]
                scores = scores_of([method.results for method in methods], sample.id)
                blocks.append(GalleryBlock(text, f"{count} · {sample.id}", heads, rows, texts, scores))
                bar.advance()
        return blocks

    def action_blocks(self, samples: dict[str, Entry], methods: Sequence[ShownMethod]) -> list[GalleryBlock]:
        """A block per context image that several actions start from: each method's videos, areas, flows."""
        groups: dict[bytes, list[Entry]] = {}
        for sample in samples.values():
            try:
                groups.setdefault(_context_of(sample).tobytes(), []).append(sample)
            except Exception as error:
                self.failures.append(failure(error))
        several = [group for group in groups.values() if len(group) > 1]
        if not several:
            raise InputError(
                "no two samples start from one context image",
                hint="give `handi generate --batch` the same image with other prompts, or use --form methods",
            )
        blocks = []
        with Progress("gallery", len(several), "context images") as bar:
            for count, group in enumerate(several, start=1):
                rows: list[GalleryRow] = []
                for method in methods:
                    context = None if rows else self.context(group[0])
                    clips = [self.clip(method, sample) for sample in group]
                    areas = [self.own_area(method, sample) for sample in group]
                    below = list(zip(areas, map(self.flow, clips), strict=True))
                    rows.append(
                        GalleryRow(context, [self.film(clip) for clip in clips], method.name, None, below)
                    )
                heads = [sample.text or sample.id for sample in group]
                texts = [(head, sample.description) for head, sample in zip(heads, group, strict=True)]
                blocks.append(
                    GalleryBlock(f"Context image {count}", f"{len(group)} actions", heads, rows, texts)
                )
                bar.advance()
        return blocks

    # ------------------------------------------------------------------------------------- pictures

    def clip(self, method: ShownMethod, sample: Entry) -> Frames | str:
        """F×H×W×3, the method's video of the sample, or why there is none."""
        try:
            entry = method.videos.get(sample.id)
            if entry is None or entry.video is None:
                raise InputError(f"no video of {sample.id!r}", where=method.name)
            fps = probe_video(entry.video).fps if is_video(entry.video) else FPS
            frames = entry.frames()
            if len(frames) > MAX_FRAMES:
                what = f"{sample.id!r} has {len(frames)} frames, a gallery shows {MAX_FRAMES} at most"
                raise InputError(what, where=method.name)
        except Exception as error:
            return self._failed(error, f"{method.name}, {sample.id}")
        self.fps = self.fps or fps
        self.frames = max(self.frames, len(frames))
        return frames

    def context(self, sample: Entry) -> Shown:
        """The context image."""
        return self._still(lambda: _context_of(sample), f"context image of {sample.id}", sample.id)

    def area(self, sample: Entry, methods: Sequence[ShownMethod]) -> Shown | None:
        """The motion area of the first method that keeps one beside its video, or the sample's own."""
        for method in methods:
            if (own := self.own_area(method, sample)) is not None:
                return own
        try:
            area = sample.area()
        except Exception as error:
            return self._failed(error, sample.id)
        if area is None:
            return None
        return self._still(lambda: area.astype(np.uint8) * 255, "motion area", sample.id)

    def own_area(self, method: ShownMethod, sample: Entry) -> Shown | None:
        """The motion area that a method used for a sample."""
        if (path := method.own_area(sample.id)) is None:
            return None
        return self._still(
            lambda: np.rint(to_mask(open_image(path)) * 255).astype(np.uint8), "motion area", path
        )

    def film(self, clip: Frames | str) -> Shown:
        """A window on a picture of all frames, in rows."""
        if isinstance(clip, str):
            return clip
        frames = self._fitted(clip)
        count, height, width = frames.shape[:3]
        columns = math.ceil(math.sqrt(count))
        rows = math.ceil(count / columns)
        size = {"count": count, "height": height, "width": width, "columns": columns, "rows": rows}
        return {"source": _source(_tiled(frames, columns, rows)), **size}

    def flow(self, clip: Frames | str) -> Shown | None:
        """The picture of what moves in a video."""
        if isinstance(clip, str):
            return None

        def drawn() -> np.ndarray:
            if self.config.flow == "authors":
                return hsv_first_pair(clip)
            share = np.rint(motion_flow(clip) * 255).astype(np.uint8)
            return cv2.cvtColor(cv2.applyColorMap(share, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)

        return self._still(drawn, "motion flow", "motion flow")

    def _still(self, draw: Callable[[], np.ndarray], name: str, where: str | Path) -> Shown:
        """A picture that may fail to be drawn."""
        try:
            return {"name": name, "source": _source(self._fitted(draw()))}
        except Exception as error:
            return self._failed(error, where)

    def _failed(self, error: Exception, where: str | Path) -> str:
        """Count what cannot be shown; any exception is a failure of its own place alone."""
        found = error if isinstance(error, HandiError) else InputError(reason(error), where=where)
        self.failures.append(found)
        return found.what

    def _fitted(self, pixels: np.ndarray) -> np.ndarray:
        """Frames or a picture no wider than the page stores them."""
        limit, (height, width) = (
            self.config.width,
            pixels.shape[1:3] if pixels.ndim == 4 else pixels.shape[:2],
        )
        return pixels if width <= limit else resize(pixels, max(1, round(height * limit / width)), limit)


def _context_of(sample: Entry) -> Picture:
    """The context image: its own file, or frame 0 of the true video. Raises: InputError."""
    picture = sample.context()
    return sample.frames()[0] if picture is None else picture


def _tiled(frames: Frames, columns: int, rows: int) -> Picture:
    """F×H×W×3 frames in rows of one picture, black where there are no more."""
    count, height, width = frames.shape[:3]
    whole = np.zeros((rows * columns, height, width, 3), np.uint8)
    whole[:count] = frames
    grid = whole.reshape(rows, columns, height, width, 3).transpose(0, 2, 1, 3, 4)
    return grid.reshape(rows * height, columns * width, 3)


def _source(picture: np.ndarray) -> str:
    """A picture as a URL that holds it."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "WEBP", quality=QUALITY, method=4)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
