# make pretrain   install, then train a 3D generator and look at its meshes (CPU, minutes)
# make test       install, then run the tests
# make install    all that packages can use, the tests and the site need, into .venv
PYTHON ?= python3
BIN := .venv/bin
# Two set-ups in one place: what maquette is built on, and everything.
INSTALLED := .venv/.installed
COMPLETE := .venv/.complete
PACKAGES := $(wildcard packages/*/pyproject.toml)
ARGS ?=
# Processes that share the tests, a file at a time.
JOBS ?= auto

.PHONY: install pretrain test test-slow test-alone fuzz chaos lint docs clean

install: $(COMPLETE)

# Done again only when what is to be installed has changed.
$(INSTALLED): requirements.txt constraints.txt $(PACKAGES)
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

$(COMPLETE): requirements-dev.txt constraints.txt $(PACKAGES)
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $(INSTALLED) $@

pretrain: $(INSTALLED)
	$(BIN)/python examples/pretrain.py $(ARGS)

test: install
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(ARGS)

test-slow: install
	$(BIN)/python -m pytest -m "slow and not gpu" $(ARGS)

# 24,000 damaged files through every loader, and a bounded run of atheris where it is installed.
fuzz: install
	$(BIN)/python -m pytest -m slow -s tests/security/test_fuzz.py $(ARGS)

# Each package alone, with its declared dependencies only, in an environment of its own.
test-alone: install
	$(BIN)/python -m pytest tests/test_packages_alone.py -m slow $(ARGS)

# Kills, damage and signals: figures in docs/reliability.md. A campaign that was stopped goes on where it was.
CHAOS ?= $(or $(TMPDIR),/tmp)/maquette-chaos
chaos: install
	$(BIN)/python tests/chaos/chaos.py $(CHAOS)/two --world 2 --kills 45 --corruptions 12 --seed 1
	$(BIN)/python tests/chaos/chaos.py $(CHAOS)/three --world 3 --kills 28 --corruptions 10 --seed 2 train.checkpoint_async=false
	$(BIN)/python tests/chaos/chaos.py $(CHAOS)/four --world 4 --kills 18 --corruptions 8 --seed 3
	$(BIN)/python tests/chaos/signals.py $(CHAOS)/signals --times 20

lint: install
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The documentation as a site, in site/.
docs: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

clean:
	rm -rf .venv site .pytest_cache .ruff_cache .mypy_cache .hypothesis
