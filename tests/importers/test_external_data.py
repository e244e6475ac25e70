"""Weights beside the model: read whole, from its own folder and nowhere else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from edgecc.errors import InvalidModelError
from edgecc.importers.onnx import OnnxImporter
from edgecc.model import Model

WEIGHTS = np.arange(600, dtype=np.float32).reshape(20, 30)
HINT = "  try: copy the model together with all files that belong to it"


def model_with(
    location: str, *, dtype: int = onnx.TensorProto.FLOAT, dims: tuple[int, ...] = (20, 30), **entries: str
) -> onnx.ModelProto:
    """y = x @ w, with w in a file."""
    tensor = onnx.TensorProto(name="w", data_type=dtype, dims=dims, data_location=onnx.TensorProto.EXTERNAL)
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=value)
    proto = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> g (float[1,20] x) => (float[1,30] y) { [mm] y = MatMul(x, w) }'
    )
    proto.graph.initializer.append(tensor)
    return proto


def write(folder: Path, location: str = "w.bin", **entries: str) -> Path:
    path = folder / "m.onnx"
    path.write_bytes(model_with(location, **entries).SerializeToString())
    return path


def weights_of(model: Model) -> np.ndarray:
    return model.nodes("MatMul")[0].inputs[1].values


def refusal(path: Path) -> str:
    with pytest.raises(InvalidModelError) as caught:
        Model.load(path)
    return str(caught.value)


def test_weights_are_folded_like_others(tmp_path: Path) -> None:
    """numpy calls types that differ in nothing but the order of bytes, which is this machine's, foreign ones."""
    (tmp_path / "w.bin").write_bytes(WEIGHTS.tobytes())
    assert weights_of(Model.load(write(tmp_path))).dtype.isbuiltin == 1
    proto = model_with("w.bin")
    proto.graph.node.add(op_type="Exp", input=["w"], output=["e"], name="exp")
    proto.graph.node[0].input[1] = "e"
    proto.graph.node.append(proto.graph.node[0])
    del proto.graph.node[0]
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    assert [node.op for node in Model.load(tmp_path / "m.onnx").nodes()] == ["MatMul"]


def test_weights_are_read(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(WEIGHTS.tobytes())
    np.testing.assert_array_equal(weights_of(Model.load(write(tmp_path))), WEIGHTS)


def test_weights_at_an_offset_in_a_folder_below(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "w.bin").write_bytes(bytes(64) + WEIGHTS.tobytes() + b"more")
    path = write(tmp_path, "data/w.bin", offset="64", length="2400")
    np.testing.assert_array_equal(weights_of(Model.load(path)), WEIGHTS)


def test_onnx_saves_what_edgecc_loads(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(WEIGHTS.tobytes())
    proto = Model.load(write(tmp_path)).to_proto()
    onnx.save(proto, tmp_path / "again.onnx", save_as_external_data=True, location="all.data", size_threshold=0)
    np.testing.assert_array_equal(weights_of(Model.load(tmp_path / "again.onnx")), WEIGHTS)


def test_relative_path_of_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "w.bin").write_bytes(WEIGHTS.tobytes())
    write(tmp_path)
    monkeypatch.chdir(tmp_path)
    np.testing.assert_array_equal(weights_of(Model.load("m.onnx")), WEIGHTS)


def test_proto_with_its_folder(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(WEIGHTS.tobytes())
    np.testing.assert_array_equal(weights_of(OnnxImporter().from_proto(model_with("w.bin"), tmp_path)), WEIGHTS)


def test_packed_types(tmp_path: Path) -> None:
    proto = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 21]> g () => (float[3] y) { y = DequantizeLinear(w, s) }'
    )
    proto.graph.initializer.append(onnx.helper.make_tensor("s", onnx.TensorProto.FLOAT, [], [2.0]))
    tensor = onnx.TensorProto(name="w", data_type=onnx.TensorProto.INT4, dims=[3])
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="w.bin")
    proto.graph.initializer.append(tensor)
    (tmp_path / "w.bin").write_bytes(bytes([0xF1, 0x07]))
    model = OnnxImporter().from_proto(proto, tmp_path)
    assert model.nodes("DequantizeLinear")[0].inputs[0].values.astype(int).tolist() == [1, -1, 7]


