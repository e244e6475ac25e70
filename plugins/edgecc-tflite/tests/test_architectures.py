"""Whole networks: right against ONNX Runtime, and without a TRANSPOSE beyond the model's own inputs and outputs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgecc.model import Model
from edgecc_tflite.testing import assert_close, counts, lowered, run_onnx, run_tflite
from edgecc_tflite.testing.net import Net, randomize

_LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
_TINY = Path(__file__).parents[4] / "shared" / "data" / "mlperf_tiny"


def mobilenet_v1() -> Model:
    net = Net(x="f:1,3,32,32")
    x = net.conv("x", 8, 3, 2, act="Relu")
    for outs, stride in ((16, 1), (32, 2), (32, 1)):
        x = net.conv(net.depthwise(x, 3, stride, "Relu"), outs, act="Relu")
    return net.model(net.head(x))


def mobilenet_v2() -> Model:
    net = Net(x="f:1,3,32,32")
    x = net.conv("x", 8, 3, 2, act="relu6")
    for stride in (2, 1):
        y = net.conv(x, 48, act="relu6")
        y = net.conv(net.depthwise(y, 3, stride, "relu6"), 8)
        x = net.op("Add", x, y) if stride == 1 else y
    return net.model(net.head(x))


def mobilenet_v3() -> Model:
    net = Net(x="f:1,3,32,32")
    x = net.conv("x", 8, 3, 2, act="HardSwish")
    for act in ("Relu", "HardSwish"):
        y = net.depthwise(net.conv(x, 24, act=act), 5, 1, act)
        x = net.op("Add", net.conv(net.squeeze_excite(y, 8), 8), x)
    pooled = net.op("Flatten", net.op("GlobalAveragePool", net.conv(x, 32, act="HardSwish")))
    return net.model(net.linear(net.act(net.linear(pooled, 32, 20), "HardSwish"), 20, 10))


def resnet() -> Model:
    net = Net(x="f:1,3,32,32")
    x = net.op("MaxPool", net.conv("x", 8, 7, 2, act="Relu"), kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    for outs, stride in ((8, 1), (16, 2)):
        y = net.conv(net.conv(net.conv(x, 4, act="Relu"), 4, 3, stride, act="Relu"), outs)
        x = net.act(net.op("Add", y, net.conv(x, outs, 1, stride)), "Relu")
    return net.model(net.head(x))


def efficientnet() -> Model:
    net = Net(x="f:1,3,32,32")
    x = net.conv("x", 8, 3, 2, act="silu")
    for _ in range(2):
        y = net.depthwise(net.conv(x, 24, act="silu"), 3, 1, "silu")
        x = net.op("Add", net.conv(net.squeeze_excite(y, 4, "Sigmoid"), 8), x)
    return net.model(net.head(net.conv(x, 32, act="silu")))


def regnet() -> Model:
    net = Net(x="f:1,3,32,32")
    x = net.conv("x", 8, 3, 2, act="Relu")
    y = net.conv(net.conv(x, 16, act="Relu"), 16, 3, 2, groups=4, act="Relu")
    y = net.conv(net.squeeze_excite(y, 4, "Sigmoid"), 16)
    return net.model(net.head(net.act(net.op("Add", y, net.conv(x, 16, 1, 2)), "Relu")))


def densenet() -> Model:
    net = Net(x="f:1,3,32,32")
    x = net.conv("x", 8, 3, 2)
    for _ in range(3):
        scale, shift = np.abs(net.random(1, 1, 1)), net.random(1, 1, 1)
        y = net.act(net.op("Add", net.op("Mul", x, scale), shift), "Relu")
        x = net.concat(x, net.conv(net.conv(y, 16, act="Relu"), 4, 3))
    x = net.op("AveragePool", net.conv(x, 10), kernel_shape=[2, 2], strides=[2, 2])
    return net.model(net.head(x))


def googlenet() -> Model:
    net = Net(x="f:1,3,32,32")
    x = net.op("LRN", net.conv("x", 8, 7, 2, act="Relu"), size=5)
    x = net.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)
    pooled = net.op("MaxPool", x, kernel_shape=[3, 3], pads=[1] * 4)
    branches = net.conv(x, 4), net.conv(net.conv(x, 4), 6, 3), net.conv(net.conv(x, 4), 6, 5), net.conv(pooled, 4)
    return net.model(net.op("Softmax", net.head(net.act(net.concat(*branches), "Relu"))))


def squeezenet() -> Model:
    net = Net(x="f:1,3,32,32")
    x = net.op("MaxPool", net.conv("x", 8, 3, 2, act="Relu"), kernel_shape=[3, 3], strides=[2, 2])
    s = net.conv(x, 4, act="Relu")
    x = net.concat(net.conv(s, 8, act="Relu"), net.conv(s, 8, 3, act="Relu"))
    pooled = net.op("GlobalAveragePool", net.conv(x, 10, act="Relu"))
    return net.model(net.op("Softmax", net.op("Reshape", pooled, np.array([0, -1]))))


def vgg() -> Model:
    """The weights behind Flatten follow the channels-last order of what they read."""
    net = Net(x="f:1,3,16,16")
    x = net.op("MaxPool", net.conv("x", 8, 3, act="Relu"), kernel_shape=[2, 2], strides=[2, 2])
    return net.model(net.linear(net.act(net.linear(net.op("Flatten", x), 512, 12), "Relu"), 12, 10))


def unet() -> Model:
    net = Net(x="f:1,3,16,16")
    a = net.conv("x", 8, 3, act="Relu")
    b = net.conv(net.op("MaxPool", a, kernel_shape=[2, 2], strides=[2, 2]), 8, 3)
    b = net.act(net.op("InstanceNormalization", b, np.ones(8, np.float32), net.random(8)), "LeakyRelu")
    up = net.op("ConvTranspose", b, net.random(8, 8, 2, 2), strides=[2, 2])
    wide = net.op("Resize", b, None, np.array([1, 1, 2, 2], np.float32), mode="linear")
    y = net.concat(a, up, wide)
    return net.model(net.conv(net.op("Softmax", net.conv(y, 4, 3), axis=1), 3))


def convnext() -> Model:
    """LayerNorm and Linear work on channels-last tensors of the source: its own transposes vanish too."""
    net = Net(x="f:1,3,16,16")
    x = net.conv("x", 8, 4, 4)
    y = net.op("Transpose", net.depthwise(x, 7), perm=[0, 2, 3, 1])
    y = net.op("LayerNormalization", y, np.ones(8, np.float32), net.random(8))
    y = net.op("Gelu", net.op("Add", net.op("MatMul", y, net.random(8, 32)), net.random(32)))
    y = net.op("Mul", net.op("MatMul", y, net.random(32, 8)), net.random(8))
    x = net.op("Add", x, net.op("Transpose", y, perm=[0, 3, 1, 2]))
    return net.model(net.head(x))


def super_resolution() -> Model:
    """PixelShuffle."""
    net = Net(x="f:1,3,8,8")
    x = net.conv(net.conv("x", 8, 3, act="Relu"), 12, 3)
    return net.model(net.conv(net.op("DepthToSpace", x, blocksize=2, mode="CRD"), 3, 3, channels=3))


def normalized_input() -> Model:
    """What stands between the input and the first convolution is the cheapest on either side of the transpose."""
    net = Net(x="f:1,3,16,16")
    mean, deviation = net.random(3, 1, 1), np.abs(net.random(3, 1, 1)) + 1
    return net.model(net.head(net.conv(net.op("Div", net.op("Sub", "x", mean), deviation), 8, 3)))


def detector_head() -> Model:
    """Boxes of two scales, each permuted, flattened and joined, as SSD does."""
    net = Net(x="f:1,3,16,16")
    a = net.conv("x", 8, 3, 2, act="Relu")
    b = net.conv(a, 8, 3, 2, act="Relu")
    flat = []
    for feature in (a, b):
        boxes = net.op("Transpose", net.conv(feature, 12, 3), perm=[0, 2, 3, 1])
        flat.append(net.op("Reshape", boxes, np.array([1, -1, 4])))
    return net.model(net.op("Concat", *flat, axis=1))


def keyword_spotter() -> Model:
    """One-dimensional convolutions."""
    net = Net(x="f:1,4,32")
    y = "x"
    for _ in range(2):
        y = net.op("Conv", y, net.random(8, 4 if y == "x" else 8, 3), net.random(8), pads=[1, 1])
        y = net.op("PRelu", y, net.random(8, 1))
    pooled = net.op("Reshape", net.op("GlobalAveragePool", y), np.array([1, 8]))
    return net.model(net.linear(pooled, 8, 5))


def shufflenet_v2() -> Model:
    """What the shuffles say is folded into the weights of the convolutions that read them."""
    net = Net(x="f:1,3,32,32")
    x = net.conv("x", 8, 3, 2, act="Relu")
    for _ in range(3):
        halves = net.op("Split", x, axis=1, num_outputs=2, outputs=2)
        for half in halves:
            net._channels[half] = 4
        y = net.conv(net.depthwise(net.conv(halves[1], 4, act="Relu")), 4, act="Relu")
        x = net.shuffle(net.concat(halves[0], y), 2, 16, 16)
    left = net.conv(net.depthwise(x, 3, 2), 8, act="Relu")
    right = net.conv(net.depthwise(net.conv(x, 8, act="Relu"), 3, 2), 8, act="Relu")
    x = net.shuffle(net.concat(left, right), 2, 8, 8)
    return net.model(net.head(net.conv(x, 16, act="Relu")))


def light(name: str) -> Model:
    """A model that ships with onnx, with random weights, and without the Softmax that would hide every difference."""
    model = randomize(Model.load(_LIGHT / f"light_{name}.onnx"))
    last = model.producer(model.outputs[0])
    if last is not None and last.op == "Softmax":
        model.graph.outputs = [last.inputs[0]]
        model.cleanup()
    return model


CLEAN = (
    mobilenet_v1, mobilenet_v2, mobilenet_v3, resnet, efficientnet, regnet, densenet, googlenet, squeezenet, vgg, unet,
    convnext, super_resolution, normalized_input, detector_head, keyword_spotter, shufflenet_v2,
)  # fmt: skip


def check(model: Model, tolerance: float = 1e-5, io_layout: str = "keep") -> int:
    """Compare with ONNX Runtime on both sets of kernels; returns how many TRANSPOSE are left inside."""
    random = np.random.default_rng(0)
    feeds = {
        spec.name: random.standard_normal([d if isinstance(d, int) else 2 for d in spec.shape]).astype(spec.dtype)
        for spec in model.signature.inputs
    }
    expected = run_onnx(model, feeds)
    graph = lowered(model, io_layout=io_layout)
    for xnnpack in (True, False):
        assert_close(run_tflite(graph, feeds, xnnpack=xnnpack), expected, tolerance)
    ends = set(graph.inputs) | set(graph.outputs)
    return sum(op.builtin == "TRANSPOSE" and ends.isdisjoint([op.inputs[0], *op.outputs]) for op in graph.operators)


@pytest.mark.parametrize("net", CLEAN, ids=lambda net: net.__name__)
def test_no_transpose_inside(net: Callable[[], Model]) -> None:
    assert check(net()) == 0


@pytest.mark.parametrize("net", CLEAN, ids=lambda net: net.__name__)
def test_channels_last_inputs_take_no_transpose(net: Callable[[], Model]) -> None:
    graph = lowered(net(), io_layout="nhwc")
    if graph.inputs[0].rank == 4:
        assert counts(graph)["TRANSPOSE"] == 0


_SMALL = ("densenet121", "inception_v1", "inception_v2", "resnet50", "shufflenet", "squeezenet")


def test_pixel_shuffle_is_in_the_weights() -> None:
    assert "GATHER" not in counts(lowered(super_resolution()))


@pytest.mark.parametrize("name", _SMALL)
def test_light_models(name: str) -> None:
    assert check(light(name), 1e-4) == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bvlc_alexnet", "vgg19", "zfnet512"])
def test_large_light_models(name: str) -> None:
    assert check(light(name), 1e-4) == 0


@pytest.mark.shared_data
@pytest.mark.skipif(not _TINY.exists(), reason="../shared/data is not here")
@pytest.mark.parametrize(
    "name", ["ad01_fp32", "kws_float", "pretrainedResnet", "pretrainedResnet_large_float", "vww_96_float"]
)
def test_mlperf_tiny(name: str) -> None:
    model = Model.load(_TINY / f"{name}.onnx")
    assert check(model) == 0
    assert counts(lowered(model))["TRANSPOSE"] == 0
