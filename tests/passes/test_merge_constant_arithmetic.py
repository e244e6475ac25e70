from __future__ import annotations

import numpy as np
import pytest

from edgecc.model import Model, origins, value_of
from edgecc.passes.merge_constant_arithmetic import MergeConstantArithmetic
from edgecc.testing import assert_skipped, check_pass

#: A few roundings of float32.
ROUNDING = 1e-6
C = """float[3] c = {2, -3, 0.5}, float[3] d = {0.25, 4, -5}, float s = {3}, float[1] t = {-7},
    float[2,1] k = {2, 3}, float big = {3e38}, float tiny = {1e-38}, float magic = {12582912}, float zero = {0}"""
X = "float[2,3] x"


def graph(body: str, inputs: str = X, outputs: str = "float[2,3] y") -> str:
    return f"g ({inputs}) => ({outputs}) <{C}> {{ {body} }}"


@pytest.mark.parametrize(
    ("body", "merged"),
    [
        ("a = Mul(x, c) y = Mul(d, a)", "y = Mul(x, c)"),
        ("a = Div(x, c) y = Div(a, d)", "y = Div(x, c)"),
        ("a = Mul(c, x) y = Div(a, s)", "y = Mul(x, c)"),
        ("a = Div(x, t) y = Mul(s, a)", "y = Mul(x, t)"),
        ("a = Div(x, k) y = Mul(s, a)", "y = Mul(x, k)"),
        ("a = Neg(x) y = Mul(a, c)", "y = Mul(x, c)"),
        ("a = Div(x, c) y = Neg(a)", "y = Div(x, c)"),
        ("a = Add(x, c) y = Add(d, a)", "y = Add(x, c)"),
        ("a = Sub(x, c) y = Sub(a, d)", "y = Sub(x, c)"),
        ("a = Sub(x, c) y = Add(a, s)", "y = Add(x, c)"),
        ("a = Sub(c, x) y = Add(a, s)", "y = Sub(c, x)"),
        ("a = Sub(c, x) y = Sub(d, a)", "y = Sub(x, c)"),
        ("a = Add(c, x) y = Sub(d, a)", "y = Sub(c, x)"),
        ("a = Sub(c, x) y = Sub(a, d)", "y = Sub(c, x)"),
        ("a = Neg(x) y = Add(a, c)", "y = Sub(c, x)"),
        ("a = Add(x, c) y = Neg(a)", "y = Sub(c, x)"),
        ("a = Sub(c, x) y = Neg(a)", "y = Sub(x, c)"),
        ("a = Mul(x, c) b = Mul(a, d) e = Div(b, s) y = Neg(e)", "y = Mul(x, c)"),
        (
            "a = Mul(x, s) b = Div(a, c) e = Add(b, d) f = Sub(s, e) y = Neg(f)",
            "b = Mul(x, c) y = Sub(b, d)",
        ),
    ],
)
@pytest.mark.parametrize("rows", ["2", "N"])
def test_merges(body: str, merged: str, rows: str) -> None:
    if rows == "N":
        body, merged = body.replace("k", "t"), merged.replace("k", "t")
    sizes = (f"float[{rows},3] x", f"float[{rows},3] y")
    check_pass(MergeConstantArithmetic(), graph(body, *sizes), graph(merged, *sizes), tolerance=ROUNDING)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float16, 2e-3), (np.float64, 1e-14)])
def test_other_float_types(dtype: type, tolerance: float) -> None:
    name = {np.float16: "float16", np.float64: "double"}[dtype]
    model = Model.from_text(
        f"g ({name}[2,3] x) => ({name}[2,3] y) {{ a = Mul(x, c) b = Mul(a, c) d = Add(b, c) y = Sub(d, c) }}",
        {"c": np.array([1.5, 0.5, 3], dtype)},
    )
    merged = check_pass(MergeConstantArithmetic(), model, tolerance=tolerance)
    assert [(node.op, value_of(node.inputs[1]).dtype) for node in merged.nodes()] == [("Mul", dtype), ("Add", dtype)]


