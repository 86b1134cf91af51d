# Everything here sets itself up: `make demo` on a fresh clone is enough.
# uv is used where it is installed, else python -m venv and pip. PYTHON=… chooses the interpreter (3.11 or later).

SHELL  := /bin/sh
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
PYTHON ?= $(shell for p in python3.14 python3.13 python3.12 python3.11 python3 python; do \
            $$p -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null \
            && { echo $$p; break; }; done)

.PHONY: help demo test soak fuzz lint bench format clean
.SILENT:

help:
	echo "make demo    three real nodes on this machine: discover, share, cut, heal, kill, recover"
	echo "make test    all tests (those that need network namespaces are skipped where there are none)"
	echo "make soak    the product held to its figures: overload, cuts, 100 kills; minutes, and root for namespaces"
	echo "make fuzz    hostile bytes at every door, guided by coverage, for FUZZ_SECONDS=600 (needs a wheel of atheris)"
	echo "make lint    ruff and mypy"
	echo "make bench   measurements, each beside its reference"

demo: $(STAMP)
	$(BIN)/gossamer demo

test: $(STAMP)
	$(BIN)/python -m pytest

soak: $(STAMP)
	GOSSAMER_PATIENCE=1 GOSSAMER_KILLS=100 $(BIN)/python -m pytest -m 'soak or not soak' tests/lan tests/mesh/messaging/test_kills.py tests/crdt tests/fuzz

fuzz: $(STAMP)
	if command -v uv >/dev/null 2>&1; then uv pip install --quiet --python $(BIN)/python --editable '.[fuzz]'; \
	else $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input --editable '.[fuzz]'; fi
	$(BIN)/python -m tests.fuzz --seconds $${FUZZ_SECONDS:-600}

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(STAMP) $(VENV)/.bench
	$(BIN)/python -m bench

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis dist

# The stamp is older than pyproject.toml when dependencies changed: then everything is installed again.
$(STAMP): pyproject.toml
	if command -v uv >/dev/null 2>&1; then \
	  test -x $(BIN)/python || uv venv --quiet --python '>=3.11,<3.15' $(VENV) || exit 1; \
	  uv pip install --quiet --python $(BIN)/python --editable '.[dev]' || exit 1; \
	else \
	  test -n "$(PYTHON)" || { echo "make: needs Python 3.11 or later (with venv), or uv: https://docs.astral.sh/uv" >&2; exit 1; }; \
	  test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || exit 1; \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input --editable '.[dev]' || exit 1; \
	fi
	touch $(STAMP)

$(VENV)/.bench: $(STAMP)
	if command -v uv >/dev/null 2>&1; then uv pip install --quiet --python $(BIN)/python --editable '.[bench]'; \
	else $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input --editable '.[bench]'; fi
	touch $(VENV)/.bench
