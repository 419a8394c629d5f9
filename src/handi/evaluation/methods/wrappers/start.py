"""Start one project's wrapper; see the top of this folder."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import sys
from pathlib import Path


def main() -> None:
    """Load the wrapper, put the checkout first in the import path, and write what the wrapper makes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("project")
    parser.add_argument("--requests", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--options", type=json.loads)
    args = parser.parse_args()
    file = Path(__file__).with_name(f"{args.project}.py")
    spec = importlib.util.spec_from_file_location(f"wrapper_{args.project}", file)
    wrapper = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    spec.loader.exec_module(wrapper)  # type: ignore[union-attr]
    sys.path[0] = os.getcwd()  # not this folder, whose names are those of their modules

    def save(request: dict, clip: object) -> None:
        if isinstance(clip, (str, Path)):
            shutil.move(str(clip), str(args.out / (request["id"] + Path(clip).suffix)))
            return
        from PIL import Image

        folder = args.out / request["id"]
        folder.mkdir()
        for number, frame in enumerate(clip):  # type: ignore[arg-type,var-annotated]
            Image.fromarray(frame).save(folder / f"{number:04d}.png")

    lines = args.requests.read_text(encoding="utf-8").splitlines()
    wrapper.run([json.loads(line) for line in lines], args.options, save)


if __name__ == "__main__":
    main()
