"""Pass fuse-mish."""

from __future__ import annotations

import numpy as np
import pytest

from edgecc.model import Model
from edgecc.passes.base import PassContext
from edgecc.passes.fuse_mish import FuseMish
from edgecc.passes.fuse_softplus import FuseSoftplus
from edgecc.passes.pipeline import PassPipeline
from edgecc.target import Target
from edgecc.testing import assert_skipped, check_pass

#: Mish against its formula, both in float32.
ROUNDING = 1e-6

SIGNATURE = "(float[2,8] x) => (float[2,8] y)"
TWO = "(float[2,8] x) => (float[2,8] y, float[2,8] z)"
CONSTANTS = "<float one = {1}, float two = {2}, float twenty = {20}>"
FORMULA = "a = Softplus(x) b = Tanh(a) y = Mul(x, b)"
WRITTEN_OUT = "e = Exp(x) p = Add(e, one) a = Log(p) b = Tanh(a) y = Mul(b, x)"


def graph(body: str, signature: str = SIGNATURE) -> str:
    return f"g {signature} {CONSTANTS} {{ {body} }}"


@pytest.mark.parametrize("body", [FORMULA, WRITTEN_OUT], ids=["torch script", "written out"])
def test_forms(body: str) -> None:
    feeds = {"x": np.linspace(-20, 100, 16, dtype=np.float32).reshape(2, 8)}
    check_pass(FuseMish(), before=graph(body), after=graph("y = Mish(x)"), tolerance=ROUNDING, feeds=feeds)


def test_torch_dynamo_with_a_guarded_softplus() -> None:
    body = "t = Softplus(x) g = Greater(x, twenty) a = Where(g, x, t) b = Tanh(a) y = Mul(x, b)"
    model = Model.from_text(graph(body))
    PassPipeline([FuseSoftplus(), FuseMish()]).run(model, PassContext(None, np.random.default_rng(0)))
    assert [node.op for node in model.nodes()] == ["Mish"]


def test_open_shape_and_origins() -> None:
    signature = "(float[N,8] x) => (float[N,8] y)"
    body = FORMULA.replace("b = Tanh", "[tanh] b = Tanh").replace("y = Mul", "[end] y = Mul")
    model = check_pass(FuseMish(), before=graph(body, signature), tolerance=ROUNDING)
    (node,) = model.nodes()
    assert node.name == "end"
    assert "tanh" in node.origins


@pytest.mark.parametrize(
    ("body", "signature", "reason"),
    [
        (
            FORMULA.replace("Mul(x, b)", "Mul(w, b)"),
            "(float[2,8] x, float[2,8] w) => (float[2,8] y)",
            "the same tensor",
        ),
        (WRITTEN_OUT.replace("one", "two"), SIGNATURE, "make 2, not 1"),
        (FORMULA.replace("b", "z"), TWO, "'z' is an output"),
        (FORMULA + " z = Neg(a)", TWO, "'a' is read by"),
        ("a = Tanh(x) y = Mul(x, a)", SIGNATURE, ""),
    ],
)
def test_left_alone(body: str, signature: str, reason: str) -> None:
    assert_skipped(FuseMish(), before=graph(body, signature), reason=reason)


@pytest.mark.parametrize(
    ("body", "fused", "reason"),
    [(FORMULA, (), "nothing from Mish"), (WRITTEN_OUT, ("Mish",), "nothing from Softplus")],
)
def test_target_without_it(body: str, fused: tuple[str, ...], reason: str) -> None:
    class Small(Target):
        name = "small"
        suffixes = (".small",)

    Small.fused = frozenset(fused)
    assert_skipped(FuseMish(), before=graph(body), reason=reason, target=Small())


def test_reader_in_a_subgraph() -> None:
    text = f"""g (bool k, float[2,8] x) => (float[2,8] y, float[2,8] z) {CONSTANTS} {{ {FORMULA} z = If(k)<
        then_branch = p () => (float[2,8] r) {{ r = Neg(b) }},
        else_branch = q () => (float[2,8] s) {{ s = Identity(x) }}> }}"""
    assert_skipped(FuseMish(), before=text, reason="'b' is read by")


def test_ignored() -> None:
    assert_skipped(FuseMish(ignore=("mine",)), before=graph(FORMULA.replace("b =", "[mine] b =")), reason="")
