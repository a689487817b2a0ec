# Every target sets up what it needs; `make help` lists them.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CARGO_MANIFEST := engine/kernel/Cargo.toml
NATIVE := pyproject.toml engine/kernel/Cargo.toml engine/kernel/Cargo.lock $(wildcard engine/kernel/src/*.rs engine/kernel/src/*/*.rs)
PYTEST := $(BIN)/python -m pytest

SAY := printf '\033[1m== %s\033[0m\n'

.PHONY: help
help:
	@echo 'make demo    back up, destroy and restore nginx and PostgreSQL on a real Kubernetes (first time: about 15 minutes, then about 2)'
	@echo 'make test    all tests, on the same Kubernetes (first time: about 55 minutes, then about 40)'
	@echo 'make unit    the tests that need neither Kubernetes nor a foreign program (about 2 minutes)'
	@echo 'make check   formatting, lint, types, layers, generated files (about 1 minute)'
	@echo 'make bench   speed and memory beside other programs, as a table (hours; BENCH_ARGS="engine --cases small" is a part)'
	@echo 'make down    stop the Kubernetes of the tests and leave nothing behind'

.PHONY: tools
tools:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Lowtide needs Python 3.11 or newer, $(PYTHON) is " + sys.version.split()[0] + ": install it and say make PYTHON=…")'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo 'Python lacks venv: apt-get install python3-venv, then run this again' >&2; exit 1; }
	@command -v cc >/dev/null || { echo 'a C compiler is missing: apt-get install build-essential, then run this again' >&2; exit 1; }
	@command -v cargo >/dev/null || { echo 'cargo is missing: install Rust 1.89 or newer (https://rustup.rs), then run this again' >&2; exit 1; }
	@command -v go >/dev/null || { echo 'go is missing: install Go 1.26 or newer (https://go.dev/dl), then run this again' >&2; exit 1; }

$(VENV)/.packages: requirements/dev.txt | tools
	@$(SAY) 'Python packages into $(VENV), pinned by hash (about 1 minute)'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@touch $@

$(VENV)/.built: $(VENV)/.packages $(NATIVE)
	@$(SAY) 'the native kernel of the engine (about 2 minutes the first time)'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

.PHONY: setup
setup: $(VENV)/.built

.PHONY: demo
demo: setup
	@$(SAY) 'the main job on a real Kubernetes'
	@$(BIN)/python -m tests.demo

.PHONY: test
test: setup
	@$(SAY) 'Kubernetes for the tests; what it needs is built once and kept (first time: about 13 minutes)'
	@$(BIN)/python -m tests.cluster prepare
	@$(SAY) 'the tests, in groups side by side; what one says is shown when it ends (about 40 minutes)'
	@$(BIN)/python -m tests.groups $(PYTEST_ARGS)

.PHONY: unit
unit: setup
	@$(PYTEST) -m 'not cluster and not apiserver and not oracle and not s3 and not sftp and not rest and not helm' $(PYTEST_ARGS)

.PHONY: check
check: setup
	@$(SAY) 'formatting, lint, types, layers, generated files (about 1 minute)'
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@cargo fmt --check --manifest-path $(CARGO_MANIFEST)
	@cargo clippy --quiet --locked --all-targets --no-default-features --manifest-path $(CARGO_MANIFEST) -- -D warnings
	@$(BIN)/python -m lowtide_operator.api.crd --check
	@$(BIN)/python -m lowtide_engine.cli.reference --check

.PHONY: bench
bench: setup
	@$(BIN)/python -m tests.bench $(BENCH_ARGS)

.PHONY: down
down:
	@$(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON)) -m tests.cluster down
