.PHONY: demo test check bench pretrain help
PYTHON ?= python3
BIN := .venv/bin
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

help:  ## List the targets
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort | expand -t 12

demo: .venv/.run  ## Draw the demo images, run sweeps/demo.yaml, build the report: offline, a few minutes on two cores
	$(BIN)/harness data demo demo/data
	HARNESS_CACHE_DIR=demo/cache $(BIN)/harness sweep run sweeps/demo.yaml --runs-dir demo/runs
	$(BIN)/harness report demo/runs

test: .venv/.dev  ## Every test
	$(BIN)/python -m pytest -n 2 --dist worksteal

check: .venv/.dev  ## Lint, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/.dev  ## Benchmarks: data pipeline, training loop, explaining, sweeps, start-up (about 15 minutes)
	$(BIN)/python -m tests.bench

pretrain: .venv/.run  ## Train the demo model's weights again
	$(BIN)/python -m tests.demo.pretraining.train

# .run: packages to run; .dev: also packages to develop. Installed again when the requirements change.
.venv/.run: setup.cfg pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(INSTALL) --editable .
	touch $@

.venv/.dev: .venv/.run
	$(INSTALL) --editable '.[dev]'
	touch $@
