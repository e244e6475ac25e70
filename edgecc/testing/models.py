"""Small named models that every backend should take, and one that none can."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgecc.model import Model


def conv_net() -> Model:
    """A classifier in small: strided, depthwise and pointwise convolutions, pooling, a dense layer."""
    text = """conv_net (float[1,3,16,16] image) => (float[1,5] scores) {
        a = Conv<strides=[2, 2], pads=[1, 1, 1, 1]>(image, w1, b1)
        b = Relu(a)
        c = Conv<group=8, pads=[1, 1, 1, 1]>(b, w2, b2)
        d = Clip(c, low, high)
        e = Conv(d, w3, b3)
        f = GlobalAveragePool(e)
        g = Flatten(f)
        h = Gemm<transB=1>(g, w4, b4)
        scores = Softmax<axis=-1>(h)
    }"""
    return _build(
        text,
        w1=_weights(8, 3, 3, 3),
        b1=_weights(8),
        w2=_weights(8, 1, 3, 3),
        b2=_weights(8),
        w3=_weights(12, 8, 1, 1),
        b3=_weights(12),
        w4=_weights(5, 12),
        b4=_weights(5),
        low=np.float32(0),
        high=np.float32(6),
    )


def residual() -> Model:
    """Two paths that meet: Add, Concat and pooling over one tensor."""
    text = """residual (float[1,4,8,8] x) => (float[1,8,4,4] y) {
        a = Conv<pads=[1, 1, 1, 1]>(x, w, b)
        s = Add(a, x)
        r = Relu(s)
        m = MaxPool<kernel_shape=[2, 2], strides=[2, 2]>(r)
        p = AveragePool<kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, 1, 1]>(r)
        y = Concat<axis=1>(m, p)
    }"""
    return _build(text, w=_weights(4, 4, 3, 3), b=_weights(4))


def conv_1d() -> Model:
    """A convolution over time."""
    text = """conv_1d (float[1,3,20] x) => (float[1,6,10] y) {
        a = Conv<strides=[2], pads=[1, 1]>(x, w, b)
        y = Relu(a)
    }"""
    return _build(text, w=_weights(6, 3, 3), b=_weights(6))


def batchnorm() -> Model:
    """A normalization that follows no convolution."""
    text = """batchnorm (float[1,4,6,6] x) => (float[1,4,6,6] y) {
        a = Relu(x)
        y = BatchNormalization<epsilon=0.001>(a, scale, bias, mean, variance)
    }"""
    variance = np.abs(_weights(4)) + np.float32(0.5)
    return _build(text, scale=_weights(4), bias=_weights(4), mean=_weights(4), variance=variance)


def elementwise() -> Model:
    """Arithmetic and activations, with a constant that broadcasts."""
    text = """elementwise (float[2,3] x) => (float[2,3] y) {
        a = Mul(x, c)
        b = Add(a, x)
        d = Sigmoid(b)
        e = Tanh(b)
        f = Sub(d, e)
        y = Div(f, k)
    }"""
    return _build(text, c=_weights(3), k=np.float32(4))


def several_inputs_and_outputs() -> Model:
    """Two inputs, three outputs, one of which other nodes read."""
    return _build("""several (float[2,3] second, float[2,3] first)
        => (float[2,3] total, float[2,3] middle, float[2,3] last) {
        middle = Mul(first, second)
        total = Add(middle, second)
        last = Relu(middle)
    }""")


def odd_names() -> Model:
    """Names as frameworks write them: slashes, colons, dots."""
    return _build("""odd (float[1,4] "serving_default/x:0") => (float[1,4] "StatefulPartitionedCall:0") {
        "block.0/relu" = Relu("serving_default/x:0")
        "StatefulPartitionedCall:0" = Neg("block.0/relu")
    }""")


def open_batch() -> Model:
    """The batch is given when the model runs."""
    text = "open_batch (float[batch,6] x) => (float[batch,3] y) { a = Gemm(x, w, b) y = Relu(a) }"
    return _build(text, w=_weights(6, 3), b=_weights(3))


def reshape() -> Model:
    """Axes are merged, permuted and split."""
    text = """reshape (float[2,3,4] x) => (float[4,6] y, float[2,4,3] z) {
        a = Reshape(x, shape)
        b = Relu(a)
        y = Transpose<perm=[1, 0]>(b)
        c = Transpose<perm=[0, 2, 1]>(x)
        z = Neg(c)
    }"""
    return _build(text, shape=np.array([6, 4], np.int64))


def embedding() -> Model:
    """Integers choose rows of a table."""
    text = "embedding (int64[1,5] ids) => (float[1,5,4] y) { a = Gather<axis=0>(table, ids) y = Relu(a) }"
    return _build(text, table=_weights(7, 4))


def shared_weights() -> Model:
    """Two convolutions with the same weights."""
    text = """shared (float[1,2,6,6] x) => (float[1,2,6,6] y) {
        a = Conv<pads=[1, 1, 1, 1]>(x, w)
        b = Relu(a)
        y = Conv<pads=[1, 1, 1, 1]>(b, w)
    }"""
    return _build(text, w=_weights(2, 2, 3, 3))


def unknown_operators() -> Model:
    """Two nodes that no target knows; every backend must list both."""
    return _build("""<ir_version: 10, opset_import: ["" : 23, "nobody.knows" : 1]>
    unknown (float[1,4] x) => (float[1,4] y) {
        [first] a = nobody.knows.Twist(x)
        [known] b = Relu(x)
        [second] y = nobody.knows.Turn(a, b)
    }""")


#: By name, all but `unknown_operators`.
MODELS: dict[str, Callable[[], Model]] = {
    make.__name__: make
    for make in (
        batchnorm,
        conv_1d,
        conv_net,
        elementwise,
        embedding,
        odd_names,
        open_batch,
        reshape,
        residual,
        several_inputs_and_outputs,
        shared_weights,
    )
}


def _build(text: str, **constants: np.ndarray | np.float32) -> Model:
    """The model of onnx's text, whose weights are given by name."""
    model = Model.from_text(text, {name: np.asarray(values) for name, values in constants.items()})
    model.cleanup()
    return model


def _weights(*shape: int) -> np.ndarray:
    """Values of both signs, the same in every process; small where many are summed."""
    rng = np.random.default_rng(list(shape))
    scale = 1 / np.sqrt(max(1, int(np.prod(shape[1:]))))
    return np.asarray(rng.standard_normal(shape) * scale, np.float32)
