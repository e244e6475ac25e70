"""Pass fuse-group-normalization."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgecc.passes.base import Loss, PassContext
from edgecc.rewriting.absorption import AbsorbOverChannels
from edgecc.rewriting.matching import Match
from edgecc.rewriting.patterns import Op, Value
from edgecc.rewriting.rewrite import Replacement, Rewrite, RewritePass

if TYPE_CHECKING:
    from edgecc.model import Model, Node

_X, _SCALE, _BIAS = Value(), Value(), Value()
_NORMAL = Op("InstanceNormalization", Op("Reshape", _X, Value()), _SCALE, _BIAS)


class _Grouped(Rewrite):
    """Groups of channels as the channels of an InstanceNormalization."""

    pattern = Op("Reshape", _NORMAL, Value())
    anchor = "InstanceNormalization"

    def is_candidate(self, node: Node, model: Model) -> bool:
        before = model.producer(node.inputs[0])
        behind = model.consumers(node.outputs[0])
        return before is not None and before.op == "Reshape" and any(reader.op == "Reshape" for reader in behind)

    def replacement(self, found: Match, model: Model, ctx: PassContext) -> Replacement | str:
        from edgecc.model import value_of

        x, normal = found.tensor(_X), found.node(_NORMAL)
        grouped = normal.inputs[0].shape
        if not _merges_groups(x.shape, grouped, found.output.shape):
            return "the Reshapes around it do not merge groups of channels with the space behind them"
        assert x.shape is not None
        assert grouped is not None
        scale, bias = value_of(found.tensor(_SCALE)), value_of(found.tensor(_BIAS))
        if scale is None or bias is None:
            return "its scale or bias is computed"
        if np.dtype(x.dtype) == np.float64:
            return "GroupNormalization computes float64 in float32"
        if not ctx.gains_from("GroupNormalization"):
            return "the target gains nothing from GroupNormalization"
        groups, channels = int(grouped[1]), int(x.shape[1])
        repeated = [
            model.constant(f"{normal.name}/{what}", np.repeat(values, channels // groups))
            for what, values in (("scale", scale), ("bias", bias))
        ]
        attributes: dict[str, object] = {
            "num_groups": groups,
            "epsilon": normal.attrs.get("epsilon", 1e-5),
            "stash_type": 1,
        }
        return Replacement("GroupNormalization", [x, *repeated], attributes)


class FuseGroupNormalization(RewritePass):
    """Say GroupNormalization (Wu and He, arXiv 1803.08494) where exporters write InstanceNormalization of merged axes.

    Before: g = Reshape(x, [0, 8, -1])   n = InstanceNormalization(g, scale, bias)   y = Reshape(n, [0, 32, 16, 16])
    After:  y = GroupNormalization<num_groups = 8, stash_type = 1>(x, scales, biases)

    Only for targets that gain from it: a merged axis forbids every other order of channels and space. A Mul, Div, Add
    or Sub of one constant per channel behind a GroupNormalization goes into its scale and bias.

    Attributes:
        ignore: patterns of node names to leave alone.
    """

    name = "fuse-group-normalization"
    loss = Loss.ROUNDING
    rewrites = (
        _Grouped(),
        *(AbsorbOverChannels("GroupNormalization", op) for op in ("Mul", "Div", "Add", "Sub")),
    )


def _merges_groups(
    shape: list[int | str] | None, grouped: list[int | str] | None, result: list[int | str] | None
) -> bool:
    """Whether (batch, channels, ...) became (batch, groups, rest ...) and came back."""
    if shape is None or grouped is None or result is None or list(shape) != list(result):
        return False
    if len(shape) < 3 or len(grouped) < 3 or shape[0] != grouped[0]:
        return False
    channels, groups = shape[1], grouped[1]
    return isinstance(channels, int) and isinstance(groups, int) and channels % groups == 0
