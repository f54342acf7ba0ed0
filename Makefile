# `make demo` and `make test` set up everything they need on first use.
PYTHON ?= python3
TORCH_INDEX ?=
BIN := .venv/bin
RUN := PYTHONWARNINGS=ignore $(BIN)/reelm

.PHONY: demo test quick cluster check format bench docs mutants clean

.venv/.ready: pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) not found; install Python 3.11 or newer, or say PYTHON=/path/to/python" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: $(PYTHON) is older than 3.11; say PYTHON=/path/to/a/newer/python" >&2; exit 2; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "error: $(PYTHON) has no venv; on Debian: apt-get install python3-venv" >&2; exit 2; }
	@echo "setting up .venv (downloads some 500 MB the first time; with a CUDA build of torch several GB) …"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check -q $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) -c constraints.txt -e '.[dev]'
	@touch $@

demo: .venv/.ready  ## render a small world, watch it, train, evaluate, serve the feed
	$(RUN) demo $(ARGS)

test: .venv/.ready  ## the whole suite, except what needs a GPU
	$(BIN)/python -m pytest -q -rs -n 2 -m "not gpu and not browser and not cluster" $(ARGS)
	$(BIN)/python -m pytest -q -rs -m browser $(ARGS)  # alone: a browser that plays video wants both cores

quick: .venv/.ready  ## without slow tests and without the browser
	$(BIN)/python -m pytest -q -m "not gpu and not slow and not browser and not cluster" $(ARGS)

cluster: .venv/.ready  ## a Ray cluster of two nodes on this machine, one of which is killed
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e '.[ray]'
	$(BIN)/python -m pytest -q -rs -m cluster $(ARGS)

check: .venv/.ready  ## format, lint, types, floors, tests, freshness of generated docs
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/python docs/generate.py --check
	$(MAKE) test

format: .venv/.ready
	$(BIN)/ruff format src tests benchmarks docs
	$(BIN)/ruff check --fix src tests benchmarks docs

bench: .venv/.ready  ## JSON lines; see benchmarks/README.md
	for file in benchmarks/bench_*.py; do $(BIN)/python $$file || exit 1; done

docs: .venv/.ready  ## rewrite the generated pages
	$(BIN)/python docs/generate.py

mutants: .venv/.ready  ## put each fault of tests/mutants.toml in; each must fail a test
	$(BIN)/python tests/mutants.py $(ARGS)

clean:
	rm -rf .venv work
