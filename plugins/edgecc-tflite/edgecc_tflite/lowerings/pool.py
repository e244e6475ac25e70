"""Pooling in one, two and three dimensions, and over everything."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING

import numpy as np

from edgecc_tflite.enums import Activation, Padding
from edgecc_tflite.ir import Tensor
from edgecc_tflite.lowerings.base import LoweringRule
from edgecc_tflite.lowerings.constraints import FLOAT, known_rank, ranked, static, static_space, typed
from edgecc_tflite.lowerings.detours import by_value, detoured
from edgecc_tflite.lowerings.pool_windows import (
    average_with_zeros,
    emit_indices,
    is_kernel_window,
    pool_2d,
    pool_by_axes,
    raised,
    root,
)
from edgecc_tflite.lowerings.reduce import reduce_over
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
    # A kernel that pads with zeros is faster, and after a RELU zero is as good as minus infinity.
    filler = 0.0 if _is_not_negative(c) else -math.inf
    if c.node.has_output(0):
        from_2d(c, _largest(c, x, windows, filler), c.out())
    if c.node.has_output(1):
        emit_indices(c, pad(c, x, windows.begin, windows.end, -math.inf), windows)


def _largest(c: Lowering, x: Tensor, windows: Windows, filler: float) -> Tensor:
    if is_kernel_window(windows) and windows.padding is not None:
        return pool_2d(c, "MAX_POOL_2D", x, windows, windows.padding)
    x = pad(c, x, windows.begin, windows.end, filler)
    if is_kernel_window(windows):
        return pool_2d(c, "MAX_POOL_2D", x, windows, Padding.VALID)
    return pool_by_axes(c, x, windows, "MAX_POOL_2D", "MAXIMUM")


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
    padding = windows.padding
    if is_kernel_window(windows) and padding is not None and not (windows.is_padded and counts_padding):
        from_2d(c, pool_2d(c, "AVERAGE_POOL_2D", x, windows, padding), c.out())
        return
    result = average_with_zeros(c, x, windows)
    if windows.is_padded:
        correction = _correction(c.node, windows, counts_padding)
        if np.any(correction != 1):
            result = c.binary("MUL", result, c.constant(correction, "correction"))
    from_2d(c, result, c.out())


def _lp_pool(c: Lowering) -> None:
    """The root of the sum of powers; a sum is an average times the window's size."""
    windows = windows_of(c.node, c.node.ints("kernel_shape"))
    power, size = float(c.node.integer("p", 2)), float(np.prod(windows.kernel))
    powers = raised(c, c.to_last(as_2d(c, c.x())), power)
    total = c.binary("MUL", average_with_zeros(c, powers, windows), c.scalar(size))
    from_2d(c, root(c, total, power), c.out())


def _global_lp_pool(c: Lowering) -> None:
    x, power = c.x(), float(c.node.integer("p", 2))
    total = reduce_over(c, "SUM", raised(c, x, power), tuple(range(2, x.rank)))
    root(c, total, power, c.out())


def _correction(node: NodeView, windows: Windows, counts_padding: bool) -> np.ndarray:
    """Window size divided by how many of its elements count, per window."""
    rows = []
    for axis in windows.axes:
        starts = np.arange(windows.out[axis]) * windows.strides[axis]
        low, high = windows.begin[axis], windows.begin[axis] + windows.size[axis]
        if counts_padding:
            low, high = 0, high + _declared_end(node, axis, windows)
        positions = starts[:, None] + np.arange(windows.kernel[axis]) * windows.dilations[axis]
        rows.append(windows.kernel[axis] / np.sum((positions >= low) & (positions < high), axis=1))
    grid: np.ndarray = functools.reduce(np.multiply.outer, rows)
    correction: np.ndarray = grid.reshape(1, *windows.out, 1).astype(np.float32)
    return correction


def _declared_end(node: NodeView, axis: int, windows: Windows) -> int:
    """The padding behind that the model asks for, without what ceil_mode adds."""
    pads = node.ints("pads")
    if not pads:
        return windows.end[axis] if node.text("auto_pad", "NOTSET").startswith("SAME") else 0
    spatial, missing = len(pads) // 2, len(windows.kernel) - len(pads) // 2
    return 0 if axis < missing else pads[spatial + axis - missing]


def _global(builtin: str) -> LoweringRule:
    def lower(c: Lowering) -> None:
        x = c.x()
        c.emit(builtin, [x, c.ints(range(2, x.rank), "axes")], c.out(), keepDims=True)

    op = "GlobalAveragePool" if builtin == "MEAN" else "GlobalMaxPool"
    return LoweringRule(op, lower, (builtin,), (typed(FLOAT), known_rank()))


def _ceil_needs_sizes(node: NodeView) -> str | None:
    return static_space()(node) if node.integer("ceil_mode", 0) else None


def _border_needs_sizes(node: NodeView) -> str | None:
    return static_space()(node) if any(node.ints("pads")) else None


def _composed_needs_sizes(node: NodeView) -> str | None:
    is_composed = node.rank() == 5 or any(step != 1 for step in node.ints("dilations"))
    return static_space()(node) if is_composed else None


def _indices_need_sizes(node: NodeView) -> str | None:
    return static()(node) if node.has_output(1) else None


_COMMON = (
    typed(FLOAT),
    ranked(3, 5),
    same_pads_need_sizes,
    no_negative_pads,
    _ceil_needs_sizes,
    _composed_needs_sizes,
)
_COMPOSED = ("PAD", "STRIDED_SLICE", "RESHAPE", "TRANSPOSE")

RULES = (
    detoured(
        LoweringRule(
            "MaxPool",
            _max_pool,
            ("MAX_POOL_2D", "PADV2", "MAXIMUM", "CONCATENATION", "ARG_MAX", "GATHER", "ADD", *_COMPOSED),
            (*_COMMON, _indices_need_sizes),
            note="3-D and dilated ones axis by axis; indices from the position of the largest value.",
        ),
        dict.fromkeys(("int8", "uint8"), by_value("float32")),
    ),
    LoweringRule(
        "AveragePool",
        _average_pool,
        ("AVERAGE_POOL_2D", "MUL", "ADD", *_COMPOSED),
        (*_COMMON, _border_needs_sizes),
        note="Exact at the border for every combination of pads, ceil_mode and count_include_pad.",
    ),
    LoweringRule(
        "LpPool",
        _lp_pool,
        ("AVERAGE_POOL_2D", "ABS", "SQUARE", "POW", "SQRT", "MUL", "ADD", *_COMPOSED),
        _COMMON,
    ),
    _global("MEAN"),
    _global("REDUCE_MAX"),
    LoweringRule(
        "GlobalLpPool",
        _global_lp_pool,
        ("ABS", "SQUARE", "POW", "SUM", "SQRT"),
        (typed(FLOAT), known_rank()),
    ),
)
