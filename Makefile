# `make quickstart` and `make test` set up by themselves what is missing.
#
# PYTHON names an environment of your own, whose torch is kept: make test PYTHON=/path/to/bin/python
# Without it everything goes into .venv.
PYTHON ?=
QUICKSTART_ARGS ?=
ABLATION_ARGS ?=
FUZZ_ARGS ?=
PYTEST_ARGS ?=
PY := $(or $(PYTHON),.venv/bin/python)

# This checkout comes first on the import path. A PYTHONPATH of the user counts only together with
# an environment of the user: in .venv it could hide the pinned packages.
export PYTHONPATH := $(CURDIR)/projects$(if $(PYTHON),$(if $(PYTHONPATH),:$(PYTHONPATH)))
unexport PYTHONHOME
# Pictures are written to files, also where there is no display.
MPLBACKEND ?= Agg
export MPLBACKEND

.PHONY: help setup quickstart ablation test fuzz

help:
	@echo 'make quickstart  set up, then train from the base, test and draw on a small example'
	@echo '                 (QUICKSTART_ARGS=..., --from-scratch: from random weights)'
	@echo 'make ablation    set up, then the experiment on learned offsets     (ABLATION_ARGS=...)'
	@echo 'make test        set up, then the tests                        (PYTEST_ARGS=...)'
	@echo 'make fuzz        set up, then thousands of random inputs           (FUZZ_ARGS=...)'
	@echo 'make setup       only set up; does nothing when nothing changed'
	@echo 'Each takes PYTHON=/path/to/bin/python to use that environment in place of .venv.'

# Any Python from 3.8 on runs the set-up; it looks for one that fits and says so if there is none.
setup:
	@for python in python3 python3.12 python3.11 python3.10; do \
		if $$python -Ic 'import sys; sys.exit(sys.version_info < (3, 8))' 2>/dev/null; then \
			exec $$python -I tools/setup_env.py $(if $(PYTHON),--python '$(PYTHON)'); \
		fi; \
	done; \
	echo 'Set-up failed: no Python was found: install Python 3.10, 3.11 or 3.12.' >&2; exit 1

quickstart: setup
	$(PY) tools/quickstart.py $(QUICKSTART_ARGS)

test: setup
	$(PY) -m pytest tests -n auto --dist loadfile $(PYTEST_ARGS)

fuzz: setup
	$(PY) tests/fuzz/run_thorough.py $(FUZZ_ARGS)

ablation: setup
	$(PY) tools/ablation.py $(ABLATION_ARGS)
