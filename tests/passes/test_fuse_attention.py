"""Pass fuse-attention."""

from __future__ import annotations

import numpy as np
import pytest

from edgecc.model import Model
from edgecc.passes.fuse_attention import FuseAttention
from edgecc.target import Target
from edgecc.testing import assert_skipped, check_pass

#: Products of 8 and sums of 6 values, in float32 in another order.
ROUNDING = 1e-5
#: float16 has 11 bits, and the scores are rounded to them.
HALF_ROUNDING = 1e-2

SIGNATURE = "(float[2,3,4,8] q, float[2,3,6,8] k, float[2,3,6,5] v{}) => (float[2,3,4,5] y)"
CONSTANTS = """<float root = {0.5946035575}, float scale = {0.3535533905932738}, float divisor = {2.8284271247461903},
    int64[3] flat = {-1, 6, 8}, int64[4] apart = {2, 3, 8, 6}>"""
AFTER = "y = Attention<scale = 0.35355338>(q, k, v{})"
CAUSAL = np.tril(np.ones((4, 6), bool), 2)
TURN = "t = Transpose<perm = [0, 1, 3, 2]>(k)"
END = "w = Softmax<axis = -1>(a) y = MatMul(w, v)"
PLAIN = f"{TURN} p = MatMul(q, t) a = Div(p, divisor) {END}"


def graph(
    body: str, more: str = "", signature: str = SIGNATURE, constants: str = CONSTANTS, **weights: np.ndarray
) -> Model:
    weights = {"minus_infinity": np.array(-np.inf, np.float32), **weights}
    return Model.from_text(f"g {signature.format(more)} {constants} {{ {body} }}", weights)


@pytest.mark.parametrize(
    "body",
    [
        PLAIN,
        f"{TURN} p = MatMul(q, t) a = Mul(scale, p) {END}",
        f"{TURN} s = Mul(q, scale) a = MatMul(s, t) {END}",
        f"{TURN} s = Div(q, divisor) a = MatMul(s, t) {END}",
        f"{TURN} s = Mul(q, root) r = Mul(t, root) a = MatMul(s, r) {END}",
        f"s = Mul(q, root) r = Mul(k, root) {TURN.replace('(k)', '(r)')} a = MatMul(s, t) {END}",
        f"""s = Mul(q, root) f = Reshape(k, flat) g = Transpose<perm = [0, 2, 1]>(f) h = Reshape(g, apart)
            r = Mul(h, root) a = MatMul(s, r) {END}""",
    ],
    ids=["divided product", "product", "q", "divided q", "torch script", "k before it is turned", "torch dynamo"],
)
def test_scales(body: str) -> None:
    model = check_pass(FuseAttention(), graph(body), tolerance=ROUNDING)
    (node,) = model.nodes()
    assert node.op == "Attention"
    assert node.attrs["scale"] == pytest.approx(8**-0.5, rel=1e-6)
    assert [tensor.name for tensor in node.inputs] == ["q", "k", "v"]


def test_keys_turned_together_with_heads() -> None:
    signature = "(float[2,3,4,8] q, float[2,6,3,8] k, float[2,3,6,5] v) => (float[2,3,4,5] y)"
    body = f"t = Transpose<perm = [0, 2, 3, 1]>(k) a = MatMul(q, t) {END}"
    after = "h = Transpose<perm = [0, 2, 1, 3]>(k) y = Attention<scale = 1.0>(q, h, v)"
    before = graph(body, signature=signature)
    model = check_pass(FuseAttention(), before, graph(after, signature=signature, constants=""), tolerance=ROUNDING)
    assert model.nodes("Transpose")[0].origins


def test_keys_with_merged_heads() -> None:
    signature = "(float[2,3,4,8] q, float[6,6,8] k, float[2,3,6,5] v) => (float[2,3,4,5] y)"
    body = f"""g = Transpose<perm = [0, 2, 1]>(k) h = Reshape(g, apart) r = Mul(h, root) s = Mul(q, root)
        a = MatMul(s, r) {END}"""
    model = check_pass(FuseAttention(), graph(body, signature=signature), tolerance=ROUNDING)
    assert [node.op for node in model.nodes()] == ["Reshape", "Attention"]


