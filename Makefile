# rollcall: everything one does with it while working on it. `make` alone lists the targets.

MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

CARGO ?= cargo
export CARGO

# Flags for the server: make run ARGS="--listen 127.0.0.1:9000"
ARGS ?=
# For the chaos runs
CHAOS ?=
# and for the measurements
BENCH ?=
# and for schemathesis
FUZZ ?=

# A settings file, when there is one, for all that runs the server or meets its database.
ENV := scripts/with-env.sh

# What is there is not installed again, so that these stay quick and work without a network.
.PHONY: ready ready-to-test
ready:
	@$(ENV) scripts/install.sh --check || $(ENV) scripts/install.sh
ready-to-test:
	@scripts/install.sh --check --with-server || scripts/install.sh --with-server

##@ Run it
.PHONY: help
help: ## list the targets
	@awk 'BEGIN { FS = ":.*## " } \
		/^##@/ { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: install
install: ## install what is missing: a C compiler, PostgreSQL's server (unless DATABASE_URL is set), crates
	@$(ENV) scripts/install.sh
	$(CARGO) fetch --locked

.PHONY: run
run: ready ## run the registry on this machine; its data is kept (settings: .env.example)
	@echo "building and starting rollcall; Ctrl-C stops it"
	@exec $(ENV) $(CARGO) run --locked -- serve $(ARGS)

.PHONY: dev
dev: ready ## the same with debug logs; started anew at each change where cargo-watch is installed
	@if $(CARGO) watch --version >/dev/null 2>&1; then \
		ROLLCALL_LOG=$${ROLLCALL_LOG:-info,rollcall=debug} exec $(ENV) \
			$(CARGO) watch -w src -w migrations -w Cargo.toml -x 'run --locked -- serve $(ARGS)'; \
	else \
		echo "without cargo-watch (cargo install cargo-watch) it is not started anew at a change"; \
		ROLLCALL_LOG=$${ROLLCALL_LOG:-info,rollcall=debug} exec $(ENV) $(CARGO) run --locked -- serve $(ARGS); \
	fi

##@ Check it
.PHONY: format
format: ## format the code
	$(CARGO) fmt

.PHONY: lint
lint: ## all lints, as errors
	$(CARGO) clippy --locked --all-targets -- -D warnings

.PHONY: type-check
type-check: ## compile without making a program
	$(CARGO) check --locked --all-targets

.PHONY: check
check: ## the quick part of what the build server checks: format, lints, layers
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	$(CARGO) test --locked --test layering
	@echo "if a query or a migration changed: make sqlx, and commit .sqlx"

.PHONY: test
test: ready-to-test check ## all checks and all tests
	$(CARGO) test --locked --no-fail-fast

.PHONY: test-integration
test-integration: ready-to-test ## only the tests through HTTP and the database
	$(CARGO) test --locked --test it

.PHONY: chaos-short
chaos-short: ready-to-test ## the chaos run in about a minute
	$(CARGO) test --locked --test chaos -- $(CHAOS)

.PHONY: chaos
chaos: ready-to-test ## the long chaos run: replicas under hundreds of faults (CHAOS="--seed 7 --writes 100000")
	$(CARGO) test --locked --release --test chaos -- --long $(CHAOS)

.PHONY: chaos-seeded
chaos-seeded: ready-to-test ## put known bugs into the product, one by one, and see that the chaos run catches each
	$(CARGO) test --locked --test chaos -- --seeded $(CHAOS)

.PHONY: api-fuzz
api-fuzz: ready-to-test ## hold the API against its description: OpenAPI 3.1, 10,000 requests (FUZZ="--seed 7")
	@scripts/api-fuzz.sh $(FUZZ)

.PHONY: coverage
coverage: ready-to-test ## which lines the tests reach; fails below 80 %, or below 95 % of src/domain
	@scripts/coverage.sh

.PHONY: bench
bench: ready-to-test ## what it does beside what the machine could do: one table of ratios (BENCH="--only discovery")
	$(CARGO) bench --locked --bench registry -- $(BENCH)

.PHONY: bench-peers
bench-peers: ready-to-test ## the same beside other registries, as far as they are installed (apt-get install etcd-server)
	$(CARGO) bench --locked --bench registry -- --only peers $(BENCH)

.PHONY: audit
audit: ## licences, sources and known weaknesses of the dependencies
	@scripts/audit.sh

##@ Database
.PHONY: db-create
db-create: ## create the database that DATABASE_URL names
	@$(ENV) scripts/db.sh create

.PHONY: db-reset
db-reset: ## drop it with all that is in it, and create it anew (CONFIRM=yes)
	@CONFIRM='$(CONFIRM)' $(ENV) scripts/db.sh reset

.PHONY: sqlx
sqlx: ready-to-test ## after a change of a query or a migration: write .sqlx anew
	@mkdir -p target
	scripts/with-postgres.sh scripts/sqlx-prepare.sh

##@ Containers
.PHONY: env
env: ## write .env with random secrets for the containers; leaves an existing one alone
	@if [ -e .env ] || [ -h .env ]; then echo ".env is there already and was left alone" >&2; exit 1; fi
	@umask 077; set -eC; \
	secret=$$(od -An -v -tx1 -N32 /dev/urandom | tr -d ' \n'); \
	[ $${#secret} -eq 64 ] || { echo "no randomness to be had from /dev/urandom" >&2; exit 1; }; \
	printf '# The database of docker-compose.yml. Settings of rollcall (.env.example) may stand here too.\nPOSTGRES_PASSWORD=%s\n' "$$secret" >.env
	@echo "wrote .env with a random POSTGRES_PASSWORD"

.PHONY: docker-up
docker-up: ## start rollcall and PostgreSQL in containers
	docker compose up -d

.PHONY: docker-down
docker-down: ## stop them; their data is kept
	docker compose down
