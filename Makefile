# Run `make` for the list of targets. Variables, to be set on the command line:
#   PYTHON     the interpreter that the virtual environment is made with (3.11 or newer)
#   VENV       where it lies
#   PIP_FLAGS  more flags for pip; --extra-index-url https://download.pytorch.org/whl/cpu fetches a torch without CUDA
#   WORKERS    processes that the tests run in
#   GYMNASIUM  a checkout of Gymnasium, for test-gymnasium
#   ARGS       more arguments for the script behind a target
PYTHON ?= python3
VENV ?= .venv
PIP_FLAGS ?=
WORKERS ?= 2
ARGS ?=

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# One thread per process: the tensors are small, and threads of several test processes would fight for the cores. Without the
# order of files by their number of tests, in which a few long tests would run last, beside an idle process.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help venv explore explore-test explore-picture compare tuned again benchmark reproduce docs tutorials drawn pictures test test-oldest test-gymnasium clients lint clean

help: ## print this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-17s %s\n", $$1, $$2}'

venv: $(STAMP) ## make .venv with everything in it; does nothing when it is up to date

# torch goes first and with its version fixed: left to the resolver, the newest one can pull in gigabytes.
$(STAMP): pyproject.toml constraints.txt $(wildcard teleport_env/native/*.c teleport_env/native/*.h teleport_env/native/*.inc)
	@command -v $(PYTHON) >/dev/null || { echo "make venv: there is no '$(PYTHON)'; name an interpreter with PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "make venv: needs Python 3.11 or newer, but '$(PYTHON)' is $$($(PYTHON) -V 2>&1); name another with PYTHON=python3.11" >&2; exit 1; }
	@test -x $(BIN)/python && $(BIN)/python -m pip --version >/dev/null 2>&1 || { \
		echo "Creating $(VENV) with $$($(PYTHON) -V)"; \
		$(PYTHON) -m venv --clear $(VENV) || { echo "make venv: '$(PYTHON) -m venv' failed; on Debian and Ubuntu install python3-venv" >&2; exit 1; }; }
	@echo "Installing torch (the largest download)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS) -c constraints.txt torch==2.13.0
	@echo "Installing teleport-env with the extras compare and dev"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS) -c constraints.txt -e '.[compare,dev]'
	@touch $@
	@echo "$(VENV) is ready: $$($(BIN)/python -c 'import sys, torch; print(f"Python {sys.version.split()[0]}, torch {torch.__version__}")')"

explore: venv ## open a page on which you play an episode yourself
	OMP_NUM_THREADS=1 $(BIN)/python scripts/explore.py $(ARGS)

# Playwright brings a driver of 140 MB, and only the targets on pages want it: it stays out of .venv. CHROMIUM names the browser.
BROWSER := PYTHONPATH=$(CURDIR)/scripts:$(CURDIR)/.venv-browser OMP_NUM_THREADS=1 $(BIN)/python

explore-test: .venv-browser ## try that page and the report in a browser; needs chromium
	$(BROWSER) -m pytest tests/scripts/explorer tests/agents/comparison/test_report_in_browser.py $(ARGS)

explore-picture: .venv-browser ## take the picture of docs/explorer.md
	$(BROWSER) -m explorer.picture

.venv-browser: venv
	@test -d $@ || $(BIN)/python -m pip install --quiet --disable-pip-version-check --target $@ playwright

compare: venv ## play tuned teleport schedules, and write results/compare/report.html
	OMP_NUM_THREADS=1 $(BIN)/python scripts/compare.py --out results/compare $(ARGS)
	@echo "The report: $(CURDIR)/results/compare/report.html"

tuned: venv ## tune the agents of comparisons anew, for an hour; writes agents/tuned; ARGS="--problems Booth" for one problem
	OMP_NUM_THREADS=1 $(BIN)/python scripts/tune.py $(ARGS)

# The command stands on the page alone. It takes hours, and is resumed where it was interrupted.
again: venv ## play the comparison of a result page anew, by the command at its end, and write the page; PAGE=factorial
	@command=$$(grep -m 1 -- '^python .* --page docs/$(PAGE).md' 'docs/$(PAGE).md') || { \
		echo "make again: docs/$(PAGE).md has no command that writes it; name a page with PAGE=factorial" >&2; exit 1; }; \
	echo "$$command $(ARGS)"; eval "$(BIN)/$$command $(ARGS)"

# One thread: the ratios compare code, and threads help none of the small tensors here.
benchmark: venv ## measure speed against other environments and bare loops, and write results/benchmark
	OMP_NUM_THREADS=1 $(BIN)/python scripts/benchmark.py --out results/benchmark $(ARGS)

reproduce: venv ## reproduce the paper in its quick form, and write results/reproduction, docs/reproduction.md and its appendix
	OMP_NUM_THREADS=1 $(BIN)/python scripts/reproduce.py all --out results/reproduction --page docs/reproduction.md $(ARGS)

# Strict: a warning fails. The packages are fetched once; building itself asks no network for anything.
docs: $(VENV)/.docs ## build the documentation site into site/
	@OMP_NUM_THREADS=1 NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	@echo "The site: $(CURDIR)/site/index.html; with its search: $(BIN)/python -m http.server -d site"

$(VENV)/.docs: $(STAMP)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS) -c constraints.txt -e '.[docs]'
	@touch $@

tutorials: $(VENV)/.docs ## execute the tutorials, and write their notebooks and pictures
	OMP_NUM_THREADS=1 $(BIN)/python docs/write_tutorials.py $(ARGS)

# For pages whose comparison is not played anew.
drawn: venv ## draw pictures of kept result pages from the tables beside them
	OMP_NUM_THREADS=1 $(BIN)/python docs/draw_results.py

PICTURED = $(shell $(BIN)/python -c "from teleport_env import registration, problems; print(*problems.PROBLEMS)")
pictures: venv ## draw the pictures of README and of the pages of environments; MNIST needs TELEPORT_ENV_DATA
	$(BIN)/python scripts/rollout.py --problem Booth --agent edge_of_stability --frames 40 --out docs/images/booth.gif
	@test -n '$(PICTURED)'
	@for name in $(PICTURED); do $(BIN)/python scripts/rollout.py --problem $$name --agent edge_of_stability \
		--out docs/images/environments/$$(echo $$name | tr A-Z a-z).png || exit 1; done

test: lint ## lint, then the tests
	$(PYTEST) $(ARGS)

# Every version in pyproject.toml at its lowest, where no other package needs a newer one. A newer pyparsing warns of the oldest matplotlib.
test-oldest: venv ## the tests under the oldest versions that pyproject.toml allows, in .venv-oldest
	$(BIN)/python -m venv .venv-oldest
	$(BIN)/python -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
		print(*(x.replace('>=', '==') for x in p['dependencies'] + p['optional-dependencies']['compare']), sep='\n')" > .venv-oldest/oldest.txt
	.venv-oldest/bin/python -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS) -r .venv-oldest/oldest.txt \
		'pyparsing<3.3' array-api-compat hypothesis pytest pytest-xdist build 'setuptools>=77'
	.venv-oldest/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	OMP_NUM_THREADS=1 .venv-oldest/bin/python -m pytest -n $(WORKERS) --dist loadfile $(ARGS)

# The checkout's own Gymnasium is imported, so that code and tests are of one version.
OVER_IDS := tests/envs/test_envs.py tests/envs/test_rendering.py tests/envs/test_action_dim_check.py \
	tests/vector/test_sync_vector_env.py tests/wrappers/test_passive_env_checker.py tests/wrappers/vector/test_vector_wrappers.py
test-gymnasium: venv ## Gymnasium's own tests over our ids; GYMNASIUM=FOLDER names a checkout of it
	@test -f '$(GYMNASIUM)/tests/envs/test_envs.py' || { \
		echo "make test-gymnasium: there is no checkout of Gymnasium in '$(GYMNASIUM)'; clone it and name it with GYMNASIUM=FOLDER" >&2; exit 1; }
	cd '$(GYMNASIUM)' && PYTHONPATH=$(CURDIR):$(CURDIR)/tests OMP_NUM_THREADS=1 $(abspath $(BIN))/python -m pytest \
		-p over_our_ids -p no:cacheprovider --disable-warnings -k Teleport $(OVER_IDS) $(ARGS)

# RLlib pins a Gymnasium of its own, so that the two extras do not share an environment.
clients: venv ## play the recipes of docs/clients.md in .venv-clients and .venv-rllib; fails where a return does not rise
	for extra in clients rllib; do \
		python=.venv-$$extra/bin/python; limits=$$(test $$extra = rllib || echo "-c constraints.txt"); \
		$(BIN)/python -m venv .venv-$$extra && \
		$$python -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS) torch==2.13.0 && \
		$$python -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS) $$limits -e ".[compare,$$extra]" pytest hypothesis && \
		TELEPORT_ENV_CLIENTS=1 OMP_NUM_THREADS=1 $$python -m pytest -rs tests/scripts/test_clients.py tests/envs/test_recording.py $(ARGS) || exit 1; \
	done

lint: venv ## format, lint, types and prose
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python docs/check_prose.py

clean: ## remove what building, testing and comparing left behind, but not .venv
	rm -rf build dist results site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -type d -prune -exec rm -rf {} +
