"""Pass fuse-instance-normalization."""

from __future__ import annotations

import numpy as np
import pytest

from edgecc.model import Model
from edgecc.passes.fuse_group_normalization import FuseGroupNormalization
from edgecc.passes.fuse_instance_normalization import FuseInstanceNormalization
from edgecc.target import Target
from edgecc.testing import assert_skipped, check_pass

#: Means of 20 values and a division, in float32 in another order.
ROUNDING = 1e-5
#: float16 has 11 bits.
HALF_ROUNDING = 4e-3

SIGNATURE = "(float[2,3,4,5] x) => (float[2,3,4,5] y)"
CONSTANTS = "<int64[2] space = {2, 3}, float two = {2}, float eps = {0.001}>"
FORMULA = """m = ReduceMean(x, space) d = Sub(x, m) q = Pow(d, two) v = ReduceMean(q, space) e = Add(v, eps) s = Sqrt(e)
    n = Div(d, s)"""
WEIGHT = np.array([1, 2, 0.5], np.float32).reshape(3, 1, 1)
OFFSET = np.array([-1, 0, 3], np.float32).reshape(1, 3, 1, 1)


def graph(body: str, signature: str = SIGNATURE, constants: str = CONSTANTS, **weights: np.ndarray) -> Model:
    named = {"scale": WEIGHT, "bias": OFFSET, **weights}
    return Model.from_text(f"g {signature} {constants} {{ {body} }}", named)


def parts(model: Model) -> list[np.ndarray]:
    """Scale and bias of the only node."""
    (node,) = model.nodes()
    assert node.op == "InstanceNormalization"
    return [tensor.values for tensor in node.inputs[1:]]


@pytest.mark.parametrize(
    "body",
    [
        FORMULA + " w = Mul(n, scale) y = Add(w, bias)",
        """m = ReduceMean(x, space) d = Sub(x, m) q = Mul(d, d) v = ReduceMean(q, space) e = Add(v, eps) s = Sqrt(e)
            r = Reciprocal(s) f = Mul(r, scale) p = Mul(x, f) t = Mul(m, f) o = Sub(bias, t) y = Add(p, o)""",
        """m = ReduceMean(x, space) d = Sub(x, m) q = Mul(d, d) v = ReduceMean(q, space) e = Add(v, eps) s = Sqrt(e)
            r = Reciprocal(s) f = Mul(r, scale) p = Mul(d, f) y = Add(p, bias)""",
    ],
    ids=["torch", "tf2onnx", "flax"],
)
def test_forms(body: str) -> None:
    after = "y = InstanceNormalization<epsilon = 0.001>(x, scale, bias)"
    flat = {"scale": WEIGHT.reshape(-1), "bias": OFFSET.reshape(-1)}
    expected = graph(after, constants="", **flat)
    model = check_pass(FuseInstanceNormalization(), graph(body), expected, tolerance=ROUNDING)
    for found, wanted in zip(parts(model), flat.values(), strict=True):
        np.testing.assert_allclose(found, wanted)


def test_without_scale_and_with_open_dimensions() -> None:
    before = graph(FORMULA.replace("n =", "y ="), "(float[N,3,H,W] x) => (float[N,3,H,W] y)")
    scale, bias = parts(check_pass(FuseInstanceNormalization(), before, tolerance=ROUNDING))
    assert scale.tolist() == [1, 1, 1]
    assert bias.tolist() == [0, 0, 0]


def test_float16() -> None:
    before = graph(
        FORMULA.replace("n =", "y ="),
        SIGNATURE.replace("float", "float16"),
        "<int64[2] space = {2, 3}>",
        eps=np.array(0.001, np.float16),
        two=np.array(2, np.float16),
    )
    assert parts(check_pass(FuseInstanceNormalization(), before, tolerance=HALF_ROUNDING))[0].dtype == np.float16


def test_one_axis_with_constants_per_channel() -> None:
    constants = CONSTANTS.replace("int64[2] space = {2, 3}", "int64[1] space = {-1}")
    body = FORMULA + " y = Mul(n, along)"
    signature = "(float[2,3,4] x) => (float[2,3,4] y)"
    before = graph(body, signature, constants, along=WEIGHT.reshape(3, 1))
    assert parts(check_pass(FuseInstanceNormalization(), before, tolerance=ROUNDING))[0].tolist() == [1, 2, 0.5]


