# `make help` lists what there is. Variables given on the command line reach the programs: make run API_PORT=9000

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules --no-print-directory

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
T ?= tests
ROUNDS ?= 100
JOBS ?= 2
IMAGE ?= kcloud-infrastructure

export STATE_DIR ?= .state

# A stamp is as new as the lock that was installed last, so an unchanged lock costs no work.
RUNTIME := $(VENV)/.installed-runtime
DEV := $(VENV)/.installed-dev

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z][a-z-]*:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  %-18s %s\n", $$1, $$2}'

# --- installing ---------------------------------------------------------------------------------------------------------------

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is missing. Debian/Ubuntu: apt-get install python3 python3-venv" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "Python 3.11 or newer is needed; $(PYTHON) is $$($(PYTHON) --version). Another one: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; \
	    exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	    echo "$(PYTHON) cannot make virtual environments. Debian/Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@echo "Making $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)

# --no-deps: the lock is complete, so pip has nothing to resolve, and refuses what carries no known hash.
define install_lock
	@echo "Installing $(1) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r $(1)
	@# A path file instead of an editable install: no build, no network, and commands such as celery find the packages too.
	@echo "$(CURDIR)" > "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/kcloud-infrastructure.pth"
endef

# Nothing is done when the development lock, which holds all of this one, is already in place.
$(RUNTIME): requirements.lock | $(BIN)/python
	$(call install_lock,requirements.lock)
	@touch $@

$(DEV): requirements-dev.lock | $(BIN)/python
	$(call install_lock,requirements-dev.lock)
	@touch $@ $(RUNTIME)

.PHONY: install
install: $(DEV) ## Make .venv with everything, tools for development included

# --- running ------------------------------------------------------------------------------------------------------------------

.PHONY: run
run: $(RUNTIME) ## Start everything on this machine, until Ctrl-C
	@# Through child.py, so that the launcher ends even when make is killed by force.
	@exec $(BIN)/python -I -S deployment/local/child.py --die-with SIGTERM -- $(BIN)/python -m deployment.local

.PHONY: stop
stop: $(RUNTIME) ## End what `make run` started
	@exec $(BIN)/python -m deployment.local stop

.PHONY: ps
ps: $(RUNTIME) ## Show the programs of `make run`
	@exec $(BIN)/python -m deployment.local ps

.PHONY: logs
logs: ## Follow the logs of `make run`
	@exec tail -n 20 -F "$(STATE_DIR)"/log/*.log

.PHONY: verify-openstack
verify-openstack: $(RUNTIME) ## Check the OpenStack that OS_* names: token, catalog, drivers, flavors, images, quota
	@exec $(BIN)/python -m infrastructure.verify

# --- checking -----------------------------------------------------------------------------------------------------------------

.PHONY: test
test: $(DEV) ## Run the tests, or some: make test T=tests/unit
	@exec $(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(T)

.PHONY: test-all
test-all: $(DEV) ## Run the tests with the long fault tests and more examples
	@HYPOTHESIS_PROFILE=thorough CHAOS_ROUNDS=$(ROUNDS) $(BIN)/python -m pytest -n $(JOBS) --dist worksteal --timeout 3600 tests

.PHONY: test-openstack
test-openstack: $(DEV) ## Run the contract suite and an operator's day on the real services that OS_CLIENT_CONFIG_FILE and OS_CLOUD name
	@: "$${OS_CLIENT_CONFIG_FILE:?names no clouds.yaml}" "$${OS_CLOUD:?names none of its clouds}"
	@exec $(BIN)/python -m pytest -k real tests/contract tests/e2e/test_operator.py

.PHONY: lint
lint: $(DEV) ## Check style, types, the direction of imports, and the locks
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m deployment.locks --check

.PHONY: fmt
fmt: $(DEV) ## Format the code and repair what can be repaired
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: bench
bench: $(DEV) ## Measure accept, converge and start; writes docs/benchmarks.md
	@exec $(BIN)/python -m benchmarks

.PHONY: chaos
chaos: $(DEV) ## Kill processes at random, many rounds: make chaos ROUNDS=300
	@CHAOS_ROUNDS=$(ROUNDS) exec $(BIN)/python -m pytest --timeout 86400 tests/chaos

# --- generated files ----------------------------------------------------------------------------------------------------------

.PHONY: openapi
openapi: $(DEV) ## Write docs/openapi.json and docs/errors.md
	@exec $(BIN)/python -m api.spec docs/openapi.json docs/errors.md

.PHONY: states
states: $(DEV) ## Write docs/states.md
	@exec $(BIN)/python -m infrastructure.documents states

.PHONY: docs-generated
docs-generated: openapi ## Write all generated documents
	@exec $(BIN)/python -m infrastructure.documents

.PHONY: lock
lock: $(DEV) ## Renew the locks for what pyproject.toml asks
	@exec $(BIN)/python -m deployment.locks

# --- containers ---------------------------------------------------------------------------------------------------------------

.PHONY: docker-build
docker-build: ## Build the image
	docker build --tag $(IMAGE) .

.PHONY: docker-run
docker-run: ## Start the containers, with the settings in .env
	docker compose up --build --detach --wait

.PHONY: clean
clean: ## Remove caches; .venv and the state stay
	@rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache build dist *.egg-info
	@find . -path ./$(VENV) -prune -o -name __pycache__ -type d -print0 | xargs -0 rm -rf
