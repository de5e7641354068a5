# One build, one profile: the demo, the tests, the lints and the benchmarks share target/release.
CARGO ?= cargo
PREFIX ?= /usr/local
BIN := target/release
SECONDS ?= 60
SOAK_SECONDS ?= 600
SEED ?= 0

.DEFAULT_GOAL := help
.PHONY: help build demo test sim soak lint bench deps install packages deb dockerup dockerdown dockertest

help: ## what there is
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  make %-11s %s\n", $$1, $$2 }'

build: ## the two programs, in target/release
	$(CARGO) build --release --locked --bins

demo: build ## a coordinator, three workers, real records, a chain, a proof, a SQL copy; ARGS=--keep leaves it running
	$(BIN)/block-chain-worker demo $(ARGS)

deps: ## what the tests need beyond Rust: PostgreSQL, a browser, strace, Python
	@scripts/install-test-deps

test: deps lint build ## format, lints, every test, the demo and others' clients from outside, the documentation
	$(CARGO) test --release --locked --workspace
	$(BIN)/block-chain-worker demo --records 500
	scripts/check-clients
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --release --locked --workspace --no-deps

sim: build ## the network under simulated faults, seed after seed, for SECONDS=60; SEED=0 is the first
	$(BIN)/block-chain-sim --seconds $(SECONDS) --seed $(SEED)

soak: build ## the real programs under load and random faults for SOAK_SECONDS=600, with a table at the end
	SOAK_SECONDS=$(SOAK_SECONDS) $(CARGO) test --release --locked --workspace --test network_faults -- --nocapture --exact random_faults_for_a_while_lose_nothing

lint: ## format, clippy with warnings denied, licences and sources
	$(CARGO) fmt --all -- --check
	$(CARGO) clippy --release --locked --workspace --all-targets -- -D warnings
	@scripts/check-dependencies

bench: build ## the figures of docs/BENCHMARKS.md
	$(CARGO) bench --locked --workspace
	scripts/bench-backups

install: build packages ## both programs, their manual and completions into PREFIX (/usr/local)
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/share/man/man1 $(DESTDIR)$(PREFIX)/share/bash-completion/completions \
	  $(DESTDIR)$(PREFIX)/share/zsh/site-functions $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d
	install -m 755 $(BIN)/block-chain-server $(BIN)/block-chain-worker $(DESTDIR)$(PREFIX)/bin
	install -m 644 target/packages/man/*.1 $(DESTDIR)$(PREFIX)/share/man/man1
	for program in block-chain-server block-chain-worker; do \
	  install -m 644 target/packages/$$program.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/$$program; \
	  install -m 644 target/packages/$$program.zsh $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_$$program; \
	  install -m 644 target/packages/$$program.fish $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/$$program.fish; \
	done

packages: build ## manual pages and completions, in target/packages
	mkdir -p target/packages/man
	for program in block-chain-server block-chain-worker; do \
	  $(BIN)/$$program man target/packages/man; \
	  for shell in bash zsh fish; do $(BIN)/$$program completions $$shell > target/packages/$$program.$$shell || exit 1; done; \
	done

deb: packages ## Debian packages of both programs, in target/debian (needs cargo-deb)
	for package in block_chain_server block_chain_worker; do $(CARGO) deb --no-build --no-strip -p $$package || exit 1; done

dockerup: ## the coordinator, PostgreSQL and three workers in containers
	@scripts/compose up --build --detach

dockerdown: ## stop them; the volumes stay
	@scripts/compose down

dockertest: ## the containers from outside: three workers agree, PostgreSQL has it all, restarts lose nothing
	@scripts/check-compose
