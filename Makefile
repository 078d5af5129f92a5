# What one does with this repository; `make` alone lists it.

.DEFAULT_GOAL := help
.PHONY: help setup loom miri instructions test nightly chaos fuzz licences bench deb msrv demo pictures

# Modules of tests/it that run as suites of their own, each within four minutes.
# They wait more than they work, so that more run side by side than there are cores.
SLOW = deploy:: differential:: faults:: notices:: page:: redis::

# How long each fuzz target runs in `make nightly`.
FUZZ_SECS ?= 300

# Rows of docs/reliability.md that `make chaos` plays; all of them if none is named.
ROWS ?=

help: ## lists these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## installs what the tests need: Graphite, Redis, and clients into tests/.cache
	@tests/setup

loom: ## tries every interleaving of the hand-over's two threads
	cargo test --release --lib --manifest-path tests/loom/Cargo.toml --target-dir target/loom

# Needs a nightly toolchain with Miri, which no stable one has; without it this says so and is no failure.
miri: ## runs the tests of tables and hand-over in an interpreter that notices undefined behaviour
	@if ! cargo +nightly miri --version >/dev/null 2>&1; then \
		echo "miri: left out, since there is no nightly toolchain with Miri"; exit 0; \
	fi; \
	MIRIFLAGS=-Zmiri-disable-isolation cargo +nightly miri test --lib --target-dir target/miri -- aggregate:: metric::

# Needs cargo-deny; without it this says so and is no failure.
licences: ## checks licences, bans and sources of all dependencies (deny.toml)
	@if ! cargo deny --version >/dev/null 2>&1; then \
		echo "licences: left out, since cargo-deny is not installed"; exit 0; \
	fi; \
	cargo deny check licenses bans sources

instructions: setup ## fails if a line takes more instructions than the record allows
	cargo bench --bench instructions

test: setup ## formatting, lints and every test, against real servers and clients
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	cargo test --lib --bins --benches --test allocation --test chaos
	@tests/suite $(SLOW:%=--skip %)
	@for suite in $(SLOW:redis::=); do tests/suite "$$suite" --skip redis:: --test-threads 6 || exit 1; done
	@tests/suite redis:: --test-threads 6
	@$(MAKE) --no-print-directory loom
	@$(MAKE) --no-print-directory instructions

chaos: setup ## plays the faults of docs/reliability.md, all in half an hour, or ROWS="1 5"
	cargo test --release --test chaos -- run $(ROWS)

# The number is how many random configurations are compared with the original.
nightly: setup ## the long versions of the tests, optimised, and the fuzz targets
	TALLYD_TEST_LONG=60 cargo test --release
	@$(MAKE) --no-print-directory fuzz
	@$(MAKE) --no-print-directory miri
	@$(MAKE) --no-print-directory licences
	CHAOS_FULL=1 $(MAKE) --no-print-directory chaos

# Needs cargo-fuzz; without it this says so and is no failure. Sanitizers are for nightly toolchains: where there is none,
# the stable one is told to take them (RUSTC_BOOTSTRAP=1). A corpus grows beside the seeds and is not kept in the repository.
fuzz: ## runs each fuzz target for FUZZ_SECS seconds
	@if ! cargo fuzz --version >/dev/null 2>&1; then \
		echo "fuzz: left out, since cargo-fuzz is not installed (cargo install cargo-fuzz)"; exit 0; \
	fi; \
	if cargo +nightly --version >/dev/null 2>&1; then cargo="cargo +nightly"; else \
		cargo=cargo; export RUSTC_BOOTSTRAP=1; \
		echo "fuzz: with the stable toolchain and RUSTC_BOOTSTRAP=1, since there is no nightly one"; \
	fi; \
	for target in $$($$cargo fuzz list --fuzz-dir tests/fuzz); do \
		echo "fuzz: $$target for $(FUZZ_SECS) s"; \
		tests/fuzz/seed "$$target" || exit 1; \
		$$cargo fuzz run --fuzz-dir tests/fuzz "$$target" -- -max_total_time=$(FUZZ_SECS) || exit 1; \
	done

bench: ## the benches, optimised; what they printed once is in benches/record
	cargo bench --no-fail-fast --bench sum --bench encoding --bench ingest --bench udp --bench journal --bench store --bench redis --bench sketch --bench unique --bench threads --bench tick --bench memory --bench live --bench parts

deb: ## packs tallyd for Debian into target/debian (needs cargo-deb)
	@deploy/debian/build release

# Says so and is no failure where that toolchain is not installed.
msrv: ## checks that the oldest Rust which Cargo.toml names still builds it
	@version=$$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml); \
	if ! cargo "+$$version" --version >/dev/null 2>&1; then \
		echo "msrv: left out, since Rust $$version is not installed"; exit 0; \
	fi; \
	cargo "+$$version" check --locked --all-targets --target-dir target/msrv

pictures: setup ## takes the pictures of the page in docs/pictures: of the demo, in a real browser
	TALLYD_PAGE_IMAGES=1 cargo test --test it page::demo

demo: ## starts tallyd with believable traffic and prints where to look
	cargo run --release -- demo
