"""Pooling windows: TFLite's 2-D kernels, and what they do not know put together from them and from slices."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np

from edgecc_tflite.enums import Activation, Padding, TensorType
from edgecc_tflite.ir import Tensor
from edgecc_tflite.lowerings.windows import Windows, pad

if TYPE_CHECKING:
    from edgecc_tflite.lowerings.context import Lowering


def is_kernel_window(windows: Windows) -> bool:
    """Whether the 2-D kernels know such windows."""
    return len(windows.kernel) == 2 and windows.dilations == (1, 1)


def pool_2d(c: Lowering, builtin: str, x: Tensor, windows: Windows, padding: Padding) -> Tensor:
    return c.emit(
        builtin,
        [x],
        shape=(x.shape[0], *windows.out, x.shape[3]),
        padding=padding,
        strideH=windows.strides[0],
        strideW=windows.strides[1],
        filterHeight=windows.kernel[0],
        filterWidth=windows.kernel[1],
        fusedActivationFunction=Activation.NONE,
    )


def pool_by_axes(c: Lowering, x: Tensor, windows: Windows, builtin: str, combine: str) -> Tensor:
    """Pool a padded tensor axis by axis: a maximum or a sum over a box is one over its rows, then over its columns.

    Args:
        c: emits.
        x: (batch, [depth,] height, width, channels), padded.
        windows: where the windows lie.
        builtin: the 2-D kernel, for axes without dilation.
        combine: the binary operator that the kernel repeats; ADD for averages, which leaves a sum over dilated axes.
    """
    for axis in windows.axes:
        kernel, step, hole = windows.kernel[axis], windows.strides[axis], windows.dilations[axis]
        if (kernel, step) == (1, 1):
            continue
        out = windows.out[axis]
        if hole == 1:
            x = _pool_axis(c, builtin, x, axis + 1, kernel, step, out)
        else:
            taps = [_every(c, x, axis + 1, tap * hole, step, out) for tap in range(kernel)]
            x = functools.reduce(lambda a, b: c.binary(combine, a, b), taps)
            if combine == "ADD":
                x = c.binary("MUL", x, c.scalar(1.0 / kernel))
    return x


def _pool_axis(c: Lowering, builtin: str, x: Tensor, axis: int, kernel: int, step: int, out: int) -> Tensor:
    """The 2-D kernel over one axis: what is in front of it becomes the batch, what is behind it the channels."""
    front, behind = x.shape[:axis], int(np.prod(x.shape[axis + 1 :]))
    batch = -1 if -1 in front else int(np.prod(front))
    flat = c.reshape(x, (batch, x.shape[axis], 1, behind))
    one, none = (1, 1), (0, 0)
    windows = Windows((x.shape[axis], 1), (kernel, 1), (step, 1), one, none, none, (out, 1))
    return c.reshape(pool_2d(c, builtin, flat, windows, Padding.VALID), (*front, out, *x.shape[axis + 1 :]))


def _every(c: Lowering, x: Tensor, axis: int, first: int, step: int, count: int) -> Tensor:
    """Every step-th element of an axis."""
    begin = [first if a == axis else 0 for a in range(x.rank)]
    end = [first + (count - 1) * step + 1 if a == axis else 0 for a in range(x.rank)]
    steps = [step if a == axis else 1 for a in range(x.rank)]
    others = ((1 << x.rank) - 1) & ~(1 << axis)
    shape = tuple(count if a == axis else d for a, d in enumerate(x.shape))
    return c.emit(
        "STRIDED_SLICE", [x, c.ints(begin), c.ints(end), c.ints(steps)], shape=shape, beginMask=others, endMask=others
    )


def average_with_zeros(c: Lowering, x: Tensor, windows: Windows) -> Tensor:
    """The sum over each window of a tensor padded with zeros, divided by the window's size."""
    x = pad(c, x, windows.begin, windows.end)
    if is_kernel_window(windows):
        return pool_2d(c, "AVERAGE_POOL_2D", x, windows, Padding.VALID)
    return pool_by_axes(c, x, windows, "AVERAGE_POOL_2D", "ADD")


def raised(c: Lowering, x: Tensor, power: float) -> Tensor:
    """|x| to a power."""
    if power == 2.0:
        return c.unary("SQUARE", x)
    size = c.unary("ABS", x)
    return size if power == 1.0 else c.binary("POW", size, c.scalar(power))


def root(c: Lowering, x: Tensor, power: float, out: Tensor | None = None) -> Tensor:
    if power == 2.0:
        return c.unary("SQRT", x, out)
    return c.binary("POW", x, c.scalar(1.0 / power), out)


def emit_indices(c: Lowering, padded: Tensor, windows: Windows) -> None:
    """Where in the whole input, flattened, the largest element of each window lies; the first of equal ones."""
    shape = c.node.shape()
    assert shape is not None
    space = (1, *shape[2:]) if len(shape) == 3 else shape[2:]
    # Elements from one position of an axis to the next: the last axis is the densest, or the first if so asked.
    by_column = bool(c.node.integer("storage_order", 0))
    order = range(len(space)) if by_column else range(len(space))[::-1]
    pitch, dense = dict.fromkeys(order, 1), 1
    for axis in order:
        pitch[axis], dense = dense, dense * space[axis]

    taps = list(np.ndindex(*windows.kernel))
    columns = [c.reshape(_tap(c, padded, windows, tap), (shape[0], *windows.out, shape[1], 1)) for tap in taps]
    stacked = c.emit(
        "CONCATENATION",
        columns,
        shape=(*columns[0].shape[:-1], len(taps)),
        axis=columns[0].rank - 1,
        fusedActivationFunction=0,
    )
    i64 = np.dtype(np.int64)
    inputs = [stacked, c.ints(stacked.rank - 1, "axis")]
    found = c.emit("ARG_MAX", inputs, shape=stacked.shape[:-1], dtype=i64, outputType=TensorType.INT64)
    offset = [
        sum(t * d * pitch[a] for a, (t, d) in enumerate(zip(tap, windows.dilations, strict=True))) for tap in taps
    ]
    reached = c.emit("GATHER", [c.constant(np.array(offset, np.int64)), found], shape=found.shape, dtype=i64, axis=0)

    first = np.arange(shape[0] * shape[1], dtype=np.int64).reshape(shape[0], *(1,) * len(space), shape[1]) * dense
    for axis in windows.axes:
        start = (np.arange(windows.out[axis]) * windows.strides[axis] - windows.begin[axis]) * pitch[axis]
        first = first + start.reshape(-1, *(1,) * (len(space) - axis))
    index = c.binary("ADD", reached, c.constant(first, "first"))
    c.reshape(c.to_first(index), c.out(1).shape, c.out(1))


def _tap(c: Lowering, x: Tensor, windows: Windows, tap: tuple[int, ...]) -> Tensor:
    """One element of each window."""
    for axis in windows.axes:
        first = tap[axis] * windows.dilations[axis]
        x = _every(c, x, axis + 1, first, windows.strides[axis], windows.out[axis])
    return x
