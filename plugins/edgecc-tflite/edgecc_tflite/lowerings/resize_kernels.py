"""When TFLite's two resize kernels read where a Resize does, and emitting them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgecc_tflite.ir import Shape, Tensor
from edgecc_tflite.lowerings.interpolation import Axis, nearest, positions
from edgecc_tflite.lowerings.late import Late
from edgecc_tflite.lowerings.windows import as_2d, from_2d

if TYPE_CHECKING:
    from edgecc_tflite.lowerings.context import Lowering
    from edgecc_tflite.lowerings.node_view import NodeView

#: align_corners and half_pixel_centers of the kernels.
Flags = tuple[bool, bool]
_FLAGS: tuple[Flags, ...] = ((False, False), (True, False), (False, True))
#: The flags that read where a mode reads, whatever the sizes.
_SAME_PLACES: dict[str, Flags] = {
    "half_pixel": (False, True),
    "pytorch_half_pixel": (False, True),
    "asymmetric": (False, False),
    "align_corners": (True, False),
}
#: How far, in input elements, the kernel may read from where the model does.
_CLOSE = 1e-4


def scale_position(node: NodeView, axis: int) -> int | None:
    """Where scales and sizes speak of an axis; None if they do not."""
    axes = [a % node.rank() for a in node.ints("axes", range(node.rank()))]
    return axes.index(axis) if axis in axes else None


def resized_axes(node: NodeView) -> list[int]:
    """Axes whose values move, as far as that is known."""
    return [axis for axis in range(node.rank()) if _may_move(node, axis)]


def _may_move(node: NodeView, axis: int) -> bool:
    before, after = sizes(node)
    position = scale_position(node, axis)
    if position is None or before[axis] == after[axis] == 1:
        return False
    if node.text("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize":
        region = node.value(1)
        entries = len(node.ints("axes", range(node.rank())))
        return region is None or before[axis] != after[axis] or (region[position], region[position + entries]) != (0, 1)
    if _by_scales(node):
        scales = node.value(2)
        return scales is None or float(scales[position]) != 1.0
    if before[axis] < 0 and node.value(3) is None:
        return not is_checked(node, axis)
    return before[axis] != after[axis]


def is_checked(node: NodeView, axis: int) -> bool:
    """Whether the axis is an open batch whose size stays: nothing says so now, the result is checked at run time.

    Exporters compute all sizes where they mean those of height and width.
    """
    before, after = sizes(node)
    is_batch = axis == 0 and min(before[0], after[0]) < 0 and before[1:2] == after[1:2] and min(before[1:2]) >= 0
    computed = not _by_scales(node) and node.has(3) and node.value(3) is None and len(before) in (3, 4)
    return is_batch and computed and scale_position(node, axis) is not None and not node.has(1)


def _by_scales(node: NodeView) -> bool:
    return node.has(2) and node.shape(2) != (0,)


def sizes(node: NodeView) -> tuple[Shape, Shape]:
    before, after = node.shape(), node.out_shape()
    assert before is not None
    assert after is not None
    return before, after


def open_axes(node: NodeView) -> list[int]:
    """Resized axes with an open size before or after."""
    before, after = sizes(node)
    return [axis for axis in resized_axes(node) if min(before[axis], after[axis]) < 0]


def _is_image(node: NodeView) -> bool:
    return node.rank() in (3, 4) and min(resized_axes(node), default=0) >= 2 and node.dtype().name == "float32"


def exact_scale(node: NodeView) -> bool:
    """Whether output size over input size is the scale, whatever the sizes."""
    if not _by_scales(node):
        return node.text("keep_aspect_ratio_policy", "stretch") == "stretch"
    scales = node.value(2)
    return scales is not None and bool(np.all(scales == np.round(scales)) and np.all(scales >= 1))


def linear_flags(node: NodeView) -> Flags | None:
    """The flags with which RESIZE_BILINEAR reads where the model does."""
    mode = node.text("coordinate_transformation_mode", "half_pixel")
    if node.text("mode", "nearest") != "linear" or not _is_image(node):
        return None
    if open_axes(node):
        shrinks_smoothly = bool(node.integer("antialias", 0)) and not _by_scales(node)
        return None if shrinks_smoothly or not exact_scale(node) else _SAME_PLACES.get(mode)
    before, after = sizes(node)
    shrinks = any(after[axis] < before[axis] for axis in resized_axes(node))
    if not _is_known(node) or (shrinks and node.integer("antialias", 0)):
        return None
    return _matching(node, _reads_alike)


def nearest_flags(node: NodeView) -> Flags | None:
    """The flags with which RESIZE_NEAREST_NEIGHBOR takes the elements that the model takes."""
    if not _is_image(node):
        return None
    if not open_axes(node):
        return _matching(node, _takes_alike) if _is_known(node) else None
    mode = node.text("coordinate_transformation_mode", "half_pixel")
    rounding = node.text("nearest_mode", "round_prefer_floor")
    # Enlarging by a whole number repeats every element; the middle of each repetition is nearest to it.
    repeats = _by_scales(node) and exact_scale(node) and mode.endswith("half_pixel") and rounding.startswith("round")
    floors = exact_scale(node) and mode == "asymmetric" and rounding == "floor"
    return (False, False) if repeats or floors else None


def _is_known(node: NodeView) -> bool:
    """Whether the scale of every axis is known now."""
    if node.text("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize":
        return False
    if _by_scales(node):
        return node.value(2) is not None
    return node.text("keep_aspect_ratio_policy", "stretch") == "stretch"


def _matching(node: NodeView, alike: Any) -> Flags | None:
    before, after = sizes(node)
    mode = node.text("coordinate_transformation_mode", "half_pixel")
    axes = range(2, node.rank())
    found = {axis: positions_now(node, axis, before[axis], after[axis], mode) for axis in axes}
    for flags in _FLAGS:
        if all(alike(node, found[axis], before[axis], after[axis], flags) for axis in axes):
            return flags
    return None


def positions_now(node: NodeView, axis: int, size: int, count: int, mode: str) -> Late:
    """Where the elements of an axis read whose sizes and scale are known."""
    position, scale = scale_position(node, axis), count / size
    scales = node.value(2)
    if position is not None and scales is not None and scales.size:
        scale = float(scales[position])
    # Nothing is emitted for what is known, so that nothing is needed that emits.
    c: Any = None
    known = [Late(c, np.asarray(value, np.float64)) for value in (size, count, scale, 0.0, 1.0)]
    return positions(c, Axis(*known), mode)


def _reads_alike(node: NodeView, at: Late, size: int, count: int, flags: Flags) -> bool:
    if size == 1:
        return True
    ours = np.clip(_kernel_positions(size, count, flags) - (0.5 if flags[1] else 0.0), 0, size - 1)
    return bool(np.max(np.abs(ours - np.clip(at.known, 0, size - 1))) < _CLOSE)


def _takes_alike(node: NodeView, at: Late, size: int, count: int, flags: Flags) -> bool:
    order = nearest(at, Late(at.c, np.asarray(size, np.float64)), node.text("nearest_mode", "round_prefer_floor"))
    ours = _kernel_positions(size, count, flags)
    taken = np.floor(ours + np.float32(0.5)) if flags[0] else np.floor(ours)
    return np.array_equal(order.known, np.clip(taken, 0, size - 1))


def _kernel_positions(size: int, count: int, flags: Flags) -> np.ndarray:
    """Where TFLite's kernels read, in float32 as they compute it."""
    align_corners, half_pixel_centers = flags
    at = np.arange(count, dtype=np.float32)
    step = np.float32((size - 1) / (count - 1)) if align_corners and count > 1 else np.float32(size / count)
    return (at + np.float32(0.5)) * step if half_pixel_centers else at * step


