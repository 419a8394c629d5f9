"""Words that change when a picture is mirrored."""

from __future__ import annotations

import re

_SIDES = {
    "left": "right",
    "right": "left",
    "leftward": "rightward",
    "rightward": "leftward",
    "leftwards": "rightwards",
    "rightwards": "leftwards",
    "clockwise": "anticlockwise",
    "anticlockwise": "clockwise",
    "counterclockwise": "clockwise",
    "counter-clockwise": "clockwise",
    "anti-clockwise": "clockwise",
}
_SIDE_WORD = re.compile(
    r"\b(" + "|".join(sorted(map(re.escape, _SIDES), key=len, reverse=True)) + r")\b", re.IGNORECASE
)


def mirrored_text(text: str) -> str:
    """Left becomes right, clockwise anticlockwise, and back; a capital stays one."""

    def other(match: re.Match[str]) -> str:
        word = match.group()
        swapped = _SIDES[word.lower()]
        return swapped.capitalize() if word[0].isupper() else swapped

    return _SIDE_WORD.sub(other, text)
