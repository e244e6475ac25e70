from __future__ import annotations

import numpy as np
import pytest

from edgecc.errors import OptionError
from edgecc.model import Model
from edgecc.passes.base import PassContext
from edgecc.passes.eliminate_identity import EliminateIdentity
from edgecc.passes.pipeline import PassPipeline
from edgecc.testing import assert_skipped, check_pass

RELU = "g (float[2,3] x) => (float[2,3] y) { y = Relu(x) }"


def around(body: str, shape: str = "2,3", constants: str = "") -> str:
    """`body` makes `n` of `x`, and a Relu reads it."""
    held = f"<{constants}>" if constants else ""
    return f"g (float[{shape}] x) => (float[{shape}] y) {held} {{ {body} y = Relu(n) }}"


@pytest.mark.parametrize(
    ("body", "constants"),
    [
        ("n = Identity(x)", ""),
        ("n = Dropout(x)", ""),
        ("n, mask = Dropout(x)", ""),
        ("n = Dropout(x, r, t)", "float r = {0.5}, bool t = {0}"),
        ("n = Cast<to=1>(x)", ""),
        ("n = Transpose<perm=[0, 1]>(x)", ""),
        ("n = Reshape(x, s)", "int64[2] s = {2, 3}"),
        ("n = Reshape(x, s)", "int64[2] s = {0, -1}"),
        ("n = Flatten(x)", ""),
        ("n = Squeeze(x)", ""),
        ("n = Expand(x, s)", "int64[2] s = {1, 3}"),
        ("n = Tile(x, s)", "int64[2] s = {1, 1}"),
        ("n = Pad(x, p)", "int64[4] p = {0, 0, 0, 0}"),
        ('n = Pad<mode="reflect">(x, p)', "int64[4] p = {0, 0, 0, 0}"),
        ("n = Concat<axis=1>(x)", ""),
        ("n = Split<num_outputs=1>(x)", ""),
        ("n = Slice(x, b, e)", "int64[2] b = {0, 0}, int64[2] e = {2, 3}"),
        ("n = Slice(x, b, e, a, s)", "int64[1] b = {0}, int64[1] e = {9}, int64[1] a = {1}, int64[1] s = {1}"),
        ("n = Sum(x)", ""),
        ("n = Max(x)", ""),
        ("n = Mean(x)", ""),
        ("n = Mul(x, c)", "float c = {1}"),
        ("n = Div(x, c)", "float[3] c = {1, 1, 1}"),
        ("n = Sub(x, c)", "float[1] c = {0}"),
        ("a = Identity(x) b = Identity(a) n = Dropout(b)", ""),
        ("n = Mul(c, x)", "float c = {1}"),
        ("n = Pow(x, c)", "float c = {1}"),
        ("n = Pow(x, c)", "int64 c = {1}"),
        ("n = Mul(x, c)", "float[1,1] c = {1}"),
        ("n = Gather<axis=1>(x, i)", "int64[3] i = {0, 1, -1}"),
        ("n = Where(c, x, o)", "bool[3] c = {1, 1, 1}, float o = {7}"),
        ("n = Where(c, o, x)", "bool c = {0}, float o = {7}"),
        ("a = Neg(x) n = Neg(a)", ""),
    ],
)
def test_node_that_changes_nothing_goes(body: str, constants: str) -> None:
    check_pass(EliminateIdentity(), around(body, constants=constants), RELU)


