# make demo: simulate two movies and run the whole workflow on them.  make test: run the tests (those of Slurm only
# where Debian's slurmctld, slurmd, slurm-client and munge are installed, and as root; those in a browser only where
# its chromium and chromium-driver are).
# make settings: write docs/settings.md and docs/settings.schema.json anew.
# make golden: keep the results of stages whose version was raised (tests/golden).
# make fuzz: try damaged inputs against all that reads them, for so long: make fuzz SECONDS=1200
# make weights: train the bundled encoder anew (about an hour).
PYTHON ?= python3
BIN := .venv/bin
SNAKEMAKE := $(BIN)/snakemake --profile profiles/default

.PHONY: demo test fuzz golden settings install check weights clean-demo

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[workflow,dev]"
	touch $@

install: .venv/installed

demo/movies.tsv: | .venv/installed
	$(BIN)/python -m spatialdino_core.simulate.demo --out demo

demo: .venv/installed demo/movies.tsv
	$(SNAKEMAKE) --configfile recipes/demo.yaml
	$(BIN)/python -m spatialdino_core.score --truth demo/truth --results demo/results
	@echo "Report of the demo: demo/results/summary.html"

test: .venv/installed
	$(BIN)/python -m pytest -n 2 --dist loadfile

SECONDS ?= 60
fuzz: .venv/installed
	OMP_NUM_THREADS=1 $(BIN)/python tests/fuzz/fuzz.py --seconds $(SECONDS) $(if $(SEED),--seed $(SEED))

settings: .venv/installed
	$(BIN)/python -m spatialdino_core.reference docs

golden: .venv/installed
	$(BIN)/python -m pytest -n 2 --dist loadfile tests/golden --write-golden

check: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile rules
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 0 tests/unit/test_documents.py

build/corpus/movies.tsv: | .venv/installed
	$(BIN)/python -m spatialdino_core.simulate.corpus --out build/corpus

weights: .venv/installed build/corpus/movies.tsv
	$(SNAKEMAKE) build/weights/model/repaired.safetensors --configfile recipes/bundled.yaml \
	    --config movies=build/corpus/movies.tsv results=build/weights
	cp build/weights/model/repaired.safetensors weights/bundled.safetensors

clean-demo:
	rm -rf demo
