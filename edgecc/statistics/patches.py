"""Rows that a layer multiplies with its weight, from its input."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from edgecc.statistics.answers import Array
from edgecc.statistics.requests import Patches, Rows


def rows_of(values: Array, layout: Rows | Patches, limit: int) -> Array:
    """At most `limit` rows, each with a one appended: float64 [groups, rows, features + 1].

    Args:
        values: the layer's input; [batch, channels, *space] for patches.
        layout: how the layer reads it.
        limit: rows per group; spread evenly over all there are, the same places for every array of a shape.
    """
    if isinstance(layout, Rows):
        table = np.moveaxis(values, layout.axis, -1)
        table = table.reshape(-1, table.shape[-1])
        picked = table[spread(len(table), limit)][np.newaxis]
    else:
        picked = _patches(values, layout, limit)
    ones = np.ones((*picked.shape[:-1], 1))
    return np.concatenate([picked.astype(np.float64), ones], axis=-1)


def spread(count: int, limit: int) -> Array:
    """Indices of at most `limit` of `count` things: one from each of equal parts, at a place that varies.

    A fixed step could fall in with the width of an image and see some columns only; the golden ratio does not.
    """
    if count <= limit:
        return np.arange(count)
    parts = np.arange(limit)
    places = (parts + (parts * ((math.sqrt(5) - 1) / 2)) % 1.0) * (count / limit)
    return np.minimum(places.astype(np.int64), count - 1)


def _patches(values: Array, layout: Patches, limit: int) -> Array:
    space = values.shape[2:]
    if math.prod(layout.kernel) == layout.group == 1 and not any(layout.pads) and layout.auto_pad == "NOTSET":
        # Windows of one element: most layers of deep networks.
        steps: tuple[Any, ...] = (..., *(slice(None, None, stride) for stride in layout.strides))
        read = values[steps]
        counts = (len(read), *read.shape[2:])
        batch, *places = np.unravel_index(spread(math.prod(counts), limit), counts)
        place: tuple[Any, ...] = (batch, slice(None), *places)
        found: Array = read[place][np.newaxis]
        return found
    begins, ends = padding(space, layout)
    padded = np.pad(values, [(0, 0), (0, 0), *zip(begins, ends, strict=True)])
    reach = [d * (k - 1) + 1 for d, k in zip(layout.dilations, layout.kernel, strict=True)]
    sizes = [
        (size - extent) // stride + 1
        for size, extent, stride in zip(padded.shape[2:], reach, layout.strides, strict=True)
    ]
    if min(sizes) < 1:
        return np.zeros((layout.group, 0, values.shape[1] // layout.group * math.prod(layout.kernel)))
    chosen = np.unravel_index(spread(values.shape[0] * math.prod(sizes), limit), (values.shape[0], *sizes))
    windows = np.lib.stride_tricks.sliding_window_view(padded, reach, axis=tuple(range(2, values.ndim)))
    starts = [place * stride for place, stride in zip(chosen[1:], layout.strides, strict=True)]
    # Advanced indices around a slice come first in the result: [rows, channels, *reach].
    where: tuple[Any, ...] = (chosen[0], slice(None), *starts)
    taps: tuple[Any, ...] = (..., *(slice(None, None, dilation) for dilation in layout.dilations))
    picked = windows[where][taps]
    grouped: Array = picked.reshape(len(chosen[0]), layout.group, -1).transpose(1, 0, 2)
    return grouped


def padding(space: tuple[int, ...], layout: Patches) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Zeros at the begin and at the end of each spatial axis, as ONNX's Conv defines them."""
    axes = len(space)
    if layout.auto_pad == "VALID":
        return (0,) * axes, (0,) * axes
    if layout.auto_pad == "NOTSET":
        return layout.pads[:axes], layout.pads[axes:]
    begins, ends = [], []
    for size, kernel, stride, dilation in zip(space, layout.kernel, layout.strides, layout.dilations, strict=True):
        total = max(0, (math.ceil(size / stride) - 1) * stride + dilation * (kernel - 1) + 1 - size)
        small, large = total // 2, total - total // 2
        begins.append(small if layout.auto_pad == "SAME_UPPER" else large)
        ends.append(large if layout.auto_pad == "SAME_UPPER" else small)
    return tuple(begins), tuple(ends)
