"""Transposed convolutions in one, two and three dimensions; the weights may be computed at run time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgecc_tflite.enums import Padding
from edgecc_tflite.ir import Tensor
from edgecc_tflite.lowerings.base import LoweringRule
from edgecc_tflite.lowerings.constraints import FLOAT, ranked, static, static_space, typed
from edgecc_tflite.lowerings.conv import convolve
from edgecc_tflite.lowerings.windows import Windows, as_2d, from_2d, pad, take

if TYPE_CHECKING:
    from edgecc_tflite.lowerings.context import Lowering
    from edgecc_tflite.lowerings.node_view import NodeView


def _conv_transpose(c: Lowering) -> None:
    weights = c.x(1)
    kernel = weights.shape[2:]
    taps = c.reshape(weights, (*weights.shape[:2], *((1, *kernel) if len(kernel) == 1 else kernel)))
    windows = _transposed_windows(c.node, kernel)
    groups = c.node.integer("group", 1)
    x = c.to_last(as_2d(c, c.x()))
    if groups > 1 or any(step != 1 for step in windows.dilations):
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
    # Older exporters give the whole shape.
    wanted = node.ints("output_shape")[-spatial:]
    auto = node.text("auto_pad", "NOTSET")
    pads = node.ints("pads", (0,) * (2 * spatial))
    rows: list[tuple[int, ...]] = []
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
    return Windows(*zip(*rows, strict=True))


def _transpose_conv(c: Lowering, x: Tensor, taps: Tensor, windows: Windows) -> Tensor:
    """TRANSPOSE_CONV where it cuts its result as asked, otherwise the whole result and a SLICE or PAD behind it."""
    outs, is_3d = taps.shape[1], len(windows.kernel) == 3
    weights = c.transpose(taps, (2, 3, 4, 1, 0)) if is_3d else c.transpose(taps, (1, 2, 3, 0))
    bias = c.optional(2)
    padding, size = Padding.SAME, windows.out
    if is_3d or not _cuts_like_same(windows):
        padding = Padding.VALID
        size = tuple((n - 1) * s + k for n, s, k in zip(windows.size, windows.strides, windows.kernel, strict=True))
    # Rows that the output has beyond the windows get the bias too, so that it must come after the padding.
    grows = padding is Padding.VALID and any(
        windows.begin[axis] < 0 or windows.begin[axis] + windows.out[axis] > size[axis] for axis in windows.axes
    )
    bias_behind = grows or is_3d
    shape = (x.shape[0], *size, outs)
    inputs = [c.ints([max(d, 1) for d in shape], "output_shape"), weights, x]
    if x.shape[0] < 0:
        inputs[0] = _open_batch(c, x, shape)
    if bias is not None and not bias_behind:
        inputs.append(bias)
    names = "DHW"[-len(windows.kernel) :]
    options: dict[str, Any] = {f"stride{n}": s for n, s in zip(names, windows.strides, strict=True)}
    if is_3d:
        options |= {f"dilation{name}Factor": 1 for name in names}
    builtin = "CONV_3D_TRANSPOSE" if is_3d else "TRANSPOSE_CONV"
    result = c.emit(builtin, inputs, shape=shape, dtype=x.dtype, padding=padding, **options)
    if padding is Padding.VALID:
        result = _cut(c, result, windows)
    return c.binary("ADD", result, bias) if bias is not None and bias_behind else result


def _cuts_like_same(windows: Windows) -> bool:
    """Whether SAME, which centres the output in the whole result, cuts what was asked."""
    for axis in windows.axes:
        whole = (windows.size[axis] - 1) * windows.strides[axis] + windows.kernel[axis]
        if windows.out[axis] != windows.size[axis] * windows.strides[axis]:
            return False
        if windows.begin[axis] != max(whole - windows.out[axis], 0) // 2 or whole < windows.out[axis]:
            return False
    return True


def _open_batch(c: Lowering, x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The shape of a result whose batch is that of x."""
    i32 = np.dtype(np.int32)
    sizes = c.emit("SHAPE", [x], shape=(x.rank,), dtype=i32, outType=2)
    batch = c.emit("GATHER", [sizes, c.ints([0])], shape=(1,), dtype=i32, axis=0)
    return c.emit("CONCATENATION", [batch, c.ints(shape[1:])], shape=(x.rank,), dtype=i32, axis=0)


