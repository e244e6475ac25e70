"""Shapes: what moves, joins, repeats or makes values without computing with them."""

from __future__ import annotations

import math

import numpy as np

from edgecc_tflite.importing.base import ImportRule, Refusal
from edgecc_tflite.importing.context import Import


def _reshape(c: Import) -> None:
    """The wanted shape is input 1, or an option in old files. A 0 in it is a 0, where ONNX would keep a dimension."""
    if c.has(1) and c.value(1) is None:
        c.give(c.add("Reshape", [c.x(), c.int64(1)], allowzero=1))
        return
    wanted = c.value(1) if c.has(1) else c.operator.options.get("newShape")
    shape = [int(dim) for dim in (c.out().shape if wanted is None else np.asarray(wanted).reshape(-1))]
    if sum(dim < 0 for dim in shape) > 1:
        raise Refusal(f"its shape {shape} has several open dimensions")
    zeros = {"allowzero": 1} if 0 in shape else {}
    c.give(c.add("Reshape", [c.x(), c.constant(_open_batch(c, shape), "shape")], **zeros))


def _open_batch(c: Import, shape: list[int]) -> list[int]:
    """A converter writes 1 for a batch that it leaves open elsewhere; then so is this one."""
    known, out = c.shape(), c.out().shape
    is_open = known and out and known[0] == -1 == out[0] and -1 not in (*known[1:], *out[1:], *shape)
    if is_open and shape[:1] == [1] and math.prod(known[1:]) == math.prod(out[1:]):
        return [-1, *shape[1:]]
    return shape


def _squeeze(c: Import) -> None:
    axes = c.operator.options.get("squeezeDims")
    named = [] if axes is None or isinstance(axes, int) else [int(axis) for axis in axes]
    chosen = sorted({c.axis(axis, c.rank()) for axis in named})
    c.give(c.add("Squeeze", [c.x(), *([c.constant(chosen, "axes")] if chosen else [])]))


def _expand_dims(c: Import) -> None:
    axis = c.axis(int(c.known(1, "its axis").reshape(-1)[0]), c.rank() + 1)
    c.give(c.add("Unsqueeze", [c.x(), c.constant([axis], "axes")]))


def _transpose(c: Import) -> None:
    perm = [c.axis(int(axis), c.rank()) for axis in c.known(1, "its axes").reshape(-1)]
    if sorted(perm) != list(range(c.rank())):
        raise Refusal(f"{perm} is no order of {c.rank()} axes")
    c.give(c.add("Transpose", [c.x()], perm=perm))


def _concatenation(c: Import) -> None:
    axis = c.axis(int(c.option("axis")), c.out().rank)
    c.give_active(c.add("Concat", c.xs(), axis=axis))


def _pack(c: Import) -> None:
    axis = c.axis(int(c.option("axis")), c.out().rank)
    axes = c.constant([axis], "axes")
    c.give(c.add("Concat", [c.add("Unsqueeze", [x, axes]) for x in c.xs()], axis=axis))


def _unpack(c: Import) -> None:
    axis, count = c.axis(int(c.option("axis")), c.rank()), len(c.operator.outputs)
    parts = c.many("Split", [c.x()], count, axis=axis, num_outputs=count) if count > 1 else [c.x()]
    axes = c.constant([axis], "axes")
    for index, part in enumerate(parts):
        c.give(c.add("Squeeze", [part, axes]), index)


def _split(c: Import) -> None:
    axis, count = c.axis(int(c.known(0, "its axis").reshape(-1)[0]), c.rank(1)), len(c.operator.outputs)
    _give_parts(c, c.many("Split", [c.x(1)], count, axis=axis, num_outputs=count) if count > 1 else [c.x(1)])


def _split_v(c: Import) -> None:
    axis = c.axis(int(c.known(2, "its axis").reshape(-1)[0]), c.rank())
    if c.value(1) is None:
        _give_parts(c, c.many("Split", [c.x(), c.int64(1)], len(c.operator.outputs), axis=axis))
        return
    sizes, extent = c.known(1, "its sizes").reshape(-1).astype(np.int64), c.shape()[axis]
    if (sizes < 0).sum() == 1 and extent >= 0:
        sizes = np.where(sizes < 0, extent - sizes[sizes >= 0].sum(), sizes)
    if (sizes < 0).any() or sizes.size != len(c.operator.outputs):
        raise Refusal(f"it splits into parts of {sizes.tolist()}")
    _give_parts(c, c.many("Split", [c.x(), c.constant(sizes, "sizes")], sizes.size, axis=axis))


def _give_parts(c: Import, parts: list[str]) -> None:
    for index, part in enumerate(parts):
        c.give(part, index)


def _tile(c: Import) -> None:
    c.give(c.add("Tile", [c.x(), c.int64(1)]))


def _broadcast_to(c: Import) -> None:
    c.give(c.add("Expand", [c.x(), c.int64(1)]))


def _fill(c: Import) -> None:
    c.give(c.add("Expand", [c.x(1), c.int64(0)]))


def _shape(c: Import) -> None:
    found = c.add("Shape", [c.stored()])
    c.give(found if c.out().dtype == np.int64 else c.cast(found, c.out().dtype))


def _rank(c: Import) -> None:
    count = c.add("Shape", [c.add("Shape", [c.stored()])])
    c.give(c.cast(c.reshape(count, []), c.out().dtype))


