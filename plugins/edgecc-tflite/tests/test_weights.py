"""How weights are kept in the file: as the source stored them, or smaller when asked."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

import edgecc
from edgecc.model import Model
from edgecc.opset import INTERNAL_OPSET
from edgecc_tflite.ir import Graph
from edgecc_tflite.lower import find_unsupported
from edgecc_tflite.lowerings import builtin_rules
from edgecc_tflite.quantization import store_weights, stored_by_origin
from edgecc_tflite.testing import counts, lowered, run_tflite
from edgecc_tflite.testing.net import Net
from edgecc_tflite.testing.quantized import run_exactly
from edgecc_tflite.verify import verify


def network() -> Model:
    net = Net(x="f:1,16,12,12")
    x = net.depthwise(net.conv("x", 32, 3, act="Relu"))
    return net.model(net.head(net.conv(x, 64, act="Relu"), 20))


def shrunk(model: Model, weights: str = "keep") -> Graph:
    assert not find_unsupported(model, builtin_rules())
    graph = lowered(model)
    store_weights(graph, stored_by_origin(model), weights)
    assert not verify(graph)
    return graph


def error(graph: Graph, model: Model, *, xnnpack: bool) -> float:
    """The largest difference, relative to the largest value."""
    spec = model.signature.inputs[0]
    feeds = {spec.name: np.random.default_rng(1).standard_normal(spec.shape).astype(np.float32)}
    (actual,), (expected,) = run_tflite(graph, feeds, xnnpack=xnnpack).values(), run_exactly(model, feeds).values()
    return float(np.max(np.abs(actual - expected)) / np.max(np.abs(expected)))


def bytes_of(graph: Graph) -> int:
    constants = {t for op in graph.operators for t in op.inputs if t is not None and t.is_constant}
    return sum(t.nbytes for t in constants)


@pytest.mark.parametrize(
    ("weights", "share", "tolerance"), [("float16", 0.55, 2e-3), ("int8", 0.4, 5e-2), ("int4", 0.3, 0.3)]
)
@pytest.mark.parametrize("xnnpack", [True, False])
def test_smaller_when_asked(weights: str, share: float, tolerance: float, xnnpack: bool) -> None:
    model = network()
    graph = shrunk(model, weights)
    assert bytes_of(graph) < share * bytes_of(lowered(model))
    assert error(graph, model, xnnpack=xnnpack) < tolerance


def test_dynamic_range_has_scales_where_the_kernels_read_them() -> None:
    weights = {op.builtin: op.inputs[1] for op in shrunk(network(), "int8").operators if len(op.inputs) > 2}
    for builtin, axis in (("CONV_2D", 0), ("DEPTHWISE_CONV_2D", 3), ("FULLY_CONNECTED", 0)):
        tensor = weights[builtin]
        assert tensor is not None
        if tensor.dtype == np.float32:
            assert tensor.nbytes < 1024 or builtin == "DEPTHWISE_CONV_2D"
            continue
        assert tensor.quantization is not None
        assert tensor.quantization.axis == axis
        assert tensor.quantization.scale.size == tensor.shape[axis]


@pytest.mark.parametrize("inputs", [64, 33])
@pytest.mark.parametrize("xnnpack", [True, False])
def test_int4_computes_with_the_numbers_that_it_stores(inputs: int, xnnpack: bool) -> None:
    """Against the rounded weights only the input's rounding to 8 bits is left."""
    net = Net(x=f"f:5,{inputs}")
    model = net.model(net.op("MatMul", "x", net.random(inputs, 48)))
    graph = shrunk(model, "int4")
    weights = graph.operators[0].inputs[1]
    assert weights is not None
    assert weights.data is not None
    assert weights.dtype == ml_dtypes.int4
    if inputs == 64:
        assert weights.blocks is not None
        scales = np.repeat(weights.blocks.scales.data, weights.blocks.size, axis=1)  # type: ignore[arg-type]
    else:
        assert weights.quantization is not None
        scales = weights.quantization.scale[:, None]
    x = np.random.default_rng(1).standard_normal((5, inputs)).astype(np.float32)
    (actual,) = run_tflite(graph, {"x": x}, xnnpack=xnnpack).values()
    expected = x @ (weights.data.astype(np.float32) * scales.astype(np.float32)).T
    np.testing.assert_allclose(actual, expected, atol=2e-2 * np.max(np.abs(expected)))


