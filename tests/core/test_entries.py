"""Settings from nested mappings: what each type takes, and what a wrong entry says."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

import pytest

from handi.core.entries import Only, overridden, read_entries
from handi.core.errors import InputError


@dataclass(frozen=True)
class Inner:
    share: Annotated[float, Only(lambda x: 0 <= x <= 1, "0 to 1")] = 0.5


@dataclass(frozen=True)
class Outer:
    kind: Literal["yes", "no", "auto"]
    inner: Inner = Inner()
    count: int = 1
    text: str | None = None
    switch: bool = False
    sides: tuple[int, ...] = ()
    true: float = 0.0
    source: str = field(default="", compare=False)


@pytest.mark.parametrize(
    ("given", "name", "value"),
    [
        ({"kind": "auto"}, "kind", "auto"),
        ({"kind": False}, "kind", "no"),  # YAML reads a bare no as False
        ({"kind": "true"}, "kind", "yes"),
        ({"count": "7"}, "count", 7),
        ({"text": "none"}, "text", None),
        ({"text": 5}, "text", "5"),
        ({"switch": "off"}, "switch", False),
        ({"switch": True}, "switch", True),
        ({"sides": "1, 2"}, "sides", (1, 2)),
        ({"sides": [1, "2"]}, "sides", (1, 2)),
        ({"sides": 3}, "sides", (3,)),
        ({True: 0.25}, "true", 0.25),  # and a bare true as True, also where it is a name
        ({"inner": {"share": "1e-1"}}, "inner", Inner(0.1)),
    ],
)
def test_a_value_is_read_as_its_entry_wants_it(given, name, value):
    assert getattr(read_entries(Outer, {"kind": "auto", **given}, "file"), name) == value


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"cuont": 1}, "file: cuont is not an entry; did you mean count?"),
        ({"zzz": 1}, "zzz is not an entry; known are: kind, inner, count, text, switch, sides, true"),
        ({"source": "x"}, "source is not an entry"),
        ({"inner": {"shar": 1}}, "inner.shar is not an entry; did you mean inner.share?"),
        ({"inner": {"share": 2}}, "inner.share is 2.0; use 0 to 1"),
        ({"inner": {"share": "nan"}}, "inner.share is 'nan'; use a number"),
        ({"inner": 3}, "inner must hold entries, not 3"),
        ({"kind": "maybe"}, "kind is 'maybe'; use yes or no or auto"),
        ({"count": 1.5}, "count is 1.5; use a whole number"),
        ({"count": True}, "count is True; use a whole number"),
        ({"text": ["x"]}, "text is ['x']; use text"),
        ({"switch": 2}, "switch is 2; use true or false"),
        ({"sides": "1,b"}, "sides is 'b'; use a whole number"),
    ],
)
def test_a_wrong_entry_is_named_with_its_remedy(given, message):
    with pytest.raises(InputError) as wrong:
        read_entries(Outer, {"kind": "auto", **given}, "file")
    assert message in str(wrong.value)


def test_an_entry_without_a_default_is_asked_for():
    with pytest.raises(InputError, match="file: has no kind; write kind: yes or no or auto"):
        read_entries(Outer, {}, "file")


def test_dotted_names_replace_entries_and_leave_the_mapping_as_it_was():
    content = {"inner": {"share": 0.5}, "count": 1}
    assert overridden(content, {"inner.share": "0", "new.deep": 1, "count.odd": 2}) == {
        "inner": {"share": "0"},
        "new": {"deep": 1},
        "count": {"odd": 2},
    }
    assert content == {"inner": {"share": 0.5}, "count": 1}
