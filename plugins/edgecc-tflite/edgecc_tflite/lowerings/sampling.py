"""Images sampled at computed places: GridSample and RoiAlign.

Both read a few pixels around each place, with GATHER from the image flattened to one axis of pixels, and weigh them.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecc_tflite.ir import Tensor
from edgecc_tflite.lowerings.base import LoweringRule
from edgecc_tflite.lowerings.constraints import FLOAT, one_of, ranked, static, static_but_batch, typed

if TYPE_CHECKING:
    from edgecc_tflite.lowerings.context import Lowering
    from edgecc_tflite.lowerings.node_view import NodeView

#: The cubic convolution's parameter, which ONNX fixes.
_CUBIC = -0.75


@dataclass(frozen=True)
class _Tap:
    """One pixel along one axis: int32 index in bounds, and its weight; None for a weight of 1."""

    index: Tensor
    weight: Tensor | None


def _grid_sample(c: Lowering) -> None:
    """All taps of all axes, combined."""
    image, grid = c.to_last(c.x(0)), c.x(1)
    sizes, channels = image.shape[1:-1], image.shape[-1]
    taps = [_taps(c, _pixel_coordinate(c, grid, axis, size), size) for axis, size in enumerate(sizes)]
    flat = c.reshape(image, (image.shape[0], int(np.prod(sizes)), channels))
    shape = (*grid.shape[:-1], channels)
    values = [weighted_pixels(c, flat, corner, sizes, shape) for corner in itertools.product(*taps)]
    total = functools.reduce(lambda a, b: c.binary("ADD", a, b), values)
    c.to_first(total, c.out())


def _pixel_coordinate(c: Lowering, grid: Tensor, axis: int, size: int) -> Tensor:
    """From -1 ... 1 to pixels; the grid names the last axis first."""
    last = grid.shape[-1] - 1
    part = c.emit("GATHER", [grid, c.ints(last - axis)], shape=grid.shape[:-1], axis=grid.rank - 1)
    if c.node.integer("align_corners", 0):
        scale, offset = (size - 1) / 2, (size - 1) / 2
    else:
        scale, offset = size / 2, (size - 1) / 2
    return c.binary("ADD", c.binary("MUL", part, c.scalar(scale)), c.scalar(offset))


def _taps(c: Lowering, place: Tensor, size: int) -> list[_Tap]:
    mode = c.node.text("mode", "linear")
    if mode == "nearest":
        return [_padded(c, c.unary("ROUND", place), None, size)]
    if mode not in ("cubic", "bicubic"):
        return linear_taps(c, place, size)
    first = c.unary("FLOOR", place)
    weights = _cubic_weights(c, c.binary("SUB", place, first))
    return [_padded(c, _moved(c, first, by), weight, size) for by, weight in zip((-1, 0, 1, 2), weights, strict=True)]


def linear_taps(c: Lowering, place: Tensor, size: int) -> list[_Tap]:
    """The two pixels around each place along an axis; outside they count as `padding_mode` says, nothing by default."""
    first = c.unary("FLOOR", place)
    rest = c.binary("SUB", place, first)
    weights = [c.binary("SUB", c.scalar(1.0), rest), rest]
    return [_padded(c, _moved(c, first, by), weight, size) for by, weight in enumerate(weights)]


def _moved(c: Lowering, index: Tensor, by: int) -> Tensor:
    return c.binary("ADD", index, c.scalar(by)) if by else index


def _cubic_weights(c: Lowering, t: Tensor) -> list[Tensor]:
    """Of the pixels at -1, 0, 1 and 2, for a place t behind 0 (R. Keys, 1981)."""
    a = _CUBIC
    near, far = (a + 2, -(a + 3), 0.0, 1.0), (a, -5 * a, 8 * a, -4 * a)
    back = c.binary("SUB", c.scalar(1.0), t)
    return [
        _polynomial(c, c.binary("ADD", t, c.scalar(1.0)), far),
        _polynomial(c, t, near),
        _polynomial(c, back, near),
        _polynomial(c, c.binary("ADD", back, c.scalar(1.0)), far),
    ]


def _polynomial(c: Lowering, x: Tensor, coefficients: tuple[float, ...]) -> Tensor:
    """Highest power first."""
    result = c.binary("MUL", x, c.scalar(coefficients[0]))
    for coefficient in coefficients[1:-1]:
        result = c.binary("MUL", c.binary("ADD", result, c.scalar(coefficient)), x)
    return c.binary("ADD", result, c.scalar(coefficients[-1]))


def _padded(c: Lowering, index: Tensor, weight: Tensor | None, size: int) -> _Tap:
    """A float index brought into bounds; outside, padding_mode="zeros" takes its weight away."""
    mode = c.node.text("padding_mode", "zeros")
    if mode == "reflection":
        index = _reflected(c, index, size)
    inside = c.binary("MAXIMUM", c.binary("MINIMUM", index, c.scalar(size - 1)), c.scalar(0.0))
    if mode == "zeros":
        is_inside = c.cast(c.binary("EQUAL", inside, index, dtype=np.bool_), np.float32)
        weight = is_inside if weight is None else c.binary("MUL", weight, is_inside)
    return _Tap(c.cast(inside, np.int32), weight)


def _reflected(c: Lowering, index: Tensor, size: int) -> Tensor:
    """Back and forth between the outermost pixels' centers, or their outer edges."""
    aligned = bool(c.node.integer("align_corners", 0))
    period = 2 * (size - 1) if aligned else 2 * size
    if not period:
        return index
    forth = c.binary("FLOOR_MOD", index, c.scalar(period))
    back = c.binary("SUB", c.scalar(period if aligned else period - 1), forth)
    return c.binary("MINIMUM", forth, back)


