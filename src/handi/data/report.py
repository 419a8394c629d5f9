"""The data card of a folder of prepared clips: one HTML page, with nothing to load beside it.

This file collects what the page shows; how it looks is in assets/data_card.html.
"""

from __future__ import annotations

import base64
import heapq
import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import cv2
import jinja2
import numpy as np
from PIL import Image

from handi.core.errors import InputError
from handi.core.files import sweep, write_text
from handi.core.images import resize
from handi.core.reading import read_text
from handi.core.types import BinaryMask, Frames, Picture
from handi.core.video import even_indices
from handi.data import shards
from handi.data.ledger import KEPT, Row, kind_of_reason
from handi.data.validate import Damage
from handi.hands.joints import draw_hands

REPORT = "report.html"
SPLITS = ("train", "val", "test")
SHOWN, SHOWN_PX = 16, 168  # frames of a sample at most, and their height
SMALL_AREA, LARGE_AREA = 0.01, 0.6  # shares of the picture beyond which a motion area looks odd
CAMERA = 0.1  # of the width: a camera that moves as much has left the context frame
EXAMPLES = 3  # clips named for a reason
BINS, CHART = 24, (360, 96)  # of a histogram: columns, px


def write_report(
    folder: str | Path, out: Path | None = None, *, samples: int = 24, damages: Sequence[Damage] | None = None
) -> tuple[Path, dict[str, Any]]:
    """Write the data card of a prepared folder to `out` (FOLDER/report.html); its path, and the counts on it.

    samples: clips shown, half of them the worst (`concerns`), the others spread over the rest. damages: what
    `validate` found, None where it was not run. Raises: InputError for a folder that cannot be read,
    OutputError.
    """
    folder = Path(folder).expanduser()
    about = shards.read_prepared(folder)
    card = Card()
    for row in shards.read_ledger(folder):
        try:
            card.add(row)
        except (LookupError, TypeError) as error:
            what = f"the line of clip {row.get('id')} is damaged ({type(error).__name__}: {error})"
            raise InputError(what, where=folder / shards.LEDGER, hint=shards.AGAIN) from error
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    page = environment.from_string(read_text(str(files("handi.assets") / "data_card.html"))).render(
        title=f"Data card: {folder.resolve().name}",
        about=_about(about["settings"]),
        damages=damages,
        notes=about["notes"],
        card=card,
        splits=_splits(about["splits"], card),
        shared=_shared(card.participants),
        rejected=[[kind, n, "; ".join(card.reasons[kind])] for kind, n in card.rejected.most_common()],
        charts=[
            histogram("Length", card.seconds, "s"),
            histogram("Motion area", card.areas, "% of the picture"),
            histogram("Camera motion", card.camera, "% of the width"),
            *([histogram("In view after stabilising", card.valid, "% of the picture")] if card.valid else []),
        ],
        hands={f"{count} hand{'' if count == 1 else 's'}": card.hands[count] for count in (0, 1, 2)},
        sides={side: card.sides[side] for side in ("left", "right")},
        prior=_prior(folder / shards.PRIOR),
        samples=_samples(folder, about["settings"], samples),
    )
    out = out if out is not None else folder / REPORT
    sweep(out.parent)
    write_text(out, page, errors="replace")
    return out, {
        "splits": about["splits"],
        "kept": card.kept,
        "described": card.described,
        "rejected": dict(card.rejected.most_common()),
        "damages": None if damages is None else [str(damage) for damage in damages],
    }


class Card:
    """What the page shows of all clips, counted row by row of the ledger."""

    def __init__(self) -> None:
        self.reasons: dict[str, list[str]] = defaultdict(list)  # kind → "id: reason" of its clips
        self.rejected: Counter[str] = Counter()
        self.verbs: Counter[str] = Counter()
        self.nouns: Counter[str] = Counter()
        self.hands: Counter[int] = Counter()
        self.sides: Counter[str] = Counter()
        self.seconds: list[float] = []
        self.areas: list[float] = []
        self.camera: list[float] = []
        self.valid: list[float] = []  # of the clips that were held still
        self.hours: Counter[str] = Counter()
        self.participants: dict[str, set[str]] = defaultdict(set)
        self.described = self.kept = 0

    def add(self, row: Row) -> None:
        """Count a line."""
        if row["status"] != KEPT:
            kind = kind_of_reason(row["reason"])
            self.rejected[kind] += 1
            if len(self.reasons[kind]) < EXAMPLES:
                self.reasons[kind].append(f"{row['id']}: {row['reason']}")
            return
        self.kept += 1
        self.verbs[row["verb"] or ""] += 1
        self.nouns[row["noun"] or ""] += 1
        self.hands.update(row["hands"])
        self.sides.update({"left": row["left"], "right": row["right"]})
        self.seconds.append(row["seconds"])
        self.hours[row["split"]] += row["seconds"] / 3600
        self.areas.append(100 * row["area"])
        if row["camera"] is not None:
            self.camera.append(100 * row["camera"])
        if row["valid"] is not None:
            self.valid.append(100 * row["valid"])
        self.described += bool(row["description"])
        if row["participant"]:
            self.participants[row["split"]].add(row["participant"])


