from __future__ import annotations

import pytest

from edgecc.passes.eliminate_neutral_arithmetic import EliminateNeutralArithmetic
from edgecc.testing import assert_skipped, check_pass

#: Nothing but the sign of a zero can change.
NOTHING = 0.0
C = """float z = {0}, float[3] zs = {0, 0, 0}, float[2,3] zz = {0, 0, 0, 0, 0, 0}, float o = {1},
    float[1,1,1] wide = {0}, float[3] nearly = {0, 0, 1}, float m = {-0.0}"""
X, Y = "float[2,3] x", "float[2,3] y"


def graph(body: str, inputs: str = X, outputs: str = Y) -> str:
    return f"g ({inputs}) => ({outputs}) <{C}> {{ {body} }}"


@pytest.mark.parametrize(
    "node",
    [
        "Add(r, z)",
        "Add(z, r)",
        "Add(r, m)",
        "Add(zs, r)",
        "Add(r, zz)",
        "Sub(r, m)",
        "Sub(r, zs)",
    ],
)
@pytest.mark.parametrize("rows", ["2", "N"])
def test_neutral_element(node: str, rows: str) -> None:
    if rows == "N" and "zz" in node:
        node = node.replace("zz", "zs")
    sizes = (f"float[{rows},3] x", f"float[{rows},3] y")
    check_pass(
        EliminateNeutralArithmetic(),
        graph(f"r = Relu(x) a = {node} y = Exp(a)", *sizes),
        graph("r = Relu(x) y = Exp(r)", *sizes),
        tolerance=NOTHING,
    )


def test_several_in_a_row() -> None:
    check_pass(
        EliminateNeutralArithmetic(),
        graph("r = Relu(x) a = Add(zs, r) b = Sub(a, z) y = Add(b, zz)"),
        graph("y = Relu(x)"),
        tolerance=NOTHING,
    )


def test_two_readers() -> None:
    two = f"{Y}, float[2,3] z1"
    check_pass(
        EliminateNeutralArithmetic(),
        graph("r = Relu(x) n = Add(r, z) y = Exp(n) z1 = Neg(n)", outputs=two),
        graph("r = Relu(x) y = Exp(r) z1 = Neg(r)", outputs=two),
        tolerance=NOTHING,
    )


def test_integers() -> None:
    check_pass(
        EliminateNeutralArithmetic(),
        "g (int64[3] x) => (int64[3] y) <int64 z = {0}> { a = Add(x, z) y = Neg(a) }",
        "g (int64[3] x) => (int64[3] y) { y = Neg(x) }",
        tolerance=NOTHING,
    )


@pytest.mark.parametrize(
    ("body", "inputs", "outputs", "reason"),
    [
        ("y = Add(x, z)", X, Y, "'x' and 'y' must both keep their names"),
        ("r = Relu(x) y = Add(r, z)", X, f"{Y}, float[2,3] r", "'r' and 'y' must both keep their names"),
        ("a = Add(x, zz) y = Exp(a)", "float[1,3] x", Y, "it broadcasts 'x' to another shape"),
        ("a = Add(x, wide) y = Exp(a)", X, "float[1,2,3] y", "it broadcasts 'x' to another shape"),
        ("a = Add(x, zz) y = Exp(a)", "float[N,3] x", "float[M,3] y", "or the shapes are not known"),
    ],
)
def test_reason(body: str, inputs: str, outputs: str, reason: str) -> None:
    assert_skipped(EliminateNeutralArithmetic(), graph(body, inputs, outputs), reason)


@pytest.mark.parametrize(
    "body", ["y = Add(x, nearly)", "y = Sub(z, x)", "a = Add(x, x) y = Exp(a)", "a = Mul(x, o) y = Exp(a)"]
)
def test_others_are_not_mentioned(body: str) -> None:
    assert_skipped(EliminateNeutralArithmetic(), graph(body), "")


def test_read_in_a_subgraph() -> None:
    text = f"""g ({X}, bool c) => ({Y}) <{C}> {{
        r = Relu(x)
        a = Add(r, z)
        y = If (c) <then_branch = t () => (float[2,3] u) {{ u = Exp(a) }},
                    else_branch = e () => (float[2,3] v) {{ v = Neg(a) }}>
    }}"""
    model = check_pass(EliminateNeutralArithmetic(), text, tolerance=NOTHING)
    assert [node.op for node in model.nodes()] == ["Relu", "If"]


def test_ignored_node_stays() -> None:
    text = graph("r = Relu(x) a = Add(r, z) b = Exp(a) c = Add(z, b) y = Exp(c)")
    model = check_pass(EliminateNeutralArithmetic(ignore=("Add_1",)), text, tolerance=NOTHING)
    assert [node.op for node in model.nodes()] == ["Relu", "Add", "Exp", "Exp"]
