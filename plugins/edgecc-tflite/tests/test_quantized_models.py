"""Whole models quantized by ONNX Runtime, beside ONNX Runtime with its optimizations off, in steps of the output."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from edgecc.compiler import arrange
from edgecc.model import Model
from edgecc.opset import INTERNAL_OPSET
from edgecc.passes.base import PassContext
from edgecc.passes.pipeline import PassPipeline
from edgecc_tflite import verify
from edgecc_tflite.backend import TFLiteBackend
from edgecc_tflite.ir import Graph
from edgecc_tflite.quantization.grid import Grid
from edgecc_tflite.target import TFLiteTarget
from edgecc_tflite.testing import counts, lowered, run_tflite
from edgecc_tflite.testing.net import Net
from edgecc_tflite.testing.quantized import run_exactly
from edgecc_tflite.testing.running import Feeds


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """ONNX Runtime's quantizer warns about models that were not preprocessed."""
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


def compiled(model: Model) -> Graph:
    """What the backend makes of a model, verified."""
    target = TFLiteTarget()
    backend = TFLiteBackend()
    PassPipeline(arrange((), backend, target)).run(model, PassContext(target, np.random.default_rng(0)))
    graph = lowered(model)
    assert not verify.verify(graph)
    return graph


def steps_off(graph: Graph, actual: Feeds, expected: Feeds) -> float:
    """The largest difference, in steps of each output's scale."""
    worst = 0.0
    for name, wanted in expected.items():
        assert actual[name].dtype == wanted.dtype
        difference = np.max(np.abs(actual[name].astype(np.float64) - wanted.astype(np.float64)))
        worst = max(worst, float(difference) / (_scale(graph, name) if wanted.dtype == np.float32 else 1.0))
    return worst


def _scale(graph: Graph, name: str) -> float:
    """The scale of the integers that a float output comes from."""
    tensor = next(t for t in graph.outputs if t.source == name)
    producer = graph.producers()[tensor]
    while producer.builtin != "DEQUANTIZE":
        assert producer.inputs[0] is not None
        producer = graph.producers()[producer.inputs[0]]
    assert producer.inputs[0] is not None
    grid = Grid.of(producer.inputs[0])
    assert grid is not None
    return grid.scale


# -------------------------------------------------------------------------------------------------- quantize_static


def mobilenet() -> Model:
    net = Net(x="f:1,3,32,32")
    x = net.conv("x", 8, 3, 2, act="relu6")
    for outs, stride in ((8, 1), (16, 2), (16, 1)):
        h = net.conv(x, 24, act="relu6")
        h = net.depthwise(h, 3, stride, act="relu6")
        h = net.conv(h, outs)
        x = h if stride > 1 or outs != net._channels[x] else net.op("Add", h, x)
    return net.model(net.op("Softmax", net.head(x)))


def resnet() -> Model:
    net = Net(x="f:1,3,32,32")
    x = net.conv("x", 16, 3, act="Relu")
    x = net.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    for outs, stride in ((16, 1), (32, 2)):
        h = net.conv(net.conv(x, outs, 3, stride, act="Relu"), outs, 3)
        x = net.op("Relu", net.op("Add", h, x if stride == 1 else net.conv(x, outs, 1, stride)))
    return net.model(net.head(x))


def shuffle() -> Model:
    net = Net(x="f:1,3,32,32")
    x = net.conv("x", 16, 3, 2, act="Relu")
    for _ in range(2):
        left, right = net.op("Split", x, outputs=2, axis=1, num_outputs=2)
        net._channels[right] = net._channels[left] = 8
        right = net.conv(net.depthwise(net.conv(right, 8, act="Relu")), 8, act="Relu")
        x = net.shuffle(net.concat(left, right), 2, 16, 16)
    return net.model(net.head(net.conv(x, 24, act="Relu")))


def branches() -> Model:
    net = Net(x="f:1,4,16,16")
    pooled = net.op("AveragePool", "x", kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1)
    net._channels[pooled] = 4
    x = net.concat(net.conv("x", 8, 3, act="Sigmoid"), net.conv("x", 8, act="HardSwish"), pooled)
    x = net.op("Resize", net.conv(x, 8), None, np.array([1, 1, 2, 2], np.float32), mode="nearest")
    return net.model(net.op("Flatten", net.op("GlobalAveragePool", net.op("Mul", x, x))))


