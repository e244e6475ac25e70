from __future__ import annotations

import numpy as np
import onnx
import pytest

from edgecc.model import Model
from edgecc_tensorrt import typed_onnx
from edgecc_tensorrt.typed_onnx import TypedOnnx

NUMBERS = ",".join(str(i) for i in range(1024))
WIDE = f"g (float[1,32] x) => (float[1,32] y) <float[32,32] w = {{{NUMBERS}}}> {{ y = MatMul(x, w) }}"


def test_large_weights_are_shared_not_copied() -> None:
    model = Model.from_text(WIDE)
    typed = TypedOnnx.of(model)
    weight = next(t for t in model.tensors() if t.name == "w")
    assert np.shares_memory(typed.weights["w"], weight.values)
    assert not typed.proto.graph.initializer[0].raw_data
    assert [i.name for i in typed.proto.graph.input] == ["x"]


def check_file(text: str) -> None:
    model = Model.from_text(text)
    model.metadata["author"] = "somebody"
    found = onnx.load_from_string(bytes(TypedOnnx.of(model).to_bytes() or b""))
    wanted = model.to_proto()
    del wanted.graph.value_info[:]
    for proto in (found, wanted):
        ordered = sorted(proto.graph.initializer, key=lambda t: t.name)
        del proto.graph.initializer[:]
        proto.graph.initializer.extend(ordered)
    assert found == wanted


def test_the_file_is_the_model(conv: str) -> None:
    check_file(conv)
    check_file(WIDE)


def test_large_constant_that_only_subgraphs_read_is_in_the_file_once() -> None:
    text = """g (float[1,32] x, bool c) => (float[1,32] y) {
        y = If(c) <
            then_branch = t () => (float[1,32] a) { a = MatMul(x, w) },
            else_branch = e () => (float[1,32] b) { n = Neg(x) b = MatMul(n, w) }
        >
    }"""
    weight = np.arange(1024, dtype=np.float32).reshape(32, 32)
    file = onnx.load_from_string(bytes(TypedOnnx.of(Model.from_text(text, {"w": weight})).to_bytes() or b""))
    assert [i.name for i in file.graph.input] == ["x", "c"]
    assert [t.name for t in file.graph.initializer] == ["w"]
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(file.graph.initializer[0]), weight)


def test_over_two_gigabytes_there_is_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(typed_onnx, "MAX_BYTES", 1000)
    assert TypedOnnx.of(Model.from_text(WIDE)).to_bytes() is None
