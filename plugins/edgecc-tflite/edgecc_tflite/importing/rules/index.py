"""Elements chosen by computed positions, and values written to them."""

from __future__ import annotations

import math

import numpy as np

from edgecc_tflite.importing.base import ImportRule, Refusal
from edgecc_tflite.importing.context import Import


def _gather(c: Import) -> None:
    """With batch axes, positions in the flattened batch."""
    batch, axis = int(c.option("batchDims")), c.axis(int(c.option("axis")), c.rank())
    batch = batch if batch >= 0 else c.rank(1) + batch
    if batch == 0:
        c.give(c.add("Gather", [c.x(), c.stored(1)], axis=axis))
        return
    shape, indices = c.shape(), c.shape(1)
    if not 0 < batch <= min(axis, len(indices)) or -1 in (*shape, *indices):
        raise Refusal(f"it gathers from {list(shape)} by {list(indices)} with {batch} batch axes")
    perm = [*range(batch), axis, *(a for a in range(batch, len(shape)) if a != axis)]
    rest = [shape[a] for a in perm[batch + 1 :]]
    count, size = math.prod(shape[:batch]), shape[axis]
    flat = c.reshape(c.transpose(c.x(), perm), [count * size, *rest])
    starts = (c.positions(count) * size).reshape(*shape[:batch], *[1] * (len(indices) - batch))
    taken = c.add("Gather", [flat, c.add("Add", [c.int64(1), c.constant(starts, "starts")])], axis=0)
    # Behind the indices stand the axes in front of the gathered one, then those behind it.
    middle, inner = axis - batch, len(indices) - batch
    order = [*range(batch), *range(batch + inner, batch + inner + middle), *range(batch, batch + inner)]
    order += list(range(batch + inner + middle, batch + inner + len(rest)))
    c.give(c.transpose(taken, order))


def _gather_nd(c: Import) -> None:
    c.give(c.add("GatherND", [c.x(), c.int64(1)]))


def _embedding_lookup(c: Import) -> None:
    c.give(c.add("Gather", [c.x(1), c.stored(0)], axis=0))


def _scatter_nd(c: Import) -> None:
    """Into zeros; values for one place are added up."""
    zeros = c.add("Expand", [c.scalar(0, c.real_type(1)), c.int64(2)])
    c.give(c.add("ScatterND", [zeros, c.int64(0), c.x(1)], reduction="add"))


def _sparse_to_dense(c: Import) -> None:
    """Values at listed places of a tensor that holds one value elsewhere."""
    places, rank = c.int64(0), c.rank(0)
    if rank < 2:
        # A list of places in one dimension, or one place in one dimension.
        places = c.reshape(places, [-1, 1])
    blank = c.add("Expand", [c.x(3), c.int64(1)])
    values = c.x(2)
    if c.rank(2) == 0:
        count = c.add("Shape", [places], start=0, end=1)
        values = c.add("Expand", [values, count])
    c.give(c.add("ScatterND", [blank, places, values]))


def _where(c: Import) -> None:
    """One row for each place that holds something."""
    places = c.add("Transpose", [c.add("NonZero", [c.x()])], perm=[1, 0])
    c.give(places if c.out().dtype == np.int64 else c.cast(places, c.out().dtype))


def _unique(c: Import) -> None:
    dtype = c.real_type()
    is_known = dtype in (np.dtype(np.float32), np.dtype(np.int64), np.dtype(np.int8))
    values, _, where, _ = c.many("Unique", [c.x() if is_known else c.cast(c.x(), np.int64)], 4, sorted=0)
    c.give(values if is_known else c.cast(values, dtype))
    c.give(where if c.out(1).dtype == np.int64 else c.cast(where, c.out(1).dtype), 1)


def _segments(reduction: str) -> ImportRule:
    """Slices along the first axes by number of their segment; negative numbers belong to none."""

    def emit(c: Import) -> None:
        dtype, ids = c.real_type(), c.int64(1)
        count = c.reshape(c.int64(2), [1])
        inner = _inner_sizes(c)
        nothing = c.scalar(_NEUTRAL[reduction](dtype), dtype)
        # One segment more takes what belongs to none.
        more = c.add("Add", [count, c.constant([1], "one")])
        whole = c.add("Concat", [more, inner], axis=0)
        valid = c.add("GreaterOrEqual", [ids, c.scalar(0, np.int64)])
        ids = c.add("Where", [valid, ids, c.reshape(count, [])])
        places = c.add("Unsqueeze", [ids, c.constant([c.rank(1)], "last")])
        filled = c.add("Expand", [nothing, whole])
        found = c.add("ScatterND", [filled, places, c.x(0)], reduction=_REDUCTIONS[reduction])
        zero, one = c.constant([0], "zero"), c.constant([0], "axis")
        c.give(c.add("Slice", [found, zero, count, one]))

    return ImportRule(f"UNSORTED_SEGMENT_{reduction}", emit, _SEGMENTS)


