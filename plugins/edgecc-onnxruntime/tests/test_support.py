from __future__ import annotations

import pytest

from edgecc.errors import Unsupported
from edgecc.model import Model
from edgecc_onnxruntime.backend import OnnxRuntimeBackend
from edgecc_onnxruntime.kernels import find_missing
from edgecc_onnxruntime.opset_label import oldest_for, oldest_opset
from edgecc_onnxruntime.target import OnnxRuntimeTarget
from edgecc_onnxruntime.writer import labelled

BACKEND = OnnxRuntimeBackend()


def unsupported(text: str, **options: object) -> list[Unsupported]:
    return BACKEND.find_unsupported(Model.from_text(text), OnnxRuntimeTarget(**options))  # type: ignore[arg-type]


def test_every_unknown_node_is_listed_at_once() -> None:
    found = unsupported("""
    <ir_version: 11, opset_import: ["" : 23, "com.acme" : 1, "com.microsoft" : 1]>
    g (float[4] x) => (float[4] y) {
        [one] a = com.acme.Swirl(x)
        [two] b = Relu(a)
        [three] c = com.acme.Swirl(b)
        [four] y = com.microsoft.NoSuchThing(c)
    }
    """)
    assert [(node.node, node.op) for node in found] == [("one", "Swirl"), ("three", "Swirl"), ("four", "NoSuchThing")]
    assert found[0].reason == "ONNX Runtime has no operators of domain 'com.acme'"
    assert found[0].hint == "replace it by standard operators before export"
    assert "knows no such operator in domain 'com.microsoft'" in found[2].reason


def test_nodes_without_a_kernel_for_their_type() -> None:
    found = unsupported("""
    g (double[1,1,4,4] x, double[1,1,2,2] w) => (double[1,1,3,3] y) {
        [conv] c = Conv(x, w)
        [relu] y = Relu(c)
    }
    """)
    assert [node.node for node in found] == ["conv"]
    assert "has no kernel for double, double" in found[0].reason


def test_kernels_of_contrib_operators_are_known() -> None:
    assert (
        unsupported("""
    <ir_version: 11, opset_import: ["" : 23, "com.microsoft" : 1]>
    g (float[4] x) => (float[4] y) { y = com.microsoft.QuickGelu(x) }
    """)
        == []
    )


@pytest.mark.parametrize(
    "text",
    [
        "g (float16[1,1,4,4] x, float16[1,1,2,2] w) => (float16[1,1,3,3] y) { y = Conv(x, w) }",
        "g (float[4] x) => (float[4] y) { y = HardSwish(x) }",
        "g (float[4] x, double[1] t) => (double[4] y) { y = CastLike(x, t) }",
        "g (float[1,4] x, float[4] w) => (float[1,4] y) { y = RMSNormalization(x, w) }",
    ],
    ids=["float16-through-casts", "function", "function-with-types", "opset-23"],
)
def test_what_runs_without_an_own_kernel(text: str) -> None:
    assert unsupported(text) == []


def test_nodes_of_subgraphs_are_looked_at() -> None:
    found = unsupported("""
    <ir_version: 11, opset_import: ["" : 23, "com.acme" : 1]>
    g (bool c, float[4] x) => (float[4] y) {
        y = If (c) <
            then_branch = a () => (float[4] t) { [inner] t = com.acme.Swirl(x) },
            else_branch = b () => (float[4] e) { e = Relu(x) }
        >
    }
    """)
    assert [node.op for node in found] == ["Swirl"]


def test_a_node_that_fails_only_at_load_is_named() -> None:
    # Its kernel exists; the attribute is what ONNX Runtime refuses.
    found = unsupported("""
    g (float[1,2,4] x) => (float[1,2,4] y) {
        [fine] a = Relu(x)
        [bad] y = DepthToSpace <blocksize = 2> (a)
    }
    """)
    assert len(found) == 1
    assert found[0].node == "bad"
    assert "does not load it" in found[0].reason


def test_kernels_of_another_provider_are_not_guessed() -> None:
    text = "g (double[1,1,4,4] x, double[1,1,2,2] w) => (double[1,1,3,3] y) { y = Conv(x, w) }"
    assert unsupported(text, provider="cuda") == []


