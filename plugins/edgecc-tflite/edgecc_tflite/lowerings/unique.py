"""Unique: which values, or which slices along an axis, are there at all."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import numpy as np

from edgecc_tflite.ir import Tensor
from edgecc_tflite.lowerings.base import LoweringRule
from edgecc_tflite.lowerings.constraints import OPEN_DIMENSION, known_rank, typed
from edgecc_tflite.lowerings.detours import detoured
from edgecc_tflite.lowerings.ranking import ANY_NUMBER, RANKED, backwards

if TYPE_CHECKING:
    from edgecc_tflite.lowerings.context import Lowering
    from edgecc_tflite.lowerings.node_view import NodeView

_INT32, _FLOAT32 = np.dtype(np.int32), np.dtype(np.float32)
#: Slices are compared with each other in all their elements at once.
_MOST_COMPARISONS = 1 << 24


def _unique(c: Lowering) -> None:
    """UNIQUE keeps the order of appearance; sorting is TOPK_V2 of all of them. Slices are told apart by their ranks."""
    x, axis = c.x(), _axis_of_slices(c.node)
    count = prod(x.shape) if axis is None else x.shape[axis]
    keys = c.reshape(x, (count,)) if axis is None else _ranks(c, axis)
    values, inverse = c.temporary((-1,), keys.dtype, "unique"), c.temporary((count,), _INT32, "inverse")
    c.emit_many("UNIQUE", [keys], [values, inverse], idxOutType=2)
    number = c.emit("SHAPE", [values], shape=(1,), dtype=_INT32, outType=2)
    if c.node.integer("sorted", 1):
        values, inverse = _ascending(c, values, inverse, number)
    if axis is None:
        c.reshape(values, (-1,), c.out(0))
    if axis is not None or c.node.has_output(1):
        # The first place of each value: the least place among its own.
        places = c.constant(np.arange(count, dtype=np.int32), "places")
        size = c.reshape(number, ())
        first = c.emit("UNSORTED_SEGMENT_MIN", [places, inverse, size], shape=(-1,), dtype=_INT32)
        if axis is not None:
            c.emit("GATHER", [x, first], c.out(0), axis=axis)
        if c.node.has_output(1):
            c.cast(first, np.int64, c.out(1))
    if c.node.has_output(2):
        c.cast(inverse, np.int64, c.out(2))
    if c.node.has_output(3):
        ones = c.constant(np.ones(count, np.int32), "ones")
        total = c.emit("UNSORTED_SEGMENT_SUM", [ones, inverse, c.reshape(number, ())], shape=(-1,), dtype=_INT32)
        c.cast(total, np.int64, c.out(3))


def _ranks(c: Lowering, axis: int) -> Tensor:
    """How many slices come before each one, in the order of their first elements that differ: equal ones share it."""
    x = c.x()
    count = x.shape[axis]
    perm = [axis, *(a for a in range(x.rank) if a != axis)]
    rows = c.reshape(c.transpose(x, perm), (count, prod(x.shape) // count))
    if rows.dtype.itemsize < 4:
        # Small integers are compared by the scale that they stand for, and have none.
        rows = c.cast(rows, np.int32)
    left, right = c.reshape(rows, (count, 1, rows.shape[1])), c.reshape(rows, (1, *rows.shape))
    signs = [c.cast(c.binary("LESS", *pair, dtype=bool), np.float32) for pair in ((left, right), (right, left))]
    difference = c.binary("SUB", *signs)
    passed = c.emit("CUMSUM", [c.unary("ABS", difference), c.ints(2, "axis")], exclusive=True, reverse=False)
    is_first = c.cast(c.binary("EQUAL", passed, c.scalar(0.0, _FLOAT32), dtype=bool), np.float32)
    deciding = c.binary("MUL", difference, is_first)
    order = c.emit("SUM", [deciding, c.ints([2], "axes")], shape=(count, count), keepDims=False)
    before = c.unary("RELU", order)
    ranks = c.emit("SUM", [before, c.ints([0], "axes")], shape=(count,), keepDims=False)
    return c.cast(ranks, np.int32)


def _ascending(c: Lowering, values: Tensor, inverse: Tensor, number: Tensor) -> tuple[Tensor, Tensor]:
    """The values in order, and where each input's value is now."""
    count = c.reshape(number, ())
    ordered, order = c.temporary((-1,), values.dtype, "sorted"), c.temporary((-1,), _INT32, "order")
    c.emit_many("TOPK_V2", [backwards(c, values), count], [ordered, order])
    ranks = c.emit("RANGE", [c.ints(0), count, c.ints(1)], shape=(-1,), dtype=_INT32)
    # The place of old number `order[i]` is i.
    new = c.emit("SCATTER_ND", [c.reshape(order, (-1, 1)), ranks, number], shape=(-1,), dtype=_INT32)
    moved = c.emit("GATHER", [new, inverse], shape=inverse.shape, dtype=_INT32, axis=0)
    return backwards(c, ordered), moved


def _axis_of_slices(node: NodeView) -> int | None:
    """The axis of which slices are compared; None where single values are."""
    return None if node.attribute("axis") is None or node.rank() == 1 else node.axis(0)


def _fixed_size(node: NodeView) -> str | None:
    shape = node.shape()
    if shape is not None and -1 in shape:
        return f"an {OPEN_DIMENSION} of input {node.input(0).name!r}"
    axis = None if shape is None else _axis_of_slices(node)
    if axis is None or shape is None or shape[axis] * prod(shape) <= _MOST_COMPARISONS:
        return None
    return f"{shape[axis]} slices of {prod(shape) // shape[axis]} elements, which are too many to compare each with all"


RULES = (
    detoured(
        LoweringRule(
            "Unique",
            _unique,
            (
                *("UNIQUE", "TOPK_V2", "SHAPE", "RANGE", "SCATTER_ND", "GATHER", "UNSORTED_SEGMENT_MIN", "CAST"),
                *("LESS", "EQUAL", "SUB", "ABS", "CUMSUM", "MUL", "SUM", "RELU"),
            ),
            (typed(RANKED), known_rank(), _fixed_size),
            since=11,
        ),
        ANY_NUMBER,
    ),
)
