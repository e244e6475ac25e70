from __future__ import annotations

import pytest

from edgecc.passes.eliminate_expand import EliminateExpand
from edgecc.testing import assert_skipped, check_pass

ELIMINATE = EliminateExpand()
CONSTANTS = """<int64[3] s = {2, 3, 4}, int64[3] r = {2, 3, 1}, int64[3] t = {1, 2, 1}, float one = {1},
    float two = {2}, int64[3] m = {2, 4, 4}>"""
SIGNATURE = "(float[2,3,4] x, float[4] v) => (float[2,3,4] y)"


def graph(body: str, signature: str = SIGNATURE) -> str:
    return f"g {signature} {CONSTANTS} {{ {body} }}"


@pytest.mark.parametrize(
    ("body", "after"),
    [
        ("a = Expand(v, s) y = Add(x, a)", "y = Add(x, v)"),
        ("a = Expand(v, s) b = Neg(a) y = Mul(x, b)", "b = Neg(v) y = Mul(x, b)"),
        (
            "a = Expand(v, s) b = Greater(a, one) c = Where(b, one, two) y = Mul(x, c)",
            "b = Greater(v, one) c = Where(b, one, two) y = Mul(x, c)",
        ),
        (
            "a = Expand(v, s) b = Neg(a) c = Abs(a) d = Add(b, c) y = Mul(x, d)",
            "b = Neg(v) c = Abs(v) d = Add(b, c) y = Mul(x, d)",
        ),
    ],
    ids=["elementwise", "in between", "distilbert's mask", "two ways"],
)
def test_elementwise(body: str, after: str) -> None:
    check_pass(ELIMINATE, graph(body), graph(after))


def test_tile_of_axes_of_size_one() -> None:
    signature = "(float[2,3,4] x, float[1,1,4] v) => (float[2,3,4] y)"
    check_pass(ELIMINATE, graph("a = Tile(v, r) y = Add(x, a)", signature), graph("y = Add(x, v)", signature))
    signature = "(float[2,6,4] x, float[1,3,4] v) => (float[2,6,4] y)"
    assert_skipped(ELIMINATE, graph("a = Tile(v, t) y = Add(x, a)", signature), reason="")


def test_batch_axes_of_a_matrix_product() -> None:
    signature = "(float[2,3,4] x, float[1,4,4] v) => (float[2,3,4] y)"
    check_pass(ELIMINATE, graph("a = Expand(v, m) y = MatMul(x, a)", signature), graph("y = MatMul(x, v)", signature))
    signature = "(float[2,3,4] x, float[1,1,4] v) => (float[2,3,4] y)"
    assert_skipped(
        ELIMINATE, graph("a = Expand(v, m) y = MatMul(x, a)", signature), reason="(MatMul) does not broadcast 'a'"
    )


def test_open_dimensions() -> None:
    signature = "(float[N,3,4] x, float[4] v, int64[3] k) => (float[N,3,4] y)"
    text = "h = Shape(x) a = Expand(v, h) y = Add(x, a)"
    check_pass(ELIMINATE, graph(text, signature), graph("y = Add(x, v)", signature))


@pytest.mark.parametrize(
    ("body", "signature", "reason"),
    [
        (
            "a = Expand(v, s) y = Concat<axis = 0>(a, x)",
            "(float[2,3,4] x, float[4] v) => (float[4,3,4] y)",
            "(Concat) does not broadcast 'a'",
        ),
        ("a = Expand(v, s) y = Neg(a)", "(float[4] v) => (float[2,3,4] y)", "would be smaller"),
        (
            "a = Expand(v, s) y = Add(x, a)",
            "(float[2,3,4] x, float[4] v) => (float[2,3,4] y, float[2,3,4] a)",
            "'a' is an output of the model",
        ),
        (
            "a = Expand(v, s) b = Add(x, a) y = ReduceSum(a)",
            "(float[2,3,4] x, float[4] v) => (float[2,3,4] b, float[1,1,1] y)",
            "(ReduceSum) does not broadcast 'a'",
        ),
        (
            "a = Expand(v, k) y = Add(x, a)",
            "(float[1,3,4] x, float[4] v, int64[3] k) => (float[A,3,4] y)",
            "would be smaller",
        ),
    ],
    ids=["concat", "smaller output", "output", "one of two", "computed shape"],
)
def test_left_alone(body: str, signature: str, reason: str) -> None:
    assert_skipped(ELIMINATE, graph(body, signature), reason=reason)


def test_subgraph_and_ignored() -> None:
    text = f"""g (bool c, float[2,3,4] x, float[4] v) => (float[2,3,4] y, float[2,3,4] z) {CONSTANTS} {{
        a = Expand(v, s) y = Add(x, a) z = If(c)<
            then_branch = t () => (float[2,3,4] p) {{ p = Neg(a) }},
            else_branch = e () => (float[2,3,4] q) {{ q = Abs(a) }}> }}"""
    assert_skipped(ELIMINATE, text, reason="in a subgraph reads 'a'")
    text = graph("[mine] a = Expand(v, s) y = Add(x, a)")
    assert_skipped(EliminateExpand(ignore=("mine",)), text, reason="")


def test_tensor_without_axes() -> None:
    before = graph("a = Expand(v, s) b = Neg(a) y = Add(x, b)", "(float[2,3,4] x, float v) => (float[2,3,4] y)")
    after = graph("b = Neg(v) y = Add(x, b)", "(float[2,3,4] x, float v) => (float[2,3,4] y)")
    check_pass(ELIMINATE, before=before, after=after)


PAIR = "(float[2,1] n, float[2,8] x) => (float[2,8] y)"
TWO = "(float[2,1] n, float[2,8] x) => (float[2,8] y, float[2,8] z)"
OPEN = "(float[N,8] x) => (float[N,8] y)"
NORMALIZE = "<int64[1] axis = {1}, int64[2] whole = {2, 8}, float eps = {1e-12}>"


@pytest.mark.parametrize(
    ("body", "signature", "after"),
    [
        (
            "r = ReduceL2(x, axis) c = Clip(r, eps) s = Shape(x) e = Expand(c, s) y = Div(x, e)",
            OPEN,
            "r = ReduceL2(x, axis) c = Clip(r, eps) y = Div(x, c)",
        ),
        ("e = Expand(n, whole) y = Sub(e, x)", PAIR, "y = Sub(n, x)"),
        ("e = Expand(n, whole) b = Less(x, e) y = Where(b, x, e)", PAIR, "b = Less(x, n) y = Where(b, x, n)"),
        ("e = Expand(n, whole) z = Mul(x, e) y = Add(e, x)", TWO, "z = Mul(x, n) y = Add(n, x)"),
    ],
    ids=["torch's normalize", "first operand", "read twice", "two readers"],
)
def test_what_normalizing_leaves(body: str, signature: str, after: str) -> None:
    def text(nodes: str) -> str:
        return f"g {signature} {NORMALIZE} {{ {nodes} }}"

    check_pass(ELIMINATE, before=text(body), after=text(after))
