"""Pass eliminate-neutral-arithmetic."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgecc.passes.base import Loss, NodePass, PassContext
from edgecc.rewriting.reading import constant, is_floating, is_op, rank, same_shape

if TYPE_CHECKING:
    from edgecc.model import Model, Node, Tensor

#: The element that changes nothing, and which operands it can be.
_NEUTRAL = {"Add": (0, (0, 1)), "Mul": (1, (0, 1)), "Pow": (1, (1,)), "Sub": (0, (1,)), "Div": (1, (1,))}


class EliminateNeutralArithmetic(NodePass):
    """Remove arithmetic that changes no value: adding zero, multiplying by one, the first power, a Neg of a Neg.

    Before: a = Add({0, 0}, x)   b = Mul({1}, a)   c = Pow(b, {1})   d = Neg(c)   y = Neg(d)
    After:  y = x

    eliminate-identity removes what keeps every bit; here -0 plus 0 becomes -0 rather than 0, hence rounding. Constants
    of any shape, as long as they do not broadcast the other operand to a larger one.

    Attributes:
        ignore: patterns of node names to leave alone.
    """

    name = "eliminate-neutral-arithmetic"
    loss = Loss.ROUNDING
    keeps_types = True

    def candidates(self, model: Model) -> list[Node]:
        return model.nodes("Neg", *_NEUTRAL, ignore=self.ignore)

    def visit(self, node: Node, model: Model, ctx: PassContext) -> bool:
        source = _source_of_neg(node, model) if node.op == "Neg" else _source(node)
        if source is None:
            return False
        result = node.outputs[0]
        if node.op != "Neg" and not _keeps_shape(node, source):
            ctx.skip(node, f"it broadcasts {source.name!r} to another shape, or the shapes are not known")
            return False
        if not _keeps_type(source, result):
            ctx.skip(node, f"{source.name!r} has another type than {result.name!r}")
            return False
        if model.is_output(result) and (model.producer(source) is None or model.is_output(source)):
            ctx.skip(node, f"{source.name!r} and {result.name!r} must both keep their names")
            return False
        ctx.done(node, "it changed no value and is gone")
        if not model.redirect(result, source):
            raise AssertionError("seen to above")
        model.remove(node)
        return True


def _source_of_neg(node: Node, model: Model) -> Tensor | None:
    """What the Neg in front of this one negates."""
    before = model.producer(node.inputs[0])
    return before.inputs[0] if before is not None and is_op(before, "Neg") else None


def _source(node: Node) -> Tensor | None:
    """The operand that comes out as it is, if the other one is neutral."""
    neutral, indices = _NEUTRAL[node.op]
    for index in indices:
        values = constant(node, index)
        if values is None or not values.size or not (values.dtype.kind in "iu" or is_floating(values.dtype)):
            continue
        if (values == neutral).all():
            return node.inputs[1 - index]
    return None


def _keeps_shape(node: Node, source: Tensor) -> bool:
    """The result has the operand's shape: the constant has it, or is one number of no more axes."""
    other = node.inputs[1] if node.inputs[0] is source else node.inputs[0]
    axes = rank(source)
    if axes is not None and other.shape is not None and len(other.shape) <= axes and np.prod(other.shape) == 1:
        return True
    return same_shape(source, node.outputs[0])


def _keeps_type(source: Tensor, result: Tensor) -> bool:
    return source.dtype is not None and result.dtype is not None and np.dtype(source.dtype) == np.dtype(result.dtype)
