"""Convolutions and their transposes in one and two dimensions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgecc_tflite.enums import Activation, Padding
from edgecc_tflite.ir import Tensor
from edgecc_tflite.lowerings.base import LoweringRule
from edgecc_tflite.lowerings.constraints import FLOAT, constant, ranked, static_space, typed
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
    from edgecc_tflite.lowerings.node_view import NodeView


def _conv(c: Lowering) -> None:
    weights = c.values(1)
    windows = windows_of(c.node, weights.shape[2:])
    x = c.to_last(as_2d(c, c.x()))
    bias = c.optional(2) or c.constant(np.zeros(weights.shape[0], weights.dtype), "bias")
    result = convolve(c, x, weights, bias, windows, c.node.integer("group", 1))
    from_2d(c, result, c.out())


def convolve(c: Lowering, x: Tensor, weights: np.ndarray, bias: Tensor, windows: Windows, groups: int) -> Tensor:
    """A convolution of a channels-last tensor.

    Args:
        c: emits.
        x: input of shape (batch, height, width, channels).
        weights: in ONNX's order (out, in per group, [height,] width).
        bias: one value per output channel.
        windows: where to apply the weights.
        groups: number of independent groups of channels.
    """
    kernel = weights.reshape(*weights.shape[:2], *windows.kernel)
    padding = windows.padding
    if padding is None:
        x = pad(c, x, windows.begin, windows.end)
        padding = Padding.VALID
    channels, outs = x.shape[3], weights.shape[0]
    options: dict[str, Any] = {
        "padding": padding,
        "strideH": windows.strides[0],
        "strideW": windows.strides[1],
        "dilationHFactor": windows.dilations[0],
        "dilationWFactor": windows.dilations[1],
        "fusedActivationFunction": Activation.NONE,
    }
    shape = (x.shape[0], *windows.out, outs)
    if groups == channels and groups > 1:
        taps = c.constant(kernel.transpose(1, 2, 3, 0), "weights")
        options["depthMultiplier"] = outs // channels
        return c.emit("DEPTHWISE_CONV_2D", [x, taps, bias], shape=shape, **options)
    taps = c.constant(kernel.transpose(0, 2, 3, 1), "weights")
    return c.emit("CONV_2D", [x, taps, bias], shape=shape, **options)


def _conv_transpose(c: Lowering) -> None:
    weights = c.values(1)
    kernel = weights.shape[2:]
    taps = weights.reshape(*weights.shape[:2], *((1, *kernel) if len(kernel) == 1 else kernel))
    windows = _transposed_windows(c.node, kernel)
    groups = c.node.integer("group", 1)
    x = c.to_last(as_2d(c, c.x()))
    if groups > 1 or windows.dilations != (1, 1):
        result = _spread_and_convolve(c, x, taps, windows, groups)
    else:
        result = _transpose_conv(c, x, taps, windows)
    from_2d(c, result, c.out())


def _transposed_windows(node: NodeView, kernel: tuple[int, ...]) -> Windows:
    """The windows over the output that a ConvTranspose undoes; `size` is its input's, `out` its output's."""
    shape = node.shape()
    assert shape is not None
    spatial = len(kernel)
    strides = node.ints("strides", (1,) * spatial)
    dilations = node.ints("dilations", (1,) * spatial)
    extra = node.ints("output_padding", (0,) * spatial)
    wanted = node.ints("output_shape")
    auto = node.text("auto_pad", "NOTSET")
    pads = node.ints("pads", (0,) * (2 * spatial))
    rows = []
    for axis in range(spatial):
        size = shape[2 + axis]
        full = (size - 1) * strides[axis] + (kernel[axis] - 1) * dilations[axis] + 1 + extra[axis]
        begin, end = pads[axis], pads[axis + spatial]
        if wanted or auto.startswith("SAME"):
            out = wanted[axis] if wanted else size * strides[axis]
            total = full - out
            begin = total // 2 if auto == "SAME_UPPER" else total - total // 2
            end = total - begin
        elif auto == "VALID":
            begin = end = 0
        rows.append((size, kernel[axis], strides[axis], dilations[axis], begin, end, full - begin - end))
    if spatial == 1:
        rows = [(1, 1, 1, 1, 0, 0, 1), *rows]
    columns = [(row[0], row[1]) for row in zip(*rows, strict=True)]
    return Windows(*columns)


def _transpose_conv(c: Lowering, x: Tensor, taps: np.ndarray, windows: Windows) -> Tensor:
    """TRANSPOSE_CONV where it cuts its result as asked, otherwise the whole result and a SLICE or PAD behind it."""
    outs = taps.shape[1]
    weights = c.constant(taps.transpose(1, 2, 3, 0), "weights")
    bias = c.optional(2)
    padding, size = Padding.SAME, windows.out
    if not _cuts_like_same(windows):
        padding = Padding.VALID
        height, width = ((n - 1) * s + k for n, s, k in zip(windows.size, windows.strides, windows.kernel, strict=True))
        size = height, width
    # Rows that the output has beyond the windows get the bias too, so that it must come after the padding.
    grows = padding is Padding.VALID and any(
        windows.begin[axis] < 0 or windows.begin[axis] + windows.out[axis] > size[axis] for axis in (0, 1)
    )
    shape = (x.shape[0], *size, outs)
    inputs = [c.ints([max(d, 1) for d in shape], "output_shape"), weights, x]
    if x.shape[0] < 0:
        inputs[0] = _open_batch(c, x, shape)
    if bias is not None and not grows:
        inputs.append(bias)
    options: dict[str, Any] = {"padding": padding, "strideH": windows.strides[0], "strideW": windows.strides[1]}
    result = c.emit("TRANSPOSE_CONV", inputs, shape=shape, dtype=x.dtype, **options)
    if padding is Padding.VALID:
        result = _cut(c, result, windows)
    return c.binary("ADD", result, bias) if bias is not None and grows else result


def _cuts_like_same(windows: Windows) -> bool:
    """Whether SAME, which centres the output in the whole result, cuts what was asked."""
    for axis in (0, 1):
        whole = (windows.size[axis] - 1) * windows.strides[axis] + windows.kernel[axis]
        if windows.out[axis] != windows.size[axis] * windows.strides[axis]:
            return False
        if windows.begin[axis] != max(whole - windows.out[axis], 0) // 2 or whole < windows.out[axis]:
            return False
    return True


def _open_batch(c: Lowering, x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The shape of a result whose batch is that of x."""
    i32 = np.dtype(np.int32)
    sizes = c.emit("SHAPE", [x], shape=(4,), dtype=i32, outType=2)
    batch = c.emit("GATHER", [sizes, c.ints([0])], shape=(1,), dtype=i32, axis=0)
    return c.emit("CONCATENATION", [batch, c.ints(shape[1:])], shape=(4,), dtype=i32, axis=0)


