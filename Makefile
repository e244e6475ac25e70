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
KERAS_VENV ?= .venv-keras
KERAS_PLUGINS := plugins/edgecc-onnxruntime plugins/edgecc-tflite plugins/edgecc-keras
JAX_VENV ?= .venv-jax
JAX_PLUGINS := plugins/edgecc-onnxruntime plugins/edgecc-tflite plugins/edgecc-jax

.PHONY: demo test test-torch test-keras test-jax lint docs clean

demo: $(VENV)/.installed  ## compile a trained model for all three targets, benchmark and compare
	$(BIN)/python examples/digits/demo.py

test: $(VENV)/.installed-test  ## run every test (PYTEST_ARGS=--slow for the long ones too)
	$(BIN)/python -m pytest -n auto $(PYTEST_ARGS)

test-torch: $(TORCH_VENV)/.installed  ## the tests of edgecc-torch, in an environment with PyTorch for CPUs
	OMP_NUM_THREADS=1 $(TORCH_VENV)/bin/python -m pytest -n auto plugins/edgecc-torch/tests tests/test_conversions.py $(PYTEST_ARGS)

test-keras: $(KERAS_VENV)/.installed  ## the tests of edgecc-keras, in an environment with TensorFlow
	OMP_NUM_THREADS=1 $(KERAS_VENV)/bin/python -m pytest -n 2 plugins/edgecc-keras/tests tests/test_conversions.py $(PYTEST_ARGS)

test-jax: $(JAX_VENV)/.installed  ## the tests of edgecc-jax, in an environment with JAX
	OMP_NUM_THREADS=1 $(JAX_VENV)/bin/python -m pytest -n auto plugins/edgecc-jax/tests $(PYTEST_ARGS)

lint: $(VENV)/.installed-lint  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.installed  ## write the generated pages of docs/ again
	$(BIN)/python docs/generate.py

clean:
	rm -rf $(VENV) $(TORCH_VENV) $(KERAS_VENV) $(JAX_VENV) demo-output .pytest_cache .mypy_cache .ruff_cache

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

$(KERAS_VENV)/.installed: pyproject.toml $(KERAS_PLUGINS:%=%/pyproject.toml)
	$(PYTHON) -m venv $(KERAS_VENV)
	$(KERAS_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -e ".[test]" $(KERAS_PLUGINS:%=-e %)
	touch $@

$(JAX_VENV)/.installed: pyproject.toml $(JAX_PLUGINS:%=%/pyproject.toml)
	$(PYTHON) -m venv $(JAX_VENV)
	$(JAX_VENV)/bin/python -m pip install --quiet --disable-pip-version-check flax -e ".[test]" $(JAX_PLUGINS:%=-e %)
	touch $@
