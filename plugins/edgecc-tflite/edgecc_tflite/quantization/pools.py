"""Average pools of integers: how kernels round, and pools that change the scale, which AVERAGE_POOL_2D cannot."""

from __future__ import annotations

import numpy as np

from edgecc_tflite.enums import Activation, Padding
from edgecc_tflite.ir import Operator, Quantization, Tensor
from edgecc_tflite.quantization.grid import Grid

_NOTHING = np.zeros(1, np.int64)
#: Stored integers as numbers.
STEPS = Quantization(np.ones(1, np.float32), _NOTHING)
#: Dividing by this scale moves every number away from zero, by less than lies between two means of 8-bit integers and
#: more than a float32's last bits: what lies halfway is then rounded away from zero, as LiteRT's kernels for
#: AVERAGE_POOL_2D do (all its sets of kernels agree there), and everything else to the nearest as ever.
HALVES_AWAY = Quantization(np.array([1 - 2**-20], np.float32), _NOTHING)
#: Values of a window up to which that holds: 128 * 2^-20 < 1 / (2 * 2048).
MOST_VALUES = 2048


def pads(op: Operator) -> bool:
    """Whether some window of a pool reaches beyond the input; the mean there is of fewer values."""
    if op.options["padding"] == Padding.VALID:
        return False
    data = op.inputs[0]
    assert data is not None
    before, after = data.shape[1:3], op.outputs[0].shape[1:3]
    strides = op.options["strideH"], op.options["strideW"]
    windows = op.options["filterHeight"], op.options["filterWidth"]
    reach = [(count - 1) * stride + window for count, stride, window in zip(after, strides, windows, strict=True)]
    return min(*before, *after) < 0 or any(end > size for end, size in zip(reach, before, strict=True))


def rescaling_pool(op: Operator, data: Tensor, grid: Grid) -> Operator:
    """An AVERAGE_POOL_2D that changes the scale: a MEAN, or a depthwise convolution with equal weights."""
    height, width = op.options["filterHeight"], op.options["filterWidth"]
    if data.shape[1:3] == (height, width) and not op.options.get("fusedActivationFunction", Activation.NONE):
        axes = np.array([1, 2], np.int32)
        places = Tensor(f"{op.outputs[0].name}/axes", axes.shape, axes.dtype, axes)
        return Operator("MEAN", [op.inputs[0], places], op.outputs, {"keepDims": True}, op.origins)
    largest, channels = 127, data.shape[3]
    scale = np.array([1 / (height * width * largest)], np.float32)
    taps = np.full((1, height, width, channels), largest, np.int8)
    weights = Tensor(f"{op.outputs[0].name}/mean", taps.shape, taps.dtype, taps, Quantization(scale, _NOTHING))
    nothing = np.zeros(channels, np.int64 if grid.dtype == "int16" else np.int32)
    units = Quantization(scale * np.float32(grid.scale), _NOTHING)
    bias = Tensor(f"{op.outputs[0].name}/zeros", nothing.shape, nothing.dtype, nothing, units)
    options = {
        "padding": Padding.VALID,
        "strideH": op.options["strideH"],
        "strideW": op.options["strideW"],
        "depthMultiplier": 1,
        "dilationHFactor": 1,
        "dilationWFactor": 1,
        "fusedActivationFunction": op.options.get("fusedActivationFunction", Activation.NONE),
    }
    return Operator("DEPTHWISE_CONV_2D", [op.inputs[0], weights, bias], op.outputs, options, op.origins)