def test_keys_with_merged_heads_turned_in_one() -> None:
    signature = "(float[2,3,4,8] q, float[6,6,8] k, float[2,3,6,5] v) => (float[2,3,4,5] y)"
    body = f"""g = Transpose<perm = [1, 2, 0]>(k) h = Reshape(g, apart) s = Mul(q, scale) a = MatMul(s, h) {END}"""
    model = check_pass(FuseAttention(), graph(body, signature=signature), tolerance=ROUNDING)
    assert [node.op for node in model.nodes()] == ["Transpose", "Reshape", "Attention"]


@pytest.mark.parametrize("shape", ["4,6", "1,1,4,6", "3,4,6", "2,3,4,6"])
def test_added_mask(shape: str) -> None:
    body = PLAIN.replace("Softmax<axis = -1>(a)", "Softmax<axis = -1>(b)").replace("w =", "b = Add(mask, a) w =")
    before = graph(body, f", float[{shape}] mask")
    model = check_pass(FuseAttention(), before, tolerance=ROUNDING)
    assert model.nodes()[0].inputs[3].name == "mask"


@pytest.mark.parametrize("choice", ["Where(kept, a, minus_infinity)", "Where(dropped, minus_infinity, a)"])
def test_constant_choice(choice: str) -> None:
    body = PLAIN.replace("Softmax<axis = -1>(a)", "Softmax<axis = -1>(b)").replace("w =", f"b = {choice} w =")
    model = check_pass(FuseAttention(), graph(body, kept=CAUSAL, dropped=~CAUSAL[None]), tolerance=ROUNDING)
    np.testing.assert_array_equal(model.nodes()[0].inputs[3].values.reshape(4, 6), CAUSAL)


def test_open_batch() -> None:
    signature = "(float[N,3,S,8] q, float[N,3,S,8] k, float[N,3,S,8] v) => (float[N,3,S,8] y)"
    check_pass(FuseAttention(), graph(PLAIN, signature=signature), tolerance=ROUNDING)


def test_float16() -> None:
    signature = SIGNATURE.replace("float", "float16")
    divisor = np.array(2.828, np.float16)
    before = graph(PLAIN, signature=signature, constants="", divisor=divisor)
    check_pass(FuseAttention(), before, tolerance=HALF_ROUNDING)


def test_constants_shared_by_two() -> None:
    body = PLAIN.replace("y =", "z =") + " " + PLAIN.replace("(q", "(q2")
    for name in ("t", "p", "a", "w"):
        head, tail = body[: len(PLAIN)], body[len(PLAIN) :]
        body = head + tail.replace(f" {name} =", f" {name}2 =").replace(f"({name})", f"({name}2)").replace(
            f"({name},", f"({name}2,"
        ).replace(f", {name})", f", {name}2)")
    signature = SIGNATURE.format(", float[2,3,4,8] q2").replace("y)", "y, float[2,3,4,5] z)")
    model = check_pass(FuseAttention(), graph(body, signature=signature), tolerance=ROUNDING)
    assert [node.op for node in model.nodes()] == ["Attention", "Attention"]


@pytest.mark.parametrize(
    ("body", "more", "reason"),
    [
        (PLAIN.replace("axis = -1", "axis = 2"), "", "is not over the last axis"),
        (PLAIN.replace("divisor", "negative"), "", "the scale -0.5 is not positive"),
        (PLAIN.replace("divisor", "heads"), "", "the constant 'heads' has 3 elements, not one"),
        (
            PLAIN.replace("a = Div(p, divisor)", "a = Add(p, m)"),
            ", float[2,1,1,6] m",
            "does not have one value per row",
        ),
        (PLAIN.replace("a = Div(p, divisor)", "a = Where(m, p, minus_infinity)"), ", bool[4,6] m", "is computed by"),
        (PLAIN.replace("a = Div(p, divisor)", "a = Where(none, p, minus_infinity)"), "", "forbids a whole row"),
        (PLAIN.replace("a = Div(p, divisor)", "a = Add(p, lowest)"), "", "forbids a whole row"),
        (PLAIN.replace("a = Div(p, divisor)", "a = Where(some, p, divisor)"), "", "does not forbid what"),
        (PLAIN.replace("t = Transpose<perm = [0, 1, 3, 2]>(k)", "t = Reshape(k, apart)"), "", "not from Transpose"),
        (PLAIN.replace("MatMul(w, v)", "MatMul(w, o)"), ", float[1,3,6,5] o", "are not known to be the same"),
    ],
    ids=[
        "another axis",
        "negative scale",
        "scale per head",
        "mask of columns",
        "computed choice",
        "empty row",
        "added empty row",
        "mask that adds",
        "keys not turned",
        "broadcast values",
    ],
)
def test_left_alone(body: str, more: str, reason: str) -> None:
    weights = {
        "negative": np.array(-2, np.float32),
        "heads": np.ones((3, 1, 1), np.float32),
        "none": np.zeros((4, 6), bool),
        "lowest": np.full((4, 6), -np.inf, np.float32),
        "some": CAUSAL,
    }
    assert_skipped(FuseAttention(), graph(body, more, **weights), reason=reason)


