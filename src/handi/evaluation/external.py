"""Any program as a method: it is given files and a command line, and its videos are read back.

A method file (its paths count from its own folder):

    kind: command
    command: python scripts/infer.py --prompt_dir {inputs} --savedir {out} --seed {seed}
    cwd: ../DynamiCrafter                      where it runs
    output: samples_separate/{id}_sample0.mp4  its video of a clip, seen from {out}
    parameters: 1876000000                     weights, for table 1

In `command`, {inputs} is a folder with ID.png of every clip, prompts.txt (a line a clip, in the order of the
pictures' names), requests.jsonl (id, image, prompt, seed) and requests.csv (text, ref); {out} is an empty
folder beside it; {frames} and {seed} are numbers. So the program is started once for all clips. A command
with {image} or {prompt} in it is started for each clip, with {id}, {height} and {width} as well. It is not
read by a shell: it is split into words first, and filled in after that.
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

from handi.core.errors import HandiError, InputError
from handi.core.files import scratch_folder
from handi.core.images import read_image, write_image
from handi.core.names import alike, hashed_name, safe_name
from handi.core.types import Frames
from handi.evaluation.baselines import FRAMES, Made, Task, conformed
from handi.evaluation.entries import Entry
from handi.evaluation.tally import failure

SHARED = {"inputs", "out", "frames", "seed"}
SINGLE = {"image", "prompt", "id", "height", "width"}
OUTPUT = "{id}.mp4"
TAIL = 300  # characters of a program's last words


class Command:
    """A program that makes videos; see the top of this file."""

    peeks = ""

    def __init__(
        self,
        command: str,
        *,
        folder: Path = Path(),
        cwd: str = ".",
        output: str = OUTPUT,
        parameters: float | None = None,
        seed: int = 0,
    ) -> None:
        try:
            self.words = shlex.split(command)
        except ValueError as error:
            raise InputError(f"command cannot be split into words ({error})", where=command) from error
        names = _names(command, SHARED | SINGLE, "command")
        if "out" not in names and output == OUTPUT:
            raise InputError(
                "the command does not say where its videos go",
                where=command,
                mend="use {out}, or say in `output` where they lie",
            )
        if not self.words:
            raise InputError("the command is empty")
        _names(output, {"id", "number"}, "output")
        self.single = bool(names & SINGLE)
        self.cwd, self.output, self.seed = (folder / cwd).resolve(), output, seed
        self.parameters: int | None = None if parameters is None else int(parameters)
        self.about: Mapping[str, Any] = {
            "kind": "command",
            "command": command,
            "output": output,
            "seed": seed,
        }

    def check(self) -> None:
        """Raises: InputError where its folder or its program is not there."""
        if not self.cwd.is_dir():
            raise InputError("no such folder for the command to run in", where=self.cwd)
        program = self.words[0]
        path = str(self.cwd / program) if os.sep in program else program
        if "{" not in program and shutil.which(path) is None:
            raise InputError("no such program", where=program, mend=f"it runs in {self.cwd}")

    def make(self, tasks: Iterable[Task]) -> Iterator[Made]:
        """Start the program for each task, or once for all. Seconds include its start."""
        if self.single:
            for task in tasks:
                yield from self._run([task])
        else:
            yield from self._run(tasks)

    def _run(self, tasks: Iterable[Task]) -> Iterator[Made]:
        with scratch_folder(tempfile.gettempdir()) as scratch:
            inputs, out = scratch / "inputs", scratch / "out"
            inputs.mkdir()
            out.mkdir()
            asked = _write_inputs(tasks, inputs)
            if not asked:
                return
            begin = time.perf_counter()
            last_words = self._start(asked[0], inputs, out)
            seconds = (time.perf_counter() - begin) / len(asked)
            for number, one in enumerate(asked):
                try:
                    frames: Frames | HandiError = self._read(one, number, out, last_words)
                except Exception as error:
                    frames = failure(error)
                yield Made(one.id, frames, seconds)

    def _start(self, first: _Asked, inputs: Path, out: Path) -> str | None:
        """Run the program to its end; its last words where it failed. Raises: InputError: no such program."""
        values = {
            "inputs": inputs,
            "out": out,
            "frames": FRAMES,
            "seed": first.seed if self.single else self.seed,
            "id": first.name,
            "image": first.image,
            "prompt": first.prompt,
            "height": first.height,
            "width": first.width,
        }
        words = [word.format(**values) for word in self.words]
        try:
            done = subprocess.run(
                words,
                cwd=self.cwd,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
            )
        except OSError as error:
            raise InputError(
                f"cannot be started ({error.strerror})", where=words[0], mend=f"it runs in {self.cwd}"
            ) from error
        if done.returncode == 0:
            return None
        said = " ".join((done.stderr or done.stdout).split())[-TAIL:]
        return f"{words[0]} ended with code {done.returncode}: {said or 'it said nothing'}"

    def _read(self, asked: _Asked, number: int, out: Path, last_words: str | None) -> Frames:
        """The program's clip. Raises: InputError."""
        path = out / self.output.format(id=asked.name, number=number)
        if not path.exists():
            raise InputError(
                last_words or f"the program ended well and made no {self.output}",
                where=asked.id,
                mend=None if last_words else f"say in `output` what it makes; there is: {_listed(out)}",
            )
        return conformed(Entry(asked.id, video=path).frames(), read_image(asked.image))


@dataclass(frozen=True)
class _Asked:
    """A task whose picture is in a file."""

    id: str
    name: str  # of its files: the id, wherever a file can be called so
    image: Path
    prompt: str
    seed: int
    height: int
    width: int


def _write_inputs(tasks: Iterable[Task], inputs: Path) -> list[_Asked]:
    """Write what the program may want; what was asked for, in the order of the pictures' names."""
    asked: list[_Asked] = []
    taken: set[str] = set()
    for task in tasks:
        name = safe_name(task.id)
        name = name if alike(name) not in taken else hashed_name(name, task.id)
        taken.add(alike(name))
        image = inputs / f"{name}.png"
        write_image(image, task.context)
        asked.append(
            _Asked(task.id, name, image, " ".join(task.prompt.split()), task.seed, *task.context.shape[:2])
        )
    asked.sort(key=lambda one: one.image.name)
    (inputs / "prompts.txt").write_text("".join(f"{one.prompt}\n" for one in asked), encoding="utf-8")
    requests = [
        {"id": one.name, "image": str(one.image), "prompt": one.prompt, "seed": one.seed} for one in asked
    ]
    lines = (json.dumps(request, ensure_ascii=False) + "\n" for request in requests)
    (inputs / "requests.jsonl").write_text("".join(lines), encoding="utf-8")
    with (inputs / "requests.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["text", "ref"])
        table.writerows([one.prompt, str(one.image)] for one in asked)
    return asked


def _names(text: str, known: set[str], entry: str) -> set[str]:
    """The {names} in a text. Raises: InputError for one that is not known, or braces that do not match."""
    try:
        names = {name for _, name, _, _ in Formatter().parse(text) if name is not None}
    except ValueError as error:
        raise InputError(f"{entry}: {error}", where=text, mend="write {{ and }} for braces") from error
    if unknown := sorted(names - known):
        raise InputError(
            f"{entry} has an unknown {{{unknown[0]}}}",
            where=text,
            mend=f"known are {', '.join(sorted(known))}",
        )
    return names


def _listed(folder: Path) -> str:
    """Some of the files that a folder holds."""
    found = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    return ", ".join(found[:4]) + (", …" if len(found) > 4 else "") or "nothing"
