"""`handi evaluate`: what is counted, what is refused, how it is said; numbers that depend on nothing else."""

from __future__ import annotations

import io
import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from handi.core.errors import InputError, ModelError
from handi.core.executors import Processes, Serial
from handi.core.images import write_image
from handi.core.video import even_indices, write_video
from handi.evaluation.metrics import METRICS
from handi.evaluation.metrics.pixels import Pixels
from handi.evaluation.metrics.protocol import Figure
from handi.evaluation.pairs import Pairs
from handi.evaluation.results import read_results, remarks, results_table
from handi.evaluation.run import EvaluationConfig, evaluate
from handi.evaluation.scoring import LoadedMetrics
from handi.evaluation.videos import Entry

CHEAP = EvaluationConfig(metrics=("pixels", "motion"), resamples=50)
FRAMES = 4


def clip(seed: int, frames: int = FRAMES, height: int = 24, width: int = 32) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (frames, height, width, 3), dtype=np.uint8)


def area(seed: int, share: int = 8) -> np.ndarray:
    mask = np.zeros((24, 32), bool)
    mask[4 : 4 + share, 3 + seed : 3 + seed + share] = True
    return mask


@pytest.fixture
def sides(tmp_path) -> tuple[Path, Path]:
    """Five videos on both sides, as arrays: the reference, and a prediction with some noise."""
    pred, ref = tmp_path / "pred", tmp_path / "ref"
    for folder in (pred, ref):
        folder.mkdir()
    for n in range(5):
        true = clip(n)
        made = true.copy()
        made[1:] //= n + 2
        np.save(ref / f"v{n}.npy", true)
        np.save(pred / f"v{n}.npy", made)
        write_image(ref / "motion_area" / f"v{n}.png", area(n, 8 + n))
    return pred, ref


class Colour:
    """Mean colour of each frame: a network that fits on a line."""

    key = "colour"

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        return frames.mean((1, 2)).astype(np.float32)


class ColourDistance:
    """Squared distance of mean colours: a set metric that can be worked out by hand."""

    name = "colour"
    figures = (Figure("colour", "colour", "lower"),)
    needs = ()
    wants = ()
    scoped = True
    preprocessing = "none"
    extractor = Colour()
    enough = 2048

    def __init__(self, device: str = "cpu") -> None:
        self.weights: dict[str, str] = {}

    def distance(self, generated: np.ndarray, reference: np.ndarray) -> float:
        return float(
            np.square(generated.mean(0, dtype=np.float64) - reference.mean(0, dtype=np.float64)).sum()
        )


def run(
    pred: Path, ref: Path, out: Path, settings: EvaluationConfig = CHEAP, **more
) -> tuple[dict, list[str]]:
    said: list[str] = []
    return evaluate(pred, ref, out, settings, say=said.append, **more), said


# ---------------------------------------------------------------------------------------- the record


def test_results_hold_everything_and_are_read_back(sides, tmp_path):
    results, said = run(*sides, tmp_path / "out")
    assert read_results(tmp_path / "out") | {"format": 0, "version": 0} == results | {
        "format": 0,
        "version": 0,
    }
    assert not said
    assert results["n"] == results["asked"] == 5
    assert results["protocol"]["frames"] == FRAMES - 1
    assert results["protocol"]["area"] == ["given"]
    assert results["protocol"]["size"] == [24, 32]
    psnr = results["metrics"]["psnr"]
    assert list(psnr["per_video"]) == [f"v{n}" for n in range(5)]
    assert psnr["value"] == pytest.approx(np.mean(list(psnr["per_video"].values())))
    low, high = psnr["interval"]
    assert low < psnr["value"] < high
    assert results["versions"]["torch"]
    assert results["preprocessing"]["pixels"] == "uint8-rgb"


def test_a_library_under_another_name_does_not_lose_the_results(sides, tmp_path, monkeypatch):
    monkeypatch.setattr("handi.evaluation.run.LIBRARIES", ("torch", "opencv-of-another-name"))
    results, _ = run(*sides, tmp_path / "out", EvaluationConfig(("pixels",), resamples=20))
    assert results["versions"]["opencv-of-another-name"] == "not installed"
    assert results["versions"]["torch"] != "not installed"


