# One virtual environment, .venv, made on first use. `make PYTHON=/path/to/python ...` chooses its Python.
# `make test-oldest` has another one, .venv-oldest.

VENV := .venv
BIN := $(VENV)/bin
OLDEST := .venv-oldest
# How many pytest workers.
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help demo test test-all examples test-oldest lint bench docs clean

help:
	@echo "make demo         fit a predator-prey model to twenty years of lynx and hare"
	@echo "make test         the tests, without the slow ones"
	@echo "make test-all     all tests"
	@echo "make examples     every example, with its answer checked; those of the docstrings; the README's code"
	@echo "make test-oldest  a quick part of them, on the oldest Python and dependencies that pyproject.toml allows"
	@echo "make lint         formatting, ruff's rules, types"
	@echo "make bench        the benchmarks"
	@echo "make docs         the documentation, into site/"
	@echo "make clean        remove caches and what was built (the environments stay)"

# ------------------------------------------------------------------------------------------------------- environment

# The environment of a target $(VENV)/bin/python, with a Python of any or of one version. A half-made one is removed.
define make_environment
@python=$$(sh scripts/find_python.sh "$(PYTHON)" $(1)) || exit 1; \
echo "making $(@:/bin/python=) with $$python"; \
"$$python" -m venv $(@:/bin/python=) || { rm -rf $(@:/bin/python=); exit 1; }
endef

# No prerequisites: an environment that exists is used as it is.
$(BIN)/python:
	$(make_environment)

$(OLDEST)/bin/python:
	$(call make_environment,$(OLDEST_PYTHON))

# One stamp for each set of extras; pip runs again when pyproject.toml changes.
PIP_INSTALL = -m pip install --quiet --disable-pip-version-check
INSTALL = $(BIN)/python $(PIP_INSTALL)

$(VENV)/.installed-test: pyproject.toml | $(BIN)/python
	$(INSTALL) --editable '.[test,examples]'
	@touch $@

$(VENV)/.installed-%: pyproject.toml | $(BIN)/python
	$(INSTALL) --editable '.[$*]'
	@touch $@

OLDEST_PYTHON = $(shell sed -n 's/^requires-python = ">=\(.*\)"/\1/p' pyproject.toml)

$(OLDEST)/.installed: pyproject.toml scripts/oldest_versions.py | $(OLDEST)/bin/python
	$(OLDEST)/bin/python scripts/oldest_versions.py test > $(OLDEST)/constraints.txt
	$(OLDEST)/bin/python $(PIP_INSTALL) --constraint $(OLDEST)/constraints.txt --editable '.[test]'
	@touch $@

# ------------------------------------------------------------------------------------------------------------- tasks

demo: $(VENV)/.installed-test
	$(BIN)/python examples/lynx_hare.py

# Each file in one worker: its tests share their compiled programs.
PYTEST = python -m pytest -n $(WORKERS) --dist loadfile

test: $(VENV)/.installed-test
	$(BIN)/$(PYTEST)

test-all: $(VENV)/.installed-test
	JAX_DISABLE_MOST_OPTIMIZATIONS=0 $(BIN)/$(PYTEST) --slow

# Not the pages of the manual, which `docs` runs. Compiled with optimizations: examples spend their time running.
EXAMPLES := tests/api/test_examples.py tests/api/test_public_names.py::test_the_examples_of_a_docstring_run \
	'tests/api/test_readme.py::test_a_page_runs[README.md]' tests/api/test_readme.py::test_the_gradients_in_the_readme

examples: $(VENV)/.installed-test
	JAX_DISABLE_MOST_OPTIMIZATIONS=0 $(BIN)/python -m pytest -n $(WORKERS) --slow $(EXAMPLES)

# Some tests of every part, which take a few minutes. Not loop/test_saved_slots.py: it compares numbers of different
# programs bit by bit, and the compiler of the oldest JAX rounds one of them differently.
QUICK := $(filter-out tests/loop/test_saved_slots.py,$(wildcard tests/loop/test_*.py)) \
	tests/api/test_import_directions.py tests/api/test_messages.py tests/api/test_public_surface.py \
	tests/events/test_nothing_past_an_event.py tests/events/test_refused.py tests/gradients/test_complex_states.py \
	tests/jaxkit tests/linear_algebra tests/nonlinear/test_newton.py tests/conformance/test_paths.py \
	tests/paths/test_interpolations.py tests/progress tests/regression tests/solvers/test_facts.py \
	tests/stochastic/test_srk_step.py tests/tracing/test_recompilation.py tests/tracing/test_trace_count.py

test-oldest: $(OLDEST)/.installed
	$(OLDEST)/bin/$(PYTEST) $(QUICK)

lint: $(VENV)/.installed-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright

bench: $(VENV)/.installed-bench
	$(BIN)/python -m benchmarks

docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=true $(BIN)/mkdocs build --strict

clean:
	rm -rf .cache .pytest_cache .ruff_cache .hypothesis build dist site
	find src tests examples benchmarks scripts -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
