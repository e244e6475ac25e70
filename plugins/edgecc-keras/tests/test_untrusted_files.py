"""Damaged and hostile files: a message that says what, why and what to do, and nothing of them runs."""

from __future__ import annotations

import importlib.util
import json
import os
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("edgecc_keras")
if importlib.util.find_spec("tensorflow") is None:
    pytest.skip("TensorFlow is not installed", allow_module_level=True)

import edgecc
from edgecc.errors import InvalidModelError
from edgecc_keras import conversion
from edgecc_keras.archive import extract, is_keras_archive
from edgecc_keras.child.checked_model import check_keras_file
from edgecc_keras.child.config_check import check_config
from edgecc_keras.child.hdf5_check import check_hdf5
from edgecc_keras.child.report import ModelError


def archive(path: Path, **records: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("config.json", "{}")
        made.writestr("metadata.json", "{}")
        for name, contents in records.items():
            made.writestr(name, contents)
    return path


@pytest.mark.parametrize("name", ["../out", "/out", "a/../../out", "C:out", "a\\..\\out"])
def test_records_that_lead_elsewhere(name: str, tmp_path: Path) -> None:
    path = archive(tmp_path / "m.keras", **{name: b"x"})
    with pytest.raises(InvalidModelError, match="not an archive that edgecc unpacks") as caught:
        edgecc.load(path)
    assert "leads out of the folder" in caught.value.why
    assert [file.name for file in tmp_path.iterdir()] == ["m.keras"]


def test_bomb(tmp_path: Path) -> None:
    path = archive(tmp_path / "m.keras", **{"model.weights.h5": bytes(10_000_000)})
    with pytest.raises(InvalidModelError, match="not an archive") as caught:
        edgecc.load(path)
    assert "unpack to" in caught.value.why


def test_packing_that_keras_does_not_write(tmp_path: Path) -> None:
    path = archive(tmp_path / "m.keras")
    with zipfile.ZipFile(path, "a", zipfile.ZIP_LZMA) as made:
        made.writestr("model.weights.h5", b"x")
    with pytest.raises(InvalidModelError, match="not an archive") as caught:
        edgecc.load(path)
    assert "packed in a way that Keras does not write" in caught.value.why


def test_archive_that_lacks_weights(tmp_path: Path) -> None:
    assert is_keras_archive(archive(tmp_path / "m.keras"))
    with pytest.raises(InvalidModelError, match=r"lacks model\.weights\.h5"):
        edgecc.load(tmp_path / "m.keras")


def test_damaged_archive(models: Path, tmp_path: Path) -> None:
    contents = (models / "small3.keras").read_bytes()
    (tmp_path / "cut.keras").write_bytes(contents[: len(contents) // 2])
    with pytest.raises(InvalidModelError, match="truncated or damaged"):
        edgecc.load(tmp_path / "cut.keras")
    middle = len(contents) // 2
    (tmp_path / "bad.keras").write_bytes(contents[:middle] + b"edgecc" + contents[middle + 6 :])
    (tmp_path / "out").mkdir()
    with pytest.raises(InvalidModelError, match="truncated or damaged"):
        extract(tmp_path / "bad.keras", tmp_path / "out")


@pytest.mark.parametrize("size", [0, 8, 100, 5000])
def test_truncated_h5(size: int, models: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.h5").write_bytes((models / "small2.h5").read_bytes()[:size])
    if size < 8:
        with pytest.raises(InvalidModelError, match="is empty"):
            edgecc.load(tmp_path / "cut.h5")
        return
    with pytest.raises(ModelError, match="is truncated or damaged"):
        check_keras_file(tmp_path / "cut.h5")


def test_text_that_is_called_h5(tmp_path: Path) -> None:
    (tmp_path / "m.h5").write_text("once upon a time")
    with pytest.raises(InvalidModelError, match="is not a Keras model") as caught:
        edgecc.load(tmp_path / "m.h5")
    assert "neither an HDF5 file nor a zip archive" in caught.value.why


@pytest.mark.parametrize("file", ["lambda3.keras", "lambda3.h5", "lambda2.h5"])
def test_code_is_refused(file: str, models: Path) -> None:
    with pytest.raises(InvalidModelError, match="runs code that edgecc does not run") as caught:
        edgecc.load(models / file)
    assert caught.value.where == "layer 'code' (Lambda)"
    assert "model.export" in caught.value.hint


def test_weights_alone(models: Path) -> None:
    with pytest.raises(InvalidModelError, match="holds no model"):
        edgecc.load(models / "weights.h5")


@pytest.mark.parametrize(
    "entry",
    [
        {"class_name": "Lambda", "config": {}},
        {"class_name": "package>Lambda", "config": {}},
        {"class_name": "TFSMLayer", "module": "keras.layers", "config": {"filepath": "/"}},
        {"class_name": "TFOpLambda", "config": {"name": "f", "function": "io.write_file"}},
        {"class_name": "TFOpLambda", "config": {"name": "f", "function": "raw_ops.WriteFile"}},
        {"class_name": "TFOpLambda", "config": {"name": "f", "function": "py_function"}},
        {
            "class_name": "Dense",
            "config": {"activation": {"class_name": "function", "module": "os", "config": "system"}},
        },
        {"class_name": "function", "module": "keras.utils", "config": "get_file"},
        {"class_name": "IntegerLookup", "config": {"vocabulary": "/etc/passwd"}},
        {"class_name": "TextVectorization", "module": "keras.layers", "config": {"vocabulary": "gs://bucket/words"}},
        {"class_name": "Mine", "module": "package.layers", "config": {}},
        {"class_name": "Dense", "config": {"activation": {"function_type": "lambda", "function": "4wEAAAA="}}},
    ],
)
def test_configurations_that_name_code(entry: dict[str, object]) -> None:
    config = {"class_name": "Functional", "config": {"layers": [entry]}}
    with pytest.raises(ModelError, match="runs code"):
        check_config(json.dumps(config))


def test_configurations_that_compute() -> None:
    layers = [
        {"class_name": "TFOpLambda", "config": {"name": "f", "function": "math.multiply"}},
        {"class_name": "TFOpLambda", "config": {"name": "g", "function": "__operators__.add"}},
        {"class_name": "Dense", "module": "keras.layers", "config": {"activation": "relu"}},
    ]
    assert check_config(json.dumps({"class_name": "Functional", "config": {"layers": layers}}))["config"]


@pytest.mark.parametrize("text", ["", "[]", "{}", "[" * 100_000, "nonsense"])
def test_configurations_that_are_none(text: str) -> None:
    with pytest.raises(ModelError, match=r"damaged|holds no Keras model"):
        check_config(text)


def test_links_and_other_files(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "link.h5", "w") as file:
        file["w"] = h5py.ExternalLink("/etc/passwd", "/")
    with pytest.raises(ModelError) as caught:
        check_hdf5(tmp_path / "link.h5")
    assert "link to another place or file" in caught.value.why
    with h5py.File(tmp_path / "external.h5", "w") as file:
        file.create_dataset("w", (4,), "u1", external=[("/etc/passwd", 0, 4)])
    with pytest.raises(ModelError) as caught:
        check_hdf5(tmp_path / "external.h5")
    assert "in another file" in caught.value.why
    with h5py.File(tmp_path / "bomb.h5", "w") as file:
        file.create_dataset("w", (1 << 40,), "f4", chunks=(1024,), compression="gzip")
    with pytest.raises(ModelError) as caught:
        check_hdf5(tmp_path / "bomb.h5")
    assert "many times the file's" in caught.value.why
    with h5py.File(tmp_path / "cycle.h5", "w") as file:
        file.create_group("a")["b"] = file["/"]
    with pytest.raises(ModelError) as caught:
        check_hdf5(tmp_path / "cycle.h5")
    assert "within itself" in caught.value.why


def test_unknown_version(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file.attrs["keras_version"] = "1.2.2"
        file.attrs["model_config"] = json.dumps({"class_name": "Sequential", "config": []})
    with pytest.raises(ModelError, match=r"version of Keras that is not known: 1\.2\.2"):
        check_keras_file(tmp_path / "m.h5")


def test_the_process_that_reads_the_file_is_told_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", "secret")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    told = conversion._environment()
    assert "MY_TOKEN" not in told
    assert told["OMP_NUM_THREADS"] == "1"
    assert told["PATH"] == os.environ["PATH"]
