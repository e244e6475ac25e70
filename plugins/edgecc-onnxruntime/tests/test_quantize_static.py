"""quantize-static for ONNX Runtime: every operator between the ends is fused into an integer kernel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

import edgecc
from edgecc.model import Model
from edgecc.passes.quantize_static import QuantizeStatic

RNG = np.random.default_rng(0)
CONSTANTS = {
    "w": RNG.standard_normal((4, 3, 3, 3)).astype(np.float32),
    "v": RNG.standard_normal((4, 4, 3, 3)).astype(np.float32),
    "b": RNG.standard_normal(4).astype(np.float32),
    "m": RNG.standard_normal((4, 5)).astype(np.float32),
    "zero": np.zeros((), np.float32),
    "six": np.full((), 6, np.float32),
}
SAMPLES = RNG.standard_normal((32, 3, 8, 8)).astype(np.float32)


def loaded(text: str, folder: Path, outputs: str = "float[A,B,C,D] y") -> list[str]:
    """The operators that ONNX Runtime runs, sorted."""
    model = Model.from_text(f"g (float[1,3,8,8] x) => ({outputs}) {{ {text} }}", CONSTANTS)
    path = edgecc.compile(
        model, "onnxruntime", folder / "m.onnx", passes=[QuantizeStatic()], calibration={"x": SAMPLES}
    ).path
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    nodes = onnx.load(folder / "optimized.onnx").graph.node
    return sorted(node.op_type for node in nodes if node.op_type != "Transpose")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a = Conv(x, w, b)  y = Relu(a)", ["QLinearConv"]),
        ("a = Conv(x, w, b)  y = Clip(a, zero, six)", ["QLinearConv"]),
        (
            "a = Conv(x, w, b)  r = Relu(a)  c = Conv<pads=[1,1,1,1]>(r, v, b)  s = Add(r, c)  y = Relu(s)",
            ["QLinearAdd", "QLinearConv", "QLinearConv"],
        ),
        ("a = Conv(x, w)  y = MaxPool<kernel_shape=[2,2]>(a)", ["NhwcMaxPool", "QLinearConv"]),
        (
            "a = Conv(x, w)  b1 = Conv(x, w, b)  y = Concat<axis=1>(a, b1)",
            ["QLinearConcat", "QLinearConv", "QLinearConv"],
        ),
        ("a = Conv(x, w)  y = GlobalAveragePool(a)", ["QLinearConv", "QLinearGlobalAveragePool"]),
        ("a = Conv(x, w)  y = Sigmoid(a)", ["QLinearConv", "QLinearSigmoid"]),
    ],
)
def test_every_unit_is_fused(text: str, expected: list[str], tmp_path: Path) -> None:
    assert loaded(text, tmp_path) == sorted(["DequantizeLinear", "QuantizeLinear", *expected])


def test_classifier(tmp_path: Path) -> None:
    text = "a = Conv(x, w)  p = GlobalAveragePool(a)  f = Flatten(p)  h = Gemm(f, m)  y = Softmax(h)"
    found = loaded(text, tmp_path, "float[A,B] y")
    assert {"QLinearConv", "QGemm", "QLinearSoftmax"} <= set(found)
    assert not {"Conv", "Gemm", "Softmax"} & set(found)


def test_operators_without_kernels_get_no_islands(tmp_path: Path) -> None:
    found = loaded("a = Add(x, x)  e = Erf(a)  y = Conv(e, w)", tmp_path)
    assert found.count("QuantizeLinear") == 1
    assert "Add" in found


@pytest.mark.parametrize(("target", "dtype"), [("onnxruntime", "uint8"), ("onnxruntime:provider=cuda", "int8")])
def test_type_of_data(target: str, dtype: str, tmp_path: Path) -> None:
    model = Model.from_text("g (float[1,3,8,8] x) => (float[A,B,C,D] y) { y = Conv(x, w) }", CONSTANTS)
    result = edgecc.compile(model, target, tmp_path / "m.onnx", passes=[QuantizeStatic()], calibration={"x": SAMPLES})
    assert {node.outputs[0].dtype for node in result.model.nodes("QuantizeLinear")} == {np.dtype(dtype)}


def test_ort_files(tmp_path: Path) -> None:
    model = Model.from_text("g (float[1,3,8,8] x) => (float[A,B,C,D] y) { a = Conv(x, w)  y = Relu(a) }", CONSTANTS)
    model.save(tmp_path / "source.onnx")
    path = tmp_path / "m.ort"
    edgecc.compile(tmp_path / "source.onnx", "onnxruntime", path, quantize="int8", calibration={"x": SAMPLES})
    found = edgecc.compare(path, tmp_path / "source.onnx", samples=4).comparisons[0]
    # 8 bits of input, weights and output; values beyond those of calibration are clipped.
    assert found.outputs["y"].sqnr_db > 25
