"""Pass fuse-group-normalization."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgecc.passes.base import Loss, NodePass, PassContext

if TYPE_CHECKING:
    from edgecc.model import Model, Node


class FuseGroupNormalization(NodePass):
    """Say GroupNormalization where exporters say it through InstanceNormalization of merged axes.

    Before: g = Reshape(x, [0, 8, -1])   n = InstanceNormalization(g, scale, bias)   y = Reshape(n, [0, 32, 16, 16])
    After:  y = GroupNormalization<num_groups = 8>(x, scales, biases)

    The merged axis can only be normalized as the source has it; channels and space apart, they may lie in any order.

    Attributes:
        ignore: patterns of node names (of the InstanceNormalization) to leave alone.
    """

    name = "fuse-group-normalization"
    loss = Loss.ROUNDING

    def candidates(self, model: Model) -> list[Node]:
        return model.nodes("InstanceNormalization", ignore=self.ignore)

    def visit(self, node: Node, model: Model, ctx: PassContext) -> bool:
        from edgecc.model import merged_origins, value_of

        merge, split = model.producer(node.inputs[0]), model.single_consumer(node.outputs[0])
        if merge is None or split is None or (merge.op, split.op) != ("Reshape", "Reshape"):
            return False
        x, y = merge.inputs[0], split.outputs[0]
        if node.outputs[0] is not split.inputs[0] or not _merges_groups(x.shape, node.inputs[0].shape, y.shape):
            ctx.skip(node, "the Reshapes around it do not merge groups of channels with the space behind them")
            return False
        scale, bias = value_of(node.inputs[1]), value_of(node.inputs[2])
        if scale is None or bias is None:
            ctx.skip(node, "its scale or bias is computed")
            return False
        groups, channels = node.inputs[0].shape[1], x.shape[1]
        repeated = [
            model.constant(f"{node.name}_{what}", np.repeat(values, channels // groups))
            for what, values in (("scale", scale), ("bias", bias))
        ]
        attributes = {"num_groups": groups, "epsilon": node.attrs.get("epsilon", 1e-5)}
        origins = merged_origins([merge, node, split])
        model.remove(split)
        model.add("GroupNormalization", [x, *repeated], [y], attributes=attributes, origins=origins, name=node.name)
        return True


def _merges_groups(
    shape: list[int | str] | None, grouped: list[int | str] | None, result: list[int | str] | None
) -> bool:
    """Whether (batch, channels, ...) became (batch, groups, rest) and came back."""
    if shape is None or grouped is None or shape != result or len(shape) < 3 or len(grouped) != 3:
        return False
    channels, groups, batch = shape[1], grouped[1], shape[0]
    if not isinstance(channels, int) or not isinstance(groups, int) or batch != grouped[0]:
        return False
    return channels % groups == 0
