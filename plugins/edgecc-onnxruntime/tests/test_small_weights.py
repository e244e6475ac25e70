"""quantize-weights and quantize-dynamic for ONNX Runtime: what it fuses when it loads the file, and the file's size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

import edgecc
from edgecc.model import Model
from edgecc.passes.base import Pass
from edgecc.passes.quantize_dynamic import QuantizeDynamic
from edgecc.passes.quantize_weights import QuantizeWeights

RNG = np.random.default_rng(0)
CONSTANTS = {
    "m": RNG.standard_normal((64, 96)).astype(np.float32),
    "n": RNG.standard_normal((32, 96)).astype(np.float32),
    "b": RNG.standard_normal(32).astype(np.float32),
    "e": RNG.standard_normal((500, 64)).astype(np.float32),
}
TEXT = """g (int64[4] i) => (float[4,32] z)
    { x = Gather(e, i)  y = MatMul(x, m)  r = Sigmoid(y)  z = Gemm<transB=1>(r, n, b) }"""
IDS = np.array([0, 499, 3, 77])


@pytest.mark.parametrize(
    ("step", "product", "share", "tolerance"),
    [
        (QuantizeDynamic(), "DynamicQuantizeMatMul", 0.32, 0.04),
        (QuantizeWeights(), "MatMulNBits", 0.32, 0.04),
        (QuantizeWeights(dtype="int4"), "MatMulNBits", 0.3, 0.3),
    ],
)
def test_fused_and_smaller(step: Pass, product: str, share: float, tolerance: float, tmp_path: Path) -> None:
    path = edgecc.compile(Model.from_text(TEXT, CONSTANTS), "onnxruntime", tmp_path / "m.onnx", passes=[step]).path
    assert path.stat().st_size < share * sum(values.nbytes for values in CONSTANTS.values())
    session = loaded(path, tmp_path / "optimized.onnx")
    kinds = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
    assert kinds.count(product) == 2
    # Only the rows that are read are unpacked, and no weights are at every run.
    assert "DequantizeLinear" not in kinds
    inner = 1 / (1 + np.exp(-CONSTANTS["e"][IDS] @ CONSTANTS["m"]))
    expected = inner @ CONSTANTS["n"].T + CONSTANTS["b"]
    found = session.run(None, {"i": IDS})[0]
    assert np.abs(found - expected).max() < tolerance * np.abs(expected).max()


def loaded(path: Path, optimized: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(optimized)
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
