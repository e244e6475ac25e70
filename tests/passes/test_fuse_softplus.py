"""Pass fuse-softplus."""

from __future__ import annotations

import numpy as np
import pytest

from edgecc.model import Model
from edgecc.passes.fuse_softplus import FuseSoftplus
from edgecc.target import Target
from edgecc.testing import assert_skipped, check_pass

#: Softplus against its formula, both in float32.
ROUNDING = 1e-6

SIGNATURE = "(float[2,8] x) => (float[2,8] y)"
TWO = "(float[2,8] x) => (float[2,8] y, float[2,8] z)"
CONSTANTS = """<float zero = {0}, float one = {1}, float two = {2}, float three = {3}, float twenty = {20},
    float[8] many = {1,2,3,4,5,6,7,8}>"""
FORMULA = "a = Exp(x) b = Add(a, one) y = Log(b)"
GUARDED = "a = Softplus(x) b = Greater(x, twenty) y = Where(b, x, a)"
SCALED = "m = Mul(x, two) a = Softplus(m) d = Div(a, two) b = Greater(m, twenty) y = Where(b, x, d)"


STABLE = "m = Max(x, zero) a = Abs(x) n = Neg(a) e = Exp(n) p = Add(e, one) l = Log(p) t = Add(m, l)"
JAX = f"{STABLE} q = Equal(x, x) k = Not(q) u = Add(x, zero) y = Where(k, u, t)"


def graph(body: str, signature: str = SIGNATURE) -> str:
    return f"g {signature} {CONSTANTS} {{ {body} }}"


@pytest.mark.parametrize(
    ("body", "after"),
    [
        (FORMULA, "y = Softplus(x)"),
        (FORMULA.replace("a, one", "one, a"), "y = Softplus(x)"),
        (GUARDED, "y = Softplus(x)"),
        (JAX, "y = Softplus(x)"),
        (JAX.replace("Max(x, zero)", "Relu(x)").replace("k, u", "k, x"), "y = Softplus(x)"),
        (SCALED, "m = Mul(x, two) a = Softplus(m) y = Div(a, two)"),
    ],
    ids=["torch", "torch script's log1p", "torch dynamo", "jax", "jax, cleaned", "torch dynamo with beta"],
)
def test_forms(body: str, after: str) -> None:
    feeds = {"x": np.linspace(-20, 40, 16, dtype=np.float32).reshape(2, 8)}
    check_pass(FuseSoftplus(), before=graph(body), after=graph(after), tolerance=ROUNDING, feeds=feeds)


class Small(Target):
    name = "small"
    suffixes = (".small",)


def test_the_guard_goes_for_every_target() -> None:
    check_pass(FuseSoftplus(), before=graph(GUARDED), tolerance=ROUNDING, target=Small())


def test_jax_on_a_target_without_softplus() -> None:
    feeds = {"x": np.array([[np.nan, -100, -1, 0, 1, 100, np.inf, -np.inf]] * 2, np.float32)}
    before = graph(JAX)
    skips = ["gains nothing from Softplus"] * 2
    model = check_pass(FuseSoftplus(), before, tolerance=ROUNDING, target=Small(), feeds=feeds, skips=skips)
    assert [node.op for node in model.nodes()] == ["Max", "Abs", "Neg", "Exp", "Add", "Log", "Add"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (JAX.replace("Max(x, zero)", "Neg(x)"), "neither 'm' nor 'l' is the maximum of 'x' and zero"),
        (STABLE.replace("a = Abs(x)", "a = Abs(m)").replace("t =", "y ="), "should be the same tensor"),
        (STABLE.replace("t =", "y ="), "gains nothing from Softplus"),
    ],
)
def test_nearly_jax(body: str, reason: str) -> None:
    assert_skipped(FuseSoftplus(), before=graph(body), reason=reason, target=Small())


def test_open_shape_and_origins() -> None:
    signature = "(float[N,8] x) => (float[N,8] y)"
    body = GUARDED.replace("a = Soft", "[soft] a = Soft").replace("y = Where", "[end] y = Where")
    model = check_pass(FuseSoftplus(), before=graph(body, signature), tolerance=ROUNDING)
    (node,) = model.nodes()
    assert node.name == "end"
    assert "soft" in node.origins


def test_scaled_twice_shares_the_factor() -> None:
    again = SCALED.replace("x", "u").replace("y =", "t =").replace("m", "v").replace("a =", "c =")
    again = again.replace("(a", "(c").replace("d", "e").replace("b", "f").replace("t =", "y =")
    body = f"{SCALED.replace('y =', 'u =')} {again}"
    model = check_pass(FuseSoftplus(), before=graph(body), tolerance=ROUNDING)
    assert [node.op for node in model.nodes()] == ["Mul", "Softplus", "Div"] * 2


@pytest.mark.parametrize(
    ("body", "signature", "reason"),
    [
        (FORMULA.replace("one", "two"), SIGNATURE, "make 2, not 1"),
        (FORMULA.replace("b", "z"), TWO, "'z' is an output"),
        (FORMULA + " z = Neg(a)", TWO, "'a' is read by"),
        (GUARDED.replace("twenty", "two"), SIGNATURE, "from 2 on Softplus still differs from x in float32"),
        (GUARDED.replace("twenty", "many"), SIGNATURE, "not one number"),
        (SCALED.replace("Div(a, two)", "Div(a, three)"), SIGNATURE, "is not 'x' times 'three'"),
        (GUARDED.replace("a =", "z =").replace(", a", ", z"), TWO, "'z' is an output"),
        ("q = Equal(x, x) k = Not(q) y = Where(k, x, two)", SIGNATURE, "not from Softplus"),
        ("y = Abs(x)", SIGNATURE, ""),
        ("y = Log(x)", SIGNATURE, ""),
        ("b = Greater(x, twenty) y = Where(b, x, two)", SIGNATURE, ""),
    ],
)
def test_left_alone(body: str, signature: str, reason: str) -> None:
    assert_skipped(FuseSoftplus(), before=graph(body, signature), reason=reason)


def test_float64_needs_a_higher_threshold() -> None:
    text = "g (double[2] x) => (double[2] y) <double t = {20}> { a = Softplus(x) b = Greater(x, t) y = Where(b, x, a) }"
    assert_skipped(FuseSoftplus(), before=text, reason="from 20 on Softplus still differs from x in float64")


def test_float16() -> None:
    text = "g (float16[2,8] x) => (float16[2,8] y) { a = Softplus(x) b = Greater(x, t) y = Where(b, x, a) }"
    model = Model.from_text(text, {"t": np.array(20, np.float16)})
    check_pass(FuseSoftplus(), before=model, tolerance=2e-3)  # a float16 has eleven bits


def test_target_without_it() -> None:
    assert_skipped(FuseSoftplus(), before=graph(FORMULA), reason="gains nothing from Softplus", target=Small())


def test_reader_in_a_subgraph() -> None:
    text = f"""g (bool k, float[2,8] x) => (float[2,8] y, float[2,8] z) {CONSTANTS} {{ {FORMULA} z = If(k)<
        then_branch = p () => (float[2,8] r) {{ r = Neg(b) }},
        else_branch = q () => (float[2,8] s) {{ s = Identity(x) }}> }}"""
    assert_skipped(FuseSoftplus(), before=text, reason="'b' is read by")


def test_ignored() -> None:
    assert_skipped(FuseSoftplus(ignore=("mine",)), before=graph(FORMULA.replace("y =", "[mine] y =")), reason="")
