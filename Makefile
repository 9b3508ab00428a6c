# `make demo` and `make test` do everything from a bare clone, in an environment of their own.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

.PHONY: demo test slow check format bench clean
.DELETE_ON_ERROR:

# One thread: steps of models this small are too short to share.
demo: $(VENV)/.installed
	rm -rf demo
	OMP_NUM_THREADS=1 $(BIN)/mimachine compare mixture-2d --out demo/mixture-2d
	OMP_NUM_THREADS=1 $(BIN)/mimachine compare digits --objectives mim a-mim vae --out demo/digits

# A process for each core, and one thread in each.
test: $(VENV)/.installed-test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadscope

slow: $(VENV)/.installed-test
	$(BIN)/python -m pytest -m slow

check: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.installed-test
	$(BIN)/python benchmarks/training_speed.py

# An interrupted installation leaves no stamp, so the next `make` does it again.
$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	touch $@

clean:
	rm -rf $(VENV) demo
