PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
RUN := runs/quickstart
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: quickstart test test-faults fuzz models docs lint clean

quickstart: $(VENV)/.installed  ## environment, install, then the main job from densities to predictions
	@if [ -e $(RUN)/study.json ]; then $(BIN)/taskgroup resume $(RUN); else $(BIN)/taskgroup run studies/quickstart.yaml; fi
	$(BIN)/taskgroup leaderboard $(RUN) --top 8
	$(BIN)/taskgroup export $(RUN) --out $(RUN)/model
	$(BIN)/taskgroup predict $(RUN)/model taskgroup/datasets/data/crystals/chgcar/*.CHGCAR.gz

test: $(VENV)/.test-installed   ## environment with test extras, all tests
	$(BIN)/python -m pytest -n 2

test-faults: $(VENV)/.test-installed   ## real kills, outages and full disks: minutes; prints what is promised
	$(BIN)/python -m pytest tests/faults -m faults

fuzz: $(VENV)/.test-installed   ## 100,000 damaged density files, tables and structures: half an hour
	$(BIN)/python tools/fuzz.py --count 100000

models: $(VENV)/.installed       ## the studies on built-in data, from start to end, and their bundles in models/
	for study in quickstart eight_properties elastic magnets; do \
	  if [ -e runs/$$study/study.json ]; then $(BIN)/taskgroup resume runs/$$study --quiet; \
	  else $(BIN)/taskgroup run studies/$$study.yaml --quiet; fi \
	  && rm -rf models/$$study && $(BIN)/taskgroup export runs/$$study --out models/$$study || exit 1; \
	done

docs: $(VENV)/.docs-installed    ## the documentation site, in site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

lint: $(VENV)/.test-installed
	$(BIN)/ruff check .

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) --editable .
	touch $@

$(VENV)/.test-installed: $(VENV)/.installed
	$(PIP) --editable '.[test]'
	touch $@

$(VENV)/.docs-installed: $(VENV)/.installed
	$(PIP) --editable '.[docs]'
	touch $@

clean:
	rm -rf $(VENV) runs build dist site
