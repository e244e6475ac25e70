"""Pass fuse-hard-sigmoid."""

from __future__ import annotations

import numpy as np
import pytest

from edgecc.model import Model
from edgecc.passes.fuse_hard_sigmoid import FuseHardSigmoid
from edgecc.testing import assert_skipped, check_pass

#: One multiplication against an addition and a division, in float32.
ROUNDING = 1e-6

SIGNATURE = "(float[2,8] x) => (float[2,8] y)"
TWO = "(float[2,8] x) => (float[2,8] y, float[2,8] z)"
CONSTANTS = """<float zero = {0}, float one = {1}, float half = {0.5}, float fifth = {0.2}, float five = {5},
    float three = {3}, float six = {6}, float sixth = {0.16666667}, float[1,1,1] three3 = {3}, float minus = {-3},
    float[8] eight = {1, 2, 3, 4, 5, 6, 7, 8}>"""
AFTER = "y = HardSigmoid<alpha = 0.16666667, beta = 0.5>(x)"
FORMULA = "a = Add(x, three) b = Clip(a, zero, six) y = Div(b, six)"


def graph(body: str, signature: str = SIGNATURE) -> str:
    return f"g {signature} {CONSTANTS} {{ {body} }}"


@pytest.mark.parametrize(
    ("body", "after"),
    [
        (FORMULA, AFTER),
        ("a = Add(three, x) b = Clip(a, zero, six) y = Mul(sixth, b)", AFTER),
        ("a = Sub(x, minus) b = Max(a, zero) c = Min(b, six) y = Mul(c, sixth)", AFTER),
        ("a = Add(x, three) b = Relu(a) c = Min(b, six) y = Div(c, six)", AFTER),
        ("a = Add(x, three) b = Mul(a, sixth) y = Clip(b, zero, one)", AFTER),
        ("a = Mul(x, fifth) b = Add(a, half) y = Clip(b, zero, one)", "y = HardSigmoid<alpha = 0.2, beta = 0.5>(x)"),
        (
            "a = Div(x, five) b = Add(a, half) c = Min(b, one) y = Relu(c)",
            "y = HardSigmoid<alpha = 0.2, beta = 0.5>(x)",
        ),
        ("a = Add(x, half) b = Clip(a, zero, five) y = Div(b, five)", "y = HardSigmoid<alpha = 0.2, beta = 0.1>(x)"),
    ],
    ids=["torch", "tf2onnx", "minimum of maximum", "relu6", "scaled first", "keras", "onnx's own", "another line"],
)
def test_forms(body: str, after: str) -> None:
    feeds = {"x": np.linspace(-5, 5, 16, dtype=np.float32).reshape(2, 8)}
    check_pass(FuseHardSigmoid(), before=graph(body), after=graph(after), tolerance=ROUNDING, feeds=feeds)


def test_float16() -> None:
    constants = {name: np.array(value, np.float16) for name, value in (("three", 3), ("zero", 0), ("six", 6))}
    text = "g (float16[2,8] x) => (float16[2,8] y) { a = Add(x, three) b = Clip(a, zero, six) y = Div(b, six) }"
    # A float16 has eleven bits.
    model = check_pass(FuseHardSigmoid(), before=Model.from_text(text, constants), tolerance=2e-3)
    assert [node.op for node in model.nodes()] == ["HardSigmoid"]


def test_open_shape_two_places_and_origins() -> None:
    signature = "(float[N,8] x) => (float[N,8] y)"
    body = f"[add] a = Add(x, three) b = Clip(a, zero, six) [end] m = Div(b, six) {FORMULA.replace('(x', '(m')}"
    body = body.replace("a = Add(m", "c = Add(m").replace(
        "b = Clip(a, zero, six) y = Div(b", "d = Clip(c, zero, six) y = Div(d"
    )
    model = check_pass(FuseHardSigmoid(), before=graph(body, signature), tolerance=ROUNDING)
    first, second = model.nodes()
    assert (first.op, second.op) == ("HardSigmoid", "HardSigmoid")
    assert first.name == "end"
    assert "add" in first.origins


@pytest.mark.parametrize(
    ("body", "signature", "reason"),
    [
        ("a = Add(x, three) b = Clip(a, zero, six) y = Mul(x, b)", SIGNATURE, "does not divide by its upper limit 6"),
        (
            "a = Add(x, three) b = Clip(a, zero, six) y = Div(b, five)",
            SIGNATURE,
            "does not divide by its upper limit 6",
        ),
        ("a = Add(x, three) b = Clip(a, zero, six) y = Div(six, b)", SIGNATURE, "does not divide by its upper limit 6"),
        ("a = Add(x, three) z = Clip(a, zero, six) y = Div(z, six)", TWO, "is not only divided"),
        ("a = Add(x, three) b = Clip(a, zero, six) y = Div(b, six) z = Neg(b)", TWO, "is not only divided"),
        ("a = Add(x, half) y = Clip(a, zero, one)", SIGNATURE, "shifted and not scaled"),
        (FORMULA.replace("three", "three3"), "(float[2,8] x) => (float[1,2,8] y)", "to another shape"),
        ("z = Add(x, three) b = Clip(z, zero, six) y = Div(b, six)", TWO, ""),
        ("a = Add(x, eight) b = Clip(a, zero, six) y = Div(b, six)", SIGNATURE, ""),
        ("y = Clip(x, zero, one)", SIGNATURE, ""),
        ("a = Mul(x, fifth) y = Clip(a, zero, one)", SIGNATURE, ""),
        ("a = Add(x, three) y = Relu(a)", SIGNATURE, ""),
        ("a = Add(x, three) b = Clip(a, zero, zero) y = Div(b, six)", SIGNATURE, ""),
        ("a = Sub(three, x) b = Clip(a, zero, six) y = Div(b, six)", SIGNATURE, ""),
    ],
)
def test_left_alone(body: str, signature: str, reason: str) -> None:
    assert_skipped(FuseHardSigmoid(), before=graph(body, signature), reason=reason)


def test_float64() -> None:
    text = """g (double[2] x) => (double[2] y) <double three = {3}, double zero = {0}, double six = {6}>
        { a = Add(x, three) b = Clip(a, zero, six) y = Div(b, six) }"""
    assert_skipped(FuseHardSigmoid(), before=text, reason="computes in float64")


def test_reader_in_a_subgraph() -> None:
    text = f"""g (bool k, float[2,8] x) => (float[2,8] y, float[2,8] z) {CONSTANTS} {{ {FORMULA} z = If(k)<
        then_branch = p () => (float[2,8] r) {{ r = Neg(b) }},
        else_branch = q () => (float[2,8] s) {{ s = Identity(x) }}> }}"""
    assert_skipped(FuseHardSigmoid(), before=text, reason="is not only divided")


def test_ignored() -> None:
    body = FORMULA.replace("b = Clip", "[mine] b = Clip")
    assert_skipped(FuseHardSigmoid(ignore=("mine",)), before=graph(body), reason="")
