"""The page of `handi app`: what is on it, and what its buttons do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.resources import files
from typing import Any

import gradio as gr

from handi.app.canvas import canvas, painted
from handi.app.session import Clip, Report, Session, Studio
from handi.core.errors import HandiError, expected
from handi.core.inputs import check_prompt
from handi.core.reading import read_text
from handi.generation.mini_check import warning
from handi.generation.record import LAST_FRAME
from handi.generation.requests import ClipRequest, GenerationSettings
from handi.generation.run import Stopped

MOST = 4  # clips side by side
SENTENCE = "Cut the carrot."
STYLE = """
.gradio-container { max-width: 1280px !important; margin: auto }
.clip video { image-rendering: pixelated; width: 100%; height: auto; max-height: 420px }
.side { max-width: 320px }
#status { font-weight: 500; padding: 4px 2px }
#history .grid-wrap { padding-top: 36px }
"""
# One at a time, whichever button it was: the others wait their turn.
MODEL: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "model", "api_visibility": "private"}
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}

Updates = dict[Any, Any]  # component → what it becomes


class Page:
    """The page for a model. Each tab that opens it has a session of its own."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        card = studio.card
        with gr.Blocks(title="handi", analytics_enabled=False, delete_cache=(3600, 24 * 3600)) as self.blocks:
            self.session = gr.State(time_to_live=24 * 3600, delete_callback=_close)
            self.shown = gr.State(())  # the clips side by side
            self.kept = gr.State()
            gr.Markdown(
                "# handi\nA photo of hands, one sentence, and the hands do it. "
                f"Model: **{studio.settings.model}**, {card.width}×{card.height}, {card.frames} frames."
            )
            with gr.Row():
                with gr.Column(scale=2, min_width=320):
                    self._draw_questions()
                with gr.Column(scale=3, min_width=420):
                    self._draw_area()
            self._draw_clips()
            self._draw_result()
            self._connect()

    # ------------------------------------------------------------------------------------ what there is

    def _draw_questions(self) -> None:
        self.upload = gr.File(
            label="1 · A photo, or a video to take a frame of",
            file_types=["image", "video"],
            height=170,
            elem_id="upload",
        )
        self.frame = gr.Slider(0, 1, 0, step=1, label="Frame of the video", visible=False, elem_id="frame")
        self.example = gr.Button("Take the example photo", size="sm", elem_id="example")
        self.prompt = gr.Textbox(
            label="2 · What the hands do, in one sentence", placeholder=SENTENCE, elem_id="prompt"
        )
        self.propose = gr.Button("3 · Propose the motion area", elem_id="propose")
        with gr.Row():
            self.count = gr.Slider(1, MOST, 2, step=1, label="Clips", elem_id="count")
            self.seed = gr.Number(0, label="First seed", precision=0, elem_id="seed", min_width=90)
        with gr.Accordion("Settings", open=False, elem_id="settings"):
            self._draw_settings()
        with gr.Row():
            self.generate = gr.Button("4 · Generate", variant="primary", elem_id="generate")
            self.stop = gr.Button("Stop", variant="stop", elem_id="stop")
        self.status = gr.Markdown("Choose a photo to begin.", elem_id="status", min_height=72)

    def _draw_settings(self) -> None:
        """Fields for what a page can set, with the model card's values in them; `_settings` reads them."""
        card, given = self.studio.card, self.studio.settings
        stage1, stage2 = card.stage1 or card.stage2, card.stage2

        def number(label: str, set_: float | None, default: float, *, whole: bool = True) -> gr.Number:
            return gr.Number(
                default if set_ is None else set_, label=label, precision=0 if whole else None, min_width=120
            )

        with gr.Row():
            steps = number("Steps of the video", given.steps, stage2.steps)
            guidance = number("Guidance of the video", given.guidance, stage2.guidance, whole=False)
        with gr.Row():
            area_steps = number("Steps of the area", given.area_steps, stage1.steps)
            area_guidance = number("Guidance of the area", given.area_guidance, stage1.guidance, whole=False)
        with gr.Row():
            frames = number("Frames", given.frames, card.frames)
            motion = number("Motion strength", None, stage2.motion, whole=False)
        restore = gr.Checkbox(given.restore_background, label="Put the photo back outside the motion area")
        self.fields = [steps, guidance, area_steps, area_guidance, frames, motion, restore]

    def _draw_area(self) -> None:
        assets = files("handi.assets") / "app"
        gr.Markdown("The **motion area** (blue): paint where things may move, erase where they may not")
        self.area = gr.HTML(
            html_template=read_text(str(assets / "painter.html")),
            css_template=read_text(str(assets / "painter.css")),
            js_on_load=read_text(str(assets / "painter.js")),
            apply_default_css=False,
            elem_id="area",
        )

    def _draw_clips(self) -> None:
        self.videos: list[gr.Video] = []
        self.columns: list[gr.Column] = []
        self.keeps: list[gr.Button] = []
        with gr.Row():
            for number in range(MOST):
                with gr.Column(min_width=160, visible=False, elem_classes="side") as column:
                    self.columns.append(column)
                    self.videos.append(_player(f"clip-{number}"))
                    self.keeps.append(gr.Button("Keep this one", size="sm", elem_id=f"keep-{number}"))

    def _draw_result(self) -> None:
        with gr.Row(visible=False) as self.result:
            with gr.Column(scale=2, min_width=300):
                self.best = _player("kept", "Kept", buttons=["download"])
                self.whole = _player("sequence", "The whole sequence", buttons=["download"], visible=False)
            with gr.Column(scale=3, min_width=300):
                self.about = gr.Markdown(elem_id="about")
                self.files = gr.File(
                    label="Its files", file_count="multiple", interactive=False, elem_id="files"
                )
                with gr.Row():
                    self.packed = gr.DownloadButton("Download all (zip)", elem_id="zip")
                    self.further = gr.Button("Go on from its last frame", elem_id="go-on")
        self.history = gr.Gallery(
            label="Made in this session: choose one to see it again",
            columns=8,
            fit_columns=False,
            height=230,
            allow_preview=False,
            object_fit="contain",
            buttons=[],
            visible=False,
            elem_id="history",
        )

    def _connect(self) -> None:
        asked = [self.session, self.prompt, self.seed, *self.fields]
        side = [self.shown, self.status, self.history, *self.columns, *self.videos]
        result = [self.kept, self.result, self.best, self.whole, self.about, self.files, self.packed,
                  self.status]  # fmt: skip
        photo = [self.area, self.frame, self.prompt, self.status]
        self.blocks.load(self.studio.session, None, self.session, api_visibility="private")
        self.upload.upload(self.on_upload, [self.session, self.upload], photo, **QUIET)
        self.frame.release(self.on_frame, [self.session, self.upload, self.frame], photo, **QUIET)
        self.example.click(self.on_example, self.session, [*photo, self.upload], **QUIET)
        for button, action, inputs, outputs in (
            (self.propose, self.on_propose, asked, [self.area, self.status]),
            (self.generate, self.on_generate, [*asked, self.area, self.count], side),
        ):
            begun = button.click(_begin, self.session, self.status, queue=False, **QUIET)
            begun.then(action, inputs, outputs, show_progress_on=self.status, **MODEL)
        self.stop.click(self.on_stop, self.session, self.status, queue=False, **QUIET)
        for number, keep in enumerate(self.keeps):
            keep.click(self.on_keep, [self.session, self.shown, gr.State(number)], result, **QUIET)
        self.history.select(self.on_choose, self.session, result, **QUIET)
        self.further.click(
            self.on_further, [self.session, self.kept], [self.area, self.prompt, self.status], **QUIET
        )

    # --------------------------------------------------------------------------------- what buttons do

    def on_upload(self, session: Session, upload: str) -> Updates:
        """A photo or a video was chosen."""
        try:
            frames = session.take(upload)
        except HandiError as error:
            return {**self._failed(error), self.frame: gr.Slider(visible=False)}
        most = (frames or 1) - 1
        slider = gr.Slider(0, max(1, most), 0, visible=most > 0)
        return {**self._photo(session), self.frame: slider}

    def on_frame(self, session: Session, upload: str, number: int) -> Updates:
        """Another frame of the video was chosen."""
        try:
            session.take_frame(upload, int(number))
        except HandiError as error:
            return self._failed(error)
        return self._photo(session)

    def on_example(self, session: Session) -> Updates:
        """The example photo, with a sentence that suits it."""
        session.take(ClipRequest("example", SENTENCE).image_file)
        hidden = {self.frame: gr.Slider(visible=False), self.upload: None}
        return {**self._photo(session), self.prompt: SENTENCE, **hidden}

    def on_propose(
        self,
        session: Session,
        prompt: str,
        seed: int,
        *fields: Any,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 (Gradio finds it by its default)
    ) -> Updates:
        """Stage 1 alone."""
        try:
            request, settings = self._asked(prompt, seed, fields)
            output = session.propose(request, settings, _report(progress))
        except (HandiError, OSError) as error:
            return self._failed(error)
        assert session.picture is not None
        poses = None if output.poses is None else output.poses[0]
        share = output.motion_area[0].mean()
        said = [f"The model would move {share:.0%} of the picture. Edit the area if you like, then generate."]
        return {
            self.area: canvas(session.picture, output.motion_area[0], poses),
            self.status: "\n\n".join([*said, *_notes(output.notes)]),
        }

    def on_generate(
        self,
        session: Session,
        prompt: str,
        seed: int,
        *rest: Any,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> Iterator[Updates]:
        """Both stages, or stage 2 in the area that is painted; each clip is shown as it is ready."""
        *fields, area, count = rest
        clips: list[Clip] = []
        yield self._side(session, clips, "Waiting for the model …")
        try:
            request, settings = self._asked(prompt, seed, fields)
            seeds = [int(seed) + number for number in range(int(count))]
            mask = None if session.picture is None else painted(area, session.picture)
            for clip in session.generate(request, seeds, settings, mask, _report(progress)):
                clips.append(clip)
                yield self._side(session, clips, f"{len(clips)} of {len(seeds)} clips")
        except Stopped:
            yield self._side(session, clips, f"Stopped; {len(clips)} clips were finished.")
        except (HandiError, OSError) as error:
            yield {**self._side(session, clips, ""), **self._failed(error)}
        else:
            yield self._side(session, clips, "Keep the one that you like best.")

    def on_stop(self, session: Session) -> Updates:
        """Stop what runs for this tab, after the step that it is in."""
        session.stop()
        return {self.status: "Stopping …"}

    def on_keep(self, session: Session, shown: tuple[Clip, ...], number: int) -> Updates:
        """One of the clips side by side is the one."""
        return self._kept(session, shown[number]) if number < len(shown) else {}

    def on_choose(self, session: Session, event: gr.SelectData) -> Updates:
        """One of the history."""
        return self._kept(session, session.clips[event.index])

    def on_further(self, session: Session, clip: Clip) -> Updates:
        """The kept clip's last frame is the next one's photo."""
        session.go_on(clip)
        return {**self._photo(session, "Now say what the hands do next."), self.prompt: ""}

    # ------------------------------------------------------------------------------------- what is shown

    def _asked(self, prompt: str, seed: int, fields: Any) -> tuple[ClipRequest, GenerationSettings]:
        """The request and the settings of the page's fields. Raises: HandiError."""
        check_prompt(prompt)
        steps, guidance, area_steps, area_guidance, frames, motion, restore = fields
        settings = replace(
            self.studio.settings,
            steps=steps,
            guidance=guidance,
            area_steps=area_steps,
            area_guidance=area_guidance,
            frames=frames,
            restore_background=restore,
        )
        return ClipRequest("", prompt.strip(), seed=int(seed or 0), motion=motion), settings

    def _photo(self, session: Session, said: str = "Say what the hands do, then generate.") -> Updates:
        assert session.picture is not None
        if (strange := warning(session.picture, self.studio.settings.model)) is not None:
            said = f"{said}\n\nNote: {strange}."
        return {self.area: canvas(session.picture), self.status: said}

    def _side(self, session: Session, clips: list[Clip], said: str) -> Updates:
        """The clips that are ready, side by side, and the history."""
        updates: Updates = {self.shown: tuple(clips), self.status: said}
        for number, (column, video) in enumerate(zip(self.columns, self.videos, strict=True)):
            there = number < len(clips)
            updates[column] = gr.Column(visible=there)
            if there:
                seed = clips[number].part.request.seed
                updates[video] = gr.Video(str(clips[number].video), label=f"Seed {seed}")
        made = [(str(clip.folder / LAST_FRAME), clip.title) for clip in session.clips]
        updates[self.history] = gr.Gallery(made, visible=bool(made))
        return updates

    def _kept(self, session: Session, clip: Clip) -> Updates:
        """A clip with all that belongs to it."""
        whole = session.joined(clip)
        place = clip.folder.relative_to(self.studio.out)
        return {
            self.kept: clip,
            self.result: gr.Row(visible=True),
            self.best: str(clip.video),
            self.whole: gr.Video(None if whole is None else str(whole), visible=whole is not None),
            self.about: f"### {clip.title}\nIn `{place}`, as `handi generate` writes it.",
            self.files: [str(path) for path in clip.files()],
            self.packed: gr.DownloadButton(value=str(session.packed(clip))),
            self.status: f"Kept: {clip.title}",
        }

    def _failed(self, error: Exception) -> Updates:
        """Say what is wrong, for as long as nothing else happens."""
        known = expected(error)
        if known is None:
            raise error
        gr.Warning(str(known), title="That did not work")
        return {self.status: f"**{known}**"}


def serve(
    studio: Studio, *, host: str, port: int | None, upload_mb: int, browser: bool = False
) -> tuple[gr.Blocks, str]:
    """Serve the page beside the caller, until the page is closed; the page and its address.

    upload_mb: largest upload in megabytes. Raises: OSError where the port is taken.
    """
    page = Page(studio).blocks
    _, address, _ = page.queue(max_size=64).launch(
        server_name=host,
        server_port=port,
        inbrowser=browser,
        share=False,
        quiet=True,
        footer_links=[],
        max_file_size=upload_mb * 2**20,
        allowed_paths=[str(studio.out.resolve())],
        # The browser's own letters: the page loads nothing from elsewhere.
        theme=gr.themes.Soft(primary_hue="orange", font=["system-ui", "sans-serif"], font_mono=["monospace"]),
        css=STYLE,
        prevent_thread_lock=True,
        ssr_mode=False,
    )
    return page, address


def _player(name: str, label: str = "", **more: Any) -> gr.Video:
    more = {"buttons": [], **more}
    return gr.Video(
        label=label,
        autoplay=True,
        loop=True,
        interactive=False,
        elem_id=name,
        elem_classes="clip",
        **more,
    )


def _report(progress: Callable[..., Any]) -> Report:
    def report(what: str, done: int, total: int) -> None:
        progress((done, total), desc=what, unit="steps")

    return report


def _begin(session: Session) -> str:
    session.begin()
    return "Waiting for the model …"


def _close(session: Session | None) -> None:
    if session is not None:
        session.close()


def _notes(notes: list[str]) -> list[str]:
    """Those of a run that say more than how the photo was resized."""
    return [f"Note: {note}" for note in notes if not note.endswith(tuple("0123456789"))]
