"""Reductions along axes, running sums, and positions of extremes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgecc_tflite.importing.base import ImportRule
from edgecc_tflite.importing.context import Import


def reduction(builtin: str, op: str) -> ImportRule:
    """A reduction that ONNX has; its axes may be computed."""

    def emit(c: Import) -> None:
        c.give(reduced(c, op, c.x()))

    return ImportRule(builtin, emit, (op,))


def reduced(c: Import, op: str, x: str) -> str:
    """A reduction along the axes that input 1 names; none at all is a copy."""
    axes, keeps = c.value(1), int(bool(c.option("keepDims")))
    if axes is None:
        return c.add(op, [x, c.int64(1)], keepdims=keeps)
    if axes.size == 0 or c.rank() == 0:
        return x
    return c.add(op, [x, c.constant(c.axes(1, c.rank()), "axes")], keepdims=keeps)


def _logical(op: str) -> Callable[[Import], None]:
    """ONNX has none for truth values: the largest and smallest of zeros and ones."""

    def emit(c: Import) -> None:
        c.give(c.cast(reduced(c, op, c.cast(c.x(), np.int32)), np.bool_))

    return emit


def _extreme(op: str) -> Callable[[Import], None]:
    def emit(c: Import) -> None:
        axis = c.axis(int(c.known(1, "its axis").reshape(-1)[0]), c.rank())
        found = c.add(op, [c.x()], axis=axis, keepdims=0)
        c.give(found if c.out().dtype == np.int64 else c.cast(found, c.out().dtype))

    return emit


def _cumsum(c: Import) -> None:
    exclusive, reverse = int(bool(c.option("exclusive"))), int(bool(c.option("reverse")))
    axis = c.int64(1)
    axis = axis if c.rank(1) == 0 else c.reshape(axis, [])
    c.give(c.add("CumSum", [c.x(), axis], exclusive=exclusive, reverse=reverse))


def _l2_normalization(c: Import) -> None:
    """Along the last axis; the length is taken for at least a millionth."""
    x = c.x()
    length = c.add("ReduceL2", [x, c.constant([c.rank() - 1], "axes")], keepdims=1)
    c.give_active(c.add("Div", [x, c.add("Max", [length, c.scalar(1e-6)])]))


def _top_k(c: Import) -> None:
    count = c.reshape(c.int64(1), [1])
    values, positions = c.many("TopK", [c.x(), count], 2, axis=-1, largest=1, sorted=1)
    c.give(values)
    c.give(positions if c.out(1).dtype == np.int64 else c.cast(positions, c.out(1).dtype), 1)


_REDUCTIONS = {
    **{"MEAN": "ReduceMean", "SUM": "ReduceSum", "REDUCE_MAX": "ReduceMax", "REDUCE_MIN": "ReduceMin"},
    **{"REDUCE_PROD": "ReduceProd"},
}

RULES = (
    *(reduction(builtin, op) for builtin, op in _REDUCTIONS.items()),
    ImportRule("REDUCE_ANY", _logical("ReduceMax"), ("ReduceMax", "Cast")),
    ImportRule("REDUCE_ALL", _logical("ReduceMin"), ("ReduceMin", "Cast")),
    ImportRule("ARG_MAX", _extreme("ArgMax"), ("ArgMax", "Cast")),
    ImportRule("ARG_MIN", _extreme("ArgMin"), ("ArgMin", "Cast")),
    ImportRule("CUMSUM", _cumsum, ("CumSum",)),
    ImportRule("L2_NORMALIZATION", _l2_normalization, ("ReduceL2", "Max", "Div")),
    ImportRule("TOPK_V2", _top_k, ("TopK", "Cast")),
)
