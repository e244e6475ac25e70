"""Open dimensions stay open: one file runs at three sizes, on both kernel sets."""

from __future__ import annotations

import numpy as np
import pytest

from edgecc.model import Model
from edgecc_tflite.testing import f32, ints, lowered, run_onnx, run_tflite
from edgecc_tflite.testing.net import Net

Sizes = list[tuple[int, ...]]


def _runs(model: Model, shapes: Sizes, tolerance: float = 1e-4) -> None:
    graph = lowered(model)
    name = model.inputs[0].name
    for number, shape in enumerate(shapes):
        x = np.random.default_rng(number).standard_normal(shape).astype(np.float32)
        expected = run_onnx(model, {name: x})
        for xnnpack in (True, False):
            found = run_tflite(graph, {name: x}, xnnpack=xnnpack)
            for output, wanted in expected.items():
                assert found[output].shape == wanted.shape
                error = np.max(np.abs(found[output] - wanted)) / np.max(np.abs(wanted))
                assert error <= tolerance, f"{output} at {shape}"


def _classifier(dims: str) -> Model:
    net = Net(x=f"f:{dims}")
    x = net.conv("x", 8, 3, 2, act="relu6")
    x = net.op("Add", x, net.conv(net.depthwise(x, 3, 1, "relu6"), 8))
    x = net.squeeze_excite(net.conv(x, 12, 3, 1, act="silu"), 4)
    x = net.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    net._channels[x] = 12
    return net.model(net.head(x))


def test_classifier_at_any_batch() -> None:
    _runs(_classifier("n,3,32,32"), [(1, 3, 32, 32), (3, 3, 32, 32), (8, 3, 32, 32)])


def test_classifier_at_any_size() -> None:
    _runs(_classifier("1,3,h,w"), [(1, 3, 32, 32), (1, 3, 64, 48), (1, 3, 40, 24)])


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_u_net_at_any_size(mode: str) -> None:
    """Encoder, decoder that enlarges by a factor, skip connections."""
    net = Net(x="f:n,3,h,w")
    first = net.conv("x", 8, 3, act="Relu")
    second = net.conv(first, 12, 3, 2, act="Relu")
    third = net.conv(second, 16, 3, 2, act="Relu")
    up = net.op("Resize", third, None, f32(1, 1, 2, 2), mode=mode)
    net._channels[up] = 16
    up = net.conv(net.concat(up, second), 12, 3, act="Relu")
    up = net.op("Resize", up, None, f32(1, 1, 2, 2), mode=mode)
    net._channels[up] = 12
    model = net.model(net.conv(net.concat(up, first), 2, 1))
    _runs(model, [(1, 3, 16, 16), (2, 3, 32, 24), (3, 3, 8, 48)])


def test_segmentation_resized_to_its_input() -> None:
    """What exporters write for `interpolate(y, size=x.shape[-2:])`."""
    net = Net(x="f:n,3,h,w")
    y = net.conv(net.conv("x", 8, 3, 2, act="Relu"), 4, 3, 2)
    space = net.op("Slice", net.op("Shape", "x"), ints(2), ints(4))
    front = net.op("Slice", net.op("Shape", y), ints(0), ints(2))
    sizes = net.op("Concat", front, space, axis=0)
    mode = {"mode": "linear", "coordinate_transformation_mode": "pytorch_half_pixel"}
    model = net.model(net.op("Resize", y, None, None, sizes, **mode))
    _runs(model, [(1, 3, 16, 16), (2, 3, 30, 24), (1, 3, 9, 41)])


def test_perceptron_at_any_batch() -> None:
    net = Net(x="f:n,16")
    hidden = net.op("Gelu", net.linear("x", 16, 32))
    model = net.model(net.op("Softmax", net.linear(hidden, 32, 5), axis=-1))
    _runs(model, [(1, 16), (4, 16), (9, 16)])


def test_transformer_at_any_length() -> None:
    """A block as BERT has it; heads are split by a Reshape that copies dimensions."""
    net = Net(x="f:n,t,32")
    heads = []
    for _ in range(3):
        projected = net.op("Add", net.op("MatMul", "x", net.random(32, 32)), net.random(32))
        split = net.op("Reshape", projected, ints(0, 0, 4, 8))
        heads.append(net.op("Transpose", split, perm=[0, 2, 1, 3]))
    scores = net.op("MatMul", heads[0], net.op("Transpose", heads[1], perm=[0, 1, 3, 2]))
    attention = net.op("Softmax", net.op("Mul", scores, np.array(8**-0.5, np.float32)), axis=-1)
    mixed = net.op("Transpose", net.op("MatMul", attention, heads[2]), perm=[0, 2, 1, 3])
    joined = net.op("Add", net.op("Reshape", mixed, ints(0, 0, 32)), "x")
    normal = net.op("LayerNormalization", joined, net.random(32), net.random(32))
    wide = net.op("Gelu", net.op("MatMul", normal, net.random(32, 64)))
    model = net.model(net.op("Add", net.op("MatMul", wide, net.random(64, 32)), normal))
    _runs(model, [(1, 7, 32), (2, 16, 32), (3, 1, 32)])


def test_flatten_and_squeeze_of_open_dimensions() -> None:
    net = Net(x="f:n,3,h,w")
    flat = net.op("Flatten", "x", axis=2)
    column = net.op("ReduceMean", "x", ints(1), keepdims=1)
    model = net.model(flat, net.op("Squeeze", column, ints(1)))
    _runs(model, [(1, 3, 4, 5), (2, 3, 6, 3), (4, 3, 1, 2)])


def test_volume_at_any_batch() -> None:
    net = Net(x="f:n,2,6,6,6")
    y = net.op("Relu", net.op("Conv", "x", net.random(4, 2, 3, 3, 3), net.random(4), pads=[1] * 6))
    model = net.model(net.op("MaxPool", y, kernel_shape=[2, 2, 2], strides=[2, 2, 2]))
    _runs(model, [(1, 2, 6, 6, 6), (2, 2, 6, 6, 6), (5, 2, 6, 6, 6)])
