# Every command a person needs. `make` alone lists them.
#
# What is built stays outside the checkout, so that several checkouts share the compiled crates.
SHELL := /bin/bash
export CARGO_TARGET_DIR ?= $(HOME)/.cache/knarr/target
HOST := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')
DEBUG := $(CARGO_TARGET_DIR)/$(HOST)/debug/knarr
RELEASE := $(CARGO_TARGET_DIR)/$(HOST)/release/knarr

.PHONY: help
help: ## list the commands
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 18

# Checkouts share the target folder. Cargo goes by the times of files and would take the crates of
# another checkout, built later than these files were written, for this one's.
.PHONY: checkout
checkout:
	@mkdir -p $(CARGO_TARGET_DIR)
	@[ "$$(cat $(CARGO_TARGET_DIR)/checkout 2>/dev/null)" = "$(CURDIR)" ] || { \
	  find src tests -name '*.rs' -exec touch {} +; echo "$(CURDIR)" > $(CARGO_TARGET_DIR)/checkout; }

.PHONY: deps
deps: ## install what building, testing and the demo need (Debian)
	@installer/deps

.PHONY: build
build: checkout ## build the release binary
	cargo build --release --locked --bin knarr
	@ls -l $(RELEASE)

.PHONY: run
run: build ## run a cluster in the foreground
	$(RELEASE) server

.PHONY: demo
demo: deps build ## build everything and show a real cluster with a real workload
	@KNARR=$(RELEASE) demo/run

.PHONY: clean-demo
clean-demo: ## stop the demo and remove all that it left
	@KNARR=$(RELEASE) demo/clean

# One selection of packages for all tests: another would build every dependency a second time with
# other features.
TESTS := cargo test --workspace --locked

.PHONY: test
test: deps checkout lint ## everything that CI runs
	$(TESTS)
	$(MAKE) conformance-kept

SCRIPTS := .ci/run demo/clean demo/images demo/run embedded/tables/generate.sh installer/clients \
	installer/deps installer/go installer/install.sh installer/uninstall \
	tests/compare/run tests/conformance/run tests/conformance/suite

.PHONY: lint
lint: checkout ## formatting, clippy and shellcheck, warnings are errors
	shellcheck --severity=warning --external-sources --source-path=SCRIPTDIR $(SCRIPTS)
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings

.PHONY: fmt
fmt: ## format the code
	cargo fmt --all

.PHONY: unit
unit: checkout ## the tests beside the code
	$(TESTS) --lib --bins

.PHONY: e2e
e2e: checkout ## scenarios on real clusters, each in a network namespace of its own
	$(TESTS) --test e2e

.PHONY: fuzz
fuzz: checkout ## hostile input for longer: FUZZ_SECONDS=60 for each idea, FUZZ_SEED to choose another way
	FUZZ_SECONDS=$${FUZZ_SECONDS:-60} $(TESTS) --test fuzz -- --nocapture

.PHONY: conformance
conformance: checkout ## upstream's own end-to-end suite against a cluster started for it
	$(TESTS) --no-run
	KNARR=$(DEBUG) tests/conformance/run

.PHONY: conformance-kept
conformance-kept: checkout ## the quick ones of upstream's specs that are known to pass
	$(TESTS) --no-run
	KNARR=$(DEBUG) tests/conformance/run --kept --procs 6

.PHONY: compare
compare: checkout ## ask another API server and Knarr the same: REFERENCE=kubeconfig ONLY=word
	cargo build --workspace --locked
	KNARR=$(DEBUG) tests/compare/run --only "$(ONLY)"

.PHONY: bench
bench: build ## measure what SPECIFICATION.md promises; ONLY=part,part BESIDE=kubeconfig REPORT=file
	KNARR=$(RELEASE) cargo run --profile bench --locked -p bench
