"""Pass fuse-rms-normalization."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgecc.passes.base import Loss, PassContext
from edgecc.rewriting.absorption import AbsorbOverLastAxes
from edgecc.rewriting.matching import Match
from edgecc.rewriting.moments import EPSILON, X, first_axis, layer_parts, mean_of, normalized, square_of
from edgecc.rewriting.patterns import Op
from edgecc.rewriting.precision import DropCasts
from edgecc.rewriting.reading import is_op
from edgecc.rewriting.rewrite import Replacement, Rewrite, RewritePass

if TYPE_CHECKING:
    from edgecc.model import Model, Tensor


class _Written(Rewrite):
    """The formula; a scale behind it follows by itself."""

    pattern = normalized(X, Op("Add", mean_of(square_of(X)), EPSILON))
    anchor = "Sqrt"

    def replacement(self, found: Match, model: Model, ctx: PassContext) -> Replacement | str:
        x = found.tensor(X)
        axis = first_axis(found)
        parts = axis if isinstance(axis, str) else layer_parts(found, axis)
        if isinstance(parts, str):
            return parts
        if _is_centred(x, model):
            return f"the mean of {x.name!r} is subtracted first: LayerNormalization or InstanceNormalization"
        if np.dtype(x.dtype) == np.float64:
            return "RMSNormalization computes float64 in float32"
        if not ctx.gains_from("RMSNormalization"):
            return "the target gains nothing from RMSNormalization"
        attributes: dict[str, object] = {
            "axis": parts.axis - len(x.shape or ()),
            "epsilon": parts.epsilon,
            "stash_type": 1,
        }
        scale = model.constant(f"{found.root.name}/scale", parts.scale)
        return Replacement("RMSNormalization", [x, scale], attributes)


def _is_centred(x: Tensor, model: Model) -> bool:
    """Whether x is a tensor minus its own mean."""
    centring = model.producer(x)
    if centring is None or not is_op(centring, "Sub"):
        return False
    mean = model.producer(centring.inputs[1])
    return mean is not None and is_op(mean, "ReduceMean") and mean.inputs[0] is centring.inputs[0]


class FuseRMSNormalization(RewritePass):
    """Say RMSNormalization (Zhang and Sennrich, arXiv 1910.07467) where exporters write it out.

    Before: q = Pow(x, {2})   m = ReduceMean(q, {-1})   e = Add(m, {0.00001})   s = Sqrt(e)   r = Reciprocal(s)
            n = Mul(x, r)   y = Mul(n, scale)
    After:  y = RMSNormalization<axis = -1, epsilon = 0.00001, stash_type = 1>(x, scale)

    Over any number of last axes, with Mul for Pow, Div for Reciprocal and sums for means. An RMSNormalization takes a
    Mul or Div by constants behind it into its scale; Casts around it from half precision to float32 and back go: it
    computes in float32 anyway. What subtracts a mean first is left to fuse-layer-normalization and
    fuse-instance-normalization.

    Attributes:
        ignore: patterns of node names to leave alone.
    """

    name = "fuse-rms-normalization"
    loss = Loss.ROUNDING
    rewrites = (
        _Written(),
        AbsorbOverLastAxes("RMSNormalization", "Mul"),
        AbsorbOverLastAxes("RMSNormalization", "Div"),
        DropCasts("RMSNormalization"),
    )
