"""Convolutions in one, two and three dimensions; the weights may be computed at run time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgecc_tflite.enums import Activation, Padding
from edgecc_tflite.ir import Tensor
from edgecc_tflite.lowerings.base import LoweringRule
from edgecc_tflite.lowerings.constraints import FLOAT, ranked, static, typed
from edgecc_tflite.lowerings.windows import (
    Windows,
    as_2d,
    from_2d,
    no_negative_pads,
    pad,
    same_pads_need_sizes,
    windows_of,
)

if TYPE_CHECKING:
    from edgecc_tflite.lowerings.context import Lowering


def _conv(c: Lowering) -> None:
    weights = c.x(1)
    windows = windows_of(c.node, weights.shape[2:])
    x = c.to_last(as_2d(c, c.x()))
    result = convolve(c, x, weights, c.optional(2), windows, c.node.integer("group", 1))
    from_2d(c, result, c.out())


def convolve(c: Lowering, x: Tensor, weights: Tensor, bias: Tensor | None, windows: Windows, groups: int) -> Tensor:
    """A convolution of a channels-last tensor.

    Args:
        c: emits.
        x: input of shape (batch, [depth,] height, width, channels).
        weights: in ONNX's order (out, in per group, [depth,] [height,] width).
        bias: one value per output channel.
        windows: where to apply the weights.
        groups: number of independent groups of channels.
    """
    kernel = c.reshape(weights, (*weights.shape[:2], *windows.kernel))
    if kernel.data is not None:
        windows, taps = windows.without_idle_taps()
        kernel = c.constant(kernel.data[(slice(None), slice(None), *taps)], "weights")
    bias = bias or c.constant(np.zeros(weights.shape[0], weights.dtype), "bias")
    padding = windows.padding
    if padding is None:
        x = pad(c, x, windows.begin, windows.end)
        padding = Padding.VALID
    channels, outs = x.shape[-1], weights.shape[0]
    options = {"padding": padding, **_steps(windows), "fusedActivationFunction": Activation.NONE}
    shape = (x.shape[0], *windows.out, outs)
    if len(windows.kernel) == 3:
        return _conv_3d(c, x, kernel, bias, shape, groups, options)
    if groups == channels and groups > 1:
        # The one input channel of each group comes first.
        filters = c.transpose(kernel, (1, 2, 3, 0))
        options["depthMultiplier"] = outs // channels
        return c.emit("DEPTHWISE_CONV_2D", [x, filters, bias], shape=shape, **options)
    return c.emit("CONV_2D", [x, c.transpose(kernel, (0, 2, 3, 1)), bias], shape=shape, **options)


def _steps(windows: Windows) -> dict[str, Any]:
    """Strides and dilations by the names of the options."""
    names = "DHW"[-len(windows.kernel) :]
    strides = {f"stride{name}": step for name, step in zip(names, windows.strides, strict=True)}
    return strides | {f"dilation{name}Factor": step for name, step in zip(names, windows.dilations, strict=True)}


def _conv_3d(
    c: Lowering, x: Tensor, kernel: Tensor, bias: Tensor, shape: tuple[int, ...], groups: int, options: dict[str, Any]
) -> Tensor:
    """CONV_3D knows no groups: each group is one of its own."""
    taps = c.transpose(kernel, (2, 3, 4, 1, 0))
    if groups == 1:
        return c.emit("CONV_3D", [x, taps, bias], shape=shape, **options)
    data, weights = split(c, x, groups, 4), split(c, taps, groups, 4)
    biases = split(c, bias, groups, 0)
    mine = (*shape[:-1], shape[-1] // groups)
    parts = [c.emit("CONV_3D", [d, w, b], shape=mine, **options) for d, w, b in zip(data, weights, biases, strict=True)]
    return c.emit("CONCATENATION", parts, shape=shape, axis=4, fusedActivationFunction=Activation.NONE)


def split(c: Lowering, x: Tensor, count: int, axis: int) -> list[Tensor]:
    """Equal parts along an axis."""
    if x.data is not None:
        return [c.constant(np.ascontiguousarray(part), "part") for part in np.split(x.data, count, axis)]
    shape = tuple(d // count if a == axis else d for a, d in enumerate(x.shape))
    parts = [c.temporary(shape, x.dtype, f"part{number}") for number in range(count)]
    c.emit_many("SPLIT", [c.ints(axis, "axis"), x], parts, numSplits=count)
    return parts


RULES = (
    LoweringRule(
        "Conv",
        _conv,
        ("CONV_2D", "DEPTHWISE_CONV_2D", "CONV_3D", "PAD", "RESHAPE", "TRANSPOSE", "SPLIT", "CONCATENATION"),
        (typed(FLOAT), ranked(3, 5), static(1), same_pads_need_sizes, no_negative_pads),
        note="1-D, 2-D and 3-D; groups natively, in 3-D one by one.",
    ),
)
