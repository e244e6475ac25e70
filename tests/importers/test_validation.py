"""What is no valid ONNX is refused at import, and a model that works is not."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import edgecc
from edgecc.errors import InvalidModelError
from edgecc.importers import inlining

FLOAT = TensorProto.FLOAT


def model(
    nodes: list[onnx.NodeProto], outputs: list[onnx.ValueInfoProto], shape: tuple[int, ...] = (2, 3)
) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", FLOAT, shape)], outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def output(name: str = "y", shape: tuple[int, ...] | None = (2, 3), kind: int = FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


@pytest.mark.parametrize(
    ("proto", "why"),
    [
        (model([helper.make_node("Softmax", ["x"], ["y"], axis=9)], [output()]), "'axis' must be in [-2 , 1]"),
        (model([helper.make_node("Relu", ["x"], ["y"])], [output(kind=TensorProto.INT64)]), "(1) vs (7)"),
        (model([helper.make_node("Relu", ["x"], ["y"])], [output(), output()]), "two outputs have this name"),
    ],
)
def test_types_and_shapes_that_contradict_each_other(proto: onnx.ModelProto, why: str) -> None:
    with pytest.raises(InvalidModelError, match="the model is not valid ONNX") as caught:
        edgecc.load(proto)
    assert why in caught.value.why


@pytest.mark.parametrize("declared", [(7, 3), (2, 3, 1)])
def test_a_declared_output_shape_that_is_out_of_date_gives_way(declared: tuple[int, ...]) -> None:
    """ONNX Runtime runs such a model."""
    loaded = edgecc.load(model([helper.make_node("Relu", ["x"], ["y"])], [output(shape=declared)]))
    assert loaded.signature.outputs[0].shape == (2, 3)


def test_a_vector_of_a_billion_elements_takes_no_minutes() -> None:
    """onnx would follow its values as if it were a shape."""
    size = helper.make_tensor("size", TensorProto.INT64, [1], [1 << 30])
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("ConstantOfShape", ["size"], ["v"], value=helper.make_tensor("", TensorProto.INT64, [1], [0])),
        helper.make_node("Concat", ["v", "s"], ["w"], axis=0),
        helper.make_node("ReduceSum", ["w"], ["y"], keepdims=0),
    ]
    proto = model(nodes, [output(shape=(), kind=TensorProto.INT64)])
    proto.graph.initializer.append(size)
    start = time.monotonic()
    edgecc.load(proto)
    assert time.monotonic() - start < 30


def doubling(levels: int) -> onnx.ModelProto:
    """Functions each of which calls the next one twice."""
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("f", 1)]
    bodies = [
        [
            helper.make_node(f"F{i + 1}", ["a"], ["b"], domain="f"),
            helper.make_node(f"F{i + 1}", ["b"], ["c"], domain="f"),
        ]
        for i in range(levels)
    ]
    bodies.append([helper.make_node("Relu", ["a"], ["c"])])
    proto = model([helper.make_node("F0", ["x"], ["y"], domain="f")], [output()])
    proto.opset_import.append(helper.make_opsetid("f", 1))
    proto.functions.extend(
        helper.make_function("f", f"F{i}", ["a"], ["c"], body, opsets) for i, body in enumerate(bodies)
    )
    return proto


def test_functions_that_stand_for_a_billion_nodes() -> None:
    with pytest.raises(InvalidModelError, match="the model's functions cannot be inlined") as caught:
        edgecc.load(doubling(30))
    assert caught.value.why == f"they stand for {2**30:,} nodes, and edgecc takes {inlining.MAX_NODES:,}"


def test_functions_that_stand_for_a_few() -> None:
    loaded = edgecc.load(doubling(5))
    assert [node.op for node in loaded.nodes()] == ["Relu"] * 32


def test_a_function_that_calls_itself() -> None:
    proto = doubling(1)
    del proto.functions[1].node[:]
    proto.functions[1].node.append(helper.make_node("F0", ["a"], ["c"], domain="f"))
    with pytest.raises(InvalidModelError, match="cannot be inlined") as caught:
        edgecc.load(proto)
    assert "calls itself" in caught.value.why


def test_weights_do_not_count(tmp_path: Path) -> None:
    """The check sees a proto without them."""
    proto = model([helper.make_node("Add", ["x", "w"], ["y"])], [output()])
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((2, 3), np.float32), "w"))
    onnx.save(proto, tmp_path / "m.onnx")
    assert edgecc.load(tmp_path / "m.onnx").parameter_count == 6
