# Two commands for a fresh clone: `make survey` and `make test`. Each redoes only what changed.

PYTHON ?= python3
PRESET ?= quick
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: survey test check smoke docs clean help

help:
	@echo "make survey [PRESET=smoke|quick|full]   run every study and build the report"
	@echo "make test                               checks, tests and a smoke survey"
	@echo "make check                              format, lint, types, layers"
	@echo "make docs                               the documentation, as pages in build/site"
	@echo "make clean                              remove the environment and caches (not results)"

survey: $(READY)
	$(BIN)/theodolite survey --preset $(PRESET)

test: check
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist loadfile
	$(MAKE) --no-print-directory smoke

check: $(READY)
	$(BIN)/ruff format --check src tests benchmarks docs/_build
	$(BIN)/ruff check src tests benchmarks docs/_build
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(READY)
	$(BIN)/mkdocs build --strict --site-dir build/site

smoke: $(READY)
	$(BIN)/theodolite survey --preset smoke

# The environment is made anew only when what it is made from changes, so a second call needs no network.
$(READY): pyproject.toml constraints.txt tests/peers.txt
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Theodolite needs Python 3.11 or newer: make PYTHON=python3.12 ...')"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	$(BIN)/python -m pip install --quiet --no-deps --requirement tests/peers.txt
	touch $(READY)

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache build