def _cut(c: Lowering, x: Tensor, windows: Windows) -> Tensor:
    """Take `windows.out` rows and columns from `windows.begin` on, zeros where the input has none."""
    front = tuple(max(-b, 0) for b in windows.begin)
    behind = tuple(max(windows.begin[a] + windows.out[a] - x.shape[1 + a], 0) for a in (0, 1))
    x = pad(c, x, (front[0], front[1]), (behind[0], behind[1]))
    shape = (x.shape[0], *windows.out, x.shape[3])
    if shape == x.shape:
        return x
    begin = c.ints([0, max(windows.begin[0], 0), max(windows.begin[1], 0), 0], "begin")
    return c.emit("SLICE", [x, begin, c.ints([-1, *windows.out, -1], "size")], shape=shape)


def _spread_and_convolve(c: Lowering, x: Tensor, taps: np.ndarray, windows: Windows, groups: int) -> Tensor:
    """Put strides - 1 zeros between the values and convolve with the weights turned around.

    Takes groups and dilations, which TRANSPOSE_CONV does not know.
    """
    for axis in (1, 2):
        x = _spread(c, x, axis, windows.strides[axis - 1])
    ins, outs_per_group = taps.shape[:2]
    turned = taps[:, :, ::-1, ::-1].reshape(groups, ins // groups, outs_per_group, *taps.shape[2:])
    weights = turned.swapaxes(1, 2).reshape(groups * outs_per_group, ins // groups, *taps.shape[2:])
    span = windows.span
    size = (x.shape[1], x.shape[2])
    begin = (span[0] - 1 - windows.begin[0], span[1] - 1 - windows.begin[1])
    end = tuple(windows.out[a] - 1 + span[a] - begin[a] - size[a] for a in (0, 1))
    x = pad(c, x, (max(begin[0], 0), max(begin[1], 0)), (max(end[0], 0), max(end[1], 0)))
    room = Windows((x.shape[1], x.shape[2]), windows.kernel, (1, 1), windows.dilations, (0, 0), (0, 0), windows.out)
    if min(*begin, *end) < 0:
        needed = (windows.out[0] - 1 + span[0], windows.out[1] - 1 + span[1])
        first = c.ints([0, max(-begin[0], 0), max(-begin[1], 0), 0], "begin")
        shape = (x.shape[0], *needed, x.shape[3])
        x = c.emit("SLICE", [x, first, c.ints([-1, *needed, -1], "size")], shape=shape)
        room = Windows(needed, windows.kernel, (1, 1), windows.dilations, (0, 0), (0, 0), windows.out)
    bias = c.optional(2) or c.constant(np.zeros(weights.shape[0], weights.dtype), "bias")
    return convolve(c, x, weights, bias, room, groups)


def _spread(c: Lowering, x: Tensor, axis: int, stride: int) -> Tensor:
    """Put stride - 1 zeros behind each value along an axis."""
    if stride == 1:
        return x
    split = c.reshape(x, (*x.shape[: axis + 1], 1, *x.shape[axis + 1 :]))
    table = np.zeros((split.rank, 2), np.int32)
    table[axis + 1, 1] = stride - 1
    shape = tuple(stride if a == axis + 1 else d for a, d in enumerate(split.shape))
    spread = c.emit("PAD", [split, c.constant(table, "paddings")], shape=shape)
    return c.reshape(spread, (*x.shape[:axis], x.shape[axis] * stride, *x.shape[axis + 1 :]))


_WEIGHTS = constant(1, "weights")
_BIAS = constant(2, "bias")

RULES = (
    LoweringRule(
        "Conv",
        _conv,
        ("CONV_2D", "DEPTHWISE_CONV_2D", "PAD", "RESHAPE", "TRANSPOSE"),
        (typed(FLOAT), ranked(3, 4), _WEIGHTS, _BIAS, same_pads_need_sizes, no_negative_pads),
        note="1-D and 2-D; groups natively.",
    ),
    LoweringRule(
        "ConvTranspose",
        _conv_transpose,
        ("TRANSPOSE_CONV", "CONV_2D", "DEPTHWISE_CONV_2D", "PAD", "SLICE", "ADD", "RESHAPE", "TRANSPOSE"),
        (typed(FLOAT), ranked(3, 4), _WEIGHTS, _BIAS, static_space()),
        note="With groups or dilations as a convolution of the spread input.",
    ),
)
