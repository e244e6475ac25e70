"""What Keras itself computes: `python -m edgecc_keras.testing.reference MODEL OUT.npz`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np


def reference(model: Path, out: Path) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Random inputs from 0 to 1 (batch 2) of a model with one input, and its outputs, by a process with TensorFlow."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-P", "-m", "edgecc_keras.testing.reference", str(model), str(out)]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    with np.load(out) as stored:
        inputs = {name[3:]: stored[name] for name in stored.files if name.startswith("in.")}
        return inputs, {name[4:]: stored[name] for name in stored.files if name.startswith("out.")}


def _write(path: Path, out: Path) -> None:
    import tensorflow as tf
    import tf_keras

    values = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    if path.is_dir():
        function = tf.saved_model.load(str(path)).signatures["serving_default"]
        for name, spec in function.structured_input_signature[1].items():
            arrays[f"in.{name}"] = values.random([size or 2 for size in spec.shape]).astype(np.float32)
        results = function(**{name[3:]: tf.constant(array) for name, array in arrays.items()})
    else:
        model = tf_keras.models.load_model(str(path), compile=False)
        shape = [size or 2 for size in model.inputs[0].shape]
        arrays[f"in.{model.input_names[0]}"] = values.random(shape).astype(np.float32)
        results = {model.output_names[0]: model(next(iter(arrays.values())), training=False)}
    np.savez(out, **arrays, **{f"out.{name}": result.numpy() for name, result in results.items()})


if __name__ == "__main__":
    _write(Path(sys.argv[1]), Path(sys.argv[2]))
