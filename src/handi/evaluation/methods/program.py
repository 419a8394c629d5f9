"""Any program as a method: it is given files and a command line, and its videos are read back.

A method file (its paths count from its own folder):

    kind: command
    command: python scripts/infer.py --prompt_dir {inputs} --savedir {out} --seed {seed}
    cwd: ../DynamiCrafter                      where it runs
    output: samples_separate/{id}_sample0.mp4  its video of a clip, seen from {out}
    parameters: 1876000000                     weights, for table 1
    code: https://github.com/…                 whose program it is, and
    weights: model.ckpt                        which weights it has, both for the tables

In `command`, {inputs} is a folder with ID.png of every clip, prompts.txt (a line per clip, in the order of
the pictures' names), requests.jsonl (id, image, prompt, seed, frames) and requests.csv (text, ref); {out} is
an empty folder beside it; {frames} and {seed} are numbers. So the program is started once for all clips. A
command with {image} or {prompt} in it is started for each clip, with {id}, {height} and {width} as well. It
is not read by a shell: it is split into words first, and filled in after that.
"""

from __future__ import annotations

import csv
import json
import os
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Formatter
from typing import Any

from handi.core.errors import HandiError, InputError, failure
from handi.core.files import scratch_folder
from handi.core.images import read_image, write_image
from handi.core.names import alike, hashed_name, safe_name
from handi.core.types import Frames
from handi.data.sources.common import FRAMES
from handi.evaluation.methods.base import GeneratedClip, Origin, Task, conformed, revision_of
from handi.evaluation.videos import Entry

SHARED = {"inputs", "out", "frames", "seed"}
SINGLE = {"image", "prompt", "id", "height", "width"}
OUTPUT = "{id}.mp4"
TAIL = 300  # characters of a program's last words


class Command:
    """A program that generates videos; see the top of this file."""

    uses_ground_truth = ""

    def __init__(
        self, command: str, *, folder: Path = Path(), cwd: str = ".", output: str = OUTPUT,
        parameters: float | None = None, seed: int = 0, code: str = "", weights: str = "",
    ) -> None:  # fmt: skip
        try:
            self.words = shlex.split(command)
        except ValueError as error:
            raise InputError(f"command cannot be split into words ({error})", where=command) from error
        names = _names(command, SHARED | SINGLE, "command")
        if "out" not in names and output == OUTPUT:
            hint = "use {out}, or say in `output` where they lie"
            raise InputError("the command does not say where its videos go", where=command, hint=hint)
        if not self.words:
            raise InputError("the command is empty")
        _names(output, {"id", "number"}, "output")
        self.single = bool(names & SINGLE)
        self.cwd, self.output, self.seed = (folder / cwd).resolve(), output, seed
        self.parameters: int | None = None if parameters is None else int(parameters)
        self.config: Mapping[str, Any] = {
            "kind": "command",
            "command": command,
            "output": output,
            "seed": seed,
        }
        self.origin = Origin(code or self.words[0], revision_of(self.cwd), weights)

    def check(self) -> None:
        """Raises: InputError if its folder or its program is not there."""
        if not self.cwd.is_dir():
            raise InputError("no such folder for the command to run in", where=self.cwd)
        program = self.words[0]
        path = str(self.cwd / program) if os.sep in program else program
        if "{" not in program and shutil.which(path) is None:
            raise InputError("no such program", where=program, hint=f"it runs in {self.cwd}")

    def generate(self, tasks: Iterable[Task]) -> Iterator[GeneratedClip]:
        """Start the program for each task, or once for all. Seconds include its start."""
        for some in ([task] for task in tasks) if self.single else [tasks]:
            yield from self._run(some)

    def _run(self, tasks: Iterable[Task]) -> Iterator[GeneratedClip]:
        with scratch_folder(tempfile.gettempdir()) as scratch:
            inputs, out = scratch / "inputs", scratch / "out"
            inputs.mkdir()
            out.mkdir()
            requests = _write_inputs(tasks, inputs)
            if not requests:
                return
            begin = time.perf_counter()
            last_words = self._start(requests[0], inputs, out)
            seconds = (time.perf_counter() - begin) / len(requests)
            for number, request in enumerate(requests):
                try:
                    frames: Frames | HandiError = self._read(request, number, out, last_words)
                except Exception as error:
                    frames = failure(error)
                yield GeneratedClip(request.id, frames, seconds)

    def _start(self, first: _Request, inputs: Path, out: Path) -> str | None:
        """Run the program to its end; its last words if it failed. Raises: InputError: no such program."""
        values = {
            "inputs": inputs,
            "out": out,
            "frames": FRAMES,
            "seed": first.seed if self.single else self.seed,
            "id": first.name,
            "image": first.image,
            "prompt": first.prompt,
            "height": first.size[0],
            "width": first.size[1],
        }
        words = [word.format(**values) for word in self.words]
        streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "capture_output": True}
        try:
            done = subprocess.run(words, cwd=self.cwd, text=True, errors="replace", **streams)
        except OSError as error:
            what, hint = f"cannot be started ({error.strerror})", f"it runs in {self.cwd}"
            raise InputError(what, where=words[0], hint=hint) from error
        if done.returncode == 0:
            return None
        tail = " ".join((done.stderr or done.stdout).split())[-TAIL:]
        return f"{words[0]} ended with code {done.returncode}: {tail or 'it printed nothing'}"

    def _read(self, request: _Request, number: int, out: Path, last_words: str | None) -> Frames:
        """The program's clip. Raises: InputError."""
        path = out / self.output.format(id=request.name, number=number)
        if not path.exists():
            raise InputError(
                last_words or f"the program ended well and made no {self.output}",
                where=request.id,
                hint=None if last_words else f"say in `output` what it makes; there is: {_listed(out)}",
            )
        return conformed(Entry(request.id, video=path).frames(), read_image(request.image))


