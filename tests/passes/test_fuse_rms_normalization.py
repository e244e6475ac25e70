"""Pass fuse-rms-normalization."""

from __future__ import annotations

import numpy as np
import pytest

from edgecc.model import Model
from edgecc.passes.fuse_rms_normalization import FuseRMSNormalization
from edgecc.target import Target
from edgecc.testing import assert_skipped, check_pass

#: A mean of 8 squares and a division, in float32 in another order.
ROUNDING = 2e-6
#: float16 has 11 bits.
HALF_ROUNDING = 4e-3

WEIGHT = np.linspace(0.5, 1.5, 8, dtype=np.float32)
CONSTANTS = """<int64[1] last = {-1}, int64[1] first = {1}, float two = {2}, float one = {1}, float eight = {0.125},
    float eps = {0.001}, float minus = {-0.5}>"""
SIGNATURE = "(float[2,3,8] x) => (float[2,3,8] y)"
HALVES = "(float16[2,3,8] x) => (float16[2,3,8] y)"
FORMULA = "q = Pow(x, two) m = ReduceMean(q, last) e = Add(m, eps) s = Sqrt(e) r = Reciprocal(s) n = Mul(x, r)"
AFTER = "y = RMSNormalization<axis = -1, epsilon = 0.001, stash_type = 1>(x, scale)"


def graph(body: str, signature: str = SIGNATURE, constants: str = CONSTANTS, **weights: np.ndarray) -> Model:
    return Model.from_text(f"g {signature} {constants} {{ {body} }}", {"scale": WEIGHT, **weights})


def scale_of(model: Model) -> np.ndarray:
    """The scale of the only node."""
    (node,) = model.nodes()
    assert node.op == "RMSNormalization"
    values: np.ndarray = node.inputs[1].values
    return values


@pytest.mark.parametrize(
    "body",
    [
        FORMULA + " y = Mul(scale, n)",
        """q = Pow(x, two) m = ReduceMean(q, last) e = Add(m, eps) s = Sqrt(e) r = Div(one, s) n = Mul(x, r)
            y = Mul(n, scale)""",
        "q = Mul(x, x) m = ReduceMean(q, last) e = Add(eps, m) s = Sqrt(e) n = Div(x, s) y = Mul(n, scale)",
        "q = Mul(x, x) m = ReduceMean(q, last) e = Add(m, eps) r = Pow(e, minus) f = Mul(r, scale) y = Mul(f, x)",
        """q = Mul(x, x) t = ReduceSum<keepdims = 0>(q, last) m = Mul(t, eight) k = Unsqueeze(m, last) e = Add(k, eps)
            s = Sqrt(e) r = Reciprocal(s) n = Mul(x, r) y = Mul(n, scale)""",
    ],
    ids=["torch dynamo", "torch script", "tf2onnx", "flax", "jax"],
)
def test_forms(body: str) -> None:
    model = check_pass(FuseRMSNormalization(), graph(body), graph(AFTER, constants=""), tolerance=ROUNDING)
    np.testing.assert_allclose(scale_of(model), WEIGHT)


def test_without_scale_and_open_dimensions() -> None:
    before = graph(FORMULA.replace("n =", "y ="), "(float[N,S,8] x) => (float[N,S,8] y)")
    model = check_pass(FuseRMSNormalization(), before, tolerance=ROUNDING)
    assert scale_of(model).tolist() == [1.0] * 8


def test_absorbs_a_division_into_a_shared_scale() -> None:
    body = """a = RMSNormalization(x, scale) b = Div(a, k) c = RMSNormalization(b, scale) y = Relu(c)"""
    before = graph(body, k=np.full((1, 8), 2, np.float32))
    model = check_pass(FuseRMSNormalization(), before, tolerance=ROUNDING)
    first, second = model.nodes("RMSNormalization")
    np.testing.assert_allclose(first.inputs[1].values, WEIGHT / 2)
    np.testing.assert_allclose(second.inputs[1].values, WEIGHT)


def test_llama_in_float16() -> None:
    body = f"""c = Cast<to = 1>(x) {FORMULA.replace("x,", "c,")} h = Cast<to = 10>(n) y = Mul(half, h)"""
    half = np.linspace(0.5, 1.5, 8, dtype=np.float16)
    model = check_pass(FuseRMSNormalization(), graph(body, HALVES, half=half), tolerance=HALF_ROUNDING)
    np.testing.assert_array_equal(scale_of(model), half)
    assert scale_of(model).dtype == np.float16


