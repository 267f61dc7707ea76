# `make` alone explains everything. The first target that needs Python sets it all up in .venv, from the lock.

UV := $(shell command -v uv 2>/dev/null || echo .tools/bin/uv)
PY := .venv/bin/python
ORDERS ?= 5000
STACK ?= embedded
STACK_ENV = $(if $(filter compose,$(STACK)),deploy/compose/stack.env,.run/stack.env)
FILE ?= deploy/demo/data/cdnow.csv
ON_KAFKA := tests/integration/core tests/contract/test_gateway_process.py tests/contract/test_gateway_copies.py tests/contract/test_redrive_process.py
MEMBERS := $(wildcard libs/*/pyproject.toml services/*/pyproject.toml deploy/*/pyproject.toml)

.DEFAULT_GOAL := help
.PHONY: help setup demo up status down logs token replay redrive reconcile compose-down fmt check test test-kafka rolling test-compose failpoints prove footprint check-readme env-example openapi fuzz bench bench-accept bench-read bench-overload soak proto clean

help: ## This list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.dev ## Install everything into .venv, as locked, with the tools for tests and checks

demo: .venv/.runtime ## Replay real orders and reconcile: ORDERS=5000|all JSON=FILE SHORTAGE=1 DECLINES=1 STACK=embedded|compose
	@$(PY) -m demo run --stack $(STACK) --orders $(ORDERS) $(if $(JSON),--json $(JSON)) $(if $(SHORTAGE),--shortage) $(if $(DECLINES),--declines)

up: .venv/.runtime ## Start the embedded stack in the background; addresses in .run/stack.env
	@$(PY) -m local_stack up --catalog deploy/demo/data/catalog.csv

status: .venv/.runtime ## What runs, with process ids, restarts and addresses
	@$(PY) -m local_stack status

down: .venv/.runtime ## Stop it
	@$(PY) -m local_stack down

logs: .venv/.runtime ## Follow the logs
	@$(PY) -m local_stack logs

token: .venv/.runtime ## A bearer token: CUSTOMER=00001
	@$(PY) -m local_stack token $(or $(CUSTOMER),$(error say which: make token CUSTOMER=00001))

replay: .venv/.runtime ## Send a CSV of orders to the running stack: FILE=… LIMIT=… SPEED=orders/s
	@$(PY) -m demo replay --file $(FILE) $(if $(LIMIT),--limit $(LIMIT)) $(if $(SPEED),--speed $(SPEED))

redrive: .venv/.runtime ## Dead letters: ARGS="list all", show, edit, replay; ARGS=--help says more
	@set -a; [ ! -f $(STACK_ENV) ] || . ./$(STACK_ENV); $(PY) -m workers.redrive $(or $(ARGS),--help)

reconcile: .venv/.runtime ## Compare input, log, Postgres, provider and stock of the running stack
	@$(PY) -m demo reconcile $(if $(JSON),--json $(JSON))

compose-down: ## Stop the compose stack and forget its data
	docker compose down --volumes --timeout 30
	rm -rf .run/compose/replay

fmt: .venv/.dev ## Format and sort imports
	@.venv/bin/ruff check --quiet --fix-only . ; .venv/bin/ruff format --quiet .

check: .venv/.dev ## Format, lint, types, import rules, Dockerfile, lock in date
	@.venv/bin/ruff format --check . && .venv/bin/ruff check . && .venv/bin/pyright && .venv/bin/lint-imports && .venv/bin/hadolint deploy/Dockerfile && $(UV) lock --check

test: .venv/.dev ## All tests on the embedded stack, with coverage; no Docker
	@mkdir -p .run/coverage && rm -f .run/coverage/data*
	@.venv/bin/coverage run -m pytest $(TESTS) && .venv/bin/coverage combine --quiet && .venv/bin/coverage report --fail-under 90

test-kafka: .venv/.dev ## What talks to a broker, on Apache Kafka in containers; needs Docker
	@.venv/bin/pytest --broker kafka $(or $(TESTS),$(ON_KAFKA) tests/kafka)

rolling: .venv/.dev ## Restart every process in turn at 300 requests/s; no client may see an error: RESTARTS=10
	@RESTARTS=$(or $(RESTARTS),10) .venv/bin/pytest -s tests/rolling

test-compose: .venv/.dev ## The compose stack under faults and slow clients, with Docker: ORDERS=5000|all KILLED="gateway …"
	@ORDERS=$(ORDERS) KILLED="$(KILLED)" .venv/bin/pytest $(or $(TESTS),tests/compose)

failpoints: .venv/.dev ## kill -9 at each failpoint (ONLY=order_writer.after_database_commit,…): nothing lost, nothing doubled
	@FAILPOINTS=$(or $(ONLY),all) .venv/bin/pytest tests/failure/failpoints

prove: .venv/.dev ## Break it on purpose, then account for every order: SABOTAGE=name|all SEED=… TIER=quick|full STACK=… ORDERS=… FAULTS=… ONLY=kill,cut:payments>provider OUT=… FAILING=1
	@$(if $(SABOTAGE),exec $(PY) -m tests.prove.sabotage $(SABOTAGE) $(if $(WITHOUT),--without);) \
		$(PY) -m tests.prove --stack $(STACK) $(if $(TIER),--tier $(TIER)) $(if $(SEED),--seed $(SEED)) $(if $(filter-out file,$(origin ORDERS)),--orders $(ORDERS)) \
		$(if $(FAULTS),--faults $(FAULTS)) $(if $(ONLY),--only-faults '$(ONLY)') $(if $(OUT),--out $(OUT)) $(if $(FAILING),--failing-seeds)

footprint: .venv/.dev ## What the compose stack takes, at rest and under ORDERS=5000, against deploy/compose/budget.toml
	@$(PY) deploy/footprint.py $(ORDERS)

check-readme: .venv/.dev ## Run every command of the README and compare what it shows
	@$(PY) -m pytest tests/readme --no-header -p no:cacheprovider

env-example: .venv/.dev ## Generate .env.example from the settings classes
	@$(PY) deploy/env_example.py > .env.example

openapi: .venv/.dev ## Generate docs/openapi.json from the gateway
	@$(PY) deploy/openapi.py > docs/openapi.json

fuzz: .venv/.dev ## Schemathesis over the running stack (make up): at least 5,000 generated calls
	@. .run/stack.env && .venv/bin/schemathesis run docs/openapi.json --url $$GATEWAY_URL \
		--header "Authorization: Bearer $$($(PY) -m local_stack token fuzz)" --max-examples $(or $(EXAMPLES),400) \
		--checks not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance

bench: bench-accept bench-read bench-overload ## All three benchmarks; the results go to bench/results

bench-accept: .venv/.runtime ## Orders accepted beside a textbook app, on a real Kafka (Docker): ROUNDS=3 ROUND_S=5
	@ROUNDS=$(or $(ROUNDS),3) ROUND_S=$(or $(ROUND_S),5) $(PY) -m bench.accept

bench-read: .venv/.runtime ## Latency of the cached read at 500 requests/s, on the embedded stack
	@$(PY) -m bench.read

bench-overload: .venv/.runtime ## 1.5 and 3 times what one gateway can do, on the embedded broker: OVERLOAD_S=60
	@OVERLOAD_S=$(or $(OVERLOAD_S),60) $(PY) -m bench.overload

soak: .venv/.runtime ## The embedded stack at half of its capacity, and whether anything grows: MINUTES=30
	@MINUTES=$(or $(MINUTES),30) $(PY) -m bench.soak

proto: .venv/.dev ## Generate the gRPC code from orders.proto
	@cd libs/common/src && ../../../$(PY) -m grpc_tools.protoc -I. --python_out=. --pyi_out=. --grpc_python_out=. common/contracts/orders.proto

clean: down ## Remove what make made: .run and .venv
	rm -rf .run .venv .tools

# What runs needs no test tools: the first `make demo` installs half as much. Compiled once, not in every process.
.venv/.runtime: pyproject.toml uv.lock $(MEMBERS) | $(filter .tools/%,$(UV))
	@$(UV) sync --locked --quiet --no-dev --inexact --compile-bytecode
	@touch $@

.venv/.dev: .venv/.runtime
	@$(UV) sync --locked --quiet
	@touch $@

.tools/bin/uv:
	@python3 -m venv .tools && .tools/bin/python -m pip install --quiet uv
