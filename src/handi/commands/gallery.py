"""`handi gallery`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import tyro

from handi.commands.options import Several, Switch, optional, say, usage


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
    truth: Switch = False,
) -> int:
    """Show methods side by side in one HTML page, all videos in step, as the paper's Figure 6 does.

    The page is one file that opens from disk. Space plays and pauses, left and right go frame by frame, up
    and down from sample to sample, a number shows one method alone.

    Two methods, with samples that a folder or manifest describes:
        handi world --clips 4 --seed 900000 --out data/test
        handi bench table2 --data data/test --methods handi=handi:mini static --out out/table2
        handi gallery --ref data/test --methods out/table2/videos/test/handi out/table2/videos/test/static \\
            --out gallery.html

    With scores, from results/handi/results.json and so on, as `handi evaluate --out results/handi` writes
    them, or from OUT/results/DATA of `handi bench`:
        handi gallery --ref data/test --methods out/table2/videos/test/handi \\
            --results out/table2/results/test --out gallery.html

    What `handi generate --batch` made; several actions from one context image (appendix D):
        handi gallery --methods out/clips --form actions --out actions.html

    Args:
        methods: Folders of videos (ID.mp4, ID/video.mp4, ID/frames/), shown in this order.
        out: The page, a file.
        ref: What the samples are: a folder or manifest as `handi evaluate --ref` takes it, with texts
            and context images. Not needed if `handi generate --batch` wrote the first method's folder.
        results: Folder with one folder per method, called by its name, with its results.json.
        form: methods: a block per sample, a column per method. actions: a block per context image, a column
            per action.
        flow: Motion flow of appendix E, or the picture that the paper's authors publish under that name.
        title: Heading of the page.
        width: Widest that a frame is stored, in pixels.
        ids: Only these samples, in this order.
        truth: Show the true videos of --ref as the first column.
    """
    if truth and ref is None:
        usage("gallery", "--truth needs --ref, the folder of the true videos")
    from handi.evaluation.gallery import GalleryConfig, ShownMethod, build_gallery, read_methods, read_samples

    shown = read_methods(methods, results)
    samples = read_samples(ref, shown, ids, say)
    if truth and ref is not None:
        shown = [ShownMethod("truth", ref, samples), *shown]
    failures = build_gallery(samples, shown, out, GalleryConfig(title, form, flow, width))
    for failure in failures:
        say(f"not shown: {failure}")
    say(f"wrote {out} ({out.stat().st_size / 2**20:.1f} MiB)")
    return 1 if failures else 0
