# Two commands: `make demo` and `make test`. Both make .venv and install what they need.
PYTHON ?= python3
BIN := .venv/bin
NEWEST := .venv-newest
TEST_PROCESSES ?= 2

# Tests start processes by the dozen: what Python compiled for one is kept for the next, and for the next call.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: venv demo model test test-newest test-slow test-page lint bench pin clean

venv: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	@echo "== making .venv with $$($(PYTHON) --version) and installing (a few minutes the first time)"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -qq --upgrade pip
	$(BIN)/python -m pip install -qq --constraint constraints.txt --editable ".[dev]"
	@touch $@

demo: venv
	@echo "== training and scoring on synthetic people: runs/demo"
	$(BIN)/pat demo

model: venv
	@echo "== the model in the box, made from nothing: runs/model/bundle (about two hours on two cores)"
	$(BIN)/python -m bench model

lint: venv
	@echo "== ruff, mypy, import rules"
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: venv lint
	@echo "== tests"
	$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist worksteal

test-newest:
	@echo "== tests with the newest release of every dependency: $(NEWEST)"
	$(PYTHON) -m venv --clear $(NEWEST)
	$(NEWEST)/bin/python -m pip install -qq --upgrade pip
	$(NEWEST)/bin/python -m pip install -qq --editable ".[dev]"
	$(NEWEST)/bin/python -m pytest -n $(TEST_PROCESSES) --dist worksteal

test-page: venv
	@echo "== the operator's page in a real browser; skipped where there is no Chromium"
	$(BIN)/python -m pytest -m slow tests/deploy/service/test_page.py

test-slow: venv
	$(BIN)/python -m pytest -m slow

bench: venv
	@echo "== benchmarks on this machine"
	$(BIN)/python -m pytest bench

pin:
	@echo "== the newest versions that fit, for Python 3.10 to 3.14: constraints.txt (run \`make test\` before keeping it)"
	PATH="$(BIN):$$PATH" uv pip compile pyproject.toml --extra dev --universal --python-version 3.10 --upgrade --quiet \
		--no-header --no-annotate --no-emit-index-url --no-emit-find-links --output-file constraints.txt

clean:
	rm -rf .venv $(NEWEST) build dist *.egg-info