@pytest.mark.parametrize(
    ("body", "signature", "reason"),
    [
        (FORMULA.replace("last", "first") + " y = Relu(n)", SIGNATURE, "[1], which are not the last ones"),
        (
            FORMULA.replace("Pow(x", "Pow(z") + " y = Relu(n)",
            SIGNATURE.replace(" x", " x, float[2,3,8] z"),
            "same tensor",
        ),
        (FORMULA + " y = Relu(n)", SIGNATURE.replace("y)", "y, float[2,3,1] m)"), "'m' is an output of the model"),
        (FORMULA + " y = Relu(n) z = Neg(r)", SIGNATURE.replace("y)", "y, float[2,3,1] z)"), "'r' is read by"),
        (FORMULA.replace("n =", "y ="), "(float[2,3,C] x) => (float[2,3,C] y)", "are not known"),
        (FORMULA.replace("n =", "y ="), "(float[N] x) => (float[N] y)", "are not known"),
        ("n = RMSNormalization(x, scale) y = Mul(n, along)", SIGNATURE, "'along' does not broadcast like the scale"),
        ("n = RMSNormalization(x, z) y = Mul(n, scale)", SIGNATURE.replace(" x", " x, float[8] z"), "is computed"),
        (
            "c = Cast<to = 1>(x) n = RMSNormalization(c, scale) y = Cast<to = 10>(n)",
            HALVES,
            "'scale' is more precise than float16",
        ),
        (
            "q = Mul(x, x) m = ReduceSum(q, last) e = Add(m, eps) s = Sqrt(e) y = Div(x, s)",
            SIGNATURE,
            "not from ReduceMean",
        ),
        (
            "m1 = ReduceMean(x, last) d = Sub(x, m1) "
            "q = Mul(d, d) m = ReduceMean(q, last) e = Add(m, eps) s = Sqrt(e) y = Div(d, s)",
            SIGNATURE,
            "the mean of 'd' is subtracted first",
        ),
    ],
    ids=[
        "inner axis",
        "two tensors",
        "inner output",
        "inner reader",
        "open axis",
        "one open axis",
        "along tokens",
        "computed scale",
        "precise scale",
        "length",
        "layer normalization",
    ],
)
def test_left_alone(body: str, signature: str, reason: str) -> None:
    before = graph(body, signature, along=np.ones((3, 1), np.float32))
    assert_skipped(FuseRMSNormalization(), before, reason=reason)


def test_float64_is_left_alone() -> None:
    before = graph(
        FORMULA.replace("n =", "y ="), SIGNATURE.replace("float", "double"), CONSTANTS.replace("float ", "double ")
    )
    assert_skipped(FuseRMSNormalization(), before, reason="computes float64 in float32")


def test_target_without_it() -> None:
    class Small(Target):
        name = "small"
        suffixes = (".small",)

    before = graph(FORMULA.replace("n =", "y ="))
    assert_skipped(FuseRMSNormalization(), before, reason="gains nothing", target=Small())


def test_ignored_and_subgraphs() -> None:
    before = graph(FORMULA.replace("s = Sqrt", "[mine] s = Sqrt").replace("n =", "y ="))
    assert_skipped(FuseRMSNormalization(ignore=("mine",)), before, reason="")
    text = f"""y = If(k)< then_branch = p () => (float[2,3,8] n) {{ {FORMULA} }},
        else_branch = q () => (float[2,3,8] s2) {{ s2 = Identity(x) }}>"""
    assert_skipped(FuseRMSNormalization(), graph(text, "(bool k, float[2,3,8] x) => (float[2,3,8] y)"), reason="")


def test_reader_in_a_subgraph() -> None:
    text = f"""{FORMULA} y = Relu(n) z = If(k)< then_branch = p () => (float[2,3,1] a) {{ a = Neg(r) }},
        else_branch = q () => (float[2,3,1] b) {{ b = Abs(r) }}>"""
    signature = "(bool k, float[2,3,8] x) => (float[2,3,8] y, float[2,3,1] z)"
    assert_skipped(FuseRMSNormalization(), graph(text, signature), reason="'r' is read by")


def test_a_mean_that_is_turned_belongs_to_other_rows() -> None:
    """Of a square tensor: the mean keeps its axes, and a Reshape makes one row of that column."""
    body = FORMULA.replace("e = Add(m, eps)", "t = Reshape(m, row) e = Add(t, eps)").replace("n =", "y =")
    before = graph(body, "(float[8,8] x) => (float[8,8] y)", row=np.array([1, 8]))
    assert_skipped(FuseRMSNormalization(), before, reason="does not put back the axes that were reduced")
