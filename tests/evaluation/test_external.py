"""Wrappers of other projects: what each is called with, and what comes back, by stand-ins for them."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.bench_data import FRAMES, SIZE, clip, write_data

from handi.core.errors import HandiError, InputError
from handi.evaluation.clips import generate_clips
from handi.evaluation.folder import read_videos
from handi.evaluation.methods import parse_spec
from handi.evaluation.methods.base import Task
from handi.evaluation.methods.external import PROJECTS, External, wrapper_of


def write_files(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def tasks(*ids: str) -> list[Task]:
    return [Task(id, clip(n)[0], f"Push {id}.", seed=7) for n, id in enumerate(ids)]


# -------------------------------------------------------- programs: DynamiCrafter and Open-Sora

# Reads pictures and prompts as the real one does, and writes as many frames as it is asked for.
DYNAMICRAFTER = """
import argparse, glob, json, os
import numpy as np, torchvision
from PIL import Image
parser = argparse.ArgumentParser()
for name in ("ckpt_path", "config", "prompt_dir", "savedir", "timestep_spacing"):
    parser.add_argument(f"--{name}")
for name in ("seed", "n_samples", "bs", "height", "width", "ddim_steps", "video_length", "frame_stride"):
    parser.add_argument(f"--{name}", type=int)
for name in ("unconditional_guidance_scale", "ddim_eta", "guidance_rescale"):
    parser.add_argument(f"--{name}", type=float)
for name in ("text_input", "perframe_ae"):
    parser.add_argument(f"--{name}", action="store_true")
args = parser.parse_args()
assert os.path.isfile(args.ckpt_path) and os.path.isfile(args.config), "weights or config"
assert args.height % 16 == 0 and args.width % 16 == 0 and args.bs == 1
pictures = sorted(glob.glob(os.path.join(args.prompt_dir, "*.png")))
prompts = open(glob.glob(os.path.join(args.prompt_dir, "*.txt"))[0]).read().splitlines()
assert len(pictures) == len(prompts)
with open("called.jsonl", "a") as file:
    file.write(json.dumps(vars(args) | {"prompts": prompts}) + "\\n")


class Tensor:
    def __init__(self, array):
        self.array = array

    def numpy(self):
        return self.array


for path in pictures:
    image = np.asarray(Image.open(path))
    assert image.shape == (args.height, args.width, 3)
    frames = Tensor(np.stack([image] * args.video_length))
    torchvision.io.write_video("x.mp4", frames, fps=8, video_codec="h264", options={"crf": "10"})
"""
TORCHVISION = "from types import SimpleNamespace\nio = SimpleNamespace(write_video=None)\n"

OPEN_SORA = """
import csv, json, pathlib, shutil, sys
words = sys.argv[1:]
assert words[:3] == ["--standalone", "--nproc_per_node", "1"], words
script, config, *rest = words[3:]
options = dict(zip(rest[::2], rest[1::2]))
rows = list(csv.DictReader(open(options["--dataset.data-path"])))
json.dump([script, config, options, rows], open("called.json", "w"))
folder = pathlib.Path(options["--save-dir"], "video_256px")
folder.mkdir(parents=True)
for row in rows:
    shutil.copy("sample.mp4", folder / (row["name"] + ".mp4"))
