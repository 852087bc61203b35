# Everything a user or CI needs. `make demo` runs the main job, `make test` passes the tests; both do their own set-up.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
RECIPE ?= recipes/default.yaml

.PHONY: demo toolchains test check fix docs bench-curate bench-evaluate setup system clean

demo: setup  ## the main job on the embedded default base: runs/default/report/index.html
	$(BIN)/codechoir run $(RECIPE)

toolchains: setup  ## every language's compiler or interpreter, and which of them work
	@sh tools/install-toolchains.sh $(BIN)/python
	$(BIN)/codechoir doctor

test: setup  ## every test, with the toolchains of every language that can be had
	@sh tools/install-toolchains.sh $(BIN)/python
	$(BIN)/python -m pytest

check: setup  ## formatter, linter, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

fix: setup  ## format and mend what the linter can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: setup  ## docs/cli.md from --help
	$(BIN)/python tools/write-cli-reference.py

bench-curate: setup  ## curation beside its peers, about half an hour: docs/results/curate.md
	$(BIN)/python -m bench.curate --out docs/results/curate.md

bench-evaluate: setup  ## evaluation beside the toolchains driven directly: docs/results/evaluate.md
	@sh tools/install-toolchains.sh $(BIN)/python
	$(BIN)/python -m bench.evaluate --out docs/results/evaluate.md

setup: system $(VENV)/.installed

system:  ## Debian packages: sandbox, compilers, npm
	@sh tools/install-system-packages.sh

$(VENV)/.installed: pyproject.toml tools/install-torch.sh
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	sh tools/install-torch.sh $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info src/*.egg-info
