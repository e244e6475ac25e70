"""Sliding windows: what convolutions and pools have in common.

A 1-D operator is a 2-D one over an axis of size 1: `Windows` describes every operator in two or three spatial
dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from edgecc_tflite.enums import Padding
from edgecc_tflite.ir import Shape
from edgecc_tflite.lowerings.constraints import OPEN_DIMENSION

if TYPE_CHECKING:
    from edgecc_tflite.ir import Tensor
    from edgecc_tflite.lowerings.context import Lowering
    from edgecc_tflite.lowerings.node_view import NodeView

#: One number per spatial axis.
Spatial = tuple[int, ...]


@dataclass(frozen=True)
class Windows:
    """Where the windows of an operator lie: ([depth,] height, width).

    Attributes:
        size: of the input, -1 if open.
        kernel, strides, dilations: of the window.
        begin, end: padding in front of and behind the input, as far as windows reach it: `end` includes what
            ceil_mode adds and leaves out what no window touches.
        out: number of windows; -1 if open.
    """

    size: Spatial
    kernel: Spatial
    strides: Spatial
    dilations: Spatial
    begin: Spatial
    end: Spatial
    out: Spatial

    @property
    def span(self) -> Spatial:
        """Size of a window with its holes."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True))

    @property
    def axes(self) -> range:
        return range(len(self.kernel))

    @property
    def is_padded(self) -> bool:
        return any(self.begin) or any(self.end)

    @property
    def padding(self) -> Padding | None:
        """What TFLite calls this padding, None if it has no word for it."""
        if all(_is_same(self, axis) for axis in self.axes):
            return Padding.SAME
        return None if self.is_padded else Padding.VALID

    def without_idle_taps(self) -> tuple[Windows, tuple[slice, ...]]:
        """The windows without rows and columns of taps that meet nothing but padding, and the taps that are left.

        A dilation larger than the input leaves one tap of three; kernels multiply by all that padding.
        """
        taps = tuple(_live_taps(self, axis) for axis in self.axes)
        kernel = tuple(len(live) for live in taps)
        begin = tuple(b - live.start * d for b, live, d in zip(self.begin, taps, self.dilations, strict=True))
        dilations = tuple(1 if k == 1 else d for k, d in zip(kernel, self.dilations, strict=True))
        smaller = replace(self, kernel=kernel, dilations=dilations, begin=begin)
        reach = [
            (count - 1) * step + span for count, step, span in zip(self.out, self.strides, smaller.span, strict=True)
        ]
        rest = [max(r - size - b, 0) for r, size, b in zip(reach, self.size, begin, strict=True)]
        end = tuple(e if len(live) == k else r for e, live, k, r in zip(self.end, taps, self.kernel, rest, strict=True))
        return replace(smaller, end=end), tuple(slice(live.start, live.stop) for live in taps)


def _live_taps(windows: Windows, axis: int) -> range:
    """The taps along an axis up to the first and the last that meet the input."""
    size, begin, dilation = windows.size[axis], windows.begin[axis], windows.dilations[axis]
    live = range(windows.kernel[axis])
    if size < 0 or windows.out[axis] < 1:
        return live
    last = (windows.out[axis] - 1) * windows.strides[axis]
    # As long as what is left is padded and not cut, in front or where another window would begin; one tap stays.
    while len(live) > 1 and live.start * dilation + last < begin and (live.start + 1) * dilation <= begin:
        live = live[1:]
    room = size + begin - last
    while len(live) > 1 and live[-1] * dilation - begin >= size and room <= live[-2] * dilation + windows.strides[axis]:
        live = live[:-1]
    return live