"""


def test_dynamicrafter_is_given_pictures_of_its_size_and_its_frames_are_not_compressed(tmp_path):
    checkout = write_files(
        tmp_path / "theirs",
        {
            "scripts/evaluation/inference.py": DYNAMICRAFTER,
            "torchvision.py": TORCHVISION,
            "configs/inference_512_v1.0.yaml": "",
            "model.ckpt": "weights",
        },
    )
    spec = parse_spec(
        f"dynamicrafter=external:{checkout},weights={checkout}/model.ckpt,python={sys.executable},"
        "area=4096,steps=3"
    )
    wide = Task("wide", np.zeros((24, 48, 3), np.uint8), "Push\nthe thing.", seed=7)
    made = list(spec.build().generate([*tasks("b", "a.1"), wide]))
    assert [one.id for one in made] == ["a.1", "b", "wide"]
    for one, true in zip(made, (clip(1), clip(0)), strict=False):
        assert not isinstance(one.frames, HandiError), one.frames
        assert one.frames.shape == (FRAMES, SIZE, SIZE, 3)
        assert np.abs(one.frames[5].astype(int) - true[0]).mean() < 3  # to its size and back, no more
    calls = [json.loads(line) for line in (checkout / "called.jsonl").read_text().splitlines()]
    assert [one["prompts"] for one in calls] == [["Push a.1.", "Push b."], ["Push the thing."]]
    assert [(one["height"], one["width"]) for one in calls] == [(64, 64), (48, 96)]
    assert {one["seed"] for one in calls} == {7}
    assert calls[0]["ddim_steps"] == 3
    assert calls[0]["video_length"] == FRAMES
    assert calls[0]["text_input"]
    assert calls[0]["frame_stride"] == 24


def test_open_sora_is_given_a_table_and_its_videos_are_found(tmp_path):
    from handi.core.video import write_video

    checkout = write_files(
        tmp_path / "theirs",
        {
            "scripts/diffusion/inference.py": "",
            "torch/__init__.py": "",
            "torch/distributed/__init__.py": "",
            "torch/distributed/run.py": OPEN_SORA,
            "model.safetensors": "weights",
        },
    )
    write_video(checkout / "sample.mp4", clip(0))
    spec = parse_spec(
        f"open-sora=external:{checkout},weights={checkout}/model.safetensors,python={sys.executable},frames=17"
    )
    made = list(spec.build().generate(tasks("000002", "000001")))
    assert [np.asarray(one.frames).shape for one in made] == [(FRAMES, SIZE, SIZE, 3)] * 2
    script, config, options, rows = json.loads((checkout / "called.json").read_text())
    assert (script, config) == ("scripts/diffusion/inference.py", "configs/diffusion/inference/256px.py")
    assert options["--cond_type"] == "i2v_head"
    assert options["--sampling_option.num_frames"] == "17"
    assert options["--sampling_option.seed"] == "7"
    assert options["--model.from_pretrained"].endswith("model.safetensors")
    assert [row["text"] for row in rows] == ["Push 000001.", "Push 000002."]
    assert [Path(row["ref"]).name for row in rows] == ["000001.png", "000002.png"]


# --------------------------------------------------------- functions: the other four, in this process

CALLS = "calls = []\n"
OMEGACONF = """
from types import SimpleNamespace
class OmegaConf:
    create = staticmethod(lambda content: SimpleNamespace(**content))
    load = staticmethod(lambda path: path)
"""
TRANSFORMERS = """
class Part:
    def __init__(self, place): self.place = place
    from_pretrained = classmethod(lambda cls, place, **how: cls(place))
    def requires_grad_(self, on): return self
    def eval(self): return self
CLIPTextModel = CLIPTokenizer = AutoModel = AutoTokenizer = Part
"""
STAND_INS = {
    "animate_anything": {
        "omegaconf.py": OMEGACONF,
        "diffusers/__init__.py": "",
        "diffusers/image_processor.py": "VaeImageProcessor = object\n",
        "train.py": CALLS
        + """
from types import SimpleNamespace
import imageio_stand_in as imageio
import numpy as np
from PIL import Image
def load_primary_models(folder, motion_strength):
    calls.append(("load", folder, motion_strength))
    part = SimpleNamespace(enable_slicing=lambda: calls.append("sliced"))
    return None, None, part, part, part
def freeze_models(parts): assert len(parts) == 3
def handle_memory_attention(xformers, torch2, unet): assert (xformers, torch2) == (False, True)
def cast_to_gpu_and_type(parts, device, dtype): calls.append((str(device), str(dtype)))
def set_seed(seed): calls.append(seed)
def batch_eval(unet, text, vae, processor, path, data, out, preview, iters):
    assert preview and iters == 1
    calls.append(vars(data))
    image = np.asarray(Image.open(data.prompt_image))
    frames = [image + 0] * data.num_frames
    imageio.mimwrite(out + "/x.gif", frames, duration=125, loop=0)
    imageio.mimwrite(out + "/x.mp4", frames, fps=8)
""",
        "imageio_stand_in.py": "",
    },
    "pia": {
        "omegaconf.py": OMEGACONF,
        "animatediff/__init__.py": "",
        "animatediff/utils/__init__.py": "",
        "animatediff/utils/util.py": """
import numpy as np
from PIL import Image
def preprocess_img(path, longest):
    image = Image.open(path)
    return np.asarray(image), image.height, image.width
""",
        "animatediff/pipelines/__init__.py": CALLS
        + """
from types import SimpleNamespace
import torch
class I2VPipeline:
    device = "cpu"
    @classmethod
    def build_pipeline(cls, *parts):
        calls.append(parts)
        return cls()
    def __call__(self, *, image, generator, video_length, **more):
        calls.append(more | {"seed": generator.initial_seed()})
        frames = torch.from_numpy(image / 255).permute(2, 0, 1)[None, :, None]
        return SimpleNamespace(videos=frames.repeat(1, 1, video_length, 1, 1))
""",
        "animatediff/pipelines/i2v_pipeline.py": "",
    },
    "avdc": {
        "transformers.py": TRANSFORMERS,
        "torchvision.py": """
