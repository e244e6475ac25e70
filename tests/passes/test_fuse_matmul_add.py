from __future__ import annotations

import pytest

from edgecc.model import Model, origins, value_of
from edgecc.passes.fuse_matmul_add import FuseMatMulAdd
from edgecc.testing import assert_skipped, check_pass

#: Float32 sums of a few products.
ROUNDING = 1e-6
W = "float[3,2] w = {1, -2, 3, 0.5, -1.5, 2}, float[2] b = {0.3, -0.7}"
IN = "float[4,3] x"


def graph(inputs: str, constants: str, body: str, outputs: str = "float[4,2] y") -> str:
    return f"g ({inputs}) => ({outputs}) <{constants}> {{ {body} }}"


@pytest.mark.parametrize(
    ("inputs", "body", "fused"),
    [
        (IN, "p = MatMul(x, w) y = Add(p, b)", "y = Gemm(x, w, b)"),
        (IN, "p = MatMul(x, w) y = Add(b, p)", "y = Gemm(x, w, b)"),
        ("float[4,3] x, float[4,2] z", "p = MatMul(x, w) y = Add(z, p)", "y = Gemm(x, w, z)"),
        ("float[4,3] x, float[4,1] z", "p = MatMul(x, w) y = Add(z, p)", "y = Gemm(x, w, z)"),
        ("float[4,3] x, float[3,2] z", "p = MatMul(x, z) y = Add(p, b)", "y = Gemm(x, z, b)"),
        ("float[3,4] x", "t = Transpose(x) y = MatMul(t, w)", "y = Gemm<transA=1>(x, w)"),
        ("float[3,4] x", "t = Transpose(x) p = MatMul(t, w) y = Add(p, b)", "y = Gemm<transA=1>(x, w, b)"),
        (
            "float[4,3] x, float[2,3] z",
            "t = Transpose<perm=[1, 0]>(z) y = Gemm(x, t, b)",
            "y = Gemm<transB=1>(x, z, b)",
        ),
        (
            "float[4,3] x, float[3,2] z",
            "t = Transpose<perm=[1, 0]>(z) y = Gemm<transB=1>(x, t, b)",
            "y = Gemm<transB=0>(x, z, b)",
        ),
        (IN, "p = Gemm(x, w) y = Add(p, b)", "y = Gemm(x, w, b)"),
        (IN, "p = Gemm<beta=0.0>(x, w, b) y = Add(p, b)", "y = Gemm(x, w, b)"),
        (IN, "y = Gemm<alpha=0.5, beta=2.0>(x, w, b)", "y = Gemm(x, w, b)"),
        ("float[N,3] x", "p = MatMul(x, w) y = Add(p, b)", "y = Gemm(x, w, b)"),
    ],
)
def test_becomes_gemm(inputs: str, body: str, fused: str) -> None:
    outputs = "float[N,2] y" if "N" in inputs else "float[4,2] y"
    check_pass(
        FuseMatMulAdd(),
        graph(inputs, W, body, outputs),
        graph(inputs, W, fused, outputs),
        tolerance=ROUNDING,
    )


def test_both_terms_are_products() -> None:
    model = check_pass(
        FuseMatMulAdd(),
        graph(IN, W, "p = MatMul(x, w) q = MatMul(x, w) r = Relu(q) y = Add(p, r)"),
        graph(IN, W, "q = MatMul(x, w) r = Relu(q) y = Gemm(x, w, r)"),
        tolerance=ROUNDING,
    )
    assert origins(model.nodes()[-1]) == ("MatMul_0", "Add_3")


def test_shared_constants_are_copied_where_a_factor_goes_in() -> None:
    out = "float[4,2] y, float[4,2] z"
    text = graph(IN, W, "y = Gemm<alpha=0.5, beta=2.0>(x, w, b) z = Gemm(x, w, b)", out)
    model = check_pass(
        FuseMatMulAdd(), text, graph(IN, W, "y = Gemm(x, w, b) z = Gemm(x, w, b)", out), tolerance=ROUNDING
    )
    scaled, plain = model.nodes()
    before = Model.from_text(text).nodes()[1]
    assert [value_of(t).tolist() for t in plain.inputs[1:]] == [value_of(t).tolist() for t in before.inputs[1:]]
    assert (value_of(scaled.inputs[1]) == 0.5 * value_of(plain.inputs[1])).all()
    assert (value_of(scaled.inputs[2]) == 2 * value_of(plain.inputs[2])).all()


