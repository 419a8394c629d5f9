"""The app from a photo to a kept clip, as one sheet of browser pictures:

    python -m experiments.app.screencast docs/pictures/app.jpg

needs `pip install handi[app,test]` and a Chromium (apt-get install chromium). It uses the bundled model, the
example photo and seeds 0 and 1, whatever they give.
"""

from __future__ import annotations

import argparse
import io
import shutil
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image
from playwright.sync_api import sync_playwright

from handi.app.page import serve
from handi.app.session import Studio
from handi.generation.requests import GenerationSettings

WIDTH, HEIGHT, SHOWN = 1180, 880, 620  # px: of the browser, and the width of each picture in the sheet
WAIT = 600_000  # ms


def main() -> None:
    """Drive the page and put its pictures together."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as manager:
        page, address = serve(
            Studio(GenerationSettings("mini"), scratch), host="127.0.0.1", port=None, upload_mb=200
        )
        names = ("chromium", "chromium-headless-shell", "google-chrome")
        found = next(filter(None, map(shutil.which, names)), None)
        browser = manager.chromium.launch(executable_path=found, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        tab.set_default_timeout(WAIT)
        tab.goto(address)
        shots = drive(tab)
        browser.close()
        page.close()
    sheet(shots).save(options.out, quality=82, optimize=True)
    print(f"wrote {options.out}")


def drive(tab: Any) -> list[tuple[str, Image.Image]]:
    """From a photo to a kept clip: (what happens, picture) of each step."""
    shots: list[tuple[str, Image.Image]] = []

    def shoot(text: str) -> None:
        tab.wait_for_timeout(1500)
        shots.append((f"{len(shots) + 1}. {text}", Image.open(io.BytesIO(tab.screenshot())).convert("RGB")))

    def says(words: str) -> None:
        tab.wait_for_function("w => document.querySelector('#status').innerText.includes(w)", arg=words)

    tab.locator("#example").click()
    tab.wait_for_selector("#area .painter[data-loads='1']")
    shoot("A photo, and a sentence")
    tab.locator("#propose").click()
    says("The model would move")
    shoot("Where the model would move things")
    box = tab.locator("#area canvas").bounding_box()
    tab.locator("#area [data-tool=erase]").click()
    tab.locator("#area input[type=range]").fill("45")
    stroke(tab, box, [(0.70, 0.30), (0.78, 0.36), (0.85, 0.42), (0.95, 0.50)])
    stroke(tab, box, [(0.0, 0.20), (0.15, 0.20), (0.25, 0.19), (0.5, 0.19)])
    shoot("The cubes shall stay: erased with the brush")
    tab.locator("#generate").click()
    tab.wait_for_function("document.querySelector('#clip-0 video')?.readyState >= 2")
    tab.evaluate("window.scrollTo(0, 0)")
    tab.wait_for_selector("text=/clip 2 of 2: the video/")
    shoot("Two seeds: one is ready, one under way")
    says("Keep the one")
    tab.locator("#keep-1").scroll_into_view_if_needed()
    tab.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    shoot("Side by side")
    tab.locator("#keep-1").click()
    says("Kept:")
    tab.wait_for_function("document.querySelector('#kept video')?.readyState >= 2")
    tab.locator("#kept").scroll_into_view_if_needed()
    tab.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    shoot("Kept, with its files; or go on from its last frame")
    return shots


def stroke(tab: Any, box: dict[str, float], places: list[tuple[float, float]]) -> None:
    """Draw with the mouse; places are shares of the canvas."""
    points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in places]
    tab.mouse.move(*points[0])
    tab.mouse.down()
    for point in points[1:]:
        tab.mouse.move(*point)
    tab.mouse.up()


def sheet(shots: list[tuple[str, Image.Image]]) -> Image.Image:
    """The pictures in two columns, each under its text."""
    tiles = []
    for text, shot in shots:
        size = (SHOWN, round(shot.height * SHOWN / shot.width))
        small = np.asarray(shot.resize(size, Image.Resampling.LANCZOS))
        tile = np.full((small.shape[0] + 44, SHOWN + 12, 3), 255, np.uint8)
        tile[38:-6, 6:-6] = small
        cv2.rectangle(tile, (5, 37), (SHOWN + 6, tile.shape[0] - 6), (200, 205, 215), 1)
        cv2.putText(tile, text, (8, 26), cv2.FONT_HERSHEY_SIMPLEX, 0.62, (30, 35, 45), 1, cv2.LINE_AA)
        tiles.append(tile)
    rows = [np.concatenate(tiles[n : n + 2], axis=1) for n in range(0, len(tiles), 2)]
    return Image.fromarray(np.concatenate(rows))


if __name__ == "__main__":
    main()
