# On a new machine with Python >= 3.11 and make, `make demo` and `make test` do the whole setup.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# One more than cores, since the slowest tests wait; with many more, the lab's machines boot too slowly.
WORKERS ?= $(shell expr $$(nproc) + 1)
PYTEST := -n $(WORKERS) --dist worksteal
# The tests of `planapply.Cluster`, which calls and overrides private methods of SpecCluster.
OLDEST_TESTS ?= $(addprefix tests/cluster/test_,adaptive.py adopt.py cluster_spec.py lost.py scale.py spec_cluster.py)

.PHONY: venv demo story watched crash soak test-python lab lab-base nova openstack conformance bench bench-cloud bench-nova test test-fast coverage test-oldest integrations chromium lint types layers constraints clean
.DELETE_ON_ERROR:
# Without bytecode files, each of a thousand commands and nodes would compile its imports.
unexport PYTHONDONTWRITEBYTECODE

venv: $(VENV)/.stamp

# pip only fetches uv, which installs the rest ten times faster.
$(BIN)/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "planapply needs Python >= 3.11: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt uv

# pip reads settings for certificates and mirrors that uv ignores: if uv fails, pip may succeed.
$(VENV)/.stamp: pyproject.toml constraints.txt | $(BIN)/uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.txt -e '.[dev]' || \
	  $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: .venv-demo/.stamp
	.venv-demo/bin/python examples/demo.py

# As a user installs it, with the dashboard's plots: they would slow down every scheduler of the tests.
.venv-demo/.stamp: pyproject.toml constraints.txt | $(BIN)/uv
	$(PYTHON) -m venv --clear .venv-demo
	$(BIN)/uv pip install --quiet --python .venv-demo/bin/python -c constraints.txt -e '.[dashboard]' || \
	  .venv-demo/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dashboard]'
	touch $@

test: venv nova integrations
	$(BIN)/pytest $(PYTEST) --durations=20

test-fast: venv
	$(BIN)/pytest $(PYTEST) -m "not slow and not soak"

coverage: venv nova integrations
	$(BIN)/pytest $(PYTEST) --cov --cov-report=term

# The randomized tests of `make test` with more seeds and larger numbers, which takes half an hour; and
# the fast tests on newer Pythons.
soak: venv nova integrations
	$(BIN)/pytest $(PYTEST) -m soak -rfE
	$(MAKE) test-python SUITE=trixie
	$(MAKE) test-python SUITE=sid

# The demo and the fast tests on the Python of a Debian suite (trixie: 3.13, sid: 3.14), as root on Debian.
SUITE ?= trixie
test-python:
	tests/python_suite.sh $(SUITE)

# Tests on the oldest allowed version of every dependency, distributed in particular.
test-oldest: .venv-oldest/.stamp
	.venv-oldest/bin/pytest $(PYTEST) $(OLDEST_TESTS)

.venv-oldest/.stamp: $(VENV)/.stamp
	$(PYTHON) -m venv --clear .venv-oldest
	$(BIN)/uv pip install --quiet --python .venv-oldest/bin/python --resolution lowest-direct -e '.[dev]'
	touch $@

# JupyterLab, Prefect, Dagster and others beside planapply, for tests/integrations.
integrations: .venv-integrations/.stamp

.venv-integrations/.stamp: pyproject.toml tests/integrations/requirements.txt tests/integrations/constraints.txt $(VENV)/.stamp
	$(PYTHON) -m venv --clear .venv-integrations
	$(BIN)/uv pip install --quiet --python .venv-integrations/bin/python -c tests/integrations/constraints.txt \
	  -r tests/integrations/requirements.txt -e . || \
	  .venv-integrations/bin/python -m pip install --quiet --disable-pip-version-check \
	  -c tests/integrations/constraints.txt -r tests/integrations/requirements.txt -e .
	touch $@

# Debian's Chromium, for tests/integrations that look at pages; prints the reason if it cannot be installed.
chromium:
	@tests/integrations/chromium.sh

# Comparisons with the alternatives that a user has; takes minutes.
bench: venv
	$(BIN)/python benchmarks/plan.py
	$(BIN)/python benchmarks/engine.py
	DASK_LOGGING__DISTRIBUTED=warning $(BIN)/python benchmarks/handles.py
	$(BIN)/python benchmarks/watch.py
	$(BIN)/python benchmarks/local_apply.py
	$(BIN)/python benchmarks/waves.py
	$(BIN)/python benchmarks/python.py
	$(BIN)/python -W ignore benchmarks/boot.py

# The table in README.md: compared with dask-cloudprovider, installed into the user's cache folder.
bench-cloud: venv
	PYTHONPATH=tests $(BIN)/python benchmarks/cloudprovider.py

# 100 nodes on Nova, compared with a simple loop that calls Libcloud; takes minutes.
bench-nova: venv nova
	PYTHONPATH=tests $(BIN)/python benchmarks/libcloud_nova.py

# Replay one story of the simulator: make story SEED='1234', or SEED='5 17' for a crash at point 17.
story: venv
	cd tests && ../$(BIN)/python -m simulator.scenario $(SEED)

# The same for a story with watchers, with a trace of what happens: make watched SEED=12
watched: venv
	cd tests && ../$(BIN)/python -m simulator.watched $(SEED)

# The lab: EC2 on this machine, where every instance is a real machine. Needs root on Debian.
lab: venv lab-base
	$(BIN)/pytest -m lab -rs

# The disk of the lab's machines; prints the reason if it cannot be built.
lab-base: venv
	cd tests && ../$(BIN)/python -m lab.base

# Install Nova into a separate venv in the user's cache folder: tests install nothing.
nova: venv
	cd tests && ../$(BIN)/python -m novalab.install

# All tests on a real Nova.
openstack: venv nova
	$(BIN)/pytest -rs -m "" tests/libcloud/test_nova.py tests/libcloud/test_kill.py
	$(BIN)/pytest -rs -m "" tests/conformance -k openstack

# The table of docs/providers.md.
conformance: venv nova
	$(BIN)/python tests/conformance/table.py

# Kill the real command at 200 moments on each provider (a quarter in each kind of change).
crash: venv
	cd tests && ../$(BIN)/python -m crash $(or $(LIVES),50)

lint: venv
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: venv
	$(BIN)/mypy --strict planapply providers

layers: venv
	$(BIN)/lint-imports

# Update the pinned versions, after a change of the dependencies or to upgrade them.
constraints: | $(BIN)/uv
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --all-extras \
	  --no-header --no-annotate --no-emit-index-url pyproject.toml -o constraints.txt
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 -c constraints.txt \
	  --no-header --no-annotate --no-emit-index-url pyproject.toml tests/integrations/requirements.txt \
	  -o tests/integrations/constraints.txt

clean:
	rm -rf .venv .venv-demo .venv-oldest .venv-integrations dist .coverage* .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find planapply providers tests -name __pycache__ -type d -prune -exec rm -rf {} +
