# Everything a person or a CI runs. `make help` lists it. Each target installs what it needs first (Debian packages
# by apt, as root or by sudo) and does nothing twice: a second run only repeats the work itself.

SHELL := /bin/sh
.DEFAULT_GOAL := help
# The steps share the target folder and the machine; side by side they would only wait for each other.
.NOTPARALLEL:

# Debian keeps nginx and haproxy in folders that only root has in its PATH.
export PATH := $(PATH):/usr/local/sbin:/usr/sbin:/sbin
# The interpreter with `websockets` and `grpcio` that the tests drive as foreign clients.
export TERRACE_TEST_PYTHON := $(CURDIR)/target/venv/bin/python

CARGO ?= cargo
LOCKED := --locked
TERRACE := target/release/terrace

# Seconds that each fuzz target runs in `make fuzz`.
FUZZ_SECONDS ?= 60
# Changes that `make soak` makes under load; `make test` makes 50.
SOAK_CHANGES ?= 1000
# Cases that each property test tries in `make test-full`; in `make test` it is the 256 of proptest.
PROPERTY_CASES ?= 5000

# A heading, in colour where a person looks.
define step
@if [ -t 1 ] && [ -z "$$NO_COLOR" ]; then printf '\n\033[1;36m==> %s\033[0m\n' '$(1)'; else printf '\n==> %s\n' '$(1)'; fi
endef

.PHONY: help demo screenshots test test-full bench bench-quick bench-overload soak fuzz build clean \
        prepare prepare-demo fmt clippy tidy unit doc bench-check deny

help: ## This list
	@printf 'usage: make TARGET\n\n'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

# One after the other: together they would be built with the features of both, and a Terrace that was built by itself anew.
define build-demo
$(CARGO) build $(LOCKED) --release -p terrace
$(CARGO) build $(LOCKED) --release -p shop
endef

demo: prepare-demo ## Build, start the example shop and show it through a purchase, a scale-up, a reload, a kill and an outage
	$(call step,build the demo (release))
	$(build-demo)
	$(call step,demo)
	@scripts/demo.sh

screenshots: prepare ## Take the dashboard's pictures in docs/images anew, from the example shop (about 8 minutes)
	$(call step,build the demo (release))
	$(build-demo)
	$(call step,screenshots)
	@python3 scripts/screenshots.py

test: prepare fmt tidy clippy deny doc bench-check unit ## All checks and tests (under 25 minutes on two cold cores)
	$(call step,all checks and tests passed)

test-full: test ## What `make test` does, then the long runs: more property cases, the soak, the fuzzers
	$(call step,property tests with $(PROPERTY_CASES) cases each)
	PROPTEST_CASES=$(PROPERTY_CASES) scripts/run-tests.sh --workspace $(LOCKED)
	@$(MAKE) --no-print-directory soak
	@if $(CARGO) fuzz --version >/dev/null 2>&1; then $(MAKE) --no-print-directory fuzz; \
	 else echo 'note: the fuzzers were left out; `make fuzz` says what they need'; fi

soak: prepare ## 1,000 mixed changes under load (SOAK_CHANGES=n for another number)
	$(call step,soak: $(SOAK_CHANGES) changes under load)
	TERRACE_SOAK_CHANGES=$(SOAK_CHANGES) NEXTEST_PROFILE=soak \
	 scripts/run-tests.sh -p terrace $(LOCKED) changes_under_load

bench: prepare ## Measure against nginx and HAProxy, telemetry off and on, and a gateway's policies; figures go to docs/performance.md (about 30 minutes)
	$(call step,build (release))
	$(CARGO) build $(LOCKED) --release -p terrace
	$(call step,bench)
	python3 bench/proxy_cost.py --mine $(TERRACE) --write docs/performance.md
	python3 bench/telemetry_cost.py --mine $(TERRACE) --write docs/performance.md
	python3 bench/gateway_cost.py --mine $(TERRACE) --write docs/performance.md

bench-quick: prepare ## The same with few rounds: a look, not a proof; writes nothing that is kept
	$(call step,build (release))
	$(CARGO) build $(LOCKED) --release -p terrace
	$(call step,bench (quick))
	python3 bench/proxy_cost.py --mine $(TERRACE) --quick

bench-overload: prepare ## A part of a service falls ill at three times the load, against nginx and HAProxy; goes to docs/resilience.md (about 25 minutes)
	$(call step,build (release))
	$(CARGO) build $(LOCKED) --release -p terrace
	$(CARGO) build $(LOCKED) --release -p terrace-testkit --examples
	$(call step,bench: overload)
	python3 bench/overload.py --mine $(TERRACE) --write docs/resilience.md

fuzz: ## Run each fuzz target for FUZZ_SECONDS (60); needs cargo-fuzz and a nightly toolchain
	$(call step,fuzz)
	@scripts/fuzz.sh $(FUZZ_SECONDS)

build: ## The release binary, target/release/terrace
	$(CARGO) build $(LOCKED) --release -p terrace

clean: ## Remove all that was built
	$(CARGO) clean

# The steps of `make test`, each also a target of its own.

prepare:
	$(call step,install what the tests need)
	@scripts/prepare.sh test

prepare-demo:
	$(call step,install what the demo needs)
	@scripts/prepare.sh demo

fmt: ## Check the formatting
	$(call step,formatting)
	$(CARGO) fmt --all --check

tidy: ## Check the house: crate graph, map, module headers, function lengths
	$(call step,tidy)
	$(CARGO) run $(LOCKED) --quiet -p xtask -- tidy

clippy: ## Lint, with warnings as errors
	$(call step,lints)
	$(CARGO) clippy $(LOCKED) --workspace --all-targets -- -D warnings

unit: ## Unit, property and integration tests
	$(call step,tests)
	scripts/run-tests.sh --workspace $(LOCKED)

doc: ## Tests in the documentation
	$(call step,documentation tests)
	$(CARGO) test $(LOCKED) --workspace --doc --quiet

bench-check: ## Tests of the bench's own arithmetic
	$(call step,tests of the bench)
	python3 -m unittest discover -q -s bench

deny: ## Licences, sources and known defects of dependencies, where cargo-deny is installed
	$(call step,dependencies)
	@if $(CARGO) deny --version >/dev/null 2>&1; then $(CARGO) deny --log-level warn check bans licenses sources; \
	 else echo 'note: cargo-deny is not installed, so deny.toml was not checked (cargo install --locked cargo-deny)'; fi
