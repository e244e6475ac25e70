"""A script: `python -m edgecc_keras.testing.make_models FOLDER` saves small models, with what they compute."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np


def make_models(folder: Path) -> None:
    """Write `small3.keras`, `small3.h5`, `small2.h5`, `small2.keras`, SavedModels and models that hold code."""
    import keras
    import tensorflow as tf
    import tf_keras

    keras.utils.set_random_seed(0)
    image = np.random.default_rng(0).normal(0, 1, (3, 8, 8, 3)).astype(np.float32)
    gain = np.random.default_rng(1).normal(1, 1, (3, 4)).astype(np.float32)
    for version, package in (("3", keras), ("2", tf_keras)):
        model = _small(package)
        model.save(str(folder / f"small{version}.keras"))
        model.save(str(folder / f"small{version}.h5"))
        scores, features = model([image, gain], training=False)
        np.savez(folder / f"small{version}.npz", image=image, gain=gain, scores=scores, features=features)
        _with_lambda(package).save(str(folder / f"lambda{version}.h5"))
    _with_lambda(keras).save(str(folder / "lambda3.keras"))
    model.save_weights(str(folder / "weights.h5"))
    _sequence(keras).save(str(folder / "sequence.keras"))
    _save_functions(folder, tf)


def _small(package: Any) -> Any:
    """Two inputs, two outputs; convolutions, normalization, GELU and an open batch."""
    layers = package.layers
    image, gain = package.Input((8, 8, 3), name="image"), package.Input((4,), name="gain")
    x = layers.Conv2D(4, 3, padding="same", strides=2)(image)
    x = layers.BatchNormalization()(x)
    x = layers.Activation("gelu")(x)
    # Keras 2 has grouped convolutions on GPUs alone; Keras 3 compiles them.
    x = layers.DepthwiseConv2D(3)(x) if package.__name__ == "tf_keras" else layers.Conv2D(4, 3, groups=2)(x)
    features = layers.GlobalAveragePooling2D(name="features")(x)
    scores = layers.Dense(3, activation="softmax", name="scores")(layers.Multiply()([features, gain]))
    return package.Model([image, gain], [scores, features])


def _with_lambda(package: Any) -> Any:
    data = package.Input((4,), name="data")
    return package.Model(data, package.layers.Lambda(lambda x: x + 1, name="code")(data))


def _sequence(package: Any) -> Any:
    data = package.Input((None, 4), name="data")
    return package.Model(data, package.layers.LSTM(8, return_sequences=True, name="states")(data))


def _save_functions(folder: Path, tf: Any) -> None:
    """SavedModels: one signature, several, none, and one that reads a file."""

    class Module(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.w = tf.Variable(tf.reshape(tf.range(6, dtype=tf.float32), (3, 2)))

        @tf.function(input_signature=[tf.TensorSpec((None, 3), tf.float32, "x")])  # type: ignore[untyped-decorator]
        def product(self, x: Any) -> Any:
            return {"y": x @ self.w}

        @tf.function(input_signature=[tf.TensorSpec((2, 3), tf.float32, "x")])  # type: ignore[untyped-decorator]
        def double(self, x: Any) -> Any:
            return {"doubled": x * 2}

        @tf.function(input_signature=[tf.TensorSpec((2, 3), tf.float32, "x")])  # type: ignore[untyped-decorator]
        def special(self, x: Any) -> Any:
            return {"y": tf.math.bessel_i0e(x)}

    class Reader(tf.Module):  # type: ignore[misc]
        @tf.function(input_signature=[tf.TensorSpec((), tf.string, "name")])  # type: ignore[untyped-decorator]
        def read(self, name: Any) -> Any:
            return {"contents": tf.io.read_file(name)}

    module = Module()
    save = tf.saved_model.save
    save(module, str(folder / "one"), signatures={"serving_default": module.product})
    save(module, str(folder / "several"), signatures={"product": module.product, "double": module.double})
    save(module, str(folder / "special"), signatures={"serving_default": module.special})
    reader = Reader()
    save(reader, str(folder / "reads"), signatures={"serving_default": reader.read})
    save(tf.train.Checkpoint(), str(folder / "none"))


if __name__ == "__main__":
    make_models(Path(sys.argv[1]))
