"""Padding."""

from __future__ import annotations

import numpy as np

from edgecc_tflite.enums import MirrorPadMode
from edgecc_tflite.importing.base import ImportRule, Refusal
from edgecc_tflite.importing.context import Import, channels_first


def _pad(c: Import) -> None:
    """An image's borders are padded with its channels in front, as the convolution behind wants it."""
    value = c.x(2) if c.has(2) else _nothing(c)
    value = value if not c.has(2) or c.rank(2) == 0 else c.reshape(value, [])
    pads = c.value(1)
    if pads is None:
        columns = c.add("Transpose", [c.int64(1)], perm=[1, 0])
        c.give(c.add("Pad", [c.x(), c.reshape(columns, [-1]), value]))
        return
    pairs = pads.astype(np.int64).reshape(-1, 2)
    if len(pairs) != c.rank():
        raise Refusal(f"it pads {len(pairs)} axes of a tensor with {c.rank()}")
    if c.rank() == 4 and not pairs[[0, 3]].any() and pairs.any():
        moved = pairs[channels_first(4)]
        c.give_first(c.add("Pad", [c.first(), c.constant(_columns(moved), "pads"), value]))
        return
    c.give(c.add("Pad", [c.x(), c.constant(_columns(pairs), "pads"), value]))


def _nothing(c: Import) -> str:
    """Real 0; where the file pads stored integers, that is the zero point."""
    return c.scalar(0)


def _columns(pairs: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(pairs.T).reshape(-1)


def _mirror_pad(c: Import) -> None:
    """SYMMETRIC repeats the edge, which ONNX's Pad cannot: the elements are gathered."""
    pairs = c.known(1, "its paddings").astype(np.int64).reshape(-1, 2)
    if c.option("mode") == MirrorPadMode.REFLECT:
        c.give(c.add("Pad", [c.x(), c.constant(_columns(pairs), "pads")], mode="reflect"))
        return
    x = c.x()
    for axis, (before, behind) in enumerate(pairs):
        size = c.shape()[axis]
        if not before and not behind:
            continue
        if size < max(before, behind) or min(before, behind) < 0:
            raise Refusal(f"it mirrors {max(before, behind)} elements of {size}")
        row = c.positions(size)
        order = np.concatenate([row[:before][::-1], row, row[size - behind :][::-1]])
        x = c.add("Gather", [x, c.constant(order, "order")], axis=axis)
    c.give(x)


def _dilate(c: Import) -> None:
    """Values put between the elements of each axis."""
    shape, gaps = c.shape(), [int(gap) for gap in c.known(1, "its dilations").reshape(-1)]
    if len(gaps) != len(shape) or min((*shape, *gaps), default=1) < 1:
        raise Refusal(f"it spreads {list(shape)} by {gaps}")
    x = c.x()
    for axis, gap in enumerate(gaps):
        if gap == 1:
            continue
        sizes = [size * gaps[a] - gaps[a] + 1 if a < axis else size for a, size in enumerate(shape)]
        x = c.reshape(x, [*sizes[: axis + 1], 1, *sizes[axis + 1 :]])
        pads = [0] * (2 * len(sizes) + 2)
        pads[len(sizes) + 1 + axis + 1] = gap - 1
        x = c.add("Pad", [x, c.constant(pads, "pads"), c.x(2)])
        x = c.reshape(x, [*sizes[:axis], sizes[axis] * gap, *sizes[axis + 1 :]])
        end = c.constant([(sizes[axis] - 1) * gap + 1], "ends")
        x = c.add("Slice", [x, c.constant([0], "starts"), end, c.constant([axis], "axes")])
    c.give(x)


RULES = (
    ImportRule("PAD", _pad, ("Pad", "Transpose")),
    ImportRule("PADV2", _pad, ("Pad", "Transpose")),
    ImportRule("DILATE", _dilate, ("Reshape", "Pad", "Slice")),
    ImportRule("MIRROR_PAD", _mirror_pad, ("Pad", "Gather")),
)
