# Everything starts here. `make` alone explains itself.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.requirements-installed
export VIRTUAL_ENV := $(CURDIR)/$(VENV)
export PATH := $(CURDIR)/$(BIN):$(PATH)
MM_DATA ?= $(CURDIR)/data
export MM_DATA
export DAGSTER_HOME ?= $(MM_DATA)/dagster
export HF_HUB_DISABLE_TELEMETRY := 1
# Compiled modules are kept: without them each of the many processes of a run compiles all that it
# imports (AutoGluon: 15 s instead of 6).
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-ui dev test test-all test-fast lint lint-deploy sbom audit types format profile checks quality bench growth kills kills-table laws image image-pin lock clean

help: ## Show what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

setup: $(STAMP) ## Make .venv with everything in it (about 2 minutes, 8 GB)

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("mm-assets needs Python 3.11, 3.12 or 3.13; set PYTHON=/path/to/one" if not (3, 11) <= sys.version_info[:2] <= (3, 13) else 0)'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -c 'import uv' 2>/dev/null || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@echo "Installing into $(VENV); the first time this takes about two minutes …"
	@UV_LINK_MODE=copy $(BIN)/python -m uv pip sync --quiet requirements.lock
	@$(BIN)/python -m uv pip install --quiet --no-deps --editable . uv
	@touch $@

demo: setup ## A local S3 server, sensors, training, predictions; DATASET=pets, vehicles, cancer, blur or houses
	@mm demo --dataset $(or $(DATASET),pets)

dev: setup ## Dagster's UI and daemon on http://127.0.0.1:3000
	@mm dev

demo-ui: setup ## Dagster's UI on what `make demo` left behind; DATASET as there
	@mm dev --demo $(or $(DATASET),pets)

test: setup ## The tests, on real parts, side by side; or some: T=tests/engines, T="-k archive"
	@python -m pytest $(if $(T),$(T),-n auto)

test-all: setup ## Also those of other engines, stores and formats that take long
	@python -m pytest -n auto tests

FAST := not autogluon and not server and not slow
test-fast: setup ## What needs no AutoGluon, no server and no daemon: two thirds of the tests, a minute
	@python -m pytest -n logical -m "$(FAST)" $(T)

lint: setup ## ruff, mypy, the order of the rooms, the Dockerfile and the other files of deploy/
	@ruff check .
	@ruff format --check .
	@mypy
	@lint-imports
	@cfn-lint deploy/aws/*.yaml
	@hadolint --config .hadolint.yaml Dockerfile
	@docker-compose --file deploy/compose/compose.yaml --profile serve config --quiet

lint-deploy: setup ## checkov over deploy/, in an environment of its own: its pins are not ours
	@python -m uv tool run --quiet --python 3.11 checkov==3.3.30 --config-file deploy/checkov.yaml

sbom: setup ## What the image is made of, as CycloneDX: dist/sbom.json
	@mkdir -p dist
	@python -W ignore -m uv tool run --quiet --python 3.11 --from cyclonedx-bom==7.5.0 cyclonedx-py requirements deploy/image/requirements.lock --pyproject pyproject.toml --output-reproducible --of JSON --output-file dist/sbom.json 2>/dev/null
	@python -c 'import json; found = json.load(open("dist/sbom.json"))["components"]; print(f"dist/sbom.json: {len(found)} packages"); assert len(found) > 100'

audit: setup ## Known vulnerabilities of what the image is made of; asks the index and needs the Internet
	@python -m uv tool run --quiet --python 3.11 pip-audit==2.10.1 --strict --no-deps --disable-pip --progress-spinner off --requirement deploy/image/requirements.lock

types: setup ## mypy alone
	@mypy

format: setup ## Put the code into shape, and mend what ruff can mend
	@ruff check --fix .
	@ruff format .

profile: setup ## Where the time goes: T=tests/engines/test_rules.py, or C="mm doctor"
	@$(if $(T)$(C),,echo 'Say of what: make profile T=tests/lake, or make profile C="mm doctor"'; exit 2)
	@pyinstrument $(if $(T),-m pytest $(T),--from-path $(C))

checks: setup ## Materialise a sample dataset and run all asset checks
	@mm checks --sample

quality: setup ## Every engine beside what a person writes in minutes, into docs/results.md (hours)
	@python -W ignore -m benchmarks.quality --write $(Q)

bench: setup ## Our speed beside what people run: ONLY=photos,merge RUNS=5 ALL=1 WRITE=1 (docs/performance.md)
	@python -W ignore -m benchmarks.speed $(if $(ONLY),--only $(ONLY)) $(if $(RUNS),--runs $(RUNS)) $(if $(ALL),--all) $(if $(WRITE),--write)

growth: setup ## What one more small upload costs as there are many: UPLOADS=1000 STEP=100 (docs/scale.md)
	@python -W ignore -m benchmarks.growth $(if $(UPLOADS),--uploads $(UPLOADS)) $(if $(STEP),--step $(STEP))

KILLS := $(MM_DATA)/kills
kills: setup ## N kills (1000) on a folder and on S3 + DynamoDB, in the background; again: go on
	@mkdir -p $(KILLS)
	@nohup nice python -W ignore -m tests.kill.many --kills $(or $(N),1000) --log $(KILLS)/log.jsonl >>$(KILLS)/said 2>&1 </dev/null &
	@echo 'In the background. What it says: $(KILLS)/said; what was found so far: make kills-table'

kills-table: setup ## What `make kills` has found so far: lost, duplicated, different
	@python -m tests.kill.many --show --log $(KILLS)/log.jsonl

laws: setup ## The laws' state machine, 10,000 steps (about half an hour of one core; nightly)
	@MM_NIGHTLY=1 python -m pytest tests/laws --timeout=0 -n 0

image-pin: ## Write down which base the image is built on: the digest of its tag today
	@docker buildx imagetools inspect python:3.11-slim-bookworm --format '{{.Manifest.Digest}}' >deploy/image/python.digest

image: ## Build the image: VARIANT=cpu with TORCH_INDEX=…, or VARIANT=gpu
	@test -s deploy/image/python.digest || { echo 'No base is pinned: make image-pin'; exit 2; }
	@docker build --target $(or $(VARIANT),cpu) --tag mm-assets:$(or $(VARIANT),cpu) --build-arg PYTHON_DIGEST=$$(cat deploy/image/python.digest) --build-arg TORCH_INDEX .

LOCK := uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-emit-index-url --no-emit-find-links --no-header
lock: $(BIN)/python ## Resolve the lock files again (after a change of pyproject.toml)
	@python -m $(LOCK) --group dev --all-extras --output-file requirements.lock pyproject.toml
	@python -m $(LOCK) --constraint requirements.lock $(addprefix --extra ,gradient-boosting kubernetes postgres serve tracking tuning) --output-file deploy/image/requirements.lock pyproject.toml
	@printf 'hatchling\nuv\n' | python -m $(LOCK) --constraint requirements.lock --output-file deploy/image/tools.lock -

clean: ## Remove local state (data/lake, the table, Dagster's history), not the venv
	@rm -rf data/lake data/dagster data/demo data/demo-* data/cache data/monitoring data/checks data/predictions.duckdb*
