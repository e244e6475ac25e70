from __future__ import annotations

import pytest

from edgecc.passes.merge_slices import MergeSlices
from edgecc.testing import assert_skipped, check_pass

MERGE = MergeSlices()
NUMBERS = ", ".join(f"int64[1] n{i} = {{{i}}}" for i in range(9))
CONSTANTS = f"""{NUMBERS}, int64[1] end = {{9223372036854775807}}, int64[1] back = {{-1}}, int64[2] zeros = {{0, 0}},
    int64[2] full = {{6, 3}}, int64 first = {{0}}, int64 second = {{1}}, int64 last = {{-1}}, int64[2] flat = {{6, 4}},
    int64[3] cube = {{1, 6, 4}}"""


def graph(body: str, out: str, shape: str = "6,8", more: str = "", inputs: str = "") -> str:
    return f"g (float[{shape}] x{inputs}) => (float[{out}] y{more}) <{CONSTANTS}> {{ {body} }}"


@pytest.mark.parametrize(
    ("body", "out", "starts"),
    [
        ("a = Slice(x, n1, n4, n0) y = Slice(a, n2, end, n1)", "3,6", [1, 2]),
        ("a = Slice(x, n1, n5, n0) y = Slice(a, n1, n3, n0)", "2,8", [2]),
        ("a = Slice(x, n1, end, n1, n2) y = Slice(a, n1, end, n1, n2)", "6,2", [3]),
        ("a = Slice(x, n0, end, n0, n2) y = Slice(a, n1, end, n1, n2)", "3,4", [0, 1]),
        ("a = Slice(x, n1, n4, n0) b = Slice(a, n2, n7, n1) y = Slice(b, n1, n3, n1)", "3,2", [1, 3]),
    ],
    ids=["two axes", "one axis", "strides", "torch swin", "three"],
)
def test_slice_of_slice(body: str, out: str, starts: list[int]) -> None:
    (node,) = check_pass(MERGE, graph(body, out)).nodes()
    assert node.op == "Slice"
    assert node.inputs[1].values.tolist() == starts


def test_all_readers_of_the_first_are_slices() -> None:
    body = "a = Slice(x, n0, end, n0, n2) y = Slice(a, n0, end, n1, n2) z = Slice(a, n1, end, n1, n2)"
    model = check_pass(MERGE, graph(body, "3,4", more=", float[3,4] z"))
    assert [node.op for node in model.nodes()] == ["Slice", "Slice"]


def test_axes_that_are_taken_whole_are_left_out() -> None:
    body = "y = Slice(x, zeros, full)"
    check_pass(MERGE, graph(body, "6,3"), graph("y = Slice(x, n0, n3, n1)", "6,3"))


def test_gather_and_unsqueeze() -> None:
    check_pass(
        MERGE,
        graph("a = Gather<axis = 1>(x, second) y = Unsqueeze(a, n1)", "6,1"),
        graph("y = Slice(x, n1, n2, n1)", "6,1"),
    )
    (node,) = check_pass(MERGE, graph("a = Gather<axis = 1>(x, last) y = Unsqueeze(a, n1)", "N,1", "N,M")).nodes()
    assert node.op == "Slice"


@pytest.mark.parametrize(
    "body",
    [
        "y = Slice(x, n0, n3, n1) z = Slice(x, n3, end, n1)",
        "z = Slice(x, n3, n8, n1) y = Slice(x, n0, n3, n1)",
    ],
)
def test_slices_that_cover_the_tensor(body: str) -> None:
    check_pass(
        MERGE,
        graph(body, "6,3", more=", float[6,5] z"),
        "g (float[6,8] x) => (float[6,3] y, float[6,5] z) <int64[2] s = {3, 5}> { y, z = Split<axis = 1>(x, s) }",
    )


