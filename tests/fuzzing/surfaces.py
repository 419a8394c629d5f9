"""For each kind of input: which file is damaged, which command reads it, and what its output must be."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from fuzzing import files
from fuzzing.datasets import Datasets, prepare_case
from fuzzing.harness import Box, Case
from fuzzing.mutations import TEXTS, damaged, damaged_text, damaged_tree, dumped, encoded
from fuzzing.outputs import (
    clip_is_whole_or_none,
    clips_are_whole,
    hands_are_whole,
    page_is_harmless,
    run_is_whole,
)

QUICK = ("--model", "random", "--steps", 1, "--area-steps", 1, "--frames", 2, "--device", "cpu")


ONE_CLIP = ("generate", "--image", "rgb.png", "--prompt", "Cut.")


class Surfaces(Datasets):
    """Every surface as a method; `materials` are shared by all cases."""

    # ------------------------------------------------------------------------------- handi generate

    def images(self, box: Box) -> Case:
        """Damaged pictures as context images of a batch."""
        rng = box.rng
        lines = []
        for number in range(6):
            picture = self._picture(box, f"p{number}")
            lines.append({"image": picture.name, "prompt": "Cut it.", "id": f"c{number}"})
        _write_lines(box.files / "batch.jsonl", lines)
        size = ("--size", "32x32") if rng.random() < 0.7 else ()
        argv = ["generate", "--batch", box.files / "batch.jsonl", *QUICK, *size, "--out", box.out]
        return Case(argv, inputs=6, check=clips_are_whole)

    def masks(self, box: Box) -> Case:
        """Damaged pictures as motion areas."""
        shutil.copy(self.materials.pictures / "rgb.png", box.files / "rgb.png")
        masks = [self._picture(box, f"m{number}").name for number in range(4)]
        _write_lines(
            box.files / "batch.jsonl",
            [
                {"image": "rgb.png", "prompt": "Cut.", "mask": name, "id": f"c{n}"}
                for n, name in enumerate(masks)
            ],
        )
        argv = ["generate", "--batch", box.files / "batch.jsonl", *QUICK, "--out", box.out]
        return Case(argv, inputs=4, check=clips_are_whole)

    def prompts(self, box: Box) -> Case:
        """Strange sentences and arguments of one clip."""
        rng = box.rng
        shutil.copy(self.materials.pictures / "rgb.png", box.files / "rgb.png")
        prompt = damaged_text(rng, "Cut the carrot.") if rng.random() < 0.5 else rng.choice(TEXTS)
        argv: list[Any] = ["generate", "--image", "rgb.png", "--out", box.out, *QUICK, f"--prompt={prompt}"]
        if rng.random() < 0.4:
            name = rng.choice(
                ("seed", "steps", "area-steps", "guidance", "frames", "size", "motion", "mask", "image")
            )
            argv.append(f"--{name}={files.argument(rng)}")
        return Case(argv, names=("prompt", "rgb.png", *_OPTION_WORDS), check=clip_is_whole_or_none)

    def batches(self, box: Box) -> Case:
        """A damaged batch file beside whole pictures."""
        rng = box.rng
        for name in ("rgb.png", "bits.png"):
            shutil.copy(self.materials.pictures / name, box.files / name)
        lines = [
            {
                "image": "rgb.png",
                "prompt": "Cut the carrot.",
                "mask": "bits.png",
                "seed": 1,
                "motion": 4.0,
                "id": "a",
            },
            {"image": "rgb.png", "prompt": "Stir the soup.", "id": "b"},
        ]
        outside = box.folder / "outside"
        if rng.random() < 0.15:
            lines[1]["id"] = rng.choice(
                (str(outside), "../outside", "a/../../outside", "a", f"../{outside.name}")
            )
            data = encoded(rng, "".join(dumped(rng, line) + "\n" for line in lines))
        else:
            data = files.damaged_lines(rng, lines)
        (box.files / "batch.jsonl").write_bytes(data)
        argv = ["generate", "--batch", box.files / "batch.jsonl", *QUICK, "--size", "32x32", "--out", box.out]
        return Case(argv, check=clips_are_whole)

    def models(self, box: Box) -> Case:
        """A model folder with a damaged, missing or foreign file."""
        rng = box.rng
        folder = self.materials.copy("model", box.files / "model")
        path = rng.choice(sorted(path for path in folder.rglob("*") if path.is_file()))
        if path.suffix == ".json" and rng.random() < 0.8:
            files.damage_json(rng, path)
        elif path.suffix == ".safetensors" and rng.random() < 0.7:
            path.write_bytes(files.damaged_safetensors(rng, path.read_bytes()))
        elif rng.random() < 0.1:
            path.unlink()
        else:
            path.write_bytes(damaged(rng, path.read_bytes()))
        shutil.copy(self.materials.pictures / "rgb.png", box.files / "rgb.png")
        argv = [*ONE_CLIP, "--model", folder, *QUICK[2:], "--out", box.out]
        return Case(argv, check=clip_is_whole_or_none)

    def loras(self, box: Box) -> Case:
        """A damaged LoRA file."""
        path = box.files / "lora.safetensors"
        path.write_bytes(files.damaged_safetensors(box.rng, (self.materials.lora / path.name).read_bytes()))
        shutil.copy(self.materials.pictures / "rgb.png", box.files / "rgb.png")
        argv = [*ONE_CLIP, "--model", self.materials.model, *QUICK[2:]]
        return Case([*argv, "--lora", path, "--out", box.out], check=clip_is_whole_or_none)

    # ----------------------------------------------------------------------------------- handi hands

    def videos(self, box: Box) -> Case:
        """A damaged video, or one under another name."""
        rng = box.rng
        whole = rng.choice(sorted(self.materials.videos.iterdir()))
        name = (
            whole.name
            if rng.random() < 0.8
            else rng.choice(("v.mp4", "v.AVI", "v.webm", "v.png", "v.mkv", "v"))
        )
        data = whole.read_bytes()
        if rng.random() < 0.95:
            data = damaged(rng, data)
        if rng.random() < 0.03:
            data = rng.choice(
                (b"#EXTM3U\nhttp://127.0.0.1:9/a.ts\n", b"ffconcat version 1.0\nfile /etc/passwd\n")
            )
        (box.files / name).write_bytes(data)
        flow = () if rng.random() < 0.3 else ("--no-flow",)
        return Case(["hands", box.files / name, *flow, "--out", box.out], check=hands_are_whole)

    def footage(self, box: Box) -> Case:
        """A folder of pictures and videos of which some are damaged."""
        rng = box.rng
        shutil.copy(self.materials.videos / "mpeg4.avi", box.files / "whole.avi")
        self._picture(box, "p1")
        whole = rng.choice(sorted(self.materials.videos.iterdir()))
        (box.files / f"broken{whole.suffix}").write_bytes(damaged(rng, whole.read_bytes()))
        return Case(["hands", box.files, "--no-flow", "--out", box.out], inputs=2)

    def joints(self, box: Box) -> Case:
        """What an earlier, stopped or foreign `handi hands` left in the output folder."""
        rng = box.rng
        shutil.copy(self.materials.videos / "mpeg4.avi", box.files / "v.avi")
        box.out.mkdir()
        for path in sorted(self.materials.hands.iterdir()):
            shutil.copy(path, box.out / path.name)
        path = rng.choice((box.out / "joints.json", box.out / ".unfinished.npz"))
        if path.suffix == ".json" and rng.random() < 0.7:
            files.damage_json(rng, path)
        else:
            path.write_bytes(damaged(rng, path.read_bytes()))
            if path.name == ".unfinished.npz":
                for finished in (
                    *box.out.glob("overlay.*"),
                    *box.out.glob("*area*"),
                    box.out / "joints.json",
                ):
                    finished.unlink()
        return Case(["hands", box.files / "v.avi", "--no-flow", "--out", box.out], check=hands_are_whole)

    # ----------------------------------------------------------------------------------- handi train

    def recipes(self, box: Box) -> Case:
        """A damaged recipe, or strange values of its entries."""
        rng = box.rng
        self.materials.copy("clips", box.files / "clips")
        text = (self.materials.recipe / "recipe.yaml").read_text()
        content = yaml.safe_load(text)
        argv: list[Any] = ["train", "recipe.yaml", "--minutes", 0]
        how = rng.random()
        if how < 0.45:
            content = damaged_tree(rng, content)
            data = encoded(rng, files.as_yaml(content))
        elif how < 0.6:
            data = damaged(rng, text.encode())
        elif how < 0.75:
            data = encoded(rng, files.hostile_yaml(rng, text))
        else:
            data = text.encode()
            section = rng.choice([name for name in content if isinstance(content[name], dict)])
            argv.append(f"--{section}.{rng.choice(_ENTRIES)}={files.argument(rng)}")
        (box.files / "recipe.yaml").write_bytes(data)
        return Case(argv, names=("recipe", "entry", *_SECTIONS), check=run_is_whole, grows=("run",))

    def worlds(self, box: Box) -> Case:
        """Damaged clips of the synthetic world, prepared or evaluated."""
        rng = box.rng
        folder = self.materials.copy("world", box.files / "world")
        files.damage_file(rng, rng.choice(sorted(path for path in folder.iterdir() if path.is_file())))
        if rng.random() < 0.4:
            argv = ["evaluate", "--pred", folder, "--ref", folder, "--metrics", "pixels", "--resamples", 5]
            return Case([*argv, "--out", box.out], names=("0000000000", "0000000001"))
        return prepare_case(box, "world", folder)

    def runs(self, box: Box) -> Case:
        """A training run that is gone on with over its own damaged folder."""
        rng = box.rng
        shutil.copytree(self.materials.trained, box.files, dirs_exist_ok=True)
        box.out.mkdir()
        run = (box.files / "run").rename(box.out / "run")
        files.damage_file(rng, rng.choice(sorted(path for path in run.rglob("*") if path.is_file())))
        return Case(["train", "recipe.yaml", "--run.out", run, "--minutes", 0])

    # ------------------------------------------------------------- handi evaluate, gallery and bench

    def manifests(self, box: Box) -> Case:
        """Damaged manifests and prompt lists of both sides."""
        rng = box.rng
        sides = self.materials.copy("sides", box.files / "sides")
        name = rng.choice(("list.jsonl", "list.jsonl", "prompts.jsonl"))
        path = sides / rng.choice(("pred", "ref")) / name
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        if rng.random() < 0.2:
            rows[0]["id"] = rng.choice((str(box.folder / "outside"), "../../outside", "../v1", "v1"))
        path.write_bytes(files.damaged_lines(rng, rows))
        named = {"pred": sides / "pred", "ref": sides / "ref"}
        if name == "list.jsonl":
            named = {side: folder / name for side, folder in named.items()}
        return self._compared(box, named["pred"], named["ref"])

    def arrays(self, box: Box) -> Case:
        """Damaged arrays and motion areas of both sides."""
        rng = box.rng
        sides = self.materials.copy("sides", box.files / "sides")
        files.damage_file(
            rng, rng.choice(sorted(sides.glob("*/*.npy")) + sorted(sides.glob("*/motion_area/*.png")))
        )
        return self._compared(box, sides / "pred", sides / "ref")

    def results(self, box: Box) -> Case:
        """A damaged or hostile results.json in a gallery."""
        rng = box.rng
        sides = self.materials.copy("sides", box.files / "sides")
        results = self.materials.copy("results", box.files / "results")
        files.damage_file(rng, results / "ours" / "results.json")
        page = box.folder / "out" / "page.html"
        argv = [
            "gallery",
            "--methods",
            f"ours={sides / 'pred'}",
            "--ref",
            sides / "ref",
            "--results",
            results,
        ]
        return Case(
            [*argv, "--out", page, "--title", rng.choice(TEXTS).replace("\0", "")], check=page_is_harmless
        )

    def methods(self, box: Box) -> Case:
        """A method file of `handi bench`, or its specs on the command line, damaged."""
        rng = box.rng
        sides = self.materials.copy("sides", box.files / "sides")
        content = {"kind": "command", "command": ["cp", "{image}", "{out}"], "frames": 4, "timeout": 5}
        path = box.files / "method.yaml"
        path.write_bytes(encoded(rng, files.as_yaml(damaged_tree(rng, content))))
        spec = rng.choice(
            (
                f"m={path}",
                f"m=videos:{sides / 'pred'}",
                f"m={files.argument(rng)}",
                f"{files.argument(rng)}=static",
            )
        )
        argv = ["bench", "table2", "--data", f"d={sides / 'ref'}", "--methods", spec, "--metrics", "pixels"]
        return Case(
            [*argv, "--out", box.out], names=("--methods", "--data", "method", spec.partition("=")[0] or "=")
        )

    # ---------------------------------------------------------------------------------------- helpers

    def _compared(self, box: Box, pred: Path, ref: Path) -> Case:
        """An evaluation, a gallery or a bench of two sides."""
        how = box.rng.random()
        names = ("v0", "v1", "list.jsonl", "no video of", "there is no video")
        if how < 0.5:
            argv = [
                "evaluate",
                "--pred",
                pred,
                "--ref",
                ref,
                "--metrics",
                "pixels",
                "motion",
                "--resamples",
                5,
            ]
            return Case([*argv, "--out", box.out], names=names)
        if how < 0.75:
            argv = ["gallery", "--methods", f"ours={pred}", "--ref", ref, "--out", box.out / "page.html"]
            return Case(argv, names=names, check=page_is_harmless)
        argv = [
            "bench",
            "table2",
            "--data",
            f"d={ref}",
            "--methods",
            f"ours=videos:{pred}",
            "static",
            "--metrics",
        ]
        return Case([*argv, "pixels", "--out", box.out], names=names)

    def _picture(self, box: Box, name: str) -> Path:
        """A damaged picture of any mode and format in the case's folder."""
        rng = box.rng
        folder = self.materials.pictures if rng.random() < 0.85 else self.materials.odd_pictures
        whole = rng.choice(sorted(folder.iterdir()))
        suffix = (
            whole.suffix if rng.random() < 0.9 else rng.choice((".png", ".jpg", ".txt", ".mp4", ".PNG", ""))
        )
        path = box.files / f"{name}{suffix}"
        path.write_bytes(damaged(rng, whole.read_bytes()) if rng.random() < 0.8 else whole.read_bytes())
        return path


# --------------------------------------------------------------------------------------------- inputs

_OPTION_WORDS = ("seed", "steps", "guidance", "frames", "size", "motion", "mask", "image")
_ENTRIES = ("lr", "steps", "batch", "frames", "path", "kind", "preset", "init", "weight", "seed", "size", "train", "betas",
            "warmup", "ema", "clip", "keep", "texts", "workers", "miou", "hand.weight", "lora_rank", "out", "told")  # fmt: skip
_SECTIONS = ("stage", "model", "data", "loss", "optim", "run")


def _write_lines(path: Path, rows: Sequence[Any]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
