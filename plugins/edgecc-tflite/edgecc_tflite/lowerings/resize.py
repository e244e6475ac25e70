"""Resize of height and width: nearest by kernel or by index, linear where TFLite interpolates at the same places."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgecc_tflite.ir import Shape, Tensor
from edgecc_tflite.lowerings.base import LoweringRule
from edgecc_tflite.lowerings.constraints import FLOAT, constant, known_rank, static_space, typed
from edgecc_tflite.lowerings.windows import as_2d, from_2d

if TYPE_CHECKING:
    from edgecc_tflite.lowerings.context import Lowering
    from edgecc_tflite.lowerings.node_view import NodeView

#: align_corners and half_pixel_centers of the TFLite kernels.
_FLAGS = ((False, False), (True, False), (False, True))
#: How far, in input elements, the kernel may read from where the model does.
_CLOSE = 1e-4


def _resize(c: Lowering) -> None:
    mode = c.node.text("mode", "nearest")
    x, out = c.x(), c.out()
    if x.shape == out.shape and -1 not in out.shape:
        c.copy(x, out)
    elif mode == "nearest":
        _nearest(c, x, out)
    else:
        flags = _linear_flags(c.node)
        assert flags is not None
        _kernel(c, "RESIZE_BILINEAR", x, out, flags)


def _kernel(c: Lowering, builtin: str, x: Tensor, out: Tensor, flags: tuple[bool, bool]) -> None:
    height, width = (1, *out.shape[2:]) if out.rank == 3 else out.shape[2:]
    wide = c.to_last(as_2d(c, x))
    shape = (wide.shape[0], height, width, wide.shape[3])
    size = c.ints((height, width), "size")
    options: dict[str, Any] = {"alignCorners": flags[0], "halfPixelCenters": flags[1]}
    from_2d(c, c.emit(builtin, [wide, size], shape=shape, **options), out)


def _nearest(c: Lowering, x: Tensor, out: Tensor) -> None:
    axes = _resized_axes(c.node)
    orders = {axis: _nearest_order(c.node, axis) for axis in axes}
    if x.rank in (3, 4) and min(axes) >= 2:
        for flags in _FLAGS:
            sizes = {axis: (x.shape[axis], out.shape[axis]) for axis in axes}
            if all(np.array_equal(orders[axis], _kernel_nearest(*sizes[axis], flags)) for axis in axes):
                _kernel(c, "RESIZE_NEAREST_NEIGHBOR", x, out, flags)
                return
    for axis in axes:
        shape = tuple(out.shape[a] if a <= axis else d for a, d in enumerate(x.shape))
        order = c.constant(orders[axis].astype(np.int32), "order")
        x = c.emit("GATHER", [x, order], out if axis == axes[-1] else None, shape=shape, axis=axis)


def _sizes(node: NodeView) -> tuple[Shape, Shape]:
    """Shapes of input and output, which the constraints have seen."""
    before, after = node.shape(), node.out_shape()
    assert before is not None
    assert after is not None
    return before, after


def _resized_axes(node: NodeView) -> list[int]:
    """Axes whose values move; never none, so that there is something to emit."""
    before, after = _sizes(node)
    return [a for a in range(len(before)) if before[a] != after[a]] or [len(before) - 1]


def _scale(node: NodeView, axis: int) -> float:
    """Output size over input size as the model means it: given scales are not rounded to whole sizes."""
    before, after = _sizes(node)
    scales = node.value(2)
    axes = node.ints("axes", range(len(before)))
    positions = {a % len(before): i for i, a in enumerate(axes)}
    if scales is not None and scales.size and axis in positions:
        return float(scales[positions[axis]])
    return after[axis] / before[axis]


def _source_positions(node: NodeView, axis: int) -> np.ndarray:
    """Where each output element reads, in input elements (float64)."""
    before, after = _sizes(node)
    size, count, scale = before[axis], after[axis], _scale(node, axis)
    at = np.arange(count, dtype=np.float64)
    match node.text("coordinate_transformation_mode", "half_pixel"):
        case "align_corners":
            return at * ((size - 1) / (count - 1)) if count > 1 else at * 0.0
        case "asymmetric":
            return at / scale
        case "pytorch_half_pixel":
            return (at + 0.5) / scale - 0.5 if count > 1 else at * 0.0
        case "half_pixel_symmetric":
            offset = size / 2 * (1 - count / (scale * size))
            return offset + (at + 0.5) / scale - 0.5
        case _:
            return (at + 0.5) / scale - 0.5


def _nearest_order(node: NodeView, axis: int) -> np.ndarray:
    """Which input element each output element is."""
    shape = node.shape()
    assert shape is not None
    # Positions that float error moves off a half or whole number are put back, as ONNX Runtime has them.
    at = np.round(_source_positions(node, axis), 5)
    match node.text("nearest_mode", "round_prefer_floor"):
        case "round_prefer_ceil":
            order = np.floor(at + 0.5)
        case "floor":
            order = np.floor(at)
        case "ceil":
            order = np.ceil(at)
        case _:
            order = np.ceil(at - 0.5)
    return np.clip(order, 0, shape[axis] - 1).astype(np.int64)


def _kernel_positions(size: int, count: int, flags: tuple[bool, bool]) -> np.ndarray:
    """Where TFLite's kernels read, in float32 as they compute it."""
    align_corners, half_pixel_centers = flags
    at = np.arange(count, dtype=np.float32)
    step = np.float32((size - 1) / (count - 1)) if align_corners and count > 1 else np.float32(size / count)
    return (at + np.float32(0.5)) * step if half_pixel_centers else at * step


