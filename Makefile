# What a user, a developer and CI call. Each target says what it needs; none needs anything installed by hand.

export CARGO_TARGET_DIR ?= $(HOME)/.cache/tapedeck/target
CARGO ?= cargo
export CARGO
# `make torture N=2000`: cycles of the kill test.
N ?= 2000

.PHONY: help demo build store test test-all check fmt clippy doc deny bench fuzz torture

help: ## This list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | column -ts "$$(printf '\t')"

demo: ## Record a simulated Kraken and watch it: no configuration, no network
	$(CARGO) build --release --bin tapedeck
	@scripts/demo

build: ## The program, optimised
	$(CARGO) build --release --bin tapedeck

store: ## The program beside it, for archive and SQL (takes a while: a whole query engine)
	$(CARGO) build --release -p tapedeck-store

test: ## All tests; recordings are found by $$TAPEDECK_FIXTURES, real servers are installed where that can be
	scripts/test

test-all: ## And those against InfluxDB 2 and Grafana, which are built once (about 13 minutes) and kept in the home cache
	scripts/servers install influxdb2 grafana
	scripts/test

check: fmt clippy doc deny test ## What CI runs

fmt:
	$(CARGO) fmt --all --check

clippy:
	$(CARGO) clippy --workspace --all-targets -- -D warnings

doc:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps

deny: ## Licences, bans and sources of the dependencies
	scripts/deny

bench: ## The benchmarks, each beside its peer (see docs/performance.md)
	scripts/bench

fuzz: ## Each fuzz target for RUNS executions (nightly toolchain; see docs/fuzzing.md)
	scripts/fuzz

torture: ## The kill test, N cycles, and a million crash states of the tape
	TAPEDECK_KILL_CYCLES=$(N) $(CARGO) test --test it kill -- --nocapture
	TAPEDECK_TORTURE_SCALE=10 $(CARGO) test -p tapedeck-tape --features model -- --nocapture
