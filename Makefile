# One virtual environment, .venv, made on first use. `make PYTHON=/path/to/python ...` chooses its Python.

VENV := .venv
BIN := $(VENV)/bin
# How many pytest workers.
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help demo test test-all lint bench docs clean

help:
	@echo "make demo      fit a predator-prey model to twenty years of lynx and hare"
	@echo "make test      the tests, without the slow ones"
	@echo "make test-all  all tests"
	@echo "make lint      formatting, ruff's rules, types"
	@echo "make bench     the benchmarks"
	@echo "make docs      the documentation, into site/"
	@echo "make clean     remove caches and what was built (.venv stays)"

# ------------------------------------------------------------------------------------------------------- environment

# No prerequisites: an environment that exists is used as it is. A half-made one is removed.
$(BIN)/python:
	@python=$$(sh scripts/find_python.sh "$(PYTHON)") || exit 1; \
	echo "making $(VENV) with $$python"; \
	"$$python" -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

# One stamp for each set of extras; pip runs again when pyproject.toml changes.
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check

$(VENV)/.installed-test: pyproject.toml | $(BIN)/python
	$(INSTALL) --editable '.[test,examples]'
	@touch $@

$(VENV)/.installed-%: pyproject.toml | $(BIN)/python
	$(INSTALL) --editable '.[$*]'
	@touch $@

# ------------------------------------------------------------------------------------------------------------- tasks

demo: $(VENV)/.installed-test
	$(BIN)/python examples/lynx_hare.py

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n $(WORKERS)

test-all: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n $(WORKERS) --slow

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
