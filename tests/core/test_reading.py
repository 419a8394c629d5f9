"""One reader of text, JSON, JSON Lines, CSV and YAML, and no other way into a user's file."""

from __future__ import annotations

import ast
import json
import time
from pathlib import Path

import pytest

import handi
from handi.core import reading
from handi.core.errors import InputError, ModelError

ROOT = Path(handi.__file__).parent

# What only the reader may call; `json.loads(json.dumps(…))` makes plain values of ours, no file is read.
READERS = {"splitlines", "read_text", "safe_load", "load_all", "full_load"}
NOT_FILES_OF_TEXT = ("Image", "av", "os", "tarfile", "work")  # whose open() gives something else
ALLOWED = {
    ("models/text.py", "json.loads"),  # of a string that the tokenizers package makes
    ("evaluation/methods/__init__.py", "safe_load"),  # of a word of the command line
}


def calls_of(tree: ast.AST) -> list[tuple[int, str]]:
    """(line, name) of the calls by which text would be read past the reader."""
    found = []
    nodes = list(ast.walk(tree))
    copies = [
        node.func
        for node in nodes
        if isinstance(node, ast.Call)
        and any(isinstance(a, ast.Call) and ast.unparse(a.func) == "json.dumps" for a in node.args)
    ]
    for node in nodes:
        reads = isinstance(node, ast.Attribute) and node.attr in ("load", "loads") and node not in copies
        if reads and ast.unparse(node.value) == "json":
            found.append((node.lineno, f"json.{node.attr}"))
        if not isinstance(node, ast.Call):
            continue
        method = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        owner = node.func.value.id if method and isinstance(node.func.value, ast.Name) else ""
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if method in READERS or (owner == "csv" and "eader" in method):
            found.append((node.lineno, method))
        elif "open" in (name, method) and owner not in NOT_FILES_OF_TEXT:
            given = node.args[1:] if name else node.args
            modes = [*given, *(k.value for k in node.keywords if k.arg == "mode")]
            texts = [m.value for m in modes if isinstance(m, ast.Constant) and isinstance(m.value, str)]
            if not modes or any("b" not in mode and "r" in mode for mode in texts):
                found.append((node.lineno, "open for text"))
    return found


def test_text_is_read_in_one_place():
    wrong = []
    for path in sorted(ROOT.rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        # The wrappers run in other projects' environments, which have no handi.
        if name != "core/reading.py" and not name.startswith("evaluation/methods/wrappers/"):
            calls = calls_of(ast.parse(path.read_text(encoding="utf-8")))
            wrong += [f"{name}:{line}: {call}" for line, call in calls if (name, call) not in ALLOWED]
    assert not wrong, "use handi.core.reading: " + ", ".join(wrong)


@pytest.mark.parametrize(
    "code",
    [
        "path.read_text()",
        "text.splitlines()",
        "open(path)",
        "open(path, 'r', encoding='utf-8')",
        "path.open()",
        "path.open(encoding='utf-8')",
        "path.open(mode='r')",
        "json.load(file)",
        "json.loads(text)",
        "map(json.loads, lines)",
        "yaml.safe_load(text)",
        "csv.reader(file)",
    ],
)
def test_the_walk_sees_each_way_to_read_text(code):
    assert len(calls_of(ast.parse(code))) == 1
    assert not calls_of(ast.parse("open(p, 'rb'); p.open('wb'); p.open('a'); json.loads(json.dumps(x))"))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("piece", [1 << 22, 3])
def test_every_marked_encoding_and_line_end_is_read(tmp_path, monkeypatch, encoding, end, piece):
    monkeypatch.setattr(reading, "PIECE", piece if not encoding.startswith("utf-32") else 1 << 22)
    lines = ["Purée « now »", "", "a\u2028b\u0085c\x0bd\x0ce 🥕"]
    path = tmp_path / "a.txt"
    path.write_bytes((end.join(lines) + end).encode(encoding))
    assert reading.read_lines(path) == lines


@pytest.mark.parametrize("piece", [1 << 22, 5])
@pytest.mark.parametrize(
    ("data", "what"),
    [
        (
            "Heat.\nHeat the purée.".encode("cp1252"),
            r"is not UTF-8 text \(byte 0xe9 in line 2, number 13 of it\)",
        ),
        (b"ok\n\xf0\x9f\xa5", r"is not UTF-8 text \(byte 0xf0 in line 2, number 1 of it\)"),
        ("Heat.".encode("utf-16") + b"\0", r"is not UTF-16 text \(byte 0x00 number 13 of the file\)"),
        ("a\nHeat.".encode("utf-16-le"), r"line 1: holds a NUL character"),
        (b"a\nb\nc\0d", r"line 3: holds a NUL character"),
    ],
)
def test_what_is_no_text_is_named_by_file_line_and_byte(tmp_path, monkeypatch, piece, data, what):
    monkeypatch.setattr(reading, "PIECE", piece)
    path = tmp_path / "a.txt"
    path.write_bytes(data)
    with pytest.raises(InputError, match=rf"a\.txt.*{what}; save it as UTF-8"):
        reading.read_text(path)


@pytest.mark.parametrize("name", ["none.txt", ".", "a" * 300, "a\0b", "a\ud800"])
def test_what_is_no_file_is_one_error_of_the_callers_kind(tmp_path, name):
    with pytest.raises(ModelError):
        reading.read_json(tmp_path / name, error=ModelError)


BAD_JSON = [
    ("[" * 100_000, "is nested more than"),
    ("[" * 101 + "]" * 101, "is nested more than 100 levels deep"),
    ('{"a": ' * 500 + "1" + "}" * 500, "is nested more than 100 levels deep"),
    (r'{"a": "x\u0000y"}', r"a NUL in the text 'x\\u0000y'"),
    (r'{"a\ud83d": 1}', r"half a character .* 'a\\ud83d'"),
    ('{"a": 36893488147419103232}', "a number of 66 bits; whole numbers have 64 bits at most"),
    ('{"a": ' + "9" * 5000 + "}", "is not JSON"),
    ('{"a": [1, NaN]}', "holds nan"),
    ('{"a": -Infinity}', "holds -inf"),
    ('{"a": 1e999}', "holds inf"),
    ('{"a": 1', "is not JSON .*: column 8"),
    ("[1]", "is not a JSON object; write"),
]


@pytest.mark.parametrize(("text", "what"), BAD_JSON)
def test_a_line_that_no_code_can_take_is_one_error(tmp_path, text, what):
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 18446744073709551615}\n\n' + text + '\n{"b": "\u2028"}\n', encoding="utf-8")
    (_, first), (number, error), (_, last) = reading.read_jsonl(path)
    assert (first, last, number) == ({"a": 2**64 - 1}, {"b": "\u2028"}, 3)
    assert isinstance(error, InputError)
    with pytest.raises(InputError, match=rf"a\.jsonl, line 3: .*{what}"):
        raise error


