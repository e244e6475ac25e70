"""Pass fuse-group-normalization."""

from __future__ import annotations

import numpy as np
import pytest

from edgecc.model import Model
from edgecc.passes.fuse_group_normalization import FuseGroupNormalization
from edgecc.target import Target
from edgecc.testing import assert_skipped, check_pass

#: Means of 60 values, in float32 in another order.
ROUNDING = 1e-5

SIGNATURE = "(float[n,8,6,5] x) => (float[n,8,6,5] y)"
CONSTANTS = "<int64[3] merged = {0, 4, -1}, int64[4] apart = {0, 8, 6, 5}>"
FORMULA = "m = Reshape(x, merged) [norm] i = InstanceNormalization<epsilon = 0.001>(m, s, b) r = Reshape(i, apart)"
SCALE = np.array([1, 2, 0.5, 1], np.float32)
BIAS = np.array([0, 1, 2, 3], np.float32)
CHANNELS = np.linspace(0.5, 1.5, 8, dtype=np.float32).reshape(8, 1, 1)


def graph(body: str, signature: str = SIGNATURE, constants: str = CONSTANTS, **weights: np.ndarray) -> Model:
    named = {"s": SCALE, "b": BIAS, "w": CHANNELS, "c": CHANNELS[None] - 1, **weights}
    return Model.from_text(f"g {signature} {constants} {{ {body} }}", named)


def parts(model: Model) -> list[np.ndarray]:
    """Scale and bias of the only node."""
    (node,) = model.nodes()
    assert node.op == "GroupNormalization"
    assert node.attrs["num_groups"] == 4
    return [tensor.values for tensor in node.inputs[1:]]


def test_torch_script() -> None:
    model = check_pass(FuseGroupNormalization(), graph(FORMULA.replace("r =", "y =")), tolerance=ROUNDING)
    scale, bias = parts(model)
    assert scale.tolist() == [1, 1, 2, 2, 0.5, 0.5, 1, 1]
    assert bias.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert "norm" in model.nodes()[0].origins


def test_torch_dynamo_with_scale_and_bias_per_channel() -> None:
    before = graph(FORMULA + " t = Mul(r, w) y = Add(t, c)", s=np.ones(4, np.float32), b=np.zeros(4, np.float32))
    after = "y = GroupNormalization<num_groups = 4, epsilon = 0.001, stash_type = 1>(x, gains, shifts)"
    expected = {"gains": CHANNELS.reshape(-1), "shifts": CHANNELS.reshape(-1) - 1}
    model = check_pass(FuseGroupNormalization(), before, graph(after, constants="", **expected), tolerance=ROUNDING)
    for found, wanted in zip(parts(model), expected.values(), strict=True):
        np.testing.assert_allclose(found, wanted)


def test_five_axes() -> None:
    constants = CONSTANTS.replace("[3] merged = {0, 4, -1}", "[5] merged = {0, 4, 2, 6, 5}")
    check_pass(FuseGroupNormalization(), graph(FORMULA.replace("r =", "y ="), constants=constants), tolerance=ROUNDING)


@pytest.mark.parametrize("op", ["Mul(n, w)", "Div(n, w)", "Add(n, w)", "Sub(n, w)"])
def test_absorbs_into_a_shared_scale(op: str) -> None:
    normal = "GroupNormalization<num_groups = 4>"
    body = f"n = {normal}(x, one, two) t = {op} y = {normal}(t, one, two)"
    ones = {"one": np.full(8, 1.5, np.float32), "two": np.full(8, 2, np.float32)}
    model = check_pass(FuseGroupNormalization(), graph(body, **ones), tolerance=ROUNDING)
    first, second = model.nodes("GroupNormalization")
    assert (second.inputs[1].values == 1.5).all()
    assert not (first.inputs[2].values == second.inputs[2].values).all()


@pytest.mark.parametrize(
    ("body", "signature", "reason"),
    [
        ("m = Reshape(x, other)" + FORMULA[22:].replace("r =", "y ="), SIGNATURE, "do not merge groups"),
        (
            FORMULA.replace("r =", "y ="),
            SIGNATURE.replace("x)", "x, float[4] z)"),
            "its scale or bias is computed",
        ),
        (
            FORMULA.replace("r =", "y ="),
            SIGNATURE.replace("y)", "y, float[n,4,60] i)"),
            "'i' is an output of the model",
        ),
        (FORMULA + " y = Relu(r) z = Relu(m)", SIGNATURE.replace("y)", "y, float[n,4,60] z)"), "'m' is read by"),
        (FORMULA + " y = Relu(r) z = Relu(i)", SIGNATURE.replace("y)", "y, float[n,4,60] z)"), "'i' is read by"),
        (
            "n = GroupNormalization<num_groups = 4>(x, w8, w8) y = Mul(n, space)",
            SIGNATURE,
            "'space' does not broadcast like the scale",
        ),
    ],
    ids=["other axes", "computed scale", "inner output", "merged is read", "normalized is read", "constant over space"],
)
def test_left_alone(body: str, signature: str, reason: str) -> None:
    if "z)" in signature and "x, float" in signature:
        body = body.replace("(m, s, b)", "(m, z, b)")
    constants = CONSTANTS.replace("<", "<int64[3] other = {4, -1, 60}, ")
    weights = {"w8": np.ones(8, np.float32), "space": np.ones((6, 5), np.float32)}
    assert_skipped(FuseGroupNormalization(), graph(body, signature, constants, **weights), reason=reason)


def test_an_instance_normalization_is_no_candidate() -> None:
    body = "y = InstanceNormalization(x, w8, w8)"
    assert_skipped(FuseGroupNormalization(), graph(body, w8=np.ones(8, np.float32)), reason="")


def test_float64_is_left_alone() -> None:
    body = FORMULA.replace("r =", "y =")
    before = graph(body, SIGNATURE.replace("float", "double"), s=SCALE.astype(np.float64), b=BIAS.astype(np.float64))
    assert_skipped(FuseGroupNormalization(), before, reason="computes float64 in float32")


def test_target_without_it() -> None:
    class Small(Target):
        name = "small"
        suffixes = (".small",)

    before = graph(FORMULA.replace("r =", "y ="))
    assert_skipped(FuseGroupNormalization(), before, reason="gains nothing", target=Small())


def test_ignored_and_subgraphs() -> None:
    before = graph(FORMULA.replace("r =", "y ="))
    assert_skipped(FuseGroupNormalization(ignore=("norm",)), before, reason="")
    text = f"""y = If(k)< then_branch = p () => (float[n,8,6,5] r) {{ {FORMULA} }},
        else_branch = q () => (float[n,8,6,5] s2) {{ s2 = Identity(x) }}>"""
    assert_skipped(FuseGroupNormalization(), graph(text, SIGNATURE.replace("(float", "(bool k, float", 1)), reason="")
