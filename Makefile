# The index of commands. `make demo` and `make test` are all a newcomer needs.
PYTHON ?= python3
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
SOURCES := $(wildcard operators/*.py solver/*.py astro/*.py operators/*/*.py astro/*/*.py) pyproject.toml

.DEFAULT_GOAL := help
.PHONY: help demo test fuzz lint bench bench-full bench-guard tables notebooks docs dev clean

help:  ## list the commands
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

$(VENV)/.dependencies: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) --constraint constraints.txt ".[demo,test]"
	touch $@

# A normal install, made anew whenever a source file changes, without asking for the dependencies again.
$(VENV)/.package: $(VENV)/.dependencies $(SOURCES)
	rm -rf build
	$(PIP) --no-deps --force-reinstall .
	touch $@

# Threads that spin while they wait take the processor from whatever else runs.
demo test notebooks bench: export OMP_WAIT_POLICY = passive

demo: $(VENV)/.package  ## solve a Poisson problem and sharpen two images (writes demo/)
	mkdir -p demo
	cd demo && $(BIN)/python -W ignore::UserWarning -m deconjugate.solver.demo
	cd demo && $(BIN)/python -m deconjugate.astro.demo .

test: $(VENV)/.package  ## the test suite, on a normal install, from another folder
	cd "$$(mktemp -d)" && $(BIN)/python -m pytest -c $(CURDIR)/pyproject.toml --rootdir $(CURDIR) \
	  -p no:cacheprovider $(CURDIR)/tests $(PYTEST)

lint: $(VENV)/.package  ## ruff, and the direction of imports
	$(PIP) --constraint constraints.txt ruff import-linter
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	cd "$$(mktemp -d)" && $(BIN)/lint-imports --no-cache --config $(CURDIR)/pyproject.toml

# pyamgcl has no wheel: it needs pybind11 present, no build isolation, and the headers of Boost (libboost-dev).
$(VENV)/.bench: $(VENV)/.dependencies
	$(PIP) --constraint constraints.txt pyamg scikit-image sep pybind11 setuptools wheel
	-$(PIP) --constraint constraints.txt --no-build-isolation ilupp
	-$(PIP) --constraint constraints.txt --no-build-isolation pyamgcl
	touch $@

fuzz: $(VENV)/.package  ## 2,000 damaged FITS files: each an error in words or a result
	cd benchmarks && OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 $(BIN)/python fuzz_files.py --count 2000

# One that fails does not keep the rest from running; those that failed are named at the end.
every = cd benchmarks && failed=; for b in bench_*.py; do printf '\n== %s %s\n' $$b $(1); \
	  $(BIN)/python $$b $(1) || failed="$$failed $$b"; done; \
	  test -z "$$failed" || { echo "failed:$$failed" >&2; exit 1; }

bench: $(VENV)/.package $(VENV)/.bench  ## every benchmark, short
	$(call every,--quick)

bench-full: $(VENV)/.package $(VENV)/.bench  ## every benchmark, as in benchmarks/README.md
	$(call every,)
	cd benchmarks && $(BIN)/python readme_tables.py

bench-guard: $(VENV)/.package  ## fail where ours became slower by a quarter, beside a yardstick
	cd benchmarks && OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 $(BIN)/python guard.py

tables: $(VENV)/.package  ## redraw the README's tables from benchmarks/results
	cd benchmarks && $(BIN)/python readme_tables.py

notebooks: $(VENV)/.package  ## execute the notebooks anew, in place (minutes)
	$(BIN)/python notebooks/execute.py

docs: $(VENV)/.package  ## the API reference, from the docstrings (writes build/docs/)
	rm -rf build/docs
	cd "$$(mktemp -d)" && $(BIN)/python $(CURDIR)/docs/api.py $(CURDIR)/build/docs

dev: $(VENV)/.dependencies  ## an editable install, for working on the package
	$(PIP) --constraint constraints.txt --editable ".[demo,test,lint]"
	rm -rf $(VENV)/lib/python*/site-packages/deconjugate  # compiled kernels left there would hide the package
	touch $(VENV)/.package

clean:  ## remove what the commands made, the environment included
	rm -rf $(VENV) build demo *.egg-info
