"""Models that others wrote, through the importer: the numbers of LiteRT, and the same file again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import edgecc
from edgecc.model import Model
from edgecc_tflite.testing.running import Feeds, run_onnx

FLOAT = ("ad01_fp32", "pretrainedResnet", "pretrainedResnet_large_float", "vww_96_float")
INT8 = ("ad01_int8", "kws_ref_model", "pretrainedResnet_quant", "pretrainedResnet_large_int8", "vww_96_int8")
INT8 += ("str_ww_ref_model",)
#: int8 weights beside float data, in spite of its name.
DYNAMIC = "kws_ref_model_float32"
RESIDUAL = ("pretrainedResnet_quant", "pretrainedResnet_large_int8")
pytestmark = pytest.mark.shared_data


def run_file(contents: bytes, values: np.ndarray) -> np.ndarray:
    """The only output for each sample, on the runtime's default kernels."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=contents, num_threads=1)
    interpreter.allocate_tensors()
    source, result = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    found = []
    for sample in values:
        interpreter.set_tensor(source["index"], sample[None])
        interpreter.invoke()
        found.append(interpreter.get_tensor(result["index"])[0])
    return np.stack(found)


def samples(model: Model, count: int = 8) -> np.ndarray:
    """Smooth values over the input's whole range."""
    spec = model.signature.inputs[0]
    shape = [count, *(int(dim) for dim in spec.shape[1:])]
    generator = np.random.default_rng(3)
    if spec.dtype == "int8":
        return generator.integers(-128, 128, shape).astype(np.int8)
    return generator.uniform(0, 255 if "3" in str(spec.shape[-1]) else 1, shape).astype(np.float32)


def imported(contents: bytes, folder: Path) -> Model:
    path = folder / "model.tflite"
    path.write_bytes(contents)
    return edgecc.load(path)


def run_samples(model: Model, values: np.ndarray) -> np.ndarray:
    name = model.signature.inputs[0].name
    feeds: Feeds = {name: values}
    return next(iter(run_onnx(model, feeds).values()))


@pytest.mark.parametrize("name", FLOAT)
def test_float_models_compute_what_litert_does(
    name: str, reference_model: Callable[[str], bytes], tmp_path: Path
) -> None:
    contents = reference_model(f"{name}.tflite")
    model = imported(contents, tmp_path)
    values = samples(model)
    expected = run_file(contents, values)
    error = np.max(np.abs(run_samples(model, values) - expected)) / np.max(np.abs(expected))
    assert error < 1e-5  # sums in another order


def steps_apart(contents: bytes, values: np.ndarray, folder: Path) -> np.ndarray:
    """How far integers of `edgecc convert m.tflite m.onnx` are from LiteRT's."""
    source, converted = folder / "model.tflite", folder / "model.onnx"
    source.write_bytes(contents)
    edgecc.compile(source, output=converted)
    session = onnxruntime.InferenceSession(converted, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    found = np.concatenate([session.run(None, {name: sample[None]})[0] for sample in values])
    return np.abs(found.astype(int) - run_file(contents, values))


@pytest.mark.parametrize("name", INT8)
def test_int8_models_compute_what_litert_does(
    name: str, reference_model: Callable[[str], bytes], tmp_path: Path
) -> None:
    contents = reference_model(f"{name}.tflite")
    assert steps_apart(contents, samples(imported(contents, tmp_path)), tmp_path).max() <= 1


@pytest.mark.parametrize("name", RESIDUAL)
def test_int8_residual_nets_give_the_same_integers_on_images(
    name: str, reference_model: Callable[[str], bytes], shared_data: Path, tmp_path: Path
) -> None:
    """Sums of integers, additions, halves in the average pool: one step off anywhere, and Softmax makes it twenty."""
    images = np.load(shared_data / "cifar10_test2000.npz")["x"][:200]
    values = (images.astype(np.int16) - 128).astype(np.int8)
    assert not steps_apart(reference_model(f"{name}.tflite"), values, tmp_path).any()


@pytest.mark.parametrize("name", INT8)
def test_round_trip_over_an_onnx_file_gives_the_same_bits(
    name: str, reference_model: Callable[[str], bytes], tmp_path: Path
) -> None:
    contents = reference_model(f"{name}.tflite")
    values = samples(imported(contents, tmp_path))
    edgecc.compile(tmp_path / "model.tflite", output=tmp_path / "model.onnx")
    edgecc.compile(tmp_path / "model.onnx", output=tmp_path / "again.tflite")
    again = (tmp_path / "again.tflite").read_bytes()
    assert len(again) <= 1.05 * len(contents)
    np.testing.assert_array_equal(run_file(again, values), run_file(contents, values))


@pytest.mark.parametrize("name", [*FLOAT, *INT8, DYNAMIC])
def test_round_trip_gives_the_same_bits(name: str, reference_model: Callable[[str], bytes], tmp_path: Path) -> None:
    contents = reference_model(f"{name}.tflite")
    model = imported(contents, tmp_path)
    again = tmp_path / "again.tflite"
    edgecc.compile(tmp_path / "model.tflite", target="tflite", output=again)
    assert len(again.read_bytes()) <= 1.05 * len(contents)
    values = samples(model)
    np.testing.assert_array_equal(run_file(again.read_bytes(), values), run_file(contents, values))


def test_channels_last_graphs_become_channels_first_ones(
    reference_model: Callable[[str], bytes], tmp_path: Path
) -> None:
    from edgecc_tflite.reader import read

    contents = reference_model("vww_96_int8.tflite")
    imported(contents, tmp_path)
    output = tmp_path / "m.onnx"
    edgecc.compile(tmp_path / "model.tflite", output=output)
    counts = [node.op for node in edgecc.load(output).nodes("Transpose")]
    assert len(counts) == 1, "the input's own"
    assert read(contents).count("CONV_2D") == 14


def test_names_and_what_the_file_says_beside_its_graph(reference_model: Callable[[str], bytes], tmp_path: Path) -> None:
    model = imported(reference_model("pretrainedResnet_large_int8.tflite"), tmp_path)
    assert [spec.name for spec in model.signature.inputs] == ["input_5"]
    assert [spec.name for spec in model.signature.outputs] == ["dense_4"]
    assert (model.metadata, model.not_carried) == ({}, ())