def test_the_context_image_is_not_scored(sides, tmp_path):
    pred, ref = sides
    wrong = np.load(pred / "v0.npy")
    wrong[0] = 0
    before, _ = run(pred, ref, tmp_path / "a")
    np.save(pred / "v0.npy", wrong)
    after, _ = run(pred, ref, tmp_path / "b")
    assert before["metrics"]["psnr"] == after["metrics"]["psnr"]
    with_it, _ = run(pred, ref, tmp_path / "c", EvaluationConfig(("pixels",), context_frames=0, resamples=20))
    assert with_it["metrics"]["psnr"]["per_video"]["v0"] < after["metrics"]["psnr"]["per_video"]["v0"]


def test_any_order_of_a_manifest_and_any_cache_give_the_same_numbers(sides, tmp_path):
    pred, ref = sides
    rows = [{"id": f"v{n}", "video": f"v{n}.npy"} for n in range(5)]
    (pred / "m.jsonl").write_text("\n".join(json.dumps(row) for row in reversed(rows)))
    rows = [row | {"area": f"motion_area/{row['id']}.png"} for row in rows]
    (ref / "m.jsonl").write_text("\n".join(json.dumps(row) for row in rows[2:] + rows[:2]))
    loaded = LoadedMetrics({"pixels": Pixels(), "colour": ColourDistance()})
    folder, _ = run(pred, ref, tmp_path / "a", loaded=loaded)
    manifest, _ = run(pred / "m.jsonl", ref / "m.jsonl", tmp_path / "b", loaded=loaded)
    cached, _ = run(pred, ref, tmp_path / "c", loaded=loaded, cache_folder=tmp_path / "a" / "features")
    assert folder["metrics"] == manifest["metrics"] == cached["metrics"]


def test_features_are_made_once_and_found_by_content(sides, tmp_path, monkeypatch):
    pred, ref = sides
    calls = []
    monkeypatch.setattr(Colour, "__call__", lambda self, frames: calls.append(1) or frames.mean((1, 2)))
    monkeypatch.setitem(METRICS, "colour", f"{__name__}:ColourDistance")
    settings = EvaluationConfig(("colour",), resamples=20)
    first, _ = run(pred, ref, tmp_path / "a", settings, cache_folder=tmp_path / "cache")
    assert len(calls) == 10
    (pred / "v0.npy").rename(pred / "moved.npy")
    (pred / "moved.npy").rename(pred / "v0.npy")
    next((tmp_path / "cache").rglob("*.npy")).write_bytes(b"damaged")
    again, _ = run(pred, ref, tmp_path / "b", settings, cache_folder=tmp_path / "cache")
    assert len(calls) == 11
    assert first["metrics"] == again["metrics"]
    monkeypatch.setattr("handi.evaluation.features.PROTOCOL", "another")  # by which features may be others
    run(pred, ref, tmp_path / "c", settings, cache_folder=tmp_path / "cache")
    assert len(calls) == 21


# -------------------------------------------------------------------------------- two predictions, sets


def test_paired_differences(sides, tmp_path):
    pred, ref = sides
    results, _ = run(pred, ref, tmp_path / "out", versus=ref)
    gap = results["paired"]["differences"]["psnr"]
    ours, theirs = results["metrics"]["psnr"], results["paired"]["metrics"]["psnr"]
    assert gap["value"] == pytest.approx(ours["value"] - theirs["value"])
    assert gap["interval"][1] < 0  # the truth itself is surely better
    same, _ = run(pred, ref, tmp_path / "same", versus=pred)
    assert same["paired"]["differences"]["psnr"] == {
        **same["paired"]["differences"]["psnr"], "value": 0, "interval": [0, 0]
    }  # fmt: skip


def test_each_side_states_its_own_n_and_why_it_is_skipped(sides, tmp_path):
    """Where nothing moves there is no share of motion; the difference is over what both have."""
    pred, ref = sides
    still = tmp_path / "still"
    still.mkdir()
    for n in range(5):
        frames = np.load(ref / f"v{n}.npy")
        np.save(still / f"v{n}.npy", frames if n < 2 else np.repeat(frames[:1], FRAMES, axis=0))
    results, _ = run(pred, ref, tmp_path / "a", versus=still)
    assert results["paired"]["metrics"]["flow_inside"]["n"] == 2
    assert results["paired"]["differences"]["flow_inside"]["n"] == 2
    console = Console(width=200, file=io.StringIO())
    console.print(results_table(results))
    row = next(line for line in console.file.getvalue().splitlines() if line.startswith("flow inside"))
    assert row.count("(n = 2)") == 2
    assert console.file.getvalue().count("(n = ") == 2  # the other figures are over all
    for n in range(2):
        np.save(still / f"v{n}.npy", np.repeat(np.load(ref / f"v{n}.npy")[:1], FRAMES, axis=0))
    results, _ = run(pred, ref, tmp_path / "b", versus=still)
    assert "flow inside the area (versus): skipped: nothing moves in it" in list(remarks(results))