def test_int4_where_the_kernels_take_it() -> None:
    types = {op.builtin: op.inputs[1].dtype for op in shrunk(network(), "int4").operators if len(op.inputs) > 2}  # type: ignore[union-attr]
    assert types == {"CONV_2D": ml_dtypes.int4, "FULLY_CONNECTED": ml_dtypes.int4, "DEPTHWISE_CONV_2D": np.int8}


@pytest.mark.parametrize("xnnpack", [True, False])
def test_int4_in_groups(xnnpack: bool) -> None:
    net = Net(x="f:1,32,6,6")
    model = net.model(net.op("Conv", "x", net.random(64, 8, 3, 3), group=4))
    assert error(shrunk(model, "int4"), model, xnnpack=xnnpack) < 0.2


def test_zeros_and_tiny_weights_in_blocks() -> None:
    values = np.zeros((64, 40), np.float32)
    values[:, 1] = 1e-7
    values[0, 2] = 1.0
    net = Net(x="f:2,64")
    graph = shrunk(net.model(net.op("MatMul", "x", values)), "int4")
    x = np.ones((2, 64), np.float32)
    (actual,) = run_tflite(graph, {"x": x}).values()
    np.testing.assert_allclose(actual, x @ values, atol=1e-2)


def parsed(body: str, constants: dict[str, np.ndarray]) -> Model:
    header = f'<ir_version: 10, opset_import: ["" : {INTERNAL_OPSET}]>\n'
    return Model.from_text(f"{header}g (float[3,64] x) => (float[3,32] y) {{ {body} }}", constants)


STORED = np.random.default_rng(0).integers(-127, 128, (64, 32)).astype(np.int8)
CHANNELS = np.linspace(0.005, 0.01, 32, dtype=np.float32)


@pytest.mark.parametrize(
    ("body", "constants", "dtype"),
    [
        ("f = DequantizeLinear(w, s) y = MatMul(x, f)", {"w": STORED, "s": np.array(0.01, np.float32)}, "int8"),
        ("f = DequantizeLinear<axis=1>(w, s) y = MatMul(x, f)", {"w": STORED, "s": CHANNELS}, "int8"),
        (
            "f = DequantizeLinear(w, s, z) y = MatMul(x, f)",
            {
                "w": (STORED.astype(np.int16) + 128).astype(np.uint8),
                "s": np.array(0.01, np.float32),
                "z": np.array(117, np.uint8),
            },
            "int8",
        ),
        (
            "f = DequantizeLinear<axis=0>(w, s) t = Transpose(f) y = MatMul(x, t)",
            {"w": np.ascontiguousarray(STORED.T), "s": CHANNELS},
            "int8",
        ),
        (
            "f = DequantizeLinear<axis=1>(w, s) y = MatMul(x, f)",
            {"w": (STORED // 16).astype(ml_dtypes.int4), "s": CHANNELS},
            "int4",
        ),
        ("f = Cast<to=1>(w) y = MatMul(x, f)", {"w": (STORED * 0.013).astype(np.float16)}, "float16"),
    ],
)
def test_as_the_source_stored_them(body: str, constants: dict[str, np.ndarray], dtype: str) -> None:
    model = parsed(body, constants)
    graph = shrunk(model)
    assert dict(counts(graph)) == {"DEQUANTIZE": 1, "FULLY_CONNECTED": 1}
    packed = graph.operators[0].inputs[0]
    assert packed is not None
    assert packed.dtype == dtype
    for xnnpack in (True, False):
        assert error(graph, model, xnnpack=xnnpack) < 2e-6


def test_float16_from_end_to_end(tmp_path: Path) -> None:
    model = network()
    model.save(tmp_path / "m.onnx")
    for passes, target in ((["convert-float16"], "tflite"), ([], "tflite:weights=float16")):
        result = edgecc.compile(tmp_path / "m.onnx", output=tmp_path / "m.tflite", target=target, passes=passes)
        operators = result.artifact.report["details"]["operators"]
        assert operators["DEQUANTIZE"] >= 2
        assert "CAST" not in operators
        assert (tmp_path / "m.tflite").stat().st_size < 0.7 * (tmp_path / "m.onnx").stat().st_size
        x = np.random.default_rng(1).standard_normal((1, 16, 12, 12)).astype(np.float32)
        with edgecc.runner(tmp_path / "m.tflite") as runner:
            (actual,) = runner.infer({"x": x}).values()
        (expected,) = run_exactly(model, {"x": x}).values()
        np.testing.assert_allclose(actual, expected, atol=2e-3 * np.max(np.abs(expected)))
