"""What ONNX files say beside their graph, in and out, and the report of what a file does not hold."""

from __future__ import annotations

from pathlib import Path

import pytest

import edgecc
from edgecc.importers.onnx import OnnxImporter
from edgecc.model import Model
from edgecc.model_metadata import read_metadata, without_place

GRAPH = "g (float[1,3] x) => (float[1,3] y) { y = Relu(x) }"


def test_all_of_an_onnx_model_comes_back() -> None:
    proto = Model.from_text(GRAPH).to_proto()
    proto.model_version, proto.domain, proto.graph.doc_string = 12, "org.example", "what it does"
    proto.graph.input[0].doc_string, proto.graph.output[0].doc_string = "pixels", "scores"
    proto.metadata_props.add(key="model_author", value="A. Person")
    model = OnnxImporter().from_proto(proto)
    assert model.metadata == {
        "model_version": "12",
        "model_domain": "org.example",
        "doc.x": "pixels",
        "doc.y": "scores",
        "model_author": "A. Person",
    }
    again = model.to_proto()
    assert read_metadata(again) == model.metadata
    assert (again.model_version, again.domain, again.graph.doc_string) == (12, "org.example", "what it does")
    assert [p.key for p in again.metadata_props] == ["model_author"]


@pytest.mark.parametrize("version", ["1.2.3", "007", "-1", "0", str(2**70), "two", "²"])
def test_versions_that_are_no_number_of_onnx(version: str) -> None:
    model = Model.from_text(GRAPH)
    model.metadata = {"model_version": version}
    assert read_metadata(model.to_proto()) == {"model_version": version}


def test_without_place() -> None:
    model = Model.from_text(GRAPH)
    assert without_place(model) == []
    model.graph.doc_string, model.metadata = "text", {"k": "v"}
    assert without_place(model) == ["the model's description", "metadata 'k'"]


def test_ort_files_hold_it(tmp_path: Path) -> None:
    import onnxruntime as ort

    model = Model.from_text(GRAPH)
    model.graph.doc_string, model.metadata = "what it does", {"labels.y": "a\nb\nc", "model_version": "3"}
    path = edgecc.compile(model, output=tmp_path / "m.ort").path
    found = ort.InferenceSession(path, providers=["CPUExecutionProvider"]).get_modelmeta()
    assert (found.graph_description, found.version) == ("what it does", 3)
    assert found.custom_metadata_map == {"labels.y": "a\nb\nc"}