def weighted_pixels(
    c: Lowering, flat: Tensor, corner: tuple[_Tap, ...], sizes: tuple[int, ...], shape: tuple[int, ...]
) -> Tensor:
    """The pixels at one combination of taps, by the product of their weights."""
    place = corner[0].index
    for tap, size in zip(corner[1:], sizes[1:], strict=True):
        place = c.binary("ADD", c.binary("MUL", place, c.ints(size)), tap.index)
    pixels = c.emit("GATHER", [flat, place], shape=shape, axis=1, batchDims=1)
    weights = [tap.weight for tap in corner if tap.weight is not None]
    if not weights:
        return pixels
    weight = functools.reduce(lambda a, b: c.binary("MUL", a, b), weights)
    return c.binary("MUL", pixels, c.reshape(weight, (*weight.shape, 1)))


def _cubic_image(node: NodeView) -> str | None:
    if node.text("mode", "linear") in ("cubic", "bicubic") and node.rank() != 4:
        return "mode='cubic' in other than two dimensions"
    return None


def _roi_align(c: Lowering) -> None:
    """Pixels of all samples are one axis; `sampling_ratio` places per output along each axis."""
    image, rois = c.to_last(c.x(0)), c.x(1)
    _, height, width, channels = image.shape
    outs, ratio = c.out().shape[2:], c.node.integer("sampling_ratio", 0)
    regions = rois.shape[0]
    vertical, horizontal = (
        _roi_taps(c, rois, start, size, out * ratio) for start, size, out in ((1, height, outs[0]), (0, width, outs[1]))
    )
    flat = c.reshape(image, (-1 if image.shape[0] < 0 else image.shape[0] * height * width, channels))
    sample = c.binary("MUL", c.cast(c.x(2), np.int32), c.ints(height * width))
    sample = c.reshape(sample, (regions, 1, 1))
    rows, columns = outs[0] * ratio, outs[1] * ratio
    values = []
    for down, across in itertools.product(vertical, horizontal):
        row = c.reshape(c.binary("MUL", down.index, c.ints(width)), (regions, rows, 1))
        place = c.binary("ADD", c.binary("ADD", row, sample), c.reshape(across.index, (regions, 1, columns)))
        pixels = c.emit("GATHER", [flat, place], shape=(regions, rows, columns, channels), axis=0)
        assert down.weight is not None
        assert across.weight is not None
        weight = c.binary(
            "MUL", c.reshape(down.weight, (regions, rows, 1, 1)), c.reshape(across.weight, (regions, 1, columns, 1))
        )
        values.append(c.binary("MUL", pixels, weight))
    average = c.node.text("mode", "avg") == "avg"
    combine, pool = ("ADD", "AVERAGE_POOL_2D") if average else ("MAXIMUM", "MAX_POOL_2D")
    total = functools.reduce(lambda a, b: c.binary(combine, a, b), values)
    window: dict[str, Any] = {
        "filterWidth": ratio,
        "filterHeight": ratio,
        "strideW": ratio,
        "strideH": ratio,
        "padding": 1,
    }
    shape = (regions, *outs, channels)
    c.to_first(c.emit(pool, [total], shape=shape, fusedActivationFunction=0, **window), c.out())


