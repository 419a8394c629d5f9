"""`handi gallery`: what the page holds, and how it behaves in a browser."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
from helpers.bench_data import FRAMES, SIZE, area, clip, write_data, write_frames, write_method
from helpers.browser import chromium
from PIL import Image

from handi.core.images import write_image
from handi.core.video import write_video
from handi.evaluation.folder import read_videos
from handi.evaluation.gallery import GalleryConfig, build_gallery, read_methods
from handi.evaluation.gallery_scores import scores_of
from handi.motion.flow import hsv_first_pair

IDS = ["1", "2"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A data set of two samples; a method that is right, one that is too fast and lacks the second."""
    root = tmp_path_factory.mktemp("gallery")
    write_data(root / "data", IDS)
    write_method(root / "good", IDS)
    write_method(root / "fast", IDS[:1], speed=2)
    return root


@pytest.fixture(scope="module")
def page(folders):
    """The page of both methods, with scores of the first."""

    results = folders / "results/good/results.json"
    results.parent.mkdir(parents=True)
    results.write_text(json.dumps(RESULTS))
    methods = read_methods(
        [f"good={folders / 'good'}", f"a <fast> one={folders / 'fast'}"], folders / "results"
    )
    out = folders / "page.html"
    failures = build_gallery(
        read_videos(folders / "data"), methods, out, GalleryConfig(title="Squares & noise")
    )
    assert [str(failure) for failure in failures] == ["a <fast> one: no video of '2'"]
    return out


RESULTS = {
    "format": "handi-evaluation",
    "version": 1,
    "protocol": {"id": "handi-1", "scope": "full", "subset": "all"},
    "n": 2,
    "refused": {},
    "metrics": {
        "psnr": {"value": 31.416, "interval": [30.0, 32.5], "n": 2, "title": "PSNR", "better": "higher",
                 "per_video": {"1": 30.25, "2": 32.5}},
        "ssim": {"value": 0.75, "interval": None, "n": 1, "title": "SSIM", "better": "higher",
                 "per_video": {"1": 0.75}},
        "fid": {"skipped": "no weights in /home/me/.cache/handi/fid.pt; fetch it",
                "title": "FID", "better": "lower"},
    },
}  # fmt: skip


def pictures(text: str, name: str) -> list[np.ndarray]:
    """The pictures of a page with this alternative text, as arrays."""
    tags = [tag for tag in re.findall(r"<img[^>]*>", text) if f'alt="{name}"' in tag]
    found = [re.search(r'src="data:image/webp;base64,([^"]+)"', tag) for tag in tags]
    assert all(found)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(m[1]))).convert("RGB")) for m in found if m]


def test_the_page_stands_alone_and_holds_every_frame(page):
    text = page.read_text()
    assert not re.search(r'(src|href)="(?!data:)', text)
    assert "http" not in text
    films = pictures(text, "video")
    assert len(films) == 3
    grid = films[0].reshape(4, SIZE, 4, SIZE, 3).transpose(0, 2, 1, 3, 4).reshape(FRAMES, SIZE, SIZE, 3)
    brightness, true = grid.mean(axis=-1), clip(0).mean(axis=-1)  # WebP halves the colours' resolution
    errors = [[np.abs(one - other).mean() for other in true] for one in brightness]
    assert np.argmin(errors, axis=1).tolist() == list(range(FRAMES))
    assert np.diag(errors).max() < 12  # the noise is hard on it; a photo loses far less


def test_the_page_says_what_there_is(page):
    text = page.read_text()
    assert "<h1>Squares &amp; noise</h1>" in text
    assert "a &lt;fast&gt; one" in text
    assert "<fast>" not in text
    assert "<dd>Push square 0.</dd><dt>Enriched</dt><dd>A hand pushes 0.</dd>" in text
    assert text.count("no video of") == 1
    assert "30.25" in text  # a video's score
    assert "31.42 <small>[30.00, 32.50]</small>" in text  # all videos'
    assert "0.7500 <small>n = 1</small>" in text  # fewer than the row's two
    assert text.count("<small>n = ") == 1
    assert "<summary>Not measured: 1</summary>FID: no weights in fid.pt; fetch it<" in text
    assert "/home" not in text
    (mask, _) = pictures(text, "motion area")
    assert ((mask[..., 0] > 127) == area()).mean() > 0.98


