"""Taps of a dilated convolution that meet nothing but padding are left out."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from edgecc_tflite.testing import assert_close, lowered, run_onnx, run_tflite
from edgecc_tflite.testing.net import Net

#: Float32 sums of some twenty products, in another order.
ROUNDING = 1e-5


@pytest.mark.parametrize(("dilation", "taps"), [(2, 3), (5, 3), (6, 1), (9, 1)])
def test_what_is_left(dilation: int, taps: int) -> None:
    net = Net(x="f:1,3,6,6")
    y = net.op("Conv", "x", net.random(4, 3, 3, 3), net.random(4), pads=[dilation] * 4, dilations=[dilation] * 2)
    model = net.model(y)
    feeds = {"x": np.random.default_rng(0).standard_normal((1, 3, 6, 6), np.float32)}
    graph = lowered(model)
    assert_close(run_tflite(graph, feeds), run_onnx(model, feeds), ROUNDING)
    weights = next(op for op in graph.operators if op.builtin == "CONV_2D").inputs[1]
    assert weights is not None
    assert weights.shape == (4, taps, taps, 3)


@pytest.mark.parametrize(
    ("kernel", "stride", "dilation", "begin", "end"),
    [c for c in itertools.product((2, 3, 4), (1, 3), (1, 4, 7), (0, 3, 8), (0, 2, 9))
     if 7 + c[3] + c[4] > (c[0] - 1) * c[2]],
)  # fmt: skip
def test_values_stay(kernel: int, stride: int, dilation: int, begin: int, end: int) -> None:
    net = Net(x="f:1,2,7")
    options = {"pads": [begin, end], "strides": [stride], "dilations": [dilation]}
    model = net.model(net.op("Conv", "x", net.random(3, 2, kernel), **options))
    feeds = {"x": np.random.default_rng(0).standard_normal((1, 2, 7), np.float32)}
    assert_close(run_tflite(lowered(model), feeds), run_onnx(model, feeds), ROUNDING)
