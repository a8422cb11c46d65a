# make demo    install, then the main job on a published patient, stage by stage
# make test    install with the test tools, then lint, types and tests
# make notebooks   run every notebook again and keep what it prints and draws
# make clean   remove the environment and every cache
#
# PYTHON=python3.13 make test    uses another interpreter (3.11 or newer)
# CASE=cases/emh_thalassemia_major.yaml make demo    shows another patient

PYTHON ?= python3
CASE ?= cases/melanoma_marrow_hematoma.yaml

VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

# The stamp carries the interpreter's version, so another PYTHON makes the environment anew.
PYTHON_VERSION := $(shell $(PYTHON) -c 'import platform; print(platform.python_version())' 2>/dev/null)
MADE := $(VENV)/made-$(PYTHON_VERSION)
INSTALLED := $(VENV)/installed
INSTALLED_TEST := $(VENV)/installed-test

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test notebooks clean

help:
	@sed -n '/^#/!q;s/^# \{0,1\}//p' Makefile

demo: $(INSTALLED)
	$(BIN)/epidural-dx diagnose $(CASE) --all-stages

test: $(INSTALLED_TEST)
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/pytest -n 2

notebooks: $(INSTALLED_TEST)
	$(BIN)/python notebooks/execute.py

clean:
	rm -rf $(VENV) build dist .pytest_cache .hypothesis .mypy_cache .ruff_cache docs/_build
	find src tests benchmarks notebooks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

$(MADE): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "epidural-dx needs Python 3.11 or newer; '$(PYTHON)' is $(or $(PYTHON_VERSION),not there). Name another: make PYTHON=python3.12" >&2; exit 1; }
	@echo "Making the environment in $(VENV) with Python $(PYTHON_VERSION) ..."
	@rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(INSTALLED): $(MADE)
	@echo "Installing epidural-dx (a minute or two, once) ..."
	@$(PIP_INSTALL) --editable .
	@touch $@

$(INSTALLED_TEST): $(MADE)
	@echo "Installing epidural-dx with the test tools (a few minutes, once) ..."
	@$(PIP_INSTALL) --editable '.[test,dev]'
	@touch $@ $(INSTALLED)