import numpy as np, torch
class transforms:
    Resize = staticmethod(lambda size: lambda image: image.resize(size[::-1]))
    ToTensor = staticmethod(
        lambda: lambda image: torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1) / 255
    )
    @staticmethod
    def Compose(steps):
        def all(image):
            for step in steps: image = step(image)
            return image
        return all
""",
        "flowdiffusion/unet.py": "UnetBridge = lambda: 'bridge'\n",
        "flowdiffusion/goal_diffusion.py": CALLS
        + """
import torch
def GoalGaussianDiffusion(**options):
    calls.append(options)
    return options
class Trainer:
    def __init__(self, diffusion_model, **options):
        self.after = diffusion_model["channels"] // 3
        calls.append({name: str(options[name]) for name in ("results_folder", "fp16", "calculate_fid")})
    def load(self, milestone): calls.append(milestone)
    def sample(self, images, texts, batch, guidance):
        assert batch == len(images) == 1
        calls.append((texts, guidance, torch.initial_seed()))
        return images.repeat(1, self.after, 1, 1)
""",
    },
    "lfdm": {
        "transformers.py": TRANSFORMERS,
        "DM/__init__.py": "",
        "DM/modules/__init__.py": "",
        "DM/modules/text.py": "TOKENIZER = MODEL = None\n",
        "DM/modules/video_flow_diffusion_model.py": CALLS
        + """
from types import SimpleNamespace
import torch
class FlowDiffusion:
    def __init__(self, **options):
        calls.append(options)
        self.frames = options["num_frames"]
        self.diffusion = SimpleNamespace(load_state_dict=lambda state: calls.append(state))
    def cuda(self): pass
    def eval(self): pass
    def set_sample_input(self, sample_img, sample_text): self.image, self.text = sample_img, sample_text
    def sample_one_video(self, cond_scale):
        calls.append((self.text, cond_scale, torch.initial_seed()))
        self.sample_out_vid = self.image[:, :, None].repeat(1, 1, self.frames, 1, 1)
""",
    },
}
STOOD_FOR = {"animate_anything": "train", "pia": "animatediff.pipelines", "avdc": "goal_diffusion",
             "lfdm": "DM.modules.video_flow_diffusion_model"}  # fmt: skip


@pytest.fixture
def call(tmp_path, monkeypatch):
    """Run a project's wrapper on one request with its stand-in: the calls that it got, and its clip."""

    def run(project: str, **options):
        from handi.core.images import write_image

        checkout = write_files(tmp_path / project, STAND_INS[project])
        monkeypatch.chdir(checkout)
        monkeypatch.setattr(sys, "path", [str(checkout), *sys.path])
        hidden = {name.partition("/")[0].removesuffix(".py") for name in STAND_INS[project]}
        hidden |= {"goal_diffusion", "unet", "omegaconf"}
        for name in [name for name in sys.modules if name.partition(".")[0] in hidden]:
            monkeypatch.delitem(sys.modules, name)
        importlib.invalidate_caches()
        write_image(checkout / "a.png", clip(0)[0])
        request = {
            "id": "a",
            "image": str(checkout / "a.png"),
            "prompt": "Push.",
            "seed": 7,
            "frames": FRAMES,
        }
        wrapper, saved = wrapper_of(project), []
        wrapper.run([request], wrapper.OPTIONS | options, lambda _, frames: saved.append(frames))
        calls = sys.modules[STOOD_FOR[project]].calls
        for name in [name for name in sys.modules if name.partition(".")[0] in hidden]:
            monkeypatch.delitem(sys.modules, name)  # what this test imported
        (frames,) = saved
        assert np.asarray(frames).dtype == np.uint8
        assert np.asarray(frames).shape[0] == FRAMES
        return calls, np.asarray(frames)

    return run


def test_animate_anything_is_called_as_its_own_evaluation(call):
    calls, frames = call("animate_anything", weights="model", device="cpu", dtype="float32", area=64 * 64)
    assert (frames == clip(0)[0]).all()
    assert calls[:4] == [("load", "model", True), "sliced", ("cpu", "torch.float32"), 7]
    assert calls[4]["prompt"] == "Push."
    assert (calls[4]["height"], calls[4]["width"], calls[4]["num_frames"]) == (64, 64, FRAMES)
    assert (calls[4]["num_inference_steps"], calls[4]["guidance_scale"], calls[4]["strength"]) == (25, 9, 3)


def test_pia_is_called_as_its_own_inference(call):
    calls, frames = call("pia", weights="pia.ckpt", motion=2)
    assert (frames == clip(0)[0]).all()
    assert calls[0] == ("example/config/base.yaml", "models/StableDiffusion", "pia.ckpt", None)
    wanted = {"prompt": "Push.", "height": SIZE, "width": SIZE, "num_inference_steps": 25,
              "guidance_scale": 7.5, "mask_sim_template_idx": 2, "seed": 7}  # fmt: skip
    assert calls[1] == wanted


