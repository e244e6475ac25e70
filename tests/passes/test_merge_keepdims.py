from __future__ import annotations

import pytest

from edgecc.passes.merge_keepdims import MergeKeepdims
from edgecc.testing import assert_skipped, check_pass

MERGE = MergeKeepdims()
CONSTANTS = """<int64[2] k = {2, 3}, int64[1] one = {1}, int64[1] two = {2}, int64[2] flat = {2, 3},
    int64[4] full = {2, 3, 1, 1}, int64[2] ends = {-1, -2}>"""


def graph(body: str, shape: str, out: str, dtype: str = "float") -> str:
    return f"g (float[{shape}] x) => ({dtype}[{out}] y) {CONSTANTS} {{ {body} }}"


@pytest.mark.parametrize(
    ("body", "out", "after", "dtype"),
    [
        (
            "a = ReduceMean<keepdims = 0>(x, k) y = Unsqueeze(a, k)",
            "2,3,1,1",
            "y = ReduceMean<keepdims=1>(x, k)",
            "float",
        ),
        (
            "a = ReduceSum<keepdims = 0>(x, k) y = Reshape(a, full)",
            "2,3,1,1",
            "y = ReduceSum<keepdims=1>(x, k)",
            "float",
        ),
        ("a = ReduceMax(x, k) y = Squeeze(a, k)", "2,3", "y = ReduceMax<keepdims=0>(x, k)", "float"),
        ("a = ReduceMax(x, k) y = Reshape(a, flat)", "2,3", "y = ReduceMax<keepdims=0>(x, k)", "float"),
        ("a = ReduceMean(x, k) y = Flatten(a)", "2,3", "y = ReduceMean<keepdims=0>(x, k)", "float"),
        ("a = ArgMax<axis = 1>(x) y = Squeeze(a, one)", "2,4,5", "y = ArgMax<axis = 1, keepdims=0>(x)", "int64"),
    ],
)
def test_reader(body: str, out: str, after: str, dtype: str) -> None:
    check_pass(MERGE, graph(body, "2,3,4,5", out, dtype), graph(after, "2,3,4,5", out, dtype))


def test_open_dimensions() -> None:
    check_pass(
        MERGE,
        graph("a = ReduceMean<keepdims = 0>(x, k) y = Unsqueeze(a, k)", "N,3,H,W", "N,3,1,1"),
        graph("y = ReduceMean<keepdims = 1>(x, k)", "N,3,H,W", "N,3,1,1"),
    )


def test_axes_added_before() -> None:
    """torch's dynamo exporter of a one-dimensional average pool."""
    model = check_pass(
        MERGE,
        graph("a = Unsqueeze(x, two) b = ReduceMean(a, ends) y = Reshape(b, flat)", "2,3,5", "2,3"),
    )
    assert [node.op for node in model.nodes()] == ["ReduceMean"]
    assert model.nodes()[0].attrs["keepdims"] == 0


@pytest.mark.parametrize(
    ("body", "out", "reason"),
    [
        ("a = ReduceMean<keepdims = 0>(x, two) y = Unsqueeze(a, one)", "2,1,3,5", "not [2, 3, 1, 5]"),
        ("a = ReduceMean(x, k) y = Flatten<axis = 0>(a)", "1,6", "makes [1, 6] of it, not [2, 3]"),
        ("a = ReduceMean(x, k) b = Flatten(a) c = Relu(a) d = Relu(b) e = Flatten(c) y = Add(d, e)", "2,3", "used as"),
        ("a = GlobalAveragePool(x) y = Flatten(a)", "2,3", ""),
    ],
)
def test_left_alone(body: str, out: str, reason: str) -> None:
    assert_skipped(MERGE, graph(body, "2,3,4,5", out), reason=reason)