def test_the_true_videos_are_the_first_column(handi, folders, tmp_path):
    out = tmp_path / "page.html"
    code, _, err = handi("gallery", "--ref", folders / "data", "--methods", folders / "fast", "--ids", "1",
                         "--truth", "--out", out)  # fmt: skip
    assert code == 0, err
    text = out.read_text()
    assert text.index("truth") < text.index("fast")
    true, fast = pictures(text, "video")
    grids = [film.reshape(4, SIZE, 4, SIZE, 3).transpose(0, 2, 1, 3, 4).reshape(FRAMES, SIZE, SIZE, 3)
             for film in (true, fast)]  # fmt: skip
    grey = [grid.mean(axis=-1) for grid in grids]
    errors = [np.abs(one - clip(0).mean(axis=-1)).mean() for one in grey]
    assert errors[0] < 12 < errors[1]
    assert handi("gallery", "--methods", folders / "fast", "--truth", "--out", out)[0] == 2


def test_motion_flow_lies_where_things_move(page):
    flows = pictures(page.read_text(), "motion flow")
    assert len(flows) == 3
    bright = flows[0].max(axis=2) > 100
    assert bright[22:38, 10:30].mean() > 0.5
    assert bright[:12].mean() < 0.02


def test_a_methods_own_area_and_the_authors_flow(handi, folders, tmp_path):
    own = write_method(tmp_path / "own", ["1"])
    mask = np.zeros((SIZE, SIZE), bool)
    mask[:, :20] = True
    write_image(own / "1/motion_area.png", mask)
    out = tmp_path / "page.html"
    code, _, err = handi("gallery", "--ref", folders / "data", "--methods", own, f"good={folders / 'good'}",
                         "--flow", "authors", "--ids", "1", "--out", out)  # fmt: skip
    assert code == 0, err
    text = out.read_text()
    (shown,) = pictures(text, "motion area")
    assert ((shown[..., 0] > 127) == mask).mean() > 0.98
    flow = pictures(text, "motion flow")[1].astype(int)
    assert np.abs(flow - hsv_first_pair(clip(0))).mean() < 12


def test_several_actions_from_one_context_image(handi, tmp_path):
    context = tmp_path / "scene.png"
    write_image(context, clip(0)[0])
    for id, speed in (("left", 1), ("right", 2)):
        folder = tmp_path / "clips" / id
        write_frames(folder, clip(0, speed=speed))
        request = {"image": str(context), "prompt": f"Push it {id}."}
        (folder / "run.json").write_text(json.dumps({"request": request}))
        write_image(folder / "motion_area.png", area())
    lone = tmp_path / "clips/lone"
    write_frames(lone, clip(1))
    write_image(tmp_path / "other.png", clip(1)[0])
    record = {"request": {"image": str(tmp_path / "other.png"), "prompt": "Wait."}}
    (lone / "run.json").write_text(json.dumps(record))
    out = tmp_path / "actions.html"
    code, _, err = handi("gallery", "--methods", tmp_path / "clips", "--form", "actions", "--out", out)
    assert code == 0, err
    text = out.read_text()
    assert text.count("<section") == 1
    assert len(pictures(text, "video")) == 2
    assert len(pictures(text, "motion area")) == 2
    assert text.index("Push it left.") < text.index("Push it right.")
    assert "Wait." not in text
    shutil.rmtree(tmp_path / "clips/right")
    code, _, err = handi("gallery", "--methods", tmp_path / "clips", "--form", "actions", "--out", out)
    assert code == 1
    assert "no two samples start from one context image" in err


