# On a fresh machine with Python >= 3.11 and make, `make demo` and `make test` do all the set-up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# More than cores: the slow tests wait for timeouts, boots and other processes.
WORKERS ?= $(shell $(PYTHON) -c 'import os; print(2 * (os.cpu_count() or 1))')
PYTEST := -n $(WORKERS) --dist worksteal
# Those of `planapply.Cluster`, which calls and overrides private methods of SpecCluster.
OLDEST_TESTS ?= $(addprefix tests/cluster/test_,adaptive.py adopt.py cluster_spec.py lost.py scale.py spec_cluster.py)

.PHONY: venv demo story crash soak lab lab-base nova openstack conformance bench bench-cloud bench-nova test test-fast coverage test-oldest lint types layers constraints clean
.DELETE_ON_ERROR:
# Without bytecode files, each of a thousand commands and nodes compiles all that it imports.
unexport PYTHONDONTWRITEBYTECODE

venv: $(VENV)/.stamp

# pip only fetches uv, which installs the rest ten times faster.
$(BIN)/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "planapply needs Python >= 3.11: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt uv

# pip knows certificates and mirrors that uv does not read: where uv fails, pip may not.
$(VENV)/.stamp: pyproject.toml constraints.txt | $(BIN)/uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.txt -e '.[dev]' || \
	  $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: venv
	$(BIN)/python examples/demo.py

test: venv nova
	$(BIN)/pytest $(PYTEST) --durations=20

test-fast: venv
	$(BIN)/pytest $(PYTEST) -m "not slow and not soak"

coverage: venv nova
	$(BIN)/pytest $(PYTEST) --cov --cov-report=term

# More seeds and larger numbers of what `make test` has a few of; takes half an hour.
soak: venv nova
	$(BIN)/pytest $(PYTEST) -m soak -rfE

# The oldest version of every dependency that pyproject.toml allows, distributed's above all.
test-oldest: .venv-oldest/.stamp
	.venv-oldest/bin/pytest $(PYTEST) $(OLDEST_TESTS)

.venv-oldest/.stamp: $(VENV)/.stamp
	$(PYTHON) -m venv --clear .venv-oldest
	$(BIN)/uv pip install --quiet --python .venv-oldest/bin/python --resolution lowest-direct -e '.[dev]'
	touch $@

# Side by side with what a user would pick instead; takes minutes.
bench: venv
	$(BIN)/python benchmarks/plan.py
	$(BIN)/python benchmarks/engine.py
	DASK_LOGGING__DISTRIBUTED=warning $(BIN)/python benchmarks/handles.py
	$(BIN)/python benchmarks/local_apply.py
	$(BIN)/python -W ignore benchmarks/boot.py

# The table in README.md: beside dask-cloudprovider, which it installs into the user's cache folder.
bench-cloud: venv
	PYTHONPATH=tests $(BIN)/python benchmarks/cloudprovider.py

# 100 nodes on Nova, beside a plain loop over bare Libcloud; takes minutes.
bench-nova: venv nova
	PYTHONPATH=tests $(BIN)/python benchmarks/libcloud_nova.py

# One story of the simulator again: make story SEED='1234', or SEED='5 17' for its 17th point.
story: venv
	cd tests && ../$(BIN)/python -m simulator.scenario $(SEED)

# The cloud on one machine: honest EC2, and every instance a real machine. Root on Debian.
lab: venv lab-base
	$(BIN)/pytest -m lab -rs

# The machines' disk; prints why it can't be built where that is so.
lab-base: venv
	cd tests && ../$(BIN)/python -m lab.base

# In a venv of its own in the user's cache folder: no test installs anything.
nova: venv
	cd tests && ../$(BIN)/python -m novalab.install

# All that runs on Nova itself.
openstack: venv nova
	$(BIN)/pytest -rs -m "" tests/libcloud/test_nova.py tests/libcloud/test_kill.py
	$(BIN)/pytest -rs tests/conformance -k openstack

# The table of docs/providers.md.
conformance: venv nova
	$(BIN)/python tests/conformance/table.py

# 200 moments at which the real command is killed on each provider (a quarter in each kind of change).
crash: venv
	cd tests && ../$(BIN)/python -m crash $(or $(LIVES),50)

lint: venv
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: venv
	$(BIN)/mypy --strict planapply providers

layers: venv
	$(BIN)/lint-imports

# Pins without addresses; for after a change of the dependencies, or to move to newer ones.
constraints: | $(BIN)/uv
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --all-extras \
	  --no-header --no-annotate --no-emit-index-url pyproject.toml -o constraints.txt

clean:
	rm -rf .venv .venv-oldest dist .coverage* .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find planapply providers tests -name __pycache__ -type d -prune -exec rm -rf {} +
