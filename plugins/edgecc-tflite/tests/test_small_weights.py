"""quantize-weights and quantize-dynamic for TFLite: what is stored, which operators read it, and that files shrink."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgecc
from edgecc.model import Model
from edgecc.passes.base import Pass
from edgecc.passes.quantize_dynamic import QuantizeDynamic
from edgecc.passes.quantize_weights import QuantizeWeights

RNG = np.random.default_rng(0)
CONSTANTS = {
    "c": RNG.standard_normal((32, 16, 3, 3)).astype(np.float32),
    "m": RNG.standard_normal((64, 96)).astype(np.float32),
    "n": RNG.standard_normal((96, 64)).astype(np.float32),
    "b": RNG.standard_normal(96).astype(np.float32),
    "e": RNG.standard_normal((500, 64)).astype(np.float32),
}
PRODUCT = "float[2,64] x) => (float[2,96] y", "y = MatMul(x, m)"
TRANSPOSED = "float[2,64] x) => (float[2,96] y", "y = Gemm<transB=1>(x, n, b)"
CONV = "float[1,16,12,12] x) => (float[1,32,10,10] y", "y = Conv(x, c)"
TABLE = "int64[3] ids) => (float[3,64] y", "y = Gather(e, ids)"
Case = tuple[str, str]


def compiled(case: Case, step: Pass | None, folder: Path) -> edgecc.CompileResult:
    model = Model.from_text(f"g ({case[0]}) {{ {case[1]} }}", CONSTANTS)
    name = f"{step.name if step else 'float'}.tflite"
    return edgecc.compile(model, "tflite", folder / name, passes=[step] if step else [])


def run(path: Path, case: Case) -> np.ndarray:
    random = np.random.default_rng(1)
    values: Any = np.array([1, 499, 7]) if case is TABLE else None
    shape = {PRODUCT: (2, 64), TRANSPOSED: (2, 64), CONV: (1, 16, 12, 12)}.get(case, ())
    feeds = {"ids": values} if values is not None else {"x": random.standard_normal(shape).astype(np.float32)}
    with edgecc.runner(path) as runner:
        return runner.infer(feeds)["y"]


@pytest.mark.parametrize(
    ("case", "step", "dequantize", "share", "tolerance"),
    [
        # Float products: what XNNPACK unpacks when the model is loaded.
        (PRODUCT, QuantizeWeights(), True, 0.5, 0.02),
        (TRANSPOSED, QuantizeWeights(), True, 0.5, 0.02),
        (CONV, QuantizeWeights(), True, 0.5, 0.02),
        (CONV, QuantizeWeights(dtype="int4"), True, 0.4, 0.25),
        # Data is rounded at run time: the operators read the weights as they are stored.
        (PRODUCT, QuantizeDynamic(), False, 0.5, 0.03),
        (TRANSPOSED, QuantizeDynamic(), False, 0.5, 0.03),
        (CONV, QuantizeDynamic(), False, 0.5, 0.03),
        (PRODUCT, QuantizeWeights(dtype="int4"), False, 0.4, 0.25),
        (TRANSPOSED, QuantizeWeights(dtype="int4"), False, 0.4, 0.25),
        (TABLE, QuantizeWeights(), False, 0.4, 0.02),
        (TABLE, QuantizeDynamic(), False, 0.4, 0.02),
    ],
)
def test_smaller_and_near(
    case: Case, step: Pass, dequantize: bool, share: float, tolerance: float, tmp_path: Path
) -> None:
    small, full = compiled(case, step, tmp_path), compiled(case, None, tmp_path)
    # Some 2 kB of a file are no weights.
    assert small.path.stat().st_size < share * full.path.stat().st_size + 2000
    details: Any = small.artifact.report["details"]
    assert ("DEQUANTIZE" in details["operators"]) == dequantize
    assert "QUANTIZE" not in details["operators"]
    expected, found = run(full.path, case), run(small.path, case)
    assert np.abs(found - expected).max() < tolerance * np.abs(expected).max()


def test_data_of_several_products(tmp_path: Path) -> None:
    """Rounding is dropped once for all that read it."""
    case = "float[2,64] x) => (float[2,96] y, float[2,96] z", "y = MatMul(x, m) z = Gemm<transB=1>(x, n, b)"
    details: Any = compiled(case, QuantizeDynamic(), tmp_path).artifact.report["details"]
    assert details["operators"] == {"FULLY_CONNECTED": 2}


def test_a_model_that_computes_with_the_scale(tmp_path: Path) -> None:
    """DynamicQuantizeLinear whose scale is an output is written out."""
    text = "q, s, z = DynamicQuantizeLinear(x)  d = DequantizeLinear(q, s, z)  y = MatMul(d, m)"
    model = Model.from_text(f"g (float[2,64] x) => (float[2,96] y, float s) {{ {text} }}", CONSTANTS)
    result = edgecc.compile(model, "tflite", tmp_path / "m.tflite")
    details: Any = result.artifact.report["details"]
    assert "REDUCE_MAX" in details["operators"]
