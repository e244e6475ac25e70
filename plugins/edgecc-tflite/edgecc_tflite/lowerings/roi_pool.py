"""MaxRoiPool: windows of computed sizes, as the largest of all values that a mask leaves."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import numpy as np

from edgecc_tflite.ir import Tensor
from edgecc_tflite.lowerings.base import LoweringRule
from edgecc_tflite.lowerings.constraints import FLOAT, static, typed

if TYPE_CHECKING:
    from edgecc_tflite.lowerings.context import Lowering
    from edgecc_tflite.lowerings.node_view import NodeView

_LOWEST = float(np.finfo(np.float32).min)
#: Elements of the image, repeated for every region.
_MOST_ELEMENTS = 1 << 26


def _max_roi_pool(c: Lowering) -> None:
    """Girshick, "Fast R-CNN" (2015): along the width first, then along the height."""
    image, rois = c.to_last(c.x(0)), c.x(1)
    sizes, channels, regions = image.shape[1:3], image.shape[3], rois.shape[0]
    outs = c.node.ints("pooled_shape")
    sample = c.cast(_column(c, rois, 0, (regions,)), np.int32)
    pixels = c.emit("GATHER", [image, sample], shape=(regions, *sizes, channels), axis=0)
    columns = _largest(c, pixels, _windows(c, rois, 1, sizes[1], outs[1]))
    # (regions, columns, height, channels): what was the width is reduced.
    rows = _largest(c, columns, _windows(c, rois, 2, sizes[0], outs[0]))
    is_filled = c.binary("GREATER", rows, c.scalar(_LOWEST, rows.dtype), dtype=bool)
    filled = c.emit("SELECT_V2", [is_filled, rows, c.scalar(0.0, rows.dtype)], shape=rows.shape, dtype=rows.dtype)
    c.to_first(filled, c.out())


def _largest(c: Lowering, x: Tensor, windows: list[Tensor]) -> Tensor:
    """The largest values along the axis in front of the channels in each window: a new axis behind the regions."""
    shape = (x.shape[0], x.shape[1], x.shape[3])
    parts = []
    for window in windows:
        masked = c.emit("SELECT_V2", [window, x, c.scalar(_LOWEST, x.dtype)], shape=x.shape, dtype=x.dtype)
        parts.append(c.emit("REDUCE_MAX", [masked, c.ints([2], "axes")], shape=shape, keepDims=False))
    whole = (shape[0], len(parts), *shape[1:])
    return c.emit("PACK", parts, shape=whole, valuesCount=len(parts), axis=1)


def _windows(c: Lowering, rois: Tensor, start: int, size: int, count: int) -> list[Tensor]:
    """Which of `size` places each of `count` windows takes, one mask (regions, 1, size, 1) for each window."""
    regions = rois.shape[0]
    shape = (regions, 1, 1, 1)
    first, last = (_rounded(c, _column(c, rois, place, shape)) for place in (start, start + 2))
    one = c.scalar(1.0, rois.dtype)
    extent = c.binary("MAXIMUM", c.binary("ADD", c.binary("SUB", last, first), one), one)
    step = c.binary("DIV", extent, c.scalar(float(count), rois.dtype))
    places = c.constant(np.arange(size, dtype=np.float32).reshape(1, 1, size, 1), "places")
    masks = []
    for number in range(count):
        begin = c.unary("FLOOR", c.binary("MUL", step, c.scalar(float(number), rois.dtype)))
        end = c.unary("CEIL", c.binary("MUL", step, c.scalar(float(number + 1), rois.dtype)))
        behind = c.binary("GREATER_EQUAL", places, c.binary("ADD", begin, first), dtype=bool)
        before = c.binary("LESS", places, c.binary("ADD", end, first), dtype=bool)
        masks.append(c.binary("LOGICAL_AND", behind, before))
    return masks


def _column(c: Lowering, rois: Tensor, number: int, shape: tuple[int, ...]) -> Tensor:
    """One number of each region: sample, left, top, right or bottom."""
    column = c.emit("GATHER", [rois, c.ints([number], "column")], shape=(rois.shape[0], 1), axis=1)
    return c.reshape(column, shape)


def _rounded(c: Lowering, x: Tensor) -> Tensor:
    """In whole pixels of the image, halves away from 0."""
    scaled = c.binary("MUL", x, c.scalar(c.node.number("spatial_scale", 1.0), x.dtype))
    size = c.unary("FLOOR", c.binary("ADD", c.unary("ABS", scaled), c.scalar(0.5, x.dtype)))
    return c.binary("MUL", c.unary("SIGN", scaled), size)


def _affordable(node: NodeView) -> str | None:
    image, rois = node.shape(0), node.shape(1)
    if image is None or rois is None or min(*image, *rois) < 0 or rois[0] * prod(image[1:]) <= _MOST_ELEMENTS:
        return None
    return f"{rois[0]} regions of an image of {prod(image[1:])} values, which would be copied for each"


RULES = (
    LoweringRule(
        "MaxRoiPool",
        _max_roi_pool,
        (
            *("TRANSPOSE", "GATHER", "CAST", "RESHAPE", "MUL", "ADD", "SUB", "DIV", "MAXIMUM", "FLOOR", "CEIL"),
            *("ABS", "SIGN"),
            *("GREATER_EQUAL", "GREATER", "LESS", "LOGICAL_AND", "SELECT_V2", "REDUCE_MAX", "PACK"),
        ),
        (typed(FLOAT), typed(FLOAT, 1), static(0), static(1), _affordable),
    ),
)