# -------------------------------------------------------------------------------------------------------------- opset


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("(float[1,1,4,4] x, float[1,1,2,2] w) => (float[1,1,3,3] y) { y = Conv(x, w) }", 13),
        ("(float[4] x) => (float[4] y) { y = Relu(x) }", 13),
        ("(int32[4] x) => (int32[4] y) { y = Relu(x) }", 14),
        ("(bfloat16[4] x) => (bfloat16[4] y) { y = Elu(x) }", 22),
        ("(float[2,3] x) => (float[6] y) <int64[1] s = {6}> { y = Reshape(x, s) }", 13),
        ("(float[2,3] x) => (float[6] y) <int64[1] s = {6}> { y = Reshape <allowzero = 1> (x, s) }", 14),
        ("(float[1,2,4,4] x) => (float[1,2,1,1] y) <int64[2] a = {2, 3}> { y = ReduceMean(x, a) }", 18),
        ("(float[4] x) => (int8[4] y) <float s = {0.1}, int8 z = {0}> { y = QuantizeLinear(x, s, z) }", 13),
        ("(float[4] x) => (int16[4] y) <float s = {0.1}, int16 z = {0}> { y = QuantizeLinear(x, s, z) }", 21),
        ("(float[4] x) => (float16[4] y) { y = Cast <to = 10> (x) }", 13),
        ("(float[4] x) => (float[6] y) <int64[2] p = {1, 1}> { y = Pad(x, p) }", 13),
        ('(float[4] x) => (float[6] y) <int64[2] p = {1, 1}> { y = Pad <mode = "wrap"> (x, p) }', 19),
        ("(float[1,1,4,4] x) => (float[1,1,3,3] y) { y = AveragePool <kernel_shape = [2, 2]> (x) }", 13),
        (
            "(float[1,1,5,5] x) => (float[1,1,3,3] y) "
            "{ y = AveragePool <kernel_shape = [2, 2], dilations = [2, 2]> (x) }",
            19,
        ),
        ("(float[4] x) => (float[4] y) { y = HardSwish(x) }", 14),
        ("(float[4] x) => (float[4] y) { y = Gelu(x) }", 20),
        ("(float[4] x) => (float[2] y, float[2] z) <int64[2] s = {2, 2}> { y, z = Split(x, s) }", 13),
        ("(float[4] x) => (float[2] y, float[2] z) { y, z = Split <num_outputs = 2> (x) }", 18),
    ],
)
def test_oldest_opset(body: str, expected: int) -> None:
    model = Model.from_text(f"g {body}")
    (node,) = model.nodes()
    assert oldest_for(node) == expected
    assert oldest_opset(model) == expected
    proto = labelled(model, expected)
    assert {entry.domain: entry.version for entry in proto.opset_import} == {"": expected}
    assert not [u for u in find_missing(model, expected) if "knows no such operator" in u.reason]


def test_the_label_is_written_with_the_format_version_that_knows_it() -> None:
    model = Model.from_text("g (float[4] x) => (float[4] y) { y = Relu(x) }")
    assert labelled(model, 13).ir_version == 7
    assert labelled(model, 19).ir_version == 9
    assert labelled(model, 23).ir_version == 11
    assert BACKEND.compile(model, OnnxRuntimeTarget()).details["opset"] == 13
    assert BACKEND.compile(model, OnnxRuntimeTarget(opset=17)).details["opset"] == 17


def test_nodes_too_new_for_the_wanted_opset_are_listed() -> None:
    text = "g (float[4] x) => (float[4] y) { [a] h = Gelu(x) [b] r = Relu(h) [c] y = HardSwish(r) }"
    found = unsupported(text, opset=13)
    assert [node.node for node in found if "operator set" in node.reason] == ["a", "c"]
    assert found[0].reason == "needs operator set 20, and 13 is asked for"
    assert found[0].hint == "leave option 'opset' out, or set it to 20 or more"
    assert unsupported(text, opset=20) == []
