"""Pass fuse-hard-swish."""

from __future__ import annotations

import numpy as np
import pytest

from edgecc.model import Model
from edgecc.passes.base import PassContext
from edgecc.passes.fuse_clip import FuseClip
from edgecc.passes.fuse_hard_sigmoid import FuseHardSigmoid
from edgecc.passes.fuse_hard_swish import FuseHardSwish
from edgecc.passes.pipeline import PassPipeline
from edgecc.target import Target
from edgecc.testing import assert_skipped, check_pass

#: The factors of one element in another order, in float32.
ROUNDING = 1e-6

SIGNATURE = "(float[2,8] x) => (float[2,8] y)"
TWO = "(float[2,8] x) => (float[2,8] y, float[2,8] z)"
CONSTANTS = """<float zero = {0}, float three = {3}, float six = {6}, float sixth = {0.16666667}, float five = {5},
    float[1,1,1] six3 = {6}>"""
FORMULA = "a = Add(x, three) b = Clip(a, zero, six) c = Mul(x, b) y = Div(c, six)"


def graph(body: str, signature: str = SIGNATURE) -> str:
    return f"g {signature} {CONSTANTS} {{ {body} }}"


FORMS = [
    FORMULA,
    "a = Add(x, three) b = Clip(a, zero, six) c = Div(b, six) y = Mul(x, c)",
    "a = Add(three, x) b = Clip(a, zero, six) c = Mul(b, x) y = Mul(c, sixth)",
    "a = Add(x, three) b = Clip(a, zero, six) c = Mul(x, sixth) y = Mul(c, b)",
    "a = Add(x, three) b = Max(a, zero) c = Min(six, b) d = Mul(c, sixth) y = Mul(x, d)",
    "a = Add(x, three) b = Relu(a) c = Min(b, six) d = Mul(x, c) y = Div(d, six)",
    "a = HardSigmoid<alpha = 0.16666667, beta = 0.5>(x) y = Mul(a, x)",
]


@pytest.mark.parametrize(
    "body", FORMS, ids=["divided last", "divided first", "tf2onnx", "x halved", "extrema", "relu", "hard sigmoid"]
)
def test_forms(body: str) -> None:
    feeds = {"x": np.linspace(-5, 5, 16, dtype=np.float32).reshape(2, 8)}
    check_pass(FuseHardSwish(), before=graph(body), after=graph("y = HardSwish(x)"), tolerance=ROUNDING, feeds=feeds)


@pytest.mark.parametrize("body", FORMS)
@pytest.mark.parametrize("order", ["sigmoid first", "swish first"])
def test_composes_with_fuse_clip_and_fuse_hard_sigmoid(body: str, order: str) -> None:
    steps = [FuseClip(), FuseHardSigmoid(), FuseHardSwish()]
    model = Model.from_text(graph(body))
    for _ in range(2):
        ctx = PassContext(None, np.random.default_rng(0))
        PassPipeline(steps if order == "sigmoid first" else steps[::-1]).run(model, ctx)
    assert [node.op for node in model.nodes()] == ["HardSwish"]


def test_open_shape_and_origins() -> None:
    signature = "(float[N,8] x) => (float[N,8] y)"
    body = FORMULA.replace("y = Div", "[end] y = Div").replace("b = Clip", "[clip] b = Clip")
    model = check_pass(FuseHardSwish(), before=graph(body, signature), tolerance=ROUNDING)
    (node,) = model.nodes()
    assert node.name == "end"
    assert "clip" in node.origins


@pytest.mark.parametrize(
    ("body", "signature", "reason"),
    [
        (FORMULA.replace("Div(c, six)", "Div(c, five)"), SIGNATURE, "make 0.2, not 0.166667"),
        (
            FORMULA.replace("Mul(x, b)", "Mul(w, b)"),
            "(float[2,8] x, float[2,8] w) => (float[2,8] y)",
            "the same tensor",
        ),
        (FORMULA.replace("c =", "z =").replace("(c", "(z"), TWO, "make 1, not 0.166667"),
        (FORMULA + " z = Neg(b)", TWO, "'b' is read by"),
        (FORMULA.replace("Div(c, six)", "Div(c, six3)"), "(float[2,8] x) => (float[1,2,8] y)", "shape"),
        ("a = HardSigmoid(x) y = Mul(a, x)", SIGNATURE, "has alpha 0.2 and beta 0.5"),
        ("a = HardSigmoid(x) y = Mul(a, w)", "(float[2,8] x, float[2,8] w) => (float[2,8] y)", ""),
        ("y = HardSigmoid(x)", SIGNATURE, ""),
        ("y = Clip(x, zero, six)", SIGNATURE, ""),
    ],
)
def test_left_alone(body: str, signature: str, reason: str) -> None:
    assert_skipped(FuseHardSwish(), before=graph(body, signature), reason=reason)


def test_target_without_it() -> None:
    class Small(Target):
        name = "small"
        suffixes = (".small",)

    assert_skipped(FuseHardSwish(), before=graph(FORMULA), reason="gains nothing", target=Small())


def test_float64() -> None:
    text = """g (double[2] x) => (double[2] y) <double three = {3}, double zero = {0}, double six = {6}>
        { a = Add(x, three) b = Clip(a, zero, six) c = Mul(x, b) y = Div(c, six) }"""
    assert_skipped(FuseHardSwish(), before=text, reason="computes in float64")


def test_reader_in_a_subgraph() -> None:
    text = f"""g (bool k, float[2,8] x) => (float[2,8] y, float[2,8] z) {CONSTANTS} {{ {FORMULA} z = If(k)<
        then_branch = p () => (float[2,8] r) {{ r = Neg(b) }},
        else_branch = q () => (float[2,8] s) {{ s = Identity(x) }}> }}"""
    assert_skipped(FuseHardSwish(), before=text, reason="'b' is read by")


def test_ignored() -> None:
    body = FORMULA.replace("b = Clip", "[mine] b = Clip")
    assert_skipped(FuseHardSwish(ignore=("mine",)), before=graph(body), reason="")