def test_groups_written_out() -> None:
    body = """g = Reshape(x, merged) m = ReduceMean(g, space) d = Sub(g, m) q = Pow(d, two) v = ReduceMean(q, space)
        e = Add(v, eps) s = Sqrt(e) n = Div(d, s) y = Reshape(n, apart)"""
    constants = """<int64[1] space = {-1}, float two = {2}, float eps = {0.001}, int64[3] merged = {0, 2, -1},
        int64[4] apart = {0, 4, 3, 5}>"""
    before = graph(body, "(float[2,4,3,5] x) => (float[2,4,3,5] y)", constants)
    between = check_pass(FuseInstanceNormalization(), before, tolerance=ROUNDING)
    model = check_pass(FuseGroupNormalization(), between, tolerance=ROUNDING)
    assert [node.op for node in model.nodes()] == ["GroupNormalization"]


@pytest.mark.parametrize("op", ["Mul(n, scale)", "Div(n, scale)", "Add(n, scale)", "Sub(n, scale)"])
def test_absorbs_into_a_shared_scale(op: str) -> None:
    body = f"n = InstanceNormalization(x, one, two) t = {op} y = InstanceNormalization(t, one, two)"
    ones = {"one": np.full(3, 1.5, np.float32), "two": np.full(3, 2, np.float32)}
    model = check_pass(FuseInstanceNormalization(), graph(body, **ones), tolerance=ROUNDING)
    first, second = model.nodes("InstanceNormalization")
    assert (second.inputs[1].values == 1.5).all()
    assert not (first.inputs[2].values == second.inputs[2].values).all()


@pytest.mark.parametrize(
    ("body", "signature", "reason"),
    [
        (FORMULA.replace("space", "last") + " y = Relu(n)", SIGNATURE, "the axes from 3 on"),
        (FORMULA.replace("space", "channels") + " y = Relu(n)", SIGNATURE, "[1], which are not the last ones"),
        (FORMULA + " y = Mul(n, area)", SIGNATURE, "features rather than the space of each channel"),
        (FORMULA + " y = Relu(n)", "(float[2,C,4,5] x) => (float[2,C,4,5] y)", "the number of channels of 'x'"),
        (FORMULA + " y = Relu(n)", SIGNATURE.replace("y)", "y, float[2,3,1,1] m)"), "'m' is an output"),
        (FORMULA + " y = Relu(n) z = Relu(d)", SIGNATURE.replace("y)", "y, float[2,3,4,5] z)"), "'d' is read by"),
        ("n = InstanceNormalization(x, w3, w3) y = Mul(n, area)", SIGNATURE, "'area' does not broadcast like"),
        (
            "n = InstanceNormalization(x, w3, z) y = Mul(n, scale)",
            SIGNATURE.replace("x)", "x, float[3] z)"),
            "the scale or bias of InstanceNormalization_0 (InstanceNormalization) is computed",
        ),
    ],
    ids=[
        "last axis",
        "channels",
        "constants over space",
        "open channels",
        "inner output",
        "inner reader",
        "absorbs no space",
        "computed bias",
    ],
)
def test_left_alone(body: str, signature: str, reason: str) -> None:
    constants = CONSTANTS.replace("<", "<int64[1] last = {3}, int64[1] channels = {1}, ")
    weights = {"area": np.ones((4, 5), np.float32), "w3": np.ones(3, np.float32)}
    assert_skipped(FuseInstanceNormalization(), graph(body, signature, constants, **weights), reason=reason)


def test_float64_is_left_alone() -> None:
    before = graph(
        FORMULA.replace("n =", "y ="), SIGNATURE.replace("float", "double"), CONSTANTS.replace("float ", "double ")
    )
    assert_skipped(FuseInstanceNormalization(), before, reason="no InstanceNormalization of float64")


def test_target_without_it() -> None:
    class Small(Target):
        name = "small"
        suffixes = (".small",)

    before = graph(FORMULA.replace("n =", "y ="))
    assert_skipped(FuseInstanceNormalization(), before, reason="gains nothing", target=Small())


def test_ignored_and_subgraphs() -> None:
    before = graph(FORMULA.replace("s = Sqrt", "[mine] s = Sqrt").replace("n =", "y ="))
    assert_skipped(FuseInstanceNormalization(ignore=("mine",)), before, reason="")
    text = f"""y = If(k)< then_branch = p () => (float[2,3,4,5] n) {{ {FORMULA} }},
        else_branch = q () => (float[2,3,4,5] s2) {{ s2 = Identity(x) }}>"""
    assert_skipped(
        FuseInstanceNormalization(), graph(text, SIGNATURE.replace("(float", "(bool k, float", 1)), reason=""
    )
