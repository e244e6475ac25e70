"""Pass fuse-mish."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgecc.passes.base import Loss, PassContext
from edgecc.rewriting.matching import Match
from edgecc.rewriting.patterns import AnyOf, Op, Product, Total, Value
from edgecc.rewriting.reading import same_shape
from edgecc.rewriting.rewrite import Replacement, Rewrite, RewritePass

if TYPE_CHECKING:
    from edgecc.model import Model, Node

_X = Value()
_WRITTEN_OUT = Op("Log", Total(Op("Exp", _X), constant=1.0))


class _Mish(Rewrite):
    pattern = Product(_X, Op("Tanh", AnyOf(Op("Softplus", _X), _WRITTEN_OUT)))
    anchor = "Tanh"

    def is_candidate(self, node: Node, model: Model) -> bool:
        producer = model.producer(node.inputs[0])
        return producer is not None and producer.op in ("Softplus", "Log")

    def replacement(self, found: Match, model: Model, ctx: PassContext) -> Replacement | str:
        x = found.tensor(_X)
        if not same_shape(x, found.output):
            return f"a constant broadcasts {x.name!r} to another shape"
        for op in ("Mish", "Softplus") if found.has(_WRITTEN_OUT) else ("Mish",):
            if not ctx.gains_from(op):
                return f"the target gains nothing from {op}"
        return Replacement("Mish", [x])


class FuseMish(RewritePass):
    """Say Mish where exporters write x tanh(softplus(x)) (arXiv 1908.08681) out.

    Before: a = Softplus(x)   b = Tanh(a)   y = Mul(x, b)
    After:  y = Mish(x)

    Also with Log(1 + Exp(x)) for Softplus, where the target gains from Softplus as well.

    Attributes:
        ignore: patterns of node names to leave alone.
    """

    name = "fuse-mish"
    loss = Loss.ROUNDING
    rewrites = (_Mish(),)
