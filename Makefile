# Every target is one command; `make repro` and `make test` are all a newcomer needs.
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
export PATH := $(CURDIR)/$(BIN):$(PATH)
export MLFLOW_DISABLE_TELEMETRY := true
export DVC_NO_ANALYTICS := true

.PHONY: help setup repro test lint bench

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(VENV)/.installed  ## make .venv and build the native module

$(VENV)/.installed: requirements.txt pyproject.toml $(wildcard csrc/* csrc/wsss/*)
	@if command -v uv >/dev/null; then \
		test -x $(BIN)/python || uv venv --quiet --python $(PYTHON) $(VENV); \
		uv pip install --quiet --python $(BIN)/python -r requirements.txt -e '.[pipeline,dev]'; \
	else \
		test -x $(BIN)/python || $(PYTHON) -m venv $(VENV); \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt -e '.[pipeline,dev]'; \
	fi
	@touch $@

repro: setup  ## run the pipeline and say where to look
	@test -d .dvc || dvc init --quiet --no-scm
	@git rev-parse --git-dir >/dev/null 2>&1 || dvc config --local core.no_scm true
	dvc repro
	@wsss summary

test: setup  ## run the tests
	pytest

lint: setup  ## what CI checks besides the tests
	ruff check .
	ruff format --check .
	mypy
	clang-format --dry-run --Werror csrc/*.cpp csrc/*.h csrc/wsss/*.h

bench: setup  ## ours beside the peers, as ratios
	python benchmarks/densecrf.py
