# handi: two commands from nothing. `make demo` makes a video, `make test` runs the whole suite.
# Both make .venv on first use (only Python >= 3.11 with pip is needed) and are fast from then on.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
CORE   := $(VENV)/.core
READY  := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help install demo test test-slow fuzz lint docs clean

help:            ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

# torch first and by its exact version, so that a CPU build is taken where one is at hand
# before any other package asks for "some torch".
$(CORE): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "handi needs Python >= 3.11; run: make PYTHON=python3.11 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet "$$(grep '^torch==' constraints.txt)"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(READY): $(CORE)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@

install: $(READY) ## make .venv and install handi into it, with all that its tests need

demo: $(CORE)    ## generate a video from the example image that ships with handi
	$(BIN)/handi generate --image example --prompt "Cut the carrot." --seed 0 --out out/demo
	@echo "The video is $(CURDIR)/out/demo/video.mp4"

test: $(READY)   ## run the whole test suite
	$(BIN)/python -m pytest -n auto -m "not slow"

test-slow: $(READY) ## run the long checks too
	$(BIN)/python -m pytest -n auto

CASES ?= 20000
fuzz: $(READY)   ## try 20,000 damaged inputs (CASES=…), a process per core; names each failure and its command
	PYTHONPATH=tests OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(BIN)/python -m fuzzing --cases $(CASES)

lint: $(READY)   ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(READY)   ## the documentation site, into out/site; fails for any warning
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

clean:           ## remove .venv and generated files
	rm -rf $(VENV) out .pytest_cache .mypy_cache .ruff_cache