def resize_by_kernel(c: Lowering, builtin: str, flags: Flags) -> None:
    x, out = c.x(), c.out()
    height, width = (1, *out.shape[2:]) if out.rank == 3 else out.shape[2:]
    wide = c.to_last(as_2d(c, x))
    size = c.ints((height, width), "size")
    if min(height, width) < 0:
        size = _open_size(c, wide)
        mode = c.node.text("coordinate_transformation_mode", "half_pixel")
        if mode == "pytorch_half_pixel" and not _by_scales(c.node):
            wide = _first_if_one(c, wide, size)
    shape = (wide.shape[0], height, width, wide.shape[3])
    options: dict[str, Any] = {"alignCorners": flags[0], "halfPixelCenters": flags[1]}
    result = c.emit(builtin, [wide, size], shape=shape, **options)
    if not is_checked(c.node, 0):
        from_2d(c, result, out)
        return
    # A RESHAPE to the sizes asked for fails where the batch is another one.
    checked = c.temporary(out.shape, out.dtype, "unchecked")
    from_2d(c, result, checked)
    c.emit("RESHAPE", [checked, c.cast(c.x(3), np.int32)], out)


def _open_size(c: Lowering, wide: Tensor) -> Tensor:
    """Height and width of the output, at run time."""
    i32 = np.dtype(np.int32)
    parts: list[Tensor] = []
    sizes_of_x = c.emit("SHAPE", [wide], shape=(4,), dtype=i32, outType=2)
    for axis in (1, 2):
        source_axis = axis + 1 if c.x().rank == 4 else axis
        position = None if c.x().rank == 3 and axis == 1 else scale_position(c.node, source_axis)
        if position is not None and not _by_scales(c.node):
            asked = c.cast(c.x(3), i32)
            parts.append(c.emit("GATHER", [asked, c.ints([position])], shape=(1,), axis=0))
            continue
        mine = c.emit("GATHER", [sizes_of_x, c.ints([axis])], shape=(1,), dtype=i32, axis=0)
        scales = c.node.value(2)
        factor = 1 if position is None or scales is None else int(scales[position])
        parts.append(mine if factor == 1 else c.binary("MUL", mine, c.ints([factor])))
    return c.emit("CONCATENATION", parts, shape=(2,), dtype=i32, axis=0, fusedActivationFunction=0)


def _first_if_one(c: Lowering, wide: Tensor, size: Tensor) -> Tensor:
    """Cut an axis of which one element is asked for to its first one: there the kernel would read the middle."""
    i32 = np.dtype(np.int32)
    whole = c.emit("SHAPE", [wide], shape=(4,), dtype=i32, outType=2)
    asked = c.emit("CONCATENATION", [c.ints([2]), size, c.ints([2])], shape=(4,), axis=0, fusedActivationFunction=0)
    is_one = c.binary("EQUAL", asked, c.ints([1]), dtype=bool)
    kept = c.emit("SELECT_V2", [is_one, c.ints([1]), whole], shape=(4,), dtype=i32)
    return c.emit("SLICE", [wide, c.ints([0, 0, 0, 0]), kept], shape=wide.shape)
