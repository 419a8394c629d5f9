"""What every source yields: clips, each one annotated action in one video, with what is wrong with it."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from handi.core.errors import InputError
from handi.core.names import safe_name
from handi.core.reading import read_lines

if TYPE_CHECKING:
    from handi.data.known_hands import HandTrack

FRAMES = 16  # of a clip: the context image and the 15 to generate (paper §3)
MAX_ID = 120  # characters: a file name holds an id and what is put behind it

TEXTS = ("action", "description", "verb", "noun", "participant", "problem")  # of a clip

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)  # from training to what is furthest from it


@dataclass(frozen=True)
class Clip:
    """One annotated action in one video; with a `problem` it is counted and named, but not prepared."""

    id: str  # unique in its source, of A-Z a-z 0-9 _ . - only: file names are made from it
    video: Path | None  # a video file, or a folder of frames (see `fps`); None where there is none
    start: float  # s
    end: float | None  # s, of the last frame, which belongs to it; None: to the end of the video
    action: str  # a short sentence: "Cut the carrot."
    description: str | None = None  # the enriched text, where one is stored
    split: Split = "train"
    verb: str | None = None
    noun: str | None = None
    participant: str | None = None
    paraphrases: tuple[str, ...] = ()  # other ways to say the action
    problem: str | None = None  # why it cannot be used, in words for the ledger
    # Of a world clip: where its exact joints and areas are (a JSON file), or a `sources.world.Seed`.
    truth: Any = None
    hands: HandTrack | None = None  # where the data set knows them
    # Of a folder of frames: picture number n by name, from 0, is at n / fps. None for a video, which says so.
    fps: float | None = None


@dataclass(frozen=True)
class SourceClips:
    """What a source yields. Every annotation is a clip or is counted in a note."""

    clips: list[Clip]
    notes: list[str] = field(default_factory=list)  # what concerns the whole, such as counts that differ
    has_splits: bool = True  # False: the source says nothing of splits, and all clips are "train"
    # Clip id → name of its recording, where a video holds several: so they are held out one by one.
    recordings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ClipLength:
    """How much footage a prepared clip takes: frames at a rate; without a rate, any frames of the action."""

    frames: int = FRAMES
    fps: float | None = None

    def steps(self, rate: float) -> int:
        """The fewest frames from a clip's first to its last, in a video of `rate` frames per second."""
        return math.ceil((self.frames - 1) * rate / (self.fps or rate) - 1e-6)


PAPER = ClipLength()  # 16 frames, spread over the action


@dataclass(frozen=True)
class Annotation:
    """A clip with the names that its data set knows it by, so that another list can be joined to it."""

    clip: Clip
    text: str  # the narration as it is annotated
    groups: tuple[str, ...]  # of its video, of the piece of it that was annotated
    names: tuple[str, ...]  # its own, and its number in a group
    frames: tuple[int, int]  # first and last, as annotated


def clip_id(name: str) -> str:
    """A name as an id: other characters become "_", and then a hash keeps different names apart."""
    plain = re.sub(r"[^A-Za-z0-9_.-]", "_", name)
    plain = re.sub(r"^[.-]", "_", plain)[:MAX_ID] or "_"  # no hidden file, no option
    if plain == name:
        return safe_name(name)
    return f"{plain}-{hashlib.sha256(name.encode('utf-8', 'surrogateescape')).hexdigest()[:6]}"


def unique(clips: Iterable[Clip]) -> list[Clip]:
    """The clips with sound texts and ids of their own: the first of an id keeps it, others get a problem."""
    kept: list[Clip] = []
    seen: dict[str, int] = {}
    for clip in clips:
        clip = _sound(clip)
        count = seen[clip.id] = seen.get(clip.id, 0) + 1
        if count > 1:
            problem = f"{clip.id} is listed more than once; only the first is used"
            clip = replace(clip, id=_free(f"{clip.id}.again{count}", seen), problem=problem)
        kept.append(clip)
    return kept


def sound(text: str) -> str:
    """A text that any file and any model can take: half a character, as of an emoji cut in two, is "?"."""
    return text.encode("utf-8", "replace").decode()


def _sound(clip: Clip) -> Clip:
    texts: dict[str, Any] = {name: getattr(clip, name) for name in TEXTS}
    texts = {name: None if text is None else sound(text) for name, text in texts.items()}
    return replace(clip, **texts, paraphrases=tuple(map(sound, clip.paraphrases)))


def _free(name: str, seen: dict[str, int]) -> str:
    while name in seen:
        name += "x"
    seen[name] = 1
    return name


def check_split(name: str) -> Split:
    """The split of a name; "validation" is one, too. Raises: ValueError with the words for the ledger."""
    name = {"validation": "val"}.get(name.strip().lower(), name.strip().lower())
    for split in SPLITS:
        if split == name:
            return split
    raise ValueError(f"there is no split {name!r}; use {', '.join(SPLITS)}")


def sentence(words: str) -> str:
    """Words as a sentence: "cut  carrot" → "Cut carrot."; "" stays ""."""
    words = " ".join(words.split())
    if words and words[-1] not in ".!?":
        words += "."
    return words[:1].upper() + words[1:]


def sentences_of(path: Path) -> tuple[str, ...]:
    """The lines of a text file that say something: the action, then other ways to say it.

    Raises: InputError; its `what` names the file.
    """
    if not path.exists():
        raise InputError(f"there is no {path.name}")
    try:
        lines = read_lines(path)
    except InputError as error:
        raise InputError(f"{path.name} {error.what}") from error
    sentences = tuple(" ".join(line.split()) for line in lines if line.strip())
    if not sentences:
        raise InputError(f"{path.name} is empty")
    return sentences
