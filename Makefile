# Every target prepares what it needs and is quick when nothing changed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SHARED ?= ../shared
ARGS ?=

.PHONY: setup demo test check format lint types layers bench judge clean

setup: $(READY)

$(READY): pyproject.toml constraints.txt tools/generate_stubs.py
	@$(PYTHON) -c 'import sys; sys.exit("Gossamer needs Python 3.11 or newer; set PYTHON=...") if sys.version_info < (3, 11) else 0'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "no venv module: install python3-venv, or set PYTHON=..." >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@$(BIN)/python tools/generate_stubs.py $(VENV)/stubs
	@touch $@

demo: setup
	$(BIN)/gossamer demo $(ARGS)

test: setup
	$(BIN)/python -m pytest -n 2 --dist loadgroup $(ARGS)

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: setup
	$(BIN)/mypy
	$(BIN)/mypy tests

layers: setup
	$(BIN)/lint-imports

check: lint types layers test

bench: setup
	$(BIN)/python -m benchmarks $(ARGS)

judge: setup
	SHARED=$(SHARED) $(BIN)/python tools/run_judges.py

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache
