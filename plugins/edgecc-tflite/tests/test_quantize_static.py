"""quantize-static for TFLite: which operators run on integers, and how near the float model they stay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgecc
from edgecc.model import Model, value_of
from edgecc.passes.quantize_static import QuantizeStatic

RNG = np.random.default_rng(0)
CONSTANTS = {
    "w": RNG.standard_normal((4, 3, 3, 3)).astype(np.float32),
    "zero": np.zeros((), np.float32),
    "six": np.full((), 6, np.float32),
}


def compiled(text: str, folder: Path, **options: Any) -> edgecc.CompileResult:
    model = Model.from_text(f"g (float[1,3,8,8] x) => (float[A,B,C,D] y) {{ {text} }}", CONSTANTS)
    samples = np.random.default_rng(1).standard_normal((32, 3, 8, 8)).astype(np.float32)
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


def test_the_integer_model_is_within_a_step_of_the_graph(tmp_path: Path) -> None:
    text = "a = Conv<pads=[1,1,1,1]>(x, w)  b = Relu(a)  c = Add(a, b)  y = GlobalAveragePool(c)"
    result = compiled(text, tmp_path)
    result.model.save(tmp_path / "graph.onnx")
    found = edgecc.compare(result.path, tmp_path / "graph.onnx", samples=16)
    details: Any = [match for match in result.artifact.report["correspondence"] if match["source"] == "y"]
    step = max(float(value_of(node.inputs[1])) for node in result.model.nodes("QuantizeLinear")[-1:])  # type: ignore[arg-type]
    assert details
    # XNNPACK rounds exactly: what differs lies between two steps.
    assert found.comparisons[0].outputs["y"].max_abs <= step * 1.01


MLPERF = [
    pytest.param("kws_float.onnx", "kws_ref_model.tflite", "kws_calib200.npz", "kws_test400.npz", 0.5, id="DS-CNN"),
    *(
        pytest.param(
            f"pretrainedResnet{name}.onnx",
            f"pretrainedResnet{reference}.tflite",
            "cifar10_train4000_unlabelled.npz",
            "cifar10_test2000.npz",
            0.3,
            id=f"ResNet{name}",
            marks=[pytest.mark.slow],
        )
        for name, reference in (("", "_quant"), ("_large_float", "_large_int8"))
    ),
]


@pytest.mark.shared_data
@pytest.mark.parametrize(("source", "reference", "calibration", "test", "drop"), MLPERF)
def test_mlperf_tiny(
    source: str, reference: str, calibration: str, test: str, drop: float, shared_data: Path, tmp_path: Path
) -> None:
    """At most so many points less than float, in no more bytes than the reference's file; both targets agree."""
    path, sizes = shared_data / "mlperf_tiny" / source, {}
    name = Model.load(path).inputs[0].name
    samples = {name: np.load(shared_data / calibration)["x"][:256].astype(np.float32)}
    data = np.load(shared_data / test)
    np.savez(tmp_path / "test.npz", **{name: data["x"].astype(np.float32), "labels": data["y"]})
    for target, output in (("tflite", "m.tflite"), ("onnxruntime", "m.onnx")):
        result = edgecc.compile(path, target, tmp_path / output, quantize="int8", measure=False, calibration=samples)
        sizes[target] = result.path.stat().st_size
    found = edgecc.compare(tmp_path / "m.tflite", path, tmp_path / "test.npz")
    assert found.accuracy is not None
    assert found.comparisons[0].accuracy is not None
    assert found.comparisons[0].accuracy >= found.accuracy - drop / 100
    assert sizes["tflite"] <= (shared_data / "mlperf_tiny" / reference).stat().st_size
    both = edgecc.compare(tmp_path / "m.tflite", tmp_path / "m.onnx", tmp_path / "test.npz")
    (fidelity,) = both.comparisons[0].outputs.values()
    assert fidelity.top1 is not None
    assert fidelity.top1 >= 0.995
