# Two commands: `make demo` and `make test`. Both make .venv and install what they need.
PYTHON ?= python3
BIN := .venv/bin
TEST_PROCESSES ?= 2

.PHONY: venv demo test test-slow lint bench clean

venv: .venv/installed

.venv/installed: pyproject.toml
	@echo "== making .venv with $$($(PYTHON) --version) and installing (a few minutes the first time)"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -qq --upgrade pip
	$(BIN)/python -m pip install -qq --editable ".[dev]"
	@touch $@

demo: venv
	@echo "== training and scoring on synthetic people: runs/demo"
	$(BIN)/pat demo

lint: venv
	@echo "== ruff, mypy, import rules"
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: venv lint
	@echo "== tests"
	$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist worksteal

test-slow: venv
	$(BIN)/python -m pytest -m slow

bench: venv
	@echo "== benchmarks on this machine"
	$(BIN)/python -m pytest bench --benchmark-only

clean:
	rm -rf .venv build dist *.egg-info