@pytest.mark.parametrize(
    ("output", "body", "reason"),
    [
        ("float[2,3,4,6] w", PLAIN, "'w' is an output of the model"),
        ("float[2,3,8,6] z", PLAIN + " z = Neg(t)", "'t' is read by"),
    ],
)
def test_inner_tensors_are_needed(output: str, body: str, reason: str) -> None:
    signature = SIGNATURE.replace("y)", f"y, {output})")
    assert_skipped(FuseAttention(), graph(body, signature=signature), reason=reason)


@pytest.mark.parametrize("shape", [(2, 1, 4, 6), (1, 3, 4, 6), (5, 6)], ids=["batch", "heads", "rows"])
def test_choice_that_broadcasts_the_scores(shape: tuple[int, ...]) -> None:
    rows = 1 if shape == (5, 6) else 4
    signature = f"(float[1,1,{rows},8] q, float[1,1,6,8] k, float[1,1,6,5] v) => (float[A,B,C,5] y)"
    body = PLAIN.replace("a = Div(p, divisor)", "a = Where(kept, p, minus_infinity)")
    before = graph(body, signature=signature, kept=np.ones(shape, bool))
    assert_skipped(FuseAttention(), before, reason="the mask 'kept' broadcasts the scores to another shape")


def test_scale_of_more_axes() -> None:
    signature = SIGNATURE.replace("float[2,3,4,5] y", "float[1,2,3,4,5] y")
    body = PLAIN.replace("divisor", "five_axes")
    before = graph(body, signature=signature, five_axes=np.full((1,) * 5, 2, np.float32))
    assert_skipped(FuseAttention(), before, reason="does not have the axes batch, heads, rows and features")


def test_three_axes() -> None:
    signature = "(float[3,4,8] q, float[3,6,8] k, float[3,6,5] v) => (float[3,4,5] y)"
    before = graph(PLAIN.replace("[0, 1, 3, 2]", "[0, 2, 1]"), signature=signature)
    assert_skipped(FuseAttention(), before, reason="'q' does not have the axes batch, heads, rows and features")


def test_a_classifier_is_no_candidate() -> None:
    signature = "(float[2,3,4,8] q) => (float[2,3,4,8] y)"
    assert_skipped(FuseAttention(), graph("y = Softmax(q)", signature=signature, constants=""), reason="")


def test_target_without_it() -> None:
    class Small(Target):
        name = "small"
        suffixes = (".small",)

    assert_skipped(FuseAttention(), graph(PLAIN), reason="gains nothing", target=Small())


def test_ignored_and_subgraphs() -> None:
    before = graph(PLAIN.replace("w = Softmax", "[mine] w = Softmax"))
    assert_skipped(FuseAttention(ignore=("mine",)), before, reason="")
    text = f"""y = If(c)< then_branch = f () => (float[2,3,4,5] z) {{ {PLAIN.replace("y =", "z =")} }},
        else_branch = o () => (float[2,3,4,5] r) {{ r = Identity(e) }}>"""
    assert_skipped(FuseAttention(), graph(text, ", float[2,3,4,5] e, bool c"), reason="")


def test_reader_in_a_subgraph() -> None:
    text = f"""{PLAIN} z = If(c)< then_branch = f () => (float[2,3,4,6] r) {{ r = Neg(w) }},
        else_branch = o () => (float[2,3,4,6] s) {{ s = Neg(p) }}>"""
    signature = SIGNATURE.replace("y)", "y, float[2,3,4,6] z)")
    assert_skipped(FuseAttention(), graph(text, ", bool c", signature), reason="is read by")
