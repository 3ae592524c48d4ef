# Everything on a fresh machine: `make run` trains and draws, `make test` tests. Needs Python 3.11 or newer.
PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready

.PHONY: run test test-all lint clean

run: $(READY)
	$(VENV)/bin/tracetorch run

test: $(READY)
	$(VENV)/bin/python -m pytest -n auto --dist worksteal

test-all: $(READY)
	$(VENV)/bin/python -m pytest -n auto --dist worksteal -m ""

lint: $(READY)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/codespell

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis

# --no-compile: pip would compile 13,000 modules, of which most are never imported; Python compiles the others itself.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "traceTorch needs Python 3.11 or newer: make PYTHON=python3.11 run")'
	@echo "Installing into $(VENV), about 2 minutes …"
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --quiet --disable-pip-version-check --no-compile -c constraints.txt -e '.[dev]'
	touch $@
