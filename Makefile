# Everything a user or CI needs. `make demo` runs the main job, `make test` passes the tests; both do their own set-up.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
RECIPE ?= recipes/default.yaml

.PHONY: demo toolchains test check fix docs bench-curate bench-evaluate bench-compose bench-train bench-serve setup system clean

demo: setup  ## the main job on the embedded default base: runs/default/report/index.html
	$(BIN)/codechoir run $(RECIPE)

toolchains: setup  ## every language's compiler or interpreter, and which of them work
	@sh tools/install-toolchains.sh $(BIN)/python
	$(BIN)/codechoir doctor

test: setup  ## every test, with the toolchains of every language that can be had, and a browser
	@sh tools/install-toolchains.sh $(BIN)/python
	@sh tools/install-browser.sh
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

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

bench-compose: setup  ## composing beside mergekit, cp and stock Mixtral, about an hour: docs/results/compose.md
	$(BIN)/python -m bench.compose --out docs/results/compose.md

bench-train: setup  ## training beside transformers' Trainer, about an hour: docs/results/train.md
	$(BIN)/python -m bench.train --out docs/results/train.md

bench-serve: setup  ## serving: decoding, batching, overhead, a storm of clients: docs/results/serve.md
	$(BIN)/python -m bench.serve --out docs/results/serve.md

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
