.PHONY: demo test check bench pretrain help
PYTHON ?= python3
BIN := .venv/bin
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

help:  ## Say what there is
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort | expand -t 12

demo: .venv/.run  ## Draw pictures, run the sweep sweeps/demo.yaml, make its page: offline, a few minutes on two cores
	$(BIN)/harness data demo demo/data
	HARNESS_CACHE_DIR=demo/cache $(BIN)/harness sweep run sweeps/demo.yaml --runs-dir demo/runs
	$(BIN)/harness report demo/runs

test: .venv/.dev  ## Every test
	$(BIN)/python -m pytest -n 2 --dist worksteal

check: .venv/.dev  ## Lint, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/.dev  ## Benchmarks: data pipeline, training loop, looking, sweeps, start-up (about a quarter of an hour)
	$(BIN)/python -m tests.bench

pretrain: .venv/.run  ## Make the demo model's weights anew
	$(BIN)/python -m harness.demo.pretrain

# What is needed to run, and on top of it what is needed to develop. Made again when the requirements change.
.venv/.run: setup.cfg pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(INSTALL) --editable .
	touch $@

.venv/.dev: .venv/.run
	$(INSTALL) --editable '.[dev]'
	touch $@
