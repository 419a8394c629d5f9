"""Pieces of a page that needs no other file: tables, bars, histograms, pictures. Every text is escaped."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Sequence
from html import escape

import cv2
import numpy as np

from handi.core.types import Picture

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #1d2327; background: #fff; margin: 2rem auto;
       max-width: 72rem; padding: 0 1.2rem; }
h1 { font-size: 1.6rem; margin: 0 0 .2rem; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; }
p { margin: .3rem 0; } .dim { color: #66707a; } .bad { color: #a61b1b; }
table { border-collapse: collapse; } th { font-weight: 600; }
td, th { text-align: left; padding: .15rem .9rem .15rem 0; vertical-align: top; }
.number { text-align: right; }
.columns { display: flex; flex-wrap: wrap; gap: 1rem 2.5rem; align-items: flex-start; }
.bar { background: #2f6f9f; height: .75rem; min-width: 1px; display: inline-block; }
figure { margin: 0 0 1.4rem; } figure img { display: block; max-width: 100%; border-radius: 3px; }
figcaption { margin-top: .25rem; } svg text { font-size: 11px; fill: #66707a; }
"""


def page(title: str, body: Iterable[str]) -> str:
    """A whole HTML document; `body` is HTML."""
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{escape(title)}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{STYLE}</style>\n</head>\n<body>\n" + "\n".join(body) + "\n</body>\n</html>\n"
    )


def table(head: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """A table; whole numbers stand right with thousands separators, texts left. `head` may be empty."""
    lines = ["".join(_cell(cell, "td") for cell in row) for row in rows]
    if head:
        lines.insert(0, "".join(_cell(cell, "th") for cell in head))
    return "<table>" + "".join(f"<tr>{line}</tr>\n" for line in lines) + "</table>"


def _cell(cell: object, tag: str) -> str:
    if isinstance(cell, int):
        return f'<{tag} class="number">{cell:,}</{tag}>'
    return f"<{tag}>{escape(str(cell))}</{tag}>"


def bars(title: str, counts: Sequence[tuple[str, int]], *, most: int = 20) -> str:
    """Horizontal bars of the largest counts, and how many more there are."""
    total = sum(count for _, count in counts) or 1
    shown = sorted(counts, key=lambda item: -item[1])[:most]
    top = max((count for _, count in shown), default=0) or 1
    rows = "".join(
        f'<tr><td>{escape(name) or "(none)"}</td><td class="number">{count:,}</td>'
        f'<td class="number">{100 * count / total:.1f} %</td>'
        f'<td><span class="bar" style="width:{9 * count / top:.2f}rem"></span></td></tr>\n'
        for name, count in shown
    )
    rest = len(counts) - len(shown)
    more = f'<p class="dim">and {rest:,} more</p>' if rest > 0 else ""
    return f"<div><p><b>{escape(title)}</b></p><table>{rows}</table>{more}</div>"


def histogram(title: str, values: Sequence[float], unit: str, *, bins: int = 24) -> str:
    """Columns over evenly wide bins from 0 (or the smallest) to the largest value, as SVG."""
    if not len(values):
        return f'<div><p><b>{escape(title)}</b></p><p class="dim">nothing measured</p></div>'
    array = np.asarray(values, float)
    low = min(0.0, float(array.min()))
    width = _round_width((float(array.max()) - low) / bins or 1.0)
    edges = low + width * np.arange(math.floor((float(array.max()) - low) / width) + 2)
    counts, _ = np.histogram(array, edges)
    wide, high, base = 360, 120, 104
    step = wide / len(counts)
    heights = 96 * counts / counts.max()
    columns = "".join(
        f'<rect x="{n * step + 0.5:.1f}" y="{base - tall:.1f}" width="{max(step - 1, 1):.1f}" '
        f'height="{tall:.1f}" fill="#2f6f9f">'
        f"<title>{edges[n]:g}–{edges[n + 1]:g} {escape(unit)}: {counts[n]:,}</title></rect>"
        for n, tall in enumerate(heights)
        if tall
    )
    labels = f'<text x="0" y="{high - 3}">{edges[0]:g}</text>'
    labels += f'<text x="{wide}" y="{high - 3}" text-anchor="end">{edges[-1]:g} {escape(unit)}</text>'
    low, middle, high_value = np.quantile(array, (0.05, 0.5, 0.95))
    marks = f"median {middle:.3g}, nine in ten {low:.3g}–{high_value:.3g}"
    return (
        f'<div><p><b>{escape(title)}</b></p><svg width="{wide}" height="{high}" role="img">'
        f'<line x1="0" y1="{base}" x2="{wide}" y2="{base}" stroke="#aab"/>{columns}{labels}</svg>'
        f'<p class="dim">{marks} {escape(unit)}; {len(array):,} clips</p></div>'
    )


def _round_width(width: float) -> float:
    """The next 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(width))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= width * 0.999)


def image(picture: Picture, alt: str, *, width: int | None = None) -> str:
    """A picture inside the page, H×W×3 uint8, as JPEG."""
    done, data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])
    assert done
    size = f' width="{width}"' if width else ""
    text = base64.b64encode(data.tobytes()).decode()
    return f'<img{size} alt="{escape(alt)}" src="data:image/jpeg;base64,{text}">'
