"""Operators that pick values by position: slices, gathers and pads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgecc_tflite.enums import MirrorPadMode
from edgecc_tflite.ir import Tensor
from edgecc_tflite.lowerings.base import LoweringRule
from edgecc_tflite.lowerings.constraints import ANY_TYPE, OPEN_DIMENSION, constant, known_rank, one_of, typed
from edgecc_tflite.lowerings.shape import sizes_of

if TYPE_CHECKING:
    from edgecc_tflite.lowerings.context import Lowering
    from edgecc_tflite.lowerings.node_view import NodeView

_ENDLESS = 2**31 - 1


def _slice(c: Lowering) -> None:
    """SLICE for steps of 1 over known sizes, which more kernels take; otherwise STRIDED_SLICE."""
    x = c.x()
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


def _gather(c: Lowering) -> None:
    x, axis = c.x(), c.node.axis(0)
    indices, size = c.node.value(1), x.shape[axis]
    if indices is not None:
        wrapped = np.where(indices < 0, indices + size, indices).astype(np.int32)
        c.emit("GATHER", [x, c.constant(wrapped, "indices")], c.out(), axis=axis)
        return
    c.emit("GATHER", [x, _wrapped(c, c.x(1), x, axis)], c.out(), axis=axis)


def _wrapped(c: Lowering, indices: Tensor, x: Tensor, axis: int) -> Tensor:
    """Negative indices count from the end in ONNX; in TFLite they read out of bounds."""
    if x.shape[axis] >= 0:
        size = c.constant(np.array(x.shape[axis], indices.dtype), "size")
    else:
        size = c.cast(c.emit("GATHER", [sizes_of(c, x), c.ints(axis)], shape=(), axis=0), indices.dtype)
    return c.emit("FLOOR_MOD", [indices, size])


def _known_if_negative(node: NodeView) -> str | None:
    indices, shape = node.value(1), node.shape()
    if indices is None or shape is None or not np.any(indices < 0) or shape[node.axis(0)] >= 0:
        return None
    return f"a negative index into an {OPEN_DIMENSION}"


def _gather_nd(c: Lowering) -> None:
    indices = c.node.value(1)
    if indices is None:
        c.emit("GATHER_ND", [c.x(), c.x(1)], c.out())
        return
    sizes = np.array(c.x().shape[: indices.shape[-1]])
    wrapped = np.where(indices < 0, indices + sizes, indices).astype(np.int32)
    c.emit("GATHER_ND", [c.x(), c.constant(wrapped, "indices")], c.out())


def _no_batch(node: NodeView) -> str | None:
    return "batch_dims other than 0" if node.integer("batch_dims", 0) else None


def _pads(node: NodeView) -> np.ndarray:
    """Amounts in front and behind per axis, one row each."""
    rank = node.rank()
    pads = np.array(node.listed(1, "pads") or (), np.int32).reshape(2, -1).T
    axes = node.listed(3, "axes")
    if axes is None:
        return pads
    table = np.zeros((rank, 2), np.int32)
    table[[axis % rank for axis in axes]] = pads
    return table


def _pad(c: Lowering) -> None:
    mode, table = c.node.text("mode", "constant"), _pads(c.node)
    x = c.x()
    if not table.any():
        c.copy(x, c.out())
        return
    if mode == "constant":
        _pad_constant(c, x, table)
    elif (mirror := _mirror_mode(mode, x, table)) is not None:
        c.emit("MIRROR_PAD", [x, c.constant(table, "paddings")], c.out(), mode=mirror)
    else:
        _pad_by_gather(c, x, table, mode)


def _mirror_mode(mode: str, x: Tensor, table: np.ndarray) -> MirrorPadMode | None:
    """How MIRROR_PAD does the same, if it does; repeating the edge once is what SYMMETRIC does."""
    if table.min() < 0 or x.rank > 5:
        return None
    if mode == "edge" and table.max() == 1:
        return MirrorPadMode.SYMMETRIC
    fits = all(dim < 0 or max(row) < dim for dim, row in zip(x.shape, table, strict=True))
    return MirrorPadMode.REFLECT if mode == "reflect" and fits else None


def _pad_constant(c: Lowering, x: Tensor, table: np.ndarray) -> None:
    if table.min() < 0:
        front, behind = np.maximum(-table[:, 0], 0), np.maximum(-table[:, 1], 0)
        kept = tuple(int(d) if d < 0 else int(d - f - b) for d, f, b in zip(x.shape, front, behind, strict=True))
        begin, size = c.ints([int(f) for f in front], "begin"), c.ints(kept, "size")
        last = table.max() <= 0
        x = c.emit("SLICE", [x, begin, size], c.out() if last else None, shape=kept)
        if last:
            return
        table = np.maximum(table, 0)
    value = c.optional(2)
    paddings = c.constant(table, "paddings")
    if value is None or (value.data is not None and not value.data.any()):
        c.emit("PAD", [x, paddings], c.out())
        return
    scalar = value if value.data is None else c.constant(value.data.reshape(()), "value")
    c.emit("PADV2", [x, paddings, scalar], c.out())


def _pad_by_gather(c: Lowering, x: Tensor, table: np.ndarray, mode: str) -> None:
    """Take each position of each axis from where the mode says."""
    numpy_mode = {"edge": "edge", "reflect": "reflect", "wrap": "wrap"}[mode]
    axes = [axis for axis in range(x.rank) if table[axis].any()]
    for axis in axes:
        front, behind = (int(amount) for amount in table[axis])
        order = np.arange(x.shape[axis], dtype=np.int32)
        order = np.pad(order, (max(front, 0), max(behind, 0)), mode=numpy_mode)  # type: ignore[call-overload]
        order = order[max(-front, 0) : len(order) - max(-behind, 0)]
        shape = tuple(len(order) if a == axis else d for a, d in enumerate(x.shape))
        out = c.out() if axis == axes[-1] else None
        x = c.emit("GATHER", [x, c.constant(order, "order")], out, shape=shape, axis=axis)


def _pad_needs_sizes(node: NodeView) -> str | None:
    shape, mode = node.shape(), node.text("mode", "constant")
    if shape is None or (node.listed(1, "pads") is None):
        return None
    table = _pads(node)
    open_axes = [axis for axis, dim in enumerate(shape) if dim < 0 and table[axis].any()]
    if not open_axes or (mode == "constant" and table.min() >= 0):
        return None
    return f"mode={mode!r} over an {OPEN_DIMENSION} of input {node.input(0).name!r}"


_MOVABLE = (typed(ANY_TYPE), known_rank())
_SLICE_INPUTS = tuple(constant(i, what) for i, what in ((1, "starts"), (2, "ends"), (3, "axes"), (4, "steps")))

RULES = (
    LoweringRule("Slice", _slice, ("SLICE", "STRIDED_SLICE"), (*_MOVABLE, *_SLICE_INPUTS)),
    LoweringRule("Gather", _gather, ("GATHER", "FLOOR_MOD", "SHAPE"), (*_MOVABLE, _known_if_negative)),
    LoweringRule("GatherND", _gather_nd, ("GATHER_ND",), (*_MOVABLE, _no_batch), since=11),
    LoweringRule(
        "Pad",
        _pad,
        ("PAD", "PADV2", "MIRROR_PAD", "SLICE", "GATHER"),
        (
            *_MOVABLE,
            constant(1, "pads"),
            constant(3, "axes"),
            one_of("mode", ("constant", "edge", "reflect", "wrap"), "constant"),
            _pad_needs_sizes,
        ),
        since=2,
    ),
)