def perceptron() -> Model:
    net = Net(x="f:4,16")
    hidden = net.op("Tanh", net.op("Add", net.op("MatMul", "x", net.random(16, 32)), net.random(32)))
    return net.model(net.op("Softmax", net.op("MatMul", hidden, net.random(32, 8))))


@dataclass(frozen=True)
class Scheme:
    """How ONNX Runtime quantizes."""

    format: str
    activations: str
    weights: str
    per_channel: bool = False
    symmetric: bool = False

    def __str__(self) -> str:
        return f"{self.format}-{self.activations}{self.weights}{'-channels' if self.per_channel else ''}"

    def quantize(self, source: Path, samples: list[Feeds], target: Path) -> Model:
        from onnxruntime import quantization

        class Samples(quantization.CalibrationDataReader):  # type: ignore[misc]  # untyped
            def __init__(self) -> None:
                self._left = iter(samples)

            def get_next(self) -> Feeds | None:
                return next(self._left, None)

        quantization.quantize_static(
            source,
            target,
            Samples(),
            quant_format=quantization.QuantFormat[self.format],
            activation_type=quantization.QuantType[self.activations],
            weight_type=quantization.QuantType[self.weights],
            per_channel=self.per_channel,
            extra_options={"ActivationSymmetric": self.symmetric},
        )
        return Model.load(target, {name: values.shape for name, values in samples[0].items()})


SCHEMES = [
    Scheme("QDQ", "QInt8", "QInt8"),
    Scheme("QDQ", "QInt8", "QInt8", per_channel=True),
    Scheme("QDQ", "QUInt8", "QUInt8"),
    Scheme("QDQ", "QUInt8", "QInt8", per_channel=True),
    Scheme("QOperator", "QInt8", "QInt8", per_channel=True),
    Scheme("QOperator", "QUInt8", "QUInt8"),
]


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
@pytest.mark.parametrize("make", [mobilenet, resnet, shuffle, branches, perceptron])
def test_quantized_network(make: Callable[[], Model], scheme: Scheme, tmp_path: Path) -> None:
    source = make()
    source.save(tmp_path / "float.onnx")
    random = np.random.default_rng(0)
    samples = [{"x": random.standard_normal(source.inputs[0].shape).astype(np.float32)} for _ in range(6)]
    model = scheme.quantize(tmp_path / "float.onnx", samples, tmp_path / "quantized.onnx")
    expected = run_exactly(model, samples[0])
    graph = compiled(model)
    found = counts(graph)
    assert found["DEQUANTIZE"] == 1, found
    assert found["TRANSPOSE"] <= 1, found
    assert steps_off(graph, run_tflite(graph, samples[0]), expected) <= 1.01
    # The reference kernels round each product with a scale twice: 1 step per layer, which may add up.
    assert steps_off(graph, run_tflite(graph, samples[0], xnnpack=False), expected) <= 4.01


