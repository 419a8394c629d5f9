"""The lower half of the page: clips side by side, the one that is kept, and the history."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from handi.app.canvas import painted
from handi.app.events import MODEL, QUIET, Updates, begin, failed, report
from handi.app.questions import MOST, Questions
from handi.app.session import Clip, Session
from handi.core.errors import HandiError
from handi.core.inputs import check_prompt
from handi.generation.record import LAST_FRAME
from handi.generation.run import Stopped


class Clips:
    """The clips that the questions lead to. Drawn where it is made; `connect` gives its buttons actions."""

    def __init__(self, questions: Questions) -> None:
        self.questions, self.session, self.status = questions, questions.session, questions.status
        self.shown = gr.State(())  # the clips side by side
        self.kept = gr.State()
        self._draw_clips()
        self._draw_result()

    # ------------------------------------------------------------------------------------ what there is

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

    def connect(self) -> None:
        """Say what happens when a button is pressed."""
        asking = self.questions
        side = [self.shown, self.status, self.history, *self.columns, *self.videos]
        result = [self.kept, self.result, self.best, self.whole, self.about, self.files, self.packed,
                  self.status]  # fmt: skip
        begun = asking.generate.click(begin, self.session, self.status, queue=False, **QUIET)
        begun.then(
            self.on_generate,
            [self.session, *asking.asked, asking.area, asking.count],
            side,
            show_progress_on=self.status,
            **MODEL,
        )
        asking.stop.click(self.on_stop, self.session, self.status, queue=False, **QUIET)
        for number, keep in enumerate(self.keeps):
            keep.click(self.on_keep, [self.session, self.shown, gr.State(number)], result, **QUIET)
        self.history.select(self.on_choose, self.session, result, **QUIET)
        self.further.click(self.on_further, [self.session, self.kept], asking.shown, **QUIET)

    # --------------------------------------------------------------------------------- what buttons do

    def on_generate(
        self,
        session: Session,
        prompt: str,
        seed: int,
        *rest: Any,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 (Gradio finds it by its default)
    ) -> Iterator[Updates]:
        """Both stages, or stage 2 in the area that is painted; each clip is shown as it is ready."""
        *fields, area, count = rest
        clips: list[Clip] = []
        yield self._side(session, clips, "Waiting for the model …")
        try:
            check_prompt(prompt)
            request, settings = self.questions.request(prompt, seed, fields)
            seeds = [int(seed) + number for number in range(int(count))]
            mask = None if session.picture is None else painted(area, session.picture)
            for clip in session.generate(request, seeds, settings, mask, report(progress)):
                clips.append(clip)
                yield self._side(session, clips, f"{len(clips)} of {len(seeds)} clips")
        except Stopped:
            yield self._side(session, clips, f"Stopped; {len(clips)} clips were finished.")
        except (HandiError, OSError) as error:
            yield {**self._side(session, clips, ""), **failed(self.status, error)}
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
        updates = self.questions.photo(session, "Now say what the hands do next.")
        return {**updates, self.questions.prompt: ""}

    # ------------------------------------------------------------------------------------- what is shown

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
        place = clip.folder.relative_to(session.studio.out)
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
