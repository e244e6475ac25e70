# Two commands make and prove everything: `make demo` and `make test`.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PLUGINS := plugins/edgecc-onnxruntime plugins/edgecc-tflite plugins/edgecc-tensorrt
PROJECTS := pyproject.toml $(PLUGINS:%=%/pyproject.toml)
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

TORCH_VENV ?= .venv-torch
# Built for CPUs alone it has a tenth of the size: TORCH="torch --extra-index-url https://download.pytorch.org/whl/cpu"
TORCH ?= torch
TORCH_PLUGINS := plugins/edgecc-onnxruntime plugins/edgecc-tflite plugins/edgecc-torch

.PHONY: demo test test-torch lint docs clean

demo: $(VENV)/.installed  ## compile a trained model for all three targets, benchmark and compare
	$(BIN)/python examples/digits/demo.py

test: $(VENV)/.installed-test  ## run every test (PYTEST_ARGS=--slow for the long ones too)
	$(BIN)/python -m pytest -n auto $(PYTEST_ARGS)

test-torch: $(TORCH_VENV)/.installed  ## the tests of edgecc-torch, in an environment with PyTorch for CPUs
	OMP_NUM_THREADS=1 $(TORCH_VENV)/bin/python -m pytest -n auto plugins/edgecc-torch/tests $(PYTEST_ARGS)

lint: $(VENV)/.installed-lint  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.installed  ## write the generated pages of docs/ again
	$(BIN)/python docs/generate.py

clean:
	rm -rf $(VENV) $(TORCH_VENV) demo-output .pytest_cache .mypy_cache .ruff_cache

$(VENV)/.installed: $(PROJECTS)
	$(PYTHON) -m venv $(VENV)
	$(PIP) -e . $(PLUGINS:%=-e %)
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(PIP) -e ".[test]"
	touch $@

$(VENV)/.installed-lint: $(VENV)/.installed-test
	$(PIP) -e ".[lint]"
	touch $@

$(TORCH_VENV)/.installed: pyproject.toml $(TORCH_PLUGINS:%=%/pyproject.toml)
	$(PYTHON) -m venv $(TORCH_VENV)
	$(TORCH_VENV)/bin/python -m pip install --quiet --disable-pip-version-check $(TORCH) -e ".[test]" $(TORCH_PLUGINS:%=-e %)
	touch $@
