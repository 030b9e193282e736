PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: quickstart test lint clean

quickstart: $(VENV)/.installed  ## environment, install, then the main job from densities to predictions
	$(BIN)/taskgroup quickstart

test: $(VENV)/.test-installed   ## environment with test extras, all tests
	$(BIN)/python -m pytest -n 2

lint: $(VENV)/.test-installed
	$(BIN)/ruff check .

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) --editable .
	touch $@

$(VENV)/.test-installed: $(VENV)/.installed
	$(PIP) --editable '.[test]'
	touch $@

clean:
	rm -rf $(VENV) runs build dist
