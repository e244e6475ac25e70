"""Residual blocks: what belongs to one, and that finding them all takes work in proportion to the model."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

import edgecc
from edgecc.model import Model
from edgecc.pruning.residual_blocks import find_blocks


def chain(count: int, kind: str) -> Model:
    """Blocks in a row: residual ones, or additions of something that the trunk does not read."""
    node = onnx.helper.make_node
    nodes, trunk = [], "x"
    for i in range(count):
        a, b, c, t = (f"{name}{i}" for name in "abct")
        first, side = (c, trunk) if kind == "residual" else (trunk, c)
        source = trunk if kind == "residual" else "x"
        layer = node("MatMul", [a, "w"], [b]) if kind != "weightless" else node("Sigmoid", [a], [b])
        nodes += [node("Relu", [source], [a]), layer, node("Tanh", [b], [c]), node("Add", [first, side], [t])]
        trunk = t
    graph = onnx.helper.make_graph(
        nodes,
        "g",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 4])],
        [onnx.helper.make_tensor_value_info(trunk, onnx.TensorProto.FLOAT, [1, 4])],
        [onnx.numpy_helper.from_array(np.eye(4, dtype=np.float32), "w")],
    )
    return edgecc.load(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 23)], ir_version=10))


@pytest.mark.parametrize("kind", ["residual", "beside", "weightless"])
def test_the_work_is_proportional_to_the_model(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = 0

    def counted(tensor: object) -> object:
        nonlocal asked
        asked += 1
        return tensor.inputs[0] if tensor.inputs else None  # type: ignore[attr-defined]

    monkeypatch.setattr(Model, "producer", staticmethod(counted))
    counts = []
    for count in (100, 200):
        model = chain(count, kind)
        asked = 0
        find_blocks(model)
        counts.append(asked)
    assert counts[1] < 2.3 * counts[0]


def test_what_belongs_to_each() -> None:
    found, others = find_blocks(chain(3, "residual"))
    assert [[node.op for node in block.nodes] for block in found] == [["Relu", "MatMul", "Tanh"]] * 3
    assert not others
    found, others = find_blocks(chain(3, "beside"))
    # The first addition's shortcut is what its branch reads.
    assert len(found) == 1
    assert {reason for _, reason in others} == {
        "what it adds to is not what the branch reads: its shortcut computes something"
    }
    assert find_blocks(chain(3, "weightless")) == ([], [])
