"""Ego4D v2: its hands-and-objects annotations or its narrations, joined to the videos."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from handi.core.errors import InputError
from handi.core.kinds import some
from handi.core.reading import finite, read_json, stream_array
from handi.data.sources.common import PAPER, Annotation, Clip, ClipLength, SourceClips, clip_id, sentence
from handi.data.sources.ego4d_layout import (
    KINDS_OF_VIDEO,
    METADATA,
    Metadata,
    VideoFinder,
    dicts,
    mapping,
    positive,
)

MAIN, NARRATION = "fho_main.json", "narration.json"
FPS = 30.0  # of the canonical videos, where their metadata do not say
# EgoVLP (arXiv 2206.01670, §3.1): a narration is a moment t; its clip is t ± β / 2α, β the mean distance
# of the narrations of its video, α the mean of β over all videos.
ALPHA = 4.9  # s


def read_ego4d(path: Path, videos: Sequence[Path], length: ClipLength = PAPER) -> SourceClips:
    """All annotated actions of Ego4D, each at least `length` long.

    path: the folder that the `ego4d` command wrote to, or the one of the version in it; its fho_main.json is
    read, or narration.json where there is none; or one of these files itself. videos: further folders that
    hold full_scale/UID.mp4, video_540ss/UID.mp4 or clips/UID.mp4. Raises: InputError.
    """
    notes: list[str] = []
    return SourceClips([entry.clip for entry in ego4d_entries(path, videos, notes, length)], notes)


def ego4d_entries(
    path: Path, videos: Sequence[Path], notes: list[str], length: ClipLength, *, curated: bool = False
) -> Iterator[Annotation]:
    """`read_ego4d` with the names that other lists may use. Appends to `notes`. Raises: InputError.

    curated: another list has chosen among the actions and split them, so that only what keeps one from being
    cut is a problem, and ego4d.json is not needed.
    """
    file = _annotations(path, notes)
    home = file.parent.parent if file.parent.name == "annotations" else file.parent
    metadata = Metadata([home, file.parent], file.parent, curated)
    finder = VideoFinder([home, *videos])
    if file.name == MAIN:
        yield from _actions(file, metadata, finder, length)
    else:
        yield from _narrations(file, metadata, finder, length, notes)


def _annotations(path: Path, notes: list[str]) -> Path:
    if path.is_file():
        return path
    if not path.is_dir():
        raise InputError("no such file or folder", where=path)
    folders = [path / "annotations", path / "v2" / "annotations", path]
    for name in (MAIN, NARRATION):
        for folder in folders:
            if (folder / name).is_file():
                if name == NARRATION:
                    notes.append(f"{MAIN} is not there; the narrations are used instead")
                return folder / name
    raise InputError(
        f"holds no annotations/{MAIN} and no annotations/{NARRATION}",
        where=path,
        hint="load them: ego4d --output_directory DIR --datasets annotations --metadata",
    )


# ------------------------------------------------------------------------------------ hands and objects


def _actions(file: Path, metadata: Metadata, finder: VideoFinder, length: ClipLength) -> Iterator[Annotation]:
    """The actions of fho_main.json, in its order."""
    for video in stream_array(file, "videos"):
        if not isinstance(video, dict) or not isinstance(video.get("video_uid"), str):
            raise InputError("holds a video without video_uid", where=file)
        total = 0
        for interval in dicts(video.get("annotated_intervals")):
            for number, action in enumerate(dicts(interval.get("narrated_actions"))):
                yield _action(action, interval, video, (str(number), str(total)), metadata, finder, length)
                total += 1


def _action(
    action: Mapping[str, Any],
    interval: Mapping[str, Any],
    video: Mapping[str, Any],
    numbers: tuple[str, str],
    metadata: Metadata,
    finder: VideoFinder,
    length: ClipLength,
) -> Annotation:
    uid, piece = video["video_uid"], interval.get("clip_uid")
    facts = mapping(video.get("video_metadata"))
    fps = positive(facts.get("fps")) or metadata.fps.get(uid, FPS)
    text = str(action.get("narration_text") or "")
    path, whole = finder.find(uid, piece)
    window = _window(action.get("critical_frames" if whole else "clip_critical_frames"))
    split = metadata.split(uid, piece)
    problem = (
        (None if metadata.curated else _rejected(action, interval) or _unspoken(text))
        or (None if spoken(text) else "has no narration")
        or (None if window else "has no pre-condition and post-condition frame")
        or (
            None
            if split or metadata.curated
            else f"{METADATA} and the fho_*_train, _val and _test files name no split for it"
        )
        or (None if path else f"there is no {KINDS_OF_VIDEO[0]}/{uid}.mp4 and no clips/{piece}.mp4")
    )
    first, last = window or (0, 0)
    until = max(last, first + length.steps(fps))  # many of these windows are shorter than a clip
    there = positive(facts.get("num_frames")) if whole else None
    if window and there and until >= there:
        problem = problem or f"stops at frame {until}; {uid} has {there:g}"
    name = action.get("uid")
    return Annotation(
        Clip(
            id=clip_id(name if isinstance(name, str) and name else f"{uid}.{numbers[1]}"),
            video=path,
            start=first / fps,
            end=until / fps,
            action=spoken(text),
            split=split or "train",
            verb=_plain(action.get("structured_verb")) or _plain(action.get("freeform_verb")),
            noun=_object(action),
            participant=metadata.participants.get(uid),
            problem=problem,
        ),
        text,
        groups=tuple(str(g) for g in (uid, piece, interval.get("clip_id")) if g not in (None, "")),
        names=tuple(str(n) for n in (name, action.get("narration_annotation_uid")) if n) + numbers,
        frames=(first, last),
    )


def _window(critical: object) -> tuple[int, int] | None:
    """First and last frame of an action: its pre-condition, and its post-condition or point of no return."""
    frames = mapping(critical)
    first, last = frames.get("pre_frame"), frames.get("post_frame") or frames.get("pnr_frame")
    if not isinstance(first, int) or not isinstance(last, int) or finite(last) is None:
        return None
    return (first, last) if 0 <= first < last else None


def _rejected(action: Mapping[str, Any], interval: Mapping[str, Any]) -> str | None:
    if interval.get("redacted"):
        return "lies in a redacted part of the video"
    if action.get("is_rejected"):
        return f"was rejected by the annotators ({action.get('reject_reason') or 'no reason given'})"
    if action.get("is_invalid_annotation") or action.get("is_valid_action") is False:
        return "is marked as invalid"
    return None


def _object(action: Mapping[str, Any]) -> str | None:
    """The object that an action changes."""
    for frame in dicts(action.get("frames")):
        for box in dicts(frame.get("boxes")):
            if box.get("object_type") == "object_of_change" and (noun := _plain(box.get("structured_noun"))):
                return noun
    return None


def _plain(name: object) -> str | None:
    """ "take_(pick,_grasp,_get)" → "take"."""
    return name.partition("_(")[0].strip() or None if isinstance(name, str) else None


# ------------------------------------------------------------------------------------------ narrations


def _narrations(
    file: Path, metadata: Metadata, finder: VideoFinder, length: ClipLength, notes: list[str]
) -> Iterator[Annotation]:
    """The narrations of narration.json, each a moment that a clip is laid around.

    One that is there again, in the other pass or in its own, is a clip with a problem, and counted in a note.
    """
    data = read_json(file, checked=False)
    if isinstance(data, dict) and isinstance(data.get("videos"), dict):
        data = data["videos"]
    if not isinstance(data, dict):
        raise InputError("is not a list of narrations by video", where=file)
    again: list[str] = []
    for uid, passes in data.items():
        seen: dict[tuple[str, float | None], str] = {}
        for name in ("narration_pass_1", "narration_pass_2"):
            narrations = dicts(mapping(mapping(passes).get(name)).get("narrations"))
            times = [t for n in narrations if (t := _time(n)) is not None]
            gap = (max(times) - min(times)) / (len(times) - 1) if len(times) > 1 else ALPHA
            for number, narration in enumerate(narrations):
                text, time = str(narration.get("narration_text") or ""), _time(narration)
                half = max(gap / (2 * ALPHA), length.frames / 2 / (length.fps or metadata.fps.get(uid, FPS)))
                clip = _narrated(uid, f"{uid}.{name[-1]}.{number}", text, time, half, metadata, finder)
                first = seen.setdefault((" ".join(text.casefold().split()), time), clip.id)
                if first != clip.id and not metadata.curated:
                    again.append(clip.id)
                    clip = replace(clip, problem=clip.problem or f"is {first} once more")
                yield Annotation(
                    clip,
                    text,
                    groups=(uid,),
                    names=(str(number),),
                    frames=(0, 0),
                )
    if again:
        notes.append(f"{file.name}: {len(again):,} narrations are there more than once: {some(again)}")


def _narrated(
    uid: str, name: str, text: str, time: float | None, half: float, metadata: Metadata, finder: VideoFinder
) -> Clip:
    """The clip of a narration, `half` s to both sides of its moment."""
    path, _ = finder.find(uid, None)
    split = metadata.split(uid, None)
    start = max(0.0, (time or 0.0) - half)
    length = metadata.durations.get(uid)
    problem = (
        _unspoken(text)
        or (None if spoken(text) else "has no narration")
        or (None if time is not None else "has no timestamp_sec")
        or (None if split else f"{METADATA} names no split for {uid}")
        or (None if path else f"there is no {KINDS_OF_VIDEO[0]}/{uid}.mp4")
    )
    if length and (time or 0.0) > length:
        problem = problem or f"is at {time:g} s; {uid} is {length:g} s long"
    return Clip(
        id=clip_id(name),
        video=path,
        start=start,
        end=min(start + 2 * half, length) if length else start + 2 * half,
        action=spoken(text),
        split=split or "train",
        participant=metadata.participants.get(uid),
        problem=problem,
    )


def _time(narration: Mapping[str, Any]) -> float | None:
    time = finite(narration.get("timestamp_sec"))
    return time if time is not None and time >= 0 else None


def _unspoken(text: str) -> str | None:
    """Why a narration is no sentence about what the camera wearer does."""
    if not text.strip():
        return "has no narration"
    if "#unsure" in text.lower():
        return "names a thing that the narrator was unsure of (#unsure)"
    if not re.match(r"\s*#c\b", text, re.IGNORECASE):
        return f"is not about the camera wearer ({text.strip()[:40]!r} does not begin with #C)"
    return None


def spoken(text: str) -> str:
    """A narration as a request: "#C C picks up a knife" → "Pick up a knife.".

    One that is about a thing of the wearer's stays as it is: "#C C's hand picks it" → "C's hand picks it.".
    """
    words = re.sub(r"^\s*#c\s*(c\b(?!['’]))?", "", text, flags=re.IGNORECASE).split()
    words = [word for word in words if not word.startswith("#")]
    if not words:
        return ""
    first = words[0] if re.search("['’]", words[0]) else _base(words[0])  # "C's hand picks …" is no request
    return sentence(" ".join([first, *words[1:]]))


_IRREGULAR = {"is": "be", "has": "have", "ties": "tie", "unties": "untie", "lies": "lie", "dies": "die"}


def _base(verb: str) -> str:
    """A verb in the third person as its base form: "washes" → "wash". Other words stay."""
    verb = verb.lower()
    if verb in _IRREGULAR:
        return _IRREGULAR[verb]
    if verb.endswith("ies"):
        return verb[:-3] + "y"
    if re.search(r"(ss|sh|ch|x|zz|o)es$", verb):
        return verb[:-2]
    return verb[:-1] if re.search(r"[^su]s$", verb) else verb
