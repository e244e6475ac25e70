"""Pads in every mode, by amounts that are constant or computed at run time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgecc_tflite.enums import MirrorPadMode
from edgecc_tflite.ir import Tensor
from edgecc_tflite.lowerings.base import LoweringRule
from edgecc_tflite.lowerings.constraints import ANY_TYPE, OPEN_DIMENSION, OPEN_NUMBER, known_rank, one_of, typed
from edgecc_tflite.lowerings.detours import MOVED, detoured
from edgecc_tflite.lowerings.shape import sizes_of
from edgecc_tflite.lowerings.slicing import as_index

if TYPE_CHECKING:
    from edgecc_tflite.lowerings.context import Lowering
    from edgecc_tflite.lowerings.node_view import NodeView


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
    x, mode = c.x(), c.node.text("mode", "constant")
    if _is_late(c.node):
        _pad_late(c, x, mode)
        return
    table = _pads(c.node)
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
    if shape is None or _is_late(node):
        return None
    table = _pads(node)
    open_axes = [axis for axis, dim in enumerate(shape) if dim < 0 and table[axis].any()]
    if not open_axes or (mode == "constant" and table.min() >= 0):
        return None
    return f"mode={mode!r} over an {OPEN_DIMENSION} of input {node.input(0).name!r}"


def _is_late(node: NodeView) -> bool:
    return any(node.has(index) and node.value(index) is None for index in (1, 3))


def _pad_late(c: Lowering, x: Tensor, mode: str) -> None:
    """Negative amounts cut; for modes other than constant each axis is taken from computed positions."""
    front, behind = _amounts(c, x.rank)
    if mode != "constant":
        for axis in range(x.rank):
            out = c.out() if axis == x.rank - 1 else None
            x = _gather_late(c, x, axis, front, behind, mode, out)
        return
    zero = c.ints([0])
    cut_front, cut_behind = (c.binary("MAXIMUM", c.binary("SUB", zero, side), zero) for side in (front, behind))
    kept = c.binary("SUB", c.binary("SUB", sizes_of(c, x), cut_front), cut_behind)
    x = c.emit("SLICE", [x, cut_front, kept], shape=(-1,) * x.rank)
    columns = [c.reshape(c.binary("MAXIMUM", side, zero), (x.rank, 1)) for side in (front, behind)]
    paddings = c.emit("CONCATENATION", columns, shape=(x.rank, 2), axis=1, fusedActivationFunction=0)
    value = c.optional(2)
    if value is None:
        c.emit("PAD", [x, paddings], c.out())
        return
    c.emit("PADV2", [x, paddings, value if value.rank == 0 else c.reshape(value, ())], c.out())


def _amounts(c: Lowering, rank: int) -> tuple[Tensor, Tensor]:
    """Amounts in front and behind, one per axis."""
    pads = as_index(c, c.x(1))
    count = pads.shape[0] // 2
    sides = [c.emit("SLICE", [pads, c.ints([n * count]), c.ints([count])], shape=(count,)) for n in (0, 1)]
    if not c.node.has(3):
        return sides[0], sides[1]
    axes = c.binary("FLOOR_MOD", as_index(c, c.x(3)), c.ints([rank]))
    places = c.reshape(axes, (count, 1))
    front, behind = (c.emit("SCATTER_ND", [places, s, c.ints([rank])], shape=(rank,), dtype=s.dtype) for s in sides)
    return front, behind


def _gather_late(
    c: Lowering, x: Tensor, axis: int, front: Tensor, behind: Tensor, mode: str, out: Tensor | None
) -> Tensor:
    """One axis, each position from where the mode says."""
    at = c.ints(axis, "axis")
    before, after, size = (c.emit("GATHER", [t, at], shape=(), axis=0) for t in (front, behind, sizes_of(c, x)))
    zero, one = c.ints(0), c.ints(1)
    first, end = c.binary("SUB", zero, before), c.binary("ADD", size, after)
    order = c.emit("RANGE", [first, end, one], shape=(-1,))
    last = c.binary("SUB", size, one)
    if mode == "edge":
        order = c.binary("MINIMUM", c.binary("MAXIMUM", order, zero), last)
    elif mode == "wrap":
        order = c.binary("FLOOR_MOD", order, size)
    else:
        # There and back again without repeating the ends; a single element is all there is.
        period = c.binary("MAXIMUM", c.binary("MUL", last, c.ints(2)), one)
        order = c.binary("FLOOR_MOD", order, period)
        order = c.binary("MINIMUM", order, c.binary("SUB", period, order))
        order = c.binary("MINIMUM", order, last)
    shape = tuple(-1 if a == axis else d for a, d in enumerate(x.shape))
    return c.emit("GATHER", [x, order], out, shape=shape, axis=axis)


def _some_pads(node: NodeView) -> str | None:
    shape = node.shape(1) if node.has(1) else None
    if not _is_late(node) or (shape is not None and len(shape) == 1 and shape[0] >= 0):
        return None
    return f"input {node.input(1).name!r} gives an {OPEN_NUMBER} of pads"


RULES = (
    detoured(
        LoweringRule(
            "Pad",
            _pad,
            ("PAD", "PADV2", "MIRROR_PAD", "SLICE", "GATHER", "CONCATENATION", "SCATTER_ND", "RANGE"),
            (
                typed(ANY_TYPE - {"uint16", "uint32"}),
                known_rank(),
                one_of("mode", ("constant", "edge", "reflect", "wrap"), "constant"),
                _pad_needs_sizes,
                _some_pads,
            ),
            since=2,
            note="Amounts and axes may be computed at run time.",
        ),
        MOVED,
    ),
)