def test_shared_constants_stay() -> None:
    model = check_pass(
        MergeConstantArithmetic(),
        graph("a = Mul(x, c) y = Mul(a, c) z = Mul(x, c)", outputs="float[2,3] y, float[2,3] z"),
        tolerance=ROUNDING,
    )
    assert [value_of(node.inputs[1]).tolist() for node in model.nodes()] == [[4, 9, 0.25], [2, -3, 0.5]]
    assert origins(model.nodes()[0]) == ("Mul_0", "Mul_1")


@pytest.mark.parametrize(
    ("body", "outputs", "reason"),
    [
        ("a = Mul(x, c) y = Mul(a, d)", "float[2,3] y, float[2,3] a", "'a' is an output of the model"),
        ("a = Mul(x, c) b = Mul(a, d) y = Add(a, b)", "float[2,3] y", "'a' is read by 2 inputs of nodes"),
        ("a = Mul(x, c) y = Mul(a, k)", "float[2,3] y", "would be larger than the larger one of theirs"),
        ("a = Mul(x, big) y = Mul(a, s)", "float[2,3] y", "would not be finite in float32"),
        ("a = Mul(x, tiny) y = Mul(tiny, a)", "float[2,3] y", "would be too small for float32"),
        ("a = Add(x, magic) y = Sub(a, magic)", "float[2,3] y", "would undo a rounding: large numbers cancel"),
    ],
)
def test_reason(body: str, outputs: str, reason: str) -> None:
    assert_skipped(MergeConstantArithmetic(), graph(body, outputs=outputs), reason)


def test_infinite_divisor() -> None:
    model = Model.from_text(
        "g (float[2,3] x) => (float[2,3] y) { a = Div(x, infinity) y = Div(a, two) }",
        {"infinity": np.array(np.inf, np.float32), "two": np.array(2, np.float32)},
    )
    assert_skipped(MergeConstantArithmetic(), model, "would not be finite in float32")


@pytest.mark.parametrize(
    "body",
    [
        "y = Div(x, c)",
        "a = Mul(x, c) y = Add(a, d)",
        "a = Div(c, x) y = Mul(a, d)",
        "a = Div(x, zero) y = Mul(a, d)",
        "a = Neg(x) y = Neg(a)",
        "a = Mul(x, x) y = Mul(a, c)",
    ],
)
def test_others_are_not_mentioned(body: str) -> None:
    assert_skipped(MergeConstantArithmetic(), graph(body), "")


def test_integers_are_not_mentioned() -> None:
    text = "g (int32[3] x) => (int32[3] y) <int32[3] c = {1, 2, 3}> { a = Mul(x, c) y = Mul(a, c) }"
    assert_skipped(MergeConstantArithmetic(), text, "")


def test_second_one_in_a_subgraph() -> None:
    text = f"""g ({X}, bool b) => (float[2,3] y) <{C}> {{
        a = Mul(x, c)
        y = If (b) <then_branch = t () => (float[2,3] u) {{ u = Mul(a, d) }},
                    else_branch = e () => (float[2,3] v) {{ v = Relu(a) }}>
    }}"""
    assert_skipped(MergeConstantArithmetic(), text, "")


@pytest.mark.parametrize("ignored", ["Mul_0", "Mul_1"])
def test_ignored_node_stays(ignored: str) -> None:
    text = graph("a = Mul(x, c) b = Mul(a, d) e = Relu(b) f = Mul(e, c) y = Mul(f, d)")
    model = check_pass(MergeConstantArithmetic(ignore=(ignored,)), text, tolerance=ROUNDING)
    assert [node.op for node in model.nodes()] == ["Mul", "Mul", "Relu", "Mul"]


def test_what_became_of_two_merges_with_a_third() -> None:
    """Neg, Neg, Add: the last two make Sub, which takes in the first one only in a second look."""
    model = check_pass(
        MergeConstantArithmetic(), graph("a = Neg(x) b = Neg(a) y = Add(b, s)"), tolerance=ROUNDING, skips=None
    )
    assert [node.op for node in model.nodes()] in (["Sub"], ["Add"])
