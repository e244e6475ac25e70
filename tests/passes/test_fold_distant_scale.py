from __future__ import annotations

import numpy as np
import pytest

from edgecc.model import Model, origins, value_of
from edgecc.passes.fold_distant_scale import FoldDistantScale
from edgecc.testing import assert_skipped, check_pass

#: Float32 sums of a few dozen products.
ROUNDING = 1e-5


def values(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


CONSTANTS = {
    "w": values(6, 6),
    "b": values(6, seed=1),
    "v": values(6, 6, seed=2),
    "s": np.array([0, 0, 2, 3]),
    "eight": np.array(8, np.float32),
    "half": np.array([0.5], np.float32),
    "zero": np.array(0, np.float32),
    "huge": np.array(3e38, np.float32),
    "kernel": values(4, 2, 3, 3),
    "bias": values(4),
    "flat": np.array([0, -1]),
    "wide": np.array([[[[[0.5]]]]], np.float32),
}
X = "float[N,5,6] x"
HEADS = "Transpose<perm=[0, 2, 1, 3]>"
COLUMNS = "Transpose<perm=[0, 2, 3, 1]>"
Q = f"p = MatMul(x, w) pb = Add(p, b) ph = Reshape(pb, s) q = {HEADS}(ph)"
K = f"n = MatMul(x, v) nb = Add(b, n) nh = Reshape(nb, s) k = {COLUMNS}(nh)"
SCORES = "float[N,2,5,5] y"


def model_of(body: str, inputs: str = X, outputs: str = SCORES) -> Model:
    words = body.replace("(", " ").replace(")", " ").replace(",", " ").split()
    return Model.from_text(
        f"g ({inputs}) => ({outputs}) {{ {body} }}", {n: v for n, v in CONSTANTS.items() if n in words}
    )


# ------------------------------------------------------------------------------------------------------------ it folds


@pytest.mark.parametrize(
    ("body", "after"),
    [
        ("m = MatMul(q, k) y = Div(m, eight)", "y = MatMul(q, k)"),  # BERT
        ("m = MatMul(q, k) d = Mul(half, m) y = Relu(d)", "m = MatMul(q, k) y = Relu(m)"),
        ("c = Div(q, eight) y = MatMul(c, k)", "y = MatMul(q, k)"),  # DistilBERT
        ("c = Mul(q, half) d = Mul(k, half) y = MatMul(c, d)", "y = MatMul(q, k)"),  # scaled_dot_product_attention
    ],
)
def test_attention(body: str, after: str) -> None:
    check_pass(FoldDistantScale(), model_of(f"{Q} {K} {body}"), model_of(f"{Q} {K} {after}"), tolerance=ROUNDING)


def test_names_keep_meaning_the_same_values() -> None:
    model = check_pass(
        FoldDistantScale(), model_of(f"{Q} y = Div(q, eight)", X, "float[N,2,5,3] y"), tolerance=ROUNDING
    )
    assert [node.outputs[0].name for node in model.nodes()] == ["p_scaled", "pb_scaled", "ph_scaled", "y"]
    assert origins(model.nodes()[0]) == ("MatMul_0", "Div_4")


def test_convolution() -> None:
    sizes = ("float[N,2,5,5] x", "float[N,36] y")
    check_pass(
        FoldDistantScale(),
        model_of("c = Conv(x, kernel, bias) f = Reshape(c, flat) y = Div(f, eight)", *sizes),
        model_of("c = Conv(x, kernel, bias) y = Reshape(c, flat)", *sizes),
        tolerance=ROUNDING,
    )


FACTORS = "float[2,5,3] x, float[2,5,3] z"
TURN = "Transpose<perm=[0, 2, 1]>"


@pytest.mark.parametrize(
    ("body", "after"),
    [
        (
            f"r = Relu(x) a = Mul(r, half) t = {TURN}(z) c = Mul(t, half) y = MatMul(a, c)",
            f"r = Relu(x) t = {TURN}(z) c = Mul(t, half) y = MatMul(r, c)",
        ),
        (
            f"tx = {TURN}(x) b1 = Mul(tx, half) a = {TURN}(b1) d = Div(z, eight) t = {TURN}(d) y = MatMul(a, t)",
            f"tx = {TURN}(x) a = {TURN}(tx) d = Div(z, eight) t = {TURN}(d) y = MatMul(a, t)",
        ),
        (
            f"t = {TURN}(z) a = Mul(x, half) m = MatMul(a, t) y = Div(m, eight)",
            f"t = {TURN}(z) a = Mul(x, half) y = MatMul(a, t)",
        ),
        (
            f"a = Mul(x, half) t = {TURN}(z) c = Mul(t, half) y = MatMul(a, c)",
            f"t = {TURN}(z) c = Mul(t, half) y = MatMul(x, c)",
        ),
    ],
)
def test_scales_of_both_factors_become_one(body: str, after: str) -> None:
    sizes = (FACTORS, "float[2,5,5] y")
    check_pass(FoldDistantScale(), model_of(body, *sizes), model_of(after, *sizes), tolerance=ROUNDING, skips=None)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float16, 5e-3), (np.float64, 1e-13)])
