"""Files that are damaged, on purpose or not: an error that says what, where and why, whatever the bytes are."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edgecc
from edgecc.errors import EdgeccError, InvalidModelError, RequestError, UnsupportedError
from edgecc_tflite.enums import Padding
from edgecc_tflite.importing.importer import TFLiteImporter
from edgecc_tflite.ir import Graph, Operator, Quantization, Tensor
from edgecc_tflite.testing.operator_file import imported, patched
from edgecc_tflite.writer import write

F32, I32 = np.dtype(np.float32), np.dtype(np.int32)


def small() -> bytes:
    """A convolution, a reshape and a product, quantized."""
    scale = Quantization(np.array([0.02], np.float32), np.array([3], np.int64))
    x = Tensor("x", (1, 4, 4, 2), np.dtype(np.int8), quantization=scale, source="x")
    weights = Tensor("w", (3, 2, 2, 2), np.dtype(np.int8), np.ones((3, 2, 2, 2), np.int8), scale_of(3))
    bias = Tensor("b", (3,), I32, np.arange(3, dtype=np.int32), scale_of(3))
    y = Tensor("y", (1, 4, 4, 3), np.dtype(np.int8), quantization=scale)
    shape = Tensor("shape", (2,), I32, np.array([1, 48], np.int32))
    flat = Tensor("flat", (1, 48), np.dtype(np.int8), quantization=scale, source="flat")
    options = {"strideH": 1, "strideW": 1, "padding": Padding.SAME, "dilationHFactor": 1, "dilationWFactor": 1}
    operators = [Operator("CONV_2D", [x, weights, bias], [y], options), Operator("RESHAPE", [y, shape], [flat])]
    return bytes(write(Graph("main", [x], [flat], operators)))


def scale_of(count: int) -> Quantization:
    return Quantization(np.full(count, 0.01, np.float32), np.zeros(count, np.int64))


def branched() -> bytes:
    """A condition and two branches."""
    go = Tensor("go", (), np.dtype(np.bool_), source="go")
    x, y = Tensor("x", (2,), F32, source="x"), Tensor("y", (2,), F32, source="y")
    branches = []
    for builtin in ("ABS", "NEG"):
        inner, result = Tensor("i", (2,), F32), Tensor("r", (2,), F32)
        branches.append(Graph(builtin, [inner], [result], [Operator(builtin, [inner], [result])]))
    return bytes(write(Graph("main", [go, x], [y], [Operator("IF", [go, x], [y], subgraphs=branches)])))


SMALL, BRANCHED = small(), branched()
FILES = st.sampled_from([SMALL, BRANCHED])


def test_the_small_file_is_whole() -> None:
    assert [spec.name for spec in imported(SMALL).signature.outputs] == ["flat"]


def _shape(model: Any) -> None:
    model.subgraphs[0].tensors[0].shape = [1, -4, 4, 2]
    model.subgraphs[0].tensors[0].shapeSignature = []


def _short(model: Any) -> None:
    buffer = model.subgraphs[0].tensors[1].buffer
    model.buffers[buffer].data = model.buffers[buffer].data[:-1]


def _operator(**fields: Any) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        for name, value in fields.items():
            setattr(model.subgraphs[0].operators[0], name, value)

    return change


def _tensor(**fields: Any) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        for name, value in fields.items():
            setattr(model.subgraphs[0].tensors[1], name, value)

    return change


def _scale(value: list[float]) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        model.subgraphs[0].tensors[1].quantization.scale = value

    return change


def _swapped(model: Any) -> None:
    model.subgraphs[0].operators.reverse()


def _model(**fields: Any) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        for name, value in fields.items():
            setattr(model, name, value)

    return change


def _code(model: Any) -> None:
    model.operatorCodes[0].builtinCode = 5000


def _sparse(model: Any) -> None:
    from edgecc_tflite import schema

    model.subgraphs[0].tensors[1].sparsity = schema.generated().SparsityParametersT()


BROKEN = [
    (_shape, "subgraph 0, tensor 0 (Tensor)", "has a negative dimension"),
    (_short, "subgraph 0, tensor 1 (Tensor)", "constant 'w' is int8[3, 2, 2, 2], 24 bytes, and its buffer has 23"),
    (_operator(inputs=[0, 99, 2]), "subgraph 0, operator 0 (Operator)", "it refers to tensor 99, and there are 6"),
    (_operator(inputs=[0, -7, 2]), "subgraph 0, operator 0 (Operator)", "it refers to tensor -7"),
    (_operator(outputs=[0]), "subgraph 0, operator 0 (CONV_2D)", "it writes 'x', which has a value already"),
    (_operator(opcodeIndex=9), "subgraph 0, operator 0 (Operator)", "it is of kind 9, and the file lists 2"),
    (_swapped, "subgraph 0, operator 0 (RESHAPE)", "reads 'y', which nothing has written; a cycle"),
    (_tensor(shape=[0, -1], shapeSignature=[0, -1], buffer=0, quantization=None), "tensor 1", "has shape [0, -1]"),
    (_tensor(shape=[2**31 - 1] * 3 + [0], buffer=0, quantization=None), "tensor 1", "constant 'w' has shape [2147"),
    (_tensor(buffer=77), "subgraph 0, tensor 1 (Tensor)", "it refers to buffer 77"),
    (_tensor(shape=[2**31 - 1] * 4), "subgraph 0, tensor 1 (Tensor)", "and its buffer has 24"),
    (_scale([0.1, 0.2]), "tensor 1, quantization", "'w' of shape [3, 2, 2, 2] has 2 scales along axis 0"),
    (_scale([float("nan")] * 3), "tensor 1, quantization", "has a scale that is no positive number"),
    (_model(subgraphs=[]), "the model (Model)", "it holds no subgraph"),
    (_model(version=2), "", "schema version 2, not 3"),
    (_code, "operator code 0", "operators of a kind that is not known here, number 5000"),
    (_sparse, "subgraph 0, tensor 1 ('w')", "sparse weights"),
]


@pytest.mark.parametrize(("change", "where", "what"), BROKEN, ids=[what[:40] for _, _, what in BROKEN])
def test_broken_files_are_refused(change: Callable[[Any], None], where: str, what: str) -> None:
    with pytest.raises(InvalidModelError) as caught:
        imported(patched(SMALL, change))
    assert where in caught.value.where
    assert what in str(caught.value)


def test_a_subgraph_that_calls_itself() -> None:
    condition = Tensor("c", (), np.dtype(np.bool_), source="c")
    x, y = Tensor("x", (2,), F32, source="x"), Tensor("y", (2,), F32, source="y")
    inner, result = Tensor("i", (2,), F32), Tensor("r", (2,), F32)
    branch = Graph("branch", [inner], [result], [Operator("ABS", [inner], [result])])
    outer = Graph("main", [condition, x], [y], [Operator("IF", [condition, x], [y], subgraphs=[branch, branch])])

    def call_itself(model: Any) -> None:
        model.subgraphs[0].operators[0].builtinOptions.elseSubgraphIndex = 0

    with pytest.raises(InvalidModelError, match="it calls subgraph 0, which it is part of"):
        imported(patched(bytes(write(outer)), call_itself))

    def call_nothing(model: Any) -> None:
        model.subgraphs[0].operators[0].builtinOptions.elseSubgraphIndex = 9

    with pytest.raises(InvalidModelError, match="it calls subgraph 9, and there are 2"):
        imported(patched(bytes(write(outer)), call_nothing))


def test_subgraphs_that_multiply() -> None:
    """Thirty levels, each of which is called twice by the one above: a billion nodes from two kilobytes."""

    def level(depth: int) -> Graph:
        x, y = Tensor("x", (2,), F32, source="x"), Tensor("y", (2,), F32, source="y")
        graph = Graph(f"level_{depth}", [x], [y])
        if depth == 0:
            graph.operators = [Operator("ABS", [x], [y])]
            return graph
        go = Tensor("go", (), np.dtype(np.bool_), np.array(True))
        graph.operators = [Operator("IF", [go, x], [y], subgraphs=[below := level(depth - 1), below])]
        return graph

    contents = bytes(write(level(20)))
    with pytest.raises(EdgeccError, match="it calls others too often"):
        imported(contents)


def _repeating(*, name: int = 0, inputs: int = 0, custom: int = 0) -> bytes:
    """A file of ten thousand tensors and operators, each of which is the same table."""
    import flatbuffers

    from edgecc_tflite import schema

    made, builder = schema.generated(), flatbuffers.Builder(1 << 20)

    def vector(table: int, count: int) -> int:
        builder.StartVector(4, count, 4)
        for _ in range(count):
            builder.PrependUOffsetTRelative(table)
        return int(builder.EndVector())

    text = builder.CreateString("n" * name)
    made.TensorStart(builder)
    made.TensorAddName(builder, text)
    tensors = vector(made.TensorEnd(builder), 10_000)
    read, code = builder.CreateNumpyVector(np.zeros(inputs, np.int32)), builder.CreateString("Odd")
    options = builder.CreateNumpyVector(np.zeros(custom, np.uint8))
    made.OperatorStart(builder)
    made.OperatorAddInputs(builder, read)
    made.OperatorAddOutputs(builder, read)
    made.OperatorAddCustomOptions(builder, options)
    operators = vector(made.OperatorEnd(builder), 10_000)
    made.OperatorCodeStart(builder)
    made.OperatorCodeAddBuiltinCode(builder, made.BuiltinOperator.CUSTOM)
    made.OperatorCodeAddCustomCode(builder, code)
    codes = vector(made.OperatorCodeEnd(builder), 1)
    made.SubGraphStart(builder)
    made.SubGraphAddTensors(builder, tensors)
    made.SubGraphAddOperators(builder, operators)
    subgraphs = vector(made.SubGraphEnd(builder), 1)
    made.BufferStart(builder)
    buffers = vector(made.BufferEnd(builder), 1)
    made.ModelStart(builder)
    made.ModelAddVersion(builder, 3)
    made.ModelAddOperatorCodes(builder, codes)
    made.ModelAddSubgraphs(builder, subgraphs)
    made.ModelAddBuffers(builder, buffers)
    builder.Finish(made.ModelEnd(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


@pytest.mark.parametrize("shared", [{"name": 60_000}, {"inputs": 10_000}, {"inputs": 1, "custom": 60_000}], ids=str)
def test_parts_that_share_their_bytes(shared: dict[str, int]) -> None:
    """A hundred kilobytes that come to hundreds of megabytes."""
    with pytest.raises(InvalidModelError, match="the same bytes again and again"):
        imported(_repeating(**shared))


def test_truncated_at_every_length() -> None:
    for length in range(0, len(SMALL), 7):
        with pytest.raises(InvalidModelError):
            imported(SMALL[:length])


@settings(max_examples=300, deadline=None)
@given(FILES, st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 2**32 - 1)), min_size=1, max_size=3))
def test_any_word_may_be_any_number(file: bytes, changes: list[tuple[int, int]]) -> None:
    contents = bytearray(file)
    for place, value in changes:
        struct.pack_into("<I", contents, 4 * (place % (len(file) // 4)), value)
    _survives(bytes(contents))


@settings(max_examples=300, deadline=None)
@given(FILES, st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=6))
def test_any_byte_may_be_any_other(file: bytes, changes: list[tuple[int, int]]) -> None:
    contents = bytearray(file)
    for place, value in changes:
        contents[place % len(file)] = value
    _survives(bytes(contents))


def test_constants_behind_the_flatbuffer() -> None:
    """As files over 2 GB have them."""
    x, w, y = (Tensor(name, (2, 300), F32, source=name) for name in "xwy")
    w.data, w.source = np.random.default_rng(0).standard_normal((2, 300)).astype(np.float32), ""
    contents = bytes(write(Graph("main", [x], [y], [Operator("MUL", [x, w], [y])]), flatbuffer_limit=0))
    np.testing.assert_array_equal(next(t.values for t in imported(contents).constants() if t.values.size > 1), w.data)
    with pytest.raises(InvalidModelError, match="it lies outside of the file: bytes"):
        imported(contents[:-600])


def _survives(contents: bytes) -> None:
    """A model or an error of edgecc's; a bug in a rule is neither."""
    with contextlib.suppress(RequestError, UnsupportedError):
        imported(contents).verify()


