"""Pass fuse-gelu."""

from __future__ import annotations

import numpy as np
import pytest

from edgecc.model import Model
from edgecc.passes.fuse_gelu import FuseGelu
from edgecc.target import Target
from edgecc.testing import assert_skipped, check_pass

#: Gelu against its formula, both in float32.
ROUNDING = 1e-6

AFTER = 'g (float[2,8] x) => (float[2,8] y) { y = Gelu<approximate = "none">(x) }'
CONSTANTS = """<float root = {1.4142135381698608}, float inverse = {0.7071067690849304}, float one = {1},
    float half = {0.5}, float two = {2}>"""


def graph(body: str, signature: str = "(float[2,8] x) => (float[2,8] y)", constants: str = CONSTANTS) -> str:
    return f"g {signature} {constants} {{ {body} }}"


@pytest.mark.parametrize(
    "body",
    [
        "a = Div(x, root) b = Erf(a) c = Add(b, one) d = Mul(x, c) y = Mul(d, half)",
        "a = Div(x, root) b = Erf(a) c = Add(one, b) d = Mul(x, half) y = Mul(c, d)",
        "a = Mul(inverse, x) b = Erf(a) c = Add(b, one) d = Mul(half, c) y = Mul(x, d)",
        "a = Div(x, root) b = Erf(a) c = Add(b, one) d = Mul(c, x) y = Div(d, two)",
        "a = Mul(x, half) b = Mul(a, root) c = Erf(b) d = Add(c, one) e = Mul(x, d) y = Mul(e, half)",
        "a = Neg(x) b = Mul(a, inverse) c = Erf(b) d = Sub(one, c) e = Mul(half, x) y = Mul(e, d)",
        "a = Mul(x, inverse) b = Neg(a) c = Erf(b) d = Sub(one, c) e = Mul(half, x) y = Mul(e, d)",
        "a = Div(x, root) b = Erf(a) c = Sum(one, b) d = Mul(half, x) y = Mul(d, c)",
    ],
    ids=[
        *("torch script", "torch dynamo", "tf2onnx", "halved by division", "scaled in two steps", "jax"),
        *("negated later", "onnx's function"),
    ],
)
def test_exact_forms(body: str) -> None:
    check_pass(FuseGelu(), before=graph(body), after=AFTER, tolerance=ROUNDING)


@pytest.mark.parametrize(
    "cube",
    [
        "c = Pow(x, three) p = Mul(c, small) s = Add(x, p) t = Mul(s, root)",
        "q = Mul(x, x) c = Mul(q, x) p = Mul(small, c) s = Add(p, x) t = Mul(root, s)",
        "c = Mul(x, x) p = Mul(c, small) s = Add(p, one) u = Mul(x, s) t = Mul(u, root)",
        "c = Mul(x, x) p = Mul(c, small) s = Add(one, p) u = Mul(x, root) t = Mul(u, s)",
        "c = Pow(x, three) p = Mul(small, c) s = Sum(x, p) t = Mul(root, s)",
    ],
    ids=["power", "product", "factored", "factored, scaled first", "onnx's function"],
)
def test_tanh_forms(cube: str) -> None:
    constants = """<float three = {3}, float small = {0.044715}, float root = {0.7978845834732056}, float one = {1},
        float half = {0.5}>"""
    check_pass(
        FuseGelu(),
        before=graph(f"{cube} h = Tanh(t) k = Add(h, one) m = Mul(x, k) y = Mul(m, half)", constants=constants),
        after='g (float[2,8] x) => (float[2,8] y) { y = Gelu<approximate = "tanh">(x) }',
        tolerance=ROUNDING,
    )


def test_float16_between_casts_and_alone() -> None:
    names = {"root": np.sqrt(2), "one": 1, "half": 0.5}
    text = f"g (float16[2,8] x) => (float16[2,8] y) {{ {FORMULA} }}"
    model = Model.from_text(text, {name: np.array(value, np.float16) for name, value in names.items()})
    # Four roundings of eleven bits each.
    assert [node.op for node in check_pass(FuseGelu(), before=model, tolerance=4e-3).nodes()] == ["Gelu"]
    text = f"""g (float16[2,8] h) => (float16[2,8] z) {{ x = Cast<to = 1>(h) {FORMULA} z = Cast<to = 10>(y) }}"""
    model = Model.from_text(text, {name: np.array(value, np.float32) for name, value in names.items()})
    assert [node.op for node in check_pass(FuseGelu(), before=model, tolerance=2e-3).nodes()] == [
        "Cast",
        "Gelu",
        "Cast",
    ]


