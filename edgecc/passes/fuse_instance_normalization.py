"""Pass fuse-instance-normalization."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgecc.passes.base import Loss, PassContext
from edgecc.rewriting.absorption import AbsorbOverChannels
from edgecc.rewriting.matching import Match
from edgecc.rewriting.moments import STANDARDIZED, X, channel_parts, first_axis, prefers_channels
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
        if axis != 2:
            return f"it normalizes the axes from {axis} on, not the space of each channel, from 2 on"
        parts = channel_parts(found)
        if isinstance(parts, str):
            return parts
        if not prefers_channels(found, axis, model):
            return "it normalizes features rather than the space of each channel: LayerNormalization"
        if np.dtype(x.dtype) not in (np.float16, np.float32):
            return f"runtimes have no InstanceNormalization of {np.dtype(x.dtype)}"
        if not ctx.gains_from("InstanceNormalization"):
            return "the target gains nothing from InstanceNormalization"
        bias = np.zeros_like(parts.scale) if parts.bias is None else parts.bias
        constants = [
            model.constant(f"{found.root.name}/{name}", values)
            for name, values in (("scale", parts.scale), ("bias", bias))
        ]
        return Replacement("InstanceNormalization", [x, *constants], {"epsilon": parts.epsilon})


class FuseInstanceNormalization(RewritePass):
    """Say InstanceNormalization (Ulyanov et al., arXiv 1607.08022) where exporters write it out.

    Before: m = ReduceMean(x, {2, 3})   d = Sub(x, m)   q = Mul(d, d)   v = ReduceMean(q, {2, 3})   e = Add(v, {0.001})
            s = Sqrt(e)   n = Div(d, s)   w = Mul(n, scale)   y = Add(w, bias)
    After:  y = InstanceNormalization<epsilon = 0.001>(x, scale, bias)

    In every spelling that fuse-layer-normalization knows. Both match when mean and variance are those of axis 2 and all
    behind it: constants behind them decide, with one value per channel or over the space, and without any this pass
    takes what has more than one axis, or is between Reshapes. A Mul, Div, Add or Sub of one constant per channel behind
    an InstanceNormalization goes into its scale and bias.

    Attributes:
        ignore: patterns of node names to leave alone.
    """

    name = "fuse-instance-normalization"
    loss = Loss.ROUNDING
    rewrites = (
        _Written(),
        *(AbsorbOverChannels("InstanceNormalization", op) for op in ("Mul", "Div", "Add", "Sub")),
    )
