"""Damage: what can happen to bytes, to texts, and to trees of what JSON and YAML hold."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from typing import Any

Tree = Any

TEXTS = (
    "", " ", "\t", "\n", "\r\n", "\0", "a\0b", "\ufeff", "\ud800", "\udcff", "\u2028", "a\u2028b", "\u0085", "\u202e",
    "e\u0301", "é", "👩\u200d🍳", "名前", "𝔘" * 40, "x" * 300, "y" * 5000, ".", "..", "../..", "../outside", "a/b",
    "/", "/etc/passwd", "~", "~root", "C:\\temp\\x", "\\\\host\\share", "CON", "nul.txt", "a:b", "a*b?", "-", "--out", "-1",
    "%s%n", "%04d", "{}", "${HOME}", "$(id)", "`id`", "'", '"', "<b>x</b>", "</script><script>fuzzed()</script>",
    '"onload="fuzzed()', "&lt;", "http://127.0.0.1:9/x", "file:///etc/passwd", "concat:a|b", "nan", "inf", "-inf",
    "null", "none", "true", "1e999", "0x10", "1_000", "١٢", "1,5", "!!python/object:os.system", "*a", "&a", "@", "|",
    "a.b.c", ".hidden", "a.png", "full", "example", "x" * 254 + ".a", "a\nerror: b",
)  # fmt: skip
NUMBERS = (
    0, 1, -1, 2, 3, 7, 255, 256, 65536, 2**31 - 1, 2**31, 2**32, 2**53, 2**63 - 1, 2**63, 2**64, 10**18, 10**30, 10**400,
    -(2**31), -(2**63), -(2**64), 0.0, -0.0, 0.5, -0.5, 1e-9, 1e-320, 1e18, 1e308, float("nan"), float("inf"),
    float("-inf"),
)  # fmt: skip


def pick(rng: random.Random, *choices: Callable[[], Any]) -> Any:
    """What one of them gives, each as likely."""
    return rng.choice(choices)()


def deep(rng: random.Random) -> Tree:
    """Lists or objects in each other, deeper than any recursion goes, or just not."""
    tree: Tree = 0
    key = rng.choice((None, "a"))
    for _ in range(rng.choice((20, 200, 900))):
        tree = [tree] if key is None else {key: tree}
    return tree


def strange(rng: random.Random) -> Tree:
    """A value that nobody expects there."""
    return pick(
        rng,
        lambda: rng.choice(TEXTS),
        lambda: rng.choice(TEXTS),
        lambda: rng.choice(NUMBERS),
        lambda: rng.choice(NUMBERS),
        lambda: rng.choice((None, True, False, [], {}, [[]], [None], {"": None}, {"a": 1}, [0] * 50)),
        lambda: deep(rng),
    )


# ------------------------------------------------------------------------------------------- trees


def damaged_tree(rng: random.Random, tree: Tree) -> Tree:
    """A copy with one to three entries changed, lost, doubled, renamed or made strange."""
    tree = copy.deepcopy(tree)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        places = list(_places(tree)) if isinstance(tree, (dict, list)) else []
        if not places or rng.random() < 0.02:
            tree = strange(rng)
            continue
        holder, key = rng.choice(places)
        _damage(rng, holder, key)
    return tree


def _places(tree: Tree) -> Any:
    """(container, key) of every entry of a tree."""
    stack = [tree]
    while stack:
        holder = stack.pop()
        entries = holder.items() if isinstance(holder, dict) else enumerate(holder)
        for key, value in entries:
            yield holder, key
            if isinstance(value, (dict, list)) and len(stack) < 1000:
                stack.append(value)


def _damage(rng: random.Random, holder: Any, key: Any) -> None:
    value = holder[key]
    how = rng.randrange(8)
    if how == 0:
        del holder[key]
    elif how == 1 and isinstance(holder, list):
        holder.insert(key, copy.deepcopy(value))
    elif how == 1:
        holder[rng.choice((f"{key} ", str(key).upper(), f"{key}s", rng.choice(TEXTS)))] = holder.pop(key)
    elif how == 2 and isinstance(value, str):
        holder[key] = damaged_text(rng, value)
    elif how == 3 and isinstance(value, (int, float)):
        holder[key] = rng.choice(
            (value + 1, value - 1, -value, value * 1000, str(value), float(value), [value])
        )
    elif how == 4 and isinstance(holder, dict) and len(holder) > 1:
        holder[key] = copy.deepcopy(holder[rng.choice(list(holder))])  # another entry's value
    else:
        holder[key] = strange(rng)


def damaged_text(rng: random.Random, text: str) -> str:
    """A text with something strange put in, before or after it, or some of it gone."""
    place = rng.randrange(len(text) + 1)
    odd = rng.choice(TEXTS)
    return rng.choice((text[:place] + odd + text[place:], odd + text, text + odd, text[:place], text * 50))


def dumped(rng: random.Random, tree: Tree) -> str:
    """JSON of a tree, also of what JSON has no words for; lone surrogates stand escaped or as they are."""
    try:
        text = json.dumps(tree, ensure_ascii=rng.random() < 0.5)
    except RecursionError:
        return "[" * 3000
    if rng.random() < 0.03:  # deeper than any tree that could be made here
        text = text.replace("null", "[" * 100_000, 1) if "null" in text else text + "[" * 100_000
    return text


# ------------------------------------------------------------------------------------------- bytes


def encoded(rng: random.Random, text: str) -> bytes:
    """A text as bytes: UTF-8, now and then as another program saves it."""
    if rng.random() < 0.75:
        return text.encode("utf-8", "surrogatepass")
    return pick(
        rng,
        lambda: b"\xef\xbb\xbf" + text.encode("utf-8", "surrogatepass"),
        lambda: text.replace("\n", "\r\n").encode("utf-8", "surrogatepass"),
        lambda: text.replace("\n", "\r").encode("utf-8", "surrogatepass"),
        lambda: text.replace(" ", "\u2028").encode("utf-8", "surrogatepass"),
        lambda: text.encode("utf-16", "surrogatepass"),
        lambda: text.encode("utf-16-le", "surrogatepass"),
        lambda: text.encode("utf-32", "surrogatepass"),
        lambda: text.encode("cp1252", "replace") + b"\xe9\x80",
        lambda: text.encode("utf-8", "surrogatepass") + b"\xff\xfe",
        lambda: text.encode("utf-8", "surrogatepass") + b"\0",
    )


def damaged(rng: random.Random, data: bytes) -> bytes:
    """Bytes with one to three damages: cut off, bits turned, pieces lost, doubled, moved, overwritten."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        data = _once(rng, data)
    return data