@pytest.mark.parametrize(
    ("body", "shape", "constants"),
    [
        ("n = Transpose<perm=[1, 0]>(x)", "3,3", ""),
        ("n = Slice(x, b, e, a, s)", "4,3", "int64[1] b={-1}, int64[1] e={-9}, int64[1] a={0}, int64[1] s={-1}"),
        ("n = Mul(x, c)", "2,3", "float[3] c = {1, 1, 2}"),
        # -0.0 - (-0.0) is 0.0
        ("n = Sub(x, c)", "2,3", "float c = {-0.0}"),
        ("n = Dropout(x, r, t)", "2,3", "float r = {0.5}, bool t = {1}"),
        ("n = Concat<axis=0>(a, a)", "2,3", "float[1,3] a = {1, 2, 3}"),
        ("n = Gather<axis=1>(x, i)", "2,3", "int64[3] i = {0, 2, 1}"),
        ("n = Gather<axis=0>(x, i)", "2,3", "int64[2] i = {0, 0}"),
        ("n = Where(c, x, o)", "2,3", "bool[3] c = {1, 0, 1}, float o = {7}"),
        ("n = Pow(x, c)", "2,3", "float c = {2}"),
        # The sum of one -0.0 is 0.0.
        ("n = ReduceSum(x, k)", "1,3", "int64[1] k = {0}"),
    ],
)
def test_node_that_changes_something_stays(body: str, shape: str, constants: str) -> None:
    assert_skipped(EliminateIdentity(), around(body, shape, constants), "")


def test_multiplication_that_broadcasts_stays() -> None:
    text = "g (float[1,3] x) => (float[2,3] y) <float[2,1] c = {1, 1}> { y = Mul(x, c) }"
    assert_skipped(EliminateIdentity(), text, "")


def test_multiplication_that_adds_an_axis_stays() -> None:
    text = "g (float[2,3] x) => (float[1,2,3] y) <float[1,1,1] c = {1}> { a = Mul(x, c) y = Relu(a) }"
    assert_skipped(EliminateIdentity(), text, "")


def test_one_element_keeps_any_shape_of_as_many_axes() -> None:
    text = """g (float[N,M] x, int64[2] s) => (float[P,Q] y) <float[1] c = {1}> {
        a = Reshape(x, s) b = Mul(a, c) y = Relu(b) }"""
    model = check_pass(EliminateIdentity(), text, feeds={"x": np.ones((2, 3), np.float32), "s": np.array([3, 2])})
    assert [node.op for node in model.nodes()] == ["Reshape", "Relu"]


def test_transpose_that_moves_only_axes_of_size_one_goes() -> None:
    check_pass(
        EliminateIdentity(),
        "g (float[1,1,5] x) => (float[1,1,5] y) { t = Transpose<perm=[1, 0, 2]>(x) y = Relu(t) }",
        "g (float[1,1,5] x) => (float[1,1,5] y) { y = Relu(x) }",
    )


def test_transpose_that_moves_a_one_past_another_axis_stays() -> None:
    assert_skipped(
        EliminateIdentity(), "g (float[1,5,1] x) => (float[5,1,1] y) { y = Transpose<perm=[1, 0, 2]>(x) }", ""
    )


def test_model_output_keeps_its_name() -> None:
    check_pass(
        EliminateIdentity(),
        "g (float[2,3] x) => (float[2,3] y) { r = Relu(x) y = Identity(r) }",
        RELU,
    )


def test_output_that_others_read_keeps_its_readers() -> None:
    check_pass(
        EliminateIdentity(),
        "g (float[2] x) => (float[2] y, float[2] z) { r = Relu(x) y = Identity(r) a = Neg(r) z = Mul(a, y) }",
        "g (float[2] x) => (float[2] y, float[2] z) { y = Relu(x) a = Neg(y) z = Mul(a, y) }",
    )


def test_input_straight_to_output_stays() -> None:
    assert_skipped(
        EliminateIdentity(),
        "g (float[2] x) => (float[2] y) { y = Identity(x) }",
        "'x' and 'y' must both keep their names",
    )


def test_one_value_under_two_output_names_stays_once() -> None:
    check_pass(
        EliminateIdentity(),
        "g (float[2] x) => (float[2] y, float[2] z) { r = Relu(x) y = Identity(r) z = Identity(r) }",
        "g (float[2] x) => (float[2] y, float[2] z) { y = Relu(x) z = Identity(y) }",
        skips=["'y' and 'z' must both keep their names"],
    )


