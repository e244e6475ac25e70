"""Resize: by TFLite's kernels where they read at the same places, otherwise axis by axis.

An axis is resized by a GATHER (nearest) or by a matrix of weights (linear, cubic). Scales, sizes and regions may be
computed at run time: then so are the indices and the matrices.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecc_tflite.ir import Tensor
from edgecc_tflite.lowerings import interpolation
from edgecc_tflite.lowerings.base import LoweringRule
from edgecc_tflite.lowerings.constraints import ANY_TYPE, OPEN_DIMENSION, known_rank, one_of, typed
from edgecc_tflite.lowerings.interpolation import Axis, Kernel
from edgecc_tflite.lowerings.late import Late, element, late, now, size_along
from edgecc_tflite.lowerings.matmul import along
from edgecc_tflite.lowerings.resize_kernels import (
    exact_scale,
    is_checked,
    linear_flags,
    nearest_flags,
    open_axes,
    positions_now,
    resize_by_kernel,
    resized_axes,
    scale_position,
    sizes,
)

if TYPE_CHECKING:
    from edgecc_tflite.lowerings.context import Lowering
    from edgecc_tflite.lowerings.node_view import NodeView

_CROP = "tf_crop_and_resize"
#: Float32 error of positions, in input elements.
_WHOLE = 1e-5


def _resize(c: Lowering) -> None:
    axes = resized_axes(c.node)
    if not axes:
        c.copy(c.x(), c.out())
        return
    is_nearest = c.node.text("mode", "nearest") == "nearest"
    flags = nearest_flags(c.node) if is_nearest else linear_flags(c.node)
    if flags is not None:
        resize_by_kernel(c, "RESIZE_NEAREST_NEIGHBOR" if is_nearest else "RESIZE_BILINEAR", flags)
    elif is_nearest:
        _along_axes(c, axes, _gather)
    else:
        _along_axes(c, axes, _multiply)


def _along_axes(c: Lowering, axes: list[int], step: Any) -> None:
    """One axis after another; the extrapolation value replaces what would be read outside of the input."""
    x, out, is_crop = c.x(), c.out(), _mode(c.node) == _CROP
    mask: Late | None = None
    for number, index in enumerate(axes):
        axis = _axis(c, index)
        at = interpolation.positions(c, axis, _mode(c.node))
        if is_crop:
            shape = tuple(-1 if a == index else 1 for a in range(x.rank))
            within = interpolation.inside(at, axis.size).reshape(*shape)
            mask = within if mask is None else mask * within
            at = at.clip(0, axis.size - 1)
        last = number == len(axes) - 1 and not is_crop
        x = step(c, x, index, axis, at, out if last else None)
    if mask is not None:
        kept = c.binary("MUL", x, mask.tensor)
        beyond = (1 - mask) * c.node.number("extrapolation_value", 0.0)
        c.binary("ADD", kept, beyond.tensor, out)


def _gather(c: Lowering, x: Tensor, index: int, axis: Axis, at: Late, out: Tensor | None) -> Tensor:
    order = interpolation.nearest(at, axis.size, c.node.text("nearest_mode", "round_prefer_floor"))
    indices = c.ints(order.known.astype(np.int32), "order") if order.is_known else c.cast(order.tensor, np.int32)
    shape = tuple(c.out().shape[a] if a == index else d for a, d in enumerate(x.shape))
    return c.emit("GATHER", [x, indices], out, shape=shape, axis=index)


def _multiply(c: Lowering, x: Tensor, index: int, axis: Axis, at: Late, out: Tensor | None) -> Tensor:
    kernel = Kernel(
        cubic=c.node.text("mode", "nearest") == "cubic",
        coefficient=c.node.number("cubic_coeff_a", -0.75),
        antialias=bool(c.node.integer("antialias", 0)),
        exclude_outside=bool(c.node.integer("exclude_outside", 0)),
    )
    return along(c, x, index, interpolation.weights(c, axis, at, kernel).tensor, out)


def _axis(c: Lowering, index: int) -> Axis:
    node, x, out = c.node, c.x(), c.out()
    size = size_along(c, x, index)
    position = scale_position(node, index)
    begin, end = now(c, 0.0), now(c, 1.0)
    if _mode(node) == _CROP and position is not None:
        region = late(c, c.x(1))
        entries = len(node.ints("axes", range(x.rank)))
        begin, end = element(c, region, position), element(c, region, position + entries)
    known = now(c, out.shape[index]) if out.shape[index] >= 0 else None
    if position is None:
        return Axis(size, known or size, now(c, 1.0), begin, end)
    if _has(node, 2):
        scale = element(c, late(c, c.x(2)), position)
        return Axis(size, known or (size * scale).floor(), scale, begin, end)
    count = known or element(c, late(c, c.x(3)), position)
    return Axis(size, count, _kept_ratio(c) or count / size, begin, end)


def _kept_ratio(c: Lowering) -> Late | None:
    """The one scale of all axes that `keep_aspect_ratio_policy` asks for."""
    node, policy = c.node, c.node.text("keep_aspect_ratio_policy", "stretch")
    if policy == "stretch":
        return None
    sizes = late(c, c.x(3))
    ratios: list[Late] = []
    for position, axis in enumerate(node.ints("axes", range(c.x().rank))):
        ratios.append(element(c, sizes, position) / size_along(c, c.x(), axis % c.x().rank))
    narrower = Late.minimum if policy == "not_larger" else Late.maximum
    return functools.reduce(narrower, ratios)


def _mode(node: NodeView) -> str:
    return node.text("coordinate_transformation_mode", "half_pixel")


def _has(node: NodeView, index: int) -> bool:
    """Whether an input is there and says anything: exporters give empty scales where they give sizes."""
    return node.has(index) and node.input(index).shape not in ([0], (0,))


def _open(node: NodeView) -> str | None:
    """What needs the sizes now."""
    if not open_axes(node):
        return None
    mode, is_linear = _mode(node), node.text("mode", "nearest") != "nearest"
    name = node.input(0).name
    if is_checked(node, 0) and not is_linear and nearest_flags(node) is None:
        return f"nearest elements of {mode!r} with computed sizes over an {OPEN_DIMENSION} of input {name!r}"
    if is_linear and node.text("mode", "nearest") == "cubic":
        return f"mode='cubic' over an {OPEN_DIMENSION} of input {name!r}"
    if is_linear and linear_flags(node) is None:
        how = "" if exact_scale(node) else " by scales that are not whole numbers"
        return f"mode='linear' with {mode!r}{how} over an {OPEN_DIMENSION} of input {name!r}"
    if mode == _CROP:
        return f"{mode} over an {OPEN_DIMENSION} of input {name!r}"
    return None


def _whole_corners(node: NodeView) -> str | None:
    """ONNX's reference spreads the corners over a fraction of an element more than there is; ONNX Runtime does not."""
    before, after, scales = node.shape(), node.out_shape(), node.value(2)
    if scales is None or not scales.size or before is None or after is None or _mode(node) != "align_corners":
        return None
    for position, axis in enumerate(node.ints("axes", range(len(before)))):
        size, count = before[axis], after[axis]
        if min(size, count) > 0 and abs(size * float(scales[position]) - count) > 1e-3:
            scale = f"{scales[position]:g}"
            return f"align_corners with a scale of {scale} that turns {size} into {count}; give sizes instead"
    return None


