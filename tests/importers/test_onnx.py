"""The ONNX importer: what it reads, what it refuses and in which words, what it writes."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from edgecc.errors import InvalidModelError, OptionError, OutputError, UnknownNameError
from edgecc.importers import saving
from edgecc.importers.onnx import OnnxImporter, save_proto
from edgecc.model import Model
from edgecc.testing.work import calls_of

from .old_opsets import SAMPLES
from .old_opsets import parse as parse_sample
from .running import assert_same, outputs_of

LIGHT = sorted((Path(onnx.__file__).parent / "backend/test/data/light").glob("*.onnx"))
SMALL_LIGHT = {"light_squeezenet.onnx", "light_shufflenet.onnx", "light_inception_v1.onnx"}


def parse(body: str, opset: int = 17, ir: int = 8, imports: str = "") -> onnx.ModelProto:
    return onnx.parser.parse_model(f'<ir_version: {ir}, opset_import: ["": {opset}{imports}]> {body}')


def load(proto: onnx.ModelProto, **shapes: tuple[int, ...]) -> Model:
    return OnnxImporter().from_proto(proto, shapes=shapes)


def refusal(path: Path) -> str:
    with pytest.raises(InvalidModelError) as caught:
        Model.load(path)
    return str(caught.value)


def proto_refusal(proto: onnx.ModelProto) -> str:
    with pytest.raises(InvalidModelError) as caught:
        load(proto)
    return str(caught.value)


RELU = "g (float[N,3] x) => (float[N,3] y) { y = Relu(x) }"


# ------------------------------------------------------------------------------------------------------ whole models


def random_feeds(path: Path) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    model = Model.load(path)
    shapes = {spec.name: [d if isinstance(d, int) else 2 for d in spec.shape] for spec in model.signature.inputs}
    return {name: generator.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.mark.parametrize(
    "path",
    [pytest.param(p, id=p.stem, marks=[] if p.name in SMALL_LIGHT else [pytest.mark.slow]) for p in LIGHT],
)
def test_light_models_give_the_source_outputs(path: Path) -> None:
    feeds = random_feeds(path)
    assert_same(outputs_of(onnx.load(path), feeds), outputs_of(Model.load(path).to_proto(), feeds), 1e-6)


@pytest.mark.shared_data
@pytest.mark.parametrize(
    "name", ["ad01_fp32", "kws_float", "pretrainedResnet", "pretrainedResnet_large_float", "vww_96_float"]
)
def test_mlperf_tiny_models_give_the_source_outputs(name: str, shared_data: Path) -> None:
    path = shared_data / "mlperf_tiny" / f"{name}.onnx"
    feeds = random_feeds(path)
    assert_same(outputs_of(onnx.load(path), feeds), outputs_of(Model.load(path).to_proto(), feeds), 1e-6)


# --------------------------------------------------------------------------------------------------- files refused


def test_missing_file_names_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"x")
    expected = f"there is no file {tmp_path / 'modle.onnx'}\n  try: did you mean {tmp_path / 'model.onnx'}?"
    assert refusal(tmp_path / "modle.onnx") == expected
    assert refusal(tmp_path / "none" / "m.onnx").endswith("\n  try: check the path")


def test_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.touch()
    assert refusal(path) == f"{path} is empty\n  try: export or download the model again"


def test_folder(tmp_path: Path) -> None:
    assert refusal(tmp_path) == f"{tmp_path} is a folder, not an ONNX file\n  try: name the .onnx file in it"


@pytest.mark.parametrize("share", [0.02, 0.3, 0.5, 0.9, 0.99])
def test_truncated_file(tmp_path: Path, share: float) -> None:
    proto = parse("g (float[1,64] x) => (float[1,64] y) { y = MatMul(x, w) }")
    proto.producer_name = "a producer with a name of some length"
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((64, 64), np.float32), "w"))
    whole = proto.SerializeToString()
    path = tmp_path / "m.onnx"
    path.write_bytes(whole[: int(len(whole) * share)])
    message = refusal(path)
    assert message.startswith(f"{path} is truncated\n  why: at least ")
    assert message.endswith(" bytes are missing\n  try: export or download it again")


def test_file_cut_between_two_fields(tmp_path: Path) -> None:
    proto = parse(RELU)
    proto.ClearField("opset_import")
    path = tmp_path / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    assert refusal(path) == ("the model does not say which opset it is in\n  why: opset_import is empty or cut off")


def test_damaged_file(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"\x08\x08\x3a\x04\xff\xff\xff\xff")
    assert refusal(path) == (
        f"{path} is damaged\n  why: it starts like an ONNX model\n  try: export or download it again"
    )


def test_text_file(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_text("hello world, this is no model")
    assert refusal(path) == (
        f"{path} is not an ONNX model\n  why: its contents are no protobuf message\n  try: name an .onnx file"
    )


def test_protobuf_of_another_kind(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(onnx.TensorProto(data_type=1, name="a tensor").SerializeToString())
    assert f"{path} is not an ONNX model" in refusal(path)
    path.write_bytes(onnx.ModelProto(ir_version=8).SerializeToString())
    assert refusal(path) == f"{path} is not an ONNX model\n  why: it holds no graph\n  try: name an .onnx file"


@pytest.mark.parametrize(
    ("head", "what", "hint"),
    [
        (b"\x1c\0\0\0TFL3", "a TFLite model", "pip install edgecc-tflite"),
        (b"\x1c\0\0\0ORTM", "a model in ONNX Runtime's own format", "the .onnx file"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file, such as a Keras .h5 model", "pip install edgecc-keras"),
        (
            b"PK\x03\x04",
            "a zip archive, such as a PyTorch .pt or Keras .keras file",
            "pip install edgecc-torch or edgecc-keras",
        ),
        (b"\x08\x01\x12\x80", "the graph of a TensorFlow SavedModel", "pip install edgecc-keras"),
        (b"\x80\x02", "a pickle, such as an old PyTorch checkpoint", "export it to ONNX"),
        (b"\x1f\x8b", "a gzip archive", "unpack"),
        (b"GGUF", "a GGUF file", "export it to ONNX"),
        (b"\x93NUMPY", "a numpy array", "name an .onnx file"),
        (b"version https://git-lfs.github.com/spec/v1", "a Git LFS pointer, not the model itself", "git lfs pull"),
        (b"<!DOCTYPE html>", "an HTML page", "the download went wrong"),
        (b"ftrt", "a TensorRT engine", "the ONNX model it was built from"),
    ],
)
def test_files_of_other_kinds_are_named(tmp_path: Path, head: bytes, what: str, hint: str) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(head + bytes(100))
    message = refusal(path)
    assert message.startswith(f"{path} is not an ONNX model: it is {what}\n  try: ")
    assert hint in message
    assert not OnnxImporter().sniff(path, head + bytes(50))


def test_sniff() -> None:
    head = parse(RELU).SerializeToString()[:64]
    assert OnnxImporter().sniff(Path("m.onnx"), head)
    assert OnnxImporter().sniff(Path("m.bin"), head)
    assert OnnxImporter().sniff(Path("m.ONNX"), b"anything")
    assert not OnnxImporter().sniff(Path("m.txt"), b"hello world")
    assert not OnnxImporter().sniff(Path("m.txt"), b"")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root reads everything")
def test_unreadable_file(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"x")
    path.chmod(0)
    assert refusal(path) == f"cannot read {path}\n  why: Permission denied"


def test_file_over_two_gigabytes(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    with path.open("wb") as stream:
        stream.write(parse(RELU).SerializeToString())
        stream.truncate(1 << 31)
    message = refusal(path)
    assert message.startswith(f"{path} is larger than 2 GB, which protobuf cannot read")
    assert "save_as_external_data=True" in message


# -------------------------------------------------------------------------------------------------- protos refused


def test_invalid_node_is_named() -> None:
    proto = parse("g (float[1,3] x) => (float[1,3] y) { [bad] y = Relu<alpha=1.0>(x) }")
    assert proto_refusal(proto) == (
        "the model is not valid ONNX\n"
        "  where: node 'bad' (Relu)\n"
        "  why: Unrecognized attribute: alpha for operator Relu"
    )


def test_input_that_nothing_writes() -> None:
    message = proto_refusal(parse("g (float[1,3] x) => (float[1,3] y) { [a] t = Relu(x) [b] y = Add(t, nowhere) }"))
    assert message.startswith("the model is not valid ONNX\n")
    assert "nowhere" in message


def test_nodes_in_a_circle_are_named() -> None:
    proto = parse("g (float[2] x) => (float[2] y) { [a] t = Add(x, u) [b] u = Relu(t) [c] y = Relu(u) }")
    message = proto_refusal(proto)
    assert message.startswith("nodes wait for each other's outputs\n  where: ")
    assert {"a", "b"} <= set(message.split("where: ")[1].split(" -> "))


def test_tensor_written_twice() -> None:
    assert "SSA" in proto_refusal(parse("g (float[2] x) => (float[2] y) { [a] y = Relu(x) [b] y = Relu(x) }"))


def test_data_that_does_not_fit_its_shape() -> None:
    proto = parse("g (float[1,64] x) => (float[1,64] y) { y = MatMul(x, w) }")
    proto.graph.initializer.add(name="w", data_type=1, dims=[64, 64], raw_data=bytes(100))
    assert proto_refusal(proto).startswith("the data of tensor 'w' does not fit its type and shape\n  why: ")


def test_ir_version_of_before_opsets() -> None:
    proto = parse(RELU)
    proto.ir_version = 2
    assert proto_refusal(proto).startswith("IR version 2 is too old\n")


@pytest.mark.parametrize("role", ["input", "output"])
def test_optional_inputs_and_outputs(role: str) -> None:
    types = ("optional(float[2])", "bool") if role == "input" else ("float[2]", "optional(float[2])")
    body = "z = OptionalHasElement(v)" if role == "input" else "z = Optional(v)"
    message = proto_refusal(parse(f"g ({types[0]} v) => ({types[1]} z) {{ {body} }}"))
    assert message.startswith(f"{role} {'v' if role == 'input' else 'z'!r} is of kind optional\n")
    assert "why: edgecc's models take and give tensors" in message


def test_attribute_that_the_graph_cannot_keep() -> None:
    proto = parse("g (float[2] x) => (float[2] y) { [o] t = Optional(x) y = OptionalGetElement(t) }")
    attribute = proto.graph.node[0].attribute.add(name="type", type=onnx.AttributeProto.TYPE_PROTO)
    attribute.tp.tensor_type.elem_type = 1
    assert proto_refusal(proto) == (
        "attribute 'type' is of kind TYPE_PROTO, which edgecc cannot keep\n  where: node 'o' (Optional)"
    )


def test_names_that_are_no_text() -> None:
    whole = parse("g (float[1,3] abcdef) => (float[1,3] y) { [node] y = Relu(abcdef) }").SerializeToString()
    damaged = onnx.ModelProto.FromString(whole.replace(b"abcdef", b"ab\xffdef"))
    assert proto_refusal(damaged).startswith("the model is damaged: ")


def test_node_that_its_own_opset_does_not_allow() -> None:
    message = proto_refusal(parse("g (float[1,3] x) => (float[1,3] y) { [p] y = Pad(x) }", opset=7))
    assert message.startswith("a node is not valid in the opset that the model says it is in\n  where: node 'p' (Pad)")


def test_output_that_nothing_writes() -> None:
    message = proto_refusal(parse("g (float[1,3] x) => (float[1,3] y, float[1,3] z) { [a] y = Relu(x) }"))
    assert message.startswith("the model is not valid ONNX\n")
    assert "'z'" in message or " z " in message


def test_unknown_element_type() -> None:
    proto = parse("g (float[1,3] x) => (float[1,3] y) { y = Relu(x) }")
    proto.graph.input[0].type.tensor_type.elem_type = 99
    assert proto_refusal(proto) == "the model has a tensor of the unknown element type 99"


@pytest.mark.parametrize("seed", range(8))
def test_damaged_files_end_in_an_error_of_edgecc(tmp_path: Path, seed: int) -> None:
    """Bytes changed at random: the model loads or is refused, and nothing else happens."""
    generator = np.random.default_rng(seed)
    path, refused = tmp_path / "m.onnx", 0
    for name, sample in SAMPLES.items():
        contents = bytearray(parse_sample(*sample).SerializeToString())
        for position in generator.integers(0, len(contents), generator.integers(1, 4)):
            contents[position] = generator.integers(0, 256)
        path.write_bytes(contents)
        try:
            Model.load(path)
        except InvalidModelError:
            refused += 1
        except Exception as error:
            raise AssertionError(f"{name}: {error!r}") from error
    assert refused > len(SAMPLES) // 2


# ------------------------------------------------------------------------------------------------ names and origins


def test_nodes_without_name_get_one() -> None:
    proto = parse("g (float[2] x) => (float[2] y) { a = Relu(x) [Relu_0] b = Relu(a) y = Abs(b) }")
    assert [n.name for n in load(proto).nodes()] == ["Relu_0_2", "Relu_0", "Abs_2"]


def test_equal_names_are_numbered_in_subgraphs_too() -> None:
    proto = parse("""g (bool c, float[2] x) => (float[2] y) { [n] t = Relu(x) [n] u = Abs(t) [n] y = If(c)<
        then_branch = a () => (float[2] p) { [n] p = Relu(u) },
        else_branch = b () => (float[2] q) { [m] q = Abs(u) }> }""")
    model = load(proto)
    assert sorted(n.name for n in model.all_nodes()) == ["m", "n", "n_2", "n_3", "n_4"]
    assert all(n.origins == (n.name,) for n in model.all_nodes())


def test_names_of_tensors_stay() -> None:
    proto = parse("g (float[1,2] x) => (float[1,2] y) { [a] t = Relu(x) [b] y = Abs(t) }")
    for value, name in ((proto.graph.input[0], "input:0"), (proto.graph.output[0], "scope/out put")):
        value.name = name
    proto.graph.node[0].input[0], proto.graph.node[1].output[0] = "input:0", "scope/out put"
    model = load(proto)
    assert (model.inputs[0].name, model.outputs[0].name) == ("input:0", "scope/out put")
    assert "t" in {t.name for t in model.tensors()}


def test_metadata_and_documentation_stay(tmp_path: Path) -> None:
    proto = parse(RELU)
    proto.metadata_props.add(key="author", value="me")
    proto.doc_string = "what it is for"
    model = load(proto)
    assert model.metadata == {"author": "me"}
    assert model.graph.doc_string == "what it is for"
    model.save(tmp_path / "m.onnx")
    again = Model.load(tmp_path / "m.onnx")
    assert again.metadata == {"author": "me"}
    assert again.graph.doc_string == "what it is for"
    assert again.source == str(tmp_path / "m.onnx")


def test_origins_survive_saving(tmp_path: Path) -> None:
    model = load(parse("g (float[2,3] x) => (float[2,3] y) { [soft] y = Softmax<axis=0>(x) }", opset=11))
    model.save(tmp_path / "m.onnx")
    again = Model.load(tmp_path / "m.onnx")
    assert {n.origins for n in again.nodes()} == {("soft",)}


def test_the_given_proto_stays_as_it_is() -> None:
    proto = parse("g (float[N,3] x) => (float[N,3] y) { y = Softmax(x) }", opset=11)
    before = proto.SerializeToString(deterministic=True)
    load(proto, x=(2, 3))
    assert proto.SerializeToString(deterministic=True) == before


# ----------------------------------------------------------------------------------------------------------- shapes


def test_shape_is_fixed_and_followed() -> None:
    text = "g (float[N,3] x, float[N,3] z) => (float[N,3] y, float[N,6] w) { y = Relu(x) w = Concat<axis=1>(x, z) }"
    model = load(parse(text), x=(4, 3))
    assert [str(s) for s in model.signature.inputs] == ["x: float32[4, 3]", "z: float32[4, 3]"]
    assert [str(s) for s in model.signature.outputs] == ["y: float32[4, 3]", "w: float32[4, 6]"]


def test_outputs_that_the_source_declares_otherwise_follow() -> None:
    model = load(parse("g (float[N,3] x) => (float[1,3] y) { y = Relu(x) }"), x=(4, 3))
    assert model.signature.outputs[0].shape == (4, 3)


def test_declared_output_of_unknown_operator_stays() -> None:
    text = "g (float[N,3] x) => (float[N,5] y) { t = Relu(x) y = my.Thing(t) }"
    model = load(parse(text, imports=', "my": 2'), x=(4, 3))
    assert model.signature.outputs[0].shape == (4, 5)


def test_input_without_rank_takes_any_shape() -> None:
    proto = parse(RELU)
    proto.graph.input[0].type.tensor_type.ClearField("shape")
    assert load(proto, x=(4, 3)).signature.inputs[0].shape == (4, 3)


def test_output_without_rank_is_taken() -> None:
    proto = parse("g (float[N,3] x, int64[k] s) => (float[n] y) { y = Reshape(x, s) }")
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    assert load(proto).outputs[0].shape is None


def test_minus_one_is_an_open_dimension() -> None:
    proto = parse(RELU)
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = -1
    assert load(proto).signature.inputs[0].shape == ("x_0", 3)
    assert load(proto, x=(2, 3)).signature.inputs[0].shape == (2, 3)


def test_shape_of_unknown_input() -> None:
    with pytest.raises(UnknownNameError) as caught:
        load(parse(RELU.replace("x", "image")), imgae=(1, 3))
    assert str(caught.value) == ("unknown input 'imgae'\n  where: shape imgae=1,3\n  try: did you mean 'image'?")


def test_weights_are_no_inputs_to_give_shapes_to() -> None:
    proto = parse("g (float[N,64] x) => (float[N,64] y) { y = MatMul(x, w) }")
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((64, 64), np.float32), "w"))
    with pytest.raises(UnknownNameError, match="known: x"):
        load(proto, w=(64, 64))


@pytest.mark.parametrize(
    ("shape", "what"),
    [
        ((4,), "input 'x' has 2 dimensions, not 1"),
        ((4, 5), "dimension 3 of input 'x' is fixed, it cannot become 5"),
        ((0, 3), "every dimension must be a positive whole number"),
        ((-1, 3), "every dimension must be a positive whole number"),
    ],
)
def test_shape_that_does_not_fit(shape: tuple[int, ...], what: str) -> None:
    with pytest.raises(OptionError) as caught:
        load(parse(RELU), x=shape)
    lines = str(caught.value).splitlines()
    assert lines[0] == what
    assert lines[1] == f"  where: shape x={','.join(map(str, shape))}"
    if "positive" not in what:
        assert lines[2] == "  why: the model has x: [N,3]"


def test_one_symbol_cannot_have_two_sizes() -> None:
    text = "g (float[N,3] x, float[N,3] z) => (float[a,b] y) { y = Concat<axis=0>(x, z) }"
    with pytest.raises(OptionError, match="dimension 'N' cannot be 4 and 5 at once"):
        load(parse(text), x=(4, 3), z=(5, 3))


# ---------------------------------------------------------------------------------------------- weights and constants


def test_initializers_among_the_inputs_are_no_inputs() -> None:
    text = "g (float[1,2] x, float[2,2] w) => (float[1,2] y) <float[2,2] w = {1,2,3,4}> { y = MatMul(x, w) }"
    model = load(parse(text, ir=3, opset=9))
    assert [t.name for t in model.inputs] == ["x"]
    np.testing.assert_array_equal(model.nodes()[0].inputs[1].values, [[1, 2], [3, 4]])


def test_unused_initializers_are_dropped() -> None:
    model = load(parse("g (float[2] x) => (float[2] y) <float[2] unused = {1,2}> { y = Relu(x) }"))
    assert model.parameter_count == 0


def test_large_constant_nodes_become_weights() -> None:
    proto = parse("g (float[1,64] x) => (float[1,64] y) { w = Constant<value = float {0}>() y = MatMul(x, w) }")
    values = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    proto.graph.node[0].attribute[0].t.CopyFrom(onnx.numpy_helper.from_array(values))
    model = load(proto)
    assert [n.op for n in model.nodes()] == ["MatMul"]
    np.testing.assert_array_equal(model.nodes()[0].inputs[1].values, values)


@pytest.mark.parametrize("linear", [True, False])
def test_sparse_tensors_become_dense(linear: bool) -> None:
    indices = np.array([1, 5]) if linear else np.array([[0, 1], [1, 2]])
    values = onnx.numpy_helper.from_array(np.array([7, 9], np.float32), "w")
    sparse = onnx.helper.make_sparse_tensor(values, onnx.numpy_helper.from_array(indices, "i"), [2, 3])
    initialized = parse("g (float[2,3] x) => (float[2,3] y) { y = Add(x, w) }")
    initialized.graph.sparse_initializer.append(sparse)
    constant = parse("g (float[2,3] x) => (float[2,3] y) { [c] w = Constant() y = Add(x, w) }")
    constant.graph.node[0].attribute.append(onnx.helper.make_attribute("sparse_value", sparse))
    for proto in (initialized, constant):
        found = load(proto).nodes("Add")[0].inputs[1].values
        np.testing.assert_array_equal(found, np.array([[0, 7, 0], [0, 0, 9]], np.float32))


def test_sparse_indices_outside_of_the_shape() -> None:
    values = onnx.numpy_helper.from_array(np.array([7], np.float32), "w")
    indices = onnx.numpy_helper.from_array(np.array([100]), "i")
    proto = parse("g (float[2,3] x) => (float[2,3] y) { y = Add(x, w) }")
    proto.graph.sparse_initializer.append(onnx.helper.make_sparse_tensor(values, indices, [2, 3]))
    assert proto_refusal(proto) == "sparse tensor 'w' has indices outside of its shape"


def test_large_weights_of_branches_keep_apart() -> None:
    """Both branches call their weights w; they move to the main graph and must not become one."""
    proto = parse("""g (bool c, float[300] x) => (float[300] y) { y = If(c)<
        then_branch = a () => (float[300] p) <float w = {0}> { p = Add(x, w) },
        else_branch = b () => (float[300] q) <float w = {0}> { q = Mul(x, w) }> }""")
    for index, attribute in enumerate(proto.graph.node[0].attribute):
        weights = np.full(300, index + 2, np.float32)
        attribute.g.initializer[0].CopyFrom(onnx.numpy_helper.from_array(weights, "w"))
    model = load(proto)
    for condition in (True, False):
        feeds = {"c": np.array(condition), "x": np.arange(300, dtype=np.float32)}
        assert_same(outputs_of(proto, feeds), outputs_of(model.to_proto(), feeds), 0)


def test_types_that_numpy_lacks_survive(tmp_path: Path) -> None:
    import ml_dtypes

    for name in ("bfloat16", "int4", "uint4", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float4_e2m1fn"):
        dtype = np.dtype(getattr(ml_dtypes, name))
        for count in (3, 3001):
            values = (np.arange(count) % 7).astype(dtype)
            element = onnx.helper.np_dtype_to_tensor_dtype(dtype)
            graph = onnx.helper.make_graph(
                [onnx.helper.make_node("Identity", ["w"], ["y"])],
                "g",
                [],
                [onnx.helper.make_tensor_value_info("y", element, [count])],
                [onnx.numpy_helper.from_array(values, "w")],
            )
            imports = [onnx.helper.make_opsetid("", 23)]
            model = load(onnx.helper.make_model(graph, opset_imports=imports, ir_version=11))
            model.save(tmp_path / "m.onnx")
            again = Model.load(tmp_path / "m.onnx").nodes()[0].inputs[0].values
            assert again.dtype == dtype
            assert again.tobytes() == values.tobytes()


def test_strings_survive(tmp_path: Path) -> None:
    proto = parse('g () => (string[2] y) <string[2] s = {"a", "ü"}> { y = Identity(s) }')
    load(proto).save(tmp_path / "m.onnx")
    assert Model.load(tmp_path / "m.onnx").nodes()[0].inputs[0].values.tolist() == ["a", "ü"]


# ----------------------------------------------------------------------------------------------------- odd but valid


def test_unknown_operators_and_domains_are_taken() -> None:
    text = """g (float[2,3] x) => (float[5] y) <float[2,7] a> {
        [known] t = Relu(x) [custom] a = my.Thing<k=3, blob="x">(t) [unknown] y = NobodyKnows(a) }"""
    model = load(parse(text, imports=', "my": 2'))
    assert [(n.op, n.domain) for n in model.nodes()] == [("Relu", None), ("Thing", "my"), ("NobodyKnows", None)]
    assert model.nodes()[1].outputs[0].shape == [2, 7]
    assert model.outputs[0].shape == [5]
    assert {o.domain: o.version for o in model.to_proto().opset_import} == {"": 23, "my": 2}


def test_binary_strings_of_custom_operators_survive() -> None:
    proto = parse("g (float[2] x) => (float[2] y) { y = my.Thing(x) }", imports=', "my": 1')
    proto.graph.node[0].attribute.append(onnx.helper.make_attribute("blob", b"\xff\xfe\0"))
    written = load(proto).to_proto().graph.node[0].attribute
    assert [(a.name, a.s) for a in written] == [("blob", b"\xff\xfe\0")]


def test_empty_lists_survive() -> None:
    proto = parse("g (float[2] x) => (float[2] y) { y = my.Thing(x) }", imports=', "my": 1')
    proto.graph.node[0].attribute.add(name="sizes", type=onnx.AttributeProto.INTS)
    assert [a.name for a in load(proto).to_proto().graph.node[0].attribute] == ["sizes"]


def test_nodes_out_of_order_are_sorted() -> None:
    text = """g (bool c, float[2] x) => (float[2] y) { [last] y = If(c)<
        then_branch = a () => (float[2] p) { [inner2] p = Abs(i) [inner1] i = Relu(t) },
        else_branch = b () => (float[2] q) { [else] q = Abs(t) }> [first] t = Relu(x) }"""
    model = load(parse(text))
    assert [n.name for n in model.nodes()] == ["first", "last"]
    feeds = {"c": np.array(True), "x": np.array([-1, 1], np.float32)}
    np.testing.assert_array_equal(outputs_of(model.to_proto(), feeds)["y"], [0, 1])


def test_model_without_the_default_domain() -> None:
    proto = parse("g (float[2] x) => (float[2] y) { y = my.Thing(x) }", imports=', "my": 1')
    del proto.opset_import[0]
    assert [n.op for n in load(proto).nodes()] == ["Thing"]


def test_model_that_passes_its_input_through() -> None:
    proto = parse("g (float[2] x) => (float[2] x, float[2] y) { y = Relu(x) }")
    feeds = {"x": np.array([-1, 1], np.float32)}
    assert_same(outputs_of(proto, feeds), outputs_of(load(proto).to_proto(), feeds), 0)


def test_output_that_is_a_weight() -> None:
    proto = parse("g (float[2] x) => (float[2] y, float[2] w) <float[2] w = {3,4}> { y = Add(x, w) }")
    feeds = {"x": np.array([-1, 1], np.float32)}
    assert_same(outputs_of(proto, feeds), outputs_of(load(proto).to_proto(), feeds), 0)


def test_sequences_inside() -> None:
    text = (
        "g (float[4,2] x) => (float[2] y) <int64 i = {1}> { s = SplitToSequence<keepdims=0>(x) y = SequenceAt(s, i) }"
    )
    proto = parse(text)
    feeds = {"x": np.arange(8, dtype=np.float32).reshape(4, 2)}
    assert_same(outputs_of(proto, feeds), outputs_of(load(proto).to_proto(), feeds), 0)


# ----------------------------------------------------------------------------------------------------------- saving


def big_model() -> Model:
    proto = parse(
        "g (float[1,64] x) => (float[1,64] y) <float[1] s = {2}> { t = MatMul(x, w) u = MatMul(t, v) y = Mul(u, s) }"
    )
    generator = np.random.default_rng(0)
    for name in "wv":
        values = generator.standard_normal((64, 64)).astype(np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    return load(proto)


def test_past_two_gigabytes_weights_go_beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = big_model()
    monkeypatch.setattr(saving, "MAX_INLINE_BYTES", 20_000)
    path = tmp_path / "m.onnx"
    model.save(path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.onnx", "m.onnx.data"]
    assert path.stat().st_size < 2000
    offsets = [
        int({e.key: e.value for e in t.external_data}["offset"])
        for t in onnx.load(path, load_external_data=False).graph.initializer
        if t.external_data
    ]
    assert len(offsets) == 2
    assert all(offset % 4096 == 0 for offset in offsets)
    assert Model.load(path).digest() == model.digest()
    onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def test_small_models_are_one_file(tmp_path: Path) -> None:
    big_model().save(tmp_path / "m.onnx")
    assert [p.name for p in tmp_path.iterdir()] == ["m.onnx"]


def test_saving_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.onnx", "b.onnx"):
        big_model().save(tmp_path / name)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_failing_to_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"old")
    monkeypatch.setattr(saving, "MAX_INLINE_BYTES", 20_000)
    monkeypatch.setattr(os, "replace", _full_disk)
    with pytest.raises(OutputError, match="No space left on device"):
        save_proto(big_model().to_proto(), path)
    assert [p.name for p in tmp_path.iterdir()] == ["m.onnx"]
    assert path.read_bytes() == b"old"


def _full_disk(*_: object) -> None:
    raise OSError(28, "No space left on device")


# ------------------------------------------------------------------------------------------------------------ speed


def chain(length: int) -> onnx.ModelProto:
    names = ["x", *(f"t{i}" for i in range(length - 1)), "y"]
    ops = ["Relu", "Sigmoid", "Abs"]
    nodes = [onnx.helper.make_node(ops[i % 3], [names[i]], [names[i + 1]]) for i in range(length)]
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [2]) for name in "xy"]
    graph = onnx.helper.make_graph(nodes, "chain", values[:1], values[1:])
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)


def test_work_grows_linearly() -> None:
    """A quadratic step would take 64 times as much for eight times the nodes."""
    assert calls_of(lambda: load(chain(2000))) < 10 * calls_of(lambda: load(chain(250)))
