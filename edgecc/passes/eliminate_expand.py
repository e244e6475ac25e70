"""Pass eliminate-expand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgecc.passes.base import Loss, NodePass, PassContext
from edgecc.rewriting.patterns import COMMUTATIVE
from edgecc.rewriting.reading import describe
from edgecc.rewriting.shapes import broadcast

if TYPE_CHECKING:
    from edgecc.model import Model, Node

#: Operators whose operands broadcast against each other, all of them.
_BROADCASTING = COMMUTATIVE | frozenset(
    {"Sub", "Div", "Pow", "Mod", "Sum", "Mean", "Where", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"}
)


class EliminateExpand(NodePass):
    """Let operators that broadcast read what an Expand repeats for them.

    Before: n = ReduceL2(x, {1})   e = Expand(n, {2, 8})   y = Div(x, e)          float[2,8] x
    After:  n = ReduceL2(x, {1})   y = Div(x, n)

    That is how PyTorch's `normalize` is exported. Where all readers broadcast and their other operands have the whole
    shape; otherwise the Expand stays.

    Attributes:
        ignore: patterns of node names (of the Expands) to leave alone.
    """

    name = "eliminate-expand"
    loss = Loss.EXACT
    keeps_types = True

    def candidates(self, model: Model) -> list[Node]:
        return model.nodes("Expand", ignore=self.ignore)

    def visit(self, node: Node, model: Model, ctx: PassContext) -> bool:
        reason = _needed(node, model)
        if reason is not None:
            ctx.skip(node, reason)
            return False
        source, repeated = node.inputs[0], node.outputs[0]
        ctx.done(node, "went: what reads it broadcasts", [node])
        for reader in model.consumers(repeated):
            for index, tensor in enumerate(reader.inputs):
                if tensor is repeated:
                    model.set_input(reader, index, source)
        model.remove(node)
        return True


def _needed(node: Node, model: Model) -> str | None:
    """Why the Expand has to stay; None if it can go."""
    from edgecc.model import is_standard

    source, repeated = node.inputs[0], node.outputs[0]
    if model.is_output(repeated):
        return f"its output {repeated.name!r} is an output of the model"
    if source.shape is None:
        return f"the shape of {source.name!r} is not known"
    for reader in model.consumers(repeated):
        if model.is_inner(reader):
            return f"its reader {describe(reader)} is in a subgraph"
        if reader.op not in _BROADCASTING or not is_standard(reader):
            return f"its reader {describe(reader)} does not broadcast"
        shapes = [source.shape if tensor is repeated else tensor.shape for tensor in reader.inputs]
        result = broadcast(*shapes)
        if result is None or reader.outputs[0].shape is None or result != list(reader.outputs[0].shape):
            return f"without it the result of its reader {describe(reader)} might have another shape"
    return None
