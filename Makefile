# make demo: simulate two movies and run the whole workflow on them.  make test: run the tests.
PYTHON ?= python3
BIN := .venv/bin
SNAKEMAKE := $(BIN)/snakemake --profile profiles/default
DEMO := movies=demo/movies.tsv results=demo/results

.PHONY: demo test install check clean-demo

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[workflow,dev]"
	touch $@

install: .venv/installed

demo/movies.tsv: | .venv/installed
	$(BIN)/python -m spatialdino_core.simulate.demo --out demo

demo: .venv/installed demo/movies.tsv
	$(SNAKEMAKE) --config $(DEMO)
	$(BIN)/python -m spatialdino_core.score --truth demo/truth --results demo/results
	@echo "Report of the demo: demo/results/summary.html"

test: .venv/installed
	$(BIN)/python -m pytest

check: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile rules
	$(BIN)/mypy

clean-demo:
	rm -rf demo
