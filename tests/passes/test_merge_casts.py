from __future__ import annotations

import pytest

from edgecc.passes.merge_casts import MergeCasts
from edgecc.testing import assert_skipped, check_pass

MERGE = MergeCasts()
CODES = {
    "float": 1,
    "uint8": 2,
    "int8": 3,
    "int32": 6,
    "int64": 7,
    "bool": 9,
    "float16": 10,
    "double": 11,
    "bfloat16": 16,
}


def two(source: str, middle: str, result: str, shape: str = "4") -> str:
    return f"""g ({source}[{shape}] x) => ({result}[{shape}] y) {{
        a = Cast<to = {CODES[middle]}>(x) b = Cast<to = {CODES[result]}>(a) y = Identity(b) }}"""


@pytest.mark.parametrize(
    ("source", "middle", "result"),
    [
        ("int8", "float", "int64"),
        ("int32", "int64", "float"),
        ("bool", "int64", "float"),
        ("bool", "float", "int32"),
        ("uint8", "float16", "float"),
        ("float16", "float", "double"),
        ("int8", "int32", "bool"),
    ],
)
def test_two_become_one(source: str, middle: str, result: str) -> None:
    check_pass(
        MERGE,
        two(source, middle, result),
        f"g ({source}[4] x) => ({result}[4] y) {{ b = Cast<to = {CODES[result]}>(x) y = Identity(b) }}",
    )


@pytest.mark.parametrize(
    ("source", "middle"), [("float16", "float"), ("float", "double"), ("int32", "int64"), ("bool", "float")]
)
def test_to_the_wider_and_back(source: str, middle: str) -> None:
    text = two(source, middle, source, "N")
    check_pass(MERGE, text, f"g ({source}[N] x) => ({source}[N] y) {{ y = Identity(x) }}")


@pytest.mark.parametrize(
    ("source", "middle", "result", "reason"),
    [
        ("float", "float16", "float", "loses values"),
        ("float", "int32", "float", "loses values"),
        ("int64", "double", "int64", "loses values"),
        ("int32", "float", "int64", "loses values"),
        ("float16", "bfloat16", "float", "loses values"),
        ("int32", "double", "int8", "values that do not fit"),
        ("float16", "float", "int8", "values that do not fit"),
        ("int8", "int32", "uint8", "values that do not fit"),
    ],
)
def test_left_alone(source: str, middle: str, result: str, reason: str) -> None:
    assert_skipped(MERGE, two(source, middle, result), reason=reason)


def test_another_reader_and_an_output_keep_the_first() -> None:
    check_pass(
        MERGE,
        "g (int8[4] x) => (int64[4] y, float[4] a) { a = Cast<to = 1>(x) y = Cast<to = 7>(a) }",
        "g (int8[4] x) => (int64[4] y, float[4] a) { a = Cast<to = 1>(x) y = Cast<to = 7>(x) }",
    )


def test_input_straight_to_output() -> None:
    check_pass(
        MERGE,
        "g (int8[4] x) => (int8[4] y) { a = Cast<to = 1>(x) y = Cast<to = 3>(a) }",
        "g (int8[4] x) => (int8[4] y) { y = Identity(x) }",
    )


def test_three_in_a_row_and_origins() -> None:
    text = """g (bool[4] x) => (int64[4] y) { [one] a = Cast<to = 6>(x) [two] b = Cast<to = 1>(a)
        [three] y = Cast<to = 7>(b) }"""
    (node,) = check_pass(MERGE, text).nodes()
    assert (node.name, node.origins) == ("three", ("one", "two", "three"))


def test_reader_in_a_subgraph_and_ignored() -> None:
    text = """g (bool c, int8[4] x) => (int64[4] y, float[4] z) { [mine] a = Cast<to = 1>(x) y = Cast<to = 7>(a)
        z = If(c)<then_branch = t () => (float[4] p) { p = Neg(a) },
                  else_branch = e () => (float[4] q) { q = Abs(a) }> }"""
    model = check_pass(MERGE, text)
    assert [node.op for node in model.nodes()].count("Cast") == 2
    assert_skipped(MergeCasts(ignore=("mine",)), text, reason="")
