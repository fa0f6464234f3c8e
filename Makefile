# What a person does with a clone. Every target makes the virtual environment first, if it is not there yet.

PYTHON ?= python3
VENV ?= .venv
ONCE ?=
PORT ?= 8000
VERSION ?=

# OpenMP's threads wait asleep. Spinning, the default, costs a busy machine six to eight times the time.
export OMP_WAIT_POLICY ?= PASSIVE

BIN := $(VENV)/bin
READY := $(VENV)/.ready
CANDIDATES := $(PYTHON) python3.11 python3.12 python3.13 python3.14
CODE := client indexer server examples benchmarks docker docs/hooks release tests

.PHONY: help demo test test-slow browser lint types contracts docs dist sbom release-notes format picture constraints locks \
	environment clean
.DEFAULT_GOAL := help

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | \
		while IFS="$$(printf '\t')" read -r name text; do printf '  make %-13s %s\n' "$$name" "$$text"; done
	@echo 'Variables: PYTHON=python3 VENV=.venv PORT=8000 ONCE=1 (the demo ends after its answer) VERSION=1.2.3'

demo: $(READY)  ## corpus, model, index, server, a first answer, a page; ONCE=1 ends after the answer
	@$(BIN)/python examples/demo/demo.py --port $(PORT) $(if $(ONCE),--once)

test: $(READY) browser  ## the tests
	@$(BIN)/pytest -m "not slow"

test-slow: $(READY)  ## the tests that take long
	@$(BIN)/pytest -m slow || { code=$$?; [ $$code -eq 5 ] && echo 'No test is marked slow.' || exit $$code; }

browser: $(READY)  ## Chromium, if there is none; without one the tests of the page are skipped
	@$(BIN)/python benchmarks/browser.py > /dev/null || true

lint: $(READY)  ## ruff: style, and the layout of the code
	@$(BIN)/ruff check $(CODE)
	@$(BIN)/ruff format --check $(CODE)

types: $(READY)  ## mypy --strict
	@$(BIN)/mypy

contracts: $(READY)  ## import-linter: which package may import which
	@$(BIN)/lint-imports

docs: $(READY)  ## the documentation site, strictly, into site/
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo "site/index.html"

dist: $(READY)  ## wheel and source distribution into dist/, their metadata checked
	@rm -rf dist && $(BIN)/python -m build --outdir dist . > /dev/null && $(BIN)/twine check --strict dist/*.whl dist/*.tar.gz

sbom: $(READY)  ## dist/headwater.cdx.json: what a release is made of, by CycloneDX
	@$(BIN)/python release/sbom.py dist/headwater.cdx.json

release-notes: $(READY)  ## of VERSION, or what is unreleased, from the changelog
	@$(BIN)/python release/notes.py $(VERSION)

format: $(READY)  ## write the code as ruff lays it out
	@$(BIN)/ruff check --fix $(CODE)
	@$(BIN)/ruff format $(CODE)

picture: $(READY)  ## docs/demo.svg anew, from a real run of the demo
	@$(BIN)/python examples/demo/demo.py --port $(PORT) --once --picture docs/demo.svg

environment: $(READY)  ## the virtual environment alone

constraints:  ## constraints.txt anew, from the newest packages that pyproject.toml allows
	@fresh=$$(mktemp -d) && trap 'rm -rf "$$fresh"' EXIT && $(PYTHON) -m venv "$$fresh" && \
		"$$fresh/bin/pip" install -q 'torch==2.13.0' -e '.[dev,cpu]' && \
		{ grep '^#' constraints.txt; { "$$fresh/bin/pip" freeze --exclude-editable | sed 's/+[a-z0-9]*$$//'; \
		"$$fresh/bin/pip" freeze | sed -n 's/^faiss-cpu/faiss-gpu/p'; } | sort -f; } > constraints.new && \
		mv constraints.new constraints.txt

locks: $(READY)  ## docker/locks anew, after a change of constraints.txt or of pyproject.toml's extras
	@PATH="$(abspath $(BIN)):$$PATH" docker/lock.sh

clean:  ## remove the environment and what the tools left; the demo's cache stays
	rm -rf $(VENV) dist site .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp is younger than its causes only if the whole installation went through.
$(READY): pyproject.toml constraints.txt
	@for candidate in $(CANDIDATES); do \
		if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then found=$$candidate; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
		echo 'Headwater needs Python 3.11 or newer, and none was found. Name one: make PYTHON=/path/to/python3.12 ...' >&2; exit 1; \
	fi; \
	if ! "$$found" -c 'import ensurepip, venv' 2>/dev/null; then \
		echo "$$found cannot make virtual environments. On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; \
	fi; \
	echo "Making $(VENV) with $$found and the packages of constraints.txt: minutes the first time, never again" >&2; \
	"$$found" -m venv $(VENV)
	@install() { $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,cpu]'; }; \
	install || { echo 'Trying once more: an index of packages may fail for a moment' >&2; install; }
	@touch $(READY)
