"""Methods under one protocol: floors, our pipeline, diffusers' pipelines, any program; what is kept."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.bench_data import FRAMES, SIZE, area, clip, write_data

from handi import HandiPipeline
from handi.core.errors import HandiError, InputError, ModelError
from handi.core.images import write_image
from handi.evaluation.clips import ClipOptions, generate_clips, is_generated, task_of
from handi.evaluation.folder import read_videos
from handi.evaluation.methods import parse_spec
from handi.evaluation.methods.base import (
    FlowExtrapolation,
    GeneratedClip,
    Static,
    Task,
    conformed,
    one_by_one,
)
from handi.evaluation.methods.model import Handi
from handi.evaluation.methods.program import Command
from handi.method.area import prior_area
from handi.method.latents import area_at


def task(id: str = "a", **more) -> Task:
    return Task(id, clip(0)[0], "Push the square.", **more)


def frames_of(made: GeneratedClip) -> np.ndarray:
    assert not isinstance(made.frames, HandiError), made.frames
    return made.frames


def test_a_static_copy_is_the_context_16_times():
    (made,) = Static().generate([task()])
    assert (frames_of(made) == clip(0)[0]).all()
    assert frames_of(made).shape == (FRAMES, SIZE, SIZE, 3)


def test_flow_goes_on_as_the_first_pair_began():
    true = clip(0)
    (made,) = FlowExtrapolation().generate([task(following=true[1])])
    frames = frames_of(made)
    assert (frames[0] == true[0]).all()
    inside = area()

    def error(number: int, guess: np.ndarray) -> float:
        return np.abs(guess[inside].astype(int) - true[number][inside]).mean()

    for number in (3, 6):
        assert error(number, frames[number]) < 0.8 * error(number, true[0])
    (blind,) = FlowExtrapolation().generate([task()])
    assert isinstance(blind.frames, InputError)


def test_other_lengths_and_sizes_become_the_protocols():
    context = clip(0)[0]
    numbered = np.arange(49, dtype=np.uint8)[:, None, None, None] + np.zeros((1, 32, 48, 3), np.uint8)
    out = conformed(numbered, context)
    assert out.shape == (FRAMES, SIZE, SIZE, 3)
    assert out[:, 5, 5, 0].tolist() == [round(i) for i in np.linspace(0, 48, FRAMES)]
    late = conformed(clip(0)[1:], context)
    assert (late == clip(0)).all()
    with pytest.raises(InputError, match="1 frame"):
        conformed(numbered[:1], context)


# -------------------------------------------------------------------------------------- our pipeline


def test_our_pipeline_with_each_mask(model_folder):
    context = clip(0)[0]
    made, areas = {}, {}
    for mask in ("generated", "full", "prior", "true"):
        method = Handi(str(model_folder), mask=mask, steps=1, area_steps=1, guidance=1.0, device="cpu")
        (one,) = method.generate([task(area=area())])
        made[mask], areas[mask] = frames_of(one), one.area
        assert made[mask].shape == (FRAMES, SIZE, SIZE, 3)
        assert one.stages["stage2"] > 0
        assert ("stage1" in one.stages) == (mask == "generated")
    outside = ~area()
    assert (made["true"][:, outside] == context[outside]).all()  # put back from the context image
    assert (made["full"][1:, outside] != context[outside]).any()
    assert areas["full"].all()
    assert (areas["true"] == area()).all()
    prior = HandiPipeline.from_pretrained(model_folder).prior_mask
    assert (areas["prior"] == prior_area(area_at(prior, torch.empty(1, SIZE, SIZE))[0].numpy())).all()
    prior_moves = (made["prior"] != context).any(axis=(0, 3))
    assert 0 < prior_moves.mean() < 1
    assert (made["prior"][:, ~prior_moves] == context[~prior_moves]).all()


def test_parameters_count_what_runs(model_folder, pipe):
    two = Handi(str(model_folder), device="cpu")
    one = Handi(str(model_folder), mask="full", device="cpu")
    assert two.parameters - one.parameters == sum(p.numel() for p in pipe.area_unet.parameters())
    assert two.config != one.config


# --------------------------------------------------------------------------------- diffusers' own


@pytest.fixture(scope="module")
def pia_folder(tmp_path_factory):
    """A tiny PIA of random weights, as `save_pretrained` writes one."""
    import torch
    from diffusers import AutoencoderKL, DDIMScheduler, MotionAdapter, PIAPipeline, UNet2DConditionModel

    from handi.models.text import byte_tokenizer, small_text_encoder

    torch.manual_seed(0)
    tokenizer = byte_tokenizer()
    blocks = {"block_out_channels": (8, 8), "layers_per_block": 1, "norm_num_groups": 2}
    unet = UNet2DConditionModel(
        sample_size=8,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=32,
        attention_head_dim=2,
        **blocks,
    )
    adapter = MotionAdapter(
        block_out_channels=(8, 8),
        motion_layers_per_block=1,
        motion_norm_num_groups=2,
        motion_num_attention_heads=2,
        conv_in_channels=9,
    )
    vae = AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=2,
    )
    scheduler = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="linear", clip_sample=False)
    pipe = PIAPipeline(
        vae=vae,
        text_encoder=small_text_encoder(tokenizer),
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler,
        motion_adapter=adapter,
    )
    folder = tmp_path_factory.mktemp("pia")
    pipe.save_pretrained(folder)
    return folder


def test_pia_of_a_local_folder(pia_folder):
    from handi.evaluation.methods.published import Pia

    method = Pia(str(pia_folder), area=32 * 32, steps=2, device="cpu")
    (made,) = method.generate([task()])
    frames = frames_of(made)
    assert frames.shape == (FRAMES, SIZE, SIZE, 3)
    assert frames.std() > 0
    assert method.parameters > 1000
    (again,) = method.generate([task()])
    (other,) = method.generate([task(seed=1)])
    assert (frames_of(again) == frames).all()
    assert (frames_of(other) != frames).any()


@pytest.fixture(scope="module", params=["CogVideoXPipeline", "CogVideoXImageToVideoPipeline"])
def cogvideox_folder(request, tmp_path_factory):
    """A tiny CogVideoX of random weights, with a T5 of a few words."""
    import diffusers
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

    torch.manual_seed(0)
    sees = request.param == "CogVideoXImageToVideoPipeline"
    words = {"<pad>": 0, "</s>": 1, "<unk>": 2, "Push": 3, "the": 4, "square": 5}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    text_encoder = T5EncoderModel(
        T5Config(vocab_size=8, d_model=32, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    )
    transformer = diffusers.CogVideoXTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=8 if sees else 4,
        out_channels=4,
        time_embed_dim=2,
        text_embed_dim=32,
        num_layers=1,
        sample_width=4,
        sample_height=4,
        sample_frames=9,
        patch_size=2,
        temporal_compression_ratio=4,
        max_text_seq_length=226,
        use_rotary_positional_embeddings=True,
        use_learned_positional_embeddings=sees,
    )
    vae = diffusers.AutoencoderKLCogVideoX(
        in_channels=3,
        out_channels=3,
        down_block_types=("CogVideoXDownBlock3D",) * 4,
        up_block_types=("CogVideoXUpBlock3D",) * 4,
        block_out_channels=(8, 8, 8, 8),
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=2,
        temporal_compression_ratio=4,
    )
    pipe = getattr(diffusers, request.param)(
        tokenizer=fast,
        text_encoder=text_encoder.eval(),
        vae=vae,
        transformer=transformer,
        scheduler=diffusers.CogVideoXDDIMScheduler(),
    )
    folder = tmp_path_factory.mktemp("cogvideox")
    pipe.save_pretrained(folder)
    return folder


def test_cogvideox_of_a_local_folder(cogvideox_folder):
    from handi.evaluation.methods.published import CogVideoX

    method = CogVideoX(str(cogvideox_folder), steps=2, device="cpu")
    (made,) = method.generate([task()])
    frames = frames_of(made)
    assert frames.shape == (FRAMES, SIZE, SIZE, 3)  # 9 frames of 32×32 are what it makes
    assert method.calls["num_frames"] == 9
    other_context = Task("b", clip(1)[0], "Push the square.")
    (other,) = method.generate([other_context])
    assert (frames_of(other) != frames).any() == method.sees


def test_folders_that_are_no_pipelines_are_named(tmp_path, model_folder):
    from handi.evaluation.methods.published import CogVideoX, Pia

    with pytest.raises(InputError, match="no such model folder"):
        Pia(str(tmp_path / "gone"), adapter="x", device="cpu")
    with pytest.raises(ModelError, match="no motion_adapter"):
        Pia(str(tmp_path), device="cpu")
    with pytest.raises(ModelError, match=r"model_index\.json"):
        CogVideoX(str(tmp_path), device="cpu")
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}))
    with pytest.raises(ModelError, match="is a StableDiffusionPipeline"):
        CogVideoX(str(tmp_path), device="cpu")


# ------------------------------------------------------------------------------------ any program

PROGRAM = '''
"""A stand-in for somebody's model: 8 frames of half the size, brighter and brighter."""
import json, sys
from pathlib import Path
import numpy as np
from PIL import Image

