"""Pass fuse-softmax."""

from __future__ import annotations

import numpy as np
import pytest

from edgecc.passes.fuse_softmax import FuseSoftmax
from edgecc.target import Target
from edgecc.testing import assert_skipped, check_pass

#: Sums of eight float32 exponentials; their logarithms are as large as the greatest input.
ROUNDING = 1e-6

SIGNATURE = "(float[2,3,8] x) => (float[2,3,8] y)"
TWO = "(float[2,3,8] x) => (float[2,3,8] y, float[2,3,8] z)"
CONSTANTS = "<int64[1] last = {-1}, int64[1] third = {2}, int64[1] channels = {1}, int64[2] both = {1, 2}>"
SOFTMAX = "m = ReduceMax(x, last) d = Sub(x, m) e = Exp(d) s = ReduceSum(e, last) y = Div(e, s)"
LOG_SOFTMAX = "m = ReduceMax(x, last) d = Sub(x, m) e = Exp(d) s = ReduceSum(e, last) l = Log(s) y = Sub(d, l)"


def graph(body: str, signature: str = SIGNATURE) -> str:
    return f"g {signature} {CONSTANTS} {{ {body} }}"


@pytest.mark.parametrize(
    ("body", "after"),
    [
        (SOFTMAX, "y = Softmax<axis = -1>(x)"),
        (SOFTMAX.replace("Sum(e, last", "Sum(e, third"), "y = Softmax<axis = -1>(x)"),
        (SOFTMAX.replace("y = Div(e, s)", "r = Reciprocal(s) y = Mul(r, e)"), "y = Softmax<axis = -1>(x)"),
        (SOFTMAX.replace("last", "channels"), "y = Softmax<axis = 1>(x)"),
        (LOG_SOFTMAX, "y = LogSoftmax<axis = -1>(x)"),
        ("s = ReduceLogSumExp(x, last) y = Sub(x, s)", "y = LogSoftmax<axis = -1>(x)"),
        ("s = Softmax<axis = 1>(x) y = Log(s)", "y = LogSoftmax<axis = 1>(x)"),
        (SOFTMAX.replace("y =", "p =") + " y = Log(p)", "y = LogSoftmax<axis = -1>(x)"),
    ],
    ids=[
        *("torch", "axes said differently", "reciprocal", "another axis", "jax's log_softmax", "x - logsumexp"),
        *("log of softmax", "log of a written out one"),
    ],
)
def test_forms(body: str, after: str) -> None:
    check_pass(FuseSoftmax(), before=graph(body), after=graph(after), tolerance=ROUNDING)


def test_large_values() -> None:
    feeds = {"x": np.linspace(-90, 90, 48, dtype=np.float32).reshape(2, 3, 8)}
    check_pass(FuseSoftmax(), before=graph(SOFTMAX), tolerance=ROUNDING, feeds=feeds)


def test_open_shape_and_origins() -> None:
    signature = "(float[N,T,8] x) => (float[N,T,8] y)"
    body = SOFTMAX.replace("e = Exp", "[exp] e = Exp").replace("y = Div", "[end] y = Div")
    model = check_pass(FuseSoftmax(), before=graph(body, signature), tolerance=ROUNDING)
    (node,) = model.nodes()
    assert node.name == "end"
    assert "exp" in node.origins


def test_float16() -> None:
    text = f"g (float16[2,3,8] x) => (float16[2,3,8] y) {CONSTANTS} {{ {SOFTMAX} }}"
    check_pass(FuseSoftmax(), before=text, tolerance=4e-3)  # a float16 has eleven bits