def concerns(row: Row) -> list[tuple[float, str]]:
    """What may be wrong with a kept clip, each with a weight in [0, 1]; the page shows the worst sums first.

    Frames without a hand (their share); a motion area below 1 % or above 60 % of the picture; camera motion
    (a tenth of the width counts whole), or what holding it still has put out of view; an uneven frame rate.
    """
    found = []
    if empty := list(row["hands"]).count(0):
        found.append((empty / len(row["hands"]), f"no hand in {empty} of {len(row['hands'])} frames"))
    if row["area"] < SMALL_AREA:
        found.append((1 - row["area"] / SMALL_AREA, f"a motion area of {100 * row['area']:.2g} %"))
    if row["area"] > LARGE_AREA:
        found.append(
            ((row["area"] - LARGE_AREA) / (1 - LARGE_AREA), f"a motion area of {100 * row['area']:.0f} %")
        )
    if row["valid"] is not None:
        found.append((1 - row["valid"], f"{100 * row['valid']:.0f} % of the picture in view all the time"))
    elif row["camera"] is not None:
        moves = f"the camera moves by {100 * row['camera']:.1f} % of the width"
        found.append((min(row["camera"] / CAMERA, 1), moves))
    elif row["camera_support"] is not None:
        found.append((0.5, "a camera motion that cannot be measured"))
    if row["uneven"]:
        found.append((0.3, "an uneven frame rate"))
    return found


# ------------------------------------------------------------------------------------------ sections


def _about(settings: dict[str, Any]) -> str:
    kept = {"jpg": "as JPEG", "png": "as PNG", "none": "not kept"}[settings["pictures"]]
    models = ", ".join(f"{name} {str(value)[:12]}" for name, value in settings["models"].items())
    rate = "" if settings["fps"] is None else f" at {settings['fps']:g} per second"
    frames = "First frames" if settings["first_frames"] else f"{settings['frames']} frames{rate}"
    return f"{frames} of {'×'.join(map(str, settings['size']))} px, {kept}; models: {models or 'none'}"


def _splits(splits: dict[str, Any], card: Card) -> list[list[object]]:
    """A row of the table of splits for each."""
    rows: list[list[object]] = []
    for name in sorted(splits, key=lambda name: (*SPLITS, name).index(name)):
        counts = [splits[name][what] for what in ("clips", "kept", "rejected")]
        hours, size = f"{card.hours[name]:.2f}", f"{splits[name]['bytes'] / 2**20:,.1f}"
        rows.append([name, *counts, hours, size, len(card.participants[name]) or "–"])
    return rows


def _shared(participants: dict[str, set[str]]) -> list[str]:
    seen = Counter(name for names in participants.values() for name in names)
    return sorted(name for name, count in seen.items() if count > 1)[:20]


def histogram(title: str, values: Sequence[float], unit: str) -> dict[str, Any]:
    """Columns (x, width, height in px, title) over evenly wide bins from 0 (or the smallest) to the largest
    value, and what is written below them."""
    if not values:
        return {"title": title, "columns": []}
    array = np.asarray(values, float)
    low = min(0.0, float(array.min()))
    width = _round_width((float(array.max()) - low) / BINS or 1.0)
    edges = low + width * np.arange(math.floor((float(array.max()) - low) / width) + 2)
    counts, _ = np.histogram(array, edges)
    step = CHART[0] / len(counts)
    columns = [
        (n * step + 0.5, max(step - 1, 1), CHART[1] * count / counts.max(),
         f"{edges[n]:g}–{edges[n + 1]:g} {unit}: {count:,}")
        for n, count in enumerate(counts)
        if count
    ]  # fmt: skip
    tail, middle, top = np.quantile(array, (0.05, 0.5, 0.95))
    summary = f"median {middle:.3g}, nine in ten {tail:.3g}–{top:.3g} {unit}; {len(array):,} clips"
    ends = {"low": f"{edges[0]:g}", "high": f"{edges[-1]:g} {unit}"}
    return {"title": title, "columns": columns, "summary": summary, **ends}


