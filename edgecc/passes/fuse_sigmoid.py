"""Pass fuse-sigmoid."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgecc.passes.base import Loss, PassContext
from edgecc.rewriting.matching import Match
from edgecc.rewriting.patterns import AnyOf, Op, Pattern, Product, Total, Value
from edgecc.rewriting.reading import is_floating, same_shape
from edgecc.rewriting.rewrite import Preparation, Replacement, Rewrite, RewritePass

if TYPE_CHECKING:
    from edgecc.model import Model, Node

_X = Value()
_EXP = Op("Exp", AnyOf(Op("Neg", _X), Op("Sub", 0, _X), Product(_X, scale=-1)))
_DIVISOR = Total(_EXP, constant=1.0)
_NUMERATOR = Value()


class _Sigmoid(Rewrite):
    """One over 1 + e^-x."""

    pattern: Pattern = AnyOf(Op("Reciprocal", _DIVISOR), Op("Div", 1, _DIVISOR))
    anchor = "Exp"

    def is_candidate(self, node: Node, model: Model) -> bool:
        return any(reader.op == "Add" for reader in model.consumers(node.outputs[0])) and _negates(node, model)

    def replacement(self, found: Match, model: Model, ctx: PassContext) -> Replacement | str:
        x = found.tensor(_X)
        if not same_shape(x, found.output):
            return f"a constant broadcasts {x.name!r} to another shape"
        return Replacement("Sigmoid", [x])


class _Gated(_Sigmoid):
    """A tensor over 1 + e^-x."""

    pattern = Op("Div", _NUMERATOR, _DIVISOR)

    def replacement(self, found: Match, model: Model, ctx: PassContext) -> Replacement | str:
        x, divisor = found.tensor(_X), found.tensor(_DIVISOR)
        if not same_shape(x, divisor):
            return f"a constant broadcasts {x.name!r} to another shape"
        if not is_floating(x.dtype):
            return f"{x.name!r} is {x.dtype}"
        return Replacement("Mul", [found.tensor(_NUMERATOR), Preparation("Sigmoid", [x], x.dtype, x.shape)])


def _negates(node: Node, model: Model) -> bool:
    producer = model.producer(node.inputs[0])
    return producer is not None and producer.op in ("Neg", "Mul", "Div", "Sub")


class FuseSigmoid(RewritePass):
    """Say Sigmoid where a model writes 1 / (1 + e^-x) out, and Mul(x, Sigmoid(x)) for x / (1 + e^-x), which is Swish.

    Before: a = Neg(x)   b = Exp(a)   c = Add(b, {1})   y = Div(x, c)
    After:  s = Sigmoid(x)   y = Mul(x, s)

    Mul(x, Sigmoid(x)) is how edgecc writes Swish (SiLU), since ONNX has no operator for it before opset 24. ONNX
    Runtime fuses the two when it loads the model, TensorRT when it builds the engine; TFLite runs LOGISTIC and MUL.

    Attributes:
        ignore: patterns of node names to leave alone.
    """

    name = "fuse-sigmoid"
    loss = Loss.ROUNDING
    rewrites = (_Sigmoid(), _Gated())
