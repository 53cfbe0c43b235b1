# The two commands of a new user are `make run` and `make test`; both need nothing but Python 3.10 to 3.12, make and git.

VENV := .venv
BIN := $(VENV)/bin
OUT ?= out/first-run
comma := ,

# The first interpreter that runs and is of a release MindSpore has wheels for; 3.12 comes late because it needs MindSpore 2.7.2,
# and mindone documents 2.7.1. (A version manager's shim may exist and not run.)
PYTHON ?= $(shell for p in python3.11 python3.10 python3.12 python3 python; do \
	$$p -c 'import ensurepip, sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null && echo $$p && break; done)

.DEFAULT_GOAL := help
.PHONY: help run test check bench chaos wheel clean

help:  ## Say what can be made
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST)

run: $(VENV)/run.stamp  ## Install, then make images from examples/prompts.jsonl on this machine
	$(BIN)/ddim-fleet run examples/prompts.jsonl --format imagefolder --out $(OUT)-$$(date +%Y%m%d-%H%M%S)

test: $(VENV)/dev.stamp  ## Install, then run all tests
	$(BIN)/python -m pytest

check: $(VENV)/dev.stamp  ## Lint, formatting, types, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/bench.stamp  ## Measure; figures and their dates stand in docs/benchmarks.md
	$(BIN)/python -m benchmarks

chaos: $(VENV)/dev.stamp  ## Break a small fleet at random and audit what is left; ARGS="--scenario kills --seed 7"
	$(BIN)/python -m tools.chaos $(ARGS)

wheel: $(VENV)/bin/pip  ## Build a wheel with the fused CPU kernels, for Linux on this kind of machine
	DDIM_FLEET_KERNELS=wheel $(BIN)/pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .

clean:  ## Remove the virtual environment and what tools left behind
	rm -rf $(VENV) build dist ddim_core/sampling/fused/lib .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

$(VENV)/bin/pip:
	@test -n "$(PYTHON)" || { echo "make: Python 3.10, 3.11 or 3.12 with the venv module is needed (Debian: apt-get install python3-venv)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# The fused CPU kernels are compiled with the installation, by g++ or, where there is none, by a compiler that is a package.
# What cannot be fetched or compiled must not be in the way: then it is installed without them.
KERNELS := hatch_build.py $(wildcard ddim_core/sampling/fused/csrc/*) ddim_core/sampling/fused/sources.py
INSTALL = $(BIN)/pip install --quiet --disable-pip-version-check --editable
define install
	DDIM_FLEET_KERNELS=native $(INSTALL) '.[$(1)]' || DDIM_FLEET_KERNELS=off $(INSTALL) '.[$(1)]'
endef

$(VENV)/run.stamp: pyproject.toml $(KERNELS) | $(VENV)/bin/pip
	$(call install,worker)
	@touch $@

$(VENV)/dev.stamp: pyproject.toml $(KERNELS) | $(VENV)/bin/pip
	$(call install,worker$(comma)dev)
	@touch $@ $(VENV)/run.stamp

# An interpreter with torch and diffusers that was named makes a second copy of them needless.
BENCH_EXTRAS := worker$(if $(DDIM_FLEET_BENCH_TORCH_PYTHON),,$(comma)bench)

$(VENV)/bench.stamp: pyproject.toml $(KERNELS) | $(VENV)/bin/pip
	$(call install,$(BENCH_EXTRAS))
	@touch $@ $(VENV)/run.stamp