def test_content_decides_what_a_file_is(tmp_path: Path) -> None:
    odd = tmp_path / "model.onnx"
    odd.write_bytes(SMALL)
    assert [spec.name for spec in edgecc.load(odd).signature.inputs] == ["x"]
    other = tmp_path / "model.tflite"
    edgecc.load(odd).save(tmp_path / "real.onnx")
    other.write_bytes((tmp_path / "real.onnx").read_bytes())
    assert [spec.name for spec in edgecc.load(other).signature.inputs] == ["x"]


def test_a_file_that_is_something_else(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(b"\x1f\x8bnothing of the kind")
    with pytest.raises(InvalidModelError) as caught:
        edgecc.load(path)
    assert str(caught.value).startswith(f"{path} is not a TFLite model: it is a gzip archive")
    path.write_bytes(b"")
    with pytest.raises(InvalidModelError):
        TFLiteImporter().load(path, {})


def test_every_operator_that_cannot_be_imported_is_named() -> None:
    x, a, y = (Tensor(name, (2,), F32, source=name) for name in "xay")
    operators = [Operator("CUSTOM", [x], [a], origins=()), Operator("ABS", [a], [y])]
    b, z = Tensor("b", (2,), F32), Tensor("z", (2,), F32, source="z")
    operators += [Operator("ABS", [x], [b]), Operator("SVDF", [b], [z])]

    def name(model: Any) -> None:
        model.operatorCodes[0].customCode = "FlexErfc"

    with pytest.raises(UnsupportedError) as caught:
        imported(patched(bytes(write(Graph("main", [x], [y, z], operators))), name))
    assert caught.value.exit_code == 3
    assert "2 nodes cannot be imported from the file" in str(caught.value)
    assert "a (FlexErfc): no import rule for this operator; it is TensorFlow's own" in str(caught.value)
    assert "z (SVDF): no import rule for this operator; it keeps a state between runs" in str(caught.value)
