# The verbs of the project. Each one sets up what it needs first; `make help` lists them.

VENV   := .venv/bin
PYTEST := $(VENV)/python -m pytest
export PATH := $(CURDIR)/.venv/bin:$(PATH):$(HOME)/.cargo/bin

.DEFAULT_GOAL := help
.PHONY: help setup build guests test conformance reference fuzz lint format docs bench demo clean

help: ## list these verbs
	@sed -nE 's/^([a-z]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

setup: ## install what is needed: system packages, Rust, Python packages in .venv
	@scripts/setup.sh

build: setup ## build the core as an extension module and install gdbvmx into .venv
	@$(VENV)/maturin develop --release --quiet >/dev/null

guests: setup ## build the demonstration hypervisors from source
	@$(MAKE) --no-print-directory -C guests

test: build guests ## run all tests: the core's, then the whole
	cargo test --quiet --manifest-path core/Cargo.toml
	$(PYTEST)

conformance: build guests ## hold the core against the host processor and Bochs, and run kvm-unit-tests (KUT=DIR)
	GDBVMX_ORACLE_CASES=1000000 cargo test --quiet --release --manifest-path core/Cargo.toml --test host -- --nocapture
	$(VENV)/python tests/conformance/differential.py --count 100000
	$(VENV)/python tests/oracle/privileged.py --cases 1000000
	$(VENV)/python tests/oracle/privileged.py --cases 200000 --family enforcement
	$(if $(KUT),$(VENV)/python scripts/kvm_unit_tests.py $(KUT)/x86,@echo "kvm-unit-tests: not run; KUT=DIR names a built tree")

reference: build guests ## hold the machine against Bochs and QEMU with nested VT: tens of minutes
	GDBVMX_ORACLE=all $(PYTEST) tests/reference tests/oracle

fuzz: build guests ## damage running guests at random for ten minutes, and see that the machine stands
	$(VENV)/python tests/fuzz/guests.py --seconds 600

lint: build ## formatting, lints and types of Rust and Python
	cargo fmt --manifest-path core/Cargo.toml --check
	cargo clippy --quiet --manifest-path core/Cargo.toml --all-targets -- -D warnings
	cargo clippy --quiet --manifest-path core/Cargo.toml --features python -- -D warnings
	$(VENV)/ruff check .
	$(VENV)/ruff format --check .
	$(VENV)/mypy

format: setup ## format all source
	cargo fmt --manifest-path core/Cargo.toml
	$(VENV)/ruff check --fix --quiet .
	$(VENV)/ruff format --quiet .

docs: setup ## write the documents that are made of the core's tables
	GDBVMX_WRITE_DOCS=1 cargo test --quiet --manifest-path core/Cargo.toml --lib the_document_is_current

bench: build guests ## measure speed beside Debian's Bochs, start and memory; writes docs/performance.md
	$(VENV)/python scripts/bench.py --write

demo: build guests ## a debugging session that runs by itself
	$(VENV)/python scripts/demo.py

clean: ## remove what was built; .venv stays
	$(MAKE) --no-print-directory -C guests clean
	rm -rf core/target build gdbvmx/*.so .mypy_cache .pytest_cache .ruff_cache
