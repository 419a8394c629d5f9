"""What a plain `handi generate` must not wait for: on its way to the first step it imports nothing unused."""

import json
import subprocess
import sys

# The compiler, adapters, statistics, training, the page, data sets, plots (docs/speed.md).
UNUSED = {"torch._dynamo", "torch._inductor", "peft", "scipy", "numba", "skimage", "h5py", "pyarrow"}
UNUSED |= {"pandas", "gradio", "ray", "tensorboard", "matplotlib", "torchvision", "datasets"}
UNUSED |= {"handi.training", "handi.world", "handi.evaluation.run"}
CODE = """
import json, os, pathlib, sys
from handi.commands import app
from handi.generation.requests import ClipRequest, GenerationSettings
from handi.generation.run import Runner, require
settings = GenerationSettings(steps=1, area_steps=1, frames=2)
require(settings)
def first_step(stage, step, steps):
    print(json.dumps(sorted(sys.modules)), flush=True)
    os._exit(0)
with Runner(settings) as runner:
    runner.run([ClipRequest("example", "Cut the carrot.")], [pathlib.Path(sys.argv[1])], watch=first_step)
"""


def test_a_plain_run_imports_nothing_unused_before_its_first_step(tmp_path):
    command = [sys.executable, "-c", CODE, str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    modules = set(json.loads(done.stdout.splitlines()[-1]))
    assert not UNUSED & modules
    assert {"torch", "diffusers", "transformers", "handi.method.pipeline"} <= modules
