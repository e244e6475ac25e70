from __future__ import annotations

import pytest

from edgecc.passes.eliminate_quantization_pairs import EliminateQuantizationPairs
from edgecc.testing import assert_skipped, check_pass

ELIMINATE = EliminateQuantizationPairs()
CONSTANTS = """<float s = {0.3}, float s2 = {0.3}, float other = {0.4}, uint8 z = {7}, uint8 z2 = {8}, int8 n = {7},
    float[3] per = {0.1, 0.2, 0.3}, uint8[3] zeros = {1, 2, 3}, float tiny = {1e-40}>"""


def graph(body: str, signature: str = "(uint8[2,3] q) => (float[2,3] y)") -> str:
    return f"g {signature} {CONSTANTS} {{ {body} }}"


@pytest.mark.parametrize(
    ("pair", "last"),
    [
        ("a = DequantizeLinear(q, s, z) b = QuantizeLinear(a, s, z)", "(b, s, z)"),
        ("a = DequantizeLinear(q, s, z) b = QuantizeLinear(a, s2, z)", "(b, s, z)"),
        ("a = DequantizeLinear(q, s) b = QuantizeLinear(a, s)", "(b, s)"),
        ("a = DequantizeLinear<axis = 1>(q, per, zeros) b = QuantizeLinear<axis = -1>(a, per, zeros)", "(b, s, z)"),
    ],
    ids=["pair", "equal constants", "no zero point", "per axis"],
)
def test_pair(pair: str, last: str) -> None:
    check_pass(
        ELIMINATE, graph(f"{pair} y = DequantizeLinear{last}"), graph(f"y = DequantizeLinear{last.replace('b', 'q')}")
    )


def test_first_stays_for_others() -> None:
    body = (
        "a = DequantizeLinear(q, s, z) y = Relu(a) b = QuantizeLinear(a, s, z) c = DequantizeLinear(b, s, z) w = Neg(c)"
    )
    model = check_pass(ELIMINATE, graph(body, "(uint8[2,3] q) => (float[2,3] y, float[2,3] w)"))
    assert sorted(node.op for node in model.nodes()) == ["DequantizeLinear", "DequantizeLinear", "Neg", "Relu"]


def test_output() -> None:
    signature = "(uint8[N,3] q) => (uint8[N,3] y)"
    check_pass(
        ELIMINATE,
        graph("a = DequantizeLinear(q, s, z) y = QuantizeLinear(a, s, z)", signature),
        graph("y = Identity(q)", signature),
    )


@pytest.mark.parametrize(
    ("body", "signature", "reason"),
    [
        ("a = DequantizeLinear(q, s, z) y = QuantizeLinear(a, other, z)", None, "its scale is not that of"),
        ("a = DequantizeLinear(q, s, z) y = QuantizeLinear(a, s, z2)", None, "its zero point is not that of"),
        ("a = DequantizeLinear(q, s, z) y = QuantizeLinear(a, s, n)", "(uint8[2,3] q) => (int8[2,3] y)", "int8"),
        (
            "a = DequantizeLinear(q, k, z) y = QuantizeLinear(a, k, z)",
            "(uint8[2,3] q, float k) => (uint8[2,3] y)",
            "a scale is not constant",
        ),
        (
            "a = DequantizeLinear(q, s, k) y = QuantizeLinear(a, s, k)",
            "(uint8[2,3] q, uint8 k) => (uint8[2,3] y)",
            "a zero point is not constant",
        ),
        (
            "a = DequantizeLinear<axis = 0>(q, per, zeros) y = QuantizeLinear<axis = 1>(a, per, zeros)",
            "(uint8[3,3] q) => (uint8[3,3] y)",
            "its axis is not that of",
        ),
        ("a = DequantizeLinear(q, tiny, z) y = QuantizeLinear(a, tiny, z)", None, "not every integer comes back"),
        ("a = QuantizeLinear(x, s, z) y = DequantizeLinear(a, s, z)", "(float[2,3] x) => (float[2,3] y)", ""),
        ("a = DequantizeLinear(q, s, z) b = Relu(a) y = QuantizeLinear(b, s, z)", None, ""),
    ],
)
def test_left_alone(body: str, signature: str | None, reason: str) -> None:
    assert_skipped(ELIMINATE, graph(body, signature or "(uint8[2,3] q) => (uint8[2,3] y)"), reason=reason)


def test_every_integer_comes_back() -> None:
    """The claim that exactness rests on, for scales of all sizes."""
    import numpy as np

    integers = np.arange(-65535, 65536).astype(np.float32)
    rng = np.random.default_rng(0)
    for scale in np.exp2(rng.uniform(-126, 111, 200)).astype(np.float32):
        assert (np.rint(integers * scale / scale) == integers).all()


def test_subgraph_and_ignored() -> None:
    text = f"""g (bool c, uint8[2,3] q) => (uint8[2,3] y, float[2,3] w) {CONSTANTS} {{
        a = DequantizeLinear(q, s, z) b = QuantizeLinear(a, s, z) y = Identity(b) w = If(c)<
            then_branch = t () => (float[2,3] p) {{ p = Neg(a) }},
            else_branch = e () => (float[2,3] r) {{ r = Abs(a) }}> }}"""
    model = check_pass(ELIMINATE, text)
    assert sorted(node.op for node in model.nodes()) == ["DequantizeLinear", "Identity", "If"]
    text = graph("[mine] a = DequantizeLinear(q, s, z) b = QuantizeLinear(a, s, z) y = DequantizeLinear(b, s, z)")
    assert_skipped(EliminateQuantizationPairs(ignore=("mine",)), text, reason="")
