"""Tests of separate-bias, and of what ONNX Runtime makes of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

import edgecc
from edgecc.model import Model
from edgecc.passes.quantize_static import QuantizeStatic
from edgecc.testing import assert_skipped, check_pass
from edgecc_onnxruntime.separate_bias import SeparateBias

RNG = np.random.default_rng(0)
CONSTANTS = {
    "m": RNG.standard_normal((64, 96)).astype(np.float32),
    "v": RNG.standard_normal((96, 64)).astype(np.float32),
    "w": RNG.integers(-127, 128, (64, 96)).astype(np.int8),
    "s": np.full((), 0.01, np.float32),
    "zx": np.zeros((), np.uint8),
    "zw": np.zeros((), np.int8),
    "b": RNG.standard_normal(96).astype(np.float32),
}
QUANTIZED = "q = QuantizeLinear(x, s, zx)  d = DequantizeLinear(q, s, zx)  e = DequantizeLinear(w, s, zw)"


def of(text: str, shape: str = "2,3") -> Model:
    return Model.from_text(f"g (float[{shape},64] x) => (float[{shape},96] y) {{ {text} }}", CONSTANTS)


@pytest.mark.parametrize("order", ["p, b", "b, p"])
def test_fires(order: str) -> None:
    model = check_pass(SeparateBias(), of(f"{QUANTIZED}  p = MatMul(d, e)  y = Add({order})"))
    bias = model.nodes("Add")[0].inputs[order.index("b") // 3]
    assert bias.shape == (1, 1, 96)


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("p = MatMul(x, m)  y = Add(p, b)", "2,3"),
        (f"{QUANTIZED}  p = MatMul(d, e)  y = Add(p, b)", "2"),
        (f"{QUANTIZED}  p = MatMul(d, e)  y = Mul(p, b)", "2,3"),
        (f"{QUANTIZED}  p = MatMul(d, e)  y = Add(p, p)", "2,3"),
    ],
)
def test_leaves_alone(text: str, shape: str) -> None:
    assert_skipped(SeparateBias(), of(text, shape), "")


def test_products_that_write_float_multiply_integers(tmp_path: Path) -> None:
    """LayerNormalization and Gelu read float, so nothing in front of them is rounded."""
    text = (
        "p = MatMul(x, m)  h = Add(p, b)  g = Gelu(h)  r = MatMul(g, v)  a = Add(r, x)  y = LayerNormalization(a, s1)"
    )
    constants = {**CONSTANTS, "s1": np.ones(64, np.float32)}
    model = Model.from_text(f"g (float[1,8,64] x) => (float[1,8,64] y) {{ {text} }}", constants)
    samples = RNG.standard_normal((32, 8, 64)).astype(np.float32)
    path = edgecc.compile(
        model, "onnxruntime", tmp_path / "m.onnx", passes=[QuantizeStatic()], calibration={"x": samples}
    ).path
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    kinds = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
    assert kinds.count("MatMulIntegerToFloat") == 2
    assert not {"MatMul", "Gemm", "DequantizeLinear", "QLinearMatMul"} & set(kinds)
