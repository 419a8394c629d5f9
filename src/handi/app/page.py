"""The page of `handi app`: its two halves, and how it is served."""

from __future__ import annotations

import gradio as gr

from handi.app.clips import Clips
from handi.app.questions import Questions
from handi.app.session import Session, Studio

STYLE = """
.gradio-container { max-width: 1280px !important; margin: auto }
.clip video { image-rendering: pixelated; width: 100%; height: auto; max-height: 420px }
.side { max-width: 320px }
#status { font-weight: 500; padding: 4px 2px }
#history .grid-wrap { padding-top: 36px }
"""


def draw(studio: Studio) -> gr.Blocks:
    """The page for a model. Each tab that opens it has a session of its own."""
    card = studio.card
    with gr.Blocks(title="handi", analytics_enabled=False, delete_cache=(3600, 24 * 3600)) as page:
        session = gr.State(time_to_live=24 * 3600, delete_callback=_close)
        gr.Markdown(
            "# handi\nA photo of hands, one sentence, and the hands do it. "
            f"Model: **{studio.settings.model}**, {card.width}×{card.height}, {card.frames} frames."
        )
        questions = Questions(studio, session)
        clips = Clips(questions)
        page.load(studio.session, None, session, api_visibility="private")
        questions.connect()
        clips.connect()
    return page


def serve(
    studio: Studio, *, host: str, port: int | None, upload_mb: int, browser: bool = False
) -> tuple[gr.Blocks, str]:
    """Serve the page beside the caller, until the page is closed; the page and its address.

    upload_mb: largest upload in megabytes. Raises: OSError where the port is taken.
    """
    page = draw(studio)
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


def _close(session: Session | None) -> None:
    if session is not None:
        session.close()