def _is_same(windows: Windows, axis: int) -> bool:
    """Whether SAME pads this axis as asked: as many windows as strides fit, the odd element behind."""
    size, stride, span = windows.size[axis], windows.strides[axis], windows.span[axis]
    asked = windows.begin[axis], windows.end[axis]
    if size < 0:
        # With a window for each element the size does not matter.
        return stride == 1 and asked == ((span - 1) // 2, span // 2)
    count = -(-size // stride)
    total = max((count - 1) * stride + span - size, 0)
    return windows.out[axis] == count and asked == (total // 2, total - total // 2)


def windows_of(node: NodeView, kernel: tuple[int, ...]) -> Windows:
    """The windows of a convolution or pool node."""
    spatial = len(kernel)
    shape = node.shape()
    assert shape is not None
    strides = node.ints("strides", (1,) * spatial)
    dilations = node.ints("dilations", (1,) * spatial)
    ceil_mode = bool(node.integer("ceil_mode", 0))
    axes = [
        _axis(node, axis, shape[2 + axis], kernel[axis], strides[axis], dilations[axis], ceil_mode)
        for axis in range(spatial)
    ]
    if spatial == 1:
        axes = [(1, 1, 1, 1, 0, 0, 1), *axes]
    return Windows(*zip(*axes, strict=True))


def _axis(
    node: NodeView, axis: int, size: int, kernel: int, stride: int, dilation: int, ceil_mode: bool
) -> tuple[int, ...]:
    begin, end = _pads(node, axis, size, stride, (kernel - 1) * dilation + 1)
    if size < 0:
        return size, kernel, stride, dilation, begin, end, -1
    span = (kernel - 1) * dilation + 1
    room = size + begin + end - span
    count = room // stride + 1
    if ceil_mode and room % stride and count * stride < size + begin:
        # A last window that starts inside the input or its left padding is kept, and reaches beyond.
        count += 1
    # What no window reaches needs no padding.
    end = max((count - 1) * stride + span - size - begin, 0)
    return size, kernel, stride, dilation, begin, end, count


def _pads(node: NodeView, axis: int, size: int, stride: int, span: int) -> tuple[int, int]:
    auto = node.text("auto_pad", "NOTSET")
    if auto == "VALID":
        return 0, 0
    if auto in {"SAME_UPPER", "SAME_LOWER"}:
        total = max((-(-size // stride) - 1) * stride + span - size, 0)
        less, more = total // 2, total - total // 2
        return (less, more) if auto == "SAME_UPPER" else (more, less)
    pads = node.ints("pads")
    if not pads:
        return 0, 0
    return pads[axis], pads[axis + len(pads) // 2]


def same_pads_need_sizes(node: NodeView) -> str | None:
    """`auto_pad` can only be resolved for a known size."""
    shape = node.shape()
    auto = node.text("auto_pad", "NOTSET")
    if shape is None or all(d >= 0 for d in shape[2:]) or not auto.startswith("SAME"):
        return None
    if all(stride == 1 for stride in node.ints("strides", (1,))):
        return None
    return f"auto_pad={auto} over an {OPEN_DIMENSION} with strides"


def no_negative_pads(node: NodeView) -> str | None:
    return "negative pads" if any(p < 0 for p in node.ints("pads")) else None


def as_2d(c: Lowering, x: Tensor) -> Tensor:
    """Insert a height of 1 into a 1-D operator's input."""
    return x if x.rank > 3 else c.reshape(x, (x.shape[0], x.shape[1], 1, x.shape[2]))


def from_2d(c: Lowering, x: Tensor, out: Tensor) -> None:
    """Transpose a channels-last result to channels-first and drop the height that `as_2d` put in."""
    if out.rank > 3:
        c.to_first(x, out)
        return
    wide = c.to_first(x)
    c.reshape(wide, (wide.shape[0], wide.shape[1], wide.shape[3]), out)


def pad(c: Lowering, x: Tensor, begin: Spatial, end: Spatial, value: float = 0.0) -> Tensor:
    """Pad the spatial axes of a channels-last tensor."""
    if not any(begin) and not any(end):
        return x
    amounts = [(0, 0), *zip(begin, end, strict=True), (0, 0)]
    shape: Shape = tuple(d if d < 0 else d + sum(amount) for d, amount in zip(x.shape, amounts, strict=True))
    table = c.ints(np.array(amounts), "paddings")
    if value == 0.0:
        return c.emit("PAD", [x, table], shape=shape)
    return c.emit("PADV2", [x, table, c.scalar(value, x.dtype)], shape=shape)


def take(c: Lowering, x: Tensor, begin: Spatial, size: Spatial) -> Tensor:
    """A part of the spatial axes of a channels-last tensor."""
    if size == x.shape[1:-1]:
        return x
    bounds = [c.ints([0, *begin, 0], "begin"), c.ints([-1, *size, -1], "size")]
    return c.emit("SLICE", [x, *bounds], shape=(x.shape[0], *size, x.shape[-1]))
