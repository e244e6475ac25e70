"""Pass fuse-reduce-reshape."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgecc.passes.base import Loss, NodePass, PassContext
from edgecc.rewriting.reading import describe, rank
from edgecc.rewriting.shapes import RESHAPES, reduced_axes

if TYPE_CHECKING:
    from edgecc.model import Model, Node

_WITH_AXIS = frozenset({"ArgMax", "ArgMin"})
_WITH_AXES = frozenset(
    {"ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd"}
    | {"ReduceSum", "ReduceSumSquare"}
)


class FuseReduceReshape(NodePass):
    """Let a reduction keep or drop its axes itself, where a Reshape, Unsqueeze, Squeeze or Flatten does it behind it.

    Before: m = ReduceMax<keepdims = 0>(x, {1})   r = Reshape(m, {2, 1})   y = Sub(x, r)          float[2,8] x
    After:  m = ReduceMax<keepdims = 1>(x, {1})   y = Sub(x, m)

    That is how JAX writes keepdims=True. Only where the result's shape is the input's with each reduced axis of size 1,
    or without them.

    Attributes:
        ignore: patterns of node names (of the reductions) to leave alone.
    """

    # No `keeps_types`: a Reshape may have called an open dimension otherwise than what it reads.
    name = "fuse-reduce-reshape"
    loss = Loss.EXACT

    def candidates(self, model: Model) -> list[Node]:
        return model.nodes(*_WITH_AXES, *_WITH_AXIS, ignore=self.ignore)

    def visit(self, node: Node, model: Model, ctx: PassContext) -> bool:
        from edgecc.model import is_standard, matches_any, merged_origins

        readers = model.consumers(node.outputs[0])
        reshapes = [reader for reader in readers if reader.op in RESHAPES and is_standard(reader)]
        if not reshapes or reshapes[0].inputs[0] is not node.outputs[0]:
            return False
        last = reshapes[0]
        if matches_any(last, self.ignore):
            return False
        keeps = 1 - int(node.attrs.get("keepdims", 1))
        reason = _refuses(node, last, keeps, model)
        if reason is not None:
            ctx.skip(node, reason)
            return False
        nodes = [last, node]
        ctx.done(last, f"{node.op} + {last.op} became {node.op}<keepdims = {keeps}>", nodes)
        inputs, attributes = list(node.inputs), {**node.attrs, "keepdims": keeps}
        model.replace(last, node.op, inputs, attributes=attributes, origins=merged_origins((node, last)))
        model.remove(node)
        return True


def _refuses(node: Node, last: Node, keeps: int, model: Model) -> str | None:
    """Why the reduction cannot do what the node behind it does; None if it can."""
    result, reshaped = node.outputs[0], last.outputs[0]
    if model.single_consumer(result) is not last:
        return f"its result {result.name!r} is used as it is too"
    if model.is_inner(last):
        return f"its reader {describe(last)} is in a subgraph"
    axes, source = _axes(node), node.inputs[0]
    if axes is None or source.shape is None or reshaped.shape is None:
        return f"its axes or the shape of {source.name!r} are not known"
    if keeps:
        wanted = [1 if axis in axes else dim for axis, dim in enumerate(source.shape)]
    else:
        wanted = [dim for axis, dim in enumerate(source.shape) if axis not in axes]
    if not _are_equal(list(reshaped.shape), wanted):
        return f"{describe(last)} gives it another shape than with or without the reduced axes"
    return None


def _are_equal(shape: list[int | str], wanted: list[int | str]) -> bool:
    """Whether the shapes are the same; one open dimension may have two names, since both have as many elements."""
    pairs = list(zip(shape, wanted, strict=False))
    if len(shape) != len(wanted) or shape == wanted:
        return shape == wanted
    names = [pair for pair in pairs if isinstance(pair[0], str) and isinstance(pair[1], str)]
    return len(names) == 1 and all(pair in names or (pair[0] == pair[1] and pair[0] != 0) for pair in pairs)


def _axes(node: Node) -> list[int] | None:
    if node.op in _WITH_AXES:
        return reduced_axes(node)
    count = rank(node.inputs[0])
    return None if not count else [int(node.attrs.get("axis", 0)) % count]
