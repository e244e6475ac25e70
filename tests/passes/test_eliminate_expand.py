"""Pass eliminate-expand."""

from __future__ import annotations

import pytest

from edgecc.passes.eliminate_expand import EliminateExpand
from edgecc.testing import assert_skipped, check_pass

SIGNATURE = "(float[2,8] x) => (float[2,8] y)"
PAIR = "(float[2,1] n, float[2,8] x) => (float[2,8] y)"
TWO = "(float[2,1] n, float[2,8] x) => (float[2,8] y, float[2,8] z)"
CONSTANTS = "<int64[1] one = {1}, int64[2] whole = {2, 8}, int64[3] more = {3, 2, 8}, float eps = {1e-12}>"


def graph(body: str, signature: str = PAIR) -> str:
    return f"g {signature} {CONSTANTS} {{ {body} }}"


@pytest.mark.parametrize(
    ("body", "signature", "after"),
    [
        (
            "r = ReduceL2(x, one) c = Clip(r, eps) e = Expand(c, whole) y = Div(x, e)",
            SIGNATURE,
            "r = ReduceL2(x, one) c = Clip(r, eps) y = Div(x, c)",
        ),
        (
            "r = ReduceL2(x, one) c = Clip(r, eps) s = Shape(x) e = Expand(c, s) y = Div(x, e)",
            "(float[N,8] x) => (float[N,8] y)",
            "r = ReduceL2(x, one) c = Clip(r, eps) y = Div(x, c)",
        ),
        ("e = Expand(n, whole) y = Sub(e, x)", PAIR, "y = Sub(n, x)"),
        ("e = Expand(n, whole) b = Less(x, e) y = Where(b, x, e)", PAIR, "b = Less(x, n) y = Where(b, x, n)"),
        ("e = Expand(n, whole) z = Mul(x, e) y = Add(e, x)", TWO, "z = Mul(x, n) y = Add(n, x)"),
    ],
    ids=["torch's normalize", "open batch", "first operand", "read twice", "two readers"],
)
def test_forms(body: str, signature: str, after: str) -> None:
    check_pass(EliminateExpand(), before=graph(body, signature), after=graph(after, signature))


@pytest.mark.parametrize(
    ("body", "signature", "reason"),
    [
        ("z = Expand(n, whole) y = Add(x, z)", TWO, "'z' is an output of the model"),
        ("e = Expand(n, whole) y = Add(x, e) z = Neg(e)", TWO, "(Neg) does not broadcast"),
        ("e = Expand(n, whole) y = Add(n, e)", PAIR, "might have another shape"),
        ("e = Expand(n, more) y = Add(x, e)", "(float[2,1] n, float[2,8] x) => (float[3,2,8] y)", "might have another"),
        ("e = Expand(n, s) y = Add(x, e)", "(float[2,1] n, float[2,K] x, int64[2] s) => (float[2,M] y)", "might have"),
    ],
    ids=["output", "another reader", "nothing else is whole", "more axes", "computed shape"],
)
def test_left_alone(body: str, signature: str, reason: str) -> None:
    assert_skipped(EliminateExpand(), before=graph(body, signature), reason=reason)


def test_reader_in_a_subgraph() -> None:
    text = f"""g (bool k, float[2,1] n, float[2,8] x) => (float[2,8] y, float[2,8] z) {CONSTANTS} {{
        e = Expand(n, whole) y = Add(x, e) z = If(k)<
        then_branch = p () => (float[2,8] r) {{ r = Add(x, e) }},
        else_branch = q () => (float[2,8] s) {{ s = Identity(x) }}> }}"""
    assert_skipped(EliminateExpand(), before=text, reason="is in a subgraph")


def test_ignored() -> None:
    body = "[mine] e = Expand(n, whole) y = Add(x, e)"
    assert_skipped(EliminateExpand(ignore=("mine",)), before=graph(body), reason="")