@pytest.mark.parametrize(
    ("body", "signature", "reason"),
    [
        ("e = Exp(x) s = ReduceSum(e, last) y = Div(e, s)", SIGNATURE, "no maximum is subtracted from 'x'"),
        ("e = Exp(x) s = ReduceSum(e, last) l = Log(s) y = Sub(x, l)", SIGNATURE, "no maximum is subtracted from 'x'"),
        (SOFTMAX.replace("Max(x, last", "Max(x, channels"), SIGNATURE, "over different axes"),
        (SOFTMAX.replace("last", "both"), SIGNATURE, "reduces over more than one axis"),
        (
            SOFTMAX.replace("Sub(x, m)", "Sub(w, m)"),
            "(float[2,3,8] x, float[2,3,8] w) => (float[2,3,8] y)",
            "same tensor",
        ),
        (SOFTMAX + " z = Neg(e)", TWO, "'e' is read by"),
        (SOFTMAX.replace("d =", "z =").replace("(d", "(z"), TWO, "'z' is an output"),
        ("z = Softmax(x) y = Log(z)", TWO, "'z' is an output"),
        ("y = Exp(x)", SIGNATURE, ""),
        ("y = Log(x)", SIGNATURE, ""),
    ],
)
def test_left_alone(body: str, signature: str, reason: str) -> None:
    assert_skipped(FuseSoftmax(), before=graph(body, signature), reason=reason)


def test_dropped_axis() -> None:
    signature = "(float[8,8] x) => (float[8,8] y)"
    body = SOFTMAX.replace("ReduceMax(", "ReduceMax<keepdims = 0>(")
    assert_skipped(FuseSoftmax(), before=graph(body, signature), reason="drops the axis")


class Small(Target):
    name = "small"
    suffixes = (".small",)


class Logs(Small):
    fused = frozenset({"LogSoftmax"})


@pytest.mark.parametrize(
    "body", [LOG_SOFTMAX, "s = Softmax(x) y = Log(s)", "s = ReduceLogSumExp(x, last) y = Sub(x, s)"]
)
def test_target_without_log_softmax(body: str) -> None:
    assert_skipped(FuseSoftmax(), before=graph(body), reason="gains nothing from LogSoftmax", target=Small())
    check_pass(FuseSoftmax(), before=graph(body), tolerance=ROUNDING, target=Logs())
    other = body.replace("last", "channels")
    if other != body:
        assert_skipped(FuseSoftmax(), before=graph(other), reason="along axis 1, which is not the last", target=Logs())


def test_float16_summed_in_float32() -> None:
    body = """m = ReduceMax(x, last) d = Sub(x, m) e = Exp(d) w = Cast<to = 1>(e) t = ReduceSum(w, last)
        s = Cast<to = 10>(t) y = Div(e, s)"""
    text = f"g (float16[2,3,8] x) => (float16[2,3,8] y) {CONSTANTS} {{ {body} }}"
    model = check_pass(FuseSoftmax(), before=text, tolerance=4e-3)  # a float16 has eleven bits
    assert [node.op for node in model.nodes()] == ["Softmax"]


def test_target_that_transposes() -> None:
    body = SOFTMAX.replace("last", "channels")
    assert_skipped(FuseSoftmax(), before=graph(body), reason="along axis 1, which is not the last", target=Small())
    check_pass(FuseSoftmax(), before=graph(SOFTMAX), tolerance=ROUNDING, target=Small())
    column = "(float[2,8,1] x) => (float[2,8,1] y)"
    check_pass(FuseSoftmax(), before=graph(body, column), tolerance=ROUNDING, target=Small())


def test_reader_in_a_subgraph() -> None:
    text = f"""g (bool k, float[2,3,8] x) => (float[2,3,8] y, float[2,3,8] z) {CONSTANTS} {{ {SOFTMAX} z = If(k)<
        then_branch = p () => (float[2,3,8] r) {{ r = Neg(e) }},
        else_branch = q () => (float[2,3,8] t) {{ t = Identity(x) }}> }}"""
    assert_skipped(FuseSoftmax(), before=text, reason="'e' is read by")


def test_two_share_their_axes() -> None:
    again = "n = ReduceMax(u, last) f = Sub(u, n) h = Exp(f) v = ReduceSum(h, last) y = Div(h, v)"
    model = check_pass(FuseSoftmax(), before=graph(f"{SOFTMAX.replace('y =', 'u =')} {again}"), tolerance=ROUNDING)
    assert [node.op for node in model.nodes()] == ["Softmax", "Softmax"]


def test_ignored() -> None:
    body = SOFTMAX.replace("e = Exp", "[mine] e = Exp")
    assert_skipped(FuseSoftmax(ignore=("mine",)), before=graph(body), reason="")