def test_gathers_that_cover_the_tensor() -> None:
    """torch's split of queries, keys and values."""
    body = """a = Gather(x, first) b = Gather(x, second) y = Reshape(a, flat) z = Reshape(b, cube)"""
    model = check_pass(MERGE, graph(body, "6,4", "2,4,6", ", float[1,6,4] z"))
    assert sorted(node.op for node in model.nodes()) == ["Reshape", "Reshape", "Split"]


@pytest.mark.parametrize(
    ("body", "out", "more", "reason"),
    [
        ("a = Slice(x, n1, n4, n0) y = Slice(a, n2, end, n1) z = Relu(a)", "3,6", ", float[3,8] z", "others read 'a'"),
        ("a = Slice(x, n1, n4, n0) y = Slice(a, n2, end, n1)", "3,6", ", float[3,8] a", "others read 'a'"),
        ("a = Slice(x, n0, end, n0) y = Slice(a, n2, end, n1)", "6,6", "", None),
        ("y = Slice(x, n0, n3, n1) z = Slice(x, n4, end, n1)", "6,3", ", float[6,4] z", ""),
        ("y = Slice(x, n0, n4, n1) z = Slice(x, n3, end, n1)", "6,4", ", float[6,5] z", ""),
        ("a = Gather(x, second) y = Relu(a)", "8", "", ""),
    ],
    ids=["reader", "output", "whole", "gap", "overlap", "gather"],
)
def test_left_alone(body: str, out: str, more: str, reason: str | None) -> None:
    if reason is None:
        check_pass(MERGE, graph(body, out, more=more))
        return
    assert_skipped(MERGE, graph(body, out, more=more), reason=reason)


def test_backwards_and_computed() -> None:
    body = "a = Slice(x, n1, n6, n1) y = Slice(a, back, n0, n1, back)"
    assert_skipped(MERGE, graph(body, "6,4"), reason="cannot be said as one Slice")
    body = "a = Slice(x, s, n6, n1) y = Slice(a, n1, n2, n0)"
    assert_skipped(MERGE, graph(body, "1,D", inputs=", int64[1] s"), reason="is computed")


def test_open_dimensions() -> None:
    body = "a = Slice(x, n1, end, n1) y = Slice(a, n2, n5, n1)"
    (node,) = check_pass(MERGE, graph(body, "N,K", "N,M")).nodes()
    assert [tensor.values.tolist() for tensor in node.inputs[1:]] == [[3], [6], [1]]
    body = "a = Slice(x, n1, back, n1) y = Slice(a, n2, n5, n1)"
    assert_skipped(MERGE, graph(body, "N,K", "N,M"), reason="cannot be said as one Slice")


def test_reader_in_a_subgraph_and_ignored() -> None:
    text = f"""g (bool c, float[6,8] x) => (float[3,6] y, float[3,8] z) <{CONSTANTS}> {{
        [mine] a = Slice(x, n1, n4, n0) y = Slice(a, n2, end, n1) z = If(c)<
            then_branch = t () => (float[3,8] p) {{ p = Neg(a) }},
            else_branch = e () => (float[3,8] q) {{ q = Abs(a) }}> }}"""
    assert_skipped(MERGE, text, reason="others read 'a'")
    text = graph("[mine] a = Slice(x, n1, n4, n0) y = Slice(a, n2, end, n1)", "3,6")
    assert_skipped(MergeSlices(ignore=("mine",)), text, reason="")


def test_origins() -> None:
    text = graph("[one] a = Slice(x, n1, n4, n0) [two] y = Slice(a, n2, end, n1)", "3,6")
    (node,) = check_pass(MERGE, text).nodes()
    assert (node.name, node.origins) == ("two", ("one", "two"))
    text = graph("[one] y = Slice(x, n0, n3, n1) [two] z = Slice(x, n3, end, n1)", "6,3", more=", float[6,5] z")
    (node,) = check_pass(MERGE, text).nodes()
    assert (node.name, node.origins) == ("one", ("one", "two"))