def _inner_sizes(c: Import) -> str:
    return c.add("Shape", [c.x(0)], start=c.rank(1))


def _segment_sum(c: Import) -> None:
    """As many segments as the last number, the highest, says."""
    ids = c.int64(1)
    last = c.add("ReduceMax", [ids], keepdims=1)
    count = c.add("Add", [last, c.constant([1], "one")])
    zeros = c.add("Expand", [c.scalar(0), c.add("Concat", [count, _inner_sizes(c)], axis=0)])
    places = c.add("Unsqueeze", [ids, c.constant([1], "last")])
    c.give(c.add("ScatterND", [zeros, places, c.x(0)], reduction="add"))


def _lowest(dtype: np.dtype) -> float:
    return float(np.finfo(dtype).min) if dtype.kind == "f" else int(np.iinfo(dtype).min)


def _highest(dtype: np.dtype) -> float:
    return float(np.finfo(dtype).max) if dtype.kind == "f" else int(np.iinfo(dtype).max)


_REDUCTIONS = {"SUM": "add", "PROD": "mul", "MAX": "max", "MIN": "min"}
_NEUTRAL = {"SUM": lambda _: 0, "PROD": lambda _: 1, "MAX": _lowest, "MIN": _highest}
_SEGMENTS = ("ScatterND", "Where", "GreaterOrEqual", "Expand", "Concat", "Add", "Shape", "Unsqueeze", "Slice")


def _bucketize(c: Import) -> None:
    """How many boundaries are not above the value."""
    boundaries = c.operator.options.get("boundaries")
    if boundaries is None or isinstance(boundaries, int):
        raise Refusal("it has no boundaries")
    dtype = c.real_type()
    limits = c.constant(np.asarray(boundaries).astype(np.float32), "boundaries")
    x = c.x() if dtype == np.float32 else c.cast(c.x(), np.float32)
    spread = c.add("Unsqueeze", [x, c.constant([c.rank()], "last")])
    reached = c.cast(c.add("GreaterOrEqual", [spread, limits]), np.int32)
    c.give(c.add("ReduceSum", [reached, c.constant([c.rank()], "last")], keepdims=0))


def _matrix_diag(c: Import) -> None:
    """Each vector becomes the diagonal of a square matrix."""
    size = c.shape()[-1] if c.rank() else -1
    if size < 0:
        raise Refusal("its size is open")
    c.positions(size * size)
    square = c.add("Unsqueeze", [c.x(), c.constant([c.rank() - 1], "axis")])
    c.give(c.add("Where", [c.constant(np.eye(size, dtype=bool), "diagonal"), square, c.scalar(0)]))


def _matrix_set_diag(c: Import) -> None:
    rows, columns = c.shape()[-2:] if c.rank() > 1 else (-1, -1)
    if min(rows, columns) < 0:
        raise Refusal("its size is open")
    c.positions(rows * columns)
    mask = c.constant(np.eye(rows, columns, dtype=bool), "diagonal")
    diagonal = c.x(1)
    if columns > rows:
        pads = [0] * (2 * c.rank(1) - 1) + [columns - rows]
        diagonal = c.add("Pad", [diagonal, c.constant(pads, "pads")])
    # Each row repeats the diagonal's values by column.
    spread = c.add("Unsqueeze", [diagonal, c.constant([c.rank(1) - 1], "axis")])
    c.give(c.add("Where", [mask, spread, c.x(0)]))


RULES = (
    ImportRule("GATHER", _gather, ("Gather", "Transpose", "Reshape", "Add")),
    ImportRule("GATHER_ND", _gather_nd, ("GatherND",)),
    ImportRule("EMBEDDING_LOOKUP", _embedding_lookup, ("Gather",)),
    ImportRule("SCATTER_ND", _scatter_nd, ("ScatterND", "Expand")),
    ImportRule("SPARSE_TO_DENSE", _sparse_to_dense, ("ScatterND", "Expand", "Reshape", "Shape")),
    ImportRule("WHERE", _where, ("NonZero", "Transpose", "Cast")),
    ImportRule("UNIQUE", _unique, ("Unique", "Cast")),
    *(_segments(reduction) for reduction in _REDUCTIONS),
    ImportRule(
        "SEGMENT_SUM", _segment_sum, ("ScatterND", "ReduceMax", "Add", "Expand", "Concat", "Shape", "Unsqueeze")
    ),
    ImportRule("BUCKETIZE", _bucketize, ("Unsqueeze", "GreaterOrEqual", "Cast", "ReduceSum")),
    ImportRule("MATRIX_DIAG", _matrix_diag, ("Unsqueeze", "Where")),
    ImportRule("MATRIX_SET_DIAG", _matrix_set_diag, ("Pad", "Unsqueeze", "Where")),
)
