#!/usr/bin/env bash
# One GPU, at most eight minutes: benchmarks/gpu.sh [--wheels FOLDER] [--out FOLDER] [--small]
#
# For a machine that has PyTorch with CUDA and Python 3.12, but neither diffusers nor a network. FOLDER holds the
# missing packages as wheels; where there is a network, make it in the repository's root with
#
#   python -m pip download --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \
#     --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 \
#     -c constraints.txt -d FOLDER diffusers transformers accelerate huggingface-hub tokenizers safetensors \
#     hf-xet av opencv-python-headless tyro typeguard docstring-parser peft
#
# and whatever else `python -c "import handi.method.pipeline"` misses there. Writes gpu.json and gpu.md to --out
# (default: $OUT, else out/gpu), after every section.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${OUT:-out/gpu} wheels= small=
while [ $# -gt 0 ]; do
  case $1 in
    --wheels) wheels=$2; shift 2 ;;
    --out) out=$2; shift 2 ;;
    --small) small=--small; shift ;;
    *) echo "error: $1; see the head of $0" >&2; exit 2 ;;
  esac
done
python=${PYTHON:-python3}
export PYTHONPATH=$PWD/src:$PWD${PYTHONPATH:+:$PYTHONPATH}
if [ -n "$wheels" ]; then
  site=$(mktemp -d)
  trap 'rm -rf "$site"' EXIT
  "$python" -m pip install -q --no-index --no-deps --no-compile --target "$site" "$wheels"/*.whl
  export PYTHONPATH=$PYTHONPATH:$site
fi
timeout 480 "$python" -m benchmarks.gpu --out "$out" $small