def _roi_taps(c: Lowering, rois: Tensor, start: int, size: int, count: int) -> list[_Tap]:
    """The two pixels along one axis around each of `count` places per region: indices and weights [regions, count]."""
    aligned = c.node.text("coordinate_transformation_mode", "half_pixel") == "half_pixel"
    regions, scale = rois.shape[0], c.node.number("spatial_scale", 1.0)
    first, last = (
        c.binary(
            "SUB",
            c.binary("MUL", c.emit("GATHER", [rois, c.ints([i])], shape=(regions, 1), axis=1), c.scalar(scale)),
            c.scalar(0.5 if aligned else 0.0),
        )
        for i in (start, start + 2)
    )
    extent = c.binary("SUB", last, first)
    if not aligned:
        # A region has at least one pixel.
        extent = c.binary("MAXIMUM", extent, c.scalar(1.0))
    steps = c.constant(((np.arange(count, dtype=np.float32) + 0.5) / count)[None, :].astype(np.float32), "steps")
    place = c.binary("ADD", c.binary("MUL", extent, steps), first)
    # One pixel beyond the border counts as the border, more than that as nothing.
    inside = c.binary(
        "LOGICAL_AND",
        c.binary("GREATER_EQUAL", place, c.scalar(-1.0), dtype=np.bool_),
        c.binary("LESS_EQUAL", place, c.scalar(float(size)), dtype=np.bool_),
    )
    counts = c.cast(inside, np.float32)
    bounded = c.binary("MINIMUM", c.binary("MAXIMUM", place, c.scalar(0.0)), c.scalar(float(size - 1)))
    low = c.unary("FLOOR", bounded)
    high = c.binary("MINIMUM", c.binary("ADD", low, c.scalar(1.0)), c.scalar(float(size - 1)))
    rest = c.binary("SUB", bounded, low)
    weights = (c.binary("SUB", c.scalar(1.0), rest), rest)
    return [
        _Tap(c.cast(index, np.int32), c.binary("MUL", weight, counts))
        for index, weight in zip((low, high), weights, strict=True)
    ]


def _fixed_ratio(node: NodeView) -> str | None:
    if node.integer("sampling_ratio", 0) > 0:
        return None
    return "sampling_ratio is 0, which makes the number of samples depend on the regions; export a positive one"


RULES = (
    LoweringRule(
        "GridSample",
        _grid_sample,
        (
            *("TRANSPOSE", "GATHER", "MUL", "ADD", "SUB", "FLOOR", "ROUND", "MINIMUM", "MAXIMUM"),
            *("EQUAL", "CAST", "FLOOR_MOD", "RESHAPE"),
        ),
        (
            typed(FLOAT),
            typed(FLOAT, 1),
            ranked(4, 5),
            static_but_batch(0),
            static_but_batch(1),
            one_of("mode", ("linear", "bilinear", "nearest", "cubic", "bicubic"), "linear"),
            _cubic_image,
        ),
        since=16,
    ),
    LoweringRule(
        "RoiAlign",
        _roi_align,
        (
            *("TRANSPOSE", "GATHER", "MUL", "ADD", "SUB", "FLOOR", "MINIMUM", "MAXIMUM", "LOGICAL_AND"),
            *("GREATER_EQUAL", "LESS_EQUAL", "CAST", "AVERAGE_POOL_2D", "MAX_POOL_2D", "RESHAPE"),
        ),
        (typed(FLOAT), static_but_batch(0), static(1), one_of("mode", ("avg", "max"), "avg"), _fixed_ratio),
        since=16,
    ),
)
