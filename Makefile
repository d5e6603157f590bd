# autocertd. The two commands: `make demo` and `make test`. Both install what they need, say what they do, and may be run
# again at any time.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

.PHONY: help
help: ## Show this help
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

.PHONY: demo
demo: ## Obtain and renew a real certificate from a local ACME server (KEEP=1 stays up)
	@tools/require-toolchain
	@tools/install-pebble
	cargo build --bin autocertd --example demo
	cargo run --quiet --example demo -- $(if $(KEEP),--keep)

.PHONY: test
test: tools fmt lint unit docs deny ## Run every check and every test

.PHONY: tools
tools: ## Install what the tests need
	@tools/require-toolchain
	@tools/install-pebble
	@tools/install-postgres
	@tools/install-bind
	@tools/install-strace
	@tools/install-python-sdk
	@tools/install-cargo-deny
	@cargo fetch --quiet --locked

.PHONY: fmt
fmt: ## Check the formatting
	cargo fmt --all --check

.PHONY: lint
lint: ## Run clippy with warnings as errors
	cargo clippy --workspace --all-targets --locked -- -D warnings
	cargo clippy --test dist --locked -- -D warnings

.PHONY: unit
unit: ## Run all tests: unit, store, wire, end to end, SDK
	cargo --config tools/watched.toml test --workspace --locked
	@echo "Killed before and after every request of an issuance, and resumed:" && cat target/tmp/kill-report.txt

.PHONY: soak
soak: tools ## Run all tests ten times beside busy loops (ROUNDS=3: so many times); no check of CI
	@tools/soak $(ROUNDS)

.PHONY: docs
docs: ## Build the documentation of the code with warnings as errors
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked

.PHONY: deny
deny: ## Check licences, bans and sources, without a network
	PATH="$(CURDIR)/target/tools/bin:$$PATH" cargo-deny --offline check licenses bans sources

.PHONY: bench
bench: ## Measure a release binary: start-up, idle memory, size
	tools/measure

.PHONY: release
release: ## Build the release binary
	cargo build --release --locked --bin autocertd

.PHONY: static
static: ## Build the static release binary of package and image
	@tools/require-toolchain
	@tools/build-static

.PHONY: deb
deb: static ## Build the Debian package
	@tools/install-cargo-deb
	@tools/build-deb

.PHONY: dist-test
dist-test: ## Test package, units and image, made from one static binary
	@tools/require-toolchain
	@tools/install-pebble
	@tools/install-strace
	@tools/install-dist
	@tools/dist-test
