"""The data card of a folder of prepared clips: one HTML page, with nothing to load beside it."""

from __future__ import annotations

import heapq
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from handi.core.errors import InputError
from handi.core.files import replacing, sweep
from handi.core.images import resize
from handi.core.types import BinaryMask, Picture
from handi.core.video import even_indices
from handi.data import shards
from handi.data.charts import bars, histogram, image, page, table
from handi.data.ledger import KEPT, Row
from handi.data.validate import Damage
from handi.hands.joints import draw_hands

REPORT = "report.html"
SPLITS = ("train", "val", "test")
SHOWN, SHOWN_PX = 4, 168  # frames of a sample, and their height
SMALL_AREA, LARGE_AREA = 0.01, 0.6  # shares of the picture beyond which a motion area looks odd
CAMERA = 0.1  # of the width: a camera that moves as much has left the context frame
EXAMPLES = 3  # clips named for a reason


def write_report(
    folder: str | Path, out: Path | None = None, *, samples: int = 24, damages: Sequence[Damage] | None = None
) -> Path:
    """Write the data card of a prepared folder to `out` (FOLDER/report.html) and give its path.

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
    title = f"Data card: {folder.resolve().name}"
    body = [f"<h1>{escape(title)}</h1>", *_head(about, damages)]
    body += [*_counts(about, card), *_words(card), *_figures(card, folder)]
    body += _samples(folder, about["settings"], samples)
    out = out if out is not None else folder / REPORT
    sweep(out.parent)
    with replacing(out) as temporary:
        temporary.write_text(page(title, body), encoding="utf-8", errors="replace")
    return out


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
            kind = _kind(row["reason"])
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


def _head(about: dict[str, Any], damages: Sequence[Damage] | None) -> Iterator[str]:
    settings = about["settings"]
    kept = {"jpg": "as JPEG", "png": "as PNG", "none": "not kept"}[settings["pictures"]]
    models = ", ".join(f"{name} {str(value)[:12]}" for name, value in settings["models"].items())
    rate = "" if settings["fps"] is None else f" at {settings['fps']:g} per second"
    frames = "First frames" if settings["first_frames"] else f"{settings['frames']} frames{rate}"
    size = escape("×".join(map(str, settings["size"])))
    yield f'<p class="dim">{frames} of {size} px, {kept}; models: {escape(models or "none")}</p>'
    if damages is not None:
        if damages:
            yield f'<p class="bad"><b>{len(damages):,} damages:</b></p>'
            yield table([], [[str(damage)] for damage in damages[:50]])
        else:
            yield "<p>Validated: every clip was read again and is whole.</p>"
    for note in about["notes"]:
        yield f"<p>Note: {escape(note)}</p>"


def _counts(about: dict[str, Any], card: Card) -> Iterator[str]:
    yield "<h2>Clips</h2>"
    names = sorted(about["splits"], key=lambda name: (*SPLITS, name).index(name))
    rows = []
    for name in names:
        split = about["splits"][name]
        row = [name, split["clips"], split["kept"], split["rejected"], f"{card.hours[name]:.2f}"]
        rows.append([*row, f"{split['bytes'] / 2**20:,.1f}", len(card.participants[name]) or "–"])
    yield table(["split", "clips", "kept", "rejected", "hours", "MiB", "participants"], rows)
    shared = _shared(card.participants)
    if shared:
        yield f"<p>Participants in more than one split: {escape(', '.join(shared))}.</p>"
    yield f"<p>{card.described:,} of {card.kept:,} kept clips have a full description.</p>"
    if card.rejected:
        yield "<h2>Rejected</h2>"
        examples = [[kind, n, "; ".join(card.reasons[kind])] for kind, n in card.rejected.most_common()]
        yield table(["reason", "clips", "such as"], examples)


def _shared(participants: dict[str, set[str]]) -> list[str]:
    seen = Counter(name for names in participants.values() for name in names)
    return sorted(name for name, count in seen.items() if count > 1)[:20]


def _words(card: Card) -> Iterator[str]:
    yield "<h2>Actions</h2>"
    both = bars("Verbs", list(card.verbs.items())) + bars("Nouns", list(card.nouns.items()))
    yield f'<div class="columns">{both}</div>'


def _figures(card: Card, folder: Path) -> Iterator[str]:
    yield "<h2>Figures</h2>"
    hands = [(f"{count} hand{'' if count == 1 else 's'}", card.hands[count]) for count in (0, 1, 2)]
    charts = [
        histogram("Length", card.seconds, "s"),
        histogram("Motion area", card.areas, "% of the picture"),
        histogram("Camera motion", card.camera, "% of the width"),
        *([histogram("In view after stabilising", card.valid, "% of the picture")] if card.valid else []),
        bars("Hands per frame", hands),
        bars("Sides, in frames", list(card.sides.items())),
    ]
    if (folder / shards.PRIOR).is_file():
        try:
            prior = np.asarray(Image.open(folder / shards.PRIOR)).astype(np.float32) / 65535
        except (OSError, ValueError, SyntaxError):
            charts.append('<p class="bad">The prior mask cannot be read.</p>')
        else:
            colours = cv2.applyColorMap(np.rint(prior * 255).astype(np.uint8), cv2.COLORMAP_VIRIDIS)
            charts.append(
                "<div><p><b>Prior mask</b></p>"
                + image(colours[..., ::-1], "mean motion area of the training clips", width=240)
                + f'<p class="dim">mean area of the training clips, at most {prior.max():.2f}</p></div>'
            )
    yield '<div class="columns">' + "".join(charts) + "</div>"


def _samples(folder: Path, settings: dict[str, Any], count: int) -> Iterator[str]:
    """The worst clips, then an even draw of the others, worst first."""
    rows = list(_rows(folder))
    worst = heapq.nsmallest(
        count - count // 2, range(len(rows)), key=lambda n: (-_weight(rows[n]), rows[n]["id"])
    )
    others = [n for n in range(len(rows)) if n not in set(worst)]
    drawn = (
        [others[n] for n in even_indices(len(others), min(count // 2, len(others)))]
        if others and count > 1
        else []
    )
    chosen = sorted({*worst, *drawn}, key=lambda n: (-_weight(rows[n]), rows[n]["id"]))
    yield f"<h2>Samples</h2><p>{len(chosen)} of {len(rows):,} clips: the {len(worst)} that look worst, "
    yield f"then {len(drawn)} spread over the others. Outside the motion area the picture is darkened; "
    yield "the left hand is blue, the right one orange.</p>"
    for n in chosen:
        row = rows[n]
        try:
            picture = image(strip(shards.read_piece(folder, row), settings), row["id"])
        except (InputError, ValueError, KeyError) as error:
            picture = f'<p class="bad">cannot be shown: {escape(str(error))}</p>'
        said = (
            "; ".join(text for weight, text in sorted(concerns(row), reverse=True) if weight > 0.02)
            or "nothing odd"
        )
        caption = f"<b>{escape(row['action'])}</b> {escape(row['description'] or '')}<br>"
        about = f"{row['id']}, {row['split']}, {row['seconds']:.1f} s, area {100 * row['area']:.1f} %: {said}"
        caption += f'<span class="dim">{escape(about)}</span>'
        yield f"<figure>{picture}<figcaption>{caption}</figcaption></figure>"


def _rows(folder: Path) -> Iterable[Row]:
    for batch in shards.read_clip_rows(folder).to_batches(max_chunksize=1024):
        yield from batch.to_pylist()


def _weight(row: Row) -> float:
    return sum(weight for weight, _ in concerns(row))


def strip(members: dict[str, bytes], settings: dict[str, Any]) -> Picture:
    """A clip's frames side by side with motion area and skeletons: SHOWN_PX×W×3; on grey without frames.

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
    gap = np.full((SHOWN_PX, 3, 3), 255, np.uint8)
    return np.concatenate([part for picture in shown for part in (picture, gap)][:-1], axis=1)


def _shaded(frame: Picture, area: BinaryMask) -> Picture:
    """The frame, darkened outside the area."""
    return np.where(area[..., None], frame, frame // 2).astype(np.uint8)


def _kind(reason: str) -> str:
    """A reason without its numbers, so that the same kind of mishap is counted together."""
    return re.sub(r"\d+(\.\d+)?", "N", reason)
