"""quantize-static for TFLite: which operators run on integers, and how near the float model they stay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgecc
from edgecc.model import Model
from edgecc.passes.quantize_static import QuantizeStatic

RNG = np.random.default_rng(0)
CONSTANTS = {
    "w": RNG.standard_normal((4, 3, 3, 3)).astype(np.float32),
    "zero": np.zeros((), np.float32),
    "six": np.full((), 6, np.float32),
}


def compiled(text: str, folder: Path, **options: Any) -> edgecc.CompileResult:
    model = Model.from_text(f"g (float[1,3,8,8] x) => (float[A,B,C,D] y) {{ {text} }}", CONSTANTS)
    samples = RNG.standard_normal((32, 3, 8, 8)).astype(np.float32)
    step = QuantizeStatic(**options)
    return edgecc.compile(model, "tflite", folder / "m.tflite", passes=[step], calibration={"x": samples})


def operators(result: edgecc.CompileResult) -> list[str]:
    """The operators in order, without those that change the layout."""
    details: Any = result.artifact.report["details"]
    return sorted(set(details["operators"]) - {"TRANSPOSE"})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a = Conv(x, w)  y = Relu(a)", ["CONV_2D"]),
        ("a = Conv(x, w)  y = Clip(a, zero, six)", ["CONV_2D"]),
        ("a = Conv(x, w)  b = Relu(a)  y = Add(a, b)", ["ADD", "CONV_2D", "MUL"]),
        ("a = Conv(x, w)  b = Sigmoid(a)  y = Concat<axis=1>(a, b)", ["CONCATENATION", "CONV_2D", "LOGISTIC", "MUL"]),
        ("a = Conv(x, w)  y = MaxPool<kernel_shape=[2,2]>(a)", ["CONV_2D", "MAX_POOL_2D"]),
        ("a = Conv(x, w)  y = GlobalAveragePool(a)", ["CONV_2D", "MEAN", "RESHAPE"]),
        ("a = Conv(x, w)  y = HardSwish(a)", ["CONV_2D", "HARD_SWISH"]),
    ],
)
def test_everything_runs_on_integers(text: str, expected: list[str], tmp_path: Path) -> None:
    result = compiled(text, tmp_path)
    assert operators(result) == sorted(["DEQUANTIZE", "QUANTIZE", *expected])
    assert result.artifact.report["details"]["operators"]["QUANTIZE"] == 1


@pytest.mark.parametrize("activations", ["int8", "int16"])
def test_int16_is_finer(activations: str, tmp_path: Path) -> None:
    result = compiled("y = Conv(x, w)", tmp_path, activations=activations)
    source = Model.from_text("g (float[1,3,8,8] x) => (float[A,B,C,D] y) { y = Conv(x, w) }", CONSTANTS)
    source.save(tmp_path / "source.onnx")
    found = edgecc.compare(result.path, tmp_path / "source.onnx", samples=4)
    # Weights of 8 bits per channel alone leave 40 dB and more; activations of 8 bits less.
    assert found.comparisons[0].outputs["y"].sqnr_db > (30 if activations == "int8" else 39)
