"""The paper's tables: its figures, ours beside them, marks, and what keeps them from being comparable."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from helpers.bench_data import FRAMES, clip, write_data, write_frames, write_method
from helpers.plain_work import Sent
from helpers.small_footage import clip_of, content, movie, simple_tools

from handi.core.errors import InputError
from handi.core.executors import Serial
from handi.data.prepare import write_shards
from handi.data.sources.common import SourceClips
from handi.data.stages import PrepareSettings as Prepared
from handi.evaluation import paper, tables
from handi.evaluation.folder import read_videos
from handi.evaluation.layout import Cell, Column, FigureRow, Table
from handi.evaluation.methods import parse_spec
from handi.evaluation.results import number
from handi.evaluation.run import EvaluationConfig
from handi.evaluation.study import Study, parse_data
from handi.evaluation.videos import fingerprint

IDS = ["1", "2", "3"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("tables")
    write_data(root / "data", IDS)
    write_method(root / "good", IDS)
    write_method(root / "fast", IDS, speed=2)
    return root


def study(
    folders, out, *specs: str, data: str = "squares", metrics=("pixels", "motion"), limit=None, **more
) -> Study:
    said: list[str] = []
    config = EvaluationConfig(metrics=metrics, resamples=50, limit=limit)
    methods = [parse_spec(spec) for spec in specs]
    made = Study({data: folders / "data"}, methods, out, config, say=said.append, **more)
    made.said = said  # type: ignore[attr-defined]
    return made


def quick_model(folder, model_folder):
    """A method file of a model that takes one step in each stage."""
    path = folder / "quick.yaml"
    path.write_text(f"kind: handi\nmodel: {model_folder}\nsteps: 1\narea_steps: 1\ndevice: cpu\n")
    return path


# -------------------------------------------------------------------------------------- the paper's


def test_names_of_methods_and_data():
    assert paper.method_key("Animate-Anything") == "aa"
    assert paper.method_key("open sora") == "open_sora"
    assert paper.method_key("mine") is None
    assert paper.benchmark_key("EPIC_KITCHENS") == "epic-kitchens"
    assert paper.benchmark_key("world") is None


def test_what_keeps_figures_apart():
    def reasons(*given, **more):
        return " | ".join(paper.differences(*given, **more))

    assert "other data: world (200 clips)" in reasons("world", 200, "epic-kitchens", authors_weights=True)
    assert "6 clips of EpicKitchens, the paper's are 8857" in reasons(
        "epic-kitchens", 6, "epic-kitchens", authors_weights=True
    )
    assert "weights" in reasons("epic-kitchens", 8857, "epic-kitchens", authors_weights=False)
    assert reasons("epic-kitchens", 8857, "epic-kitchens", authors_weights=True) == ""
    assert reasons("epic-kitchens", 886, "motion-intensive", authors_weights=True) == ""
    assert "other data" in reasons("ego4d", 9931, "epic-kitchens", authors_weights=True)


# ------------------------------------------------------------------------------------------ layout


def sample_table() -> Table:
    columns = (Column("err", "HS-Err", "lower"), Column("sim", "CLIP_GT", "higher"), Column("n", "n"))
    rows = [
        FigureRow(("world", "a"), {"err": Cell(0.2, (0.1, 0.3)), "sim": Cell(0.5), "n": Cell(3)}, "g"),
        FigureRow(
            ("", "b_1"), {"err": Cell(0.1), "sim": Cell(0.9), "n": Cell(3)}, "g", "not comparable: other data"
        ),
        FigureRow(("", "c"), {"err": Cell(0.3), "sim": Cell(why="no weights")}, "g", "comparable"),
        FigureRow(("", "paper"), {"err": Cell(0.01512), "sim": Cell(0.1)}, "h"),
    ]
    return Table("Table & test", ("Data", "Method"), columns, rows, ["A note."])


def test_markdown_marks_best_second_and_reasons():
    lines = sample_table().markdown().splitlines()
    assert lines[0] == "**Table & test**"
    assert lines[2] == "| Data | Method | HS-Err ↓ | CLIP_GT ↑ | n | beside the paper |"
    assert "<u>0.2000</u> <sub>[0.1000, 0.3000]</sub>" in lines[4]
    assert "| **0.1000** | **0.9000** | 3.000 | not comparable<sup>2</sup> |" in lines[5]
    assert "| 0.3000 | –<sup>3</sup> | – | comparable |" in lines[6]
    assert "| 0.01512 | 0.1000 |" in lines[7]  # alone in its group: no mark
    assert lines[-3:] == ["1. A note.", "2. other data", "3. no weights"]


def test_a_table_without_remarks_has_no_column_for_them():
    table = sample_table()
    table.rows = [table.rows[0]]
    assert "beside the paper" not in table.markdown()
    assert len({line.count("|") for line in table.markdown().splitlines() if line.startswith("|")}) == 1
    assert "{llrrr}" in table.latex()


def test_latex_is_escaped_and_whole():
    text = sample_table().latex()
    assert "\\caption{Table \\& test}" in text
    assert "b\\_1 & \\textbf{0.1000} & \\textbf{0.9000}" in text
    assert "\\underline{0.2000} {\\tiny [0.1000, 0.3000]}" in text
    assert "CLIP\\_GT $\\uparrow$" in text
    body = text[text.index("\\toprule") : text.index("\\bottomrule")]
    rows = [line for line in body.splitlines() if line.endswith("\\\\")]
    assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {5}
    for name in ("table*", "tabular"):
        assert text.count(f"\\begin{{{name}}}") == text.count(f"\\end{{{name}}}") == 1


def test_a_figure_of_fewer_videos_than_its_row_says_so():
    cells = {"err": Cell(0.2, (0.1, 0.3), n=5), "sim": Cell(0.5, (0.4, 0.6), n=3), "n": Cell(1.0, n=1)}
    row = FigureRow(("a", "here, n = 5"), cells, "g", n=5)
    table = replace(sample_table(), rows=[row])
    cells = table.markdown().splitlines()[4].split(" | ")
    assert cells[2:] == [
        "0.2000 <sub>[0.1000, 0.3000]</sub>",
        "0.5000 <sub>[0.4000, 0.6000], n = 3</sub>",
        "1.000 <sub>n = 1</sub> |",
    ]
    assert r"0.5000 {\tiny [0.4000, 0.6000], n = 3} & 1.000 {\tiny n = 1}" in table.latex()
    (line,) = csv.DictReader(io.StringIO(table.csv()))
    assert [line[f"{title} n"] for title in ("HS-Err", "CLIP_GT", "n")] == ["5", "3", "1"]


def test_the_tables_state_the_n_of_each_figure(folders, tmp_path):
    """In a still clip nothing moves, so it has no share of motion; the others have."""
    mixed = write_method(tmp_path / "mixed", IDS)
    write_frames(mixed / "2", np.repeat(clip(1)[:1], FRAMES, axis=0))
    spec = f"mixed=videos:{mixed}"
    for name, made in (
        ("table 2", tables.table2(study(folders, tmp_path / "2", spec), intensive=False)[1]),
        (
            "table 3",
            tables.table3(study(folders, tmp_path / "3", f"true-on=videos:{mixed}"), scopes=("full",))[1],
        ),
    ):
        (row,) = made.rows
        assert row.heads[-1] == "here, n = 3", name
        text = made.markdown()
        assert row.cells["flow_inside"].n == 2, name
        assert row.cells["psnr"].n == 3, name
        assert text.count("n = 2</sub>") == 1, name


def test_csv_keeps_full_precision():
    rows = list(csv.DictReader(io.StringIO(sample_table().csv())))
    assert [row["Data"] for row in rows] == ["world"] * 4
    assert rows[0]["HS-Err low"] == "0.1"
    assert float(rows[3]["HS-Err"]) == 0.01512
    assert rows[2]["CLIP_GT"] == ""
    assert rows[1]["beside the paper"] == "not comparable: other data"


def test_numbers_have_four_digits():
    assert [number(x) for x in (0.01512, 0.959, 24.158, 171.29, 1234.5, 0.0)] == [
        "0.01512", "0.9590", "24.16", "171.3", "1234", "0"]  # fmt: skip


# ------------------------------------------------------------------------------------------- study


def test_table2_scores_methods_and_sets_the_paper_beside_them(folders, tmp_path):
    made = study(folders, tmp_path, "handi=videos:" + str(folders / "good"), "static", data="epic-kitchens")
    first, second = tables.table2(made, intensive=False)
    assert [row.heads for row in first.rows] == [
        ("epic-kitchens", "HANDI", "here, n = 3"),
        ("", "", "paper, EpicKitchens, n = 8857"),
        ("", "static", "here, n = 3"),
    ]
    ours, theirs, floor = first.rows
    assert theirs.cells["fid"].value == 5.27
    assert "3 clips of EpicKitchens, the paper's are 8857" in ours.remark
    assert "weights that are not the authors'" in ours.remark
    assert floor.remark == ""
    assert ours.cells["fid"].value is None  # not asked for
    scores = {row.heads[1]: row.cells for row in second.rows}
    assert scores["HANDI"]["psnr"].value > 40 > scores["static"]["psnr"].value
    assert scores["HANDI"]["flow_inside"].interval is not None
    assert np.isfinite(scores["HANDI"]["flow_inside"].value)
    assert (tmp_path / "videos/epic-kitchens/static/2/frames/0015.png").is_file()


def test_nothing_is_made_or_scored_twice(folders, tmp_path, monkeypatch):
    made = study(folders, tmp_path, "static", f"stored=videos:{folders / 'fast'}")
    tables.table2(made, intensive=False)
    assert sum("score" in line for line in made.said) == 2

    def never(*arguments, **more):
        raise AssertionError("scored again")

    monkeypatch.setattr("handi.evaluation.study.evaluate", never)
    again = study(folders, tmp_path, "static", f"stored=videos:{folders / 'fast'}")
    table = tables.table2(again, intensive=False)[1]
    assert table.rows[0].cells["psnr"].value is not None
    assert not any("score" in line for line in again.said)
    other = study(folders, tmp_path, "static", seed=1)
    tables.table2(other, intensive=False)
    assert any("scored again" in line for line in other.said)  # other clips: other scores
    other = study(folders, tmp_path, f"stored=videos:{folders / 'fast'}")
    other.metrics.metrics[0].weights["a network"] = "another file's hash"
    tables.table2(other, intensive=False)
    assert any("scored again" in line for line in other.said)


def test_other_processes_make_and_score_the_same(folders, tmp_path):
    found = []
    for name, executor in (("one", Serial()), ("two", Sent())):
        made = study(folders, tmp_path / name, "static", f"stored=videos:{folders / 'fast'}",
                     executor=executor)  # fmt: skip
        tables.table2(made, intensive=False)
        files = content(tmp_path / name)
        for file in list(files):
            if file.endswith(("key.json", "ledger.jsonl", "run.json", ".csv")):  # times, folders' names
                del files[file]
            elif file.endswith("results.json"):
                files[file] = json.dumps(json.loads(files[file]) | {"pred": ""}).encode()
        found.append(files)
    assert found[0] == found[1]
    assert len(found[0]) > 50


def test_a_method_that_cannot_run_leaves_its_row_empty(folders, tmp_path):
    made = study(folders, tmp_path, "pia=pia:" + str(tmp_path / "gone"), "static")
    first, second = tables.table2(made, intensive=False)
    assert "no such model folder" in first.rows[0].remark
    assert len(second.rows) == 1
    assert any("error: pia on squares" in line for line in made.said)


def test_only_some_clips(folders, tmp_path):
    made = study(folders, tmp_path, "static", limit=2)
    assert list(made.entries("squares")) == ["1", "2"]
    assert made.entries("squares")["1"].text == "Push square 0."
    assert tables.table2(made, intensive=False)[0].rows[0].heads[-1] == "here, n = 2"
    stored = study(folders, tmp_path, f"stored=videos:{folders / 'good'}", limit=2)
    assert tables.table2(stored, intensive=False)[0].rows[0].heads[-1] == "here, n = 2"
    assert not any("not scored" in line for line in stored.said)  # the third is not asked for, and no gap


def test_only_some_clips_of_a_prepared_folder(handi, tmp_path):
    """Clips in shards have no file of their own that a list of them could name."""
    video = movie(tmp_path / "a.mp4", frames=40)
    clips = [clip_of(video, f"z.{n}", split="test", start=n / 2, action=f"Do {n}.") for n in range(3)]
    prepared = Prepared(size=(32, 32), pictures="png", models={"vae": "test"})
    write_shards(SourceClips(clips), tmp_path / "data", prepared, simple_tools, Serial())
    code, out, err = handi("bench", "table2", "--data", f"few={tmp_path / 'data'}", "--methods", "static",
                           "--metrics", "pixels", "--no-intensive", "--limit", "2",
                           "--out", tmp_path / "out")  # fmt: skip
    assert code == 0, err
    assert "here, n = 2" in out
    assert sorted(read_videos(tmp_path / "out/videos/few/static")) == ["z.0", "z.1"]


def test_a_changed_file_is_another_side(folders, tmp_path):
    folder = write_method(tmp_path / "m", IDS[:1])
    before = fingerprint(read_videos(folder).values())
    assert fingerprint(read_videos(folder).values()) == before
    frame = folder / "1/frames/0003.png"
    frame.write_bytes(frame.read_bytes() + b" ")
    assert fingerprint(read_videos(folder).values()) != before


def test_table1_counts_and_times(folders, tmp_path, model_folder):
    quick = quick_model(tmp_path, model_folder)
    made = study(folders, tmp_path, f"handi={quick}", "static", f"aa=videos:{folders / 'good'}")
    rows = tables.table1(made, runs=1).rows
    assert [row.heads[0] for row in rows] == ["HANDI", "", "static", "AnimateAnything", ""]
    handi, printed, static, stored, _ = (row.cells for row in rows)
    assert printed["parameters"].value == 3.674
    assert 0 < handi["parameters"].value < 0.1
    assert handi["seconds"].value > handi["stage1"].value + handi["stage2"].value > 0
    assert static["parameters"].value == 0
    assert static["seconds"].value < handi["seconds"].value
    assert stored["seconds"].value is None
    assert "not comparable" in rows[0].remark


def test_a_model_is_sampled_with_its_rows_mask(folders, tmp_path, model_folder):
    quick = quick_model(tmp_path, model_folder)
    made = study(folders, tmp_path, f"full-off={quick}", metrics=("pixels",), limit=1)
    tables.table3(made, scopes=("full",))
    record = json.loads((tmp_path / "videos/squares/full-off/1/run.json").read_text())
    assert record["method"]["mask"] == "full"
    assert (tmp_path / "videos/squares/full-off/1/motion_area.png").is_file()
    assert record["seconds"] > 0


def test_table3_orders_rows_as_the_paper(folders, tmp_path):
    good, fast = folders / "good", folders / "fast"
    made = study(folders, tmp_path, f"true-on=videos:{good}", f"full-off=videos:{fast}")
    first, second = tables.table3(made)
    ours = [row for row in first.rows if row.heads[0]]
    assert [row.heads[:4] for row in ours] == [
        ("MA", "1", "×", "×"), ("MA", "8", "GT", "✓"), ("Full", "1", "×", "×"), ("Full", "8", "GT", "✓"),
    ]  # fmt: skip
    printed = [row.cells["fid"].value for row in first.rows if not row.heads[0]]
    assert printed == [13.516, 9.816, 5.497, 5.194]
    psnr = [row.cells["psnr"].value for row in second.rows]
    assert psnr[1] > psnr[0]
    assert psnr[3] > psnr[2]
    with pytest.raises(InputError, match="no row of table 3"):
        tables.table3(study(folders, tmp_path, "static"))


def test_the_command_writes_three_formats(handi, folders, tmp_path):
    code, out, err = handi("bench", "table2", "--data", f"squares={folders / 'data'}", "--methods", "static",
                           "flow", "--metrics", "pixels", "--no-intensive", "--out", tmp_path)  # fmt: skip
    assert code == 0, err
    assert "flow is given the first true frame after the context image" in out
    for name in ("table2", "table2_more"):
        for suffix in (".md", ".tex", ".csv"):
            assert (tmp_path / f"{name}{suffix}").stat().st_size > 100
    for arguments, said in (
        (("--methods", "static", "static"), "two methods are called 'static'"),
        (("--methods", "dream"), "no kind of method"),
        (("--methods", "static", "--limit", "0"), "--limit 0"),
        # What is missing is found before anything is made: the static floor beside it is not, either.
        (("--methods", "late=static", f"gone=videos:{tmp_path / 'gone'}"), "no such folder or manifest"),
        (("--methods", "late=static", "gone=handi:gone"), "no such model folder"),
        (("--methods", "late=static", "--metrics", "clip"), "none of the metrics can be measured"),
    ):
        code, _, err = handi("bench", "table2", "--data", folders / "data", *arguments, "--out", tmp_path)
        assert (code, said in err) == (1, True), err
    assert not list(tmp_path.rglob("late"))


def test_data_are_called_by_name_or_folder(tmp_path):
    assert list(parse_data((f"epic-kitchens={tmp_path}", str(tmp_path)))) == ["epic-kitchens", tmp_path.name]
    with pytest.raises(InputError, match="two data sets"):
        parse_data(("x=a", "x=b"))


def test_results_are_json_that_can_be_read(folders, tmp_path):
    made = study(folders, tmp_path, "static")
    made.results(made.methods[0], "squares")
    key = json.loads((tmp_path / "results/squares/static/full-all/key.json").read_text())
    assert key["settings"]["scope"] == "full"
