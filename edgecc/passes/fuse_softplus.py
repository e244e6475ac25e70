"""Pass fuse-softplus."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from edgecc.passes.base import Loss, PassContext
from edgecc.rewriting.matching import Match
from edgecc.rewriting.patterns import AnyOf, Op, Pattern, Total, Value, Weight
from edgecc.rewriting.reading import is_op, same_shape, scalar
from edgecc.rewriting.rewrite import Preparation, Replacement, Rewrite, RewritePass

if TYPE_CHECKING:
    from edgecc.model import Model, Node, Tensor

_X = Value()


class _WrittenOut(Rewrite):
    """Log(1 + Exp(x))."""

    pattern: Pattern = Op("Log", Total(Op("Exp", _X), constant=1.0))
    anchor = "Log"

    def is_candidate(self, node: Node, model: Model) -> bool:
        producer = model.producer(node.inputs[0])
        return producer is not None and producer.op == "Add"

    def replacement(self, found: Match, model: Model, ctx: PassContext) -> Replacement | str:
        x = found.tensor(_X)
        if not same_shape(x, found.output):
            return f"a constant broadcasts {x.name!r} to another shape"
        if not ctx.gains_from("Softplus"):
            return "the target gains nothing from Softplus"
        return Replacement("Softplus", [x])


_TAIL = Op("Neg", Op("Abs", _X))


class _Stable(_WrittenOut):
    """max(x, 0) + log(1 + e^-|x|), whose last part another rewrite may have made a Softplus."""

    pattern = Op(
        "Add",
        AnyOf(Op("Relu", _X), Op("Max", _X, 0)),
        AnyOf(Op("Log", Total(Op("Exp", _TAIL), constant=1.0)), Op("Softplus", _TAIL)),
    )
    anchor = "Abs"

    def is_candidate(self, node: Node, model: Model) -> bool:
        negative = model.single_consumer(node.outputs[0])
        following = None if negative is None or negative.op != "Neg" else model.single_consumer(negative.outputs[0])
        return following is not None and following.op in ("Exp", "Softplus")


_FIRST, _SECOND, _DONE = Value(), Value(), Op("Softplus", _X)


class _NanGuard(Rewrite):
    """JAX's: x itself where it is not a number, which Softplus, and max(x, 0) plus something, is there anyway."""

    pattern = Op(
        "Where",
        Op("Not", Op("Equal", _X, _X)),
        AnyOf(_X, Op("Add", _X, 0)),
        AnyOf(_DONE, Op("Add", _FIRST, _SECOND)),
    )
    anchor = "Equal"

    def is_candidate(self, node: Node, model: Model) -> bool:
        return node.inputs[0] is node.inputs[1]

    def replacement(self, found: Match, model: Model, ctx: PassContext) -> Replacement | str:
        x = found.tensor(_X)
        if found.has(_DONE):
            return Replacement("Softplus", [x]) if same_shape(x, found.output) else f"{x.name!r} is broadcast"
        parts = [found.tensor(_FIRST), found.tensor(_SECOND)]
        producers = [model.producer(part) for part in parts]
        if not any(p is not None and is_op(p, "Relu", "Max") and any(t is x for t in p.inputs) for p in producers):
            return f"neither {parts[0].name!r} nor {parts[1].name!r} is the maximum of {x.name!r} and zero"
        if not same_shape(x, found.output) or not all(same_shape(part, x) for part in parts):
            return f"{x.name!r} is broadcast"
        return Replacement("Add", parts)


_SCALED, _THRESHOLD, _BETA = Value(), Weight(), Weight()


class _Threshold(Rewrite):
    """PyTorch's: x itself above a threshold, where Softplus(x) equals it anyway."""

    pattern: Pattern = Op("Where", Op("Greater", _X, _THRESHOLD), _X, Op("Softplus", _X))
    anchor = "Where"

    def is_candidate(self, node: Node, model: Model) -> bool:
        producer = model.producer(node.inputs[2])
        if producer is not None and producer.op == "Div":
            producer = model.producer(producer.inputs[0])
        return producer is not None and producer.op == "Softplus"

    def replacement(self, found: Match, model: Model, ctx: PassContext) -> Replacement | str:
        x, threshold = found.tensor(_X), scalar(found.tensor(_THRESHOLD))
        if threshold is None or not same_shape(x, found.output):
            return "its threshold is not one number"
        least = _least_threshold(x)
        if threshold < least:
            return f"from {threshold:g} on Softplus still differs from x in {np.dtype(x.dtype)}, until {least:.3g}"
        return self.without_guard(found, model)

    def without_guard(self, found: Match, model: Model) -> Replacement | str:
        del model
        return Replacement("Softplus", [found.tensor(_X)])


class _ScaledThreshold(_Threshold):
    """The same with a factor."""

    pattern = Op("Where", Op("Greater", _SCALED, _THRESHOLD), _X, Op("Div", Op("Softplus", _SCALED), _BETA))

    def without_guard(self, found: Match, model: Model) -> Replacement | str:
        x, scaled, beta = found.tensor(_X), found.tensor(_SCALED), found.tensor(_BETA)
        node = model.producer(scaled)
        factors = [] if node is None or not is_op(node, "Mul") else [t for t in node.inputs if t is not x]
        if len(factors) != 1 or scalar(factors[0]) is None or scalar(factors[0]) != scalar(beta):
            return f"{scaled.name!r} is not {x.name!r} times {beta.name!r}, by which the Softplus is divided"
        return Replacement("Div", [Preparation("Softplus", [scaled], scaled.dtype, scaled.shape), beta])


def _least_threshold(tensor: Tensor) -> float:
    """Where Softplus(t) - t = log(1 + e^-t) is less than half a unit in the last place of t.

    That unit is at least four times the one of 1, since t is above 4 whatever the type.
    """
    epsilon = {2: 2.0**-10, 4: 2.0**-23, 8: 2.0**-52}[np.dtype(tensor.dtype).itemsize]
    return -math.log(4 * epsilon)


class FuseSoftplus(RewritePass):
    """Say Softplus where exporters write log(1 + e^x) out, or guard it against an overflow that it does not have.

    Before: a = Softplus(x)   b = Greater(x, {20})   y = Where(b, x, a)
    After:  y = Softplus(x)

    That is what PyTorch's newer exporter writes, with a factor too: Where(beta x > 20, x, Softplus(beta x) / beta).
    JAX writes max(x, 0) + log(1 + e^-|x|), and x instead where x is not a number: that goes too, since the sum is not a
    number there either.

    The sum becomes a Softplus where the target gains, and so does Log(Add(Exp(x), 1)), which is how ONNX defines
    Softplus: ONNX Runtime's kernel takes five times as long as the three nodes, and TFLite has to write it with five.

    Attributes:
        ignore: patterns of node names to leave alone.
    """

    name = "fuse-softplus"
    loss = Loss.ROUNDING
    rewrites = (_WrittenOut(), _Stable(), _NanGuard(), _Threshold(), _ScaledThreshold())