def _undecided(node: NodeView) -> str | None:
    """At whole numbers, float32 error decides what `floor` takes: ONNX Runtime is often just below them."""
    mode, floors = _mode(node), node.text("nearest_mode", "round_prefer_floor") == "floor"
    if node.text("mode", "nearest") != "nearest" or mode != "half_pixel_symmetric" or not floors:
        return None
    if open_axes(node) or (_has(node, 2) and node.value(2) is None):
        return None
    before, after = sizes(node)
    for axis in resized_axes(node):
        at = positions_now(node, axis, before[axis], after[axis], mode).known
        inner = at[(at > -0.5) & (at < before[axis] - 0.5)]
        if np.any(np.abs(inner - np.round(inner)) < _WHOLE):
            turns = f"{before[axis]} into {after[axis]}"
            return f"{mode} that turns {turns} reads at whole numbers, where rounding errors decide what floor takes"
    return None


def _types(node: NodeView) -> str | None:
    is_copied = node.text("mode", "nearest") == "nearest" and _mode(node) != _CROP
    return typed(ANY_TYPE if is_copied else {"float32"})(node)


RULES = (
    LoweringRule(
        "Resize",
        _resize,
        ("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", "GATHER", "FULLY_CONNECTED", "RESHAPE", "TRANSPOSE"),
        (
            _types,
            known_rank(),
            one_of("mode", ("nearest", "linear", "cubic"), "nearest"),
            _open,
            _whole_corners,
            _undecided,
        ),
        since=10,
        note="Every mode, over any axes; linear and cubic beside the kernels' places as matrix products; "
        "half_pixel_symmetric with floor not where rounding errors decide.",
    ),
)