def test_constant_that_is_an_output_stays() -> None:
    assert_skipped(
        EliminateIdentity(),
        "g (float[2] x) => (float[2] y, float[2] z) <float[2] c = {1, 2}> { y = Relu(x) z = Identity(c) }",
        "'c' and 'z' must both keep their names",
    )


def test_mask_of_dropout_becomes_ones() -> None:
    check_pass(
        EliminateIdentity(),
        "g (float[2] x) => (bool[2] y) { d, m = Dropout(x) a = Cast<to=9>(d) y = And(a, m) }",
        "g (float[2] x) => (bool[2] y) <bool[2] m = {1, 1}> { a = Cast<to=9>(x) y = And(a, m) }",
    )


@pytest.mark.parametrize(
    "text",
    [
        "g (float[2] x) => (float[2] y, bool[2] m) { y, m = Dropout(x) }",
        "g (float[N] x) => (bool[N] y) { d, m = Dropout(x) a = Cast<to=9>(d) y = And(a, m) }",
    ],
)
def test_mask_that_cannot_be_replaced_keeps_dropout(text: str) -> None:
    reason = "must both keep" if "bool[2] m" in text else "its mask 'm' is read"
    assert_skipped(EliminateIdentity(), text, reason)


def test_mask_that_is_an_output_keeps_dropout() -> None:
    assert_skipped(
        EliminateIdentity(),
        "g (float[2] x) => (float[2] y, bool[2] m) { d, m = Dropout(x) y = Relu(d) }",
        "its mask 'm' is read",
    )


@pytest.mark.parametrize(
    ("node", "constants"),
    [
        ("Reshape(x, s)", "<int64[3] s = {-1, 3, 4}>"),
        ("Reshape(x, s)", "<int64[3] s = {0, 0, 0}>"),
        ("Slice(x, b, e)", "<int64[2] b = {0, 0}, int64[2] e = {9223372036854775807, 2147483647}>"),
        ("Transpose<perm=[0, 1, 2]>(x)", ""),
        ("Concat<axis=0>(x)", ""),
        ("Pad(x, p)", "<int64[6] p = {0, 0, 0, 0, 0, 0}>"),
    ],
)
def test_open_dimension(node: str, constants: str) -> None:
    check_pass(
        EliminateIdentity(),
        f"g (float[N,3,4] x) => (float[N,3,4] y) {constants} {{ n = {node} y = Relu(n) }}",
        "g (float[N,3,4] x) => (float[N,3,4] y) { y = Relu(x) }",
    )


def test_reshape_of_two_open_dimensions_stays() -> None:
    assert_skipped(
        EliminateIdentity(),
        "g (float[N,M] x, int64[2] s) => (float[A,B] y) { r = Reshape(x, s) y = Relu(r) }",
        "",
    )


def test_reader_in_a_subgraph() -> None:
    check_pass(
        EliminateIdentity(),
        """g (float[2] x, bool c) => (float[2] y) {
            n = Identity(x)
            y = If (c) <then_branch = t () => (float[2] a) { a = Relu(n) },
                        else_branch = e () => (float[2] b) { b = Neg(n) }>
        }""",
        """g (float[2] x, bool c) => (float[2] y) {
            y = If (c) <then_branch = t () => (float[2] a) { a = Relu(x) },
                        else_branch = e () => (float[2] b) { b = Neg(x) }>
        }""",
    )


def test_nodes_of_a_subgraph_are_left_alone() -> None:
    assert_skipped(
        EliminateIdentity(),
        """g (float[2] x, bool c) => (float[2] y) {
            y = If (c) <then_branch = t () => (float[2] a) { a = Identity(x) },
                        else_branch = e () => (float[2] b) { b = Neg(x) }>
        }""",
        "",
    )


def test_ignored_node_stays() -> None:
    model = check_pass(
        EliminateIdentity(ignore=("Identity_0",)),
        "g (float[2] x) => (float[2] y) { a = Identity(x) b = Identity(a) y = Relu(b) }",
        "g (float[2] x) => (float[2] y) { a = Identity(x) y = Relu(a) }",
    )
    assert [node.name for node in model.nodes()] == ["Identity_0", "Relu_2"]