def _range(c: Import) -> None:
    operands = [x if c.rank(n) == 0 else c.reshape(x, []) for n, x in enumerate(c.xs())]
    c.give(c.add("Range", operands))


def _broadcast_args(c: Import) -> None:
    """The shape that two shapes broadcast to: that of what they broadcast to."""
    blanks = [c.add("Expand", [c.scalar(0, np.int8), c.int64(n)]) for n in (0, 1)]
    both = c.add("Shape", [c.add("BitwiseOr", blanks)])
    c.give(both if c.out().dtype == np.int64 else c.cast(both, c.out().dtype))


def _one_hot(c: Import) -> None:
    """Numbers that are no position have no place, where OneHot counts negative ones from the end."""
    axis = int(c.option("axis"))
    axis = axis if axis >= 0 else c.rank(0)
    spread = c.add("Unsqueeze", [c.int64(0), c.constant([axis], "axis")])
    places = c.add("Range", [c.scalar(0, np.int64), c.reshape(c.int64(1), []), c.scalar(1, np.int64)])
    if axis < c.rank(0):
        places = c.reshape(places, [-1, *[1] * (c.rank(0) - axis)])
    c.give(c.add("Where", [c.add("Equal", [spread, places]), c.x(2), c.x(3)]))


def _space_to_batch(c: Import) -> None:
    """Each block's elements go to batches of their own."""
    blocks, pads = _blocks(c), c.known(2, "its paddings").astype(np.int64).reshape(-1, 2)
    shape, count = c.shape(), len(blocks)
    if len(pads) != count or -1 in shape[1 : 1 + count]:
        raise Refusal("it has an open dimension in space")
    rest = c.rank() - 1 - count
    before, behind = [0, *pads[:, 0].tolist(), *[0] * rest], [0, *pads[:, 1].tolist(), *[0] * rest]
    x = c.add("Pad", [c.x(), c.constant([*before, *behind], "pads")]) if pads.any() else c.x()
    sizes = [int(d + p.sum()) // b for d, p, b in zip(shape[1:], pads, blocks, strict=False)]
    split = [part for size, block in zip(sizes, blocks, strict=True) for part in (size, block)]
    x = c.reshape(x, [-1, *split, *shape[1 + count :]])
    inner = [2 * n + 2 for n in range(count)]
    x = c.transpose(x, [*inner, 0, *[n - 1 for n in inner], *range(1 + 2 * count, 1 + 2 * count + rest)])
    c.give(c.reshape(x, [-1, *sizes, *shape[1 + count :]]))


def _batch_to_space(c: Import) -> None:
    blocks, crops = _blocks(c), c.known(2, "its crops").astype(np.int64).reshape(-1, 2)
    shape, count = c.shape(), len(blocks)
    if len(crops) != count or -1 in shape[1 : 1 + count]:
        raise Refusal("it has an open dimension in space")
    x = c.reshape(c.x(), [*blocks, -1, *shape[1:]])
    pairs = [axis for n in range(count) for axis in (count + 1 + n, n)]
    x = c.transpose(x, [count, *pairs, *range(2 * count + 1, count + c.rank())])
    sizes = [size * block for size, block in zip(shape[1:], blocks, strict=False)]
    x = c.reshape(x, [-1, *sizes, *shape[1 + count :]])
    if crops.any():
        ends = [size - int(crop) for size, crop in zip(sizes, crops[:, 1], strict=True)]
        axes = c.constant(list(range(1, 1 + count)), "axes")
        x = c.add("Slice", [x, c.constant(crops[:, 0].copy(), "starts"), c.constant(ends, "ends"), axes])
    c.give(x)


def _blocks(c: Import) -> list[int]:
    blocks = [int(block) for block in c.known(1, "its block sizes").reshape(-1)]
    if any(block < 1 for block in blocks) or len(blocks) >= c.rank():
        raise Refusal(f"its blocks are {blocks}")
    return blocks


RULES = (
    ImportRule("RESHAPE", _reshape, ("Reshape",)),
    ImportRule("SQUEEZE", _squeeze, ("Squeeze",)),
    ImportRule("EXPAND_DIMS", _expand_dims, ("Unsqueeze",)),
    ImportRule("TRANSPOSE", _transpose, ("Transpose",)),
    ImportRule("CONCATENATION", _concatenation, ("Concat",)),
    ImportRule("PACK", _pack, ("Unsqueeze", "Concat")),
    ImportRule("UNPACK", _unpack, ("Split", "Squeeze")),
    ImportRule("SPLIT", _split, ("Split",)),
    ImportRule("SPLIT_V", _split_v, ("Split",)),
    ImportRule("TILE", _tile, ("Tile",)),
    ImportRule("BROADCAST_TO", _broadcast_to, ("Expand",)),
    ImportRule("FILL", _fill, ("Expand",)),
    ImportRule("SHAPE", _shape, ("Shape", "Cast")),
    ImportRule("RANK", _rank, ("Shape", "Reshape", "Cast")),
    ImportRule("RANGE", _range, ("Range",)),
    ImportRule("BROADCAST_ARGS", _broadcast_args, ("Expand", "BitwiseOr", "Shape", "Cast")),
    ImportRule("ONE_HOT", _one_hot, ("Unsqueeze", "Range", "Reshape", "Equal", "Where")),
    ImportRule("SPACE_TO_BATCH_ND", _space_to_batch, ("Pad", "Reshape", "Transpose")),
    ImportRule("BATCH_TO_SPACE_ND", _batch_to_space, ("Reshape", "Transpose", "Slice")),
)
