"""SavedModels, loaded and traced."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgecc_keras.child.report import ModelError
from edgecc_keras.child.traced import Traced, trace

_DEFAULT = "serving_default"
_INTERNAL = "__saved_model_init_op"
_AGAIN = "export it again with TensorFlow 2: model.export('folder')"


def traced_saved_model(folder: Path, graph: Any, signature: str) -> Traced:
    """A signature's function; inputs and outputs are called and sorted as the signature has them.

    Raises:
        ModelError: no such signature, or TensorFlow cannot load it.
    """
    import tensorflow as tf

    wanted = _chosen([name for name in graph.signature_def if name != _INTERNAL], signature)
    try:
        loaded = tf.saved_model.load(str(folder), tags=["serve"])
        function = loaded.signatures[wanted]
    except Exception as error:  # of damaged variables, unknown operators, other versions
        why = f"{type(error).__name__}: {error}"[:1000]
        raise ModelError(f"{{path}} cannot be loaded by TensorFlow {tf.__version__}", why=why, hint=_AGAIN) from error
    taken = function.structured_input_signature[1]
    inputs = sorted(taken)
    outputs = sorted(function.structured_outputs)

    def call(*tensors: Any) -> Sequence[Any]:
        results = function(**dict(zip(inputs, tensors, strict=True)))
        return [results[name] for name in outputs]

    specs = [tf.TensorSpec(taken[name].shape, taken[name].dtype, f"input_{i}") for i, name in enumerate(inputs)]
    return trace(call, specs, inputs, outputs, keep=loaded)


def left_out(folder: Path, graph: Any, signature: str) -> list[str]:
    """What of the folder has no place in a Model, a line for each."""
    names = [name for name in graph.signature_def if name != _INTERNAL]
    wanted = _chosen(names, signature)
    assets = (folder / "assets").glob("*")
    return [
        *(f"signature {name!r}: a model has one" for name in sorted(names) if name != wanted),
        *(f"asset {file.name!r}" for file in sorted(assets) if file.is_file()),
    ]


def _chosen(names: Sequence[str], wanted: str) -> str:
    known = ", ".join(sorted(names))
    if not names:
        raise ModelError(
            "{path} has no signature", why="so it does not say what its inputs and outputs are", hint=_AGAIN
        )
    if wanted:
        if wanted not in names:
            raise ModelError(f"{{path}} has no signature {wanted!r}", hint=f"--importer signature=NAME, of: {known}")
        return wanted
    if _DEFAULT in names or len(names) == 1:
        return _DEFAULT if _DEFAULT in names else names[0]
    raise ModelError("{path} has several signatures", hint=f"choose: --importer signature=NAME, of: {known}")