def _kernel_nearest(size: int, count: int, flags: tuple[bool, bool]) -> np.ndarray:
    at = _kernel_positions(size, count, flags)
    order = np.floor(at + np.float32(0.5)) if flags[0] else np.floor(at)
    return np.clip(order, 0, size - 1).astype(np.int64)


def _linear_flags(node: NodeView) -> tuple[bool, bool] | None:
    """The flags with which RESIZE_BILINEAR reads where the model does."""
    before, after = _sizes(node)
    for flags in _FLAGS:
        if all(_reads_alike(node, axis, before[axis], after[axis], flags) for axis in range(2, len(before))):
            return flags
    return None


def _reads_alike(node: NodeView, axis: int, size: int, count: int, flags: tuple[bool, bool]) -> bool:
    if size == 1:
        return True
    ours = np.clip(_kernel_positions(size, count, flags) - (0.5 if flags[1] else 0.0), 0, size - 1)
    theirs = np.clip(_source_positions(node, axis), 0, size - 1)
    return bool(np.max(np.abs(ours - theirs)) < _CLOSE)


def _expressible(node: NodeView) -> str | None:
    """All the reasons that need the shapes."""
    mode = node.text("mode", "nearest")
    before, after = node.shape(), node.out_shape()
    if before is None or after is None or -1 in after[2:]:
        return "the output's size is not known"
    if node.integer("antialias", 0) and any(a < b for a, b in zip(after, before, strict=True)):
        return "antialias=1 while shrinking"
    if node.text("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize":
        return "coordinate_transformation_mode='tf_crop_and_resize'"
    if mode == "nearest":
        return None
    if mode != "linear":
        return f"mode={mode!r}; only nearest and linear can be lowered"
    if len(before) not in (3, 4) or before[:2] != after[:2]:
        return "linear interpolation of axes other than one or two behind the channels"
    if _linear_flags(node) is None:
        return "linear interpolation at places where TFLite's kernel does not read (do the scales give whole sizes?)"
    return None


RULES = (
    LoweringRule(
        "Resize",
        _resize,
        ("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", "GATHER", "RESHAPE", "TRANSPOSE"),
        (typed(FLOAT), known_rank(), static_space(), constant(2, "scales"), _expressible),
        since=10,
        note="Nearest in every mode; linear at half_pixel, align_corners and asymmetric places.",
    ),
)
