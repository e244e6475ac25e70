"""Weights that stay in the file are the same weights, and files written in odd ways are left to protobuf."""

from __future__ import annotations

import mmap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgecc.errors import InvalidModelError
from edgecc.importers.embedded_data import without_weights
from edgecc.importers.onnx import OnnxImporter, read_proto
from edgecc.importers.wire import length_delimited

LARGE = np.arange(20000, dtype=np.float32).reshape(100, 200)
HALF = np.linspace(-3, 3, 40000).astype(np.float16).reshape(200, 200)
TABLE = np.arange(10000, dtype=np.int64).reshape(50, 200)
SMALL = np.ones(200, np.float32)


def model() -> onnx.ModelProto:
    """Reads every kind of initializer, in a file of 200 KB."""
    nodes = [
        helper.make_node("MatMul", ["x", "large"], ["a"]),
        helper.make_node("Add", ["a", "small"], ["b"]),
        helper.make_node("Cast", ["half"], ["half32"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["b", "half32"], ["c"]),
        helper.make_node("Gather", ["table", "row"], ["d"]),
        helper.make_node("Cast", ["d"], ["e"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["c", "e"], ["y"]),
    ]
    arrays = {"large": LARGE, "half": HALF, "table": TABLE, "small": SMALL, "row": np.array(7, np.int64)}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 100])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 200])],
        [numpy_helper.from_array(values, name) for name, values in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def stored(path: Path, contents: bytes) -> bytes | None:
    path.write_bytes(contents)
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        return without_weights(mapped, path.name)


def test_the_weights_are_read_from_the_file(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    light = stored(path, model().SerializeToString())
    assert light is not None
    assert len(light) < 2000
    read = OnnxImporter().load(path, {})
    found = {tensor.name: tensor.values for tensor in read.constants()}
    np.testing.assert_array_equal(found["large"], LARGE)
    np.testing.assert_array_equal(found["half"], HALF)
    assert all(values.dtype.isbuiltin == 1 for values in found.values())
    assert read.source_files == (path,)
    assert OnnxImporter().from_proto(model()).digest() == read.digest()


def test_a_name_that_is_not_utf_8_is_read_the_other_way(tmp_path: Path) -> None:
    path = tmp_path / "m\udcff.onnx"
    assert stored(path, model().SerializeToString()) is None
    assert OnnxImporter().load(path, {}).digest() == OnnxImporter().from_proto(model()).digest()


def test_a_link_to_a_model_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / "0123").write_bytes(model().SerializeToString())
    link = tmp_path / "m.onnx"
    link.symlink_to(Path("blobs") / "0123")
    assert OnnxImporter().load(link, {}).digest() == OnnxImporter().from_proto(model()).digest()


def _two_graphs(proto: onnx.ModelProto) -> bytes:
    return proto.SerializeToString() + length_delimited(7, onnx.GraphProto(doc_string="more").SerializeToString())


def _data_twice(proto: onnx.ModelProto) -> bytes:
    raw = length_delimited(9, b"\0" * LARGE.nbytes)
    tensor = proto.graph.initializer[0]
    twice = raw + tensor.SerializeToString()
    del proto.graph.initializer[0]
    graph = proto.graph.SerializeToString() + length_delimited(5, twice)
    proto.ClearField("graph")
    return proto.SerializeToString() + length_delimited(7, graph)


def _unpacked_floats(proto: onnx.ModelProto) -> bytes:
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.float_data.extend(LARGE.reshape(-1).tolist())
    return proto.SerializeToString()


@pytest.mark.parametrize("written", [_two_graphs, _data_twice, _unpacked_floats])
def test_other_ways_to_write_a_model(written: Callable[[onnx.ModelProto], bytes], tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(written(model()))
    assert OnnxImporter().load(path, {}).digest() == OnnxImporter().from_proto(onnx.load(path)).digest()


def test_data_of_the_wrong_size_is_refused_as_ever(tmp_path: Path) -> None:
    proto, path = model(), tmp_path / "m.onnx"
    proto.graph.initializer[0].raw_data = proto.graph.initializer[0].raw_data[:-4]
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(InvalidModelError, match="'large' does not fit its type and shape"):
        OnnxImporter().load(path, {})


def test_reading_with_weights_needs_no_file_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(model().SerializeToString())
    assert read_proto(path) == model()


@pytest.mark.parametrize("seed", range(40))
def test_damaged_bytes_end_in_an_error_or_in_the_same_model(seed: int, tmp_path: Path) -> None:
    """Whatever is overwritten outside of the weights, both ways of reading say the same."""
    rng = np.random.default_rng(seed)
    contents, path = bytearray(model().SerializeToString()), tmp_path / "m.onnx"
    outside = [i for i in range(len(contents)) if not LARGE.nbytes // 2 < i < len(contents) - 400]
    for place in rng.choice([i for i in outside if i < 700 or i > LARGE.nbytes], 3):
        contents[place] = rng.integers(256)
    path.write_bytes(contents)
    found = []
    for read in (lambda: OnnxImporter().load(path, {}), lambda: OnnxImporter().from_proto(read_proto(path))):
        try:
            found.append(read().digest())
        except InvalidModelError as error:
            found.append(type(error).__name__)
    assert found[0] == found[1]
