# The commands of this project. Each one first sets up what it needs in .venv/, which takes a minute or two on a
# fresh machine and nothing afterwards. All that a machine must have is Python 3.11 or newer with pip.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# The targets of one command share a virtual environment and two cores: side by side gains nothing.
.NOTPARALLEL:

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
INFRA_STAMP := $(VENV)/.infra-installed
CHECKOV := $(VENV)/checkov
AUDIT := $(VENV)/audit
E2E := $(VENV)/e2e
# Scripts for other people's hosts and containers. The parts are put together when they are sent, and what one uses another sets.
HOST_PARTS = $(wildcard shared/executors/ssm/*.sh shared/executors/ecs/*.sh)
HOST_SCRIPTS = $(filter-out $(HOST_PARTS),$(wildcard shared/executors/*.sh shared/executors/*/*.sh))
# What is checked of what exists: a folder that is not there is no error.
SOURCES = $(wildcard shared functions local cli infra tests bench)
QUICK_TESTS = $(wildcard tests/rules tests/contract)
PYTEST_WORKERS ?= 2

.PHONY: help setup infra-setup e2e-setup demo up test e2e simulate soak mutants torture check quick lint types imports format bench bench-cost bench-cold bench-api checkov audit lock clean

help: ## Show this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1\t\2/p' $(firstword $(MAKEFILE_LIST)) | while IFS=$$'\t' read -r target meaning; do \
		printf '  make %-11s %s\n' "$$target" "$$meaning"; done

setup: $(STAMP) ## Make .venv/ with everything the project needs

# The lock holds every dependency with its hashes, so pip needs to resolve nothing and can install nothing else.
$(STAMP): requirements.txt requirements-dev.txt pyproject.toml scripts/make-venv.sh
	@bash scripts/make-venv.sh $(VENV)
	@echo "Installing what Runfold needs into $(VENV)/ (once; half a minute or so)"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes --requirement requirements-dev.txt
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

infra-setup: $(INFRA_STAMP) ## Add what deploying to AWS needs

# Constrained by the lock above, so nothing installed there changes its version. A Node for the CDK is among it.
$(INFRA_STAMP): $(STAMP) requirements-infra.txt
	@echo "Installing what the deployment to AWS needs into $(VENV)/ (once; half a minute or so)"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes --requirement requirements-infra.txt
	@touch $@

e2e-setup: $(E2E)/.installed ## Add the emulator of AWS that the end-to-end tests use

# In an environment of its own: it brings another boto3, and runs the deployed functions in its own Python.
$(E2E)/.installed: $(STAMP) requirements-e2e.txt
	@bash scripts/make-venv.sh $(E2E)
	@$(E2E)/bin/python -m pip install -qq --disable-pip-version-check --require-hashes --requirement requirements-e2e.txt
	@touch $@

demo: setup ## Run a real pipeline over a small public data set, live
	@PATH="$(CURDIR)/$(BIN):$$PATH" bash examples/demo.sh

up: setup ## Start the engine and its HTTP API on this machine
	@$(BIN)/runfold up

# One worker has the tests of the deployed template, and with them the only deployment; the others have the rest meanwhile.
test: setup infra-setup e2e-setup ## Run all tests, those of the deployed template included
	@$(call pytest,-n $(PYTEST_WORKERS) --dist loadgroup tests)

# With nothing beside them they are shared out, and each worker has a deployment.
e2e: setup infra-setup e2e-setup ## Deploy the template into an emulator and drive it end to end (two minutes)
	@$(call pytest,-n $(PYTEST_WORKERS) tests/e2e)

simulate: setup ## Play deployments in simulated time: SEEDS=200 FIRST=1
	@$(BIN)/python -m tests.simulation $(or $(SEEDS),200) $(or $(FIRST),1)

soak: setup infra-setup e2e-setup ## Run 500 runs at once through the deployed engine; prints the throughput
	@RUNFOLD_E2E_RUNS=500 $(BIN)/pytest tests/e2e/test_load.py

mutants: setup ## Put deliberate bugs into copies of the tree, and see that tests notice each (ten minutes)
	@$(BIN)/python -m tests.mutants

