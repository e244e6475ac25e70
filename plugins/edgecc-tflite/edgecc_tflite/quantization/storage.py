"""How float32 constants of the finished graph are kept in the file: in fewer bits, with a DEQUANTIZE behind them.

What the source stored in int8 or float16 is stored so again, bit for bit. XNNPACK unpacks such constants once, when the
model is loaded, and computes as fast as with float32 ones; the reference kernels keep what they unpacked, too.

The target option `weights` asks for less than the source has. `float16` rounds the weights of products and keeps
computing in float32. `int8` is TFLite's dynamic range: weights with a scale per channel, read by the operator itself,
which quantizes its input each time (LiteRT 2.3: three to four times as fast as float32, and as coarse as 8 bits are).
`int4` is the same with half the bytes where kernels take it: convolutions with a scale per channel, products of
matrices with a scale for every 32 weights of a row. Depthwise convolutions have no such kernel and get int8.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np

from edgecc_tflite.ir import Blocks, Graph, Operator, Quantization, Tensor
from edgecc_tflite.quantization.kernels import WEIGHTED
from edgecc_tflite.quantization.stored import Stored
from edgecc_tflite.quantization.weights import integer_weights

#: Smaller constants are not worth an operator.
LEAST_BYTES = 1024
#: Operators whose kernels take float data with int8 weights.
_DYNAMIC = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"})
#: Those of them that take int4.
_FOUR_BITS = frozenset({"CONV_2D", "FULLY_CONNECTED"})
#: Weights that share a scale: the shortest run that XNNPACK takes, half a bit of scale for each weight.
_BLOCK = 32
_INT4 = np.dtype(ml_dtypes.int4)
_LARGEST = {np.dtype(np.int8): 127, _INT4: 7}
#: What may become of the largest weight: with few steps, cutting it off leaves finer ones for all others.
_KEPT = np.linspace(1.0, 0.7, 7)
#: How far weights may lie from a whole step, in steps.
_STEP_ERROR = 0.01

KEEP, FLOAT16, INT8, INT4 = "keep", "float16", "int8", "int4"


def store_weights(graph: Graph, stored: Mapping[str, Sequence[Stored]], weights: str = KEEP) -> None:
    """Shrink constants, as the last step: layout and fusion want to see their values.

    Args:
        graph: its operators are changed, its constants replaced.
        stored: how the source stored constants, by the names of the nodes that read them.
        weights: "keep", "float16", "int8" or "int4": what to make of weights that the source has in float32.
    """
    operators: list[Operator] = []
    unpacked: dict[Tensor, Tensor] = {}
    for op in graph.operators:
        inputs = list(op.inputs)
        for place, tensor in enumerate(op.inputs):
            if tensor is None or tensor.data is None or not _is_large_float(tensor):
                continue
            known = [s for origin in op.origins for s in stored.get(origin, ())]
            direct = _taken_in(tensor, op, place, known)
            if direct is not None:
                inputs[place] = direct
                continue
            if tensor not in unpacked:
                packed = _packed(tensor, op, known)
                if packed is None and weights in (INT8, INT4) and _is_dynamic(op, place):
                    inputs[place] = _in_steps(tensor, op, weights)
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


def _taken_in(tensor: Tensor, op: Operator, place: int, stored: Sequence[Stored]) -> Tensor | None:
    """The constant as the source stored it, where the operator itself reads that and rounds its data at run time.

    The source says so, or there is no other kernel: four bits with a scale for each run.
    """
    if not _is_dynamic(op, place):
        return None
    for known in stored:
        if known.block:
            packed = _in_blocks(tensor, known) if op.builtin == "FULLY_CONNECTED" else None
        else:
            packed = integer_weights(tensor, WEIGHTED[op.builtin].axis, [known]) if known.dynamic else None
            if packed is not None and op.builtin in _FOUR_BITS:
                packed = _narrowed(packed, known)
        if packed is not None:
            return packed
    return None


def _in_blocks(tensor: Tensor, known: Stored) -> Tensor | None:
    """A matrix in int4 again with the scales of the runs of its rows; None if it is not made of them."""
    if known.dtype != "int4" or known.block % _BLOCK or tensor.rank != 2 or tensor.data is None:
        return None
    if tensor.shape != (known.scale.shape[0], known.scale.shape[1] * known.block):
        return None
    scales = known.scale.astype(np.float16)
    unit = np.repeat(known.scale.astype(np.float32), known.block, axis=1)
    steps = np.rint(tensor.data / unit)
    exact = np.max(np.abs(tensor.data - steps * unit) / unit, initial=0) < _STEP_ERROR
    if not exact or steps.min() < -_LARGEST[_INT4] - 1 or steps.max() > _LARGEST[_INT4] or not scales.all():
        return None
    blocks = Blocks(Tensor(f"{tensor.name}/scales", scales.shape, scales.dtype, scales), known.block)
    return Tensor(tensor.name, tensor.shape, _INT4, steps.astype(_INT4), blocks=blocks)


def _packed(tensor: Tensor, op: Operator, stored: Sequence[Stored]) -> Tensor | None:
    """The constant as the source stored it."""
    assert tensor.data is not None
    for known in stored:
        if known.block:
            continue
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
                return replace(_narrowed(packed, known), name=f"{tensor.name}/stored")
    return None


def _narrowed(packed: Tensor, known: Stored) -> Tensor:
    """In four bits again, if the source had them there."""
    assert packed.data is not None
    if known.dtype != "int4" or packed.data.min() < -_LARGEST[_INT4] - 1 or packed.data.max() > _LARGEST[_INT4]:
        return packed
    return replace(packed, dtype=_INT4, data=packed.data.astype(_INT4))


def _channel_axes(op: Operator, tensor: Tensor) -> list[int]:
    places = WEIGHTED.get(op.builtin)
    is_weights = places is not None and tensor is op.inputs[places.weights]
    return [places.axis] if places is not None and is_weights else list(range(tensor.rank))


def _halved(tensor: Tensor) -> Tensor | None:
    """The constant in float16; None if that would overflow."""
    assert tensor.data is not None
    if np.max(np.abs(tensor.data)) > np.finfo(np.float16).max:
        return None
    data = tensor.data.astype(np.float16)
    return Tensor(f"{tensor.name}/stored", tensor.shape, data.dtype, data)


def _in_steps(tensor: Tensor, op: Operator, weights: str) -> Tensor:
    """The constant rounded to few bits around 0, with a scale for each slice or run."""
    axis = WEIGHTED[op.builtin].axis
    if weights == INT8 or op.builtin not in _FOUR_BITS:
        return _by_channel(tensor, axis, np.dtype(np.int8))
    if op.builtin == "FULLY_CONNECTED" and tensor.shape[1] % _BLOCK == 0:
        return _by_block(tensor)
    return _by_channel(tensor, axis, _INT4)


def _by_channel(tensor: Tensor, axis: int, dtype: np.dtype[Any]) -> Tensor:
    assert tensor.data is not None
    slices = np.moveaxis(tensor.data, axis, 0)
    steps, scale = _rounded(slices.reshape(len(slices), -1), dtype, np.dtype(np.float32))
    data = np.ascontiguousarray(np.moveaxis(steps.reshape(slices.shape), 0, axis)).astype(dtype)
    quantization = Quantization(scale, np.zeros(scale.size, np.int64), axis)
    return Tensor(tensor.name, tensor.shape, dtype, data, quantization)


def _by_block(tensor: Tensor) -> Tensor:
    """A matrix in int4 with a float16 scale for each run of a row."""
    assert tensor.data is not None
    steps, scale = _rounded(tensor.data.reshape(-1, _BLOCK), _INT4, np.dtype(np.float16))
    scales = scale.reshape(tensor.shape[0], -1)
    blocks = Blocks(Tensor(f"{tensor.name}/scales", scales.shape, scales.dtype, scales), _BLOCK)
    return Tensor(tensor.name, tensor.shape, _INT4, steps.reshape(tensor.shape).astype(_INT4), blocks=blocks)


def _rounded(rows: np.ndarray, dtype: np.dtype[Any], scale_dtype: np.dtype[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Whole steps around 0 and the scale of each row, for four bits the one with the least squared error."""
    limit = _LARGEST[dtype]
    largest = np.max(np.abs(rows), axis=1)
    smallest = float(np.finfo(scale_dtype).tiny)
    best_error = np.full(len(rows), np.inf)
    best_steps, best_scale = np.zeros(rows.shape, np.int8), np.ones(len(rows), scale_dtype)
    for kept in _KEPT if dtype == _INT4 else _KEPT[:1]:
        scale = np.maximum(np.where(largest > 0, largest, 1) * kept / limit, smallest).astype(scale_dtype)
        unit = scale.astype(np.float32)[:, None]
        steps = np.clip(np.rint(rows / unit), -limit, limit)
        error = np.sum(np.square(steps * unit - rows), axis=1)
        better = error < best_error
        best_error[better], best_scale[better], best_steps[better] = error[better], scale[better], steps[better]
    return best_steps, best_scale
