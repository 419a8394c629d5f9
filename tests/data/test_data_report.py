"""The data card and the validator, on clips that `handi prepare`'s own functions wrote."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from helpers.browser import chromium
from helpers.small_footage import clip_of, movie, simple_tools
from PIL import Image

from handi.core.executors import Serial
from handi.data import shards
from handi.data.prepare import write_shards
from handi.data.report import concerns, write_report
from handi.data.sources.common import SourceClips
from handi.data.stages import PrepareSettings
from handi.data.validate import ShardCheck, validate

SETTINGS = PrepareSettings(size=(32, 32), pictures="png", clips_per_shard=2, models={"vae": "test"})
ODD = 'Do <b>5</b> & "more".'


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """Six training clips in three shards, a test clip, and two rejected ones; never changed."""
    folder = tmp_path_factory.mktemp("data")
    video = movie(folder / "a.mp4", frames=80)
    clips = [
        clip_of(video, f"P01.a_{n}", start=n / 2, action=f"Do {n}.", verb="do", noun="it", participant="P01")
        for n in range(5)
    ]
    clips.append(clip_of(video, "odd", action=ODD, verb="<i>", description="Both hands."))
    clips.append(clip_of(video, "short", start=7.0, end=7.3))
    clips.append(clip_of(video, "gone", problem="its video is missing"))
    clips.append(clip_of(video, "z", split="test", participant="P01"))
    found = SourceClips(clips, notes=["12 annotations have no times"])
    write_shards(found, folder / "out", SETTINGS, simple_tools, Serial())
    return folder / "out"


@pytest.fixture
def prepared(whole, tmp_path) -> Path:
    """A copy to damage."""
    shutil.copytree(whole, tmp_path / "copy")
    return tmp_path / "copy"


class Page(HTMLParser):
    """Texts, pictures and addresses of a page; notes tags that are not closed."""

    EMPTY = frozenset(("meta", "img", "br", "rect", "line"))

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[str] = []
        self.sources: list[str] = []
        self.figures = 0
        self.feed(path.read_text(encoding="utf-8"))
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.figures += tag == "figure"
        self.sources += [value for name, value in attributes if name in ("src", "href")]
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.EMPTY:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if data.strip() and "style" not in self.open:
            self.texts.append(data.strip())

    @property
    def text(self) -> str:
        return " ".join(self.texts)


def test_the_card_shows_what_was_prepared(handi, prepared):
    code, _, err = handi("report", prepared, "--samples", 5)
    assert code == 0, err
    page = Page(prepared / "report.html")
    assert re.search(r"train 8 6 2 ", page.text)
    assert re.search(r"test 1 1 0 ", page.text)
    assert "12 annotations have no times" in page.text
    assert "short: has 4 frames, 16 are needed" in page.text
    assert "gone: its video is missing" in page.text
    assert re.search(r"do 5 71\.4 %", page.text)
    assert "Participants in more than one split: P01." in page.text
    assert "1 of 7 kept clips have a full description." in page.text
    assert "Validated" not in page.text
    assert page.figures == 5
    assert ODD in page.text  # escaped, so that a text cannot break the page
    assert "<b>5</b>" not in (prepared / "report.html").read_text()
    assert len(page.sources) == 6  # the samples and the prior mask, all within the page
    for source in page.sources:
        kind, data = source.split(",", 1)
        assert kind == "data:image/jpeg;base64"
        Image.open(io.BytesIO(base64.b64decode(data))).load()


def test_the_worst_come_first(prepared):
    rows = shards.read_clip_rows(prepared).to_pylist()
    calm = {**rows[0], "hands": [1] * 16, "area": 0.2, "uneven": False}
    calm |= {"camera": None, "camera_support": None, "valid": None}
    assert concerns(calm) == []
    for change, words in (
        ({"hands": [0] * 8 + [1] * 8}, "no hand in 8 of 16 frames"),
        ({"area": 0.001}, "a motion area of 0.1 %"),
        ({"area": 0.9}, "a motion area of 90 %"),
        ({"camera": 0.3}, "the camera moves by 30.0 % of the width"),
        ({"camera_support": 0.1}, "a camera motion that cannot be measured"),
        ({"camera": 0.3, "valid": 0.6}, "60 % of the picture in view all the time"),
        ({"uneven": True}, "an uneven frame rate"),
    ):
        found = concerns({**calm, **change})
        assert words in [text for _, text in found]
        assert sum(weight for weight, _ in found) > 0.2
    assert concerns({**calm, "camera": 0.3, "valid": 1.0})[0][0] == 0  # undone
    # In the index one clip is made the worst of all: it must lead the page.
    table = pyarrow.parquet.read_table(prepared / shards.INDEX).to_pylist()
    table[3]["hands"] = [0] * 16
    schema = pyarrow.parquet.read_schema(prepared / shards.INDEX)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(table, schema), prepared / shards.INDEX)
    text = Page(write_report(prepared, samples=4)[0]).text
    captions = re.findall(r"(\S+), (?:train|test), [\d.]+ s, area", text)
    assert captions[0] == table[3]["id"]
    assert len(captions) == 4
    assert "no hand in 16 of 16 frames" in text


def test_a_whole_folder_is_found_whole(handi, whole, tmp_path):
    code, _, err = handi("report", whole, "--validate", "--out", tmp_path / "card.html")
    assert code == 0, err
    assert "is whole" in Page(tmp_path / "card.html").text
    assert not (whole / "report.html").exists()


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 0x40
    path.write_bytes(data)


def rewrite(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def add_shard(folder: Path) -> None:
    for suffix in ("tar", "jsonl"):
        shutil.copy(folder / f"shards/train-00000.{suffix}", folder / f"shards/train-00009.{suffix}")


def append(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")


def forget_line(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(lines[:1] + lines[2:]), encoding="utf-8")


def forget_row(path: Path) -> None:
    table = pyarrow.parquet.read_table(path)
    pyarrow.parquet.write_table(table.slice(0, len(table) - 1), path)


def brighten(path: Path) -> None:
    prior = np.asarray(Image.open(path)).copy()
    prior[3, 3] ^= 1
    Image.fromarray(prior).save(path)


TRAIN, TEST, MANY = "shards/train-00000.tar", "shards/test-00000.tar", "shards/train-00001.tar"
DAMAGES = [  # (file, what is done to it, what must be said)
    (TRAIN, lambda path: flip(path, 700), "train-00000.tar, clip P01.a_0: .*changed"),
    (TEST, lambda path: flip(path, 2000), "test-00000.tar, clip z: .*changed"),
    (MANY, cut_off, "train-00001.tar: .*not as long"),
    (MANY, Path.unlink, "train-00001.tar: is missing"),
    (TEST, append, "test-00000.tar: .*not as long"),
    ("shards/train-00002.jsonl", Path.unlink, "there should be 5|train-00002.jsonl: .*damaged"),
    ("shards/train-00000.jsonl", lambda path: rewrite(path, '"Do 0."', '"Do 9."'), "train-00000.jsonl: "),
    (".", add_shard, "holds 6 shards, there should be 5"),
    (
        "ledger.jsonl",
        lambda path: rewrite(path, '"Do 1."', '"Do 7."'),
        "ledger.jsonl: is not what .* say, from line 3 on",
    ),
    ("ledger.jsonl", forget_line, "ledger.jsonl: "),
    ("ledger.jsonl", cut_off, "ledger.jsonl: is not what .* say, from line 9 on"),
    ("index.parquet", forget_row, "index.parquet: is not what .* say, from line 7 on"),
    ("index.parquet", lambda path: path.write_bytes(b"PAR1 no"), "index.parquet: cannot be read"),
    ("prior_mask.png", brighten, "prior_mask.png: is not what .* say, from line 4 on"),
    ("prior_mask.png", Path.unlink, "prior_mask.png: cannot be read"),
    ("prepared.json", lambda path: rewrite(path, '"kept": 6', '"kept": 5'), "says 5 for kept of train"),
    (
        "statistics.json",
        lambda path: rewrite(path, '"do": 5', '"do": 4'),
        "statistics.json: is not what .* say",
    ),
    ("statistics.json", lambda path: rewrite(path, '"area": ', '"aria": '), "statistics.json: is not as it"),
    ("statistics.json", lambda path: path.write_text("[1]"), "statistics.json: is not what .* say"),
    ("settings.json", lambda path: rewrite(path, '"measure"', '"ignore"'), "settings.json: is not as it was"),
    (
        "prepared.json",
        lambda path: rewrite(path, "12 annotations", "99 annotations"),
        "prepared.json: is not",
    ),
    (
        "ledger.jsonl",
        lambda path: rewrite(path, "its video is missing", "gone"),
        "ledger.jsonl: is not what .* say",
    ),
    (
        "ledger.jsonl",
        lambda path: rewrite(path, '"id":"P01.a_1"', '"id":"P01.a_11"'),
        "ledger.jsonl: is not what .* say",
    ),
    ("index.parquet", lambda path: flip(path, 60), "index.parquet: "),
    ("shards", shutil.rmtree, "shards: holds 0 shards"),
]


@pytest.mark.parametrize(("file", "damage", "words"), DAMAGES)
def test_every_damage_is_found_and_named(prepared, file, damage, words):
    damage(prepared / file)
    found = [str(item) for item in validate(prepared)]
    assert any(re.search(words, text) for text in found), found


def test_a_damaged_part_is_not_taken_for_damage_of_every_clip_after_it(prepared):
    (prepared / "shards/train-00000.jsonl").write_text("{}")
    found = [str(item) for item in validate(prepared)]
    assert any("train-00000.jsonl: is damaged" in text for text in found)
    assert not any("ledger" in text for text in found), found


def test_clips_that_hash_well_but_say_something_else_are_found(whole, tmp_path):
    """As a faulty writer would leave them: the hash is that of wrong content."""
    row = shards.read_clip_rows(whole, "test").to_pylist()[0]
    (ledger,) = [line for line in shards.read_ledger(whole) if line["id"] == "z"]
    ledger = {**ledger, **{name: row[name] for name in shards.PLACE}}
    members = shards.read_piece(whole, row)
    reading = ShardCheck(whole, shards.read_prepared(whole))
    assert list(reading._content(ledger, members)) == []
    hands = dict(shards.decode_array(members["hands.npz"]))
    blind = {**hands, "visible": np.zeros_like(hands["visible"])}
    lost = {**hands, "joints": np.full_like(hands["joints"], np.nan)}
    latents = shards.decode_array(members["latents.npy"]).copy()
    latents[3] = np.inf
    small = shards.encode_picture(np.zeros((16, 32, 3), np.uint8), "png")
    for change, words in (
        ({"hands.npz": shards.encode_arrays(blind)}, "hands are not those of its line"),
        ({"hands.npz": shards.encode_arrays(lost)}, "joints are not 16×42×2 finite"),
        (
            {"area.png": shards.encode_picture(np.full((32, 32), 255, np.uint8), "png")},
            "motion area is 1.0000",
        ),
        ({"area.png": shards.encode_picture(np.full((32, 32), 9, np.uint8), "png")}, "no mask of 32×32"),
        ({"05.png": small}, "frame 05.png is 16×32×3"),
        ({"latents.npy": shards.encode_array(latents)}, "latents.npy is .* or not finite"),
        ({"json": json.dumps({"id": "y"}).encode()}, "not its line of the ledger"),
        ({"virus.exe": b""}, "holds virus.exe"),
    ):
        found = list(reading._content(ledger, {**members, **change}))
        assert len(found) == 1, found
        assert re.search(words, found[0])


def test_damage_fails_the_command_and_stands_on_the_page(handi, prepared):
    flip(prepared / "shards/train-00000.tar", 700)
    code, _, err = handi("report", prepared, "--validate")
    assert code == 1
    assert "train-00000.tar, clip P01.a_0" in err
    assert "Traceback" not in err
    assert "1 damages:" in Page(prepared / "report.html").text


def test_clips_without_frames_and_clips_that_cannot_be_read_are_shown_as_far_as_they_can(tmp_path):
    video = movie(tmp_path / "a.mp4", frames=40)
    clips = [clip_of(video, "a"), clip_of(video, "b")]
    settings = PrepareSettings(size=(32, 32), pictures="none", clips_per_shard=1, models={"vae": "test"})
    write_shards(SourceClips(clips), tmp_path / "out", settings, simple_tools, Serial())
    assert validate(tmp_path / "out") == []
    (tmp_path / "out/shards/train-00001.tar").write_bytes(b"")
    page = Page(write_report(tmp_path / "out")[0])
    assert page.figures == 2
    assert "cannot be shown" in page.text
    assert len(page.sources) == 2  # one strip, on grey, and the prior mask


def test_a_line_without_what_the_card_shows_is_one_clear_error(handi, prepared):
    rewrite(prepared / "ledger.jsonl", '"camera":', '"camel":')
    code, _, err = handi("report", prepared)
    assert code == 1
    assert "ledger.jsonl: the line of clip z is damaged (KeyError: 'camera')" in err


def test_what_is_no_prepared_folder_is_one_clear_line(handi, tmp_path):
    code, _, err = handi("report", tmp_path, "--validate")
    assert code == 1
    assert "holds no prepared clips" in err
    assert handi("report", tmp_path, "--samples", 0)[0] == 2


def test_a_browser_shows_it(prepared):
    """The page in a headless Chromium: all pictures load, clips play, nothing is fetched or wider than it."""
    path, _ = write_report(prepared)
    with chromium() as browser:
        tab = browser.new_page(viewport={"width": 1100, "height": 900})
        asked: list[str] = []
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto(path.as_uri())
        assert tab.title() == "Data card: copy"
        pictures = tab.evaluate("[...document.images].map(i => i.complete && i.naturalWidth)")
        assert len(pictures) == 8
        assert all(pictures)
        tab.set_viewport_size({"width": 380, "height": 800})
        assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
        tab.set_viewport_size({"width": 1100, "height": 900})
        assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert {url.split(":")[0] for url in asked} <= {"file", "data"}
        film = "document.querySelector('.film img')"
        place = f"new DOMMatrix(getComputedStyle({film}).transform).m41"
        tab.wait_for_function(f"{place} < 0")
        width = tab.evaluate("document.querySelector('.film').clientWidth")
        assert tab.evaluate(f"{film}.naturalWidth") == 16 * width  # all sixteen frames
        assert tab.evaluate(place) % width == 0  # a whole frame at a time
        tab.locator(".film").first.hover()
        now = tab.evaluate(place)
        tab.wait_for_timeout(300)
        assert tab.evaluate(place) == now


def test_hands_per_frame_are_in_their_order(whole):
    text = Page(write_report(whole, whole / "../order.html")[0]).text
    places = [text.index(f"{count} hand{'' if count == 1 else 's'}") for count in (0, 1, 2)]
    assert places == sorted(places)
    assert text.index("left", places[0]) < text.index("right", places[0])


def test_counts_as_json(handi, whole, tmp_path):
    code, out, err = handi("report", whole, "--json", "--validate", "--out", tmp_path / "card.html")
    assert code == 0, err
    counts = json.loads(out)
    assert counts["report"] == str(tmp_path / "card.html")
    assert counts["kept"] == 7
    assert sum(counts["rejected"].values()) == 2
    assert counts["splits"]["train"]["kept"] == 6
    assert counts["damages"] == []