def test_bad_input_is_one_line(handi, folders, tmp_path):
    out = tmp_path / "page.html"
    data, good = folders / "data", folders / "good"
    for arguments, said in (
        (("--ref", data, "--methods", tmp_path / "gone"), "no such folder"),
        (("--methods", good), "run.json"),
        (("--ref", data, "--methods", good, "--ids", "7"), "no sample '7'"),
        (("--ref", data, "--methods", good, "--results", tmp_path), "results.json"),
        (("--ref", data, "--methods", f"x={good}", f"x={good}"), "two methods are called 'x'"),
    ):
        code, _, err = handi("gallery", *arguments, "--out", out)
        assert (code, said in err) == (1, True), err
        assert not out.exists()
    broken = tmp_path / "broken"
    broken.mkdir()
    write_video(broken / "1.mp4", clip(0))
    (broken / "2.mp4").write_bytes((broken / "1.mp4").read_bytes()[:600])
    code, _, err = handi("gallery", "--ref", data, "--methods", broken, "--out", out)
    assert code == 1
    assert err.count("not shown") == 1
    assert "2.mp4" in err


# ----------------------------------------------------------------------------------------- browser


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium."""
    with chromium() as browser:
        yield browser


@pytest.fixture
def tab(browser, page):
    """The page, opened from disk; an error in it fails the test."""
    tab = browser.new_page(viewport={"width": 1200, "height": 900})
    errors: list[str] = []
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.on("request", lambda request: errors.append(request.url) if request.url.startswith("http") else None)
    tab.goto(page.as_uri())
    yield tab
    tab.close()
    assert not errors


def frame_of(tab) -> int:
    return int(tab.evaluate("document.body.dataset.frame"))


def seen(tab, number: int) -> np.ndarray:
    """What the window of a film shows, SIZE×SIZE."""
    shot = Image.open(io.BytesIO(tab.locator(".film").nth(number).screenshot())).convert("RGB")
    return np.asarray(shot.resize((SIZE, SIZE), Image.Resampling.BOX)).astype(int)


def shows(tab, number: int, frames: np.ndarray) -> int:
    """The frame that a film shows, by its pixels."""
    return int(np.abs(seen(tab, number) - frames).mean(axis=(1, 2, 3)).argmin())


def test_it_plays_in_step_and_space_stops_it(tab):
    assert tab.evaluate("document.body.dataset.playing") == "true"
    tab.wait_for_function("Number(document.body.dataset.frame) >= 3")
    tab.keyboard.press(" ")
    assert tab.evaluate("document.body.dataset.playing") == "false"
    now = frame_of(tab)
    tab.wait_for_timeout(400)  # three frames' time
    assert frame_of(tab) == now
    good, fast = clip(0), clip(0, speed=2)
    assert shows(tab, 0, good) == shows(tab, 1, fast) == now


def test_arrows_go_frame_by_frame_and_round(tab):
    tab.keyboard.press("Home")
    for expected in (1, 2, 3):
        tab.keyboard.press("ArrowRight")
        assert frame_of(tab) == expected
        assert shows(tab, 0, clip(0)) == shows(tab, 1, clip(0, speed=2)) == expected
        assert shows(tab, 2, clip(1)) == expected  # the other sample
    tab.keyboard.press("Home")
    tab.keyboard.press("ArrowLeft")
    assert frame_of(tab) == FRAMES - 1
    assert shows(tab, 0, clip(0)) == FRAMES - 1
    assert tab.locator("#shown").inner_text() == f"{FRAMES} / {FRAMES}"
    assert tab.locator("#frame").input_value() == str(FRAMES - 1)


def test_numbers_show_one_method_alone(tab):
    films = tab.locator(".film")
    wide = films.nth(0).bounding_box()["width"]
    tab.keyboard.press("2")
    assert not films.nth(0).is_visible()
    assert films.nth(1).is_visible()
    assert films.nth(1).bounding_box()["width"] > 1.2 * wide
    tab.keyboard.press("0")
    assert films.nth(0).is_visible()
    tab.keyboard.press("9")  # there is no such method
    assert films.nth(0).is_visible()


def test_up_and_down_go_from_sample_to_sample(tab):
    current = "[...document.querySelectorAll('.sample')].findIndex(s => s.classList.contains('current'))"
    assert tab.evaluate(current) == 0
    tab.keyboard.press("ArrowDown")
    tab.keyboard.press("ArrowDown")
    assert tab.evaluate(current) == 1
    tab.keyboard.press("ArrowUp")
    assert tab.evaluate(current) == 0


def test_buttons_do_what_keys_do(tab):
    tab.locator("#play").click()
    assert tab.evaluate("document.body.dataset.playing") == "false"
    tab.keyboard.press(" ")  # the button has the focus: it must not hear the key as well
    assert tab.evaluate("document.body.dataset.playing") == "true"
    tab.locator("#frame").fill("7")
    assert frame_of(tab) == 7
    assert shows(tab, 0, clip(0)) == 7


MARKUP = "<script>alert(1)</script>"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"n": MARKUP}, "n is"),
        ({"metrics": {"psnr": {"value": MARKUP, "n": 2, "title": "P", "better": "higher"}}}, "value is"),
        ({"metrics": {"psnr": {"value": 1.0, "n": MARKUP, "title": "P", "better": "higher"}}}, "n is"),
        ({"metrics": {"psnr": {"value": 1.0, "n": 2, "title": "P", "better": MARKUP}}}, "better is"),
        ({"metrics": {"psnr": {"value": 1.0, "n": 2, "title": "P", "better": "lower",
                               "per_video": {"1": MARKUP}}}}, "a score is no number"),
        ({"metrics": {"psnr": {"value": 1.0, "n": 2, "title": "P", "better": "lower",
                               "interval": [0, MARKUP]}}}, "a score is no number"),
        ({"metrics": [1]}, "metrics is"),
        ({"refused": None}, "refused is"),
        ({"protocol": {}}, "KeyError: 'id'"),
    ],
)  # fmt: skip
def test_results_of_other_kinds_are_refused_by_name(change, said, folders, tmp_path, handi):
    (tmp_path / "good").mkdir()
    (tmp_path / "good" / "results.json").write_text(json.dumps(RESULTS | change))
    code, _, err = handi("gallery", "--ref", folders / "data", "--methods", f"good={folders / 'good'}",
                         "--results", tmp_path, "--out", tmp_path / "page.html")  # fmt: skip
    assert code == 1
    assert f"results.json: is damaged ({'' if 'Key' in said else 'TypeError: '}" in err or "ValueError" in err
    assert said in err
    assert not (tmp_path / "page.html").exists()


def test_texts_of_a_results_file_are_text_in_the_page(folders, tmp_path):

    evil = MARKUP + "{{script}}"
    metric = {"value": 1.0, "n": 2, "title": evil, "better": "lower", "per_video": {"1": 2.0}}
    skipped = {"skipped": evil, "title": evil, "better": "lower"}
    results = RESULTS | {
        "protocol": {"id": evil, "scope": evil},
        "refused": {"2": evil},
        "metrics": {evil: metric, "other": skipped},
    }
    (tmp_path / evil).mkdir(parents=True)
    (tmp_path / evil / "results.json").write_text(json.dumps(results))
    out = tmp_path / "page.html"
    samples = {id: replace(entry, text=evil, description=evil)
               for id, entry in read_videos(folders / "data").items()}  # fmt: skip
    methods = read_methods([f"{evil}={folders / 'good'}"], tmp_path)
    build_gallery(samples, methods, out, GalleryConfig(title=evil))
    text = out.read_text()
    assert MARKUP not in text
    assert text.count("{{script}}") > 8  # as it was written, not the page's script again


def test_scores_of_two_methods_stand_in_the_same_lines():
    def result(**scores: float) -> dict:
        metrics = {name: {"title": name.upper(), "per_video": {"1": value}} for name, value in scores.items()}
        return {"refused": {}, "metrics": metrics}

    assert scores_of([None, result(psnr=20.0, flow=0.5), result(err=0.1, psnr=21.0)], "1") == [
        [],
        [("PSNR", 20.0), ("FLOW", 0.5), ("ERR", None)],
        [("PSNR", 21.0), ("FLOW", None), ("ERR", 0.1)],
    ]
    assert scores_of([None, result(psnr=20.0)], "2") == []


def test_nothing_is_wider_than_a_narrow_window(browser, page):
    tab = browser.new_page(viewport={"width": 380, "height": 800})
    tab.goto(page.as_uri())
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert not tab.locator("details.note").evaluate("folded => folded.open")
    tab.close()
