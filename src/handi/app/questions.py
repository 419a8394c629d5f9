"""The upper half of the page: the photo, the sentence, the motion area, the poses, and the settings."""

from __future__ import annotations

from dataclasses import replace
from importlib.resources import files
from typing import Any

import gradio as gr

from handi.app.canvas import canvas, painted
from handi.app.events import MODEL, QUIET, Updates, begin, failed, report
from handi.app.session import Session, Studio
from handi.core.errors import HandiError
from handi.core.inputs import check_prompt
from handi.core.reading import read_text
from handi.generation.mini_check import warning
from handi.generation.requests import ClipRequest, GenerationSettings

MOST = 4  # clips side by side
SENTENCE = "Cut the carrot."


class Questions:
    """What a clip is made from. Drawn where it is made; `connect` gives its fields their actions."""

    def __init__(self, studio: Studio, session: gr.State) -> None:
        self.studio, self.session = studio, session
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                self._draw_questions()
            with gr.Column(scale=3, min_width=420):
                self._draw_area()

    @property
    def asked(self) -> list[Any]:
        """The components whose values `request` reads."""
        return [self.prompt, self.seed, *self.fields]

    @property
    def shown(self) -> list[Any]:
        """The components that `photo` changes."""
        return [self.area, self.poses, self.prompt, self.status]

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
        self.poses = gr.File(
            label="How they move, if you know: a poses.json, or a video of your own hands",
            file_types=[".json", "video"],
            height=120,
            visible=self.studio.takes_poses,
            elem_id="poses",
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
        """Fields for what a page can set, with the model card's values in them; `request` reads them."""
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

    def connect(self) -> None:
        """Say what happens when the fields are used. `generate` and `stop` are the clips' part."""
        photo = [*self.shown, self.frame]
        posed = [self.area, self.poses, self.status]
        self.upload.upload(self.on_upload, [self.session, self.upload], photo, **QUIET)
        self.frame.release(self.on_frame, [self.session, self.upload, self.frame], photo, **QUIET)
        self.example.click(self.on_example, self.session, [*photo, self.upload], **QUIET)
        self.poses.upload(
            self.on_poses,
            [self.session, self.poses, self.area, *self.asked],
            posed,
            show_progress_on=self.status,
            **MODEL,
        )
        self.poses.clear(self.on_no_poses, [self.session, self.area], posed, **QUIET)
        begun = self.propose.click(begin, self.session, self.status, queue=False, **QUIET)
        begun.then(
            self.on_propose,
            [self.session, *self.asked],
            [self.area, self.status],
            show_progress_on=self.status,
            **MODEL,
        )

    # --------------------------------------------------------------------------------- what they do

    def on_upload(self, session: Session, upload: str) -> Updates:
        """A photo or a video was chosen."""
        try:
            frames = session.take(upload)
        except HandiError as error:
            return {**failed(self.status, error), self.frame: gr.Slider(visible=False)}
        most = (frames or 1) - 1
        slider = gr.Slider(0, max(1, most), 0, visible=most > 0)
        return {**self.photo(session), self.frame: slider}

    def on_frame(self, session: Session, upload: str, number: int) -> Updates:
        """Another frame of the video was chosen."""
        try:
            session.take_frame(upload, int(number))
        except HandiError as error:
            return failed(self.status, error)
        return self.photo(session)

    def on_example(self, session: Session) -> Updates:
        """The example photo, with a sentence that suits it."""
        session.take(ClipRequest("example", SENTENCE).image_file)
        hidden = {self.frame: gr.Slider(visible=False), self.upload: None}
        return {**self.photo(session), self.prompt: SENTENCE, **hidden}

    def on_poses(
        self, session: Session, upload: str, area: Any, prompt: str, seed: int, *fields: Any
    ) -> Updates:
        """Poses were chosen: a file of them, or a video of hands."""
        try:
            request, settings = self.request(prompt, seed, fields)
            poses, notes = session.take_poses(upload, request, settings)
        except (HandiError, OSError) as error:
            return {**self.on_no_poses(session, area), **failed(self.status, error)}
        assert session.picture is not None
        said = ["The clip's hands will move like this. Propose the motion area, paint it, or generate."]
        return {
            self.area: canvas(session.picture, painted(area, session.picture), poses),
            self.status: "\n\n".join([*said, *_shown(notes)]),
        }

    def on_no_poses(self, session: Session, area: Any) -> Updates:
        """The poses were taken away: the model has its own again."""
        session.poses = None
        updates: Updates = {self.poses: None, self.status: "The model decides how the hands move."}
        if session.picture is not None:
            updates[self.area] = canvas(session.picture, painted(area, session.picture))
        return updates

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
            check_prompt(prompt)
            request, settings = self.request(prompt, seed, fields)
            output = session.propose(request, settings, report(progress))
        except (HandiError, OSError) as error:
            return failed(self.status, error)
        assert session.picture is not None
        poses = None if output.poses is None else output.poses[0]
        share = output.motion_area[0].mean()
        said = [f"The model would move {share:.0%} of the picture. Edit the area if you like, then generate."]
        return {
            self.area: canvas(session.picture, output.motion_area[0], poses),
            self.status: "\n\n".join([*said, *_shown(output.notes)]),
        }

    # ------------------------------------------------------------------------------------- what is shown

    def request(self, prompt: str, seed: int, fields: Any) -> tuple[ClipRequest, GenerationSettings]:
        """The request and the settings of the page's fields."""
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

    def photo(self, session: Session, said: str = "Say what the hands do, then generate.") -> Updates:
        """Show a photo that is new: nothing is painted on it, and no poses are of it."""
        assert session.picture is not None
        if (strange := warning(session.picture, self.studio.settings.model)) is not None:
            said = f"{said}\n\nNote: {strange}."
        return {self.area: canvas(session.picture), self.poses: None, self.status: said}


def _shown(notes: list[str]) -> list[str]:
    """Those of a run that say more than how the photo was resized."""
    return [f"Note: {note}" for note in notes if not note.endswith(tuple("0123456789"))]