def test_set_metrics_by_hand(sides, tmp_path, monkeypatch):
    pred, ref = sides
    monkeypatch.setitem(METRICS, "colour", f"{__name__}:ColourDistance")
    results, _ = run(pred, ref, tmp_path / "out", EvaluationConfig(("colour",), resamples=100), versus=ref)
    made, true = (
        np.stack([np.load(side / f"v{n}.npy")[1:] for n in range(5)]).mean((0, 1, 2, 3)) for side in sides
    )
    entry = results["metrics"]["colour"]
    assert entry["value"] == pytest.approx(np.square(made - true).sum(), rel=1e-5)
    assert entry["interval"][0] < entry["value"] < entry["interval"][1]
    assert entry["n"] == 5
    assert "n = 5: under 2048" in entry["warning"]
    assert any("under 2048" in line for line in remarks(results))
    assert results["paired"]["metrics"]["colour"]["value"] == 0
    assert results["paired"]["differences"]["colour"]["value"] == pytest.approx(entry["value"])


def test_a_set_of_one_is_refused(sides, tmp_path, monkeypatch):
    pred, ref = sides
    monkeypatch.setitem(METRICS, "colour", f"{__name__}:ColourDistance")
    for side in sides:
        for n in range(1, 5):
            (side / f"v{n}.npy").unlink()
    results, _ = run(pred, ref, tmp_path / "out", EvaluationConfig(("colour", "pixels"), resamples=20))
    assert results["metrics"]["colour"]["skipped"] == "a distance between sets needs 2 videos, there is 1"
    assert results["metrics"]["psnr"]["n"] == 1
    assert results["metrics"]["psnr"]["interval"] is None


class NoWeights(ColourDistance):
    def __init__(self, device: str) -> None:
        raise ModelError("no such weights", where="inception.pth", hint="put them there")


class Broken(Pixels):
    def scores(self, pair, features):
        if pair.id == "v1":
            raise ZeroDivisionError("division by zero")
        return {"psnr": float("nan") if pair.id == "v2" else 20.0}


def test_missing_weights_and_broken_metrics_are_said_and_stop_nothing(sides, tmp_path, monkeypatch):
    monkeypatch.setitem(METRICS, "colour", f"{__name__}:NoWeights")
    monkeypatch.setitem(METRICS, "pixels", f"{__name__}:Broken")
    results, _ = run(*sides, tmp_path / "out", EvaluationConfig(("colour", "pixels", "motion"), resamples=20))
    metrics = results["metrics"]
    assert metrics["colour"]["skipped"] == "inception.pth: no such weights; put them there"
    assert "value" not in metrics["colour"]
    assert metrics["psnr"]["n"] == 3
    assert metrics["psnr"]["missing"] == {
        "v1": "ZeroDivisionError: division by zero",
        "v2": "it gives nothing to measure",
    }
    assert "skipped" in metrics["ssim"]
    assert metrics["flow_mean"]["n"] == 5


def test_a_module_that_cannot_be_imported_is_skipped_by_its_name(sides, tmp_path, monkeypatch):
    monkeypatch.setitem(METRICS, "colour", "handi.no_such_module:Colour")
    results, _ = run(*sides, tmp_path / "out", EvaluationConfig(("colour", "pixels"), resamples=20))
    assert results["metrics"]["colour"]["skipped"].startswith("ModuleNotFoundError")
    assert results["metrics"]["psnr"]["n"] == 5


def test_without_areas_the_hand_detector_is_asked_once(sides, tmp_path, monkeypatch):
    pred, ref = sides
    for path in (ref / "motion_area").iterdir():
        path.unlink()
    asked = []

    def none(device: str) -> None:
        asked.append(device)
        raise ModelError("no such weights", where="hand_landmark_full.tflite")

    monkeypatch.setattr("handi.evaluation.pairs.find_hands", none)
    results, _ = run(pred, ref, tmp_path / "out", EvaluationConfig(("motion",), resamples=20))
    assert len(asked) == 1
    assert results["metrics"]["flow_inside"]["skipped"] == "there is no motion area"
    assert results["metrics"]["flow_mean"]["n"] == 5
    assert "hand_landmark_full.tflite: no such weights" in results["notes"][0]


