"""Slices, by bounds that are constant or computed at run time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgecc_tflite.ir import Tensor
from edgecc_tflite.lowerings.base import LoweringRule
from edgecc_tflite.lowerings.constraints import ANY_TYPE, OPEN_NUMBER, known_rank, typed

if TYPE_CHECKING:
    from edgecc_tflite.lowerings.context import Lowering
    from edgecc_tflite.lowerings.node_view import NodeView

_ENDLESS = 2**31 - 1


def _slice(c: Lowering) -> None:
    """SLICE for steps of 1 over known sizes, which more kernels take; otherwise STRIDED_SLICE."""
    x = c.x()
    if _is_late(c.node):
        begin_end_step = [_per_axis(c, index, default) for index, default in ((1, 0), (2, _ENDLESS), (4, 1))]
        c.emit("STRIDED_SLICE", [x, *begin_end_step], c.out(), beginMask=0, endMask=0)
        return
    chosen = _slices(c.node, x.rank)
    whole_or_known = (d >= 0 or s == slice(None) for s, d in zip(chosen, x.shape, strict=True))
    if all(s.step in (None, 1) for s in chosen) and all(whole_or_known):
        bounds = [(0, -1) if d < 0 else s.indices(d)[:2] for s, d in zip(chosen, x.shape, strict=True)]
        begin = [b for b, _ in bounds]
        size = [-1 if e < 0 else max(e - b, 0) for b, e in bounds]
        c.emit("SLICE", [x, c.ints(begin, "begin"), c.ints(size, "size")], c.out())
        return
    begin, end, strides, begin_mask, end_mask = [], [], [], 0, 0
    for axis, (part, dim) in enumerate(zip(chosen, x.shape, strict=True)):
        first, last, step = _ends(part, dim)
        begin_mask |= (first is None) << axis
        end_mask |= (last is None) << axis
        begin.append(first or 0)
        end.append(last or 0)
        strides.append(step)
    bounds_and_steps = [c.ints(begin, "begin"), c.ints(end, "end"), c.ints(strides, "strides")]
    c.emit("STRIDED_SLICE", [x, *bounds_and_steps], c.out(), beginMask=begin_mask, endMask=end_mask)


def _ends(part: slice, dim: int) -> tuple[int | None, int | None, int]:
    """Begin, end and step of one axis; None means "from the first" or "to the last"."""
    step = part.step or 1
    if dim < 0:
        start, stop = part.start, part.stop
        start = None if start is not None and abs(start) >= _ENDLESS else start
        stop = None if stop is not None and abs(stop) >= _ENDLESS else stop
        return start, stop, step
    first, last, _ = part.indices(dim)
    return first, None if step < 0 and last < 0 else last, step


def _slices(node: NodeView, rank: int) -> list[slice]:
    """What the node takes of each axis."""
    starts, ends = node.listed(1, "starts") or (), node.listed(2, "ends") or ()
    axes = node.listed(3, "axes") or tuple(range(len(starts)))
    steps = node.listed(4, "steps") or (1,) * len(starts)
    chosen = [slice(None)] * rank
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        begins_at_first, takes_all = start == 0, end >= _ENDLESS and step > 0
        if not (begins_at_first and takes_all and step == 1):
            chosen[axis % rank] = slice(start, None if takes_all else end, step)
    return chosen


def _is_late(node: NodeView) -> bool:
    return any(node.has(index) and node.value(index) is None for index in (1, 2, 3, 4))


def _per_axis(c: Lowering, index: int, default: int) -> Tensor:
    """What an input says of each axis of x, as a vector; the default for axes that it does not name."""
    rank, shape = c.x().rank, c.node.shape(1)
    assert shape is not None
    count = shape[0]
    values = as_index(c, c.x(index)) if c.node.has(index) else c.ints([default] * count)
    if c.node.has(3) and c.node.value(3) is None:
        places = c.reshape(c.binary("FLOOR_MOD", as_index(c, c.x(3)), c.ints([rank])), (count, 1))
        given = _scattered(c, places, values, rank)
        if not default:
            return given
        named = _scattered(c, places, c.ints([1] * count), rank)
        missing = c.binary("MUL", c.binary("SUB", c.ints([1]), named), c.ints([default]))
        return c.binary("ADD", given, missing)
    axes = [axis % rank for axis in c.node.listed(3, "axes") or range(count)]
    position = [axes.index(axis) if axis in axes else count for axis in range(rank)]
    parts = [values, c.ints([default])]
    table = c.emit("CONCATENATION", parts, shape=(count + 1,), axis=0, fusedActivationFunction=0)
    return c.emit("GATHER", [table, c.ints(position, "position")], shape=(rank,), axis=0)


def _scattered(c: Lowering, places: Tensor, values: Tensor, count: int) -> Tensor:
    """A vector of zeros with values at some places."""
    return c.emit("SCATTER_ND", [places, values, c.ints([count])], shape=(count,), dtype=np.dtype(np.int32))


def as_index(c: Lowering, x: Tensor) -> Tensor:
    """Integers as int32: the largest int64, which means "to the end", becomes the largest int32."""
    if x.data is not None:
        return c.ints(np.clip(x.data, -_ENDLESS, _ENDLESS))
    if x.dtype == np.int32:
        return x
    bounded = c.binary("MINIMUM", x, c.constant(np.array(_ENDLESS, x.dtype), "largest"))
    return c.cast(c.binary("MAXIMUM", bounded, c.constant(np.array(-_ENDLESS, x.dtype), "smallest")), np.int32)


def _some_bounds(node: NodeView) -> str | None:
    shape = node.shape(1) if node.has(1) else None
    if not _is_late(node) or (shape is not None and len(shape) == 1 and shape[0] >= 0):
        return None
    return f"input {node.input(1).name!r} gives an {OPEN_NUMBER} of bounds"


RULES = (
    LoweringRule(
        "Slice",
        _slice,
        ("SLICE", "STRIDED_SLICE", "CONCATENATION", "GATHER", "SCATTER_ND"),
        (typed(ANY_TYPE), known_rank(), _some_bounds),
        note="Bounds, axes and steps may be computed at run time.",
    ),
)
