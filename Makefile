# Everything runs in .venv, which each target makes and fills by itself. PYTHON chooses the interpreter (3.11 or newer):
#   make test PYTHON=python3.12 PYTEST_ARGS="-x -k philox" PYTEST_WORKERS=0
PYTHON ?= python3
PYTEST_ARGS ?=
PYTEST_WORKERS ?= auto
BENCH_ARGS ?=
MUTANTS_ARGS ?=
GPU_ARGS ?=
DEMO_ARGS ?=

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-core lint docs bench mutants gpu package clean

VENV := .venv
VENV_PYTHON := $(VENV)/bin/python
INSTALL := $(VENV_PYTHON) -m pip install --quiet --disable-pip-version-check --no-input --only-binary :all:

# Stamps carry a checksum, not a date: a checkout or a restored cache may set file dates as it likes.
# An environment belongs to one Python and, through its editable install, to one folder; else it is made anew.
WHICH_PYTHON := import sys; print(sys.version, sys.base_prefix)
ENVIRONMENT := $(VENV)/made-$(firstword $(shell { $(PYTHON) -c '$(WHICH_PYTHON)' 2>&1; pwd; } | cksum))
INSTALLED := $(VENV)/installed-$(firstword $(shell cksum < pyproject.toml))

help:
	@echo "make demo    train 10,000 networks on handwritten digits; saves demo/digits.png"
	@echo "make test    run the tests"
	@echo "make test-core  run some that need NumPy and Numba alone, say on another Python: PYTHON=python3.13"
	@echo "make lint    check style (ruff) and types (mypy)"
	@echo "make docs    build the documentation's site into build/site; a warning fails it"
	@echo "make bench   measure speed beside peers, and write the figures into the pages"
	@echo "make mutants break the library in many ways, and see that the tests notice each; writes the page"
	@echo "make gpu     check and measure the CUDA kernels on a machine with an NVIDIA GPU, with what is installed there"
	@echo "make package build the package, and try it where only NumPy and Numba are installed"
	@echo "make clean   remove all that these made"

demo: $(INSTALLED)-demo
	$(VENV_PYTHON) examples/digits_demo.py $(DEMO_ARGS)

test: $(INSTALLED)-test
	$(VENV_PYTHON) -m pytest --numprocesses $(PYTEST_WORKERS) --dist worksteal $(PYTEST_ARGS)

# Tests that need NumPy and Numba alone, for Pythons beside the one that runs all: make test-core PYTHON=python3.13
CORE_TESTS := tests/test_trained_bits.py tests/test_imports.py tests/test_copies.py tests/test_persistence.py
CORE_VENV = $(VENV)-core-$(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')

test-core:
	@$(PYTHON) -m venv $(CORE_VENV)
	@$(CORE_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-input --only-binary :all: \
		--editable . "pytest>=8.4" "hypothesis>=6.100"
	$(CORE_VENV)/bin/python -m pytest -q -p no:cacheprovider $(CORE_TESTS)

lint: $(INSTALLED)-lint
	$(VENV_PYTHON) -m ruff check .
	$(VENV_PYTHON) -m ruff format --check --quiet .
	$(VENV_PYTHON) -m mypy

# The variable silences an announcement of another program.
docs: $(INSTALLED)-docs
	NO_MKDOCS_2_WARNING=1 $(VENV_PYTHON) -m mkdocs build
	@echo "written to build/site: open build/site/index.html"

bench: $(INSTALLED)-bench
	@$(VENV_PYTHON) -c 'import torch' 2>/dev/null || \
		echo "PyTorch will be missing from the peers: install its CPU build into $(VENV) to measure it too"
	$(VENV_PYTHON) -m benchmarks.paper_grid $(BENCH_ARGS)
	$(VENV_PYTHON) -m benchmarks.render_grid

mutants: $(INSTALLED)-test
	@$(VENV_PYTHON) -m tests.mutants $(MUTANTS_ARGS)

package: $(INSTALLED)-package
	$(VENV_PYTHON) tests/check_package.py

# On the interpreter that is given, which has CuPy: such machines may have no network to make an environment from.
gpu:
	PYTHONPATH=. $(PYTHON) -m benchmarks.gpu.on_gpu $(GPU_ARGS)

clean:
	rm -rf $(VENV) $(VENV)-core-* build demo dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(ENVIRONMENT):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=...")'
	@echo "Making $(VENV) with $$($(PYTHON) -V)"
	@$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(INSTALLED)-%: $(ENVIRONMENT)
	@echo "Installing pmlp_np[$*] into $(VENV) (the first time takes a minute or two)"
	@$(INSTALL) --editable '.[$*]'
	@rm -f $(filter-out $(INSTALLED)-%,$(wildcard $(VENV)/installed-*))
	@touch $@