# ------------------------------------------------------------------------------------ scopes, subset


def test_scopes(sides, tmp_path):
    pred, ref = sides
    settings = EvaluationConfig(("pixels",), resamples=20)
    for n in range(5):  # wrong outside the area only
        made = clip(n)
        made[1:, ~area(n, 8 + n)] = 0
        np.save(pred / f"v{n}.npy", made)
    full, _ = run(pred, ref, tmp_path / "full", settings)
    assert full["metrics"]["psnr"]["value"] < 15
    for scope in ("area-mask", "area-crop"):
        inside, _ = run(pred, ref, tmp_path / scope, EvaluationConfig(("pixels",), scope, resamples=20))
        assert inside["metrics"]["psnr"]["value"] == pytest.approx(58.92, abs=0.01)
        assert inside["protocol"]["scope"] == scope
        # A crop of 8 px has no SSIM, those of 11 and 12 px do.
        assert inside["metrics"]["ssim"]["n"] == (2 if scope == "area-crop" else 5)
        small = set(inside["metrics"]["ssim"]["missing"].values())
        assert small == ({"it is smaller than SSIM's window of 11 px"} if scope == "area-crop" else set())


def test_an_empty_area_is_left_out_and_counted(sides, tmp_path):
    pred, ref = sides
    write_image(ref / "motion_area" / "v3.png", np.zeros((24, 32), bool))
    results, _ = run(
        pred, ref, tmp_path / "out", EvaluationConfig(("pixels", "motion"), "area-mask", resamples=20)
    )
    assert results["n"] == 5
    assert results["metrics"]["psnr"]["n"] == 4
    assert results["metrics"]["psnr"]["missing"] == {"v3": "it has no motion area"}
    assert results["metrics"]["flow_mean"]["n"] == 5  # it needs no area
    assert results["notes"] == ["1 videos have no motion area: v3 (its motion area is empty)"]


def test_the_motion_intensive_subset_is_the_tenth_with_the_largest_areas(tmp_path):
    pred, ref = tmp_path / "pred", tmp_path / "ref"
    for folder in (pred, ref):
        folder.mkdir()
    for n in range(20):
        np.save(ref / f"v{n:02}.npy", clip(n))
        size = 10 if n in (4, 11, 17) else 5  # three of the largest for two places: ties go by id
        write_image(ref / "motion_area" / f"v{n:02}.png", area(n % 10, size))
        if n != 11:
            np.save(pred / f"v{n:02}.npy", clip(n))
    settings = EvaluationConfig(("pixels",), subset="motion-intensive", resamples=20)
    results, said = run(pred, ref, tmp_path / "out", settings)
    assert list(results["metrics"]["psnr"]["per_video"]) == ["v04"]
    assert (results["n"], results["asked"]) == (1, 2)  # v11 belongs to it, generated or not
    assert said == [f"not scored: v11: there is no generated video of it in {pred}"]


# ----------------------------------------------------------------------------------------- bad input


def test_bad_videos_are_named_in_a_line_each_and_the_rest_is_scored(sides, tmp_path):
    pred, ref = sides
    for n in range(5, 12):
        np.save(ref / f"v{n}.npy", clip(n))
        np.save(pred / f"v{n}.npy", clip(n))
    (pred / "v5.npy").unlink()  # one side misses it
    np.save(pred / "v6.npy", clip(6, frames=3))  # unequal frame counts
    np.save(ref / "v7.npy", clip(7, frames=5))  # here too
    (pred / "v8.npy").unlink()
    write_video(pred / "v8.mp4", clip(8))
    whole = (pred / "v8.mp4").read_bytes()
    (pred / "v8.mp4").write_bytes(whole[:600])  # a truncated mp4
    nan = clip(9).astype(np.float32) / 255
    nan[2, 3, 3] = np.nan
    np.save(pred / "v9.npy", nan)  # NaN frames
    (pred / "v10.npy").write_bytes(b"")  # an empty file
    (pred / "v11.npy").unlink()
    for number in (0, 1, 3):  # a frame is missing
        write_image(pred / "v11" / f"{number:04}.png", clip(11)[number])
    np.save(pred / "extra.npy", clip(0))
    results, said = run(pred, ref, tmp_path / "out", EvaluationConfig(("pixels",), resamples=20))
    assert (results["n"], results["asked"]) == (5, 12)
    assert results["metrics"]["psnr"]["n"] == 5
    why = results["refused"]
    assert set(why) == {"v5", "v6", "v7", "v8", "v9", "v10", "v11", "extra"}
    assert why["v5"] == f"there is no generated video of it in {pred}"
    assert why["v6"] == f"{pred} has 3 frames, the others 4"
    assert why["v7"] == "the true video has 5 frames, the others 4"
    assert "v8.mp4" in why["v8"]
    assert why["v9"] == f"{pred / 'v9.npy'}: NaN or infinite pixels in frame 2"
    assert "v10.npy" in why["v10"]
    assert why["v11"] == f"{pred / 'v11'} holds no video and no evenly numbered pictures of one size"
    assert "there is no true video" in why["extra"]
    assert said.pop(0) == f"note: {pred}: not read, as no video: v11"
    assert sorted(said) == sorted(f"not scored: {id}: {reason}" for id, reason in why.items())
    assert all("\n" not in line for line in said)
    assert "n = 5 of 12: 7 videos could not be scored" in list(remarks(results))


