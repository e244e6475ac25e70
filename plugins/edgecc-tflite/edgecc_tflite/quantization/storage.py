"""How float32 constants of the finished graph are kept in the file: in fewer bits, with a DEQUANTIZE behind them.

What the source stored in int8 or float16 is stored so again, bit for bit. XNNPACK unpacks such constants once, when the
model is loaded, and computes as fast as with float32 ones; the reference kernels keep what they unpacked, too.

The target option `weights` asks for less than the source has. `float16` rounds the weights of products and keeps
computing in float32. `int8` is TFLite's dynamic range: weights with a scale per channel, read by the operator itself,
which quantizes its input each time (LiteRT 2.3: three to four times as fast as float32, and as coarse as 8 bits are).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from edgecc_tflite.ir import Graph, Operator, Quantization, Tensor
from edgecc_tflite.quantization.kernels import WEIGHTED
from edgecc_tflite.quantization.stored import Stored
from edgecc_tflite.quantization.weights import integer_weights

#: Smaller constants are not worth an operator.
LEAST_BYTES = 1024
#: Operators whose kernels take float data with int8 weights.
_DYNAMIC = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"})
_LARGEST = 127

KEEP, FLOAT16, INT8 = "keep", "float16", "int8"


def store_weights(graph: Graph, stored: Mapping[str, Sequence[Stored]], weights: str = KEEP) -> None:
    """Shrink constants, as the last step: layout and fusion want to see their values.

    Args:
        graph: its operators are changed, its constants replaced.
        stored: how the source stored constants, by the names of the nodes that read them.
        weights: "keep", "float16" or "int8": what to make of weights that the source has in float32.
    """
    operators: list[Operator] = []
    unpacked: dict[Tensor, Tensor] = {}
    for op in graph.operators:
        inputs = list(op.inputs)
        for place, tensor in enumerate(op.inputs):
            if tensor is None or tensor.data is None or not _is_large_float(tensor):
                continue
            if tensor not in unpacked:
                packed = _packed(tensor, op, [s for origin in op.origins for s in stored.get(origin, ())])
                if packed is None and weights == INT8 and _is_dynamic(op, place):
                    inputs[place] = _in_steps(tensor, WEIGHTED[op.builtin].axis)
                    continue
                if packed is None and weights == FLOAT16 and _is_factor(op, place):
                    packed = _halved(tensor)
                if packed is None:
                    continue
                unpacked[tensor] = Tensor(tensor.name, tensor.shape, tensor.dtype)
                operators.append(Operator("DEQUANTIZE", [packed], [unpacked[tensor]], {}, op.origins))
            inputs[place] = unpacked[tensor]
        operators.append(replace(op, inputs=inputs))
    graph.operators = operators


def _is_large_float(tensor: Tensor) -> bool:
    return tensor.dtype == np.float32 and tensor.nbytes >= LEAST_BYTES


def _is_factor(op: Operator, place: int) -> bool:
    """Whether the input is multiplied and summed up: the values that a network has most of."""
    places = WEIGHTED.get(op.builtin)
    return op.builtin in ("BATCH_MATMUL", "GATHER") or (places is not None and place == places.weights)


def _is_dynamic(op: Operator, place: int) -> bool:
    """Whether the input holds weights that the kernel takes in int8 beside float data."""
    return op.builtin in _DYNAMIC and place == WEIGHTED[op.builtin].weights


def _packed(tensor: Tensor, op: Operator, stored: Sequence[Stored]) -> Tensor | None:
    """The constant as the source stored it."""
    assert tensor.data is not None
    for known in stored:
        if known.dtype == "float16":
            half = _halved(tensor)
            if half is not None and half.data is not None and np.array_equal(half.data, tensor.data):
                return half
            continue
        grid = known.grid
        if grid is not None and grid.dtype == "int8" and grid.holds(tensor.data):
            return replace(grid.constant(tensor), name=f"{tensor.name}/stored")
        for axis in _channel_axes(op, tensor):
            packed = integer_weights(tensor, axis, [known])
            if packed is not None:
                return replace(packed, name=f"{tensor.name}/stored")
    return None


def _channel_axes(op: Operator, tensor: Tensor) -> list[int]:
    places = WEIGHTED.get(op.builtin)
    return [places.axis] if places is not None else list(range(tensor.rank))


def _halved(tensor: Tensor) -> Tensor | None:
    """The constant in float16; None if that would overflow."""
    assert tensor.data is not None
    if np.max(np.abs(tensor.data)) > np.finfo(np.float16).max:
        return None
    data = tensor.data.astype(np.float16)
    return Tensor(f"{tensor.name}/stored", tensor.shape, data.dtype, data)


def _in_steps(tensor: Tensor, axis: int) -> Tensor:
    """The constant rounded to int8 around 0, with a scale for each slice."""
    assert tensor.data is not None
    others = tuple(a for a in range(tensor.rank) if a != axis)
    largest = np.max(np.abs(tensor.data), axis=others)
    scale = (np.where(largest > 0, largest, 1) / _LARGEST).astype(np.float32)
    steps = np.rint(tensor.data / scale.reshape([-1 if a == axis else 1 for a in range(tensor.rank)]))
    data = np.clip(steps, -_LARGEST, _LARGEST).astype(np.int8)
    quantization = Quantization(scale, np.zeros(scale.size, np.int64), axis)
    return Tensor(tensor.name, tensor.shape, data.dtype, data, quantization)