@dataclass(frozen=True)
class _Request:
    """A task whose picture is in a file."""

    id: str
    name: str  # of its files: the id, if a file can be called so
    image: Path
    prompt: str
    seed: int
    size: tuple[int, ...]


def _write_inputs(tasks: Iterable[Task], inputs: Path) -> list[_Request]:
    """Write what the program may want; the requests, in the order of the pictures' names."""
    requests: list[_Request] = []
    taken: set[str] = set()
    for task in tasks:
        name = safe_name(task.id)
        name = name if alike(name) not in taken else hashed_name(name, task.id)
        taken.add(alike(name))
        image, prompt = inputs / f"{name}.png", " ".join(task.prompt.split())
        write_image(image, task.context)
        requests.append(_Request(task.id, name, image, prompt, task.seed, task.context.shape[:2]))
    requests.sort(key=lambda one: one.image.name)
    lines = [
        {"id": one.name, "image": str(one.image), "prompt": one.prompt, "seed": one.seed, "frames": FRAMES}
        for one in requests
    ]
    (inputs / "prompts.txt").write_text("".join(f"{one.prompt}\n" for one in requests), encoding="utf-8")
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    (inputs / "requests.jsonl").write_text(text, encoding="utf-8")
    with (inputs / "requests.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "ref"), *((one.prompt, str(one.image)) for one in requests)])
    return requests


def _names(text: str, known: set[str], field: str) -> set[str]:
    """The {names} in a text. Raises: InputError for an unknown one, or braces that do not match."""
    try:
        names = {name for _, name, _, _ in Formatter().parse(text) if name is not None}
    except ValueError as error:
        raise InputError(f"{field}: {error}", where=text, hint="write {{ and }} for braces") from error
    if unknown := sorted(names - known):
        hint = f"known are {', '.join(sorted(known))}"
        raise InputError(f"{field} has an unknown {{{unknown[0]}}}", where=text, hint=hint)
    return names


def _listed(folder: Path) -> str:
    """Some of the files that a folder holds."""
    found = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    return ", ".join(found[:4]) + (", …" if len(found) > 4 else "") or "nothing"
