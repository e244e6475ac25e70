"""The report says where an artifact came from, and nothing that is not so."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest

import edgecc
from edgecc.errors import InvalidModelError
from edgecc.model import Model
from edgecc.provenance import SourceHash, sha256_of

TEXT = "g (float[1,4] x) => (float[1,4] y) { c = Add(x, w) y = Relu(c) }"


@pytest.fixture
def model() -> Model:
    return Model.from_text(TEXT, {"w": np.arange(4, dtype=np.float32)})


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_file_is_named_relative_to_the_artifact(folder: Path, model: Model) -> None:
    (folder / "out").mkdir()
    model.save("m.onnx")
    report = edgecc.compile("m.onnx", "onnxruntime", "out/o.onnx").artifact.report
    assert report["source_files"] == ["../m.onnx"]
    assert report["source_sha256"] == sha256_of([folder / "m.onnx"])
    assert report["model_sha256"] == ""


def test_external_weights_count(folder: Path, model: Model) -> None:
    onnx.save(model.to_proto(), "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    first = edgecc.compile("m.onnx", "onnxruntime", "o.onnx").artifact.report
    assert first["source_files"] == ["m.onnx", "m.data"]
    weights = bytearray(Path("m.data").read_bytes())
    weights[0] ^= 1
    Path("m.data").write_bytes(weights)
    second = edgecc.compile("m.onnx", "onnxruntime", "o.onnx").artifact.report
    assert first["source_sha256"] != second["source_sha256"]


def test_a_model_in_memory_is_no_file(folder: Path, model: Model) -> None:
    """Not even if one of its name lies here, or it was read from one and edited since."""
    model.save("g.onnx")
    loaded = edgecc.load("g.onnx")
    for source in (model.to_proto(), loaded):
        report = edgecc.compile(source, "onnxruntime", "o.onnx").artifact.report
        assert report["source_files"] == []
        assert report["source_sha256"] == ""
        assert len(report["model_sha256"]) == 64


def test_versions_of_all_that_took_part(folder: Path, model: Model) -> None:
    model.save("m.onnx")
    versions = edgecc.compile("m.onnx", "onnxruntime", "o.onnx", passes=["fold-batchnorm"]).artifact.report["versions"]
    assert {"edgecc", "onnx", "onnx-graphsurgeon", "onnxruntime", "numpy", "edgecc-onnxruntime"} <= versions.keys()


def test_the_file_says_which_edgecc_wrote_it(folder: Path, model: Model) -> None:
    model.save("m.onnx")
    written = onnx.load("m.onnx")
    assert (written.producer_name, written.producer_version) == ("edgecc", edgecc.__version__)


def test_files_of_an_earlier_compilation_do_not_stay(folder: Path, model: Model) -> None:
    """What the earlier report lists goes, what it does not list is somebody else's."""
    model.save("m.onnx")
    edgecc.compile("m.onnx", "onnxruntime", "o.onnx")
    report = folder / "o.onnx.report.json"
    report.write_text(report.read_text().replace('"files": {', '"files": {"o.onnx.data": {"bytes": 9}, "m.onnx": {},'))
    (folder / "o.onnx.data").write_bytes(b"x" * 9)
    (folder / "o.onnx.txt").write_bytes(b"mine")
    artifact = edgecc.compile("m.onnx", "onnxruntime", "o.onnx").artifact
    assert not (folder / "o.onnx.data").exists()
    assert (folder / "o.onnx.txt").exists()
    assert (folder / "m.onnx").exists()
    assert artifact.nbytes == (folder / "o.onnx").stat().st_size


def test_a_stranger_beside_the_artifact_is_not_counted(folder: Path, model: Model) -> None:
    model.save("m.onnx")
    artifact = edgecc.compile("m.onnx", "onnxruntime", "o.onnx").artifact
    (folder / "o.onnx.data").write_bytes(b"x" * 1000)
    assert artifact.nbytes == (folder / "o.onnx").stat().st_size


def test_a_source_that_vanishes_while_it_is_compiled(tmp_path: Path) -> None:
    source = SourceHash([tmp_path / "gone.onnx"])
    with pytest.raises(InvalidModelError, match=r"gone\.onnx cannot be read any more") as caught:
        source.hexdigest()
    assert "leave the source in its place" in str(caught.value)


def test_the_hash_in_the_background_is_the_hash(tmp_path: Path) -> None:
    contents = bytes(range(256)) * 40_000  # 10 MB: several pieces, the last one not full
    (tmp_path / "a").write_bytes(contents)
    (tmp_path / "b").write_bytes(b"")
    assert SourceHash([tmp_path / "a"]).hexdigest() == hashlib.sha256(contents).hexdigest()
    assert SourceHash([tmp_path / "a", tmp_path / "b"]).hexdigest() == sha256_of([tmp_path / "a", tmp_path / "b"])
    assert SourceHash([]).hexdigest() == ""
