"""What a model says beside its graph, to TFLite's metadata and back, and files that others wrote or damaged."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import flatbuffers
import numpy as np
import onnx
import pytest

import edgecc
from edgecc.model import Model
from edgecc_tflite import file_metadata as tflite
from edgecc_tflite.importing.model_file import read_model
from edgecc_tflite.importing.to_onnx import import_file
from edgecc_tflite.ir import Graph, Operator, Tensor
from edgecc_tflite.writer import write

METADATA = {
    "model_author": "A. Person",
    "model_license": "Apache-2.0",
    "model_version": "7",
    "doc.x": "an image",
    "title.x": "picture",
    "doc.y": "scores",
    "labels.y": "cat\ndog\nsnow leopard",
    "value_labels.y": "no\nyes",
    "normalization.x": '{"mean": [127.5], "std": [127.5]}',
    "file.vocab.txt": "a\nb\n",
    "task": "classify",
}


def described() -> Model:
    model = Model.from_text("pets (float[1,3] x) => (float[1,3] y) { y = Relu(x) }")
    model.graph.doc_string = "Tells pets apart.\nTwo lines."
    model.metadata = dict(METADATA)
    return model


def written(model: Model, folder: Path, name: str = "m.tflite") -> Path:
    return edgecc.compile(model, output=folder / name).path


def test_everything_comes_back(tmp_path: Path) -> None:
    again = edgecc.load(written(described(), tmp_path))
    assert again.metadata == METADATA
    assert (again.graph.name, again.graph.doc_string) == ("pets", "Tells pets apart.\nTwo lines.")
    assert again.not_carried == ()


def test_over_onnx_and_back(tmp_path: Path) -> None:
    first = written(described(), tmp_path)
    proto = onnx.load(edgecc.compile(first, output=tmp_path / "m.onnx").path)
    assert proto.model_version == 7
    assert [value.doc_string for value in (*proto.graph.input, *proto.graph.output)] == ["an image", "scores"]
    assert {p.key for p in proto.metadata_props} == METADATA.keys() - {"model_version", "doc.x", "doc.y"}
    again = edgecc.compile(tmp_path / "m.onnx", output=tmp_path / "again.tflite").path
    assert again.read_bytes() == first.read_bytes()


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("labels.y", "\nperson\n\ncar"),
        ("normalization.x", '{"mean": [0.1], "std": [0.3]}'),
        ("normalization.x", "as the paper says"),
        ("normalization.x", '{"mean": [1.0]}'),
        ("normalization.x", '{"mean": [1.0], "std": [2.0], "order": "bgr"}'),
    ],
)
def test_texts_come_back_as_they_are(key: str, text: str, tmp_path: Path) -> None:
    """Classes without a label keep their place, and what TFLite has no fields for is an entry of its own."""
    model = described()
    model.metadata[key] = text
    again = edgecc.load(written(model, tmp_path))
    assert (again.metadata, again.not_carried) == (model.metadata, ())


def test_files_lie_in_an_archive_that_apps_can_open(tmp_path: Path) -> None:
    with zipfile.ZipFile(written(described(), tmp_path)) as archive:
        assert archive.namelist() == ["y_labels.txt", "y_values.txt", "vocab.txt"]
        assert archive.read("y_labels.txt") == b"cat\ndog\nsnow leopard\n"
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}


def test_the_runtime_reads_such_files(tmp_path: Path) -> None:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(written(described(), tmp_path)))
    found = interpreter.get_signature_runner("serving_default")(x=np.array([[-1, 0, 2]], np.float32))
    np.testing.assert_array_equal(found["y"], [[0, 0, 2]])


def test_a_model_that_says_nothing_has_no_metadata(tmp_path: Path) -> None:
    path = written(Model.from_text("g (float[1,3] x) => (float[1,3] y) { y = Relu(x) }"), tmp_path)
    assert read_model(memoryview(path.read_bytes())).metadata.keys() == {"min_runtime_version"}


def test_names_of_outputs_that_are_paths_stay_in_the_archive(tmp_path: Path) -> None:
    model = Model.from_text('g (float[1,3] x) => (float[1,3] "../../y") { "../../y" = Relu(x) }')
    model.metadata = {"labels.../../y": "a\nb\nc"}
    path = written(model, tmp_path)
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["_.._y_labels.txt"]
    assert edgecc.load(path).metadata == model.metadata


# ------------------------------------------------------------------------------------------------------- others' files


def relu(metadata: dict[str, bytes], behind: bytes = b"") -> Model:
    """A file of one RELU, as the importer sees it."""
    kind = np.dtype(np.float32)
    x, y = Tensor("x", (1, 3), kind), Tensor("y", (1, 3), kind)
    contents = write(Graph("main", [x], [y], [Operator("RELU", [x], [y])]), metadata=metadata) + behind
    return import_file(memoryview(bytes(contents)), "the file")


def archive_of(**files: bytes) -> bytes:
    contents = io.BytesIO()
    with zipfile.ZipFile(contents, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return contents.getvalue()


def buffer(*, content: bool = False, file_kind: int = 0, unit: int = 0) -> bytes:
    """TFLITE_METADATA of one input with a file `labels`, built as its schema says."""
    builder = flatbuffers.Builder(64)

    def table(size: int, **slots: int) -> int:
        builder.StartObject(size)
        for slot, value in slots.items():
            builder.PrependUOffsetTRelativeSlot(int(slot[1:]), value, 0)
        return int(builder.EndObject())

    def vector(*offsets: int) -> int:
        builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            builder.PrependUOffsetTRelative(offset)
        return int(builder.EndVector())

    name = builder.CreateString("labels")
    builder.StartObject(5)
    builder.PrependUOffsetTRelativeSlot(0, name, 0)
    builder.PrependInt8Slot(2, file_kind, 0)
    file = builder.EndObject()
    parts = {"s6": vector(file)}
    if content:
        parts["s3"] = table(2)
    if unit:
        builder.StartObject(2)
        builder.PrependUint8Slot(0, unit, 0)
        parts["s4"] = vector(builder.EndObject())
    tensor = table(7, **parts)
    graph = table(9, s2=vector(tensor))
    builder.Finish(table(8, s3=vector(graph)), file_identifier=b"M001")
    return bytes(builder.Output())


def test_labels_of_an_input() -> None:
    model = relu({tflite.NAME: buffer(file_kind=tflite.AXIS_LABELS)}, archive_of(labels=b"a\r\nb\r\n"))
    assert (model.metadata, model.not_carried) == ({"labels.x": "a\nb"}, ())


def test_what_has_no_place_is_listed() -> None:
    model = relu({tflite.NAME: buffer(content=True, file_kind=5, unit=2)}, archive_of(labels=b"\xff\xfe", more=b"text"))
    assert model.metadata == {"file.more": "text"}
    assert model.not_carried == (
        "the kind of content of 'x'",
        "a process unit of 'x'",
        "what file 'labels' is to 'x'",
        "file 'labels': it is no text",
    )


def test_a_file_that_is_named_and_not_there() -> None:
    assert relu({tflite.NAME: buffer()}).not_carried[0] == "file 'labels': it is named and not there"


def test_what_unpacks_to_much_more_is_left_alone() -> None:
    model = relu({tflite.NAME: buffer()}, archive_of(labels=bytes(1 << 25)))
    assert "more than 16,777,216 bytes" in model.not_carried[0]


@pytest.mark.parametrize(("told", "doc"), [("MLIR Converted.", ""), ("main", ""), ("Finds birds.", "Finds birds.")])
def test_the_description_that_every_file_has(told: str, doc: str) -> None:
    kind = np.dtype(np.float32)
    x, y = Tensor("x", (1, 3), kind), Tensor("y", (1, 3), kind)
    contents = write(Graph("main", [x], [y], [Operator("RELU", [x], [y])]), description=told)
    assert import_file(memoryview(bytes(contents)), "the file").graph.doc_string == doc


@pytest.mark.parametrize("packing", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_other_packings_are_left_alone(packing: int) -> None:
    """Python's readers of damaged ones raise errors of their own kinds."""
    contents = io.BytesIO()
    with zipfile.ZipFile(contents, "w", packing) as archive:
        archive.writestr("labels", bytes(range(256)) * 4)
    damaged = bytearray(contents.getvalue())
    damaged[45:80] = bytes(byte ^ 0x5A for byte in damaged[45:80])
    assert "it is packed in a way" in relu({tflite.NAME: buffer()}, bytes(damaged)).not_carried[0]


def test_entries_of_others() -> None:
    model = relu({"version.of.me": b"3.1\0\0", "blob": b"\xff\x00\x12"})
    assert (model.metadata, model.not_carried) == ({"version.of.me": "3.1"}, ("metadata 'blob': it is no text",))


@pytest.mark.parametrize("seed", range(40))
def test_damaged_metadata_damages_no_model(seed: int) -> None:
    generator = np.random.default_rng(seed)
    damaged = bytearray(buffer(content=True, file_kind=2, unit=1))
    for place in generator.integers(0, len(damaged), 6):
        damaged[place] = generator.integers(0, 256)
    behind = bytearray(archive_of(labels=b"a\nb"))
    behind[int(generator.integers(0, len(behind)))] ^= 0xFF
    model = relu({tflite.NAME: bytes(damaged)}, bytes(behind))
    assert [node.op for node in model.nodes()] == ["Relu"]
