"""Models of Keras 2 and 3 and SavedModels: values, names and open dimensions are the model's."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("edgecc_keras")
if importlib.util.find_spec("tensorflow") is None:
    pytest.skip("TensorFlow is not installed", allow_module_level=True)

import edgecc
from edgecc.cli.main import run as run_command_line
from edgecc.errors import InvalidModelError, OptionError, UnsupportedError
from edgecc.passes.verification import compare, run
from edgecc_keras.importer import KerasImporter

#: Relative to the largest value of an output; ONNX Runtime and TensorFlow sum in another order.
TOLERANCE = 1e-5


@pytest.mark.parametrize("file", ["small3.keras", "small3.h5", "small2.keras", "small2.h5"])
def test_keras(file: str, models: Path) -> None:
    model = edgecc.load(models / file)
    assert [(spec.name, spec.shape) for spec in model.signature.inputs] == [
        ("image", ("batch", 8, 8, 3)),
        ("gain", ("batch", 4)),
    ]
    assert [(spec.name, spec.shape) for spec in model.signature.outputs] == [
        ("scores", ("batch", 3)),
        ("features", ("batch", 4)),
    ]
    assert model.source_files == (models / file,)
    with np.load(models / f"{file[:6]}.npz") as stored:
        found = run(model, {name: stored[name] for name in ("image", "gain")})
        for name in ("scores", "features"):
            assert compare(stored[name], found[name], TOLERANCE) == ""


def test_content_decides(models: Path, tmp_path: Path) -> None:
    shutil.copy(models / "small2.h5", tmp_path / "model.keras")
    model = edgecc.load(tmp_path / "model.keras", shapes={"image": (1, 8, 8, 3), "gain": (1, 4)})
    assert [spec.shape for spec in model.signature.outputs] == [(1, 3), (1, 4)]


def test_sequences_of_any_length(models: Path) -> None:
    model = edgecc.load(models / "sequence.keras")
    assert model.signature.inputs[0].shape == ("batch", "data_1", 4)
    found = run(model, {"data": np.ones((2, 5, 4), np.float32)})
    assert found["states"].shape == (2, 5, 8)


def test_saved_model(models: Path) -> None:
    model = edgecc.load(models / "one")
    assert [(spec.name, spec.shape) for spec in model.signature.inputs] == [("x", ("batch", 3))]
    assert [(spec.name, spec.shape) for spec in model.signature.outputs] == [("y", ("batch", 2))]
    assert model.source_files[0] == models / "one" / "saved_model.pb"
    assert len(model.source_files) == 3
    found = run(model, {"x": np.ones((1, 3), np.float32)})
    assert found["y"].tolist() == [[6.0, 9.0]]


def test_signatures(models: Path) -> None:
    with pytest.raises(InvalidModelError, match="has several signatures") as caught:
        edgecc.load(models / "several")
    assert caught.value.hint == "choose: --importer signature=NAME, of: double, product"
    model = edgecc.load(models / "several" / "saved_model.pb", options={"signature": "double"})
    assert [spec.name for spec in model.signature.outputs] == ["doubled"]
    assert model.not_carried == ("signature 'product': a model has one",)
    with pytest.raises(InvalidModelError, match="has no signature 'triple'"):
        edgecc.load(models / "several", options={"signature": "triple"})
    with pytest.raises(OptionError, match="only a SavedModel has"):
        edgecc.load(models / "small2.h5", options={"signature": "double"})


@pytest.mark.parametrize(("folder", "what"), [("none", "has no signature"), ("reads", "reaches beyond the model")])
def test_saved_models_that_are_refused(folder: str, what: str, models: Path) -> None:
    with pytest.raises(InvalidModelError, match=what):
        edgecc.load(models / folder)


def test_operators_without_onnx(models: Path) -> None:
    with pytest.raises(UnsupportedError, match="cannot be imported from") as caught:
        edgecc.load(models / "special")
    assert [node.op for node in caught.value.nodes] == ["BesselI0e"]


def test_truncated_saved_model(models: Path, tmp_path: Path) -> None:
    shutil.copytree(models / "one", tmp_path / "one")
    data = tmp_path / "one" / "variables" / "variables.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:10])
    with pytest.raises(InvalidModelError, match="cannot be loaded by TensorFlow"):
        edgecc.load(tmp_path / "one")
    graph = tmp_path / "one" / "saved_model.pb"
    graph.write_bytes(graph.read_bytes()[:500])
    with pytest.raises(InvalidModelError, match="is truncated or damaged"):
        edgecc.load(tmp_path / "one")


def test_timeout(models: Path) -> None:
    with pytest.raises(InvalidModelError, match="within 1 s and was ended") as caught:
        edgecc.load(models / "small3.keras", options={"timeout": 1})
    assert caught.value.hint == "give it more time: --importer timeout=4"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts what a process allocates")
def test_memory(models: Path) -> None:
    with pytest.raises(InvalidModelError) as caught:
        edgecc.load(models / "small3.keras", options={"memory": 0.2})
    assert caught.value.what.startswith("TensorFlow wants more memory")
    assert "than it may take, 0.2 GB" in caught.value.what
    assert "--importer memory=GIGABYTES" in caught.value.hint


@pytest.mark.parametrize("suffix", [".tflite", ".onnx"])
def test_command_line(suffix: str, models: Path, tmp_path: Path) -> None:
    out = tmp_path / f"out{suffix}"
    words = ["compile", str(models / "small2.h5"), "-o", str(out), "--shape", "image=3,8,8,3", "--shape", "gain=3,4"]
    assert run_command_line(words) == 0
    with np.load(models / "small2.npz") as stored, edgecc.runner(out) as runner:
        found = runner.infer({name: stored[name] for name in ("image", "gain")})
        assert compare(stored["scores"], found["scores"], TOLERANCE) == ""


@pytest.mark.shared_data
@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "inputs", "outputs"),
    [
        ("ad01.h5", ("batch", 640), ("batch", 640)),
        ("kws_saved_model", ("batch", 49, 10, 1), ("batch", 12)),
        ("pretrainedResnet.h5", ("batch", 32, 32, 3), ("batch", 10)),
        ("str_ww_ref_model.h5", ("batch", 30, 1, 40), ("batch", 3)),
        ("vww_96.h5", ("batch", 96, 96, 3), ("batch", 2)),
    ],
)
def test_mlperf_tiny(
    file: str, inputs: tuple[object, ...], outputs: tuple[object, ...], shared_data: Path, tmp_path: Path
) -> None:
    from edgecc_keras.testing.reference import reference

    path = shared_data / "mlperf_tiny" / file
    model = KerasImporter().load(path, {})
    assert [spec.shape for spec in model.signature.inputs] == [inputs]
    assert [spec.shape for spec in model.signature.outputs] == [outputs]
    feeds, expected = reference(path, tmp_path / "expected.npz")
    for values, found in zip(expected.values(), run(model, feeds).values(), strict=True):
        assert compare(values, found, TOLERANCE) == ""
