"""The surfaces of data sets: annotations, lists and shards, and the commands that read them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import yaml
from helpers.source_layouts import epic_row, fho_action, fho_video, write_ego4d, write_table

from fuzzing import files
from fuzzing.harness import Box, Case
from fuzzing.materials import Materials, areas_of
from fuzzing.mutations import damaged_text, encoded
from fuzzing.outputs import page_is_harmless, run_is_whole, shards_are_whole


class Datasets:
    """Surfaces of `handi prepare`, and of what it made."""

    def __init__(self, materials: Materials) -> None:
        self.materials = materials

    def epic(self, box: Box) -> Case:
        """EPIC-KITCHENS-100's tables."""
        path = self._kitchen(box.files)
        path.write_bytes(files.damaged_table(box.rng, path.read_text()))
        return prepare_case(box, "epic-kitchens", box.files)

    def ego4d(self, box: Box) -> Case:
        """Ego4D's annotations."""
        rng = box.rng
        home = box.files / "v2"
        actions = [fho_action("#C C cuts a carrot", 6 + 3 * n, 66 + 3 * n) for n in range(2)]
        write_ego4d(home, [fho_video("uid", actions)], {"uid": "train"})
        _copy_video(self.materials, home / "full_scale" / "uid.mp4")
        files.damage_json(rng, rng.choice((home / "annotations" / "fho_main.json", home / "ego4d.json")))
        return prepare_case(box, "ego4d", box.files)

    def lego(self, box: Box) -> Case:
        """LEGO's curated list of clips of EPIC-KITCHENS-100."""
        self._kitchen(box.files / "epic")
        pictures = {"image_0": "P01_01/P01_01_0/pre_frame.jpg", "image_1": "P01_01/P01_01_0/target_frame.jpg"}
        item = pictures | {"action": "cut carrot", "llava_forecast_finetune": "The person cuts a carrot."}
        path = box.files / "lego" / "epickitchen_train.json"
        path.parent.mkdir()
        path.write_text(json.dumps({"P01_01": {"P01_01_0": item}}))
        files.damage_json(box.rng, path)
        return prepare_case(box, "lego", path.parent, "--videos", box.files / "epic")

    def lists(self, box: Box) -> Case:
        """A CSV, JSON Lines or JSON list of one's own clips, or text files beside videos."""
        rng = box.rng
        self.materials.copy("footage", box.files / "footage")
        rows = [
            {"id": f"r{n}", "video": f"footage/{name}.mp4", "start": "0.1", "end": "1.7", "action": "Cut it.",
             "description": "A hand cuts.", "split": "train", "verb": "cut", "noun": "carrot"}
            for n, name in enumerate(("one", "two"))
        ]  # fmt: skip
        kind = rng.choice(("csv", "jsonl", "json", "text"))
        if kind == "text":
            path = box.files / "footage" / "one.txt"
            path.write_bytes(encoded(rng, damaged_text(rng, path.read_text())))
            return prepare_case(box, "folder", box.files / "footage")
        path = box.files / f"list.{kind}"
        if kind == "csv":
            write_table(path, rows, rows[0])
            path.write_bytes(files.damaged_table(rng, path.read_text()))
        elif kind == "jsonl":
            path.write_bytes(files.damaged_lines(rng, [row | {"start": 0.1, "end": 1.7} for row in rows]))
        else:
            path.write_text(json.dumps([{"video": row["video"], "caption": row["action"]} for row in rows]))
            files.damage_json(rng, path)
        return prepare_case(box, "json" if kind == "json" else "folder", path)

    def prepared(self, box: Box) -> Case:
        """`handi prepare` again over its own damaged output."""
        rng = box.rng
        self.materials.copy("shards", box.out)
        path = rng.choice(sorted(path for path in box.out.rglob("*") if path.is_file()))
        files.damage_file(rng, path)
        source = self.materials.footage
        argv = ["prepare", "folder", source, "--out", box.out, "--size", "32x32", "--executor", "serial",
                "--clips-per-shard", 1]  # fmt: skip
        return Case(argv, names=(str(source),))

    def shards(self, box: Box) -> Case:
        """Damaged shards, read by the data card, by training, or as the true side of an evaluation."""
        rng = box.rng
        folder = self.materials.copy("shards", box.files / "shards")
        path = rng.choice(sorted(path for path in folder.rglob("*") if path.is_file()))
        if path.suffix == ".tar" and rng.random() < 0.3:
            path.write_bytes(files.hostile_tar(rng))
        else:
            files.damage_file(rng, path)
        how = rng.random()
        if how < 0.5:
            return Case(["report", folder, "--validate", "--samples", 2, "--out", box.out / "card.html"],
                        check=page_is_harmless)  # fmt: skip
        if how < 0.9:
            argv = ["evaluate", "--pred", folder, "--ref", folder, "--metrics", "pixels", "--resamples", 5]
            return Case([*argv, "--out", box.out], names=("one", "two"))
        text = (self.materials.recipe / "recipe.yaml").read_text().replace("path: clips", "path: shards")
        (box.files / "recipe.yaml").write_text(text)
        return Case(["train", "recipe.yaml", "--minutes", 0], check=run_is_whole)

    def areas(self, box: Box) -> Case:
        """Damaged areas of stage 1, made again or trained with."""
        folder = self.materials.copy("areas", box.files / "shards")
        files.damage_file(box.rng, box.rng.choice(sorted((folder / "areas").iterdir())))
        if box.rng.random() < 0.3:
            return Case(areas_of(self.materials.model, folder), grows=("shards",))
        recipe = yaml.safe_load((self.materials.recipe / "recipe.yaml").read_text())
        recipe["model"] = {"init": str(self.materials.model)}
        recipe["data"] = {"path": "shards", "workers": 0, "mask": {"generated": 1}}
        (box.files / "recipe.yaml").write_text(yaml.safe_dump(recipe))
        return Case(["train", "recipe.yaml", "--run.steps", 1], check=run_is_whole)

    def _kitchen(self, root: Path) -> Path:
        """A root of EPIC-KITCHENS-100 with two actions of one video; gives its table."""
        _copy_video(self.materials, root / "P01" / "videos" / "P01_01.MP4")
        says = ("cut carrot", "take cup")
        rows = [epic_row(f"P01_01_{n}", n * 0.5, n * 0.5 + 2.0, text) for n, text in enumerate(says)]
        return write_table(root / "EPIC_100_train.csv", rows)


def _copy_video(materials: Materials, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(materials.footage / "one.mp4", path)


def prepare_case(box: Box, kind: str, source: Path, *more: Any) -> Case:
    argv = ["prepare", kind, source, *more, "--out", box.out, "--size", "32x32", "--executor", "serial"]
    return Case([*argv, "--limit", 4], check=shards_are_whole)
