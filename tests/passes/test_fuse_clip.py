"""Pass fuse-clip."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecc.model import Model
from edgecc.passes.fuse_clip import FuseClip
from edgecc.testing import assert_skipped, check_contract, check_pass

#: Comparisons alone: nothing rounds, zeros may change their sign.
EQUAL = 0.0

SIGNATURE = "(float[2,8] x) => (float[2,8] y)"
CONSTANTS = """<float zero = {0}, float one = {1}, float five = {0.5}, float six = {6}, float[1] six1 = {6},
    float[1,1,1] six3 = {6}, float greatest = {3.4028235e38}, float[8] eight = {1, 2, 3, 4, 5, 6, 7, 8}>"""

INFINITE = {"low": np.array(-np.inf, np.float32), "high": np.array(np.inf, np.float32)}


def graph(body: str, signature: str = SIGNATURE) -> str:
    return f"g {signature} {CONSTANTS} {{ {body} }}"


@pytest.mark.parametrize(
    ("body", "after"),
    [
        ("y = Max(x, zero)", "y = Relu(x)"),
        ("y = Max(zero, x)", "y = Relu(x)"),
        ("y = Clip(x, zero)", "y = Relu(x)"),
        ("y = Clip(x, zero, greatest)", "y = Relu(x)"),
        ("y = Min(x, six1)", "y = Clip(x, , six)"),
        ("a = Max(x, zero) y = Min(a, six)", "y = Clip(x, zero, six)"),
        ("a = Min(six, x) y = Max(zero, a)", "y = Clip(x, zero, six)"),
        ("a = Relu(x) y = Min(a, six)", "y = Clip(x, zero, six)"),
        ("a = Clip(x, zero) y = Clip(a, , six)", "y = Clip(x, zero, six)"),
        ("a = Clip(x, zero, six) y = Relu(a)", "y = Clip(x, zero, six)"),
        ("a = Relu(x) y = Relu(a)", "y = Relu(x)"),
        ("a = Clip(x, zero, six) b = Clip(a, five, one) y = Relu(b)", "y = Clip(x, five, one)"),
        ("c = LessOrEqual(x, zero) y = Where(c, zero, x)", "y = Relu(x)"),
        ("c = Less(x, five) a = Where(c, five, x) y = Min(a, one)", "y = Clip(x, five, one)"),
        ("a = Clip(x) y = Neg(a)", "y = Neg(x)"),
    ],
    ids=[
        "torch dynamo's clamp(min=0)",
        "constant first",
        "torch script's clamp(min=0)",
        "greatest number",
        "constant with an axis",
        "torch script's minimum(maximum)",
        "jax",
        "relu6",
        "torch script's clamp(min=0).clamp(max=6)",
        "relu of relu6",
        "relu twice",
        "three",
        "threshold",
        "threshold and minimum",
        "no bounds",
    ],
)
def test_forms(body: str, after: str) -> None:
    check_pass(FuseClip(), before=graph(body), after=graph(after), tolerance=EQUAL)


@pytest.mark.parametrize(
    "body",
    [
        "a = Max(low, x)",
        "a = Max(x, low)",
        "a = Min(high, x)",
        "c = LessOrEqual(x, low) a = Where(c, low, x)",
        "b = Max(low, x) a = Min(high, b)",
    ],
    ids=["constant first", "constant last", "minimum", "threshold", "two"],
)
def test_infinite_bounds_limit_nothing(body: str) -> None:
    before = Model.from_text(f"g {SIGNATURE} {{ {body} y = Neg(a) }}", INFINITE)
    check_pass(FuseClip(), before=before, after=f"g {SIGNATURE} {{ y = Neg(x) }}", tolerance=EQUAL)


@pytest.mark.parametrize(
    ("body", "value"),
    [("a = Max(x, high)", "inf"), ("a = Min(x, low)", "-inf"), ("a = Clip(x, high)", "inf")],
)
def test_infinity_everywhere_is_no_limit(body: str, value: str) -> None:
    before = Model.from_text(f"g {SIGNATURE} {{ {body} y = Neg(a) }}", INFINITE)
    assert_skipped(FuseClip(), before=before, reason=f"it makes every value {value}")


def test_disjoint_limits_leave_one_value() -> None:
    model = check_pass(FuseClip(), before=graph("a = Max(x, one) y = Clip(a, zero, five)"), tolerance=EQUAL)
    assert [node.op for node in model.nodes()] == ["Clip"]


def test_open_shape() -> None:
    signature = "(float[N,8] x) => (float[N,8] y)"
    after = graph("y = Clip(x, zero, six)", signature)
    check_pass(FuseClip(), before=graph("a = Max(x, zero) y = Min(a, six)", signature), after=after, tolerance=EQUAL)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_types(dtype: type) -> None:
    name = np.dtype(dtype).name.replace("64", "").replace("float", "double") if dtype is np.float64 else "float16"
    constants = {"zero": np.array(0, dtype), "six": np.array(6, dtype)}
    text = f"g ({name}[2,8] x) => ({name}[2,8] y) {{ a = Max(x, zero) y = Min(a, six) }}"
    model = check_pass(FuseClip(), before=Model.from_text(text, constants), tolerance=EQUAL)
    assert [node.op for node in model.nodes()] == ["Clip"]


def test_what_is_not_a_number_stays_so() -> None:
    values = np.array([[np.nan, -1, 7, 0.5, np.inf, -np.inf, 0, 6]] * 2, np.float32)
    feeds = {"x": values}
    check_pass(FuseClip(), before=graph("a = Max(x, zero) y = Min(a, six)"), tolerance=EQUAL, feeds=feeds)


def test_bounds_are_read_again() -> None:
    body = "a = Max(x, zero) b = Min(a, six) c = Neg(b) d = Max(c, zero) y = Min(d, six)"
    model = check_pass(FuseClip(), before=graph(body), tolerance=EQUAL)
    assert [node.op for node in model.nodes()] == ["Clip", "Neg", "Clip"]
    assert sorted(constant.name for constant in model.constants()) == ["six", "zero"]


def test_names_and_origins() -> None:
    model = check_pass(FuseClip(), before=graph("[low] a = Max(x, zero) [high] y = Min(a, six)"), tolerance=EQUAL)
    (node,) = model.nodes()
    assert (node.name, set(node.origins)) == ("high", {"low", "high"})


TWO = "(float[2,8] x) => (float[2,8] y, float[2,8] z)"


@pytest.mark.parametrize(
    ("body", "signature", "reason"),
    [
        ("z = Relu(x) y = Clip(z, , six)", TWO, "'z', which is limited too, is an output"),
        ("a = Relu(x) y = Clip(a, , six) z = Neg(a)", TWO, "'a', which is limited too, is read by"),
        ("y = Clip(x, six, one)", SIGNATURE, "lower bound 6 is not below its upper bound 1"),
        ("y = Clip(x, low)", "(float[2,8] x, float low) => (float[2,8] y)", "'low' is computed"),
        ("y = Max(x, eight)", SIGNATURE, "'eight' has 8 elements"),
        ("y = Min(x, six3)", "(float[2,8] x) => (float[1,2,8] y)", "to another shape"),
        ("y = Clip(x)", SIGNATURE, "must keep their names"),
        ("y = Max(x, z)", "(float[2,8] x, float[2,8] z) => (float[2,8] y)", ""),
        ("c = Greater(x, zero) y = Where(c, x, zero)", SIGNATURE, ""),
        ("y = Clip(x, zero, six)", SIGNATURE, ""),
        ("y = Relu(x)", SIGNATURE, ""),
    ],
    ids=[
        *("inner output", "inner reader", "crossed bounds", "computed bound", "per channel", "broadcast"),
        *("names", "two tensors", "not a number becomes zero", "Clip", "Relu"),
    ],
)
def test_left_alone(body: str, signature: str, reason: str) -> None:
    assert_skipped(FuseClip(), before=graph(body, signature), reason=reason)


def test_integers_are_left_alone() -> None:
    text = "g (int64[2] x) => (int64[2] y) <int64 zero = {0}> { y = Max(x, zero) }"
    assert_skipped(FuseClip(), before=text, reason="")


def test_reader_in_a_subgraph() -> None:
    text = f"""g (bool k, float[2,8] x) => (float[2,8] y, float[2,8] z) {CONSTANTS} {{ a = Relu(x) y = Clip(a, , six)
        z = If(k)<then_branch = p () => (float[2,8] r) {{ r = Max(a, one) }},
        else_branch = q () => (float[2,8] s) {{ s = Identity(x) }}> }}"""
    assert_skipped(FuseClip(), before=text, reason="'a', which is limited too, is read by")


def test_ignored() -> None:
    body = "[mine] a = Max(x, zero) y = Clip(a, , six)"
    assert_skipped(FuseClip(ignore=("mine",)), before=graph(body), reason="")


_BOUND = st.sampled_from(["zero", "one", "five", "six", ""])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["Relu", "Max", "Min", "Clip"]), _BOUND, _BOUND), min_size=1, max_size=5))
def test_random_chains(steps: list[tuple[str, str, str]]) -> None:
    body, last = "", "x"
    for index, (op, first, second) in enumerate(steps):
        operands = {"Relu": last, "Clip": f"{last}, {first}, {second}"}.get(op, f"{last}, {first or 'one'}")
        body += f"t{index} = {op}({operands.rstrip(', ')}) "
        last = f"t{index}"
    check_contract(FuseClip(), graph(f"{body} y = Neg({last})"), tolerance=EQUAL)
