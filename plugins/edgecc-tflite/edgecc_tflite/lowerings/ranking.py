"""Order and position: the largest values, and where they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgecc_tflite.ir import Tensor
from edgecc_tflite.lowerings.base import LoweringRule
from edgecc_tflite.lowerings.constraints import ANY_TYPE, FLOAT, NUMERIC, OPEN_DIMENSION, known_rank, typed
from edgecc_tflite.lowerings.detours import BY_ORDER, DOUBLE, HALF, MODULAR_INTS, MOVED, SMALL_INTS, detoured
from edgecc_tflite.lowerings.shape import sizes_of

if TYPE_CHECKING:
    from edgecc_tflite.lowerings.context import Lowering
    from edgecc_tflite.lowerings.node_view import NodeView

_INT32, _INT64 = np.dtype(np.int32), np.dtype(np.int64)
#: Types that are compared as they are.
RANKED = frozenset({"float32", "int8", "int16", "int32", "int64", "uint8"})


def swapped_with_last(rank: int, axis: int) -> tuple[int, ...]:
    """A permutation that is its own inverse."""
    perm = list(range(rank))
    perm[axis], perm[-1] = perm[-1], perm[axis]
    return tuple(perm)


def backwards(c: Lowering, x: Tensor) -> Tensor:
    """Values in the opposite order: those of integers without overflow."""
    return c.unary("NEG", x) if x.dtype.kind == "f" else c.binary("SUB", c.scalar(-1, x.dtype), x)


def _top_k(c: Lowering) -> None:
    """TOPK_V2 looks along the last axis for the largest, and the first of equal ones comes first, as in ONNX."""
    axis, largest = c.node.axis(-1), bool(c.node.integer("largest", 1))
    perm = swapped_with_last(c.x().rank, axis)
    x = c.transpose(c.x(), perm)
    x = x if largest else backwards(c, x)
    k = c.node.value(1)
    count = c.ints(int(k.item())) if k is not None else c.cast(c.reshape(c.x(1), ()), np.int32)
    shape = (*x.shape[:-1], -1 if k is None else int(k.item()))
    values, indices = c.temporary(shape, x.dtype, "values"), c.temporary(shape, _INT32, "indices")
    c.emit_many("TOPK_V2", [x, count], [values, indices])
    if c.node.has_output(0):
        c.transpose(values if largest else backwards(c, values), perm, c.out(0))
    if c.node.has_output(1):
        c.cast(c.transpose(indices, perm), np.int64, c.out(1))


def _arg(op: str, builtin: str) -> LoweringRule:
    """The first of equal values, or the last one, which is the first from behind."""

    def lower(c: Lowering) -> None:
        x, axis = c.x(), c.node.axis(0)
        keep, last = bool(c.node.integer("keepdims", 1)), bool(c.node.integer("select_last_index", 0))
        if x.dtype == np.int64:
            _arg_by_comparing(c, builtin, x, axis, keep=keep, last=last)
            return
        shape = tuple(d for a, d in enumerate(x.shape) if a != axis)
        if last:
            x = c.emit("REVERSE_V2", [x, c.ints([axis], "axis")])
        direct = None if keep or last else c.out()
        index = c.emit(builtin, [x, c.ints(axis, "axis")], direct, shape=shape, dtype=_INT64, outputType=4)
        if last:
            index = c.binary("SUB", _last_place(c, x, axis), index, None if keep else c.out())
        if keep:
            c.reshape(index, c.out().shape, c.out())

    emits = (builtin, "REVERSE_V2", "SUB", "RESHAPE", "REDUCE_MAX", "REDUCE_MIN", "EQUAL", "SELECT_V2")
    types = typed({"float32", "int32", "int8", "uint8", "int64"})
    detours = SMALL_INTS | {"uint64": BY_ORDER}
    return detoured(LoweringRule(op, lower, emits, (types, known_rank(), _known_if_compared)), detours)


def _last_place(c: Lowering, x: Tensor, axis: int) -> Tensor:
    """Size of the axis less 1, int64."""
    if x.shape[axis] >= 0:
        return c.constant(np.array(x.shape[axis] - 1, np.int64), "last")
    size = c.emit("GATHER", [sizes_of(c, x), c.ints(axis)], shape=(), dtype=_INT32, axis=0)
    return c.binary("SUB", c.cast(size, np.int64), c.scalar(1, _INT64))


def _arg_by_comparing(c: Lowering, builtin: str, x: Tensor, axis: int, *, keep: bool, last: bool) -> None:
    """The least (or largest) place among those that hold the extreme; ARG_MAX and ARG_MIN have no int64."""
    kept = tuple(1 if a == axis else d for a, d in enumerate(x.shape))
    extreme = "REDUCE_MAX" if builtin == "ARG_MAX" else "REDUCE_MIN"
    best = c.emit(extreme, [x, c.ints([axis], "axes")], shape=kept, keepDims=True)
    here = c.binary("EQUAL", x, best, dtype=np.bool_)
    size = x.shape[axis]
    places = np.arange(size).reshape([size if a == axis else 1 for a in range(x.rank)])
    elsewhere = c.scalar(-1 if last else size, _INT64)
    found = c.emit("SELECT_V2", [here, c.constant(places, "places"), elsewhere], shape=x.shape, dtype=_INT64)
    c.emit("REDUCE_MAX" if last else "REDUCE_MIN", [found, c.ints([axis], "axes")], c.out(), keepDims=keep)


def _known_if_compared(node: NodeView) -> str | None:
    shape = node.shape()
    if node.dtype().name != "int64" or shape is None or shape[node.axis(0)] >= 0:
        return None
    return f"the extreme of int64 along an {OPEN_DIMENSION}"


def _hardmax(c: Lowering) -> None:
    """1 at the first of the largest values."""
    x, axis = c.x(), c.node.axis(-1)
    perm = swapped_with_last(x.rank, axis)
    moved = c.transpose(x, perm)
    index = c.emit("ARG_MAX", [moved, c.ints(x.rank - 1, "axis")], shape=moved.shape[:-1], dtype=_INT32, outputType=2)
    depth = c.ints(x.shape[axis], "depth")
    hot = [index, depth, c.scalar(1.0, x.dtype), c.scalar(0.0, x.dtype)]
    c.transpose(c.emit("ONE_HOT", hot, shape=moved.shape, dtype=x.dtype, axis=-1), perm, c.out())


def _known_axis(node: NodeView) -> str | None:
    shape = node.shape()
    if shape is None or shape[node.axis(-1)] >= 0:
        return None
    return f"an {OPEN_DIMENSION} along the axis"


def _one_hot(c: Lowering) -> None:
    """A negative index counts from the end; ONE_HOT leaves out those beyond."""
    depth, values = c.cast(c.reshape(c.x(1), ()), np.int32), c.x(2)
    indices = c.cast(_within_int32(c, c.x(0)), np.int32)
    negative = c.binary("LESS", indices, c.ints(0), dtype=np.bool_)
    wrapped = c.emit("SELECT_V2", [negative, c.binary("ADD", indices, depth), indices], shape=indices.shape)
    wrapped.dtype = _INT32
    off, on = (c.emit("GATHER", [values, c.ints(i)], shape=(), axis=0) for i in (0, 1))
    rank = indices.rank + 1
    axis = c.node.integer("axis", -1)
    c.emit("ONE_HOT", [wrapped, depth, on, off], c.out(), axis=-1 if axis % rank == rank - 1 else axis % rank)


def _within_int32(c: Lowering, indices: Tensor) -> Tensor:
    """Here an index may be anything: beyond 32 bits it stays beyond every depth, instead of becoming another one."""
    if indices.dtype != _INT64 or indices.data is not None:
        return indices
    limits = np.iinfo(np.int32)
    bounded = c.binary("MINIMUM", indices, c.scalar(limits.max, _INT64))
    return c.binary("MAXIMUM", bounded, c.scalar(limits.min, _INT64))


def _non_zero(c: Lowering) -> None:
    """One column per value that is not 0, in order."""
    where = c.emit("WHERE", [c.x()], shape=(-1, c.x().rank), dtype=_INT64)
    c.transpose(where, (1, 0), c.out())


def _compress(c: Lowering) -> None:
    """Those for which the condition holds; it may be shorter than the axis."""
    x, condition = c.x(0), c.x(1)
    if c.node.attribute("axis") is None:
        x, axis = c.reshape(x, (-1,) if -1 in x.shape else (int(np.prod(x.shape)),)), 0
    else:
        axis = c.node.axis(0)
    where = c.emit("WHERE", [condition], shape=(-1, 1), dtype=_INT64)
    c.emit("GATHER", [x, c.reshape(where, (-1,))], c.out(), axis=axis)


def _cumsum(c: Lowering) -> None:
    """CUMSUM reads the axis when it runs."""
    axis = c.cast(c.reshape(c.x(1), ()), np.int32)
    exclusive, reverse = (bool(c.node.integer(name, 0)) for name in ("exclusive", "reverse"))
    c.emit("CUMSUM", [c.x(), axis], c.out(), exclusive=exclusive, reverse=reverse)


#: What CAST turns into int32.
_COUNTABLE = ANY_TYPE - {"bool"}
ANY_NUMBER = {**SMALL_INTS, **HALF, "uint64": BY_ORDER}

RULES = (
    detoured(
        LoweringRule(
            "TopK",
            _top_k,
            ("TOPK_V2", "TRANSPOSE", "NEG", "SUB", "CAST"),
            (typed(RANKED), known_rank()),
            since=11,
        ),
        ANY_NUMBER,
    ),
    _arg("ArgMax", "ARG_MAX"),
    _arg("ArgMin", "ARG_MIN"),
    LoweringRule(
        "Hardmax", _hardmax, ("ARG_MAX", "ONE_HOT", "TRANSPOSE"), (typed(FLOAT), known_rank(), _known_axis), since=13
    ),
    detoured(
        LoweringRule(
            "OneHot",
            _one_hot,
            ("ONE_HOT", "GATHER", "LESS", "ADD", "SELECT_V2", "CAST", "MINIMUM", "MAXIMUM"),
            (
                typed({"float32", "int8", "int32", "int64", "uint8", "bool"}, 2),
                typed(_COUNTABLE),
                typed(_COUNTABLE, 1),
                known_rank(),
            ),
            since=9,
        ),
        MODULAR_INTS,
    ),
    detoured(
        LoweringRule(
            "NonZero",
            _non_zero,
            ("WHERE", "TRANSPOSE"),
            (typed({"float32", "int8", "int32", "int64", "uint8", "uint32", "bool"}), known_rank()),
            since=9,
        ),
        SMALL_INTS,
    ),
    detoured(
        LoweringRule(
            "Compress",
            _compress,
            ("WHERE", "RESHAPE", "GATHER"),
            (typed({"float32", "float16", "int8", "int16", "int32", "int64", "uint8", "bool"}), known_rank()),
            since=9,
        ),
        MOVED,
    ),
    detoured(
        LoweringRule(
            "CumSum",
            _cumsum,
            ("CUMSUM", "CAST"),
            (typed(NUMERIC), known_rank()),
            since=11,
            note="float64 is summed in float32.",
        ),
        DOUBLE,
    ),
)
