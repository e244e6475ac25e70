"""RewritePass: what it does with matches, and the reasons that it gives."""

from __future__ import annotations

import numpy as np

from edgecc.model import Model
from edgecc.passes.base import Loss, PassContext
from edgecc.passes.pipeline import PassPipeline
from edgecc.rewriting.matching import Match
from edgecc.rewriting.patterns import Op, Value
from edgecc.rewriting.rewrite import Replacement, Rewrite, RewritePass
from edgecc.testing import assert_skipped, check_pass

X = Value()


class _NegNeg(Rewrite):
    pattern = Op("Neg", Op("Neg", X))
    anchor = "Neg"

    def replacement(self, found: Match, model: Model, ctx: PassContext) -> Replacement | str:
        if found.tensor(X).name == "precious":
            return "its input is precious"
        return Replacement("Identity", [found.tensor(X)])


class _IdentityAbs(Rewrite):
    pattern = Op("Abs", Op("Identity", X))

    def replacement(self, found: Match, model: Model, ctx: PassContext) -> Replacement | str:
        return Replacement("Abs", [found.tensor(X)])


class Simplify(RewritePass):
    """Before: a = Neg(x)  y = Neg(a)   After: y = Identity(x)"""

    name = "simplify"
    loss = Loss.EXACT
    rewrites = (_NegNeg(), _IdentityAbs())


def test_rewrites_feed_each_other() -> None:
    model = check_pass(
        Simplify(),
        before="g (float[2] x) => (float[2] y) { [a] t = Neg(x) [b] u = Neg(t) [c] v = Abs(u) [d] y = Exp(v) }",
        after="g (float[2] x) => (float[2] y) { v = Abs(x) y = Exp(v) }",
    )
    first, _ = model.nodes()
    assert (first.name, first.origins) == ("c", ("a", "b", "c"))


def test_changes_are_recorded() -> None:
    model = Model.from_text("g (float[2] x) => (float[2] y) { [a] t = Neg(x) [b] y = Neg(t) }")
    ctx = PassContext(None, np.random.default_rng(0))
    PassPipeline([Simplify()]).run(model, ctx)
    (change,) = ctx.changes
    assert (change.pass_name, change.node, change.op) == ("simplify", "a, b", "Neg")
    assert change.what == "Neg + Neg became Identity"


def test_reason_of_the_rewrite() -> None:
    text = "g (float[2] precious) => (float[2] y) { t = Neg(precious) y = Neg(t) }"
    assert_skipped(Simplify(), text, "its input is precious")


def test_reason_of_the_match() -> None:
    text = "g (float[2] x) => (float[2] y) { t = Relu(x) y = Neg(t) }"
    assert_skipped(Simplify(), text, "'t' comes from Relu_0 (Relu), not from Neg")


def test_more_rewrites() -> None:
    class ReluRelu(Rewrite):
        pattern = Op("Relu", Op("Relu", X))
        extends = "simplify"

        def replacement(self, found: Match, model: Model, ctx: PassContext) -> Replacement | str:
            return Replacement("Relu", [found.tensor(X)])

    text = "g (float[2] x) => (float[2] y) { t = Relu(x) y = Relu(t) }"
    model = Model.from_text(text)
    ctx = PassContext(None, np.random.default_rng(0))
    assert not PassPipeline([Simplify()]).run(model, ctx).records[0].changed
    extended = Simplify().with_rewrites([ReluRelu()])
    assert PassPipeline([extended]).run(model, ctx).records[0].changed
    assert len(model.nodes()) == 1
    assert Simplify().all_rewrites() == Simplify.rewrites
