"""`handi app`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

from handi.commands.options import Switch, optional, say


def app(
    out: Path = Path("out/app"),
    model: str = "mini",
    host: str = "127.0.0.1",
    port: Annotated[int | None, optional("INT")] = None,
    upload_limit: int = 200,
    browser: Switch = False,
    device: str = "auto",
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto",
    offload: Switch = False,
    variant: Annotated[str | None, optional("NAME")] = None,
    lora: Annotated[str | None, optional("FILE")] = None,
) -> int:
    """Generate in a browser: choose a photo, say what the hands do, edit the motion area, keep the best clip.

    The page is served to this machine alone until you press Ctrl-C; it loads nothing from elsewhere. Every
    clip goes to a folder in --out, with the files that `handi generate` writes (docs/app.md).

    With the model that ships with handi:
        handi app --browser

    With a model of your own, on a GPU:
        handi app --model runs/epic_stage2/model --device cuda

    Args:
        out: Folder for the clips, in a folder for each browser tab.
        model: As `handi generate` takes it: a folder, a hub id, "mini" or "random".
        host: Address to listen on. 0.0.0.0 lets in everybody who can reach this machine, without a password.
        port: Port to listen on; without it the first free one from 7860.
        upload_limit: Largest photo or video in megabytes.
        browser: Open the page in this machine's browser.
        device: auto, cpu, cuda, cuda:1, mps.
        dtype: Precision; auto is bfloat16 on a GPU, float32 on a CPU.
        offload: Keep only the network that runs on the GPU: slower, and less memory.
        variant: Which of the model's weight files to load, e.g. fp16 for *.fp16.safetensors.
        lora: A LoRA file for the model, as training writes them, or a folder or hub id.
    """
    # Gradio would ask its makers' server for a newer version, and count the visit.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    from handi.core.errors import InputError
    from handi.generation.requests import GenerationSettings

    try:
        from handi.app.page import serve
    except ModuleNotFoundError as error:
        if error.name != "gradio":
            raise
        raise InputError("the app needs Gradio", hint='pip install "handi[app]"') from error
    from handi.app.session import Studio

    if upload_limit < 1:
        raise InputError(f"--upload-limit {upload_limit}", hint="use 1 or more")
    settings = GenerationSettings(
        model=model, variant=variant, lora=lora, device=device, dtype=dtype, offload=offload
    )
    studio = Studio(settings, out)
    try:
        page, address = serve(studio, host=host, port=port, upload_mb=upload_limit, browser=browser)
    except OSError as error:
        raise InputError(f"cannot listen ({error})", hint="use another --port") from error
    if host not in ("127.0.0.1", "localhost", "::1"):
        say(f"note: everybody who can reach {host} can use this page and load this machine")
    say(f"open {address} (Ctrl-C ends it); clips go to {out}")
    page.block_thread()
    return 0
