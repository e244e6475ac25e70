"""What Keras itself computes: `python -m edgecc_keras.testing.reference MODEL OUT.npz [VALUES.npy]`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np


def reference(
    model: Path, out: Path, values: np.ndarray | None = None
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Inputs of a model with one input, and its outputs, by a process with TensorFlow.

    Args:
        model: a SavedModel or an `.h5` file of Keras 2.
        out: where they are left.
        values: of the input; random ones from 0 to 1 (batch 2) if None.
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-P", "-m", "edgecc_keras.testing.reference", str(model), str(out)]
    if values is not None:
        np.save(out.with_suffix(".npy"), values)
        command.append(str(out.with_suffix(".npy")))
    subprocess.run(command, env=environment, check=True, capture_output=True)
    with np.load(out) as stored:
        inputs = {name[3:]: stored[name] for name in stored.files if name.startswith("in.")}
        return inputs, {name[4:]: stored[name] for name in stored.files if name.startswith("out.")}


def _write(path: Path, out: Path, given: np.ndarray | None) -> None:
    import tensorflow as tf
    import tf_keras

    values = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    if path.is_dir():
        function = tf.saved_model.load(str(path)).signatures["serving_default"]
        for name, spec in function.structured_input_signature[1].items():
            random = values.random([size or 2 for size in spec.shape]).astype(np.float32)
            arrays[f"in.{name}"] = random if given is None else given
        results = function(**{name[3:]: tf.constant(array) for name, array in arrays.items()})
    else:
        model = tf_keras.models.load_model(str(path), compile=False)
        shape = [size or 2 for size in model.inputs[0].shape]
        random = values.random(shape).astype(np.float32)
        arrays[f"in.{model.input_names[0]}"] = random if given is None else given
        results = {model.output_names[0]: model(next(iter(arrays.values())), training=False)}
    np.savez(out, **arrays, **{f"out.{name}": result.numpy() for name, result in results.items()})


if __name__ == "__main__":
    _write(Path(sys.argv[1]), Path(sys.argv[2]), np.load(sys.argv[3]) if len(sys.argv) > 3 else None)
