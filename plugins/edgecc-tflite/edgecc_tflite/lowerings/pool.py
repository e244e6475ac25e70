"""Pooling in one and two dimensions, and over everything."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from edgecc_tflite.enums import Activation, Padding
from edgecc_tflite.ir import Tensor
from edgecc_tflite.lowerings.base import LoweringRule
from edgecc_tflite.lowerings.constraints import FLOAT, known_rank, ranked, single_output, static_space, typed
from edgecc_tflite.lowerings.windows import (
    Windows,
    as_2d,
    from_2d,
    no_negative_pads,
    pad,
    same_pads_need_sizes,
    windows_of,
)

if TYPE_CHECKING:
    from edgecc_tflite.lowerings.context import Lowering
    from edgecc_tflite.lowerings.node_view import NodeView

#: Operators whose results are never negative.
_NOT_NEGATIVE = frozenset({"RELU", "RELU6", "LOGISTIC", "SOFTMAX", "ABS"})


def _max_pool(c: Lowering) -> None:
    windows = windows_of(c.node, c.node.ints("kernel_shape"))
    x = c.to_last(as_2d(c, c.x()))
    padding = windows.padding
    if padding is None:
        # A kernel that pads with zeros is faster, and after a RELU zero is as good as minus infinity.
        x = pad(c, x, windows.begin, windows.end, 0.0 if _is_not_negative(c) else -math.inf)
        padding = Padding.VALID
    from_2d(c, _pool(c, "MAX_POOL_2D", x, windows, padding), c.out())


def _is_not_negative(c: Lowering) -> bool:
    producer = c.builder.producer.get(c.x())
    while producer is not None and producer.builtin in {"TRANSPOSE", "RESHAPE", "MAX_POOL_2D"}:
        before = producer.inputs[0]
        assert before is not None
        producer = c.builder.producer.get(before)
    if producer is None:
        return False
    fused = producer.options.get("fusedActivationFunction", Activation.NONE)
    return producer.builtin in _NOT_NEGATIVE or fused in (Activation.RELU, Activation.RELU6)


def _average_pool(c: Lowering) -> None:
    windows = windows_of(c.node, c.node.ints("kernel_shape"))
    x = c.to_last(as_2d(c, c.x()))
    counts_padding = bool(c.node.integer("count_include_pad", 0))
    if windows.padding is not None and not (windows.is_padded and counts_padding):
        from_2d(c, _pool(c, "AVERAGE_POOL_2D", x, windows, windows.padding), c.out())
        return
    x = pad(c, x, windows.begin, windows.end)
    result = _pool(c, "AVERAGE_POOL_2D", x, windows, Padding.VALID)
    correction = _correction(c.node, windows, counts_padding)
    if np.any(correction != 1):
        result = c.binary("MUL", result, c.constant(correction, "correction"))
    from_2d(c, result, c.out())


def _correction(node: NodeView, windows: Windows, counts_padding: bool) -> np.ndarray:
    """Window size divided by how many of its elements count, per window."""
    rows = []
    for axis in (0, 1):
        starts = np.arange(windows.out[axis]) * windows.strides[axis]
        low, high = windows.begin[axis], windows.begin[axis] + windows.size[axis]
        if counts_padding:
            low, high = 0, high + _declared_end(node, axis, windows)
        positions = starts[:, None] + np.arange(windows.kernel[axis]) * windows.dilations[axis]
        rows.append(windows.kernel[axis] / np.sum((positions >= low) & (positions < high), axis=1))
    return np.outer(rows[0], rows[1]).reshape(1, *windows.out, 1).astype(np.float32)


def _declared_end(node: NodeView, axis: int, windows: Windows) -> int:
    """The padding behind that the model asks for, without what ceil_mode adds."""
    pads = node.ints("pads")
    if not pads:
        return windows.end[axis] if node.text("auto_pad", "NOTSET").startswith("SAME") else 0
    spatial = len(pads) // 2
    return 0 if axis < 2 - spatial else pads[spatial + axis - (2 - spatial)]


def _pool(c: Lowering, builtin: str, x: Tensor, windows: Windows, padding: Padding) -> Tensor:
    return c.emit(
        builtin,
        [x],
        shape=(x.shape[0], *windows.out, x.shape[3]),
        padding=padding,
        strideH=windows.strides[0],
        strideW=windows.strides[1],
        filterHeight=windows.kernel[0],
        filterWidth=windows.kernel[1],
        fusedActivationFunction=Activation.NONE,
    )


def _global(builtin: str) -> LoweringRule:
    def lower(c: Lowering) -> None:
        x = c.x()
        c.emit(builtin, [x, c.ints(range(2, x.rank), "axes")], c.out(), keepDims=True)

    op = "GlobalAveragePool" if builtin == "MEAN" else "GlobalMaxPool"
    return LoweringRule(op, lower, (builtin,), (typed(FLOAT), known_rank()))


def _no_dilation(node: NodeView) -> str | None:
    return "dilations other than 1" if any(d != 1 for d in node.ints("dilations")) else None


def _ceil_needs_sizes(node: NodeView) -> str | None:
    return static_space()(node) if node.integer("ceil_mode", 0) else None


def _border_needs_sizes(node: NodeView) -> str | None:
    return static_space()(node) if any(node.ints("pads")) else None


_COMMON = (
    typed(FLOAT),
    ranked(3, 4),
    single_output,
    _no_dilation,
    same_pads_need_sizes,
    no_negative_pads,
    _ceil_needs_sizes,
)

RULES = (
    LoweringRule(
        "MaxPool",
        _max_pool,
        ("MAX_POOL_2D", "PAD", "PADV2", "RESHAPE", "TRANSPOSE"),
        _COMMON,
    ),
    LoweringRule(
        "AveragePool",
        _average_pool,
        ("AVERAGE_POOL_2D", "PAD", "MUL", "RESHAPE", "TRANSPOSE"),
        (*_COMMON, _border_needs_sizes),
        note="Exact at the border for every combination of pads, ceil_mode and count_include_pad.",
    ),
    _global("MEAN"),
    _global("REDUCE_MAX"),
)
