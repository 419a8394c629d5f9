"""What every source yields: clips, each one annotated action in one video, with what is wrong with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

FRAMES = 16  # of a clip: the context image and the 15 to generate (SPEC §2)

Split = Literal["train", "val", "test"]


@dataclass(frozen=True)
class Clip:
    """One annotated action in one video; with a `problem` it is counted and named, but not prepared."""

    id: str  # unique in its source, of A-Z a-z 0-9 _ . - only: file names are made from it
    video: Path | None  # a video file, or a folder of frames; None where there is none
    start: float  # s
    end: float | None  # s; None: to the end of the video
    action: str  # a short sentence: "Cut the carrot."
    description: str | None = None  # the enriched text, where one is stored
    split: Split = "train"
    verb: str | None = None
    noun: str | None = None
    participant: str | None = None
    paraphrases: tuple[str, ...] = ()  # other ways to say the action
    problem: str | None = None  # why it cannot be used, in words for the ledger
    truth: Path | None = None  # of a world clip: the record with its exact joints and areas
    fps: float | None = None  # frames per second of a folder of frames; None for a video file, which says so


@dataclass(frozen=True)
class Found:
    """What a source yields. Every annotation is a clip or is counted in a note."""

    clips: list[Clip]
    notes: list[str] = field(default_factory=list)  # what concerns the whole, such as counts that differ