def test_output_and_subgraph_stay() -> None:
    text = graph("a = ReduceMax(x, k) y = Squeeze(a, k)", "2,3,4,5", "2,3").replace(
        "float[2,3] y", "float[2,3] y, float[2,3,1,1] a"
    )
    assert_skipped(MERGE, text, reason="used as it is too")
    text = f"""g (bool c, float[2,3,4,5] x) => (float[2,3] y) {CONSTANTS} {{ a = ReduceMax(x, k) y = If(c)<
        then_branch = t () => (float[2,3] p) {{ p = Squeeze(a, k) }},
        else_branch = e () => (float[2,3] q) {{ q = ReduceMin<keepdims = 0>(x, k) }}> }}"""
    assert_skipped(MERGE, text, reason="is in a subgraph")


def test_origins_and_ignored() -> None:
    text = graph("[one] a = ReduceMax(x, k) [two] y = Squeeze(a, k)", "2,3,4,5", "2,3")
    (node,) = check_pass(MERGE, text).nodes()
    assert (node.name, node.origins) == ("one", ("one", "two"))
    assert_skipped(MergeKeepdims(ignore=("two",)), text, reason="")


SIZES = """<int64[1] one = {1}, int64[2] last = {2, 3}, int64[2] column = {2, 1}, int64[2] flat = {0, -1},
    int64[2] three = {-1, 3}, int64[2] row = {1, 2}, int64[1] zero = {0}>"""


def sized(body: str, signature: str) -> str:
    return f"g {signature} {SIZES} {{ {body} }}"


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
def test_what_jax_and_torch_write(body: str, signature: str, after: str) -> None:
    constants = body.replace("y, r)", "y, one)").replace("(m, r)", "(m, one)")
    check_pass(MERGE, before=sized(constants, signature), after=sized(after, signature))


def test_name_and_origins() -> None:
    body = "[max] m = ReduceMax<keepdims = 0>(x, one) [end] y = Reshape(m, column)"
    (node,) = check_pass(MERGE, before=sized(body, MATRIX)).nodes()
    assert (node.name, set(node.origins)) == ("max", {"max", "end"})


def test_two_share_their_axes() -> None:
    body = """a = ReduceMax<keepdims = 0>(x, one) b = Reshape(a, column) c = ReduceMin<keepdims = 0>(x, one)
        d = Reshape(c, column) y = Sub(b, d)"""
    model = check_pass(MERGE, before=sized(body, MATRIX))
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
            "makes [",
        ),
        (
            "m = ReduceMax<keepdims = 0>(x, a) y = Reshape(m, column)",
            "(float[2,8] x, int64[1] a) => (float[2,1] y)",
            "axes",
        ),
        (
            "m = ReduceMax<keepdims = 0>(x, one) y = Reshape(m, three)",
            "(float[N,8,M] x) => (float[K,3] y)",
            "makes [",
        ),
        ("y = ReduceMax(x, one)", MATRIX, ""),
        ("m = ReduceMax(x, one) y = Neg(m)", MATRIX, ""),
    ],
)
def test_what_stays_has_a_reason(body: str, signature: str, reason: str) -> None:
    assert_skipped(MERGE, before=sized(body, signature), reason=reason)


def test_reader_in_a_subsized() -> None:
    text = f"""g (bool k, float[2,8] x) => (float[2,1] z) {SIZES} {{ m = ReduceMax<keepdims = 0>(x, one) z = If(k)<
        then_branch = p () => (float[2,1] r) {{ r = Reshape(m, column) }},
        else_branch = q () => (float[2,1] s) {{ s = ReduceMin(x, one) }}> }}"""
    assert_skipped(MERGE, before=text, reason="is in a subgraph")


def test_ignored() -> None:
    for body in (
        "[mine] m = ReduceMax<keepdims = 0>(x, one) y = Reshape(m, column)",
        "m = ReduceMax<keepdims = 0>(x, one) [mine] y = Reshape(m, column)",
    ):
        assert_skipped(MergeKeepdims(ignore=("mine",)), before=sized(body, MATRIX), reason="")
