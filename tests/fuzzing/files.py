"""Damage that knows a format: lines, tables, headers, archives, YAML."""

from __future__ import annotations

import csv
import io
import json
import random
import tarfile
from pathlib import Path
from typing import Any

import yaml

from fuzzing.mutations import TEXTS, damaged, damaged_text, damaged_tree, dumped, encoded, strange


def argument(rng: random.Random) -> str:
    value = strange(rng)
    return (value if isinstance(value, str) else str(value)[:400]).replace("\0", "")


def damaged_lines(rng: random.Random, rows: list[Any]) -> bytes:
    """JSON Lines of which one is damaged as a tree, or all as bytes."""
    if rng.random() < 0.25:
        return damaged(rng, "".join(json.dumps(row) + "\n" for row in rows).encode())
    rows = list(rows)
    number = rng.randrange(len(rows))
    rows[number] = damaged_tree(rng, rows[number])
    if rng.random() < 0.1:
        rows.append(rows[0])
    return encoded(rng, "".join(dumped(rng, row) + "\n" for row in rows))


def damage_json(rng: random.Random, path: Path) -> None:
    """Damage a JSON file as a tree, else as bytes."""
    text = path.read_text(encoding="utf-8")
    if rng.random() < 0.25:
        path.write_bytes(damaged(rng, text.encode()))
    else:
        path.write_bytes(encoded(rng, dumped(rng, damaged_tree(rng, json.loads(text)))))


def damage_file(rng: random.Random, path: Path) -> None:
    """Damage a file by what it is."""
    if rng.random() < 0.05:
        path.unlink()
    elif path.suffix == ".json":
        damage_json(rng, path)
    elif path.suffix == ".jsonl":
        path.write_bytes(damaged_lines(rng, [json.loads(line) for line in path.read_text().splitlines()]))
    elif path.suffix == ".safetensors":
        path.write_bytes(damaged_safetensors(rng, path.read_bytes()))
    else:
        path.write_bytes(damaged(rng, path.read_bytes()))


def damaged_table(rng: random.Random, text: str) -> bytes:
    """A CSV table with strange cells, rows of other lengths, or other quoting."""
    rows = list(csv.reader(io.StringIO(text)))
    for _ in range(rng.choice((1, 1, 2, 4))):
        row = rng.choice(rows)
        if not row:
            continue
        place = rng.randrange(len(row))
        how = rng.randrange(6)
        if how == 0:
            del row[place]
        elif how == 1:
            row.insert(place, rng.choice(TEXTS))
        elif how == 2:
            rows.append(list(row))
        elif how == 3:
            row[place] = damaged_text(rng, row[place])
        else:
            row[place] = argument(rng)
    if rng.random() < 0.1:
        rng.choice(rows).append("z" * 200_000)
    out = io.StringIO()
    delimiter = rng.choice((",", ",", ",", ",", ";", "\t"))
    csv.writer(out, delimiter=delimiter, escapechar="\\").writerows(rows)
    data = encoded(rng, out.getvalue())
    return damaged(rng, data) if rng.random() < 0.15 else data


def damaged_safetensors(rng: random.Random, data: bytes) -> bytes:
    """A safetensors file whose header lies: sizes, offsets, types, names; or plain damage."""
    if rng.random() < 0.3:
        return damaged(rng, data)
    length = int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    if rng.random() < 0.15:
        size = rng.choice((0, 1, length - 1, length + 1, 2**31, 2**63, 2**64 - 1))
        return size.to_bytes(8, "little") + data[8:]
    name = rng.choice([name for name in header if name != "__metadata__"] or ["x"])
    entry = header.setdefault(name, {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]})
    how = rng.randrange(6)
    if how == 0:
        entry["data_offsets"] = rng.choice(([0, 4], [-4, 0], [0, 2**62], [8, 4], [len(body), len(body) + 4]))
    elif how == 1:
        entry["shape"] = rng.choice(([2**40], [-1], [0], [], [2**32, 2**32], [1] * 70))
    elif how == 2:
        entry["dtype"] = rng.choice(("F16", "BF16", "I64", "U8", "BOOL", "F8_E4M3", "F128", ""))
    elif how == 3:
        header[rng.choice(TEXTS).encode("utf-8", "replace").decode()] = header.pop(name)
    elif how == 4:
        del header[name]
    else:
        header = damaged_tree(rng, header)
    text = dumped(rng, header).encode("utf-8", "surrogatepass")
    noise = bytes(rng.choice((0, 0x7F, 0xFF)) for _ in range(8)) if rng.random() < 0.1 else b""
    return len(text).to_bytes(8, "little") + text + (noise + body[8:] if noise else body)


def hostile_tar(rng: random.Random) -> bytes:
    """A tar whose members lead elsewhere."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name in ("../../outside", "/tmp/outside", "one.json", "a/../../b"):
            info = tarfile.TarInfo(name)
            info.type = rng.choice(
                (tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE)
            )
            info.linkname = rng.choice(("/etc/passwd", "../..", "one.json"))
            info.size = 4 if info.isreg() else 0
            tar.addfile(info, io.BytesIO(b"data"))
    return out.getvalue()


def as_yaml(content: Any) -> str:
    try:
        return yaml.safe_dump(content, allow_unicode=True)
    except (RecursionError, yaml.YAMLError):
        return "a: " * 3000


def hostile_yaml(rng: random.Random, text: str) -> str:
    """A recipe with tags, aliases that grow, tabs, merges, doubled keys, or several documents."""
    laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9)
    )
    return rng.choice(
        (
            laughs + text,
            text + laughs,
            text + "name: *a8\n",
            text.replace("stage: stage2", "stage: !!python/object/apply:os.system ['touch ../outside']"),
            text.replace("stage: stage2", "stage: &s [*s]"),
            text + "\n---\n" + text,
            text.replace("  ", "\t"),
            text + text,
            text + "<<: {stage: vae}\n",
            text + "\nrun: {steps: 1_000_000_000_000, out: 2024-01-01}\n",
            text.replace("stage: stage2", "stage: 0o17"),
            text.replace("steps: 1", "steps: 1:30"),
            "? [a, b]\n: c\n" + text,
            "{" * 2000,
            "- " * 2000,
            "!!binary aGk=\n",
            "%YAML 9.9\n---\n" + text,
            text + "\0",
        )
    )
