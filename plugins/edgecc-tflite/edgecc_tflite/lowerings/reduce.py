"""Reductions over axes, and the positions of extremes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecc_tflite.ir import Tensor
from edgecc_tflite.lowerings.base import LoweringRule
from edgecc_tflite.lowerings.constraints import FLOAT, NUMERIC, constant, known_rank, typed

if TYPE_CHECKING:
    from edgecc_tflite.lowerings.context import Lowering
    from edgecc_tflite.lowerings.node_view import NodeView

#: Emits an elementwise step in front of (or behind) the reduction.
_Step = Callable[["Lowering", Tensor, "Tensor | None"], Tensor]


def axes_of(node: NodeView) -> tuple[int, ...]:
    """The reduced axes, ascending; all of them where the node names none."""
    axes = node.listed(1, "axes") or ()
    if not axes and not node.integer("noop_with_empty_axes", 0):
        return tuple(range(node.rank()))
    return tuple(sorted(a % node.rank() for a in axes))


def reduce_over(
    c: Lowering, builtin: str, x: Tensor, axes: tuple[int, ...], out: Tensor | None = None, *, keep: bool = True
) -> Tensor:
    """One reduction."""
    shape = tuple(1 if a in axes else d for a, d in enumerate(x.shape) if keep or a not in axes)
    return c.emit(builtin, [x, c.ints(axes, "axes")], out, shape=shape, keepDims=keep)


def _rule(
    op: str, builtin: str, before: _Step | None = None, after: _Step | None = None, emits: str = ""
) -> LoweringRule:
    def lower(c: Lowering) -> None:
        x = c.x() if before is None else before(c, c.x(), None)
        axes, keep = axes_of(c.node), bool(c.node.integer("keepdims", 1))
        if not axes:
            _finish(c, x, after)
        elif after is None:
            reduce_over(c, builtin, x, axes, c.out(), keep=keep)
        else:
            after(c, reduce_over(c, builtin, x, axes, keep=keep), c.out())

    types = FLOAT if before is not None or after is not None or builtin == "MEAN" else NUMERIC
    constraints = (typed(types), known_rank(), constant(1, "axes"))
    return LoweringRule(op, lower, (builtin, *emits.split()), constraints)


def _finish(c: Lowering, x: Tensor, after: _Step | None) -> None:
    """Nothing is reduced."""
    if after is None:
        c.copy(x, c.out())
    else:
        after(c, x, c.out())


def _square(c: Lowering, x: Tensor, out: Tensor | None) -> Tensor:
    return c.emit("SQUARE", [x], out)


def _abs(c: Lowering, x: Tensor, out: Tensor | None) -> Tensor:
    return c.emit("ABS", [x], out)


def _sqrt(c: Lowering, x: Tensor, out: Tensor | None) -> Tensor:
    return c.emit("SQRT", [x], out)


def _log(c: Lowering, x: Tensor, out: Tensor | None) -> Tensor:
    return c.emit("LOG", [x], out)


def _log_sum_exp(c: Lowering) -> None:
    """The largest value is taken out first, so that no exponential overflows."""
    x, axes, keep = c.x(), axes_of(c.node), bool(c.node.integer("keepdims", 1))
    if not axes:
        c.copy(x, c.out())
        return
    largest = reduce_over(c, "REDUCE_MAX", x, axes)
    total = reduce_over(c, "SUM", c.unary("EXP", c.binary("SUB", x, largest)), axes)
    result = c.binary("ADD", c.unary("LOG", total), largest, c.out() if keep else None)
    if not keep:
        c.reshape(result, c.out().shape, c.out())


def _arg(op: str, builtin: str) -> LoweringRule:
    def lower(c: Lowering) -> None:
        x, axis = c.x(), c.node.axis(0)
        keep = bool(c.node.integer("keepdims", 1))
        shape = tuple(d for a, d in enumerate(x.shape) if a != axis)
        out = None if keep else c.out()
        index = c.emit(builtin, [x, c.ints(axis, "axis")], out, shape=shape, dtype=np.dtype(np.int64), outputType=4)
        if keep:
            c.reshape(index, c.out().shape, c.out())

    constraints = (typed({"float32", "int32", "int8", "uint8"}), known_rank(), _first_index)
    return LoweringRule(op, lower, (builtin, "RESHAPE"), constraints)


def _first_index(node: NodeView) -> str | None:
    if node.integer("select_last_index", 0):
        return "select_last_index=1; TFLite finds the first of equal values"
    return None


def _cumsum(c: Lowering) -> None:
    axis = c.values(1)
    options: dict[str, Any] = {
        "exclusive": bool(c.node.integer("exclusive", 0)),
        "reverse": bool(c.node.integer("reverse", 0)),
    }
    c.emit("CUMSUM", [c.x(), c.ints(int(axis.reshape(())) % c.x().rank, "axis")], c.out(), **options)


RULES = (
    _rule("ReduceMean", "MEAN"),
    _rule("ReduceSum", "SUM"),
    _rule("ReduceMax", "REDUCE_MAX"),
    _rule("ReduceMin", "REDUCE_MIN"),
    _rule("ReduceProd", "REDUCE_PROD"),
    _rule("ReduceL1", "SUM", before=_abs, emits="ABS"),
    _rule("ReduceL2", "SUM", before=_square, after=_sqrt, emits="SQUARE SQRT"),
    _rule("ReduceSumSquare", "SUM", before=_square, emits="SQUARE"),
    _rule("ReduceLogSum", "SUM", after=_log, emits="LOG"),
    LoweringRule(
        "ReduceLogSumExp",
        _log_sum_exp,
        ("REDUCE_MAX", "SUB", "EXP", "SUM", "LOG", "ADD", "RESHAPE"),
        (typed(FLOAT), known_rank(), constant(1, "axes")),
    ),
    _arg("ArgMax", "ARG_MAX"),
    _arg("ArgMin", "ARG_MIN"),
    LoweringRule("CumSum", _cumsum, ("CUMSUM",), (typed(NUMERIC), known_rank(), constant(1, "axis"))),
)
