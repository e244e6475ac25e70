"""Pass scale-resizes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgecc.passes.base import Loss, NodePass, PassContext

if TYPE_CHECKING:
    from edgecc.model import Model, Node


class ScaleResizes(NodePass):
    """Say by which factors a Resize of some axes resizes, instead of to which sizes.

    Before: y = Resize<axes = [2, 3]>(x, , , sizes)      x: [batch, 3, 14, 14], sizes = [28, 28]
    After:  y = Resize(x, , scales)                      scales = [1, 1, 2, 2]

    TensorRT's parser takes the sizes of the axes that are not named for -1 where they are open, and refuses the node.
    Sizes that are no whole multiples stay as they are: a factor is rounded, and could lose a row.

    Attributes:
        ignore: patterns of node names to leave alone.
    """

    name = "scale-resizes"
    loss = Loss.EXACT

    def candidates(self, model: Model) -> list[Node]:
        return [node for node in model.nodes("Resize", ignore=self.ignore) if "axes" in node.attrs]

    def visit(self, node: Node, model: Model, ctx: PassContext) -> bool:
        from edgecc.model import value_of

        source = node.inputs[0]
        sizes = value_of(node.inputs[3]) if len(node.inputs) > 3 and not node.inputs[3].is_empty() else None
        if sizes is None or source.shape is None or node.attrs.get("keep_aspect_ratio_policy", "stretch") != "stretch":
            return False
        scales = np.ones(len(source.shape), np.float32)
        for axis, size in zip(node.attrs["axes"], sizes.reshape(-1), strict=True):
            known = source.shape[axis]
            if not isinstance(known, int) or known <= 0 or int(size) % known:
                ctx.skip(node, f"{size} is no whole multiple of the size of axis {axis}")
                return False
            scales[axis] = int(size) // known
        attributes = {key: value for key, value in node.attrs.items() if key != "axes"}
        region = node.inputs[1]
        if not region.is_empty():
            ctx.skip(node, "it cuts out a region")
            return False
        model.replace(
            node, "Resize", [source, region, model.constant(f"{node.name}_scales", scales)], attributes=attributes
        )
        return True