torture: setup ## Kill -9 the engine of one machine 500 times, fill its disk, move its clock (a quarter of an hour; as root)
	@nice -n 10 $(BIN)/python -m tests.torture

check: lint types imports test ## Everything a commit must pass

quick: lint types imports ## The fast part of check: under a minute
	@$(call pytest,-n $(PYTEST_WORKERS) -m "not slow" $(QUICK_TESTS))

lint: setup
	@$(BIN)/ruff format --check $(SOURCES)
	@$(BIN)/ruff check $(SOURCES) $(wildcard scripts/*.py)
	@$(BIN)/shellcheck $(wildcard scripts/*.sh examples/*.sh examples/*/jobs/*.sh)
	@$(BIN)/shellcheck $(HOST_SCRIPTS)
	@$(BIN)/shellcheck --shell=sh --exclude=SC2154 $(HOST_PARTS)

types: setup infra-setup
	@$(BIN)/mypy $(SOURCES)

imports: setup
	@$(BIN)/lint-imports --no-logo

format: setup ## Rewrite the code in the project's format, with safe fixes
	@$(BIN)/ruff check --fix --quiet $(SOURCES) || true
	@$(BIN)/ruff format $(SOURCES)

bench: setup ## Measure and print; nothing is asserted
	@$(BIN)/python -m bench

checkov: infra-setup $(CHECKOV)/.installed ## Check the template of the stage prod with checkov
	@bash scripts/checkov.sh $(BIN) $(CHECKOV)

# In an environment of its own, because it pins an old boto3.
$(CHECKOV)/.installed: requirements-checkov.txt
	@bash scripts/make-venv.sh $(CHECKOV)
	@$(CHECKOV)/bin/python -m pip install -qq --disable-pip-version-check --require-hashes --requirement requirements-checkov.txt
	@touch $@

audit: $(AUDIT)/.installed ## Ask the vulnerability services about every locked package (needs the internet)
	@$(AUDIT)/bin/python scripts/audit.py $(AUDIT)/bin/pip-audit $(wildcard requirements*.txt)

$(AUDIT)/.installed: requirements-audit.txt
	@bash scripts/make-venv.sh $(AUDIT)
	@$(AUDIT)/bin/python -m pip install -qq --disable-pip-version-check --require-hashes --requirement requirements-audit.txt
	@touch $@

bench-cost: setup ## Count every call on AWS and price it (a minute or two)
	@$(BIN)/python -m bench.cost

bench-api: setup ## Answers per second, pages of lists and memory beside 10,000 runs (some minutes)
	@$(BIN)/python -m bench.api

bench-cold: setup ## Import time of each function beside its libraries
	@$(BIN)/python -m bench.cold

# Universal and with every file's hash, so one lock serves all systems and Pythons; without index addresses, so it
# serves every mirror.
LOCK = $(VENV)/lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-annotate --no-header

lock: setup ## Write requirements*.txt again, with the newest versions that pyproject.toml allows
	@$(BIN)/python -m venv $(VENV)/lock
	@$(VENV)/lock/bin/pip install -qq --disable-pip-version-check uv
	@$(LOCK) --upgrade pyproject.toml --output-file requirements.txt
	@$(LOCK) --upgrade pyproject.toml --group dev --constraint requirements.txt --output-file requirements-dev.txt
	@$(LOCK) --upgrade --group functions --constraint requirements.txt --output-file requirements-functions.txt
	@$(LOCK) --upgrade pyproject.toml --extra infra --group infra --constraint requirements-dev.txt --output-file requirements-infra.txt
	@$(LOCK) --upgrade --group checkov --output-file requirements-checkov.txt
	@$(LOCK) --upgrade --group e2e --output-file requirements-e2e.txt
	@$(LOCK) --upgrade --group audit --output-file requirements-audit.txt

clean: ## Remove .venv/ and everything else that was generated
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build cdk.out dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# pytest answers 5 when it found no test to run, which is what a selection without members should say, not a failure.
define pytest
status=0; $(BIN)/pytest $(1) || status=$$?; [ $$status -eq 5 ] || exit $$status
endef
