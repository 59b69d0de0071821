# `make repro` and `make test` are all a newcomer needs; each sets up what it uses.
SHELL := /bin/bash
BIN := .venv/bin
PYTHON ?= python3
export PATH := $(CURDIR)/$(BIN):$(PATH)
export MLFLOW_DISABLE_TELEMETRY := true
export DVC_NO_ANALYTICS := true

.PHONY: help setup repro test test-cluster docs lint bench docker-lint study sanitize fuzz wheels

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: .venv/.installed  ## make .venv and build the native module

# uv where it is there, pip where not
ifneq ($(shell command -v uv),)
MAKE_VENV := uv venv --quiet --python $(PYTHON) .venv
INSTALL := uv pip install --quiet --python $(BIN)/python
else
MAKE_VENV := $(PYTHON) -m venv .venv
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
endif

.venv/.installed: requirements.txt pyproject.toml $(wildcard csrc/* csrc/wsss/*)
	@test -x $(BIN)/python || $(MAKE_VENV)
	$(INSTALL) --requirement requirements.txt --editable .
	@touch $@

.venv/.peer: .venv/.installed
	@$(INSTALL) 'pydensecrf2; python_version < "3.13"' \
		|| echo "pydensecrf2 could not be built: the tests and ratios against it will not run"
	@$(INSTALL) --no-deps grad-cam ttach opencv-python-headless \
		|| echo "grad-cam could not be installed: the ratio against it will not run"
	@$(INSTALL) --editable '.[onnx,serve]' \
		|| echo "what exports and the server need could not be installed: their tests will not run"
	@touch $@

repro: setup  ## run the pipeline that params.yaml describes, and say where to look
	@git rev-parse --git-dir >/dev/null 2>&1 || dvc config --local core.no_scm true
	@time dvc repro
	@wsss compare workspace
	@echo
	@echo "Report:    data/report/report.html"
	@echo "Pictures:  reports/evaluate_segmenter/panel.png, and one beside every other report"
	@wsss runs open --print
	@echo "Next:      $(BIN)/wsss recipe list"

test: setup .venv/.peer  ## run the tests, in JOBS processes (2)
	OMP_NUM_THREADS=1 pytest --numprocesses $(or $(JOBS),2) --dist loadfile --no-loadscope-reorder

test-cluster: setup .venv/.peer  ## run the tests that need Slurm, PostgreSQL, a server or a container builder; each says what it lacks; SLOW=1 runs all
	@$(INSTALL) --editable '.[postgres,s3,server,slurm]' \
		|| echo "what services need could not be installed: their tests will not run"
	pytest -m 'cluster$(if $(SLOW),, and not slow)' tests/cluster

docs: setup  ## build the documentation as a site, in build/site
	@$(INSTALL) --editable '.[docs]'
	NO_MKDOCS_2_WARNING=1 mkdocs build --strict --quiet

lint: setup docker-lint  ## what CI checks besides the tests
	ruff check --quiet .
	ruff format --quiet --check .
	mypy
	clang-format --dry-run --Werror csrc/*.cpp csrc/*.h csrc/wsss/*.h

docker-lint: setup
	hadolint -c docker/hadolint.yaml docker/*.Dockerfile
	PG_PASSWORD=x MLFLOW_ADMIN_PASSWORD=x MLFLOW_WORKER_PASSWORD=x MLFLOW_SECRET_KEY=x \
		ARTIFACTS_KEY=x REMOTE_KEY=x \
		podman-compose --dry-run -f docker/compose.yaml config >/dev/null

study: setup  ## make study STUDY=classifiers SIZE=small SEEDS=1: methods on the same data, into docs/results.md
	wsss study run $(or $(STUDY),classifiers) --size $(or $(SIZE),small) --seeds $(or $(SEEDS),1)

bench: setup .venv/.peer  ## ours beside the peers, in one run, as ratios
	python benchmarks/densecrf.py
	python benchmarks/gpu.py
	python benchmarks/cam_storage.py
	python benchmarks/fmix.py
	python benchmarks/cam.py
	python benchmarks/refine.py
	python benchmarks/random_walk.py
	python benchmarks/large_images.py
	python benchmarks/tracking.py
	python benchmarks/export.py
	python benchmarks/floors.py

# Programs that build the native module anew, below build/hardening and one compiler at a time; .venv
# is used, and left as it is. VARIANTS: some of dispatch, baseline, scalar and thread.
HARDENING := tests/densecrf/hardening

$(BIN)/python:
	$(MAKE) setup

sanitize: | $(BIN)/python  ## the native tests under sanitizers, one build per kind of kernel
	$(BIN)/python $(HARDENING)/sanitize.py $(VARIANTS)

fuzz: | $(BIN)/python  ## make fuzz SECONDS=600: random calls, guided by coverage; needs Clang
	$(BIN)/python $(HARDENING)/fuzz.py --seconds $(or $(SECONDS),600)

wheels: | $(BIN)/python  ## sdist and wheels, each tried on its Python with NumPy alone
	$(BIN)/python $(HARDENING)/wheels.py $(PYTHONS)
