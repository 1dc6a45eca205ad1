# Two commands do everything: `make demo` and `make test`. Both create .venv and install there.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
export OMP_NUM_THREADS ?= 1
ifneq ($(wildcard ../shared/data/README.md),)
export NAS_DATA ?= $(abspath ../shared/data)
endif

.PHONY: demo test test-slow lint clean

.venv/ready: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

demo: .venv/ready  ## a real search on scikit-learn's digits, then its front, models and report
	$(BIN)/nas search scripts/demo.toml --out runs/demo
	$(BIN)/nas test runs/demo
	$(BIN)/nas export runs/demo
	$(BIN)/nas report runs/demo
	$(BIN)/nas front runs/demo --json > runs/demo/front.json
	$(BIN)/nas front runs/demo
	@echo "front   runs/demo/front.json"
	@echo "report  runs/demo/report.html"
	@echo "models  runs/demo/models/"
	@$(BIN)/nas test runs/demo --knee

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint
	$(BIN)/pytest -n 2 --dist worksteal -m "not slow" --cov --cov-report=term:skip-covered

test-slow: .venv/ready  ## checks that take minutes each
	$(BIN)/pytest -m slow

clean:
	rm -rf .venv runs build *.egg-info
