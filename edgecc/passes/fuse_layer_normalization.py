"""Pass fuse-layer-normalization."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgecc.passes.base import Loss, PassContext
from edgecc.rewriting.absorption import AbsorbOverLastAxes
from edgecc.rewriting.matching import Match
from edgecc.rewriting.moments import STANDARDIZED, X, first_axis, layer_parts, prefers_channels
from edgecc.rewriting.precision import DropCasts
from edgecc.rewriting.rewrite import Replacement, Rewrite, RewritePass

if TYPE_CHECKING:
    from edgecc.model import Model


class _Written(Rewrite):
    """The formula; a scale and a bias behind it follow by themselves."""

    pattern = STANDARDIZED
    anchor = "Sqrt"

    def replacement(self, found: Match, model: Model, ctx: PassContext) -> Replacement | str:
        x = found.tensor(X)
        axis = first_axis(found)
        if isinstance(axis, str):
            return axis
        if prefers_channels(found, axis, model):
            return "it normalizes the space of each channel: InstanceNormalization"
        parts = layer_parts(found, axis)
        if isinstance(parts, str):
            return parts
        if np.dtype(x.dtype) == np.float64:
            return "LayerNormalization computes float64 in float32"
        if not ctx.gains_from("LayerNormalization"):
            return "the target gains nothing from LayerNormalization"
        attributes: dict[str, object] = {
            "axis": parts.axis - len(x.shape or ()),
            "epsilon": parts.epsilon,
            "stash_type": 1,
        }
        names = (f"{found.root.name}/scale", f"{found.root.name}/bias")
        values = [parts.scale] if parts.bias is None else [parts.scale, parts.bias]
        constants = [model.constant(name, part) for name, part in zip(names, values, strict=False)]
        return Replacement("LayerNormalization", [x, *constants], attributes)


class FuseLayerNormalization(RewritePass):
    """Say LayerNormalization (Ba et al., arXiv 1607.06450) where exporters write it out.

    Before: m = ReduceMean(x, {-1})   d = Sub(x, m)   q = Pow(d, {2})   v = ReduceMean(q, {-1})   e = Add(v, {0.00001})
            s = Sqrt(e)   n = Div(d, s)   w = Mul(n, scale)   y = Add(w, bias)
    After:  y = LayerNormalization<axis = -1, epsilon = 0.00001, stash_type = 1>(x, scale, bias)

    Over any number of last axes; with Mul for Pow, Reciprocal for Div, sums for means, the variance as E[x^2] - E[x]^2,
    and TensorFlow's x * factor + (bias - mean * factor). A LayerNormalization takes a Mul, Div, Add or Sub of constants
    behind it into its scale and bias; Casts around it from half precision to float32 and back go, because it computes
    in float32 anyway.

    Attributes:
        ignore: patterns of node names to leave alone.
    """

    name = "fuse-layer-normalization"
    loss = Loss.ROUNDING
    rewrites = (
        _Written(),
        *(AbsorbOverLastAxes("LayerNormalization", op) for op in ("Mul", "Div", "Add", "Sub")),
        DropCasts("LayerNormalization"),
    )
