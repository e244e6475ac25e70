"""Pass fuse-sigmoid."""

from __future__ import annotations

import numpy as np
import pytest

from edgecc.model import Model
from edgecc.passes.fuse_sigmoid import FuseSigmoid
from edgecc.testing import assert_skipped, check_pass

#: Sigmoid against its formula, both in float32.
ROUNDING = 1e-6

SIGNATURE = "(float[2,8] x) => (float[2,8] y)"
TWO = "(float[2,8] x) => (float[2,8] y, float[2,8] z)"
PAIR = "(float[2,8] x, float[2,8] w) => (float[2,8] y)"
CONSTANTS = "<float zero = {0}, float one = {1}, float minus = {-1}, float two = {2}, float[1,1,1] one3 = {1}>"
FORMULA = "a = Neg(x) b = Exp(a) c = Add(b, one) y = Reciprocal(c)"
AFTER = "y = Sigmoid(x)"
SWISH = "s = Sigmoid(x) y = Mul(x, s)"


def graph(body: str, signature: str = SIGNATURE) -> str:
    return f"g {signature} {CONSTANTS} {{ {body} }}"


@pytest.mark.parametrize(
    ("body", "signature", "after"),
    [
        (FORMULA, SIGNATURE, AFTER),
        ("a = Neg(x) b = Exp(a) c = Add(one, b) y = Div(one, c)", SIGNATURE, AFTER),
        ("a = Mul(x, minus) b = Exp(a) c = Add(b, one) y = Div(one, c)", SIGNATURE, AFTER),
        ("a = Sub(zero, x) b = Exp(a) c = Sub(b, minus) y = Div(one, c)", SIGNATURE, AFTER),
        ("a = Neg(x) b = Exp(a) c = Add(b, one) y = Div(x, c)", SIGNATURE, SWISH),
        (FORMULA.replace("y =", "r =") + " y = Mul(r, x)", SIGNATURE, SWISH),
        ("a = Neg(x) b = Exp(a) c = Add(b, one) y = Div(w, c)", PAIR, "s = Sigmoid(x) y = Mul(w, s)"),
        ("a = Neg(x) b = Exp(a) c = Add(b, one) y = Div(two, c)", SIGNATURE, "s = Sigmoid(x) y = Mul(two, s)"),
    ],
    ids=["torch", "divided", "times -1", "from zero", "swish", "swish by reciprocal", "gate", "scaled"],
)
def test_forms(body: str, signature: str, after: str) -> None:
    model = check_pass(FuseSigmoid(), before=graph(body, signature), tolerance=ROUNDING)
    expected = Model.from_text(graph(after, signature))
    assert [node.op for node in model.nodes()] == [node.op for node in expected.nodes()]


def test_structure() -> None:
    check_pass(FuseSigmoid(), before=graph(FORMULA), after=graph(AFTER), tolerance=ROUNDING)


def test_extreme_values() -> None:
    feeds = {"x": np.array([[-1000, -100, -88.8, -1, 0, 1, 100, 1000]] * 2, np.float32)}
    body = "a = Neg(x) b = Exp(a) c = Add(b, one) y = Div(x, c)"
    check_pass(FuseSigmoid(), before=graph(body), tolerance=ROUNDING, feeds=feeds)


def test_open_shape_and_broadcast_numerator() -> None:
    signature = "(float[N,1] x, float[N,8] w) => (float[N,8] y)"
    body = "a = Neg(x) b = Exp(a) c = Add(b, one) y = Div(w, c)"
    model = check_pass(FuseSigmoid(), before=graph(body, signature), tolerance=ROUNDING)
    sigmoid, _ = model.nodes()
    assert list(sigmoid.outputs[0].shape) == ["N", 1]


def test_two_share_the_one_and_origins_stay() -> None:
    body = "[neg] a = Neg(x) [exp] b = Exp(a) c = Add(b, one) [end] d = Div(x, c)"
    again = "e = Neg(d) f = Exp(e) h = Add(f, one) y = Div(d, h)"
    model = check_pass(FuseSigmoid(), before=graph(f"{body} {again}"), tolerance=ROUNDING)
    assert [node.op for node in model.nodes()] == ["Sigmoid", "Mul", "Sigmoid", "Mul"]
    first, second, *_ = model.nodes()
    assert second.name == "end"
    assert set(first.origins) == set(second.origins) >= {"neg", "exp", "end"}


@pytest.mark.parametrize(
    ("body", "signature", "reason"),
    [
        ("a = Neg(x) b = Exp(a) c = Add(b, two) y = Div(x, c)", SIGNATURE, "make 2, not 1"),
        ("a = Mul(x, two) b = Exp(a) c = Add(b, one) y = Div(x, c)", SIGNATURE, "make 2, not -1"),
        ("a = Neg(x) z = Exp(a) c = Add(z, one) y = Div(x, c)", TWO, "'z' is an output of the model"),
        ("a = Neg(x) b = Exp(a) c = Add(b, one) y = Div(x, c) z = Neg(c)", TWO, "'c' is read by"),
        (
            "a = Neg(x) b = Exp(a) c = Add(b, one3) y = Div(one, c)",
            "(float[2,8] x) => (float[1,2,8] y)",
            "another shape",
        ),
        ("b = Exp(x) c = Add(b, one) y = Div(b, c)", SIGNATURE, ""),
        ("y = Exp(x)", SIGNATURE, ""),
    ],
)
def test_left_alone(body: str, signature: str, reason: str) -> None:
    assert_skipped(FuseSigmoid(), before=graph(body, signature), reason=reason)


def test_reader_in_a_subgraph() -> None:
    text = f"""g (bool k, float[2,8] x) => (float[2,8] y, float[2,8] z) {CONSTANTS} {{ {FORMULA} z = If(k)<
        then_branch = p () => (float[2,8] r) {{ r = Neg(c) }},
        else_branch = q () => (float[2,8] s) {{ s = Identity(x) }}> }}"""
    assert_skipped(FuseSigmoid(), before=text, reason="'c' is read by")


def test_ignored() -> None:
    body = FORMULA.replace("b = Exp", "[mine] b = Exp")
    assert_skipped(FuseSigmoid(ignore=("mine",)), before=graph(body), reason="")
