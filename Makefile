# Every target sets up what it needs. `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# The tests of `check`. Asked for together, as CI does, `test` does not run them once more.
CHECKED := tests/architecture tests/contract tests/docs services/cli/tests/test_cli_compose.py
TESTS = $(BIN)/python -m pytest -q $(if $(filter check,$(MAKECMDGOALS)),$(CHECKED:%=--ignore=%))
MEMBERS := $(wildcard libs/*/pyproject.toml) $(wildcard services/*/pyproject.toml)
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help install demo test fault unit check bench schemas lock clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*?## ' $(MAKEFILE_LIST) | awk -F ':.*?## ' '{printf "  make %-10s %s\n", $$1, $$2}'

install: $(STAMP) ## make the environment from the hashed lock

$(STAMP): requirements.lock bootstrap.lock $(MEMBERS)
	@echo "environment: installing from requirements.lock (hash-checked)"
	@date +%s > .install-began
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/uv --version >/dev/null 2>&1 || $(BIN)/python -m pip install --quiet --disable-pip-version-check --force-reinstall --require-hashes -r bootstrap.lock
	@VIRTUAL_ENV=$(VENV) $(BIN)/uv pip sync --quiet --compile-bytecode --require-hashes requirements.lock bootstrap.lock
	@VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --no-deps --no-build-isolation --offline $(foreach m,$(MEMBERS),-e $(dir $(m)))
	@$(BIN)/python -c "from mainstem.feature_engine import prepare; prepare()"
	@expr $$(date +%s) - $$(cat .install-began) > $@; rm -f .install-began

demo: $(STAMP) ## a year of real flights through every service; ends with a story
	@$(BIN)/mainstem demo

test: $(STAMP) ## all tests, on a real Kafka and a real PostgreSQL
	@$(TESTS) -n 2 --dist loadfile --no-loadscope-reorder --max-worker-restart 0 -m "not alone"; others=$$?; $(TESTS) -m alone && exit $$others

fault: $(STAMP) ## of these the kill runs, longer: over a hundred kill -9, and the same tables and events in the end
	@FAULT_KILLS=120 $(BIN)/python -m pytest -q -m fault

unit: $(STAMP) ## the fast tests alone
	@$(BIN)/python -m pytest -q libs services projects -n 2 --dist loadfile -m "not real and not fault and not alone"

check: $(STAMP) ## style, types, layers, schemas, caps, container files, and every command of the documents executed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy libs/*/src services/*/src projects tests tools
	$(BIN)/python -m mainstem.events.export --check schemas
	$(BIN)/python -m pytest -q $(CHECKED)

bench: $(STAMP) ## benchmarks: ratios against a peer in the same run
	@$(BIN)/python -m tests.bench

schemas: $(STAMP) ## write schemas/ anew from the code
	@$(BIN)/python -m mainstem.events.export schemas

lock: ## resolve the lock anew (needs uv on the path or in .venv)
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --python-version 3.11 \
	  $(foreach m,$(MEMBERS),--no-emit-package $(shell sed -n 's/^name = "\(.*\)"/\1/p' $(m)) $(m)) --group pyproject.toml:fast --group pyproject.toml:flights --group pyproject.toml:build --group pyproject.toml:dev -o requirements.lock

clean: ## remove the environment and the local platform's data
	@test ! -x $(BIN)/mainstem || $(BIN)/mainstem down --purge || true
	rm -rf $(VENV) .mainstem .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
