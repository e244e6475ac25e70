"""QuantizeLinear and DequantizeLinear; `edgecc_tflite.quantization` turns what lies between them to integers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgecc_tflite.ir import Quantization, Tensor
from edgecc_tflite.lowerings.base import LoweringRule
from edgecc_tflite.lowerings.constraints import FLOAT, known_rank, typed

if TYPE_CHECKING:
    from edgecc_tflite.lowerings.context import Lowering
    from edgecc_tflite.lowerings.node_view import NodeView

_FLOAT32 = np.dtype(np.float32)
_STORED = frozenset({"int8", "uint8", "int16", "uint16", "int32"})


def _quantize(c: Lowering) -> None:
    """QUANTIZE where the parameters are known; otherwise what the specification says, in float."""
    x, out = c.x(), c.out()
    quantization = _quantization(c.node, out.dtype)
    if quantization is not None:
        out.quantization = quantization
        c.emit("QUANTIZE", [x], out)
        return
    limits = np.iinfo(out.dtype)
    steps = c.unary("ROUND", c.binary("DIV", x, _aligned(c, 1)))
    if c.node.has(2):
        steps = c.binary("ADD", steps, c.cast(_aligned(c, 2), _FLOAT32))
    bounded = c.binary("MAXIMUM", steps, c.scalar(limits.min, _FLOAT32))
    c.cast(c.binary("MINIMUM", bounded, c.scalar(limits.max, _FLOAT32)), out.dtype, out)


def _dequantize(c: Lowering) -> None:
    x, out = c.x(), c.out()
    quantization = _quantization(c.node, x.dtype)
    if quantization is not None and _is_new_or_same(x, quantization):
        x.quantization = quantization
        c.emit("DEQUANTIZE", [x], out)
        return
    steps = c.cast(x, _FLOAT32)
    if c.node.has(2):
        steps = c.binary("SUB", steps, c.cast(_aligned(c, 2), _FLOAT32))
    scale = c.node.value(1)
    if scale is not None and np.all(scale == 1) and steps is not x:
        c.copy(steps, out)
        return
    c.binary("MUL", steps, _aligned(c, 1), out)


def _quantization(node: NodeView, dtype: np.dtype[Any]) -> Quantization | None:
    """What TFLite's own tensors can say: one known scale, and zero point 0 for 16 bits."""
    scale = node.value(1)
    zero_point = node.value(2) if node.has(2) else np.zeros((), np.int64)
    if scale is None or zero_point is None or scale.size != 1 or dtype.name not in ("int8", "uint8", "int16"):
        return None
    if node.integer("block_size", 0):
        return None
    if not np.isfinite(scale).all() or not (scale > 0).all() or (dtype == np.int16 and zero_point.any()):
        return None
    return Quantization(scale.reshape(1).astype(np.float32), zero_point.reshape(1).astype(np.int64))


def _is_new_or_same(x: Tensor, wanted: Quantization) -> bool:
    """A tensor can say only one thing about its values, and an operator that made it has said it."""
    known = x.quantization
    return known is None or bool(known.scale == wanted.scale and known.zero_point == wanted.zero_point)


def _aligned(c: Lowering, index: int) -> Tensor:
    """A scale or zero point so that it broadcasts along the node's axis."""
    tensor, block = c.x(index), c.node.integer("block_size", 0)
    if block:
        return _repeated(c, tensor, c.node.axis(1), block)
    if int(np.prod(tensor.shape)) == 1:
        return c.reshape(tensor, (1,) * max(c.x().rank, 1)) if tensor.rank else tensor
    rank, axis = c.x().rank, c.node.axis(1)
    return c.reshape(tensor, tuple(tensor.shape[0] if a == axis else 1 for a in range(rank)))


def _repeated(c: Lowering, tensor: Tensor, axis: int, count: int) -> Tensor:
    """Every value as often as its block has elements."""
    tensor = c.cast(tensor, _FLOAT32)
    before, behind = tensor.shape[: axis + 1], tensor.shape[axis + 1 :]
    single = c.reshape(tensor, (*before, 1, *behind))
    many = c.broadcast_to(single, (*before, count, *behind))
    return c.reshape(many, (*before[:-1], before[-1] * count, *behind))


def _whole_blocks(node: NodeView) -> str | None:
    block, shape, scales = node.integer("block_size", 0), node.shape(0), node.shape(1)
    if not block or shape is None or scales is None:
        return None
    if -1 in scales:
        return "its blocks have open dimensions"
    axis = node.axis(1)
    return None if shape[axis] == scales[axis] * block else "its last block is not whole"


def _stored_type(node: NodeView) -> str | None:
    output = node.outputs[0]
    name = np.dtype(output.dtype).name if output is not None and output.dtype is not None else ""
    return None if name in _STORED else f"it writes {name or 'an unknown type'}; {', '.join(sorted(_STORED))} can be"


_SCALE = (typed(FLOAT, 1), known_rank(), _whole_blocks)

RULES = (
    LoweringRule(
        "QuantizeLinear",
        _quantize,
        ("QUANTIZE", "DIV", "ROUND", "ADD", "MAXIMUM", "MINIMUM", "CAST", "BROADCAST_TO", "RESHAPE"),
        (typed(FLOAT), *_SCALE, _stored_type),
        since=10,
        note="In float where the parameters are computed, per channel or per block.",
    ),
    LoweringRule(
        "DequantizeLinear",
        _dequantize,
        ("DEQUANTIZE", "CAST", "SUB", "MUL", "BROADCAST_TO", "RESHAPE"),
        (typed(_STORED), *_SCALE),
        since=10,
        note="Operators between DequantizeLinear and QuantizeLinear run on integers where their kernels can.",
    ),
)
