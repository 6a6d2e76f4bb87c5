# `make quickstart` and `make test` set up by themselves what is missing.
#
# PYTHON names an environment of your own, whose torch is kept: make test PYTHON=/path/to/bin/python
# Without it everything goes into .venv.
PYTHON ?=
QUICKSTART_ARGS ?=
ABLATION_ARGS ?=
FUZZ_ARGS ?=
PYTEST_ARGS ?=
# Slow modules come first (tests/conftest.py); xdist would order them by the number of tests. It
# would also wait without end for the module of a worker that crashed, if it replaced the worker.
DISTRIBUTED := -n auto --dist loadfile --no-loadscope-reorder --max-worker-restart=0
PY := $(or $(PYTHON),.venv/bin/python)

# This checkout comes first on the import path. A PYTHONPATH of the user counts only together with
# an environment of the user: in .venv it could hide the pinned packages.
USER_PATH := $(if $(PYTHON),$(PYTHONPATH))
export PYTHONPATH := $(CURDIR)/projects$(if $(USER_PATH),:$(USER_PATH))
unexport PYTHONHOME
# Figures are written to files, also where there is no display.
MPLBACKEND ?= Agg
export MPLBACKEND

.PHONY: coverage docs help setup quickstart ablation test test-all test-fast fuzz lint format

help:
	@echo 'make quickstart  set up, then train from the base, test and draw on a small example'
	@echo '                 (QUICKSTART_ARGS=..., --from-scratch: from random weights)'
	@echo 'make ablation    set up, then the experiment on learned offsets     (ABLATION_ARGS=...)'
	@echo 'make test        set up, then the tests                        (PYTEST_ARGS=...)'
	@echo 'make test-all    the same with the exhaustive ones, as continuous integration does'
	@echo 'make coverage    all tests with the coverage measured, which is slower'
	@echo 'make test-fast   set up, then the tests that start no process and train nothing'
	@echo 'make fuzz        set up, then thousands of random inputs           (FUZZ_ARGS=...)'
	@echo 'make lint        set up, then ruff and mypy; make format applies what ruff can fix'
	@echo 'make docs        build the documentation site into work_dirs/site'
	@echo 'make setup       only set up; does nothing when nothing changed'
	@echo 'Each takes PYTHON=/path/to/bin/python to use that environment in place of .venv.'

# The first Python that fits and has all it takes to make an environment, or else the first that
# fits: the set-up then says what it lacks.
FITS := import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 13))
COMPLETE := import ensurepip, os, sysconfig, venv; \
	os.stat(sysconfig.get_path("include") + "/Python.h"); $(FITS)
setup:
	@for check in '$(COMPLETE)' '$(FITS)'; do \
		for python in $(or $(PYTHON),python3 python3.12 python3.11 python3.10); do \
			if $$python -Ic "$$check" 2>/dev/null; then \
				PYTHONPATH='$(USER_PATH)' exec $$python tools/setup_env.py \
					$(if $(PYTHON),--current); \
			fi; \
		done; \
	done; \
	echo 'Set-up failed: $(if $(PYTHON),$(PYTHON) is not,no Python on PATH is) Python 3.10, 3.11 or 3.12:' \
		'install one with its headers and venv module, or name one, as in' \
		'`make setup PYTHON=/path/to/bin/python`.' >&2; exit 1

quickstart: setup
	$(PY) tools/quickstart.py $(QUICKSTART_ARGS)

test: setup
	$(PY) -m pytest tests -m 'not exhaustive' $(DISTRIBUTED) $(PYTEST_ARGS)

test-all: setup
	$(PY) -m pytest tests $(DISTRIBUTED) $(PYTEST_ARGS)

coverage: setup
	$(PY) -m pytest tests $(DISTRIBUTED) --cov --cov-report=term:skip-covered \
		$(PYTEST_ARGS)

test-fast: setup
	$(PY) -m pytest tests -m 'not slow' $(DISTRIBUTED) $(PYTEST_ARGS)

lint: setup
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

format: setup
	$(PY) -m ruff check --fix-only .
	$(PY) -m ruff format .

fuzz: setup
	$(PY) tests/fuzz/run_thorough.py $(FUZZ_ARGS)

ablation: setup
	$(PY) tools/ablation.py $(ABLATION_ARGS)

docs:
	@test -x work_dirs/docs-venv/bin/mkdocs || { python3 -m venv work_dirs/docs-venv && \
		work_dirs/docs-venv/bin/pip install -q -r requirements-docs.txt; }
	NO_MKDOCS_2_WARNING=1 work_dirs/docs-venv/bin/mkdocs build --strict