def test_weights_in_attributes_and_subgraphs(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(WEIGHTS.tobytes())
    proto = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["": 17]>
        g (bool c, float[20,30] x) => (float[20,30] y) { y = If(c)<
            then_branch = t () => (float[20,30] p) { k = Constant<value = float {0}>() p = Add(x, k) },
            else_branch = e () => (float[20,30] q) <float w = {0}> { q = Add(x, w) }> }""")
    external = model_with("w.bin").graph.initializer[0]
    then_branch, else_branch = (a.g for a in proto.graph.node[0].attribute)
    then_branch.node[0].attribute[0].t.CopyFrom(external)
    else_branch.initializer[0].CopyFrom(external)
    model = OnnxImporter().from_proto(proto, tmp_path)
    from .running import outputs_of

    for condition in (True, False):
        feeds = {"c": np.array(condition), "x": np.ones((20, 30), np.float32)}
        np.testing.assert_array_equal(outputs_of(model.to_proto(), feeds)["y"], WEIGHTS + 1)


def test_missing_file(tmp_path: Path) -> None:
    assert refusal(write(tmp_path)) == (
        f"the model's weights file {tmp_path / 'w.bin'} is missing\n  where: tensor 'w'\n{HINT}"
    )


@pytest.mark.parametrize("location", ["../w.bin", "/etc/passwd", "a/../../w.bin", "..\\w.bin", "a\0b"])
def test_location_outside_of_the_folder(tmp_path: Path, location: str) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    (tmp_path / "w.bin").write_bytes(WEIGHTS.tobytes())
    assert refusal(write(inside, location)) == (
        f"external data {location!r} lies outside of the model's folder\n"
        "  where: tensor 'w'\n"
        "  why: a model may read nothing outside of its own folder\n"
        "  try: move the file beside the model and save it with a relative location"
    )


@pytest.mark.parametrize("through_folder", [False, True])
def test_symlink_that_escapes(tmp_path: Path, through_folder: bool) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    (outside / "w.bin").write_bytes(WEIGHTS.tobytes())
    link, target = (inside / "sub", outside) if through_folder else (inside / "w.bin", outside / "w.bin")
    link.symlink_to(target)
    message = refusal(write(inside, "sub/w.bin" if through_folder else "w.bin"))
    assert "lies outside of the model's folder" in message


def test_symlink_within_the_folder_is_fine(tmp_path: Path) -> None:
    (tmp_path / "real.bin").write_bytes(WEIGHTS.tobytes())
    (tmp_path / "w.bin").symlink_to(tmp_path / "real.bin")
    np.testing.assert_array_equal(weights_of(Model.load(write(tmp_path))), WEIGHTS)


def test_folder_in_place_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "w.bin").mkdir()
    assert "is missing" in refusal(write(tmp_path))


def test_file_too_short(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(WEIGHTS.tobytes()[:-100])
    assert refusal(write(tmp_path)) == (
        f"{tmp_path / 'w.bin'} is too short\n"
        "  where: tensor 'w'\n"
        "  why: it ends 100 bytes before the tensor does\n"
        f"{HINT}"
    )


def test_offset_past_the_end(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(WEIGHTS.tobytes())
    assert "ends 1000000 bytes before the tensor does" in refusal(write(tmp_path, offset="1000000"))


@pytest.mark.parametrize(("key", "value"), [("offset", "-4"), ("length", "x"), ("offset", "1e3"), ("length", "")])
def test_offset_or_length_that_is_no_number(tmp_path: Path, key: str, value: str) -> None:
    (tmp_path / "w.bin").write_bytes(WEIGHTS.tobytes())
    message = refusal(write(tmp_path, **{key: value}))
    assert message == f"external data has {key} {value!r}, which is no count of bytes\n  where: tensor 'w'"


def test_length_that_does_not_fit_the_shape(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(WEIGHTS.tobytes())
    message = refusal(write(tmp_path, length="100"))
    assert "should hold 100 bytes for a tensor of 2400 bytes" in message


@pytest.mark.parametrize(("dtype", "dims"), [(onnx.TensorProto.STRING, (2,)), (onnx.TensorProto.FLOAT, (-1, 30))])
def test_type_or_shape_that_has_no_size(tmp_path: Path, dtype: int, dims: tuple[int, ...]) -> None:
    (tmp_path / "w.bin").write_bytes(WEIGHTS.tobytes())
    with pytest.raises(InvalidModelError, match="a tensor of this type or shape cannot be external data"):
        OnnxImporter().from_proto(model_with("w.bin", dtype=dtype, dims=dims), tmp_path)


def test_no_location(tmp_path: Path) -> None:
    assert refusal(write(tmp_path, "")) == "external data without a location\n  where: tensor 'w'"


def test_proto_without_its_folder() -> None:
    with pytest.raises(InvalidModelError) as caught:
        OnnxImporter().from_proto(model_with("w.bin"))
    assert str(caught.value) == (
        "the weights are in file 'w.bin', and it is not known where that is\n"
        "  where: tensor 'w'\n"
        "  try: load the model by its path, or give base_dir"
    )


def linked(folder: Path, weights: str, target: str) -> Path:
    """A model that is a link into `blobs`, as in the cache of Hugging Face, and its weights, a link to `target`."""
    (folder / "blobs").mkdir()
    (folder / "snapshot" / "onnx").mkdir(parents=True)
    (folder / "blobs" / "1").write_bytes(model_with(weights).SerializeToString())
    (folder / target).write_bytes(WEIGHTS.tobytes())
    path = folder / "snapshot" / "onnx" / "m.onnx"
    path.symlink_to("../../blobs/1")
    (path.parent / weights).symlink_to(f"../../{target}")
    return path


def test_model_and_weights_that_are_links_into_one_folder(tmp_path: Path) -> None:
    np.testing.assert_array_equal(weights_of(Model.load(linked(tmp_path, "m.onnx_data", "blobs/2"))), WEIGHTS)


def test_weights_that_are_a_link_elsewhere(tmp_path: Path) -> None:
    path = linked(tmp_path, "m.onnx_data", "secret")
    assert "external data 'm.onnx_data' lies outside of the model's folder" in refusal(path)
    path.unlink()
    path.write_bytes((tmp_path / "blobs" / "1").read_bytes())
    (path.parent / "m.onnx_data").unlink()
    (path.parent / "m.onnx_data").symlink_to("../../blobs/1")
    assert "lies outside of the model's folder" in refusal(path)


@pytest.mark.parametrize("location", ["C:\\w.bin", "\\\\server\\share\\w.bin", "..\\w.bin"])
def test_windows_paths(tmp_path: Path, location: str) -> None:
    text = refusal(write(tmp_path, location))
    assert "lies outside of the model's folder" in text
