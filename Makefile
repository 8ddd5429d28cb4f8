# Two commands do everything from a fresh clone: `make demo` and `make test`.

PYTHON ?= python3
VENV ?= .venv
PINS ?= requirements.txt
BIN = $(VENV)/bin
# The tests of a whole machine share it: one thread each is fastest.
export OMP_NUM_THREADS ?= 1
export HF_HUB_OFFLINE = 1

.PHONY: demo test check test-oldest agreement published equality opdb xla meta bench peers docs format \
	clean

demo: $(VENV)/.zoo
	$(BIN)/flopdispatch count torchvision:resnet50

test: $(VENV)/.test
	$(BIN)/python -m pytest -n 2

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The whole suite on the oldest supported torch, in an environment of its own.
test-oldest:
	$(MAKE) test VENV=.venv-oldest PINS=requirements-oldest.txt

# Every figure of the reference tables, and transformers' models, against torch's counter: a long run.
agreement: $(VENV)/.test
	$(BIN)/python -W ignore -m benchmarks.agreement --backward

# The meta fast path against every kernel: PyTorch's operator database, and models. A long run.
equality: $(VENV)/.test
	$(BIN)/python -W ignore -m benchmarks.equality operators
	$(BIN)/python -W ignore -m benchmarks.equality models

# What timm publishes of its models, under fvcore's convention.
published: $(VENV)/.test
	$(BIN)/python -W ignore -m benchmarks.published

# PyTorch's databases of operators, modules and optimizers with the counter and without.
opdb: $(VENV)/.test
	$(BIN)/python -W ignore -m benchmarks.opdb
	$(BIN)/python -W ignore -m benchmarks.known

# XLA's cost analysis of basic operators beside ours.
xla: $(VENV)/.test
	$(BIN)/python -m benchmarks.xla

# Which published models are counted on meta, and with what assumed: a long run.
meta: $(VENV)/.ultralytics
	$(BIN)/python -W ignore -m benchmarks.meta --write

# What counting costs, beside the peers that are installed: about ten minutes.
bench: $(VENV)/.test
	$(BIN)/python -m benchmarks.speed --write
	$(BIN)/python -m benchmarks.memory
	$(BIN)/python -W ignore -m benchmarks.values
	$(BIN)/python -m benchmarks.mfu

# What the other tools say of the same models.
peers: $(VENV)/.peers
	$(BIN)/python -m benchmarks.peers

# The pages made from the code, and the site of all of them, in site/.
docs: $(VENV)/.test
	$(BIN)/python docs/generate.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Each stamp is one extra installed; an edit of the project file or the pins installs again.
$(VENV)/.zoo $(VENV)/.test $(VENV)/.dev $(VENV)/.peers $(VENV)/.meta: $(VENV)/.%: pyproject.toml $(PINS) | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(PINS) -e ".[$*]"
	touch $@

# ultralytics would bring a `thop` that overwrites the peer of this name.
$(VENV)/.ultralytics: $(VENV)/.meta
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(PINS) --no-deps ultralytics
	touch $@

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

clean:
	rm -rf .venv .venv-oldest .mypy_cache .ruff_cache .pytest_cache .hypothesis
