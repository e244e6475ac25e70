"""Deformable convolutions: the pixels of all taps are gathered where the offsets say, then a product of matrices."""

from __future__ import annotations

import functools
import itertools
from typing import TYPE_CHECKING

import numpy as np

from edgecc_tflite.ir import Tensor
from edgecc_tflite.lowerings.base import LoweringRule
from edgecc_tflite.lowerings.constraints import FLOAT, ranked, static, static_but_batch, typed
from edgecc_tflite.lowerings.sampling import linear_taps, weighted_pixels

if TYPE_CHECKING:
    from edgecc_tflite.lowerings.context import Lowering

_X, _WEIGHTS, _OFFSETS, _BIAS, _MASK = range(5)


def _deform_conv(c: Lowering) -> None:
    """Dai et al., "Deformable Convolutional Networks" (2017), with the mask of its second version."""
    image, weights = c.to_last(c.x(_X)), c.x(_WEIGHTS)
    offset_groups, groups = c.node.integer("offset_group", 1), c.node.integer("group", 1)
    parts = _along_channels(c, image, offset_groups)
    sampled = [_sampled(c, part, number) for number, part in enumerate(parts)]
    columns = _along_channels(c, _joined(c, sampled), groups)
    # A row for each output, in the order of the sampled pixels: taps, then channels.
    rows = c.reshape(c.transpose(weights, (0, 2, 3, 1)), (weights.shape[0], int(np.prod(weights.shape[1:]))))
    outs = weights.shape[0] // groups
    result = _joined(c, [_product(c, part, _rows(c, rows, n * outs, outs)) for n, part in enumerate(columns)])
    bias = c.optional(_BIAS)
    c.to_first(result if bias is None else c.binary("ADD", result, bias), c.out())


def _rows(c: Lowering, matrix: Tensor, first: int, count: int) -> Tensor:
    if matrix.shape[0] == count:
        return matrix
    if matrix.data is not None:
        return c.constant(matrix.data[first : first + count], "rows")
    size = (count, matrix.shape[1])
    return c.emit("SLICE", [matrix, c.ints([first, 0], "begin"), c.ints(size, "size")], shape=size)


def _product(c: Lowering, pixels: Tensor, rows: Tensor) -> Tensor:
    flat = c.reshape(pixels, (*pixels.shape[:3], pixels.shape[3] * pixels.shape[4]))
    shape = (*flat.shape[:3], rows.shape[0])
    return c.emit("FULLY_CONNECTED", [flat, rows, None], shape=shape, keepNumDims=True)


def _sampled(c: Lowering, image: Tensor, number: int) -> Tensor:
    """The pixels that one group of offsets points at: (batch, rows, columns, taps, channels)."""
    sizes, channels = image.shape[1:3], image.shape[3]
    taps = int(np.prod(c.x(_WEIGHTS).shape[2:]))
    offsets, first = c.to_last(c.x(_OFFSETS)), number * taps
    axes = []
    for axis, size in enumerate(sizes):
        moved = _chosen(c, offsets, [2 * (first + tap) + axis for tap in range(taps)])
        axes.append(linear_taps(c, c.binary("ADD", moved, _places(c, axis)), size))
    flat = c.reshape(image, (image.shape[0], int(np.prod(sizes)), channels))
    shape = (image.shape[0], *offsets.shape[1:3], taps, channels)
    pixels = [weighted_pixels(c, flat, corner, sizes, shape) for corner in itertools.product(*axes)]
    total = functools.reduce(lambda a, b: c.binary("ADD", a, b), pixels)
    if not c.node.has(_MASK):
        return total
    mask = _chosen(c, c.to_last(c.x(_MASK)), list(range(first, first + taps)))
    return c.binary("MUL", total, c.reshape(mask, (*mask.shape, 1)))


def _places(c: Lowering, axis: int) -> Tensor:
    """Where each tap of each window lies without offsets, (1, rows, columns, taps)."""
    kernel = c.x(_WEIGHTS).shape[2:]
    stride = c.node.ints("strides", (1, 1))[axis]
    dilation = c.node.ints("dilations", (1, 1))[axis]
    begin = c.node.ints("pads", (0, 0, 0, 0))[axis]
    outs = c.out().shape[2:]
    windows = (np.arange(outs[axis]) * stride - begin).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
    taps = np.indices(kernel)[axis].reshape(1, 1, -1) * dilation
    places = np.broadcast_to(windows + taps, (*outs, taps.size))
    return c.constant(places[None].astype(np.float32), "places")


def _chosen(c: Lowering, x: Tensor, channels: list[int]) -> Tensor:
    return c.emit("GATHER", [x, c.ints(channels, "channels")], shape=(*x.shape[:-1], len(channels)), axis=x.rank - 1)


def _along_channels(c: Lowering, x: Tensor, count: int) -> list[Tensor]:
    """Equal parts of the last axis."""
    if count == 1:
        return [x]
    outs = [c.temporary((*x.shape[:-1], x.shape[-1] // count), x.dtype, "group") for _ in range(count)]
    c.emit_many("SPLIT", [c.ints(x.rank - 1, "axis"), x], outs, numSplits=count)
    return outs


def _joined(c: Lowering, parts: list[Tensor]) -> Tensor:
    if len(parts) == 1:
        return parts[0]
    shape = (*parts[0].shape[:-1], sum(part.shape[-1] for part in parts))
    return c.emit("CONCATENATION", parts, shape=shape, axis=len(shape) - 1, fusedActivationFunction=0)


RULES = (
    LoweringRule(
        "DeformConv",
        _deform_conv,
        (
            *("TRANSPOSE", "GATHER", "MUL", "ADD", "SUB", "FLOOR", "MINIMUM", "MAXIMUM", "EQUAL", "CAST", "SPLIT"),
            *("CONCATENATION", "FULLY_CONNECTED", "SLICE", "RESHAPE"),
        ),
        (typed(FLOAT), ranked(4, 4), static_but_batch(_X), static_but_batch(_OFFSETS), static(_WEIGHTS)),
        since=19,
    ),
)
