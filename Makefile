# Two commands for a fresh clone: `make survey` and `make test`. Each redoes only what changed.

PYTHON ?= python3
PRESET ?= quick
VENV := .venv
BIN := $(VENV)/bin
INSTALL = $(BIN)/python -m pip install --quiet --no-compile
READY := $(VENV)/.ready
COMPILED := $(VENV)/.compiled
# What no test imports: two fifths of all that is installed.
UNUSED := /tests/|/transformers/models/|/torch/(_inductor|testing)/|/ray/(data|llm|rllib|serve|train|tune)/|/sympy/physics/|/(databricks|debugpy|mypy|mypyc)/
# Where containers forbid Python to keep what it compiled, each of the hundreds of processes that tests start compiles anew.
export PYTHONDONTWRITEBYTECODE :=

# Files of tests are taken as they come, with the short doctests last: by their count of tests, long ones of few tests
# would be the last. A worker more than processors starves what tests start: a server at the lowest priority, a browser.
TESTS = OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

# What most changes touch; tests of these files that take more than a second or two are marked slow.
QUICK := $(addprefix tests/measure/,linalg results test_align.py test_gradient_noise_scale.py test_gradient_norm.py \
	test_hessian_density.py test_hessian_eigenvalues.py test_hessian_spectrum.py test_sharpness.py test_trajectory.py) \
	$(addprefix tests/claims/,test_effects.py test_tables.py test_trends.py test_ways.py test_words.py) \
	$(addprefix tests/figures/,test_curves.py test_points.py test_spectra.py) \
	$(addprefix tests/,code data/test_expression.py models recipes/test_losses.py recordings) \
	$(addprefix tests/,store/test_records.py store/test_weights.py test_streams.py train/test_batches.py train/test_loop.py)

.PHONY: survey test thorough quick check smoke docs matrix clean help

help:
	@echo "make survey [PRESET=smoke|quick|full]   run every study and build the report"
	@echo "make test                               checks, tests and a smoke survey"
	@echo "make thorough                           all tests: of large tables of cases every one"
	@echo "make quick                              a minute of tests: most of the core"
	@echo "make check                              format, lint, types, layers"
	@echo "make docs                               the documentation, as pages in build/site"
	@echo "make matrix                             tests at the lowest and newest versions of what is declared; needs uv"
	@echo "make clean                              remove the environment and caches (not results)"

survey: $(READY)
	$(BIN)/theodolite survey --preset $(PRESET)

# The checks take one processor, most of the time for types; compiling takes the others meanwhile.
test: $(READY)
	$(MAKE) --no-print-directory --jobs 2 check $(COMPILED)
	$(TESTS) -m "not thorough"
	$(MAKE) --no-print-directory smoke

thorough: $(READY) $(COMPILED)
	$(TESTS)

quick: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist worksteal --quiet -m "not slow and not thorough" $(QUICK)

check: $(READY)
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(READY)
	$(BIN)/mkdocs build --strict --site-dir build/site

matrix: $(READY)
	$(BIN)/python tests/matrix.py

smoke: $(READY)
	$(BIN)/theodolite survey --preset smoke

# The environment is made anew only when what it is made from changes, so a second call needs no network.
$(READY): pyproject.toml constraints.txt tests/peers.txt
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Theodolite needs Python 3.11 or newer: make PYTHON=python3.12 ...')"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(INSTALL) --constraint constraints.txt pip # Python's own may be years old, and takes twice as long to resolve
	$(INSTALL) --constraint constraints.txt --editable '.[dev]'
	$(INSTALL) --no-deps --requirement tests/peers.txt
	touch $(READY)

# Before the hundreds of processes that tests start, for several at once would each compile the same.
$(COMPILED): $(READY)
	$(BIN)/python -m compileall -q -j 0 -x '$(UNUSED)' $(VENV)/lib >/dev/null 2>&1 || true # some hold templates that are no Python
	touch $(COMPILED)

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache build
