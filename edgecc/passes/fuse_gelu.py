"""Pass fuse-gelu."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from edgecc.passes.base import Loss, PassContext
from edgecc.rewriting.matching import Match
from edgecc.rewriting.patterns import AnyOf, Op, Product, Total, Value
from edgecc.rewriting.reading import same_shape
from edgecc.rewriting.rewrite import Replacement, Rewrite, RewritePass

if TYPE_CHECKING:
    from edgecc.model import Model

_X = Value()


class _Gelu(Rewrite):
    """Both forms; what stands for x is the same tensor in all its places."""

    approximate = "none"

    def replacement(self, found: Match, model: Model, ctx: PassContext) -> Replacement | str:
        x = found.tensor(_X)
        if not same_shape(x, found.output):
            return f"a constant broadcasts {x.name!r} to another shape"
        if not ctx.gains_from("Gelu"):
            return "the target gains nothing from Gelu"
        return Replacement("Gelu", [x], {"approximate": self.approximate})


_ROOT = math.sqrt(0.5)
_NEGATIVE = AnyOf(Product(Op("Neg", _X), scale=_ROOT), Op("Neg", Product(_X, scale=_ROOT)), Product(_X, scale=-_ROOT))
#: 1 + erf(x / sqrt 2), or 1 - erf(-x / sqrt 2), which is what JAX calls erfc.
_TWICE_PHI = AnyOf(Total(Op("Erf", Product(_X, scale=_ROOT)), constant=1.0), Op("Sub", 1, Op("Erf", _NEGATIVE)))


class _Exact(_Gelu):
    pattern = Product(_X, _TWICE_PHI, scale=0.5)
    anchor = "Erf"


_SQUARE_ROOT = math.sqrt(2 / math.pi)
_CUBIC = AnyOf(
    Product(Op("Pow", _X, 3), scale=0.044715),
    Product(_X, _X, _X, scale=0.044715),
    Product(_X, Op("Pow", _X, 2), scale=0.044715),
)
_QUADRATIC = AnyOf(Product(Op("Pow", _X, 2), scale=0.044715), Product(_X, _X, scale=0.044715))
#: x + 0.044715 x^3, or x (1 + 0.044715 x^2), scaled.
_POLYNOMIAL = AnyOf(
    Product(Total(_X, _CUBIC), scale=_SQUARE_ROOT),
    Product(_X, Total(_QUADRATIC, constant=1.0), scale=_SQUARE_ROOT),
)


class _Tanh(_Gelu):
    pattern = Product(_X, Total(Op("Tanh", _POLYNOMIAL), constant=1.0), scale=0.5)
    approximate = "tanh"


class FuseGelu(RewritePass):
    """Say Gelu where exporters write the formula of Hendrycks and Gimpel (arXiv 1606.08415) out.

    Before: a = Div(x, {1.4142135})   b = Erf(a)   c = Add(b, {1})   d = Mul(x, c)   y = Mul(d, {0.5})
    After:  y = Gelu(x)

    In any order of the factors, also with 1 - erf(-x / sqrt 2), as JAX has it, and with Sum, as ONNX defines Gelu. The
    approximation through Tanh, 0.5 x (1 + Tanh(0.79788456 (x + 0.044715 x^3))), becomes Gelu<approximate = "tanh">.
    The one through Sigmoid, x Sigmoid(1.702 x), stays: ONNX has no operator for it.

    Attributes:
        ignore: patterns of node names to leave alone.
    """

    name = "fuse-gelu"
    loss = Loss.ROUNDING
    rewrites = (_Exact(), _Tanh())