def test_ignore_pattern_that_matches_nothing() -> None:
    with pytest.raises(OptionError, match="pattern 'nothing' of option 'ignore' matches no node"):
        PassPipeline([EliminateIdentity(ignore=("nothing",))]).run(
            Model.from_text(RELU), PassContext(None, np.random.default_rng(0))
        )


def test_concat_leaves_out_what_has_no_elements() -> None:
    check_pass(
        EliminateIdentity(),
        "g (float[2,3] x, float[2,0] e, float[2,1] z) => (float[2,4] y) { y = Concat<axis=1>(x, e, z, e) }",
        "g (float[2,3] x, float[2,0] e, float[2,1] z) => (float[2,4] y) { y = Concat<axis=1>(x, z) }",
    )


def test_a_piece_without_elements_goes_through() -> None:
    check_pass(
        EliminateIdentity(),
        """g (float[2,3] x) => (float[2,3] y) <int64[2] n = {3, 0}> {
            a, b = Split<axis=1>(x, n) c = Relu(a) y = Concat<axis=1>(c, b) }""",
        "g (float[2,3] x) => (float[2,3] y) { y = Relu(x) }",
    )


def test_a_piece_without_elements_that_is_read_stays() -> None:
    text = """g (float[2,3] x) => (float[2,3] y, float[2,0] z) <int64[2] n = {3, 0}> {
        a, b = Split<axis=1>(x, n) y = Relu(a) z = Relu(b) }"""
    assert_skipped(EliminateIdentity(), text, reason="")


def test_concat_of_nothing_stays() -> None:
    text = "g (float[2,0] x, float[2,0] z) => (float[2,0] y) { y = Concat<axis=1>(x, z) }"
    assert_skipped(EliminateIdentity(), text, reason="")


@pytest.mark.parametrize(
    ("body", "constants"),
    [
        ("n = ReduceMax(x, k)", "int64[1] k = {1}"),
        ("n = ReduceMin<noop_with_empty_axes=1>(x)", ""),
        ("n = MaxPool<kernel_shape=[1, 1]>(x)", ""),
        ("n = Resize(x, , r)", "float[4] r = {1, 1, 1, 1}"),
        ('n = Resize<mode="linear">(x, , , s)', "int64[4] s = {2, 1, 3, 4}"),
    ],
)
def test_images(body: str, constants: str) -> None:
    check_pass(EliminateIdentity(), around(body, "2,1,3,4", constants), around("", "2,1,3,4").replace("(n)", "(x)"))


@pytest.mark.parametrize("op", ["Abs", "Ceil", "Floor", "Relu", "Round", "Sign"])
def test_done_twice(op: str) -> None:
    check_pass(
        EliminateIdentity(),
        f"g (float[2,3] x) => (float[2,3] y) {{ a = {op}(x) b = {op}(a) y = Exp(b) }}",
        f"g (float[2,3] x) => (float[2,3] y) {{ a = {op}(x) y = Exp(a) }}",
    )


def test_negated_twice_with_another_reader() -> None:
    check_pass(
        EliminateIdentity(),
        "g (bool[2] x) => (bool[2] y, bool[2] z) { a = Not(x) b = Not(a) y = And(a, b) z = Not(a) }",
        "g (bool[2] x) => (bool[2] y, bool[2] z) { a = Not(x) y = And(a, x) z = Not(a) }",
        skips=["'x' and 'z' must both keep their names"],
    )
    text = "g (bool[2] x) => (bool[2] y) { [mine] a = Not(x) b = Not(a) y = Or(b, x) }"
    assert_skipped(EliminateIdentity(ignore=("mine",)), text, "")


def test_scale_that_rounds_to_the_same_size_stays() -> None:
    text = around("n = Resize(x, , r)", "2,1,3,4", "float[4] r = {1, 1, 1, 1.1}")
    assert_skipped(EliminateIdentity(), text, "")
