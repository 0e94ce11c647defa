# Everything a newcomer needs: `make demo`, `make test`. The first call installs into .venv; nothing else is touched.
# The demo waits for what it runs on only; test, lint, bench and docs install what they need beside it.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
INSTALLED = $(VENV)/.installed
DEVELOPED = $(VENV)/.developed
DOCUMENTED = $(VENV)/.documented
SPHINX = $(BIN)/python -m sphinx --fail-on-warning --keep-going --nitpicky --quiet

# What is used is compiled when it is first imported: for the demo 4,500 of the 15,000 files that are installed.
unexport PYTHONDONTWRITEBYTECODE

# The newest versions that pyproject.toml allows, on the newest Python, without PyTorch: what a plain `pip install` gives.
NEWEST_PYTHON ?= $(PYTHON)
NEWEST = .venv-newest
NEWEST_TESTS = tests/pipeline/test_same_bytes.py tests/pipeline/test_options.py tests/pipeline/genes tests/model/edges \
    tests/pipeline/storage/test_chunks.py tests/pipeline/storage/test_ranges.py tests/pipeline/storage/test_write.py \
    tests/pipeline/heatmaps/test_images.py tests/pipeline/heatmaps/test_kernel.py \
    tests/pipeline/matrix/test_formats.py tests/pipeline/matrix/test_normalize.py tests/pipeline/matrix/test_survey.py \
    tests/pipeline/matrix/test_makers.py tests/pipeline/storage/test_codecs.py
NEWEST_SKIPPED = tests/pipeline/genes/test_lists_on_the_command_line.py tests/model/edges/test_naming.py # import torch

.PHONY: demo test test-newest lint bench docs linkcheck clean

demo: $(INSTALLED)
	$(BIN)/pairscape demo data/demo

test: $(DEVELOPED)
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test-newest: $(NEWEST)/.installed
	$(NEWEST)/bin/python -m pytest -n auto --maxprocesses 4 --dist loadfile -m "not cluster" \
	    -W ignore::DeprecationWarning -W ignore::FutureWarning \
	    $(addprefix --ignore ,$(NEWEST_SKIPPED)) $(NEWEST_TESTS)

lint: $(DEVELOPED)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(DEVELOPED)
	$(BIN)/python -m benchmarks.kernel

# The site, docs/_build/html/index.html; it executes the tutorials. DOCS="-D nb_execution_mode=off" leaves that out, to read a text again.
docs: $(DOCUMENTED)
	$(SPHINX) --fresh-env --builder html $(DOCS) docs docs/_build/html

# Links to other sites, which has to be asked for, as it needs the internet.
linkcheck: $(DOCUMENTED)
	$(SPHINX) --builder linkcheck -D nb_execution_mode=off docs docs/_build/linkcheck

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable .
	touch $@

$(DEVELOPED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable '.[dev]'
	touch $(INSTALLED) $@

$(DOCUMENTED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable '.[docs]'
	touch $(INSTALLED) $@

$(NEWEST)/.installed: pyproject.toml tests/newest.py
	rm -rf $(NEWEST)
	$(NEWEST_PYTHON) -m venv $(NEWEST)
	$(NEWEST)/bin/python tests/newest.py > $(NEWEST)/requirements.txt
	$(NEWEST)/bin/python -m pip install --quiet --no-compile --requirement $(NEWEST)/requirements.txt
	$(NEWEST)/bin/python -m pip install --quiet --no-deps --editable .
	touch $@

clean:
	rm -rf $(VENV) $(NEWEST) build docs/_build docs/generated *.egg-info .mypy_cache .ruff_cache .pytest_cache
