"""Pass fuse-hard-swish."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgecc.passes.base import Loss, PassContext
from edgecc.rewriting.limits import Limits, own_limits
from edgecc.rewriting.matching import Match
from edgecc.rewriting.patterns import AnyOf, Op, Product, Total, Value
from edgecc.rewriting.reading import is_close, is_floating, number, same_shape
from edgecc.rewriting.rewrite import Replacement, Rewrite, RewritePass

if TYPE_CHECKING:
    from edgecc.model import Model, Node

_X = Value()
_SHIFTED = Total(_X, constant=3.0)
_RELU6 = AnyOf(
    Op("Clip", _SHIFTED, 0, 6),
    Op("Min", Op("Max", _SHIFTED, 0), 6),
    Op("Max", Op("Min", _SHIFTED, 6), 0),
    Op("Min", Op("Relu", _SHIFTED), 6),
)


class _HardSwish(Rewrite):
    """Both forms."""

    def replacement(self, found: Match, model: Model, ctx: PassContext) -> Replacement | str:
        x = found.tensor(_X)
        if not same_shape(x, found.output):
            return f"a constant broadcasts {x.name!r} to another shape"
        if not is_floating(x.dtype) or _is_double(x.dtype):
            return f"it computes in {x.dtype}, and HardSwish keeps its factor in float32"
        if not ctx.gains_from("HardSwish"):
            return "the target gains nothing from HardSwish"
        return Replacement("HardSwish", [x])


class _OfClip(_HardSwish):
    pattern = Product(_X, _RELU6, scale=1 / 6)
    anchor = "Clip"

    def is_candidate(self, node: Node, model: Model) -> bool:
        found = own_limits(node)
        if not isinstance(found, Limits) or (found.low, found.high) != (0, 6):
            return False
        producer = model.producer(found.source)
        return producer is not None and producer.op in ("Add", "Sub")


_GATE = Op("HardSigmoid", _X)


class _OfHardSigmoid(_HardSwish):
    pattern = Product(_X, _GATE)
    anchor = "HardSigmoid"

    def is_candidate(self, node: Node, model: Model) -> bool:
        # Most gate another tensor, in squeeze and excite blocks.
        x, gate = node.inputs[0], node.outputs[0]
        products = [reader for reader in model.consumers(gate) if reader.op == "Mul"]
        return any(tensor is x for reader in products for tensor in reader.inputs)

    def replacement(self, found: Match, model: Model, ctx: PassContext) -> Replacement | str:
        gate = found.node(_GATE)
        alpha, beta = number(gate, "alpha", 0.2), number(gate, "beta", 0.5)
        # Attributes are float32, whatever the tensor is.
        if not is_close(alpha, 1 / 6, np.float32) or not is_close(beta, 0.5, np.float32):
            return f"its HardSigmoid has alpha {alpha:g} and beta {beta:g}, not 1/6 and 0.5"
        return super().replacement(found, model, ctx)


def _is_double(dtype: np.dtype) -> bool:
    return dtype.itemsize == 8


class FuseHardSwish(RewritePass):
    """Say HardSwish where exporters write x relu6(x + 3) / 6 (MobileNetV3, arXiv 1905.02244) out.

    Before: a = Add(x, {3})   b = Clip(a, {0}, {6})   c = Mul(x, b)   y = Div(c, {6})
    After:  y = HardSwish(x)

    In any order of the factors, with Min, Max and Relu for the Clip, and x HardSigmoid<alpha = 1/6, beta = 0.5>(x).
    TFLite has the operator. ONNX Runtime makes HardSigmoid and Mul of it, TensorRT too.

    Attributes:
        ignore: patterns of node names to leave alone.
    """

    name = "fuse-hard-swish"
    loss = Loss.ROUNDING
    rewrites = (_OfClip(), _OfHardSigmoid())
