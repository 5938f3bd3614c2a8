# fraudlab: every target sets up what it needs; `make` alone explains them.
# "Same as CI": test, lint. Everything else is for people.
PYTHON ?= python3
CONFIG ?= configs/demo.toml
DATA ?= $(firstword $(wildcard data/raw/handbook.parquet ../shared/data/handbook.parquet))
BIN := .venv/bin
# Bytecode makes every later start two to three times faster; passive waiting keeps two threads from fighting.
export PYTHONDONTWRITEBYTECODE :=
export OMP_WAIT_POLICY := PASSIVE
export MLFLOW_DISABLE_TELEMETRY := true

# The first line of a target that cannot do without the published transactions.
needs_data = @test -n "$(DATA)" || { echo "make $@ needs the published transactions: make $@ DATA=path/to/handbook.parquet (docs/datasets.md says where to get them)" >&2; exit 2; }

.DEFAULT_GOAL := help
.PHONY: help setup extras run test test-long lint handbook ablation bench-features bench-privacy bench-train bench-imbalance bench-anomaly bench-explain bench-retrain bench-faults bench-monitoring bench-patterns bench-sharing bench-serve bench-blindside backtest review awareness lab ui lock clean

help: ## explain every target (the default)
	@echo "fraudlab: from raw transactions to a registered, explained, reported fraud model"
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "First time? 'make run' sets everything up and does the whole job on demo data."

setup: .venv/.ready ## create .venv from the hashed lock (uv when present, else venv + pip)

.venv/.ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "fraudlab needs Python 3.11 or newer; found $$($(PYTHON) --version). Name another one: make PYTHON=python3.12 ..." >&2; exit 2; }
	@echo "Setting up .venv from requirements.lock (about 200 packages; once) ..."
	@if command -v uv >/dev/null 2>&1; then \
	  uv venv --quiet --allow-existing --python $(PYTHON) .venv && \
	  VIRTUAL_ENV=$(CURDIR)/.venv uv pip install --quiet --require-hashes --compile-bytecode -r requirements.lock && \
	  VIRTUAL_ENV=$(CURDIR)/.venv uv pip install --quiet --no-deps --no-build-isolation -e . ; \
	else \
	  $(PYTHON) -m venv .venv && \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock && \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e . ; \
	fi
	@touch $@

extras: setup ## add PDF reports, Spark, MLflow sign-in, LightGBM, CatBoost, clients of PostgreSQL, S3 and Kafka (0.6 GB; PDF needs the system's pango too)
	@if command -v uv >/dev/null 2>&1; then \
	  VIRTUAL_ENV=$(CURDIR)/.venv uv pip install --quiet --require-hashes --compile-bytecode -r requirements-extras.lock; \
	else $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-extras.lock; fi

run: setup ## simulate, ingest, explore, train, evaluate, explain, register, report: the demo, end to end
	@$(BIN)/fraudlab retrain --config $(CONFIG)

test: setup ## run the tests (the same as CI; a few minutes)
	@$(BIN)/lint-imports --no-cache --no-logo
	@$(BIN)/ruff check --quiet . && $(BIN)/ruff format --quiet --check .
	@$(BIN)/python -m pytest -m "not slow" -n auto --maxprocesses 3 --dist loadfile

test-long: setup ## run the slow, full-size tests too
	@$(BIN)/python -m pytest

lint: setup ## check floors, style and format; fix what can be fixed
	@$(BIN)/ruff check --fix . && $(BIN)/ruff format . && $(BIN)/lint-imports --no-cache --no-logo

handbook: setup ## the published transactions: our figures beside the book's (DATA=path/to/handbook.parquet)
	$(needs_data)
	@$(BIN)/python benchmarks/handbook.py --data "$(DATA)" && $(BIN)/python benchmarks/handbook_page.py

ablation: setup ## which step of the recipe moved the published figures by how much (DATA=path/to/handbook.parquet)
	$(needs_data)
	@$(BIN)/python benchmarks/ablation.py --data "$(DATA)" && $(BIN)/python benchmarks/handbook_page.py