def test_the_command_ends_with_one_line_where_nothing_can_be_scored(handi, sides, tmp_path):
    pred, ref = sides
    (tmp_path / "empty").mkdir()
    for arguments, message in (
        (("--pred", tmp_path / "empty", "--ref", ref), "empty: holds no video"),
        (("--pred", pred, "--ref", tmp_path / "nowhere"), "nowhere: no such folder or manifest"),
        (("--pred", pred, "--ref", ref, "--metrics", "fidd"), "unknown metric 'fidd'"),
        (("--pred", pred, "--ref", ref, "--context-frames", "4"), "none of 5 videos can be scored"),
    ):
        code, _, err = handi("evaluate", *arguments, "--out", tmp_path / "out")
        assert code == 1
        last = err.strip().splitlines()[-1]
        assert last.startswith("error: ")
        assert message in last
    assert not (tmp_path / "out" / "results.json").exists()


def test_the_help_names_every_metric(handi):
    code, printed, _ = handi("evaluate", "--help")
    assert code == 0
    words = printed.replace(",", " ").replace(".", " ").split()
    assert set(METRICS) <= set(words)


def test_the_command_prints_a_table_and_writes_csv(handi, sides, tmp_path):
    pred, ref = sides
    out = tmp_path / "out"
    arguments = ("evaluate", "--pred", pred, "--versus", ref, "--ref", ref, "--resamples", "20", "--out", out)
    code, printed, err = handi(*arguments, "--metrics", "pixels", "motion")
    assert code == 0
    assert "PSNR" in printed
    assert "skipped" not in printed
    rows = (out / "results.csv").read_text().splitlines()
    assert rows[0] == "prediction,figure,id,value,low,high,n,skipped"
    assert sum(row.startswith(f"{pred},psnr,v") for row in rows) == 5
    assert sum(row.startswith("difference,psnr,all,-") for row in rows) == 1
    (pred / "v0.npy").unlink()
    code, _, err = handi(*arguments, "--metrics", "pixels")
    assert code == 1  # a gap in n is no success
    assert "n = 4 of 5: 1 videos could not be scored" in err


# ------------------------------------------------------------------------------------ the protocol


def test_generated_videos_are_resized_to_the_true_ones_and_it_is_said(sides, tmp_path):
    """As `handi generate` makes them: at the model's own size."""
    pred, ref = sides
    settings = EvaluationConfig(("pixels",), "area-mask", resamples=20)
    before, _ = run(pred, ref, tmp_path / "a", settings)
    np.save(pred / "v0.npy", np.load(pred / "v0.npy").repeat(2, axis=1).repeat(2, axis=2))
    np.save(pred / "v1.npy", np.load(pred / "v1.npy").repeat(3, axis=2))
    write_image(ref / "motion_area" / "v2.png", area(2, 10).repeat(2, axis=0).repeat(2, axis=1))
    write_image(ref / "context" / "v3.png", clip(3)[0].repeat(2, axis=0).repeat(2, axis=1))
    after, said = run(pred, ref, tmp_path / "b", settings)
    assert not said
    assert after["n"] == 5
    assert after["metrics"]["psnr"]["per_video"] == before["metrics"]["psnr"]["per_video"]
    assert after["notes"] == [
        "1 context images resized: v3 (64×48 to 32×24)",
        "2 generated videos resized to their true video: v0 (64×48 to 32×24), v1 (96×24 to 32×24)",
        "1 generated videos stretched: they have another aspect: v1 (96×24 to 32×24)",
        "1 motion areas resized: v2 (64×48 to 32×24)",
    ]
    np.save(ref / "v4.npy", clip(4, height=48, width=64))  # footage need not be of one size
    mixed, _ = run(pred, ref, tmp_path / "c", settings)
    assert mixed["n"] == 5
    assert any("v4 (32×24 to 64×48)" in note for note in mixed["notes"])