def test_other_float_types(dtype: type, tolerance: float) -> None:
    name = {np.float16: "float16", np.float64: "double"}[dtype]
    model = Model.from_text(
        f"g ({name}[5,6] x) => ({name}[6,5] y) {{ p = MatMul(x, w) t = Transpose(p) y = Div(t, c) }}",
        {"w": CONSTANTS["w"].astype(dtype), "c": np.array(8, dtype)},
    )
    model = check_pass(FoldDistantScale(), model, tolerance=tolerance)
    assert value_of(model.nodes()[0].inputs[1]).dtype == dtype


def test_shared_weights_stay() -> None:
    body = "p = MatMul(x, w) t = Transpose(p) y = Div(t, eight) z = MatMul(x, w)"
    model = check_pass(
        FoldDistantScale(), model_of(body, "float[5,6] x", "float[6,5] y, float[5,6] z"), tolerance=ROUNDING
    )
    first, plain = model.nodes("MatMul")
    assert (value_of(plain.inputs[1]) == CONSTANTS["w"]).all()
    assert (value_of(first.inputs[1]) == CONSTANTS["w"] / 8).all()


# ------------------------------------------------------------------------------------------ it does not, and says why


@pytest.mark.parametrize(
    ("body", "inputs", "outputs", "reason"),
    [
        (
            "t = Transpose(x) y = Mul(t, half)",
            "float[5,6] x",
            "float[6,5] y",
            "the way up ends at 'x', which comes from an input or constant",
        ),
        (
            "r = Relu(x) t = Transpose(r) y = Mul(t, half)",
            "float[5,6] x",
            "float[6,5] y",
            "the way up ends at 'r', which comes from Relu_0 (Relu)",
        ),
        (
            "p = MatMul(x, w) t = Transpose(p) y = Mul(t, half)",
            "float[5,6] x",
            "float[6,5] y, float[6,5] t",
            "'t' on the way up is an output of the model",
        ),
        (
            "p = MatMul(x, w) t = Transpose(p) y = Mul(t, half) z = Relu(p)",
            "float[5,6] x",
            "float[6,5] y, float[5,6] z",
            "'p' on the way up is read by 2 inputs of nodes",
        ),
        (
            "r = Relu(x) m = MatMul(r, z) y = Mul(m, half)",
            "float[5,6] x, float[6,5] z",
            "float[5,5] y",
            "which comes from Relu_0 (Relu), and the way up ends at 'z', which comes from an input or constant",
        ),
        (
            "p = Relu(x) q = Mul(p, huge) t = Transpose(q) y = Mul(t, huge)",
            "float[5,6] x",
            "float[6,5] y",
            "one number for it and Mul_1 (Mul) would be too small or not finite in float32",
        ),
    ],
)
def test_reason(body: str, inputs: str, outputs: str, reason: str) -> None:
    assert_skipped(FoldDistantScale(), model_of(body, inputs, outputs), reason)


@pytest.mark.parametrize(
    "body",
    [
        "y = Mul(x, half)",
        "r = Relu(x) y = Mul(r, half)",
        "t = Identity(x) y = Mul(t, b)",
        "t = Identity(x) y = Div(t, zero)",
        "t = Identity(x) y = Div(half, t)",
    ],
)
def test_others_are_not_mentioned(body: str) -> None:
    assert_skipped(FoldDistantScale(), model_of(body, "float[5,6] x", "float[5,6] y"), "")


def test_constant_of_larger_rank_is_not_mentioned() -> None:
    body = "p = MatMul(x, w) t = Transpose(p) y = Mul(t, wide)"
    assert_skipped(FoldDistantScale(), model_of(body, "float[5,6] x", "float[1,1,1,6,5] y"), "")


def test_way_through_a_subgraph() -> None:
    model = model_of(
        """p = MatMul(x, w) t = Transpose(p) y = Mul(t, half)
        z = If (c) <then_branch = k () => (float[5,6] u) { u = Relu(p) },
                    else_branch = e () => (float[5,6] d) { d = Neg(x) }>""",
        "float[5,6] x, bool c",
        "float[6,5] y, float[5,6] z",
    )
    assert_skipped(FoldDistantScale(), model, "'p' on the way up is read by 2 inputs of nodes")


def test_ignored_node_stays() -> None:
    body = "p = MatMul(x, w) t = Transpose(p) y = Mul(t, half) q = MatMul(x, v) u = Transpose(q) z = Mul(u, half)"
    model = check_pass(
        FoldDistantScale(ignore=("Mul_2",)),
        model_of(body, "float[5,6] x", "float[6,5] y, float[6,5] z"),
        tolerance=ROUNDING,
    )
    assert sorted(node.op for node in model.nodes()) == ["MatMul", "MatMul", "Mul", "Transpose", "Transpose"]