def _once(rng: random.Random, data: bytes) -> bytes:
    if not data:
        return bytes([rng.randrange(256)])
    where, other = rng.randrange(len(data)), rng.randrange(len(data))
    head = rng.randrange(min(len(data), 64))  # where formats keep their sizes
    length = rng.choice((1, 2, 4, 8, 64, 512))
    number = rng.choice((0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**32 - 1, 2**63 - 1, 2**64 - 1))
    size = rng.choice([s for s in (1, 2, 4, 8) if number < 256**s])
    packed = number.to_bytes(size, rng.choice(("little", "big")))

    def flipped() -> bytes:
        turned = bytearray(data)
        for _ in range(rng.choice((1, 1, 4, 32))):
            turned[rng.randrange(len(turned))] ^= 1 << rng.randrange(8)
        return bytes(turned)

    def put(at: int, piece: bytes) -> bytes:
        return data[:at] + piece + data[at + len(piece) :]

    return pick(
        rng,
        lambda: data[:where],
        lambda: data[:head],
        lambda: data[where:],
        flipped,
        flipped,
        lambda: put(where, packed),
        lambda: put(head, packed),
        lambda: put(where, rng.randbytes(length)),
        lambda: put(where, bytes(length)),
        lambda: data[:where] + data[where + length :],
        lambda: data[:where] + data[other : other + length] + data[where:],
        lambda: data[:where] + b"\0" + data[where:],
        lambda: data + rng.randbytes(length),
        lambda: data + data,
        lambda: b"",
        lambda: rng.randbytes(length),
    )