def _round_width(width: float) -> float:
    """The next 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(width))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= width * 0.999)


def _prior(path: Path) -> dict[str, Any] | str | None:
    """The prior mask in colours, or why it cannot be shown; None where there is none."""
    if not path.is_file():
        return None
    try:
        prior = np.asarray(Image.open(path)).astype(np.float32) / 65535
    except (OSError, ValueError, SyntaxError):
        return "The prior mask cannot be read."
    colours = cv2.applyColorMap(np.rint(prior * 255).astype(np.uint8), cv2.COLORMAP_VIRIDIS)
    return {"source": _source(colours[..., ::-1]), "most": prior.max()}


def _samples(folder: Path, settings: dict[str, Any], count: int) -> dict[str, Any]:
    """The worst clips, then an even draw of the others, worst first."""
    rows = shards.read_clip_rows(folder).to_pylist()

    def place(n: int) -> tuple[float, str]:
        return -sum(weight for weight, _ in concerns(rows[n])), rows[n]["id"]

    worst = heapq.nsmallest(count - count // 2, range(len(rows)), key=place)
    others = [n for n in range(len(rows)) if n not in set(worst)]
    most = min(count // 2, len(others))
    drawn = [others[n] for n in even_indices(len(others), most)] if most else []
    chosen = [rows[n] for n in sorted({*worst, *drawn}, key=place)]
    shown = list(_shown(folder, settings, chosen))
    return {"shown": shown, "of": len(rows), "worst": len(worst), "others": len(drawn)}


def _shown(folder: Path, settings: dict[str, Any], rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
    for row in rows:
        sample = {"id": row["id"], "action": row["action"], "description": row["description"] or ""}
        try:
            sample["film"] = _film(frames_of(shards.read_piece(folder, row), settings))
        except (InputError, ValueError, KeyError) as error:
            sample |= {"film": None, "problem": f"cannot be shown: {error}"}
        found = [text for weight, text in sorted(concerns(row), reverse=True) if weight > 0.02]
        figures = f"{row['id']}, {row['split']}, {row['seconds']:.1f} s, area {100 * row['area']:.1f} %"
        yield sample | {"about": f"{figures}: {'; '.join(found) or 'nothing odd'}"}


def frames_of(members: dict[str, bytes], settings: dict[str, Any]) -> Frames:
    """A clip's frames with motion area and skeletons: F×SHOWN_PX×W×3; on grey without frames.

    Raises: ValueError, KeyError (damaged).
    """
    height, width = settings["size"]
    hands = shards.decode_array(members["hands.npz"])
    area = shards.decode_picture(members["area.png"], grey=True) > 127
    shown = []
    count = int(settings["frames"])
    for n in even_indices(count, min(SHOWN, count)):
        name = f"{n:02d}.{settings['pictures']}"
        grey = np.full((height, width, 3), 150, np.uint8)
        frame = grey if settings["pictures"] == "none" else shards.decode_picture(members[name])
        large = resize(_shaded(frame, area), SHOWN_PX, round(width * SHOWN_PX / height))
        shown.append(draw_hands(large, hands["joints"][n]))
    return np.stack(shown)


def _film(frames: Frames) -> dict[str, Any]:
    """Frames F×H×W×3 side by side in one picture, which the page moves behind a window of one frame."""
    count, height, width = frames.shape[:3]
    picture = frames.transpose(1, 0, 2, 3).reshape(height, count * width, 3)
    return {"source": _source(picture), "count": count, "height": height, "width": width}


def _shaded(frame: Picture, area: BinaryMask) -> Picture:
    """The frame, darkened outside the area."""
    return np.where(area[..., None], frame, frame // 2).astype(np.uint8)


def _source(picture: Picture) -> str:
    """A picture H×W×3 as a URL that holds it, as JPEG."""
    done, data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])
    assert done
    return f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}"