@pytest.mark.parametrize(
    ("inputs", "outputs", "body", "reason"),
    [
        ("float[5,4,3] x", "float[5,4,2] y", "p = MatMul(x, w) y = Add(p, b)", "its operands are not two matrices"),
        (IN, "float[4,2] y, float[4,2] p", "p = MatMul(x, w) y = Add(p, b)", "'p' is an output of the model"),
        (IN, "float[4,2] y", "p = MatMul(x, w) y = Add(p, p)", "'p' is read by 2 inputs of nodes"),
        (
            IN,
            "float[4,2] y, float[4,2] z",
            "p = MatMul(x, w) y = Add(p, b) z = Relu(p)",
            "'p' is read by 2 inputs of nodes",
        ),
        ("float[4,3] x, float[7,4,2] z", "float[7,4,2] y", "p = MatMul(x, w) y = Add(p, z)", "'z', which is added to"),
        ("float[1,3] x, float[4,2] z", "float[4,2] y", "p = MatMul(x, w) y = Add(p, z)", "'z', which is added to"),
        (
            "float[3,4] x",
            "float[4,2] y, float[4,3] t",
            "t = Transpose(x) y = MatMul(t, w)",
            "Transpose_0 (Transpose) stays, as 't' is read elsewhere too",
        ),
        ("float[3,3] x", "float[3,3] y", "t = Transpose(x) y = MatMul(t, t)", "'t' is read elsewhere too"),
        (
            "float[4,3] x, float[3,2] z",
            "float[4,2] y",
            "y = Gemm<alpha=0.5>(x, z)",
            "its alpha stays, as what it multiplies is not constant",
        ),
        (
            "float[4,3] x, float[4,2] z",
            "float[4,2] y",
            "y = Gemm<beta=0.5>(x, w, z)",
            "its beta stays, as what it multiplies is not constant",
        ),
        (IN, "float[4,2] y", "y = Gemm<alpha=3e38>(x, w, b)", "its alpha stays, as 'w' times 3e+38 would not be"),
    ],
)
def test_reason(inputs: str, outputs: str, body: str, reason: str) -> None:
    assert_skipped(FuseMatMulAdd(), graph(inputs, W, body, outputs), reason)


@pytest.mark.parametrize(
    ("inputs", "outputs", "body"),
    [
        (IN, "float[4,2] y", "y = MatMul(x, w)"),
        ("int32[4,3] x, int32[3,2] z", "int32[4,2] y", "p = MatMul(x, z) y = Add(p, z1)"),
    ],
)
def test_nothing_to_say(inputs: str, outputs: str, body: str) -> None:
    assert_skipped(FuseMatMulAdd(), graph(inputs, f"{W}, int32[2] z1 = {{1, 2}}", body, outputs), "")


def test_sum_in_a_subgraph() -> None:
    text = f"""g ({IN}, bool c) => (float[4,2] y) <{W}> {{
        p = MatMul(x, w)
        y = If (c) <then_branch = t () => (float[4,2] q) {{ q = Add(p, b) }},
                    else_branch = e () => (float[4,2] r) {{ r = Relu(p) }}>
    }}"""
    assert_skipped(FuseMatMulAdd(), text, "")


def test_ignored_node_stays() -> None:
    model = check_pass(
        FuseMatMulAdd(ignore=("MatMul_0",)),
        graph(IN, W, "p = MatMul(x, w) y = Add(p, b) q = MatMul(x, w) z = Add(q, b)", "float[4,2] y, float[4,2] z"),
        tolerance=ROUNDING,
    )
    assert sorted(node.op for node in model.nodes()) == ["Add", "Gemm", "MatMul"]
