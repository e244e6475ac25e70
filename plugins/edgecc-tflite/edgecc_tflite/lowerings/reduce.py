"""Reductions over axes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecc_tflite.ir import Tensor
from edgecc_tflite.lowerings.base import LoweringRule
from edgecc_tflite.lowerings.constraints import FLOAT, NUMERIC, OPEN_NUMBER, known_rank, typed
from edgecc_tflite.lowerings.detours import DOUBLE, detoured

if TYPE_CHECKING:
    from edgecc_tflite.lowerings.context import Lowering
    from edgecc_tflite.lowerings.node_view import NodeView

#: Emits an elementwise step in front of (or behind) the reduction.
_Step = Callable[["Lowering", Tensor, "Tensor | None"], Tensor]

#: The largest float32.
_LARGEST = float(np.finfo(np.float32).max)


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


def _axes(c: Lowering) -> Tensor:
    """The reduced axes, which may be computed at run time."""
    if c.node.has(1) and c.node.value(1) is None:
        return c.cast(c.x(1), np.int32)
    return c.ints(axes_of(c.node), "axes")


def _reduce(c: Lowering, builtin: str, x: Tensor, out: Tensor | None = None, *, keep: bool | None = None) -> Tensor:
    """The node's reduction."""
    keep = bool(c.node.integer("keepdims", 1)) if keep is None else keep
    if not c.node.has(1) or c.node.value(1) is not None:
        return reduce_over(c, builtin, x, axes_of(c.node), out, keep=keep)
    shape = (-1,) * x.rank if keep else c.out().shape
    return c.emit(builtin, [x, _axes(c)], out, shape=shape, keepDims=keep)


def _reduces_nothing(node: NodeView) -> bool:
    return (not node.has(1) or node.value(1) is not None) and not axes_of(node)


def _rule(
    op: str, builtin: str, before: _Step | None = None, after: _Step | None = None, emits: str = "", bools: str = ""
) -> LoweringRule:
    """A reduction with a step in front of or behind it; `bools` is the operator that does it for logic values."""

    def lower(c: Lowering) -> None:
        if _define_empty(c, op):
            return
        x = c.x() if before is None else before(c, c.x(), None)
        chosen = bools if x.dtype == np.bool_ else builtin
        if _reduces_nothing(c.node):
            _finish(c, x, after)
        elif after is None:
            _reduce(c, chosen, x, c.out())
        else:
            after(c, _reduce(c, chosen, x), c.out())

    types = FLOAT if before is not None or after is not None or builtin == "MEAN" else NUMERIC
    constraints = (typed(types | ({"bool"} if bools else set())), known_rank(), _some_axes)
    return LoweringRule(op, lower, (builtin, *bools.split(), *emits.split()), constraints, takes_empty=True)


def _finish(c: Lowering, x: Tensor, after: _Step | None) -> None:
    """Nothing is reduced."""
    if after is None:
        c.copy(x, c.out())
    else:
        after(c, x, c.out())


def _some_axes(node: NodeView) -> str | None:
    """No axes mean all of them or none, so that their number must be known."""
    if not node.has(1) or node.value(1) is not None or node.shape(1) not in (None, (-1,)):
        return None
    return f"input {node.input(1).name!r} names an {OPEN_NUMBER} of axes"


def _define_empty(c: Lowering, op: str) -> bool:
    """What a reduction over no elements gives is known now."""
    if 0 not in c.x().shape or -1 in c.out().shape:
        return False
    c.define(0, np.full(c.out().shape, _of_nothing(op, c.x().dtype), c.x().dtype))
    return True


def _of_nothing(op: str, dtype: np.dtype[Any]) -> float | bool:
    if op in ("ReduceMax", "ReduceMin"):
        if dtype == np.bool_:
            return op == "ReduceMin"
        ends = (-np.inf, np.inf) if dtype.kind == "f" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
        return ends[op == "ReduceMin"]
    return {"ReduceProd": 1.0, "ReduceLogSum": -np.inf, "ReduceLogSumExp": -np.inf, "ReduceMean": np.nan}.get(op, 0.0)


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
    x = c.x()
    if _define_empty(c, "ReduceLogSumExp"):
        return
    if _reduces_nothing(c.node):
        c.copy(x, c.out())
        return
    largest = _reduce(c, "REDUCE_MAX", x, keep=True)
    # An infinite one would be taken from itself.
    bounded = c.binary("MAXIMUM", c.binary("MINIMUM", largest, c.scalar(_LARGEST)), c.scalar(-_LARGEST))
    total = _reduce(c, "SUM", c.unary("EXP", c.binary("SUB", x, bounded)))
    addend = bounded if c.node.integer("keepdims", 1) else _reduce(c, "REDUCE_MAX", bounded)
    c.binary("ADD", c.unary("LOG", total), addend, c.out())


RULES = (
    _rule("ReduceMean", "MEAN"),
    _rule("ReduceSum", "SUM"),
    _rule("ReduceMax", "REDUCE_MAX", bools="REDUCE_ANY"),
    _rule("ReduceMin", "REDUCE_MIN", bools="REDUCE_ALL"),
    _rule("ReduceProd", "REDUCE_PROD"),
    _rule("ReduceL1", "SUM", before=_abs, emits="ABS"),
    _rule("ReduceL2", "SUM", before=_square, after=_sqrt, emits="SQUARE SQRT"),
    _rule("ReduceSumSquare", "SUM", before=_square, emits="SQUARE"),
    _rule("ReduceLogSum", "SUM", after=_log, emits="LOG"),
    detoured(
        LoweringRule(
            "ReduceLogSumExp",
            _log_sum_exp,
            ("REDUCE_MAX", "MINIMUM", "MAXIMUM", "SUB", "EXP", "SUM", "LOG", "ADD"),
            (typed(FLOAT), known_rank(), _some_axes),
            takes_empty=True,
        ),
        DOUBLE,
    ),
)
