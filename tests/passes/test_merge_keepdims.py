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
        ("a = ReduceMean(x, k) y = Flatten<axis = 0>(a)", "1,6", ""),
        ("a = ReduceMean(x, k) b = Flatten(a) c = Relu(a) d = Relu(b) e = Flatten(c) y = Add(d, e)", "2,3", ""),
        ("a = GlobalAveragePool(x) y = Flatten(a)", "2,3", ""),
    ],
)
def test_left_alone(body: str, out: str, reason: str) -> None:
    assert_skipped(MERGE, graph(body, "2,3,4,5", out), reason=reason)


def test_output_and_subgraph_stay() -> None:
    text = graph("a = ReduceMax(x, k) y = Squeeze(a, k)", "2,3,4,5", "2,3").replace(
        "float[2,3] y", "float[2,3] y, float[2,3,1,1] a"
    )
    assert_skipped(MERGE, text, reason="")
    text = f"""g (bool c, float[2,3,4,5] x) => (float[2,3] y) {CONSTANTS} {{ a = ReduceMax(x, k) y = If(c)<
        then_branch = t () => (float[2,3] p) {{ p = Squeeze(a, k) }},
        else_branch = e () => (float[2,3] q) {{ q = ReduceMin<keepdims = 0>(x, k) }}> }}"""
    assert_skipped(MERGE, text, reason="")


def test_origins_and_ignored() -> None:
    text = graph("[one] a = ReduceMax(x, k) [two] y = Squeeze(a, k)", "2,3,4,5", "2,3")
    (node,) = check_pass(MERGE, text).nodes()
    assert (node.name, node.origins) == ("one", ("one", "two"))
    assert_skipped(MergeKeepdims(ignore=("two",)), text, reason="")