def test_sixteen_frames_are_taken_of_longer_footage(tmp_path):
    for folder, frames in (("pred", 16), ("ref", 40)):
        (tmp_path / folder).mkdir()
        for n in range(3):
            np.save(tmp_path / folder / f"v{n}.npy", clip(n, frames=40)[even_indices(40, frames)])
    np.save(tmp_path / "pred/v2.npy", clip(2, frames=15))
    results, _ = run(
        tmp_path / "pred", tmp_path / "ref", tmp_path / "out", EvaluationConfig(("pixels",), resamples=20)
    )
    assert results["refused"] == {"v2": f"{tmp_path / 'pred'} has 15 frames, the others 16"}
    assert results["protocol"]["frames"] == 15
    assert min(results["metrics"]["psnr"]["per_video"].values()) > 50  # the very same frames
    assert "v0 (40 frames in the true video)" in results["notes"][0]


def test_cases_of_public_bug_reports(tmp_path):
    """A text in Windows-1252 is named, the others are scored; GIFs are scored, with a note."""
    true = {f"c{n}": smooth(n) for n in range(3)}
    for id, frames in true.items():
        np.save(made_dir(tmp_path / "ref") / f"{id}.npy", frames)
        images = [Image.fromarray(frame) for frame in frames]
        images[0].save(made_dir(tmp_path / "gif") / f"{id}.gif", save_all=True, append_images=images[1:])
    (tmp_path / "ref/c1.txt").write_bytes(b"Cut the chef\x92s carrot.")
    results, said = run(
        tmp_path / "gif", tmp_path / "ref", tmp_path / "out", EvaluationConfig(("pixels",), resamples=20)
    )
    assert list(results["metrics"]["psnr"]["per_video"]) == ["c0", "c2"]
    (line,) = said
    assert line.startswith(
        f"not scored: c1: {tmp_path / 'ref/c1.txt'}: is not UTF-8 text (byte 0x92 in line 1"
    )
    assert any(
        "3 generated videos are GIFs, which changes their colours" in note for note in results["notes"]
    )
    assert results["metrics"]["psnr"]["value"] > 20