bench-features: setup ## the feature engine beside Polars, DuckDB and pandas, some minutes (DATA=path/to/handbook.parquet)
	@$(BIN)/python benchmarks/features.py $(if $(DATA),--data "$(DATA)")

bench-train: setup ## the bare XGBoost fit beside ours: time, memory, one matrix for many trials (DATA=path/to/handbook.parquet)
	$(needs_data)
	@$(BIN)/python benchmarks/train.py --data "$(DATA)"

bench-imbalance: setup ## what weights, label corrections and encodings bring, an hour (DATA=path/to/handbook.parquet)
	$(needs_data)
	@$(BIN)/python benchmarks/imbalance.py --data "$(DATA)"

bench-anomaly: setup ## what anomaly scores find without labels, and add (DATA=path/to/handbook.parquet)
	$(needs_data)
	@$(BIN)/python benchmarks/anomaly.py --data "$(DATA)"

bench-explain: setup ## how fast alerts are explained, beside shap's own explainer, a minute
	@$(BIN)/python benchmarks/explain.py

bench-retrain: setup ## what the orchestration of a retraining costs over the bare calls (DATA=...: the published transactions too)
	@$(BIN)/python benchmarks/retrain.py $(if $(DATA),--data "$(DATA)")

bench-faults: setup ## break a retraining at 200 places and kill it 20 times: what is left, does it go on? (three hours)
	@$(BIN)/python benchmarks/faults.py --wanted 180 --kills 20

bench-monitoring: setup ## how often monitoring calls without cause, how fast it finds planted changes, half an hour
	@$(BIN)/python benchmarks/monitoring.py

bench-patterns: setup ## how soon patterns that nobody reported are found, how often without cause, ten minutes
	@$(BIN)/python benchmarks/patterns.py

bench-sharing: setup ## what two simulated banks gain by sharing indicators, a quarter of an hour
	@$(BIN)/python benchmarks/sharing.py

bench-serve: setup ## how fast the champion scores files, single payments and requests, some minutes
	@$(BIN)/python benchmarks/serve.py

bench-blindside: setup ## what a model misses that learns from reviewed payments alone, and what random checks tell, half an hour
	@$(BIN)/python benchmarks/blindside.py

backtest: setup ## a simulated year: retrain weekly, monthly, never, weekly without the gate, in two worlds (half an hour)
	@$(BIN)/python benchmarks/backtest.py

review: setup ## the reports in a real browser: no request leaves, no accessibility violation (make extras; needs Chromium)
	@$(BIN)/python benchmarks/review.py

awareness: setup ## docs/awareness anew: retrain on a larger invented bank, then write the pages (some ten minutes)
	@FRAUDLAB_HOME=$(CURDIR)/build/awareness $(BIN)/fraudlab retrain --config configs/demo.toml \
	  --set dataset.simulate.customers=6000 --set dataset.simulate.merchants=1900 \
	  --set decision.alerts_per_day=12 --set decision.limit_per_day=2 --set decision.step_up_per_day=48
	@FRAUDLAB_HOME=$(CURDIR)/build/awareness $(BIN)/fraudlab awareness --out docs/awareness

bench-privacy: setup ## what protection costs: ingest, load, pseudonyms, encryption, audit log, some minutes
	@$(BIN)/python benchmarks/privacy.py

lab: setup ## open JupyterLab on the notebooks
	@$(BIN)/fraudlab lab

ui: setup ## open MLflow on this project's runs and models
	@$(BIN)/fraudlab ui

lock: ## resolve the dependencies anew into requirements*.lock (needs uv)
	uv pip compile pyproject.toml --extra lab --extra dev --universal --python-version 3.11 --fork-strategy fewest \
	  --generate-hashes --no-annotate --no-header --quiet -o requirements.lock
	uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 --fork-strategy fewest -c requirements.lock \
	  --generate-hashes --no-annotate --no-header --quiet -o requirements-extras.lock

clean: ## remove .venv and caches; data, keys, runs and models stay
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
