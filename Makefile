.DEFAULT_GOAL := help
.PHONY: help setup demo stream-demo live prism tools test check lint bench bench-insight lock
.DELETE_ON_ERROR:

# The first of these that can make a virtual environment. 3.14 is left out: datasketches has no wheel for it.
PYTHON ?= $(firstword $(foreach p,python3 python3.11 python3.12 python3.13,$(if $(shell $(p) -c \
	'import ensurepip, sys; print((3, 11) <= sys.version_info < (3, 14) or "")' 2>/dev/null),$(p))))

# The stamp's name holds a checksum, so that the content of the lock decides and not its time.
STAMP := .venv/installed-$(shell cat requirements.lock setup.py | cksum | cut -d' ' -f1)
BIN := .venv/bin
EMULATOR_LOCK := tests/servers/bqemulator/requirements.lock
EMULATOR := .tools/bqemulator/installed-$(shell cksum < $(EMULATOR_LOCK) | cut -d' ' -f1)
CHECKOV_LOCK := tests/checkov/requirements.lock
CHECKOV := .tools/checkov/installed-$(shell cksum < $(CHECKOV_LOCK) | cut -d' ' -f1)
KINESIS_LOCK := tests/servers/kinesis_local/package-lock.json
KINESIS := .tools/kinesis-local/installed-$(shell cksum < $(KINESIS_LOCK) | cut -d' ' -f1)
BEAM := $(shell sed -n 's/^apache-beam==\([0-9.]*\).*/\1/p' requirements.lock)
KAFKA := .tools/kafka/installed-$(shell cat tests/servers/apache_kafka/SHA256SUMS | cksum | cut -d' ' -f1)
PRISM := .tools/prism-local-$(BEAM)-$(shell cat templates/prism/* | cksum | cut -d' ' -f1)
SOURCES := pipelines transforms tests benchmarks setup.py
# Where the environment turns byte code off, each process that a test starts compiles all that it imports: 5 of 8 s.
export PYTHONDONTWRITEBYTECODE :=

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-13s  %s\n", $$1, $$2}' Makefile

setup: $(STAMP)  ## make .venv from requirements.lock, with the `audience` command in it

demo: $(STAMP)  ## real and simulated events through the graph, to a warehouse and a summary (minutes)
	$(BIN)/audience demo

stream-demo: $(STAMP) $(PRISM) $(if $(INTO),$(EMULATOR))  ## simulated events through the graph as they happen (needs Java, Go; INTO=bigquery: its emulator)
	$(if $(filter-out bigquery,$(INTO)),$(error INTO: got $(INTO); allowed: bigquery, or leave it out))
	$(if $(INTO),$(BIN)/python -m tests.servers.bigquery) $(BIN)/audience demo --stream $(if $(INTO),--dataset demo-project.audience)

live: $(STAMP) $(PRISM)  ## a page that moves: simulated events over HTTP, through collector and stream (needs Go)
	$(BIN)/audience live --collect live/collected --warehouse live/warehouse --simulate $(or $(RATE),100)

prism: $(PRISM)  ## Beam's runner for streams on this machine into .tools; needs Go

tools: $(EMULATOR) $(CHECKOV) $(KINESIS) $(PRISM) $(KAFKA)  ## emulators of BigQuery, Cloud Storage and Kinesis, Kafka, Beam's runner Prism and checkov into .tools, for tests and the demo

test: $(STAMP)  ## run all tests, three files at a time; ARGS=tests/transforms/test_parse.py: those alone, in one process
	$(BIN)/python -m pytest $(or $(ARGS),--numprocesses 3 --dist loadfile --no-loadscope-reorder --durations 20)

lint: $(STAMP)  ## ruff, mypy, the build file against its schema, those of images by hadolint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/check-jsonschema --builtin-schema vendor.cloudbuild cloudbuild.yaml
	$(BIN)/hadolint templates/flex/Dockerfile templates/collector/Dockerfile

check: lint test  ## what CI runs: lint, then test

bench: $(STAMP)  ## this graph, a per-event graph and DuckDB, side by side
	$(BIN)/python benchmarks/run.py

bench-insight: $(STAMP)  ## forecasts, anomalies, sentiment, profiles beside published tables; DATA=folder of the published data
	$(if $(DATA),,$(error DATA: got nothing; allowed: the folder of the published data, DATA=folder))
	$(BIN)/python -m benchmarks.insight $(DATA) --write

lock: $(STAMP)  ## resolve setup.py again into requirements.lock, with hashes
	$(BIN)/uv pip compile setup.py --all-extras --universal --python-version 3.11 \
		--generate-hashes --upgrade --no-header --no-annotate --quiet --output-file requirements.lock
	for lock in $(EMULATOR_LOCK) $(CHECKOV_LOCK); do \
		$(BIN)/uv pip compile $$(dirname $$lock)/requirements.in --universal --python-version 3.11 \
		--generate-hashes --upgrade --no-header --no-annotate --quiet --output-file $$lock || exit 1; \
	done

# --no-compile: writing byte code for what is never imported takes longer than the imports.
# setuptools and wheel first, by the lock's own pins: below Python 3.13 google-apitools is built from source, and an
# isolated build would fetch what no hash was checked for.
PIP := $(BIN)/pip install --quiet --no-compile
$(STAMP): export PIP_DISABLE_PIP_VERSION_CHECK := 1
$(STAMP):
	$(if $(PYTHON),,$(error no Python 3.11 to 3.13 with venv: looked for python3, python3.11, python3.12, \
		python3.13; install one (Debian: apt install python3-venv) or say which: make setup PYTHON=/path/to/python))
	$(PYTHON) -m venv --clear .venv
	awk '/^[a-z]/ {build = /^(packaging|pip|setuptools|wheel)==/} build' requirements.lock > .venv/build.lock
	$(PIP) --require-hashes -r .venv/build.lock
	$(PIP) --require-hashes --no-build-isolation -r requirements.lock
	$(PIP) --no-deps --no-build-isolation -e .
	touch $@

# Each in an environment of its own: the emulator needs another DuckDB than the product, checkov other pins of much else.
$(EMULATOR) $(CHECKOV): export PIP_DISABLE_PIP_VERSION_CHECK := 1
$(EMULATOR): LOCK := $(EMULATOR_LOCK)
$(CHECKOV): LOCK := $(CHECKOV_LOCK)
$(EMULATOR) $(CHECKOV):
	$(PYTHON) -m venv --clear $(@D)
	awk '/^[a-z]/ {pip = /^pip==/} pip' requirements.lock > $(@D)/pip.lock
	$(@D)/bin/pip install --quiet --no-compile --require-hashes -r $(@D)/pip.lock
	$(@D)/bin/pip install --quiet --no-compile --require-hashes -r $(LOCK)
	touch $@

# npm checks the hash in the lock, and runs no script of the package.
$(KINESIS):
	@command -v npm > /dev/null || { echo "no npm, which installs the emulator of Kinesis; install Node.js 20 or newer \
	(https://nodejs.org), then run: make tools" >&2; exit 1; }
	rm -rf $(@D) && mkdir -p $(@D)
	cp $(dir $(KINESIS_LOCK))package.json $(KINESIS_LOCK) $(@D)
	cd $(@D) && npm ci --ignore-scripts --no-audit --no-fund --silent
	touch $@

# Of the SDK's own version, since runner and SDK speak one protocol. The patch lets it listen on a Unix socket: Beam's own
# build takes jobs from the whole network. The stamp's name holds a checksum of patch and script, and no other stamp stays.
$(PRISM):
	@command -v go > /dev/null || { echo "no go, which builds Beam's runner Prism; install it (https://go.dev/dl), \
	then run: make prism" >&2; exit 1; }
	mkdir -p .tools
	rm -f .tools/prism-local-*
	templates/prism/build.sh $(BEAM) .tools/prism-local
	touch $@

# Each file is checked against its checksum, which names the version too.
$(KAFKA):
	@command -v mvn > /dev/null || { echo "no mvn, which fetches Kafka; install it (Debian: apt install maven), then run: \
	make tools" >&2; exit 1; }
	rm -rf $(@D)
	mvn --quiet --batch-mode --strict-checksums --file tests/servers/apache_kafka/pom.xml dependency:copy-dependencies \
		-DincludeScope=runtime -DoutputDirectory=$(abspath $(@D))
	cd $(@D) && sha256sum --quiet --check $(abspath tests/servers/apache_kafka/SHA256SUMS)
	touch $@