def made_dir(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder


def smooth(seed: int) -> np.ndarray:
    """Frames of few colours, different in each."""
    ramp = np.linspace(0, 200, 32, dtype=np.uint8)
    frames = np.zeros((FRAMES, 24, 32, 3), np.uint8)
    frames[..., seed] = ramp + 10 * np.arange(FRAMES, dtype=np.uint8)[:, None, None]
    return frames


def test_any_exception_of_a_video_is_its_failure_alone(sides, tmp_path, monkeypatch):
    real = Entry.frames

    def broken(entry, *more):
        if entry.video.name == "v2.npy":
            raise RuntimeError("a decoder's own error")
        return real(entry, *more)

    monkeypatch.setattr(Entry, "frames", broken)
    results, said = run(*sides, tmp_path / "out", EvaluationConfig(("pixels",), resamples=20))
    assert results["refused"] == {"v2": "RuntimeError: a decoder's own error"}
    assert said == ["not scored: v2: RuntimeError: a decoder's own error"]
    assert results["metrics"]["psnr"]["n"] == 4


def test_what_is_missing_is_found_before_a_video_is_read(sides, tmp_path, monkeypatch):
    def never(*arguments):
        raise AssertionError("a video was read")

    monkeypatch.setattr("handi.evaluation.videos.Entry.shape", never)
    monkeypatch.setitem(METRICS, "colour", f"{__name__}:NoWeights")
    with pytest.raises(InputError, match=r"none of the metrics can be measured \(colour: inception.pth"):
        run(*sides, tmp_path / "out", EvaluationConfig(("colour",), resamples=20))

    def none(device: str) -> None:
        raise ModelError("no such weights", where="hand_landmark_full.tflite")

    (sides[1] / "motion_area" / "v3.png").unlink()
    monkeypatch.setattr("handi.evaluation.pairs.find_hands", none)
    with pytest.raises(ModelError, match="hand_landmark_full"):
        run(*sides, tmp_path / "out", EvaluationConfig(("pixels",), "area-mask", resamples=20))


# ------------------------------------------------------------------------------- workers, and resuming


@pytest.fixture
def own_metric(tmp_path) -> str:
    """A set metric in a file, as each worker must load it for itself."""
    path = tmp_path / "colours.py"
    path.write_text(
        """
import numpy as np
from handi.evaluation.metrics.frechet import frechet_distance
from handi.evaluation.metrics.protocol import Figure

class Colour:
    key = "colour"
    def __call__(self, frames):
        return frames.mean((1, 2)).astype(np.float32)

class Colours:
    name = "colours"
    figures = (Figure("colours", "colours", "lower"),)
    needs = wants = ()
    scoped = True
    preprocessing = "none"
    extractor = Colour()
    enough = 2048
    distance = staticmethod(frechet_distance)
    def __init__(self, device="cpu"):
        self.weights = {}
"""
    )
    return f"{path}:Colours"


@pytest.mark.timeout(900)  # of a busy machine: each worker loads torch
def test_any_number_of_workers_gives_the_same_bytes(sides, own_metric, tmp_path):
    pred, ref = sides
    (pred / "v3.npy").write_bytes(b"damaged")
    np.save(pred / "v4.npy", clip(4, height=12, width=16))  # its change of size is noted by whoever reads it
    config = EvaluationConfig(("pixels", own_metric), "area-mask", resamples=40)
    outs = {"one": Serial(), "two": Processes(2)}
    for name, executor in outs.items():
        run(pred, ref, tmp_path / name, config, versus=ref, executor=executor)
    for file in ("results.json", "results.csv", "ledger.jsonl"):
        found = {(tmp_path / name / file).read_bytes() for name in outs}
        assert len(found) == 1, file
    lines = [json.loads(line) for line in (tmp_path / "two/ledger.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == [f"v{n}" for n in range(5)]
    assert [line["refused"] is None for line in lines] == [True, True, True, False, True]


def test_a_run_that_was_stopped_resumes_with_the_next_video(sides, tmp_path, monkeypatch):
    pred, ref = sides
    scored, load = [], Pairs.load

    def stops(pairs, id, **more):
        if len(scored) == 3:
            raise KeyboardInterrupt
        scored.append(id)
        return load(pairs, id, **more)

    whole, _ = run(pred, ref, tmp_path / "whole")
    monkeypatch.setattr(Pairs, "load", stops)
    with pytest.raises(KeyboardInterrupt):
        run(pred, ref, tmp_path / "out")
    path = tmp_path / "out/ledger.jsonl"
    path.write_bytes(path.read_bytes()[:-20])  # as a kill leaves it: the third line is cut off
    scored.clear()
    again, _ = run(pred, ref, tmp_path / "out")
    assert scored == ["v2", "v3", "v4"]
    assert again == whole
    scored.clear()
    np.save(pred / "v1.npy", clip(7))  # another video now
    assert run(pred, ref, tmp_path / "out")[0]["metrics"] != whole["metrics"]
    assert scored == ["v1"]


# -------------------------------------------------------------------------------------------- memory


def test_memory_is_flat_in_the_number_of_videos(tmp_path):
    ref, peaks = tmp_path / "ref", []
    ref.mkdir()
    loaded = LoadedMetrics({"colour": ColourDistance()})
    for count in (4, 24):
        for n in range(count):
            np.save(ref / f"v{n}.npy", clip(n, frames=9, height=128, width=128))  # 442 kB
        tracemalloc.start()
        run(ref, ref, tmp_path / str(count), loaded=loaded)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 2 * 9 * 128 * 128 * 3
    with pytest.raises(InputError, match="resamples"):
        EvaluationConfig(resamples=1).check()


def test_results_as_json(handi, sides, tmp_path):
    pred, ref = sides
    arguments = ("--pred", pred, "--ref", ref, "--metrics", "pixels", "--resamples", 20, "--json")
    code, printed, err = handi("evaluate", *arguments, "--out", tmp_path / "out")
    assert code == 0, err
    assert json.loads(printed) == json.loads((tmp_path / "out/results.json").read_text())
