"""Pass fuse-global-average-pool."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgecc.passes.base import Loss, NodePass, PassContext
from edgecc.rewriting.shapes import reduced_axes

if TYPE_CHECKING:
    from edgecc.model import Model, Node


class FuseGlobalAveragePool(NodePass):
    """Say GlobalAveragePool where a ReduceMean goes over all spatial axes.

    Before: y = ReduceMean<keepdims = 1>(x, axes)   (x is [N, C, H, W], axes = [-1, -2])
    After:  y = GlobalAveragePool(x)

    A runtime may sum in another order, hence rounding.

    Attributes:
        ignore: patterns of node names to leave alone.
    """

    name = "fuse-global-average-pool"
    loss = Loss.ROUNDING
    keeps_types = True

    def candidates(self, model: Model) -> list[Node]:
        return model.nodes("ReduceMean", ignore=self.ignore)

    def visit(self, node: Node, model: Model, ctx: PassContext) -> bool:
        reason = _refuses(node, ctx)
        if reason is not None:
            ctx.skip(node, reason)
            return False
        ctx.done(node, "ReduceMean became GlobalAveragePool")
        model.replace(node, "GlobalAveragePool", [node.inputs[0]])
        return True


def _refuses(node: Node, ctx: PassContext) -> str | None:
    import numpy as np

    shape, axes = node.inputs[0].shape, reduced_axes(node)
    if shape is None or axes is None:
        return "the axes that it reduces are not known"
    if len(shape) not in (3, 4, 5):
        return f"its input has {len(shape)} axes, not a batch, channels and one to three spatial ones"
    if axes != list(range(2, len(shape))):
        return f"it reduces axes {axes} of {len(shape)}, not all spatial ones"
    if not node.attrs.get("keepdims", 1):
        return "it drops the axes that it reduces"
    if node.inputs[0].dtype is None or np.dtype(node.inputs[0].dtype).name not in ("float16", "float32", "float64"):
        return f"its input is {node.inputs[0].dtype}"
    return None if ctx.gains_from("GlobalAveragePool") else "the target gains nothing from GlobalAveragePool"