@pytest.mark.parametrize("make", [mobilenet, resnet, shuffle, branches, perceptron])
def test_network_of_16_bits(make: Callable[[], Model], tmp_path: Path) -> None:
    """Data in int16, weights in int8: every convolution and product has a kernel; what has none is a float island."""
    source = make()
    source.save(tmp_path / "float.onnx")
    random = np.random.default_rng(0)
    samples = [{"x": random.standard_normal(source.inputs[0].shape).astype(np.float32)} for _ in range(6)]
    scheme = Scheme("QDQ", "QInt16", "QInt8", per_channel=True, symmetric=True)
    model = scheme.quantize(tmp_path / "float.onnx", samples, tmp_path / "quantized.onnx")
    graph = compiled(model)
    products = [op for op in graph.operators if op.builtin in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")]
    assert products
    assert {op.outputs[0].dtype.name for op in products} == {"int16"}
    (expected,) = run_exactly(model, samples[0]).values()
    for xnnpack in (True, False):
        (found,) = run_tflite(graph, samples[0], xnnpack=xnnpack).values()
        # A step in each layer, of 32768 for the largest value of its output.
        assert np.max(np.abs(found - expected)) <= 2e-4 * np.max(np.abs(expected))


@pytest.mark.shared_data
@pytest.mark.slow
@pytest.mark.parametrize("scheme", [SCHEMES[1], SCHEMES[2], SCHEMES[4]], ids=str)
@pytest.mark.parametrize(
    ("name", "samples"),
    [
        ("pretrainedResnet", "cifar10_train4000_unlabelled"),
        ("kws_float", "kws_calib200"),
        ("vww_96_float", ""),
        ("ad01_fp32", ""),
    ],
)
def test_mlperf_tiny(name: str, samples: str, scheme: Scheme, tmp_path: Path, shared_data: Path) -> None:
    source = shared_data / "mlperf_tiny" / f"{name}.onnx"
    signature = Model.load(source).signature.inputs[0]
    if samples:
        data = np.load(shared_data / f"{samples}.npz")["x"][:21].astype(np.float32)
    else:
        sizes = [d for d in signature.shape if isinstance(d, int)]
        data = np.random.default_rng(0).uniform(0, 1, (21, *sizes)).astype(np.float32)
    feeds = [{signature.name: sample[None]} for sample in data]
    model = scheme.quantize(source, feeds[:20], tmp_path / "quantized.onnx")
    expected = run_exactly(model, feeds[20])
    graph = compiled(model)
    assert counts(graph)["DEQUANTIZE"] == 1
    assert counts(graph)["TRANSPOSE"] == 0
    assert steps_off(graph, run_tflite(graph, feeds[20]), expected) <= 1.01


# ------------------------------------------------------------------------------------------------------ small graphs

HEADER = f'<ir_version: 10, opset_import: ["" : {INTERNAL_OPSET}]>\n'
SCALES = "float s = {0.02}, float t = {0.03}, float u = {0.011}, uint8 z = {120}, int8 k = {3}"
WEIGHTS = np.random.default_rng(1).integers(-127, 128, (8, 5)).astype(np.int8)


def parsed(text: str, **constants: np.ndarray) -> Model:
    return Model.from_text(HEADER + text, constants)


def random_feeds(model: Model) -> Feeds:
    random = np.random.default_rng(0)
    feeds: Feeds = {}
    for spec in model.signature.inputs:
        dtype = np.dtype(spec.dtype)
        if dtype.kind == "f":
            feeds[spec.name] = random.standard_normal(spec.shape).astype(dtype)
        else:
            limits = np.iinfo(dtype)
            feeds[spec.name] = random.integers(limits.min, limits.max + 1, spec.shape).astype(dtype)
    return feeds


@pytest.mark.parametrize(
    ("inputs", "outputs", "body", "operators"),
    [
        ("uint8[2,8] x", "float[2,8] y", "y = DequantizeLinear(x, s, z)", "DEQUANTIZE"),
        ("float[2,8] x", "uint8[2,8] y", "y = QuantizeLinear(x, s, z)", "QUANTIZE"),
        (
            "float[2,8] x",
            "float[2,8] y",
            "q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z)",
            "QUANTIZE DEQUANTIZE",
        ),
        (
            "float[2,8] x",
            "uint8[2,8] q, float[2,8] y",
            "q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z)",
            "QUANTIZE DEQUANTIZE",
        ),
        (
            "uint8[2,8] x",
            "uint8[2,8] y",
            "a = DequantizeLinear(x, s, z) b = Add(a, a) y = QuantizeLinear(b, t, z)",
            "QUANTIZE ADD",
        ),
        ("int8[2,8] x", "int8[2,8] y", "a = DequantizeLinear(x, s, k) y = QuantizeLinear(a, t, k)", "MUL"),
        # -O1 sees that nothing happens; what is left is a copy from the input to the output.
        ("int8[2,8] x", "int8[2,8] y", "a = DequantizeLinear(x, s, k) y = QuantizeLinear(a, s, k)", "RESHAPE"),
        (
            "int8[2,8] x",
            "int8[2,8] q, float[2,8] y",
            "a = DequantizeLinear(x, s, k) b = Add(a, a) q = QuantizeLinear(b, t, k) y = DequantizeLinear(q, t, k)",
            "ADD DEQUANTIZE",
        ),
        (
            "int8[2,8] x",
            "int8[2,8] q, int8[2,8] p",
            "a = DequantizeLinear(x, s, k) b = Add(a, a) q = QuantizeLinear(b, t, k) p = QuantizeLinear(b, u, k)",
            "DEQUANTIZE ADD QUANTIZE",
        ),
        (
            "int8[2,8] x",
            "float[2,8] y",
            "a = DequantizeLinear(x, s, k) b = DequantizeLinear(x, t, k) y = Add(a, b)",
            "DEQUANTIZE CAST SUB MUL ADD",
        ),
        (
            "int8[2,8] x",
            "float[2,8] a, int8[2,8] q",
            "a = DequantizeLinear(x, s, k) b = Add(a, a) q = QuantizeLinear(b, t, k)",
            "DEQUANTIZE ADD",
        ),
        ("int8[2,8] x", "int64[2] y", "a = DequantizeLinear(x, s, k) y = ArgMax<axis=1, keepdims=0>(a)", "ARG_MAX"),
        ("float[2,8] x, float v", "uint8[2,8] y", "d = Abs(v) y = QuantizeLinear(x, d, z)", "DIV ROUND"),
        ("float[2,8] x", "uint8[2,8] y, float v, uint8 r", "y, v, r = DynamicQuantizeLinear(x)", "REDUCE_MAX ROUND"),
        ("uint8[2,8] x, uint8 v", "int32[2,5] y", "y = MatMulInteger(x, w, v)", "FULLY_CONNECTED CAST"),
        ("uint8[2,8] x", "int32[2,5] y", "y = MatMulInteger(x, w)", "FULLY_CONNECTED CAST"),
    ],
)
def test_graph(inputs: str, outputs: str, body: str, operators: str) -> None:
    model = parsed(f"g ({inputs}) => ({outputs}) <{SCALES}> {{ {body} }}", w=WEIGHTS)
    feeds = random_feeds(model)
    expected = run_exactly(model, feeds)
    graph = compiled(model)
    assert set(operators.split()) <= set(counts(graph))
    for xnnpack in (True, False):
        actual = run_tflite(graph, feeds, xnnpack=xnnpack)
        for name, wanted in expected.items():
            assert actual[name].dtype == wanted.dtype
            np.testing.assert_allclose(actual[name], wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("dtype", "zero_point", "axis"), [("int8", 3, 1), ("int16", 0, 0), ("int16", 9, 0), ("uint16", 32000, 0)]
)
def test_types_and_axes_that_tflite_has_no_tensors_for(dtype: str, zero_point: int, axis: int) -> None:
    scale = np.linspace(0.01, 0.02, 8, dtype=np.float32) if axis else np.float32(0.001)
    zero = np.full(np.shape(scale), zero_point, dtype)
    body = "a = DequantizeLinear<axis=1>(x, v, z) b = Add(a, a) y = QuantizeLinear<axis=1>(b, v, z)"
    model = parsed(f"g ({dtype}[2,8] x) => ({dtype}[2,8] y) {{ {body} }}", v=np.asarray(scale), z=zero)
    feeds = random_feeds(model)
    expected = run_exactly(model, feeds)
    graph = compiled(model)
    for xnnpack in (True, False):
        actual = run_tflite(graph, feeds, xnnpack=xnnpack)["y"]
        assert actual.dtype == dtype
        assert np.max(np.abs(actual.astype(np.int64) - expected["y"].astype(np.int64))) <= 1


def test_dynamic_batch() -> None:
    body = "a = DequantizeLinear(x, s, k) b = MatMul(a, f) c = Relu(b) y = QuantizeLinear(c, t, k)"
    weights = "f = DequantizeLinear(w, u)"
    model = parsed(f"g (int8[n,8] x) => (int8[n,5] y) <{SCALES}> {{ {weights} {body} }}", w=WEIGHTS)
    graph = compiled(model)
    assert dict(counts(graph)) == {"FULLY_CONNECTED": 1}
    assert graph.inputs[0].shape == (-1, 8)
    for batch in (1, 3):
        feeds = {"x": np.random.default_rng(batch).integers(-128, 128, (batch, 8)).astype(np.int8)}
        actual, expected = run_tflite(graph, feeds)["y"], run_exactly(model, feeds)["y"]
        assert np.max(np.abs(actual.astype(int) - expected.astype(int))) <= 1