def test_avdc_is_called_as_its_own_script(call):
    calls, frames = call("avdc", weights="results/model-42.pt")
    assert frames.shape == (FRAMES, 48, 64, 3)
    assert (frames[0] == frames[-1]).all()  # the picture is put before what it makes
    assert calls[0]["channels"] == 3 * (FRAMES - 1)
    assert calls[0]["model"] == "bridge"
    assert calls[0]["image_size"] == (48, 64)
    assert calls[1]["results_folder"] == "results"
    assert calls[2:] == ["42", (["Push."], 0, 7)]


def test_lfdm_is_called_as_its_own_demo(call, tmp_path):
    import torch

    torch.save({"diffusion": {"weight": torch.ones(1)}}, tmp_path / "flowdiff.pth")
    calls, frames = call(
        "lfdm",
        weights=str(tmp_path / "flowdiff.pth"),
        autoencoder="RegionMM.pth",
        side=64,
        text_encoder="bert",
    )
    assert frames.shape == (FRAMES, 64, 64, 3)
    assert calls[0] == {"is_train": False, "img_size": 16, "num_frames": FRAMES, "sampling_timesteps": 1000,
                        "pretrained_pth": "RegionMM.pth", "config_pth": "config/mhad128.yaml"}  # fmt: skip
    assert list(calls[1]) == ["weight"]
    assert calls[2] == (["Push."], 1.0, 7)


# ------------------------------------------------------------------------------- what all share


@pytest.fixture
def checkout(tmp_path):
    """A stand-in for a project whose wrapper asks for nothing but files."""
    files = {"scripts/evaluation/inference.py": DYNAMICRAFTER, "torchvision.py": TORCHVISION, "w.ckpt": "w"}
    return write_files(tmp_path / "theirs", files | {"configs/inference_512_v1.0.yaml": ""})


def test_every_wrapper_says_what_it_needs():
    for project in PROJECTS:
        wrapper = wrapper_of(project)
        assert wrapper.PROJECT.startswith("https://github.com/")
        assert wrapper.WEIGHTS
        assert wrapper.OUTPUT in ("{id}", "{id}.mp4")
        assert wrapper.ENTRY.endswith(".py")
        assert "weights" not in wrapper.OPTIONS


def test_what_is_missing_is_named(checkout):
    good = {"project": "dynamicrafter", "weights": "w.ckpt", "python": sys.executable, "folder": checkout}
    External(".", **good)
    for change, said in (
        ({"project": "sora"}, "no wrapper of 'sora'"),
        ({"weights": None}, "has no weights"),
        ({"weights": "x.ckpt"}, "no such weights"),
        ({"python": "bin/python"}, "no such interpreter"),
        ({"python": None}, r"\.venv/bin/python: no such interpreter"),
        ({"project": "pia"}, "holds no animatediff"),
        ({"speed": 3}, "no option 'speed'"),
    ):
        with pytest.raises(InputError, match=said):
            External(".", **(good | change))
    with pytest.raises(InputError, match="no OPTION=VALUE"):
        parse_spec("pia=external:here,weights")


def test_a_method_file_and_the_record_state_code_revision_weights_and_training(checkout, tmp_path):
    for words in (
        ["init", "-q"],
        ["add", "scripts"],
        ["-c", "user.name=n", "-c", "user.email=e", "commit", "-qm", "m"],
    ):
        subprocess.run(["git", "-C", checkout, *words], check=True)
    file = tmp_path / "mine.yaml"
    file.write_text(
        "kind: external\nproject: dynamicrafter\ncheckout: theirs\nweights: theirs/w.ckpt\n"
        f"python: {sys.executable}\narea: 4096\ntrained_on: squares, 3 steps\n"
    )
    method = parse_spec(str(file)).build()
    head = subprocess.run(
        ["git", "-C", checkout, "rev-parse", "HEAD"], capture_output=True, text=True
    ).stdout.strip()
    assert method.origin.code == "https://github.com/Doubiiu/DynamiCrafter"
    assert method.origin.revision == head[:12]
    assert method.origin.weights.startswith("w.ckpt, SHA-256 50e721e49c01")  # of "w"
    assert method.origin.trained_on == "squares, 3 steps"
    data = read_videos(write_data(tmp_path / "data", ["a"]))
    assert not generate_clips(method, data, tmp_path / "made")
    (record,) = (json.loads(path.read_text()) for path in (tmp_path / "made").glob("*/run.json"))
    assert record["origin"]["trained_on"] == "squares, 3 steps"
    (checkout / "scripts/evaluation/inference.py").write_text(DYNAMICRAFTER + "\n")
    assert parse_spec(str(file)).build().origin.revision == f"{head[:12]}, changed"
