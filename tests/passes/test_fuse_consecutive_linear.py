from __future__ import annotations

import numpy as np
import pytest

from edgecc.model import Model, origins, value_of
from edgecc.passes.fuse_consecutive_linear import FuseConsecutiveLinear
from edgecc.testing import assert_skipped, check_pass

#: Float32 sums of a few dozen products, multiplied out.
ROUNDING = 1e-5


def values(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


CONSTANTS = {
    "a": values(3, 8),
    "at": values(8, 3),
    "b": values(8, 4, seed=1),
    "bt": values(4, 8, seed=1),
    "p": values(8, seed=2),
    "q": values(4, seed=3),
    "rows": values(5, 1, seed=3),
    "point": values(8, 3, 1, 1),
    "kernel": values(4, 8, 3, 3),
    "first": values(8, 3, 3, 3),
    "last": values(4, 8, 1, 1),
    "narrow": values(1, 3, 1, 1),
    "wide": values(64, 1, 1, 1),
    "depthwise": values(8, 1, 3, 3),
    "line": values(8, 3, 1),
    "lines": values(4, 8, 3),
}


def model_of(inputs: str, outputs: str, body: str) -> Model:
    used = {name for name in CONSTANTS if name in body.replace("(", " ").replace(")", " ").replace(",", " ").split()}
    return Model.from_text(f"g ({inputs}) => ({outputs}) {{ {body} }}", {name: CONSTANTS[name] for name in used})


# ------------------------------------------------------------------------------------------------------------ it fuses


@pytest.mark.parametrize(
    ("body", "op"),
    [
        ("t = MatMul(x, a) y = MatMul(t, b)", "MatMul"),
        ("t = Gemm(x, a, p) y = Gemm(t, b, q)", "Gemm"),
        ("t = Gemm<transB=1, alpha=0.5, beta=3.0>(x, at, p) y = Gemm<transB=1, alpha=2.0>(t, bt)", "Gemm"),
        ("t = MatMul(x, a) y = Gemm<beta=2.0>(t, b, q)", "Gemm"),
        ("t = Gemm(x, a, p) y = MatMul(t, b)", "Gemm"),
    ],
)
@pytest.mark.parametrize("batch", ["5", "N"])
def test_matrices(body: str, op: str, batch: str) -> None:
    model = check_pass(
        FuseConsecutiveLinear(), model_of(f"float[{batch},3] x", f"float[{batch},4] y", body), tolerance=ROUNDING
    )
    (node,) = model.nodes()
    assert node.op == op
    assert value_of(node.inputs[1]).shape == (3, 4)


def test_second_bias_of_one_value_per_row() -> None:
    model = model_of("float[5,3] x", "float[5,4] y", "t = Gemm(x, a, p) y = Gemm(t, b, rows)")
    model = check_pass(FuseConsecutiveLinear(), model, tolerance=ROUNDING)
    assert [node.op for node in model.nodes()] == ["Gemm"]


def test_transposed_operand_stays_transposed() -> None:
    before = model_of("float[3,5] x", "float[5,4] y", "t = Gemm<transA=1>(x, a, p) y = MatMul(t, b)")
    after = Model.from_text(
        "g (float[3,5] x) => (float[5,4] y) { y = Gemm<transA=1>(x, w, c) }",
        {"w": values(3, 4), "c": values(4)},
    )
    check_pass(FuseConsecutiveLinear(), before, after, tolerance=ROUNDING)


@pytest.mark.parametrize(
    ("body", "ops"),
    [
        ("t = MatMul(x, a) y = MatMul(t, b)", ["MatMul"]),
        ("t = MatMul(x, a) u = MatMul(t, b) y = Add(u, q)", ["MatMul", "Add"]),
        ("t = MatMul(x, a) s = Add(p, t) u = MatMul(s, b) y = Add(u, q)", ["MatMul", "Add"]),
    ],
)
def test_matrices_over_the_last_axis(body: str, ops: list[str]) -> None:
    model = check_pass(FuseConsecutiveLinear(), model_of("float[N,2,3] x", "float[N,2,4] y", body), tolerance=ROUNDING)
    assert [node.op for node in model.nodes()] == ops


@pytest.mark.parametrize(
    ("body", "outputs", "after"),
    [
        ("t = Conv(x, point) y = Conv<pads=[1, 1, 1, 1]>(t, kernel, q)", "7,7", "y = Conv<pads=[1, 1, 1, 1]>(x, w, c)"),
        ("t = Conv(x, point, p) y = Conv<dilations=[2, 2]>(t, kernel)", "3,3", "y = Conv<dilations=[2, 2]>(x, w, c)"),
        ("t = Conv(x, point, p) y = Conv<strides=[2, 2]>(t, kernel, q)", "3,3", "y = Conv<strides=[2, 2]>(x, w, c)"),
        (
            "t = Conv<pads=[1, 1, 1, 1]>(x, first, p) y = Conv(t, last, q)",
            "7,7",
            "y = Conv<pads=[1, 1, 1, 1], strides=[1, 1]>(x, w, c)",
        ),
        (
            "t = Conv<pads=[1, 1, 0, 0], strides=[2, 1]>(x, first) y = Conv<strides=[2, 3]>(t, last)",
            "2,2",
            "y = Conv<pads=[1, 1, 0, 0], strides=[4, 3]>(x, w)",
        ),
    ],
)
def test_convolutions(body: str, outputs: str, after: str) -> None:
    sizes = ("float[1,3,7,7] x", f"float[1,4,{outputs}] y")
    expected = Model.from_text(
        f"g ({sizes[0]}) => ({sizes[1]}) {{ {after} }}",
        {"w": values(4, 3, 3, 3)} | ({"c": values(4)} if "c)" in after else {}),
    )
    check_pass(FuseConsecutiveLinear(), model_of(*sizes, body), expected, tolerance=ROUNDING)


@pytest.mark.parametrize(
    ("body", "inputs", "outputs"),
    [
        ("t = Conv(x, line, p) y = Conv(t, lines, q)", "float[2,3,9] x", "float[2,4,7] y"),
        ("t = Conv(x, point) y = Conv<pads=[1, 1, 1, 1]>(t, kernel)", "float[N,3,H,W] x", "float[N,4,P,Q] y"),
        ("t = Conv(x, first, p) y = Conv(t, last)", "float[N,3,H,W] x", "float[N,4,P,Q] y"),
    ],
)
def test_other_ranks_and_open_dimensions(body: str, inputs: str, outputs: str) -> None:
    model = check_pass(FuseConsecutiveLinear(), model_of(inputs, outputs, body), tolerance=ROUNDING)
    assert [node.op for node in model.nodes()] == ["Conv"]


def test_three_in_a_row_where_the_last_two_go_first() -> None:
    """The first two alone would cost more, the product of all three does not."""
    text = "g (float[2,4] x) => (float[2,2] y) { s = MatMul(x, u) t = MatMul(s, v) y = MatMul(t, w) }"
    constants = {"u": values(4, 2), "v": values(2, 64), "w": values(64, 2)}
    model = check_pass(FuseConsecutiveLinear(), Model.from_text(text, constants), tolerance=ROUNDING)
    assert [value_of(node.inputs[1]).shape for node in model.nodes()] == [(4, 2)]


def test_shared_weights_and_origins() -> None:
    body = "t = MatMul(x, a) y = MatMul(t, b) s = MatMul(x, a) r = Relu(s) z = MatMul(r, b)"
    model = check_pass(
        FuseConsecutiveLinear(), model_of("float[5,3] x", "float[5,4] y, float[5,4] z", body), tolerance=ROUNDING
    )
    assert [node.op for node in model.nodes()] == ["MatMul", "MatMul", "Relu", "MatMul"]
    assert origins(model.nodes()[0]) == ("MatMul_0", "MatMul_1")
    assert (
        value_of(model.nodes()[1].inputs[1]) is CONSTANTS["a"]
        or (value_of(model.nodes()[1].inputs[1]) == CONSTANTS["a"]).all()
    )


# ------------------------------------------------------------------------------------------ it does not, and says why


@pytest.mark.parametrize(
    ("inputs", "outputs", "body", "reason"),
    [
        (
            "float[5,3] x, float[8,4] v",
            "float[5,4] y",
            "t = MatMul(x, a) y = MatMul(t, v)",
            "MatMul_1 are not constant",
        ),
        (
            "float[5,3] x, float[3,8] v",
            "float[5,4] y",
            "t = MatMul(x, v) y = MatMul(t, b)",
            "MatMul_0 are not constant",
        ),
        ("float[5,3] x", "float[5,4] y, float[5,8] t", "t = MatMul(x, a) y = MatMul(t, b)", "'t' is an output of the"),
        (
            "float[5,3] x",
            "float[5,4] y, float[5,8] z",
            "t = MatMul(x, a) y = MatMul(t, b) z = Relu(t)",
            "'t' is read by 2 inputs of nodes",
        ),
        (
            "float[8,3] x",
            "float[8,4] y",
            "t = MatMul(x, a) y = Gemm<transA=1>(t, b)",
            "it transposes what MatMul_0 (MatMul) computes",
        ),
        (
            "float[5,3] x",
            "float[5,4] y",
            "t = Gemm(x, a, rows) y = MatMul(t, b)",
            "the bias of Gemm_0 (Gemm) is not one value per column",
        ),
        (
            "float[2,5,3] x",
            "float[2,5,4] y",
            "t = MatMul(x, a) s = Add(t, p) y = MatMul(s, b)",
            "it has no place for the bias of MatMul_0 (MatMul)",
        ),
        (
            "float[1,3,7,7] x",
            "float[1,4,7,7] y",
            "t = Conv(x, point, p) y = Conv<pads=[1, 1, 1, 1]>(t, kernel)",
            "it pads with zeros, which do not have the bias of Conv_0 (Conv)",
        ),
        (
            "float[1,3,7,7] x",
            "float[1,4,7,7] y",
            'a1 = Conv(x, point, p) y = Conv<auto_pad="SAME_UPPER">(a1, kernel)',
            "it pads with zeros, which do not have the bias of Conv_0 (Conv)",
        ),
        (
            "float[1,3,7,7] x",
            "float[1,4,7,7] y",
            "t = Conv<pads=[1, 1, 1, 1]>(x, point) y = Conv(t, kernel)",
            "Conv_0 (Conv) pads with zeros",
        ),
        (
            "float[1,3,7,7] x",
            "float[1,4,2,2] y",
            "t = Conv<strides=[2, 2]>(x, point) y = Conv(t, kernel)",
            "neither it nor Conv_0 (Conv) has a kernel of size 1 that sees every place",
        ),
        (
            "float[1,3,7,7] x",
            "float[1,8,5,5] y",
            "t = Conv(x, point) y = Conv<group=8>(t, depthwise)",
            "it or Conv_0 (Conv) works on groups of channels",
        ),
        (
            "float[1,3,7,7] x",
            "float[1,64,7,7] y",
            "t = Conv(x, narrow) y = Conv(t, wide)",
            "its weights would be 192 numbers, 67 with Conv_0 (Conv) apart",
        ),
        (
            "float[1,3,7,7] x",
            "float[1,4,4,4] y",
            'a1 = Conv<auto_pad="SAME_UPPER">(x, first) y = Conv<strides=[2, 2]>(a1, last)',
            "its strides would change the padding of Conv_0 (Conv) (auto_pad)",
        ),
    ],
)
def test_reason(inputs: str, outputs: str, body: str, reason: str) -> None:
    assert_skipped(FuseConsecutiveLinear(), model_of(inputs, outputs, body), reason)


def test_product_that_costs_more() -> None:
    text = "g (float[2,16] x) => (float[2,16] y) { t = MatMul(x, v) y = MatMul(t, w) }"
    model = Model.from_text(text, {"v": values(16, 2), "w": values(2, 16)})
    reason = "the product would take 256 multiply-accumulates, 64 with MatMul_0 (MatMul) apart"
    assert_skipped(FuseConsecutiveLinear(), model, reason)


def test_overflow() -> None:
    text = "g (float[2,1] x) => (float[2,1] y) { t = MatMul(x, v) y = MatMul(t, v) }"
    model = Model.from_text(text, {"v": np.full((1, 1), 1e30, np.float32)})
    assert_skipped(FuseConsecutiveLinear(), model, "the new weights of MatMul_1 would not be finite in float32")


def test_others_are_not_mentioned() -> None:
    body = "t = MatMul(x, a) r = Relu(t) y = MatMul(r, b)"
    assert_skipped(FuseConsecutiveLinear(), model_of("float[5,3] x", "float[5,4] y", body), "")


def test_second_one_in_a_subgraph() -> None:
    model = model_of(
        "float[5,3] x, bool c",
        "float[5,4] y",
        """t = MatMul(x, a)
        y = If (c) <then_branch = k () => (float[5,4] u) { u = MatMul(t, b) },
                    else_branch = e () => (float[5,4] v) { o = Neg(t) v = MatMul(o, b) }>""",
    )
    assert_skipped(FuseConsecutiveLinear(), model, "")


@pytest.mark.parametrize("ignored", ["MatMul_0", "MatMul_1"])
def test_ignored_node_stays(ignored: str) -> None:
    body = "t = MatMul(x, a) u = MatMul(t, b) s = Relu(u) v = MatMul(s, bt) y = MatMul(v, b)"
    model = check_pass(
        FuseConsecutiveLinear(ignore=(ignored,)), model_of("float[5,3] x", "float[5,4] y", body), tolerance=ROUNDING
    )
    assert [node.op for node in model.nodes()] == ["MatMul", "MatMul", "Relu", "MatMul"]
