from __future__ import annotations

import pytest

from edgecc.errors import Unsupported
from edgecc.model import Model
from edgecc_tensorrt.backend import TensorRTBackend
from edgecc_tensorrt.support import float64_note
from edgecc_tensorrt.target import TensorRTTarget

pytestmark = pytest.mark.usefixtures("sdk_installed")


def find(text: str) -> list[Unsupported]:
    model = Model.from_text(text)
    before = model.digest()
    found = TensorRTBackend().find_unsupported(model, TensorRTTarget())
    assert model.digest() == before
    return found


def test_all_nodes_at_once_in_the_graphs_order() -> None:
    """Type errors, static errors of the parser, and errors it would stop at, in one list."""
    found = find(
        """g (float[1,1,8,8] x, int16[1,4] q)
        => (float[1,1] y, float[1,1,7,7] z, float[1,1,7,7] w, int64[4,n] v, float[1,1,8,8] u, int16[1,4] r) {
          a = Relu(x)
          y = Det(a)
          z = MaxPool<kernel_shape=[2,2], dilations=[2,2]>(a)
          b = Neg(z)
          w = Bernoulli(b)
          v = NonZero(a)
          u = LRN<size=4>(a)
          r = Identity(q)
        }"""
    )
    assert [(entry.node, entry.op) for entry in found] == [
        ("Det_1", "Det"),
        ("MaxPool_2", "MaxPool"),
        ("Bernoulli_4", "Bernoulli"),
        ("NonZero_5", "NonZero"),
        ("LRN_6", "LRN"),
        ("Identity_7", "Identity"),
    ]
    reasons = {entry.op: entry.reason for entry in found}
    assert "dilations other than 1" in reasons["MaxPool"]
    assert reasons["Det"] == "TensorRT has no such operator"
    assert reasons["Identity"] == "TensorRT has no type int16"
    assert not any("/_src" in reason or "Assertion" in reason for reason in reasons.values())


@pytest.mark.parametrize(
    ("text", "op", "reason"),
    [
        ("g (double[1,4] x) => (double[1,4] y) { y = Sqrt(x) }", "Sqrt", "'x' is float64"),
        ("g (uint8[1,4] x) => (uint8[1,4] y) { y = Add(x, x) }", "Add", "computes nothing in uint8"),
        ("g (string[1,4] x) => (string[1,4] y) { y = Identity(x) }", "Identity", "no type string"),
        ("g (float[1,2,4,8] x) => (float[1,2,4,8] y) { y = Attention(x, x, x) }", "Attention", "crashes"),
        (
            "g (float[4] x) => (int8[4] y) <float s = {0.1}, int8 z = {3}> { y = QuantizeLinear(x, s, z) }",
            "QuantizeLinear",
            "symmetric quantization only",
        ),
        (
            "g (float[4] x) => (uint8[4] y) <float s = {0.1}, uint8 z = {0}> { y = QuantizeLinear(x, s, z) }",
            "QuantizeLinear",
            "uint8 values for int8",
        ),
    ],
)
def test_reasons(text: str, op: str, reason: str) -> None:
    (entry,) = find(text)
    assert entry.op == op
    assert reason in entry.reason


def test_an_input_that_decides_shapes() -> None:
    (entry,) = find("g (float[2,4] x, int64[2] s) => (float[?,?] y) { y = Reshape(x, s) }")
    assert entry.reason == "the values of input 's' decide shapes"


def test_a_subgraph_reads_what_a_blocked_node_wrote() -> None:
    found = find(
        """g (bool c, float[1,4,4] x) => (float[1,4,4] y, float[1] z) {
          d = Bernoulli(x)
          z = Det(x)
          y = If(c) <
            then_branch = t () => (float[1,4,4] u) { u = Neg(d) },
            else_branch = e () => (float[1,4,4] v) { v = Abs(x) }
          >
        }"""
    )
    assert [entry.op for entry in found] == ["Bernoulli", "Det"]


@pytest.mark.parametrize(
    "text",
    [
        "g (uint8[1,4] x) => (float[1,4] y) { y = Cast<to=1>(x) }",
        "g (int64[1,4] x) => (int64[1,4] y) { y = Add(x, x) }",
        "g (bool[1,4] x) => (bool[1,4] y) { y = Not(x) }",
        "g (float16[1,4] x) => (float16[1,4] y) { y = Relu(x) }",
        "g (bfloat16[1,4] x) => (bfloat16[1,4] y) { y = Relu(x) }",
        "g (float[1,4,5,5] x) => (float[1,4,5,5] y) { y = LRN<size=3>(x) }",
        "g (float[1,1,5,5] x) => (float[1,1,3,3] y) { y = MaxPool<kernel_shape=[2,2],strides=[2,2],ceil_mode=1>(x) }",
        "g (float[1,1,5,5] x) => (float[1,1,5,5] y) { y = AveragePool<kernel_shape=[2,2],pads=[0,0,1,1]>(x) }",
        "g (float[1,1,5,5] x) => (float[1,1,5,5] y) <float[1,1,2,2] w = {1,2,3,4}> { y = Conv<pads=[0,0,1,1]>(x, w) }",
        "g (bool c, float[1,4] a) => (float[1,4] y) { y = If(c)<then_branch = t () => (float[1,4] u) { u = Neg(a) },"
        "else_branch = e () => (float[1,4] v) { v = Abs(a) }> }",
    ],
)
def test_supported(text: str) -> None:
    assert find(text) == []
    assert TensorRTBackend().compile(Model.from_text(text), TensorRTTarget()).files


def test_float64_inside_is_noted() -> None:
    text = "g (float[4] x) => (float[4] y) { a = Cast<to=11>(x) b = Sqrt(a) y = Cast<to=1>(b) }"
    assert find(text) == []
    assert float64_note(Model.from_text(text)) == (
        "float64 values are computed in float32, as TensorRT has no float64: Cast_0 and 1 more"
    )
