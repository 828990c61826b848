# One command each. The first one sets up .venv; nothing but make and Python >= 3.10 is needed.
PYTHON ?= python3
CONSTRAINTS ?= constraints.txt
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SOURCES := zipsplat splatfactory splatscenes tests benchmarks examples scripts docs/conf.py
PROJECTS := pyproject.toml splatfactory/pyproject.toml splatscenes/pyproject.toml
# Tests run one process per core, so each process uses one thread.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow test-mutants test-lowest fuzz test-browser test-peers check format lint types contracts examples wheels bitcode bench bench-quality bench-page tiny tiny-scores clean docs owner resolve

help:  ## list the commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## /  make \1\t/' | expand -t 20

$(READY): $(PROJECTS) $(CONSTRAINTS)
	@$(PYTHON) -c 'import sys; v = sys.version.split()[0]; sys.exit(0 if sys.version_info >= (3, 10) else f"Python >= 3.10 is needed, {sys.executable} is {v}; try make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) -e '.[dev]' -e splatscenes/ -e 'splatfactory/[dev]'
	@touch $@

setup: $(READY)  ## make .venv with all packages and the tools

demo: $(READY)  ## example video -> cameras, refined scene, page, video
	$(BIN)/python scripts/demo.py

test: $(READY)  ## the fast tests, under twenty minutes on two cores
	$(PYTEST) -m "not slow" tests

test-slow: $(READY)  ## the slow tests (memory, kills, millions of Gaussians); needs about 8 GB
	OMP_NUM_THREADS=2 $(BIN)/python -m pytest -m slow --timeout 3600 tests
	$(MAKE) test-mutants

test-mutants: $(READY)  ## break the code line by line; the tests must notice
	$(BIN)/python -m tests.mutants.run --jobs 2

test-browser: $(READY)  ## viewer and page in headless Chromium; skipped where there is none
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -rs -m "slow or not slow" tests/zipsplat/viewer/test_browser.py tests/zipsplat/test_webpage_browser.py

test-lowest: $(READY)  ## fast tests with the lowest versions of all dependencies
	bash scripts/test_lowest.sh $(BIN)/python -n auto --dist worksteal tests/zipsplat tests/splatfactory

FUZZ ?= --count 1000
fuzz: $(READY)  ## damaged files for every reader, minutes; FUZZ="--hours 3" or "scenes --count 20000"
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzzing.campaign $(FUZZ)

PEERS ?= .peers
test-peers: $(READY)  ## files and pages against other programs; needs node and chromium
	mkdir -p $(PEERS) && cp tests/peers/package.json $(PEERS)/
	npm install --ignore-scripts --prefix $(PEERS)
	ZIPSPLAT_PEERS=$(PEERS) OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/peers

bitcode: $(READY)  ## the kernels as LLVM bitcode, after a change of them; two minutes
	rm -f zipsplat/render/cpu/bitcode/$$($(BIN)/python -c "import sysconfig; print(sysconfig.get_platform())").zip
	NUMBA_OPT=0 ZIPSPLAT_KERNEL_CACHE=/dev/null/none OMP_NUM_THREADS=1 $(BIN)/python scripts/make_bitcode.py

check: format-check lint types contracts  ## formatting, lint, types, contracts

format: $(READY)  ## format the code
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)

format-check: $(READY)
	$(BIN)/ruff format --check $(SOURCES)

lint: $(READY)  ## look for mistakes, in workflows and templates too
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-issue-forms .github/ISSUE_TEMPLATE/[bf]*.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-issue-config .github/ISSUE_TEMPLATE/config.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.citation-file-format CITATION.cff
	$(BIN)/python scripts/owner.py --check

owner: $(READY)  ## copy the facts of owner.toml to where they are needed
	$(BIN)/python scripts/owner.py

docs: $(READY)  ## build the documentation site in docs/_build/html; warnings are errors
	$(BIN)/sphinx-build --quiet --fresh-env --fail-on-warning --keep-going docs docs/_build/html

# Versions that this machine cannot run are resolved at least.
RESOLVE := $(BIN)/uv pip compile --quiet --no-header --no-annotate $(PROJECTS)
resolve: $(READY)  ## check that the pinned versions exist for every Python and platform
	set -e; for python in 3.10 3.11 3.12 3.13 3.14; do for platform in x86_64-unknown-linux-gnu aarch64-apple-darwin; do \
	    echo "Python $$python, $$platform"; \
	    MACOSX_DEPLOYMENT_TARGET=14.0 $(RESOLVE) --extra dev -c constraints.txt --python-version $$python --python-platform $$platform >/dev/null; \
	done; done

types: $(READY)  ## check the types
	$(BIN)/mypy

contracts: $(READY)  ## layers, public names, README commands
	$(PYTEST) -m "not slow" tests/contracts

examples: $(READY)  ## run every example
	set -e; for file in examples/[0-9]*.py; do echo "$$file"; OMP_NUM_THREADS=2 $(BIN)/python $$file; done

wheels: $(READY)  ## build the wheels and test them in a clean environment
	bash scripts/try_wheels.sh $(BIN)/python

# Training of the bundled model; a stopped run resumes where it was. PROCESSES=1 on one GPU.
PROCESSES ?= 2
GEOMETRY := outputs/training/zipsplat-tiny-geometry/checkpoint_last.safetensors
TRAIN := $(BIN)/torchrun --nproc-per-node $(PROCESSES) -m splatfactory.train --restore
tiny: $(READY)  ## train zipsplat-tiny from scratch, and its baseline; hours on a CPU
	$(BIN)/python -m splatfactory.datasets.scripts.synthetic.generate --size 126 --num-views 16 --num-scenes 2000 --num-test-scenes 120 --num-workers $(PROCESSES)
	$(TRAIN) zipsplat-tiny-geometry --conf zipsplat-tiny-geometry
	$(TRAIN) zipsplat-tiny --conf zipsplat-tiny model.weights=$(GEOMETRY)
	$(TRAIN) zipsplat-tiny-pixels --conf zipsplat-tiny model.name=networks.pixel_aligned model.relief_init=false model.backbone.weights=$(GEOMETRY)
	$(BIN)/python -m splatfactory.training.release outputs/training/zipsplat-tiny/checkpoint_last.safetensors --blend $(GEOMETRY) 0.4 -o outputs/zipsplat-tiny.safetensors

tiny-scores: $(READY)  ## score zipsplat-tiny on held-out generated scenes; an hour on two cores
	$(BIN)/python benchmarks/tiny_model.py --pixel-aligned outputs/training/zipsplat-tiny-pixels/checkpoint_last.safetensors --plot docs/images/tiny-model.webp

BENCH ?=
bench: $(READY)  ## measure everything, write docs/benchmarks.md; 17 to 40 minutes on two cores, alone
	$(BIN)/python scripts/bench.py $(BENCH); status=$$?; $(BIN)/python scripts/benchmark_page.py && exit $$status

bench-quality: $(READY)  ## quality of refined scenes and cameras as tables; hours
	$(BIN)/python scripts/bench.py --quality $(BENCH)

bench-page: $(READY)  ## the tables of docs/benchmarks.md from benchmarks/results/
	$(BIN)/python scripts/benchmark_page.py

clean:  ## remove what the commands made
	rm -rf $(VENV) outputs build dist docs/_build *.egg-info splatfactory/*.egg-info splatscenes/*.egg-info .mypy_cache .ruff_cache .pytest_cache
