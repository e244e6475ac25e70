"""Weights and biases as the integer kernels want them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgecc_tflite.ir import Quantization, Tensor
from edgecc_tflite.quantization.grid import Grid
from edgecc_tflite.quantization.stored import Stored

#: XNNPACK's Arm kernels add two products in 16 bits, which -128 * -128 twice does not fit.
_LARGEST = 127
_STEP_ERROR = 0.01


def integer_weights(weights: Tensor, axis: int, stored: Sequence[Stored]) -> Tensor | None:
    """The weights as int8 around 0, exactly; None where no stored scale gives that.

    Args:
        weights: float constant in the kernel's order.
        axis: where the kernel has its output channels.
        stored: how constants of the source node were stored.
    """
    values = weights.data
    if values is None:
        return None
    for known in stored:
        if known.block:
            continue
        scale = _per_channel(known.scale, weights.shape[axis])
        if scale is None:
            continue
        shape = [-1 if a == axis else 1 for a in range(values.ndim)]
        steps = values.astype(np.float64) / scale.astype(np.float64).reshape(shape if scale.size > 1 else 1)
        nearest = np.rint(steps)
        if np.max(np.abs(nearest), initial=0) > _LARGEST or np.max(np.abs(steps - nearest), initial=0) > _STEP_ERROR:
            continue
        quantization = Quantization(scale, np.zeros(scale.size, np.int64), axis if scale.size > 1 else 0)
        return Tensor(weights.name, weights.shape, np.dtype(np.int8), nearest.astype(np.int8), quantization)
    return None


def unsigned_weights(weights: Tensor, stored: Sequence[Stored]) -> Tensor | None:
    """The weights as uint8 around the zero point that they were stored with: the only kernels that take one."""
    values = weights.data
    if values is None:
        return None
    for known in stored:
        if known.scale.size > 1 or known.block or known.dtype != "uint8":
            continue
        steps = values.astype(np.float64) / float(known.scale[0])
        nearest = np.rint(steps) + int(known.zero_point[0])
        if nearest.min() < 0 or nearest.max() > 255 or np.max(np.abs(steps - np.rint(steps))) > _STEP_ERROR:
            continue
        quantization = Quantization(known.scale.reshape(1), known.zero_point.reshape(1))
        return Tensor(weights.name, weights.shape, np.dtype(np.uint8), nearest.astype(np.uint8), quantization)
    return None


def _per_channel(scale: np.ndarray, channels: int) -> np.ndarray | None:
    """The scales of the output channels; groups that share them repeat them."""
    if scale.size == 1:
        return scale
    if channels % scale.size:
        return None
    return np.tile(scale, channels // scale.size)


def integer_bias(bias: Tensor, data: Grid, weights: Tensor) -> Tensor | None:
    """The bias in units of data scale times weight scale, int32, or int64 beside int16; None if it does not fit."""
    assert weights.quantization is not None
    if bias.data is None:
        return None
    scale = np.float32(data.scale) * weights.quantization.scale.astype(np.float32)
    steps = np.rint(bias.data.astype(np.float64) / scale.astype(np.float64))
    if np.max(np.abs(steps), initial=0) >= 2**31:
        return None
    quantization = Quantization(scale, np.zeros(scale.size, np.int64))
    dtype = np.dtype(np.int64 if data.dtype == "int16" else np.int32)
    return Tensor(bias.name, bias.shape, dtype, steps.astype(dtype), quantization)