def test_numbers_of_annotations_are_finite_or_none():
    given = [1, 2.5, True, None, "3", float("nan"), float("inf"), 10**400, [1]]
    assert [reading.finite(value) for value in given] == [1.0, 2.5, *[None] * 7]


def test_an_array_is_streamed_in_any_marked_encoding(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "PIECE", 16)
    items = [{"n": n, "text": "purée 🥕"} for n in range(20)]
    for encoding in ("utf-8-sig", "utf-16"):
        path = tmp_path / encoding
        path.write_bytes(json.dumps({"videos": items}, ensure_ascii=False).encode(encoding))
        assert list(reading.stream_array(path, "videos")) == items
    path.write_text('{"videos": [' + "[" * 100_000)
    with pytest.raises(InputError, match="nested too deeply"):
        list(reading.stream_array(path, "videos"))


LAUGHS = "a0: &a0 [lol, lol]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 60))
MERGES = "a0: &a0 {k: v}\n" + "".join(f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}\n" for n in range(1, 60))


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (LAUGHS, "its aliases stand for more than 100,000 entries"),
        (MERGES, "its aliases stand for more than 100,000 entries"),
        ("a: &a [*a]", "has an alias that holds itself"),
        ("a: &a {b: *a}", "has an alias that holds itself"),
        ("[" * 1000 + "]" * 1000, "is nested"),
        ("{" * 200 + "}" * 200, "is nested|is not YAML"),
        ("a: [", "is not YAML"),
        ("b:\n  a: 1\n  a: 2", "has the entry 'a' a second time"),
        ("a: 2020-99-99", "is not YAML"),
        ("a: .nan", "holds nan"),
        ("a: 0x1" + "0" * 40, "bits"),
        ("a: !!python/object/apply:os.system [ls]", "is not YAML"),
        ("? [a]\n: 1", "is not YAML"),
        ("# " + "x" * (1 << 20), "characters"),
    ],
)
def test_a_yaml_file_is_refused_quickly_and_in_words(tmp_path, text, what):
    path = tmp_path / "a.yaml"
    path.write_text(text)
    begin = time.perf_counter()
    with pytest.raises(InputError, match=rf"a\.yaml(, line 3)?: .*({what})"):
        reading.read_yaml(path)
    assert time.perf_counter() - begin < 60  # unbounded, the first would take years


def test_plain_aliases_work(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("a: &a [1, 2]\nb: *a\nc: &c {x: 1}\nd: {<<: *c, y: 2}\n")
    assert reading.read_yaml(path) == {"a": [1, 2], "b": [1, 2], "c": {"x": 1}, "d": {"x": 1, "y": 2}}


def test_a_text_is_found_whatever_its_suffix_or_unicode_form(tmp_path):
    (tmp_path / "UP.TXT").write_text("Cut.")
    (tmp_path / "cafe\u0301.txt").write_text("Pour.")  # as macOS writes é
    assert reading.text_beside(tmp_path / "UP.MP4").name == "UP.TXT"
    assert reading.text_beside(tmp_path / "caf\u00e9.mp4").name == "cafe\u0301.txt"
    assert reading.text_beside(tmp_path / "none.mp4") == tmp_path / "none.txt"
