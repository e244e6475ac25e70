from __future__ import annotations

import pytest

from edgecc.model import origins
from edgecc.passes.fuse_reshape_gemm import FuseReshapeGemm
from edgecc.testing import assert_skipped, check_pass

#: Float32 sums of a few products.
ROUNDING = 1e-6
C = """float[3,2] w = {1, -2, 3, 0.5, -1.5, 2}, float[2,3] u = {1, -2, 3, 0.5, -1.5, 2}, float[2] b = {0.3, -0.7},
    int64[2] m = {-1, 3}, int64[3] s = {4, 5, 2}, int64[3] o = {-1, 5, 2}, int64[3] p = {5, 4, 2}, int64[2] q = {10, 4},
    float[20,1] f = {1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20}"""
IN, OUT = "float[4,5,3] x", "float[4,5,2] y"


def graph(body: str, inputs: str = IN, outputs: str = OUT) -> str:
    return f"g ({inputs}) => ({outputs}) <{C}> {{ {body} }}"


@pytest.mark.parametrize(
    ("body", "fused", "inputs", "outputs"),
    [
        ("r = Reshape(x, m) g = Gemm(r, w, b) y = Reshape(g, s)", "g = MatMul(x, w) y = Add(g, b)", IN, OUT),
        ("r = Reshape(x, m) g = Gemm<transB=1>(r, u, b) y = Reshape(g, s)", "g = MatMul(x, w) y = Add(g, b)", IN, OUT),
        ("r = Reshape(x, m) g = Gemm(r, w) y = Reshape(g, s)", "y = MatMul(x, w)", IN, OUT),
        ("r = Reshape(x, m) g = MatMul(r, w) y = Reshape(g, s)", "y = MatMul(x, w)", IN, OUT),
        (
            "r = Reshape(x, m) g = Gemm(r, w, b) h = Reshape(g, o) y = Relu(h)",
            "g = MatMul(x, w) h = Add(g, b) y = Relu(h)",
            "float[N,5,3] x",
            "float[N,5,2] y",
        ),
        (
            "r = Reshape(x, m) g = MatMul(r, w) y = Reshape(g, s) z = Relu(r)",
            "y = MatMul(x, w) r = Reshape(x, m) z = Relu(r)",
            IN,
            f"{OUT}, float[20,3] z",
        ),
    ],
)
def test_matmul_over_the_last_axis(body: str, fused: str, inputs: str, outputs: str) -> None:
    check_pass(
        FuseReshapeGemm(), graph(body, inputs, outputs), graph(fused, inputs, outputs), tolerance=ROUNDING, skips=None
    )


def test_origins() -> None:
    model = check_pass(
        FuseReshapeGemm(), graph("r = Reshape(x, m) g = Gemm(r, w, b) y = Reshape(g, s)"), tolerance=ROUNDING
    )
    assert [origins(node) for node in model.nodes()] == [("Gemm_1",), ("Gemm_1", "Reshape_2")]


@pytest.mark.parametrize(
    ("body", "inputs", "outputs", "reason"),
    [
        (
            "r = Reshape(x, m) g = Gemm(r, v, b) y = Reshape(g, s)",
            f"{IN}, float[3,2] v",
            OUT,
            "its weights are not a constant matrix",
        ),
        ("r = Reshape(x, m) g = Gemm<alpha=0.5>(r, w, b) y = Reshape(g, s)", IN, OUT, "it has transA, alpha or beta"),
        (
            "r = Reshape(x, m) g = Gemm(r, w, b) y = Reshape(g, s)",
            IN,
            f"{OUT}, float[20,2] g",
            "its output 'g' is not read by Reshape_2 (Reshape) alone",
        ),
        (
            "r = Reshape(x, m) g = Gemm(r, w, b) y = Reshape(g, s)",
            "float[4,15] x",
            OUT,
            "'x' has no last axis of 3 with two or more in front of it",
        ),
        (
            "r = Reshape(x, m) g = Gemm(r, w, b) y = Reshape(g, q)",
            IN,
            "float[10,4] y",
            "'y' is not 'x' with another last axis",
        ),
        (
            "r = Reshape(x, m) g = Gemm(r, w, b) y = Reshape(g, p)",
            IN,
            "float[5,4,2] y",
            "'y' is not known to have the leading axes of 'x'",
        ),
        (
            "r = Reshape(x, m) g = Gemm(r, w, f) y = Reshape(g, s)",
            IN,
            OUT,
            "its addend 'f' is not one value per column",
        ),
        (
            "r = Reshape(x, m) g = Gemm(r, w, b) y = Reshape(g, s) z = Relu(r)",
            IN,
            f"{OUT}, float[20,3] z",
            "MatMul and Add are no fewer nodes, as 'r' is read elsewhere too",
        ),
    ],
)
def test_reason(body: str, inputs: str, outputs: str, reason: str) -> None:
    assert_skipped(FuseReshapeGemm(), graph(body, inputs, outputs), reason)


def test_reader_in_a_subgraph() -> None:
    text = f"""g ({IN}, bool c) => ({OUT}) <{C}> {{
        r = Reshape(x, m)
        g = Gemm(r, w, b)
        y = If (c) <then_branch = t () => (float[4,5,2] h) {{ h = Reshape(g, s) }},
                    else_branch = e () => (float[4,5,2] k) {{ n = Neg(g) k = Reshape(n, s) }}>
    }}"""
    assert_skipped(FuseReshapeGemm(), text, "is not read by")


def test_gemm_between_other_things_is_not_mentioned() -> None:
    assert_skipped(FuseReshapeGemm(), graph("r = Reshape(x, m) y = Gemm(r, w, b)", IN, "float[20,2] y"), "")


def test_ignored_node_stays() -> None:
    text = graph(
        "r = Reshape(x, m) g = Gemm(r, w) y = Reshape(g, s) k = Gemm(r, w) z = Reshape(k, s)",
        outputs=f"{OUT}, float[4,5,2] z",
    )
    model = check_pass(FuseReshapeGemm(ignore=("Gemm_1",)), text, tolerance=ROUNDING)
    assert sorted(node.op for node in model.nodes()) == ["Gemm", "MatMul", "Reshape", "Reshape"]
