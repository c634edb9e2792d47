# Everything starts here: `make help`. Needs make, and Python 3.11 or newer as python3 (or: make PYTHON=/path/to/python).

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

# What `make tune` tunes. Arguments win: make tune WORKLOAD=resnet18.C2 TRIALS=256
WORKLOAD ?= resnet18.C7
TRIALS   ?= 96

.DEFAULT_GOAL := help
.PHONY: help tune test experiments experiment-data bench-kernels soak lint format clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

tune: $(VENV)/.runtime ## tune a layer of ResNet-18 on this machine: WORKLOAD=..., TRIALS=...
	@$(BIN)/tunedb tune $(WORKLOAD) --trials $(TRIALS)

test: $(VENV)/.dev lint ## check style and types, then run all tests
	$(BIN)/python -m pytest

experiments: $(VENV)/.plots ## replay the recorded trials, and write a page with tables and figures
	@$(BIN)/tunedb experiment run
	@$(BIN)/tunedb experiment report
	@echo "see experiments/report/README.md"

experiment-data: $(VENV)/.runtime ## write the trials that experiments replay anew: DB=sqlite:///trials.sqlite
	@$(BIN)/tunedb export --db $(DB) --output benchmarks/data/zen5.jsonl.gz

PEERS ?= .venv-peers
bench-kernels: $(VENV)/.runtime $(PEERS)/.ready ## compare our kernels with those of other libraries: ARGS="--tune 128"
	@$(BIN)/python -m benchmarks.bench_kernels --peers $(PEERS) $(ARGS)

$(PEERS)/.ready: benchmarks/peers/setup.sh benchmarks/peers/requirements.txt benchmarks/peers/onednn.cpp
	@PYTHON=$(PYTHON) benchmarks/peers/setup.sh $(PEERS)
	@touch $@

soak: $(VENV)/.dev ## many processes at one database, and 200 that are killed, some minutes: ARGS="--url URL"
	@$(BIN)/python -m benchmarks.soak $(ARGS)

lint: $(VENV)/.dev ## check style, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev ## write the files in the one format
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

clean: ## remove the environment and everything that was built; databases stay
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The environment. A stamp is written last, so an interrupted installation is taken up again by the next make.
# What builds the package is pinned as well: hence no build isolation.
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Error: Python 3.11 or newer is needed; name one: make PYTHON=/path/to/python" >&2; exit 1; }
	@echo "making the environment $(VENV)"
	@$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(VENV)/.runtime: $(VENV)/.created pyproject.toml constraints.txt
	@echo "installing what tunedb needs (once)"
	@$(INSTALL) hatchling editables
	@$(INSTALL) --no-build-isolation --editable .
	@touch $@

$(VENV)/.plots: $(VENV)/.runtime
	@echo "installing what figures need (once)"
	@$(INSTALL) --no-build-isolation --editable '.[plots]'
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime
	@echo "installing what the tests need (once)"
	@$(INSTALL) --no-build-isolation --editable '.[dev,postgres,plots,parquet]'
	@touch $@
