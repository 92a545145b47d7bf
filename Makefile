# make demo: set everything up and run the whole job on this machine. make test: set up and run the tests. make lint.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# A recording of real people makes the demo's stream more telling; it trains nothing.
RECORDINGS := $(wildcard ../shared/data/keywords_en30)

.PHONY: demo test lint clean

demo: $(VENV)/ready
	$(BIN)/milliwise demo -o demo-output $(if $(RECORDINGS),--recordings $(RECORDINGS))

test: $(VENV)/ready
	$(BIN)/pytest -n 2 --dist loadfile

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) demo-output build *.egg-info

# torch is installed first, by itself: asked for by another package, the newest build would come, with its CUDA packages.
$(VENV)/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "the versions in constraints.txt need Python 3.11 or newer: make PYTHON=python3.11 $(MAKECMDGOALS)")'
	$(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (about a minute)"
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@