def test_quick_gelu_is_left_alone() -> None:
    constants = "<float scale = {1.702}>"
    assert_skipped(
        FuseGelu(), before=graph("a = Mul(x, scale) s = Sigmoid(a) y = Mul(x, s)", constants=constants), reason=""
    )


FORMULA = "a = Div(x, root) b = Erf(a) c = Add(b, one) d = Mul(x, c) y = Mul(d, half)"


def test_open_shape() -> None:
    signature = "(float[N,8] x) => (float[N,8] y)"
    after = 'g (float[N,8] x) => (float[N,8] y) { y = Gelu<approximate = "none">(x) }'
    check_pass(FuseGelu(), before=graph(FORMULA, signature), after=after, tolerance=ROUNDING)


def test_constants_shared_by_two() -> None:
    body = """a = Div(x, root) b = Erf(a) c = Add(b, one) d = Mul(x, c) e = Mul(d, half)
        f = Div(e, root) g = Erf(f) h = Add(g, one) i = Mul(e, h) y = Mul(i, half)"""
    model = check_pass(FuseGelu(), before=graph(body), tolerance=ROUNDING)
    assert [node.op for node in model.nodes()] == ["Gelu", "Gelu"]


def test_new_node_has_the_place_the_name_and_the_origins() -> None:
    body = "[div] a = Div(x, root) [erf] b = Erf(a) [add] c = Add(b, one) [mul] d = Mul(x, c) [end] y = Mul(d, half)"
    model = check_pass(FuseGelu(), before=graph(body), tolerance=ROUNDING)
    (node,) = model.nodes()
    assert node.name == "end"
    assert set(node.origins) == {"div", "erf", "add", "mul", "end"}


@pytest.mark.parametrize(
    ("body", "signature", "reason"),
    [
        (FORMULA.replace("one)", "two)"), None, "make 2, not 1"),
        (FORMULA.replace("Div(x, root)", "Div(x, two)"), None, "make 0.5, not 0.707107"),
        (
            FORMULA.replace("Mul(x, c)", "Mul(z, c)"),
            "(float[2,8] x, float[2,8] z) => (float[2,8] y)",
            "the same tensor",
        ),
        (FORMULA, "(float[2,8] x) => (float[2,8] y, float[2,8] b)", "'b' is an output of the model"),
        (FORMULA + " z = Neg(c)", "(float[2,8] x) => (float[2,8] y, float[2,8] z)", "'c' is read by"),
        ("a = Div(x, root) y = Erf(a)", None, "no Div or Mul behind it ends the pattern"),
    ],
    ids=["another sum", "another scale", "two tensors", "inner output", "inner reader", "no formula"],
)
def test_left_alone(body: str, signature: str | None, reason: str) -> None:
    assert_skipped(FuseGelu(), before=graph(body, signature or "(float[2,8] x) => (float[2,8] y)"), reason=reason)


def test_broadcasting_constant() -> None:
    constants = CONSTANTS.replace("float half = {0.5}", "float[1,1,1] half = {0.5}")
    signature = "(float[2,8] x) => (float[1,2,8] y)"
    assert_skipped(FuseGelu(), before=graph(FORMULA, signature, constants), reason="to another shape")


def test_target_without_gelu() -> None:
    class Small(Target):
        name = "small"
        suffixes = (".small",)

    assert_skipped(FuseGelu(), before=graph(FORMULA), reason="gains nothing", target=Small())


def test_subgraph_is_left_alone() -> None:
    text = f"""g (bool k, float[2,8] x) => (float[2,8] y) {CONSTANTS} {{ y = If(k)<
        then_branch = p () => (float[2,8] r) {{ {FORMULA.replace("y =", "r =")} }},
        else_branch = q () => (float[2,8] s) {{ s = Identity(x) }}> }}"""
    assert_skipped(FuseGelu(), before=text, reason="")


def test_reader_in_a_subgraph() -> None:
    text = f"""g (bool k, float[2,8] x) => (float[2,8] y, float[2,8] z) {CONSTANTS} {{ {FORMULA} z = If(k)<
        then_branch = p () => (float[2,8] r) {{ r = Neg(c) }},
        else_branch = q () => (float[2,8] s) {{ s = Identity(x) }}> }}"""
    assert_skipped(FuseGelu(), before=text, reason="'c' is read by")


def test_ignored() -> None:
    body = FORMULA.replace("b = Erf", "[mine] b = Erf")
    assert_skipped(FuseGelu(ignore=("mine",)), before=graph(body), reason="")
