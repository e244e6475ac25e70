"""A model as one TensorFlow function of tensors to tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from edgecc_keras.child.report import ModelError


@dataclass(frozen=True)
class Traced:
    """What is converted.

    Attributes:
        function: TensorFlow's ConcreteFunction; its first inputs are the model's.
        inputs, outputs: names of the model's, in its order.
        batched: of each output, whether its first dimension is that of the inputs.
        keep: what owns the variables, as long as they are needed.
        name: of the model; "" if it has none.
    """

    function: Any
    inputs: Sequence[str]
    outputs: Sequence[str]
    batched: Sequence[bool]
    keep: object
    name: str = ""


#: A batch that no other dimension is likely to have.
_PROBE = 7919


def trace(
    call: Callable[..., Sequence[Any]],
    specs: Sequence[Any],
    inputs: Sequence[str],
    outputs: Sequence[str],
    keep: object,
    name: str = "",
) -> Traced:
    """Trace `call`, which takes the inputs one by one.

    Raises:
        ModelError: it cannot be traced.
    """
    import tensorflow as tf

    # Functions within it are traced as part of it: Keras compiles grouped convolutions by XLA, as calls to a function.
    tf.config.run_functions_eagerly(True)
    try:
        function = tf.function(call, autograph=False).get_concrete_function(*specs)
        batched = _batched(call, specs, len(function.outputs))
    except Exception as error:  # whatever layers raise
        why = f"{type(error).__name__}: {error}"[:1000]
        raise ModelError("{path} cannot be traced by TensorFlow", why=why) from error
    finally:
        tf.config.run_functions_eagerly(False)
    found = len(function.outputs)
    names = list(outputs) if len(set(outputs)) == found else [f"output_{index}" for index in range(found)]
    # An input may be an output too, and both are then called after its layer.
    names = [f"{name}_output" if name in inputs else name for name in names]
    return Traced(function, tuple(inputs), tuple(names), batched, keep, name)


def _batched(call: Callable[..., Sequence[Any]], specs: Sequence[Any], count: int) -> Sequence[bool]:
    """Which outputs follow the inputs' open first dimension: tried with a size that cannot be taken for another."""
    import tensorflow as tf

    fixed = [
        tf.TensorSpec([_PROBE, *spec.shape[1:]], spec.dtype, spec.name) if _is_open(spec) else spec for spec in specs
    ]
    if not any(_is_open(spec) for spec in specs):
        return [False] * count
    try:
        outputs = tf.function(call, autograph=False).get_concrete_function(*fixed).outputs
    except Exception:  # the model does not take that size
        return [False] * count
    return [bool(tensor.shape.rank) and tensor.shape[0] == _PROBE for tensor in outputs]


def _is_open(spec: Any) -> bool:
    return bool(spec.shape.rank) and spec.shape[0] is None
