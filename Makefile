# Everything runs from a clean clone: each target sets up .venv first, and does so once (the stamp).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
# Small nets on few cores: BLAS's threads only get in each other's way.
export OMP_NUM_THREADS ?= 1

.PHONY: demo test test-slow check bench bench-peers bench-experiments notebook install schema constraints clean
.DEFAULT_GOAL := help

help:           ## this list
	@grep -E '^[a-z-]+: .*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

install: $(STAMP)  ## set up .venv

$(STAMP): pyproject.toml
	@test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

demo: $(STAMP)  ## train on real images, in this process; ends with a report
	$(BIN)/python launch.py train recipes/digits.yaml --fresh

test: $(STAMP)  ## the tests
	$(BIN)/python -m pytest

test-slow: $(STAMP)  ## what takes minutes: faults over and over, long runs
	$(BIN)/python -m pytest -m slow

check: $(STAMP)  ## lint, format, types, import directions, schema
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python launch.py list --schema | diff - docs/recipe.schema.json
	$(BIN)/python launch.py list studies --schema | diff - docs/study.schema.json

bench: $(STAMP)  ## the benchmarks of docs/benchmarks.md
	$(BIN)/python -m benchmarks

bench-peers: $(STAMP)  ## the stream beside other loaders, each installed in .venv-peers first
	$(BIN)/python -m benchmarks.stream.peers
	$(BIN)/python -m benchmarks.stream

bench-experiments: $(STAMP)  ## what the recipes must reach on real data, over three seeds
	$(BIN)/python -m benchmarks.experiments

notebook: $(STAMP)  ## run the notebooks
	$(BIN)/python -m pytest --nbmake notebooks --nbmake-timeout=300

schema: $(STAMP)  ## write the JSON Schemas of recipes and studies anew
	$(BIN)/python launch.py list --schema > docs/recipe.schema.json
	$(BIN)/python launch.py list studies --schema > docs/study.schema.json

constraints: $(STAMP)  ## pin for cluster/deploy what this environment has
	(echo "# What \`make test\` passed with: \`make constraints\` writes it anew."; \
	$(BIN)/python -m pip freeze --exclude-editable) > cluster/deploy/constraints.txt

clean:          ## remove the environment
	rm -rf $(VENV)
