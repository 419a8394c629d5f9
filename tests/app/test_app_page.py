"""`handi app` in a browser: from a photo to a kept clip, each button, a painted mask, two users."""

from __future__ import annotations

import base64
import io
import json
import re
import time
import zipfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from helpers.browser import chromium
from helpers.posed_model import hand, moving, posed_model
from PIL import Image

from handi.core.images import read_image, write_image
from handi.core.video import write_video
from handi.generation.requests import GenerationSettings
from handi.hands.pose_files import write_poses
from handi.hands.record import read_joints

FILES = {"video.mp4", "motion_area.png", "motion_area_soft.png", "motion_flow.png", "last_frame.png",
         "run.json"}  # fmt: skip
READY = 60_000  # ms; a busy machine takes its time


@pytest.fixture(scope="module")
def studio(model_folder, tmp_path_factory):
    """The small model, for clips of three frames in a step."""
    pytest.importorskip("gradio", reason="needs Gradio: pip install 'handi[app]'")
    from handi.app.session import Studio

    settings = GenerationSettings(str(model_folder), frames=3, steps=1, area_steps=1)
    return Studio(settings, tmp_path_factory.mktemp("app"))


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium."""
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def address(studio, browser):
    """The page, served to this machine; uploads of 1 MB at most."""
    from handi.app.page import serve

    page, address = serve(studio, host="127.0.0.1", port=None, upload_mb=1)
    assert address.startswith("http://127.0.0.1:")
    yield address
    page.close()


@pytest.fixture
def visit(studio, browser, address):
    """A function that opens the page as another user: (tab, folder of the session). Errors fail the test."""
    with visits(studio, browser, address) as open_page:
        yield open_page


@contextmanager
def visits(studio, browser, address):
    tabs, errors = [], list[str]()

    def open_page():
        before = set(studio.out.iterdir())
        tab = browser.new_context(viewport={"width": 1280, "height": 1500}).new_page()
        tab.set_default_timeout(READY)
        tab.on("pageerror", lambda error: errors.append(str(error)))
        tab.on("request", lambda request: errors.append(request.url) if is_outside(request.url) else None)
        tab.goto(address)
        tab.locator("#example").click()
        tab.wait_for_function("document.querySelector('#prompt textarea').value != ''")
        loaded(tab, 1)
        (folder,) = set(studio.out.iterdir()) - before
        tabs.append(tab)
        return tab, folder

    yield open_page
    for tab in tabs:
        tab.context.close()
    assert not errors


def is_outside(url: str) -> bool:
    return not re.match(r"(http://127\.0\.0\.1:|data:|blob:)", url)


def loaded(tab, times: int) -> None:
    """Wait until the brush shows its n-th picture."""
    tab.wait_for_selector(f"#area .painter[data-loads='{times}']")


def says(tab, words: str) -> None:
    """Wait until the status line says something."""
    tab.wait_for_function(
        "words => document.querySelector('#status').innerText.includes(words)", arg=words, timeout=READY
    )


def generate(tab, folder: Path, clips: int = 1) -> None:
    """Make clips and wait for them: the status line may still say so of the ones before."""
    wanted = len(list(folder.glob("clip-*/run.json"))) + clips
    tab.locator("#count input[type=number]").fill(str(clips))
    tab.locator("#count input[type=number]").press("Tab")
    tab.locator("#generate").click()
    end = time.monotonic() + READY / 1000
    while len(list(folder.glob("clip-*/run.json"))) < wanted:
        assert time.monotonic() < end, tab.locator("#status").inner_text()
        tab.wait_for_timeout(100)
    says(tab, "Keep the one")


def record(folder: Path, number: int = 1) -> dict:
    return json.loads((folder / f"clip-{number}" / "run.json").read_text())


def test_from_a_photo_to_a_kept_clip_and_on(visit, tmp_path):
    tab, folder = visit()
    tab.locator("#propose").click()
    says(tab, "The model would move")
    loaded(tab, 2)
    generate(tab, folder, clips=2)
    for number in (0, 1):
        tab.wait_for_function(f"document.querySelector('#clip-{number} video').readyState >= 2")
        assert tab.evaluate(f"document.querySelector('#clip-{number} video').videoWidth") == 64
    assert not tab.locator("#clip-2").is_visible()
    assert [record(folder, number)["seed"] for number in (1, 2)] == [0, 1]
    assert record(folder)["request"]["mask"]  # the area that was proposed
    assert record(folder)["settings"]["frames"] == 3

    tab.locator("#keep-1").click()
    says(tab, "Kept: Cut the carrot. · seed 1")
    tab.wait_for_function("document.querySelector('#kept video')?.readyState >= 2")
    shown = tab.locator("#files").inner_text()
    assert {path.name for path in (folder / "clip-2").iterdir()} == FILES
    assert all(Path(name).stem in shown for name in FILES)
    with tab.expect_download() as download:
        tab.locator("#zip").click()
    download.value.save_as(tmp_path / "all.zip")
    with zipfile.ZipFile(tmp_path / "all.zip") as archive:
        assert set(archive.namelist()) == {f"clip-2/{name}" for name in FILES}
        assert archive.read("clip-2/video.mp4") == (folder / "clip-2/video.mp4").read_bytes()

    tab.locator("#history button.thumbnail-item, #history .thumbnail-item").first.click()
    says(tab, "Kept: Cut the carrot. · seed 0")
    assert not tab.locator("#sequence").is_visible()

    tab.locator("#go-on").click()
    says(tab, "what the hands do next")
    loaded(tab, 3)
    assert tab.locator("#prompt textarea").input_value() == ""
    tab.locator("#prompt textarea").fill("Put down the knife.")
    generate(tab, folder)
    assert record(folder, 3)["request"]["image"] == str(folder / "clip-1/last_frame.png")
    tab.locator("#keep-0").click()
    tab.wait_for_function("document.querySelector('#sequence video')?.readyState >= 2")
    whole = json.loads((folder / "sequence-to-clip-3/run.json").read_text())
    assert whole["prompts"] == ["Cut the carrot.", "Put down the knife."]
    assert whole["result"]["frames"] == 5


def capsule(shape: tuple[int, int], start, end, radius: float) -> np.ndarray:
    """The pixels whose centres are no farther than `radius` from the way from start to end, (x, y)."""
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    (ax, ay), (bx, by) = start, end
    dx, dy = bx - ax, by - ay
    length = dx * dx + dy * dy
    t = ((x - ax) * dx + (y - ay) * dy) / length if length else np.zeros(shape)
    t = t.clip(0, 1)
    return (x - ax - t * dx) ** 2 + (y - ay - t * dy) ** 2 <= radius**2


class Brush:
    """The mouse on the canvas, and the mask that it must make."""

    def __init__(self, tab, shape: tuple[int, int]) -> None:
        self.tab, self.mask = tab, np.zeros(shape, bool)
        tab.locator("#area canvas").scroll_into_view_if_needed()

    def stroke(self, start, end, *, radius: int, paint: bool = True) -> None:
        """Press at a place of the canvas, move in one go, and let go."""
        self.tab.locator("#area [data-tool=paint]" if paint else "#area [data-tool=erase]").click()
        self.tab.locator("#area input[type=range]").fill(str(radius))
        box = self.tab.evaluate(
            "(() => { const b = document.querySelector('#area canvas').getBoundingClientRect();"
            " return [b.left, b.top, b.width, b.height]; })()"
        )
        height, width = self.mask.shape
        on_page = [(round(box[0] + x * box[2] / width), round(box[1] + y * box[3] / height))
                   for x, y in (start, end)]  # fmt: skip
        mouse = self.tab.mouse
        mouse.move(*on_page[0])
        mouse.down()
        mouse.move(*on_page[1])
        mouse.up()
        hit = [((x - box[0]) * width / box[2], (y - box[1]) * height / box[3]) for x, y in on_page]
        self.mask[capsule(self.mask.shape, *hit, radius)] = paint


def test_a_mask_painted_with_the_mouse_reaches_the_pipeline_pixel_for_pixel(visit, tmp_path):
    tab, folder = visit()
    photo = np.random.default_rng(1).integers(0, 255, (15, 20, 3), dtype=np.uint8).repeat(32, 0).repeat(32, 1)
    write_image(tmp_path / "photo.png", photo)  # 480×640: the canvas has its very pixels
    tab.locator("#upload input[type=file]").set_input_files(tmp_path / "photo.png")
    loaded(tab, 2)
    brush = Brush(tab, (480, 640))
    brush.stroke((100, 120), (420, 300), radius=60)
    brush.stroke((500, 400), (500, 400), radius=31)
    brush.stroke((150, 200), (380, 220), radius=17, paint=False)
    brush.stroke((600, 20), (639, 5), radius=80)
    tab.locator("#area [data-act=undo]").click()
    brush.mask[capsule((480, 640), (600, 20), (639, 5), 90)] = False  # nothing else was near
    generate(tab, folder)
    given = Path(record(folder)["request"]["mask"])
    assert np.array_equal(read_image(given)[..., 0] > 127, brush.mask)
    used = read_image(folder / "clip-1/motion_area.png")[..., 0] > 127
    soft = Image.fromarray(brush.mask.astype(np.float32)).resize(used.shape[::-1], Image.Resampling.BILINEAR)
    assert np.array_equal(used, np.asarray(soft) >= 0.5)
    context, last = read_image(folder / "photo-2.png"), read_image(folder / "clip-1/last_frame.png")
    small = np.asarray(Image.fromarray(context).resize(used.shape[::-1], Image.Resampling.LANCZOS))
    assert np.array_equal(last[~used], small[~used])
    assert not np.array_equal(last[used], small[used])

    generate(tab, folder)  # the painting stays what it is
    assert np.array_equal(read_image(record(folder, 2)["request"]["mask"])[..., 0] > 127, brush.mask)
    tab.locator("#area [data-act=full]").click()
    generate(tab, folder)
    assert (read_image(folder / "clip-3/motion_area.png") == 255).all()
    tab.locator("#area [data-act=clear]").click()
    generate(tab, folder)
    assert record(folder, 4)["request"]["mask"] is None  # the model finds the area itself


def test_uploads_that_are_of_no_use_are_named(visit, tmp_path):
    tab, folder = visit()
    (tmp_path / "broken.png").write_bytes(b"no picture at all")
    tab.locator("#upload input[type=file]").set_input_files(tmp_path / "broken.png")
    says(tab, "broken.png: is not a picture")
    (tmp_path / "cut.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + b"\0" * 400)
    tab.locator("#upload [aria-label='Clear'], #upload .icon-button").first.click()
    tab.locator("#upload input[type=file]").set_input_files(tmp_path / "cut.mp4")
    says(tab, "cut.mp4")
    tab.locator("#prompt textarea").fill("   ")
    tab.locator("#generate").click()
    says(tab, "the prompt is empty")
    tab.locator("#prompt textarea").fill("Cut the carrot.")
    generate(tab, folder)  # the photo that was there before is still the one
    assert record(folder)["request"]["image"] == str(folder / "photo-1.png")


def test_an_upload_that_is_too_large_is_refused(visit, tmp_path):
    tab, folder = visit()
    noise = np.random.default_rng(0).integers(0, 255, (800, 800, 3), dtype=np.uint8)
    write_image(tmp_path / "large.png", noise)
    assert (tmp_path / "large.png").stat().st_size > 2**20
    tab.locator("#upload input[type=file]").set_input_files(tmp_path / "large.png")
    tab.wait_for_selector("text=/exceeds|too large|maximum/i")
    assert [path.name for path in folder.iterdir()] == ["photo-1.png"]


def test_a_frame_of_a_video_is_the_photo(visit, tmp_path):
    tab, folder = visit()
    frames = [np.full((64, 96, 3), value, np.uint8) for value in (40, 90, 140, 190, 240)]
    write_video(tmp_path / "film.mp4", frames)
    tab.locator("#upload input[type=file]").set_input_files(tmp_path / "film.mp4")
    loaded(tab, 2)
    number = tab.locator("#frame input[type=number]")
    assert number.is_visible()
    number.fill("3")
    number.press("Enter")
    tab.locator("#frame input[type=range]").focus()
    tab.keyboard.press("ArrowLeft")
    tab.keyboard.press("ArrowRight")
    loaded(tab, 3)
    shades = [round(read_image(path).mean()) for path in sorted(folder.glob("photo-*.png"))[1:]]
    assert abs(shades[0] - 40) < 6
    assert min(abs(shade - 190) for shade in shades[1:]) < 6


def test_stop_ends_the_run_and_leaves_nothing_half_done(visit):
    tab, folder = visit()
    tab.locator("#settings button").first.click()
    tab.get_by_label("Steps of the video").fill("1000")
    tab.get_by_label("Steps of the video").press("Tab")
    tab.locator("#generate").click()
    tab.wait_for_selector("text=/the video/")  # the pipeline's own progress
    tab.locator("#stop").click()
    says(tab, "Stopped; 0 clips")
    assert [path.name for path in folder.iterdir() if path.name.startswith("clip")] == []
    tab.get_by_label("Steps of the video").fill("2")
    tab.get_by_label("Steps of the video").press("Tab")
    generate(tab, folder)
    assert record(folder)["settings"]["steps"] == 2


def test_two_users_do_not_mix(visit, tmp_path):
    (one, first), (other, second) = visit(), visit()
    write_image(tmp_path / "grey.png", np.full((96, 96, 3), 77, np.uint8))
    other.locator("#upload input[type=file]").set_input_files(tmp_path / "grey.png")
    loaded(other, 2)
    other.locator("#prompt textarea").fill("Wash the plate.")
    one.locator("#generate").click()
    other.locator("#generate").click()
    for tab in (one, other):
        says(tab, "Keep the one")
    assert {record(first, n)["request"]["prompt"] for n in (1, 2)} == {"Cut the carrot."}
    assert {record(second, n)["request"]["prompt"] for n in (1, 2)} == {"Wash the plate."}
    assert record(second)["request"]["image"] == str(second / "photo-2.png")
    one.locator("#keep-0").click()
    says(one, "Kept: Cut the carrot.")
    other.locator("#keep-0").click()
    says(other, "Kept: Wash the plate.")
    for tab, folder in ((one, first), (other, second)):
        source = tab.evaluate("document.querySelector('#kept video').src")
        data = tab.context.request.get(source).body()
        assert data == (folder / "clip-1/video.mp4").read_bytes()


def background(tab) -> np.ndarray:
    """The picture that the brush paints on."""
    source = tab.evaluate("document.querySelector('#area .painter img').src")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))).convert("RGB"))


def test_poses_from_a_file_are_shown_over_the_photo_and_reach_the_pipeline(browser, tmp_path):
    from handi.app.page import serve
    from handi.app.session import Studio

    settings = GenerationSettings(str(posed_model(tmp_path / "model")), steps=1, area_steps=1)
    studio = Studio(settings, tmp_path / "app")
    studio.out.mkdir()
    page, address = serve(studio, host="127.0.0.1", port=None, upload_mb=1)
    write_poses(tmp_path / "mine.json", moving(left=hand(0.4, 0.5)), height=32, width=32, fps=8, by="me")
    (tmp_path / "other.json").write_text("{}")
    with visits(studio, browser, address) as open_page:
        tab, folder = open_page()
        plain = background(tab)
        tab.locator("#area [data-act=full]").click()
        tab.locator("#poses input[type=file]").set_input_files(tmp_path / "mine.json")
        says(tab, "hands will move like this")
        loaded(tab, 2)
        assert not np.array_equal(background(tab), plain)  # the hands are drawn into it
        generate(tab, folder)  # in the area that was painted before
        assert (read_image(folder / "clip-1/motion_area.png") == 255).all()
        given = Path(record(folder)["request"]["poses"])
        assert given == folder / "poses-1.json"
        assert given.read_bytes() == (tmp_path / "mine.json").read_bytes()
        used = read_joints(folder / "clip-1/poses.json")
        assert used.about == {"by": "given"}
        np.testing.assert_allclose(used.joints, moving(left=hand(0.4, 0.5)), atol=1e-4)

        tab.locator("#poses [aria-label='Clear'], #poses .icon-button").first.click()
        says(tab, "The model decides")
        loaded(tab, 3)
        assert np.array_equal(background(tab), plain)
        generate(tab, folder)
        assert record(folder, 2)["request"]["poses"] is None
        tab.locator("#poses input[type=file]").set_input_files(tmp_path / "other.json")
        says(tab, "other.json: is not handi.joints")

        tab.locator("#poses input[type=file]").set_input_files(tmp_path / "mine.json")
        says(tab, "hands will move like this")
        tab.locator("#example").click()  # another photo: poses are of a photo
        says(tab, "Say what the hands do")
        generate(tab, folder)
        assert record(folder, 3)["request"]["poses"] is None
    page.close()


def test_a_model_that_takes_no_poses_asks_for_none(visit):
    tab, _ = visit()
    assert not tab.locator("#poses").is_visible()
