"""Keras models, loaded and traced."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from typing import Any

from edgecc_keras.child.checked_model import CheckedModel
from edgecc_keras.child.report import ModelError
from edgecc_keras.child.traced import Traced, trace

_EXPORT = "export it where it was made: model.export('folder'), and import that SavedModel"


def traced_keras_model(checked: CheckedModel) -> Traced:
    """A model's function, with its inputs and outputs in the model's order.

    Raises:
        ModelError: Keras cannot load it, or it has no inputs to trace it with.
    """
    import tensorflow as tf

    package = "tf_keras" if checked.is_keras_2 else "keras"
    if importlib.util.find_spec(package) is None:
        what = f"{package} is not installed, which reads models of Keras {checked.version}"
        raise ModelError(what, kind="missing", hint=f"pip install {package}")
    keras: Any = importlib.import_module(package)
    try:
        model = keras.models.load_model(str(checked.path), compile=False, safe_mode=True)
    except Exception as error:  # of configurations, weights and layers that it does not know
        raise ModelError(
            f"{{path}} cannot be loaded by {package} {keras.__version__}",
            why=f"{type(error).__name__}: {error}"[:1000],
            hint=f"layers of one's own are code, which the file does not hold: {_EXPORT}",
        ) from error
    inputs = _flat(getattr(model, "inputs", None), tf)
    if not inputs:
        what = "{path} does not say what its inputs are"
        raise ModelError(what, why="it is a subclassed model that was saved before it was built", hint=_EXPORT)
    names = _names([tensor.name for tensor in inputs], "input")
    structure = model._nested_inputs if checked.is_keras_2 else model._inputs_struct
    output_names = list(getattr(model, "output_names", ()) or ())

    def call(*tensors: Any) -> Sequence[Any]:
        packed = tensors[0] if len(tensors) == 1 and structure is None else _packed(structure, tensors, keras, tf)
        return _flat(model(packed, training=False), tf)

    specs = [tf.TensorSpec(tensor.shape, tf.as_dtype(tensor.dtype), f"input_{i}") for i, tensor in enumerate(inputs)]
    return trace(call, specs, names, _output_names(model, output_names, tf), keep=model, name=str(model.name or ""))


def _packed(structure: Any, tensors: Sequence[Any], keras: Any, tf: Any) -> Any:
    tree = getattr(keras, "tree", None) or tf.nest
    return tree.pack_sequence_as(structure, list(tensors))


def _flat(structure: Any, tf: Any) -> list[Any]:
    return list(tf.nest.flatten(structure)) if structure is not None else []


def _output_names(model: Any, layers: list[str], tf: Any) -> list[str]:
    """Keys of a dictionary, otherwise names of the layers that outputs come from."""
    structure = getattr(model, "_outputs_struct", getattr(model, "_nested_outputs", None))
    if isinstance(structure, dict) and len(tf.nest.flatten(structure)) == len(structure):
        return sorted(str(key) for key in structure)  # the order of `flatten`
    return layers


def _names(raw: Sequence[str], prefix: str) -> list[str]:
    """Names without TensorFlow's suffixes, each once."""
    names: list[str] = []
    for index, name in enumerate(raw):
        wanted = str(name).partition(":")[0] or f"{prefix}_{index}"
        names.append(wanted if wanted not in names else f"{wanted}_{index}")
    return names
