"""`handi gallery`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import tyro

from handi.commands.options import Several, optional, say
from handi.core.errors import InputError


def gallery(
    methods: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=FOLDER …")],
    out: Path,
    ref: Annotated[Path | None, optional("FOLDER")] = None,
    results: Annotated[Path | None, optional("FOLDER")] = None,
    form: Literal["methods", "actions"] = "methods",
    flow: Literal["flow", "authors"] = "flow",
    title: str = "",
    width: int = 448,
    ids: Several = (),
) -> int:
    """Show methods side by side in one HTML page, all videos in step, as the paper's Figure 6 does.

    The page is one file with everything in it and opens from disk. Space plays and pauses, left and right go
    frame by frame, up and down from sample to sample, a number shows one method alone.

    The videos of two methods, of samples that a folder or manifest describes:
        handi world --clips 4 --seed 900000 --out data/test
        handi bench table2 --data data/test --methods handi=handi:mini static --out out/table2
        handi gallery --ref data/test --methods out/table2/videos/test/handi out/table2/videos/test/static \\
            --out gallery.html

    With scores, of results/handi/results.json and so on, as `handi evaluate --out results/handi` writes them
    (or OUT/results/DATA of `handi bench`):
        handi gallery --ref data/test --methods out/table2/videos/test/handi \\
            --results out/table2/results/test --out gallery.html

    What `handi generate --batch` made; several actions from one context image (appendix D):
        handi gallery --methods out/clips --form actions --out actions.html

    Args:
        methods: Folders of videos (ID.mp4, ID/video.mp4, ID/frames/), shown in this order.
        out: The page, a file.
        ref: What the samples are: a folder or manifest as `handi evaluate --ref` takes it, with texts
            and context images. Not needed where `handi generate --batch` wrote the first method's folder.
        results: Folder of one folder a method, called by the method's name, with its results.json.
        form: methods: a block a sample, a column a method. actions: a block a context image, a column an
            action.
        flow: Motion flow of appendix E, or the picture that the paper's authors publish under that name.
        title: Heading of the page.
        width: Widest that a frame is stored, in pixels.
        ids: Only these samples, in this order.
    """
    from handi.evaluation.folder import read_videos
    from handi.evaluation.gallery import Settings, build_gallery
    from handi.evaluation.shown import read_method, samples_of_runs

    if width < 16:
        raise InputError(f"--width {width}", mend="use 16 or more")
    folders = _named(methods)
    shown = []
    for name, folder in folders.items():
        shown.append(read_method(name, folder, None if results is None else _results_of(results / name)))
    if results is not None and not any(method.results for method in shown):
        raise InputError(f"holds no {next(iter(folders))}/results.json or any other method's", where=results)
    samples = samples_of_runs(next(iter(folders.values()))) if ref is None else read_videos(ref, say)
    if ids:
        if unknown := [id for id in ids if id not in samples]:
            raise InputError(f"there is no sample {unknown[0]!r}", where=ref or next(iter(folders.values())))
        samples = {id: samples[id] for id in ids}
    failures = build_gallery(samples, shown, out, Settings(title, form, flow, width))
    for failure in failures:
        say(f"not shown: {failure}")
    say(f"wrote {out} ({out.stat().st_size / 2**20:.1f} MiB)")
    return 1 if failures else 0


def _results_of(folder: Path) -> Path | None:
    """The results.json of a method: in its folder, or where `handi bench` keeps that of whole frames."""
    places = (folder / "results.json", folder / "full-all" / "results.json")
    return next((place for place in places if place.is_file()), None)


def _named(items: tuple[str, ...]) -> dict[str, Path]:
    """("handi=out/a", "out/b") → name → folder. Raises: InputError."""
    found: dict[str, Path] = {}
    for item in items:
        name, equals, folder = item.partition("=")
        if not equals:
            name, folder = Path(item).name, item
        if name in found:
            raise InputError(f"two methods are called {name!r}", mend="write NAME=FOLDER")
        found[name] = Path(folder).expanduser()
    if not found:
        raise InputError("no method is named", mend="write --methods NAME=FOLDER …")
    return found
