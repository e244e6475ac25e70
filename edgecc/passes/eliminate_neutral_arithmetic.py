"""Pass eliminate-neutral-arithmetic."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgecc.passes.base import Loss, NodePass, PassContext
from edgecc.rewriting.reading import constant, is_floating
from edgecc.rewriting.shapes import keeps_shape

if TYPE_CHECKING:
    from edgecc.model import Model, Node

#: Which operands may be zero.
_OPERANDS = {"Add": (0, 1), "Sub": (1,)}


class EliminateNeutralArithmetic(NodePass):
    """Remove the addition of zero.

    Before: a = Add({0, 0}, x)   y = Exp(a)
    After:  y = Exp(x)

    eliminate-identity removes what keeps every bit; here -0 plus 0 becomes -0 rather than 0, hence rounding. Constants
    of any shape, as long as they do not broadcast the other operand to a larger one.

    Attributes:
        ignore: patterns of node names to leave alone.
    """

    name = "eliminate-neutral-arithmetic"
    loss = Loss.ROUNDING
    keeps_types = True

    def candidates(self, model: Model) -> list[Node]:
        return model.nodes(*_OPERANDS, ignore=self.ignore)

    def visit(self, node: Node, model: Model, ctx: PassContext) -> bool:
        index = _zero(node)
        if index is None:
            return False
        source, result = node.inputs[1 - index], node.outputs[0]
        if not keeps_shape(source, node.inputs[index], result):
            ctx.skip(node, f"it broadcasts {source.name!r} to another shape, or the shapes are not known")
            return False
        ctx.done(node, "it added zero and is gone")
        if not model.redirect(result, source):
            ctx.changes.pop()
            ctx.skip(node, f"{source.name!r} and {result.name!r} must both keep their names")
            return False
        model.remove(node)
        return True


def _zero(node: Node) -> int | None:
    """The operand that is zero in all of its elements."""
    for index in _OPERANDS[node.op]:
        values = constant(node, index)
        if values is not None and values.size and _is_number(values) and not values.any():
            return index
    return None


def _is_number(values: np.ndarray) -> bool:
    return values.dtype.kind in "iu" or is_floating(values.dtype)
