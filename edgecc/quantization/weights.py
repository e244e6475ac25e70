"""Weights and biases as integers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgecc.rewriting.reading import constant

if TYPE_CHECKING:
    from edgecc.model import Node
    from edgecc.quantization.scheme import QuantizationScheme
    from edgecc.statistics.answers import Array

#: -128 is left out: kernels for Arm add two products in 16 bits, which -128 * -128 twice does not fit.
LARGEST = 127
#: Smallest and largest integer by number of bits.
LIMITS = {8: (-LARGEST, LARGEST), 4: (-8, 7)}
_FLOAT32 = np.dtype(np.float32)
#: Largest weights for which scales fit float16, with room for rows of smaller ones.
_HALF_SCALES = (2.0**-4, 2.0**15)
#: Parts of the largest value that are tried as the largest one that is not clipped.
_KEPT = np.linspace(1.0, 0.6, 21)
#: Scales of a matrix may take this part of its weights' bytes, or so many bytes: a classifier has few channels, and
#: gains most.
_MOST_FOR_SCALES = 1 / 32
_FEW_BYTES = 512
#: Biases stay this far from the ends of int32, so that sums have room.
LARGEST_BIAS = 2.0**30


def channel_axis(node: Node, scheme: QuantizationScheme) -> int | None:
    """The axis of the weights with one scale for each index; None if the target takes one scale only."""
    weights = constant(node, 1)
    if weights is None or node.op not in scheme.per_channel:
        return None
    if node.op == "Conv":
        return 0
    if node.op == "ConvTranspose":
        return 1 if int(node.attrs.get("group", 1)) == 1 else None
    axis = 0 if node.op == "Gemm" and node.attrs.get("transB", 0) else weights.ndim - 1
    most = max(_FEW_BYTES, weights.size * _MOST_FOR_SCALES)
    return axis if weights.shape[axis] * scheme.channel_bytes <= most else None


def integer_weights(values: Array, axis: int | None, least: Array | float = 0.0, bits: int = 8) -> tuple[Array, Array]:
    """Weights as small integers around 0, with the scales of the least squared error.

    Args:
        values: float32.
        axis: with one scale for each index; None for one scale.
        least: scales are no smaller: one, or one for each index.
        bits: 8 for -127 to 127, 4 for -8 to 7.

    Returns:
        int8 of the same shape, whatever the bits, and float32 scales of shape [channels] or [].
    """
    rows = values.reshape(1, -1) if axis is None else np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1)
    steps, scales = _round_rows(rows, least, bits)
    if axis is None:
        return steps.reshape(values.shape), scales.reshape(())
    moved = steps.reshape(np.moveaxis(values, axis, 0).shape)
    return np.ascontiguousarray(np.moveaxis(moved, 0, axis)), scales


def block_weights(values: Array, axis: int, block: int, bits: int) -> tuple[Array, Array]:
    """Weights as small integers around 0 with a scale for each run along an axis, as DequantizeLinear has them.

    Args:
        values: float32; the last run along the axis may be shorter.
        axis: that products sum along.
        block: length of a run.
        bits: 8 for -127 to 127, 4 for -8 to 7.

    Returns:
        int8 of the same shape, and float32 scales with as many indices along the axis as there are runs. They are
        numbers of float16, in which some kernels keep them, unless all weights are tiny or any are huge.
    """
    moved = np.moveaxis(values, axis, -1)
    runs = -(-moved.shape[-1] // block)
    padded = np.zeros((*moved.shape[:-1], runs * block), np.float32)
    padded[..., : moved.shape[-1]] = moved
    largest = float(np.max(np.abs(values), initial=0.0))
    precision = np.dtype(np.float16) if _HALF_SCALES[0] < largest < _HALF_SCALES[1] else _FLOAT32
    steps, scales = _round_rows(padded.reshape(-1, block), 0.0, bits, precision)
    steps = steps.reshape(padded.shape)[..., : moved.shape[-1]]
    scales = scales.reshape(*moved.shape[:-1], runs)
    return np.ascontiguousarray(np.moveaxis(steps, -1, axis)), np.ascontiguousarray(np.moveaxis(scales, -1, axis))


def _round_rows(
    rows: Array, least: Array | float, bits: int, precision: np.dtype[Any] = _FLOAT32
) -> tuple[Array, Array]:
    """Integers of each row and its scale, a float32 that is a number of that precision."""
    lowest, highest = LIMITS[bits]
    largest = np.max(np.abs(rows), axis=1, initial=0.0).astype(np.float64)
    tiny = float(np.finfo(precision).tiny) * (2.0**20 if precision == _FLOAT32 else 1.0)
    smallest = np.maximum(np.broadcast_to(least, largest.shape), tiny)
    best = np.full(len(rows), np.inf)
    scales, steps = np.ones(len(rows), np.float32), np.zeros(rows.shape, np.int8)
    for kept in _KEPT:
        scale = np.maximum(largest * kept / highest, smallest).astype(precision).astype(np.float32)
        rounded = np.clip(np.rint(rows / scale[:, None]), lowest, highest)
        error = np.square(rounded * scale[:, None] - rows).sum(axis=1, dtype=np.float64)
        better = error < best
        best[better], scales[better], steps[better] = error[better], scale[better], rounded[better]
    return steps, scales


def least_scales(bias: Array | None, data_scale: float, axis: int | None) -> Array | float:
    """Scales of weights from which on the bias fits into int32."""
    if bias is None:
        return 0.0
    needed: Array = np.abs(bias.astype(np.float64)).reshape(-1) / (data_scale * LARGEST_BIAS)
    return float(needed.max(initial=0.0)) if axis is None or needed.size == 1 else needed


def integer_bias(bias: Array, data_scale: float, scales: Array) -> tuple[Array, Array]:
    """The bias as int32 in units of data scale times weight scale, and those units."""
    units = np.asarray(np.float32(data_scale) * scales.astype(np.float32), np.float32)
    return np.rint(bias.astype(np.float64) / units.astype(np.float64)).astype(np.int32), units
