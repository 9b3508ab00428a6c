# `make demo` and `make test` work in a fresh clone; they install a virtual environment in .venv.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PEERS  ?= .venv-peers

.PHONY: demo test slow check format bench peers clean
.DELETE_ON_ERROR:

# One thread: the steps of such small models are too short to parallelise.
demo: $(VENV)/.installed
	rm -rf demo
	OMP_NUM_THREADS=1 $(BIN)/mimachine compare mixture-2d --no-baselines --out demo/mixture-2d
	OMP_NUM_THREADS=1 $(BIN)/mimachine compare digits --out demo/digits

# One process per core, one thread per process.
test: $(VENV)/.installed-test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadscope --no-loadscope-reorder

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

# The libraries to compare with have an environment of their own. Rows that the file has are kept.
peers: $(PEERS)/.installed
	$(PEERS)/bin/python benchmarks/peers.py --out results/peers.json

# The stamp is created last, so that `make` repeats an interrupted installation.
$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	touch $@

$(PEERS)/.installed: pyproject.toml constraints.txt benchmarks/peers.txt
	test -x $(PEERS)/bin/python || $(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e . \
		-r benchmarks/peers.txt
	touch $@

clean:
	rm -rf $(VENV) $(PEERS) demo
