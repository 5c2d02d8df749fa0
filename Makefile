# Two commands for a fresh clone: `make survey` and `make test`. Each redoes only what changed.

PYTHON ?= python3
PRESET ?= quick
VENV := .venv
BIN := $(VENV)/bin
# pip would compile on one processor, for more than a minute; compileall takes all there are.
INSTALL = $(BIN)/python -m pip install --quiet --no-compile
READY := $(VENV)/.ready
# Where containers forbid Python to keep what it compiled, each of the hundreds of processes that tests start compiles anew.
export PYTHONDONTWRITEBYTECODE :=

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
	$(INSTALL) --constraint constraints.txt torch
	$(INSTALL) --constraint constraints.txt --editable '.[dev]'
	$(INSTALL) --no-deps --requirement tests/peers.txt
	$(BIN)/python -m compileall -q -j 0 $(VENV)/lib >/dev/null 2>&1 || true # some packages hold templates that are no Python
	touch $(READY)

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache build