def _cut(c: Lowering, x: Tensor, windows: Windows) -> Tensor:
    """Take `windows.out` elements of each axis from `windows.begin` on, zeros where the input has none."""
    front = tuple(max(-b, 0) for b in windows.begin)
    behind = tuple(max(windows.begin[a] + windows.out[a] - x.shape[1 + a], 0) for a in windows.axes)
    return take(c, pad(c, x, front, behind), tuple(max(b, 0) for b in windows.begin), windows.out)


def _spread_and_convolve(c: Lowering, x: Tensor, taps: Tensor, windows: Windows, groups: int) -> Tensor:
    """Put strides - 1 zeros between the values and convolve with the weights turned around.

    Takes groups and dilations, which TRANSPOSE_CONV does not know.
    """
    for axis in windows.axes:
        x = _spread(c, x, axis + 1, windows.strides[axis])
    ins, outs_per_group = taps.shape[:2]
    kernel, ones, none = windows.kernel, (1,) * len(windows.kernel), (0,) * len(windows.kernel)
    # Axes (groups, ins per group, outs per group, taps in one): few enough for every kernel.
    count = int(np.prod(kernel))
    grouped = c.reshape(_turned(c, taps), (groups, ins // groups, outs_per_group, count))
    swapped = c.transpose(grouped, (0, 2, 1, 3))
    weights = c.reshape(swapped, (groups * outs_per_group, ins // groups, *kernel))
    span = windows.span
    begin = tuple(s - 1 - b for s, b in zip(span, windows.begin, strict=True))
    end = tuple(windows.out[a] - 1 + span[a] - begin[a] - x.shape[1 + a] for a in windows.axes)
    x = pad(c, x, tuple(max(b, 0) for b in begin), tuple(max(e, 0) for e in end))
    size = tuple(x.shape[1:-1])
    if min(*begin, *end) < 0:
        size = tuple(windows.out[a] - 1 + span[a] for a in windows.axes)
        x = take(c, x, tuple(max(-b, 0) for b in begin), size)
    room = Windows(size, kernel, ones, windows.dilations, none, none, windows.out)
    return convolve(c, x, weights, c.optional(2), room, groups)


def _turned(c: Lowering, taps: Tensor) -> Tensor:
    """The weights with every spatial axis reversed."""
    if taps.data is not None:
        return c.constant(np.ascontiguousarray(np.flip(taps.data, tuple(range(2, taps.rank)))), "turned")
    bounds = c.ints([0] * taps.rank)
    steps = c.ints([1, 1, *[-1] * (taps.rank - 2)])
    everything = (1 << taps.rank) - 1
    return c.emit("STRIDED_SLICE", [taps, bounds, bounds, steps], beginMask=everything, endMask=everything)


def _spread(c: Lowering, x: Tensor, axis: int, stride: int) -> Tensor:
    """Put stride - 1 zeros behind each value along an axis."""
    if stride == 1:
        return x
    before, behind = x.shape[: axis + 1], x.shape[axis + 1 :]
    # The axes in front and behind are merged: PAD takes five.
    rows = -1 if -1 in before else int(np.prod(before))
    split = c.reshape(x, (rows, 1, int(np.prod(behind))))
    table = c.ints(np.array([[0, 0], [0, stride - 1], [0, 0]]), "paddings")
    spread = c.emit("PAD", [split, table], shape=(rows, stride, split.shape[2]))
    return c.reshape(spread, (*before[:-1], before[-1] * stride, *behind))


RULES = (
    LoweringRule(
        "ConvTranspose",
        _conv_transpose,
        (
            *("TRANSPOSE_CONV", "CONV_3D_TRANSPOSE", "CONV_2D", "DEPTHWISE_CONV_2D", "CONV_3D"),
            *("PAD", "SLICE", "STRIDED_SLICE", "ADD", "SPLIT", "CONCATENATION", "RESHAPE", "TRANSPOSE"),
        ),
        (typed(FLOAT), ranked(3, 5), static(1), static_space()),
        note="1-D, 2-D and 3-D; with groups or dilations as a convolution of the spread input.",
    ),
)