mode, inputs, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
requests = [json.loads(line) for line in open(inputs / "requests.jsonl")]
prompts = (inputs / "prompts.txt").read_text().splitlines()
pictures = sorted(inputs.glob("*.png"))
assert [r["prompt"] for r in requests] == prompts
assert [r["image"] for r in requests] == list(map(str, pictures))
assert (inputs / "requests.csv").read_text().splitlines()[0] == "text,ref"
if mode == "fail":
    sys.exit("out of memory: 80 GB are needed")
for number, request in enumerate(requests):
    if mode == "gap" and number == 1:
        continue
    image = Image.open(request["image"]).convert("RGB")
    small = np.asarray(image.resize((image.width // 2, image.height // 2)), np.int64)
    frames = [Image.fromarray((small + 4 * k).clip(0, 255).astype(np.uint8)) for k in range(8)]
    folder = out / "samples" / request["id"]
    folder.mkdir(parents=True)
    for k, frame in enumerate(frames):
        frame.save(folder / f"{k:03d}.png")
'''


@pytest.fixture
def program(tmp_path):
    """Command lines of the stand-in, by mode."""
    path = tmp_path / "their model.py"
    path.write_text(PROGRAM)

    def command(mode: str) -> str:
        return f"'{sys.executable}' '{path.name}' {mode} {{inputs}} {{out}}"

    return command


def test_a_program_is_started_once_for_all_clips(program, tmp_path):
    method = Command(program("run"), folder=tmp_path, output="samples/{id}", parameters=1.5e9)
    made = list(method.generate(Task(id, clip(n)[0], f"Push {id}.") for n, id in enumerate("ba")))
    assert [one.id for one in made] == ["a", "b"]
    assert method.parameters == 1_500_000_000
    for one, seed in zip(made, (1, 0), strict=True):
        frames = frames_of(one)
        assert frames.shape == (FRAMES, SIZE, SIZE, 3)
        near, far = (np.abs(frames[0].astype(int) - clip(n)[0]).mean() for n in (seed, 1 - seed))
        assert near < far / 3  # through half the size and back
        assert frames[-1].mean() > frames[0].mean() + 15


def test_what_a_program_leaves_out_or_says_is_reported(program, tmp_path):
    gap = Command(program("gap"), folder=tmp_path, output="samples/{id}")
    made = list(gap.generate([task("a"), task("b")]))
    assert frames_of(made[0]).shape[0] == FRAMES
    assert "made no samples/{id}" in str(made[1].frames)
    assert "samples/a/000.png" in str(made[1].frames)
    broken = Command(program("fail"), folder=tmp_path)
    (made_none,) = broken.generate([task()])
    assert "80 GB are needed" in str(made_none.frames)
    with pytest.raises(InputError, match="cannot be started"):
        list(Command("no-such-program-at-all {out}", folder=tmp_path).generate([task()]))


def test_a_program_that_takes_one_clip_at_a_time(tmp_path):
    code = (
        "import sys; from PIL import Image; i = Image.open(sys.argv[1]); "
        "import pathlib; o = pathlib.Path(sys.argv[3]); assert sys.argv[2] == 'Push; the $square.'; "
        "i.save(o / 'x.gif', save_all=True, append_images=[i.rotate(n) for n in range(15)], duration=125)"
    )
    (tmp_path / "one.py").write_text(code)
    method = Command(f"{sys.executable} one.py {{image}} {{prompt}} {{out}}", folder=tmp_path, output="x.gif")
    made = list(method.generate(Task(id, clip(0)[0], "Push; the $square.") for id in "ab"))
    assert [frames_of(one).shape for one in made] == [(FRAMES, SIZE, SIZE, 3)] * 2


def test_commands_that_cannot_be(tmp_path):
    with pytest.raises(InputError, match=r"unknown \{prompts\}"):
        Command("run {prompts} {out}")
    with pytest.raises(InputError, match="where its videos go"):
        Command("run {inputs}")
    with pytest.raises(InputError, match="cannot be split"):
        Command("run 'x {out}")


# ------------------------------------------------------------------------------------------- specs


def test_specs_name_kind_and_place(tmp_path):
    assert parse_spec("static").name == "static"
    spec = parse_spec("aa=animate-anything:weights/AA")
    assert (spec.name, spec.kind, spec.options) == ("aa", "animate-anything", {"model": "weights/AA"})
    assert str(parse_spec("lfdm=videos:out/x").stored) == "out/x"
    file = tmp_path / "dynamicrafter.yaml"
    file.write_text("kind: command\ncommand: run {inputs} {out}\noutput: '{id}_sample0.mp4'\n")
    spec = parse_spec(str(file))
    assert (spec.name, spec.options["folder"]) == ("dynamicrafter", tmp_path)
    assert spec.build().config["output"] == "{id}_sample0.mp4"
    for wrong, said in (
        ("handi", "handi:MODEL"),
        ("static:x", "write static"),
        ("x=dream:y", "no kind of method 'dream'"),
        ("x=command:run", "FILE.yaml"),
        ("a/b=static", "cannot be the name of a folder"),
        ("..=static", "cannot be the name of a folder"),
    ):
        with pytest.raises(InputError, match=said):
            parse_spec(wrong)
    file.write_text("kind: pia\nmodel: x\nstrength: 3\n")
    with pytest.raises(InputError, match="strength"):
        parse_spec(str(file)).build()
    file.write_text("kind: {pia: 1}\n")
    with pytest.raises(InputError, match="does not say which kind of method"):
        parse_spec(str(file))


# --------------------------------------------------------------------------------------- producing


class Counting(Static):
    """Static, but says what it was asked for, and fails on one id."""

    def __init__(self, about: str = "x", fail: str = "") -> None:
        self.config = {"kind": about}
        self.fail, self.asked = fail, []

    def generate(self, tasks):
        for one in tasks:
            self.asked.append(one.id)
            bad = one.id == self.fail
            yield GeneratedClip(
                one.id, InputError("no") if bad else np.repeat(one.context[None], FRAMES, axis=0), 0.5
            )


def test_what_is_made_is_kept_and_what_failed_is_tried_again(tmp_path):
    data = read_videos(write_data(tmp_path / "data", ["1", "2", "3"]))
    out = tmp_path / "out"
    first = Counting(fail="2")
    assert list(generate_clips(first, data, out)) == ["2"]
    assert first.asked == ["1", "2", "3"]
    assert not (out / "2").exists()
    again = Counting()
    assert generate_clips(again, data, out) == {}
    assert again.asked == ["2"]
    assert json.loads((out / "2/run.json").read_text())["seconds"] == 0.5
    made = read_videos(out)
    assert (made["3"].frames() == clip(2)[0]).all()
    other = Counting(about="y")
    generate_clips(other, data, out)
    assert other.asked == ["1", "2", "3"]  # another method, another seed: not the same clip
    assert is_generated(other, task_of(data["1"], ClipOptions(seed=0), ground_truth=False), out / "1")
    assert not is_generated(other, task_of(data["1"], ClipOptions(seed=1), ground_truth=False), out / "1")


def test_another_context_image_of_the_same_id_is_another_clip(tmp_path):
    """A data set that was made anew, or another one of the same name, is not given the old one's clips."""
    data = write_data(tmp_path / "data", ["1", "2"])
    generate_clips(Counting(), read_videos(data), tmp_path / "out")
    write_image(data / "context" / "2.png", clip(7)[0])
    again = Counting()
    generate_clips(again, read_videos(data), tmp_path / "out")
    assert again.asked == ["2"]
    assert (read_videos(tmp_path / "out")["2"].frames() == clip(7)[0]).all()


def test_the_truth_goes_only_to_methods_that_say_so(tmp_path):
    data = read_videos(write_data(tmp_path / "data", ["1"]))
    blind, peeking = (task_of(data["1"], ground_truth=given) for given in (False, True))
    assert blind.area is None
    assert blind.following is None
    assert (peeking.following == clip(0)[1]).all()
    assert (peeking.area == area()).all()


def test_clips_are_asked_for_by_their_enriched_text_where_they_have_one(tmp_path):
    data = read_videos(write_data(tmp_path / "data", ["1", "2"]))
    data["2"] = replace(data["2"], description=None)
    for kind, prompts in (
        ("enriched", ["A hand pushes 0.", "Push square 1."]),
        ("short", ["Push square 0.", "Push square 1."]),
    ):
        assert [task_of(entry, ClipOptions(kind)).prompt for entry in data.values()] == prompts
    generate_clips(Counting(), data, tmp_path / "out")
    again = Counting()
    generate_clips(again, data, tmp_path / "out", ClipOptions("short"))
    assert again.asked == ["1"]  # the other one's words are the same


def test_whatever_goes_wrong_with_a_clip_is_its_failure_alone(tmp_path, monkeypatch):
    class Broken(Static):
        def generate(self, tasks):
            return one_by_one(tasks, self._generate)

        def _generate(self, task):
            if task.id == "2":
                raise ZeroDivisionError("division by zero")
            return np.repeat(task.context[None], 1 if task.id == "3" else FRAMES, axis=0)

    data = read_videos(write_data(tmp_path / "data", ["1", "2", "3", "4", "5"]))
    data["4"] = replace(data["4"], problem="4.txt is not UTF-8 text")
    data["5"] = replace(data["5"], context_file=tmp_path / "gone.png")
    failures = generate_clips(Broken(), data, tmp_path / "out")
    assert {id: str(error) for id, error in failures.items()} == {
        "2": "ZeroDivisionError: division by zero",
        "3": "a video of 1 frame; make 16",
        "4": "4.txt is not UTF-8 text",
        "5": f"{tmp_path / 'gone.png'}: no such picture",
    }
    assert (tmp_path / "out/1/run.json").is_file()
