"""Pass fuse-reduce-reshape."""

from __future__ import annotations

import pytest

from edgecc.passes.fuse_reduce_reshape import FuseReduceReshape
from edgecc.testing import assert_skipped, check_pass

CONSTANTS = """<int64[1] one = {1}, int64[2] last = {2, 3}, int64[2] column = {2, 1}, int64[2] flat = {0, -1},
    int64[2] three = {-1, 3}, int64[2] row = {1, 2}, int64[1] zero = {0}>"""


def graph(body: str, signature: str) -> str:
    return f"g {signature} {CONSTANTS} {{ {body} }}"


MATRIX = "(float[2,8] x) => (float[2,1] y)"
IMAGE = "(float[N,3,4,4] x) => (float[N,3] y)"


@pytest.mark.parametrize(
    ("body", "signature", "after"),
    [
        ("m = ReduceMax<keepdims = 0>(x, one) y = Reshape(m, column)", MATRIX, "y = ReduceMax<keepdims = 1>(x, one)"),
        ("m = ReduceSum<keepdims = 0>(x, one) y = Unsqueeze(m, one)", MATRIX, "y = ReduceSum<keepdims = 1>(x, one)"),
        ("m = ReduceMean(x, last) y = Flatten(m)", IMAGE, "y = ReduceMean<keepdims = 0>(x, last)"),
        ("m = ReduceMean(x, last) y = Squeeze(m, last)", IMAGE, "y = ReduceMean<keepdims = 0>(x, last)"),
        ("m = ReduceMean(x, last) y = Reshape(m, flat)", IMAGE, "y = ReduceMean<keepdims = 0>(x, last)"),
        ("m = ReduceMean(x, last) y = Reshape(m, three)", IMAGE, "y = ReduceMean<keepdims = 0>(x, last)"),
        (
            "y = ArgMax<axis = 1, keepdims = 0>(x) z = Unsqueeze(y, one)",
            "(float[2,8] x) => (int64[2,1] z)",
            "z = ArgMax<axis = 1, keepdims = 1>(x)",
        ),
        (
            "m = ReduceMax<keepdims = 0>(x) y = Reshape(m, r)",
            "(float[8] x) => (float[1] y)",
            "y = ReduceMax<keepdims = 1>(x)",
        ),
    ],
    ids=["jax", "unsqueeze", "flatten", "squeeze", "reshape with an open batch", "torch dynamo", "argmax", "all axes"],
)
def test_forms(body: str, signature: str, after: str) -> None:
    constants = body.replace("y, r)", "y, one)").replace("(m, r)", "(m, one)")
    check_pass(FuseReduceReshape(), before=graph(constants, signature), after=graph(after, signature))


def test_name_and_origins() -> None:
    body = "[max] m = ReduceMax<keepdims = 0>(x, one) [end] y = Reshape(m, column)"
    (node,) = check_pass(FuseReduceReshape(), before=graph(body, MATRIX)).nodes()
    assert (node.name, set(node.origins)) == ("end", {"max", "end"})


def test_two_share_their_axes() -> None:
    body = """a = ReduceMax<keepdims = 0>(x, one) b = Reshape(a, column) c = ReduceMin<keepdims = 0>(x, one)
        d = Reshape(c, column) y = Sub(b, d)"""
    model = check_pass(FuseReduceReshape(), before=graph(body, MATRIX))
    assert [node.op for node in model.nodes()] == ["ReduceMax", "ReduceMin", "Sub"]


@pytest.mark.parametrize(
    ("body", "signature", "reason"),
    [
        (
            "z = ReduceMax<keepdims = 0>(x, one) y = Reshape(z, column)",
            "(float[2,8] x) => (float[2,1] y, float[2] z)",
            "'z' is used as it is too",
        ),
        (
            "m = ReduceMax<keepdims = 0>(x, one) y = Reshape(m, column) z = Neg(m)",
            "(float[2,8] x) => (float[2,1] y, float[2] z)",
            "'m' is used as it is too",
        ),
        (
            "m = ReduceMax<keepdims = 0>(x, one) y = Reshape(m, row)",
            "(float[2,8] x) => (float[1,2] y)",
            "another shape",
        ),
        (
            "m = ReduceMax<keepdims = 0>(x, a) y = Reshape(m, column)",
            "(float[2,8] x, int64[1] a) => (float[2,1] y)",
            "axes",
        ),
        (
            "m = ReduceMax<keepdims = 0>(x, one) y = Reshape(m, three)",
            "(float[N,8,M] x) => (float[K,3] y)",
            "another shape",
        ),
        ("y = ReduceMax(x, one)", MATRIX, ""),
        ("m = ReduceMax(x, one) y = Neg(m)", MATRIX, ""),
    ],
)
def test_left_alone(body: str, signature: str, reason: str) -> None:
    assert_skipped(FuseReduceReshape(), before=graph(body, signature), reason=reason)


def test_reader_in_a_subgraph() -> None:
    text = f"""g (bool k, float[2,8] x) => (float[2,1] z) {CONSTANTS} {{ m = ReduceMax<keepdims = 0>(x, one) z = If(k)<
        then_branch = p () => (float[2,1] r) {{ r = Reshape(m, column) }},
        else_branch = q () => (float[2,1] s) {{ s = ReduceMin(x, one) }}> }}"""
    assert_skipped(FuseReduceReshape(), before=text, reason="is in a subgraph")


def test_ignored() -> None:
    for body in (
        "[mine] m = ReduceMax<keepdims = 0>(x, one) y = Reshape(m, column)",
        "m = ReduceMax<keepdims = 0>(x, one) [mine] y = Reshape(m, column)",
    ):
        assert_skipped(FuseReduceReshape(ignore=("mine",)), before=graph(body, MATRIX), reason="")
