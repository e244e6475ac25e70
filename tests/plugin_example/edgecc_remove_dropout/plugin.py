"""Remove Dropout."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgecc import Loss, NodePass, PassContext, hookimpl

if TYPE_CHECKING:
    from edgecc.model import Model, Node


class RemoveDropout(NodePass):
    """Let consumers of each Dropout read its input instead.

    Before: d = Dropout(x)   y = Relu(d)
    After:  y = Relu(x)
    """

    name = "remove-dropout"
    loss = Loss.EXACT

    def candidates(self, model: Model) -> list[Node]:
        return model.nodes("Dropout", ignore=self.ignore)

    def visit(self, node: Node, model: Model, ctx: PassContext) -> bool:
        if len(node.inputs) > 2 or len(node.outputs) > 1:
            ctx.skip(node, "it may be training, or its mask is read")
            return False
        if not model.bypass(node):
            ctx.skip(node, "it connects an input to an output, and both keep their names")
            return False
        return True


@hookimpl
def edgecc_passes() -> list[type[NodePass]]:
    return [RemoveDropout]
