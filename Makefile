# All commands of this project; `make` lists them.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

# Binaries find libtorch through a path relative to target/PROFILE, which .cargo/config.toml passes to the linker. With
# another target folder or other flags, the programs would not start.
export CARGO_TARGET_DIR := $(CURDIR)/target
ifneq ($(RUSTFLAGS)$(CARGO_ENCODED_RUSTFLAGS),)
$(info make: note: RUSTFLAGS is ignored, because it would replace the flags of .cargo/config.toml)
endif
unexport RUSTFLAGS CARGO_ENCODED_RUSTFLAGS CARGO_BUILD_TARGET

# Everything is built, linted and tested in one profile, so that dependencies are compiled once.
CARGO = $(WITH_TOOLS) cargo
ALL := --release --workspace --locked

# Parts of `make accuracy`: checkpoints, two-epochs, ten-epochs; all of them if empty.
PARTS ?=

# Options of `make chaos`: number of faults, seed, concurrent runs.
FAULTS ?= 200
SEED ?= 0
JOBS ?= 2

# Options of `make gpu-check`, which needs a Python with torch.
ARGS ?=

# Number of cases of `make combinations`, which also uses SEED and JOBS.
CASES ?= 1000

# Setup writes .setup.mk (WITH_TOOLS), and make reads the file again if it has changed. Quick if nothing is missing.
ifeq ($(filter-out help fmt clean book,$(or $(MAKECMDGOALS),help)),)
-include .setup.mk
else
include .setup.mk
ifeq ($(MAKE_RESTARTS),)
.setup.mk: FORCE
	@scripts/setup.sh
endif
endif

.PHONY: FORCE help setup build test test-long golden demo accuracy chaos combinations bench gpu-check wheel bundle test-wheel lint fmt doc book deny build-faults check fmt-check run-tests clean
FORCE:

help: ## list the targets
	@awk -F ':[^#]*## ' '/^[a-z -]+:.*## / { printf "  make %-23s %s\n", $$1, $$2 }' Makefile

setup: ## find or install Rust, MPI, libclang, libtorch; quick if nothing is missing
	@:

build: setup ## target/release/lift-trainer and target/release/lift
	$(CARGO) build $(ALL) --lib --bins --examples

test: check run-tests ## everything that CI runs: format, lints, docs, licences, build, tests

test-long: build build-faults ## the long tests that `make test` skips: official checkpoints, forty faults, sixty combinations, mutated files
	$(CARGO) test $(ALL) --test proof --test chaos --test combinations -- --ignored --show-output
	$(CARGO) test $(ALL) --lib ten_thousand -- --ignored --show-output

golden: build ## only the comparisons with recorded results (LIFT_FIXTURES)
	$(CARGO) test $(ALL) golden -- --nocapture

demo: build ## compare four methods on the embedded demo, on two ranks, and write a report
	@scripts/demo.sh

accuracy: build ## compare accuracy with the official figures (LIFT_DATA, LIFT_BACKBONES, PARTS)
	@scripts/accuracy.sh $(PARTS)

bench: build ## speed of collectives, samplers and steps, and scaling (LIFT_DATA, LIFT_BACKBONES)
	@scripts/bench.sh

chaos: build build-faults ## faults in real runs: kills, stops, full disks, damage (FAULTS=200 SEED=0 JOBS=2)
	target/release/chaos --faults $(FAULTS) --seed $(SEED) --jobs $(JOBS)
	@$(WITH_TOOLS) scripts/slurm_chaos.sh

combinations: build ## laws 1 and 7 on random tuners, losses, heads, initialisations, world sizes (CASES=1000 SEED=0 JOBS=2)
	target/release/combinations --cases $(CASES) --seed $(SEED) --jobs $(JOBS)

gpu-check: build ## losses, bits, memory and speed on one GPU, beside PyTorch (PYTHON, ARGS="--only speed"); docs/gpu.md
	@target/release/lift gpu-check $(ARGS)

wheel: setup ## dist/lift_rs-*.whl for pip, on any Linux with glibc 2.28 or newer (docs/install.md)
	@$(WITH_TOOLS) packaging/build.sh wheel

bundle: setup ## the wheel, and dist/lift-bundle-*.tar.gz to unpack beside any Python with torch 2.11
	@$(WITH_TOOLS) packaging/build.sh bundle

test-wheel: bundle ## install wheel and bundle in a root without Rust, MPI and compiler, and train there
	@packaging/test.sh

lint: fmt-check ## format and clippy, warnings are errors
	$(CARGO) clippy $(ALL) --all-targets -- -D warnings

fmt: ## format the sources
	$(CARGO) fmt --all

doc: ## API documentation, warnings are errors: target/doc
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc $(ALL) --no-deps

book: ## the pages of docs/ as a book, if mdbook is installed: target/book/index.html
	@command -v mdbook > /dev/null || { echo 'error: `mdbook` is not installed'; echo 'hint: cargo install mdbook --locked'; exit 2; }
	mdbook build docs

deny: ## licences, sources and advisories of the dependencies
	@$(WITH_TOOLS) scripts/deny.sh

clean: ## remove the build (not .venv and .libtorch)
	rm -rf target

# The trainer with injected faults, for tests; it does not replace target/release/lift-trainer. The example is built in the
# same command, because cargo then reuses the libtorch binding of the other programs instead of building a second one.
build-faults: setup
	$(CARGO) build $(ALL) --features trainer/faults --bin lift-trainer-faults --example watched_ranks

check: setup lint doc deny build build-faults

fmt-check:
	$(CARGO) fmt --all -- --check

run-tests:
	@$(WITH_TOOLS) scripts/run_tests.sh $(ALL)
