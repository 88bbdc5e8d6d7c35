# The two commands: `make demo` and `make test`. Both work with nothing but Python 3.11 and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: install demo check test test-film format clean-demo

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

# A demo film, and its trailer, in out/demo.
demo: $(STAMP)
	$(BIN)/trailer demo --out out/demo

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The default ring, then the flow ring (one Prefect server for all of its tests). The music goes first and alone: in a
# fresh environment librosa compiles, and two processes that do so at once break its cache for good. Two workers, a thread each.
test: $(STAMP)
	$(BIN)/python -m pytest -q tests/test_music.py
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile --ignore tests/test_music.py
	$(BIN)/python -m pytest -q -m flow

# The ring that needs real films: $$TRAILER_TEST_FILMS, or ../shared/films.
test-film: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile -m film
