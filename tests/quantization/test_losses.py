from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

import edgecc
from edgecc.acceptance.gate import Gate
from edgecc.acceptance.losses import Losses, StepLoss
from edgecc.data.calibration import CalibrationData, open_calibration
from edgecc.model import Model, value_of
from edgecc.passes.base import Loss, Pass, PassContext
from edgecc.passes.pipeline import PassPipeline
from edgecc.passes.quantize_dynamic import QuantizeDynamic
from edgecc.passes.quantize_static import QuantizeStatic
from edgecc.passes.quantize_weights import QuantizeWeights
from edgecc.quantization.losses import QuantizationLosses

RNG = np.random.default_rng(0)
CONSTANTS = {
    "w": RNG.standard_normal((4, 3, 3, 3)).astype(np.float32),
    "m": RNG.standard_normal((4, 5)).astype(np.float32),
}
TEXT = "a = Conv(x, w)  r = Relu(a)  p = GlobalAveragePool(r)  f = Flatten(p)  y = Gemm(f, m)"


def losses(folder: Path, samples: np.ndarray, **options: object) -> Losses:
    model = Model.from_text(f"g (float[1,3,8,8] x) => (float[A,B] y) {{ {TEXT} }}", CONSTANTS)
    step = QuantizeStatic(**options)  # type: ignore[arg-type]
    result = edgecc.compile(model, "onnxruntime", folder / "m.onnx", passes=[step], calibration={"x": samples})
    assert result.losses is not None
    assert result.artifact.report["losses"] == result.losses.to_dict()
    assert result.losses.quantization is not None
    assert result.artifact.report["quantization"] == result.losses.quantization.to_dict()
    return result.losses


def last(found: Losses) -> StepLoss:
    assert found.kept is not None
    return found.kept


def layers(found: Losses | None) -> QuantizationLosses:
    assert found is not None
    assert found.quantization is not None
    return found.quantization


def images(count: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((count, 3, 8, 8)).astype(np.float32)


def test_outputs_and_layers_on_held_out_samples(tmp_path: Path) -> None:
    found = losses(tmp_path, images(64))
    assert (found.samples, found.held_out) == (8, True)
    # 8 bits of each of four tensors, one after another.
    assert 20 < last(found).outputs["y"].sqnr_db < 60
    quantized = layers(found)
    assert {layer.op for layer in quantized.worst} == {"Relu", "GlobalAveragePool", "Gemm"} | {"Flatten"}
    worst = [layer.sqnr_db for layer in quantized.worst]
    assert worst == sorted(worst)
    assert quantized.integer_macs == 1.0
    assert quantized.float_bytes >= 4 * (4 * 27 + 20)


def test_what_scales_were_chosen_from_is_not_what_is_measured(tmp_path: Path) -> None:
    samples = images(8)
    # The eighth is held out: it is ten times as large as what the scales were chosen for, and clipped.
    samples[7] *= 10
    clipped = last(losses(tmp_path, samples)).outputs["y"].sqnr_db
    samples[7] /= 10
    assert clipped < 10 < last(losses(tmp_path, samples)).outputs["y"].sqnr_db


def test_few_samples_are_measured_themselves(tmp_path: Path) -> None:
    found = losses(tmp_path, images(4))
    assert (found.samples, found.held_out) == (4, False)


def test_share_of_integer_work(tmp_path: Path) -> None:
    found = losses(tmp_path, images(16), keep_last=True)
    convolution, product = 4 * 36 * 27, 4 * 5
    assert layers(found).integer_macs == convolution / (convolution + product)


def test_recurrent_layers_are_work_in_float(tmp_path: Path) -> None:
    # Sequences of 5 steps, 2 at once, of 4 features; 3 states.
    constants = {
        "m": RNG.standard_normal((4, 4)).astype(np.float32),
        "w": RNG.standard_normal((1, 12, 4)).astype(np.float32),
        "r": RNG.standard_normal((1, 12, 3)).astype(np.float32),
    }
    text = "g (float[5,2,4] x) => (float[A,B,C,D] y) { a = MatMul(x, m)  y = LSTM<hidden_size=3>(a, w, r) }"
    samples = np.random.default_rng(1).standard_normal((16, 5, 2, 4)).astype(np.float32)
    model = Model.from_text(text, constants)
    step = QuantizeStatic(least_sqnr=0)
    result = edgecc.compile(model, "onnxruntime", tmp_path / "m.onnx", passes=[step], calibration={"x": samples})
    product, recurrent = 5 * 2 * 4 * 4, 5 * 2 * (12 * 4 + 12 * 3)
    assert layers(result.losses).integer_macs == product / (product + recurrent)


def test_subgraphs_are_work_in_float(tmp_path: Path) -> None:
    text = """g (float[1,3,8,8] x, bool c) => (float[A,B,C,D] y) {
        a = Conv(x, w)
        y = If (c) <
            then_branch = t () => (float[A,B,C,D] u) { u = Conv(a, v) },
            else_branch = e () => (float[A,B,C,D] v1) { v1 = Relu(a) }> }"""
    constants = {**CONSTANTS, "v": RNG.standard_normal((4, 4, 3, 3)).astype(np.float32)}
    model = Model.from_text(text, constants)
    data = {"x": images(16), "c": np.arange(16) % 2 == 0}
    step = QuantizeStatic(least_sqnr=0)
    result = edgecc.compile(model, "onnxruntime", tmp_path / "m.onnx", passes=[step], calibration=data)
    outer, inner = 4 * 36 * 27, 4 * 16 * 36
    assert layers(result.losses).integer_macs == outer / (outer + inner)


def test_nothing_is_said_where_nothing_was_quantized(tmp_path: Path) -> None:
    model = Model.from_text("g (float[2] x) => (float[2] y) { y = Erf(x) }")
    data = {"x": np.ones((8, 2), np.float32)}
    result = edgecc.compile(model, "onnxruntime", tmp_path / "m.onnx", passes=[QuantizeStatic()], calibration=data)
    assert result.losses is None
    assert result.artifact.report["quantization"] == {}


@pytest.mark.parametrize("step", [QuantizeDynamic(min_elements=1), QuantizeWeights(min_elements=1)])
def test_passes_that_need_no_data(step: Pass, tmp_path: Path) -> None:
    model = Model.from_text(f"g (float[1,3,8,8] x) => (float[A,B] y) {{ {TEXT} }}", CONSTANTS)
    result = edgecc.compile(model, "onnxruntime", tmp_path / "m.onnx", passes=[step], calibration={"x": images(16)})
    found = result.losses
    assert found is not None
    assert found.samples == 2
    assert 20 < last(found).outputs["y"].sqnr_db < 80
    assert "Gemm" in {layer.op for layer in layers(found).worst}
    # Convolutions stay float in ONNX Runtime: the product has 4 * 5 of the multiply-accumulates.
    share = 20 / (20 + 4 * 6 * 6 * 27) if step.name == "quantize-dynamic" else 0.0
    assert layers(found).integer_macs == pytest.approx(share)
    without = edgecc.compile(model, "onnxruntime", tmp_path / "n.onnx", passes=[step]).losses
    assert without is not None
    assert without.samples == 0


def labelled_losses(folder: Path, count: int, dtype: type = np.int64, batch: int = 1) -> Losses:
    """Labels are what the float model says, but for one held-out sample."""
    from edgecc.reference_session import reference_session

    model = Model.from_text(f"g (float[{batch},3,8,8] x) => (float[A,B] y) {{ {TEXT} }}", CONSTANTS)
    session, samples = reference_session(model.to_proto()), images(count)
    parts = samples.reshape(-1, batch, 3, 8, 8)
    labels = np.concatenate([session.run(None, {"x": part})[0].argmax(axis=1) for part in parts])
    labels[7 * batch] = (labels[7 * batch] + 1) % 5
    labels[0] = (labels[0] + 1) % 5
    data = {"x": samples, "labels": labels.astype(dtype)}
    result = edgecc.compile(model, "onnxruntime", folder / "m.onnx", passes=[QuantizeStatic()], calibration=data)
    assert result.losses is not None
    assert result.artifact.report["losses"] == result.losses.to_dict()
    assert result.losses.quantization is not None
    assert result.artifact.report["quantization"] == result.losses.quantization.to_dict()
    return result.losses


@pytest.mark.parametrize("batch", [1, 2])
def test_accuracy_on_held_out_samples(batch: int, tmp_path: Path) -> None:
    found = labelled_losses(tmp_path, 64 * batch, batch=batch)
    assert found.samples == 8 * batch
    # One of the labels is wrong; the other wrong one belongs to a sample that scales were chosen from.
    assert found.accuracy == 1 - 1 / (8 * batch)
    quantized = last(found).accuracy
    assert quantized is not None
    assert quantized >= found.accuracy - 2 / (8 * batch)


def test_outputs_are_measured_on_more_samples_than_layers(tmp_path: Path) -> None:
    assert labelled_losses(tmp_path, 1024).samples == 128


def test_numbers_that_are_not_whole_are_no_labels(tmp_path: Path) -> None:
    found = labelled_losses(tmp_path, 16, np.float32)
    assert found.accuracy is None
    assert found.why_no_accuracy.startswith("no accuracy: the labels are float32, no class indices")


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        (np.full(16, 5), "label 5 is no class of the output: one whole number from 0 to 4 per sample is wanted"),
        (np.full(16, -1), "label -1 is no class"),
        (np.full(16, "cat"), "the labels are <U3, no class indices"),
        (np.zeros((16, 5), np.float32), "the labels are float32"),
        (np.zeros((16, 3), np.int64), "the labels are 3 numbers per sample"),
    ],
)
def test_what_is_no_label_is_a_note(labels: np.ndarray, text: str, tmp_path: Path) -> None:
    model = Model.from_text(f"g (float[1,3,8,8] x) => (float[A,B] y) {{ {TEXT} }}", CONSTANTS)
    data = {"x": images(16), "labels": labels}
    result = edgecc.compile(model, "onnxruntime", tmp_path / "m.onnx", passes=[QuantizeStatic()], calibration=data)
    assert result.losses is not None
    assert result.losses.accuracy is None
    assert any(text in note for note in result.notes)


def test_no_labels_no_accuracy(tmp_path: Path) -> None:
    assert losses(tmp_path, images(16)).accuracy is None


def test_passes_of_others_that_quantize_are_measured() -> None:
    class Halve(Pass):
        """Rounds in its own way."""

        name: ClassVar[str] = "halve"
        loss: ClassVar[Loss] = Loss.LOSSY
        quantizes: ClassVar[bool] = True

        def run(self, model: Model, ctx: PassContext) -> bool:
            del ctx
            node = model.nodes("MatMul")[0]
            values = value_of(node.inputs[1])
            assert values is not None
            model.set_input(node, 1, model.constant("halves", np.rint(values * 2) / np.float32(2)))
            return True

    weights = RNG.standard_normal((4, 4)).astype(np.float32)
    model = Model.from_text("g (float[1,4] x) => (float[1,4] y) { y = MatMul(x, w) }", {"w": weights})
    data = open_calibration({"x": RNG.standard_normal((16, 4)).astype(np.float32)}, model.signature)
    assert isinstance(data, CalibrationData)
    pipeline = PassPipeline([Halve()])
    pipeline.gate = Gate(held_out=data)
    assert pipeline.quantizes
    pipeline.run(model, PassContext(None, np.random.default_rng(0)))
    found = pipeline.gate.losses()
    assert found is not None
    # Steps of 1/2 leave a noise of 1/48 in weights whose mean square is 1: some 17 dB.
    assert 10 < last(found).outputs["y"].sqnr_db < 25
