"""Pass merge-keepdims."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgecc.passes.base import Loss, NodePass, PassContext
from edgecc.rewriting.reading import describe, is_op
from edgecc.rewriting.shapes import RESHAPES, as_integers, is_free, reduced_axes

if TYPE_CHECKING:
    from edgecc.model import Model, Node
    from edgecc.rewriting.shapes import Shape

#: Reductions whose second input says the axes.
REDUCTIONS = frozenset(
    {
        *("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin"),
        *("ReduceProd", "ReduceSum", "ReduceSumSquare"),
    }
)
_PICKS = frozenset({"ArgMax", "ArgMin"})
#: Over one element they give that element, bit for bit: none but these goes past an axis of size 1.
_KEEPS_ONE = frozenset({"ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum"})


class MergeKeepdims(NodePass):
    """Let a reduction itself keep, or drop, the axes that it reduces.

    Before: a = ReduceMean<keepdims = 0>(x, axes)   y = Unsqueeze(a, axes)
    After:  y = ReduceMean<keepdims = 1>(x, axes)

    The same for Reshape, the other way around for Squeeze, and for ArgMax and ArgMin. An Unsqueeze in front of a
    reduction that only adds axes that are reduced goes. GlobalAveragePool stays as it is.

    Attributes:
        ignore: patterns of node names to leave alone.
    """

    # No `keeps_types`: a Reshape may have called an open dimension otherwise than what it reads.
    name = "merge-keepdims"
    loss = Loss.EXACT

    def candidates(self, model: Model) -> list[Node]:
        return model.nodes(*REDUCTIONS, *_PICKS, ignore=self.ignore)

    def visit(self, node: Node, model: Model, ctx: PassContext) -> bool:
        before = node.op in _KEEPS_ONE and self._drop_ones(node, model, ctx)
        return self._merge_reader(node, model, ctx) or before

    def _merge_reader(self, node: Node, model: Model, ctx: PassContext) -> bool:
        from edgecc.model import is_standard, matches_any, merged_origins

        result = node.outputs[0]
        reader = next((r for r in model.consumers(result) if r.op in RESHAPES and is_standard(r)), None)
        if reader is None or reader.inputs[0] is not result or matches_any(reader, self.ignore):
            return False
        keeps = not node.attrs.get("keepdims", 1)
        reason = _refuses(node, reader, keeps, model)
        if reason is not None:
            ctx.skip(node, reason)
            return False
        ctx.done(node, f"{reader.op} became keepdims = {int(keeps)}", [reader, node])
        node.attrs["keepdims"] = int(keeps)
        node.origins = merged_origins((node, reader))
        model.set_output(node, 0, reader.outputs[0])
        model.remove(reader)
        return True

    def _drop_ones(self, node: Node, model: Model, ctx: PassContext) -> bool:
        """Reduce what is in front of a Reshape that only adds axes which are reduced."""
        from edgecc.model import is_standard, matches_any, merged_origins

        first, axes = model.producer(node.inputs[0]), _axes(node)
        if first is None or first.op not in RESHAPES or not is_standard(first) or matches_any(first, self.ignore):
            return False
        source, shape = first.inputs[0].shape, node.inputs[0].shape
        if axes is None or source is None or shape is None or len(source) >= len(shape):
            return False
        added = [axis for axis in axes if shape[axis] == 1]
        left = [axis for axis in axes if axis not in added]
        if not left or not added or [dim for axis, dim in enumerate(shape) if axis not in added] != list(source):
            return False
        places = [axis - sum(one < axis for one in added) for axis in left]
        reduced = _reduced(source, places, bool(node.attrs.get("keepdims", 1)))
        if reduced != list(node.outputs[0].shape) and not is_free(node.outputs[0], model):
            return False
        return self._reduce_before(node, first, places, reduced, model, ctx, merged_origins((first, node)))

    def _reduce_before(
        self,
        node: Node,
        first: Node,
        places: list[int],
        reduced: Shape,
        model: Model,
        ctx: PassContext,
        origins: tuple[str, ...],
    ) -> bool:
        reader = model.single_consumer(node.outputs[0])
        same = list(reduced) == list(node.outputs[0].shape)
        if not same and (reader is None or not is_op(reader, "Reshape") or reader.inputs[0] is not node.outputs[0]):
            ctx.skip(node, f"{first.name} ({first.op}) adds axes that it reduces, and others read them behind it")
            return False
        if not same and not _says_its_shape(reader):
            ctx.skip(node, f"the shape behind it refers to the axes that {first.name} ({first.op}) adds")
            return False
        ctx.done(node, f"{first.name} ({first.op}) only adds axes that it reduces", [node, first])
        attributes = {name: value for name, value in node.attrs.items() if name != "noop_with_empty_axes"}
        axes = model.constant(f"{node.outputs[0].name}_axes", as_integers(places))
        old = node.outputs[0]
        model.replace(node, node.op, [first.inputs[0], axes], attributes=attributes, origins=origins)
        if not same and reader is not None:
            moved = model.variable(f"{old.name}_merged", old.dtype, reduced)
            model.set_output(node, 0, moved)
            model.set_input(reader, 0, moved)
        if not first.outputs[0].outputs and not model.is_output(first.outputs[0]):
            model.remove(first)
        return True


def _refuses(node: Node, reader: Node, keeps: bool, model: Model) -> str | None:
    """Why the reduction cannot do what the node behind it does; None if it can."""
    axes, wanted, source = _axes(node), reader.outputs[0].shape, node.inputs[0]
    if model.is_inner(reader):
        return f"its reader {describe(reader)} is in a subgraph"
    if model.single_consumer(node.outputs[0]) is None:
        return f"its result {node.outputs[0].name!r} is used as it is too"
    if axes is None or wanted is None or source.shape is None:
        return f"its axes or the shape of {source.name!r} are not known"
    other = _reduced(source.shape, axes, keeps)
    if not _are_equal(list(wanted), other):
        return f"{describe(reader)} makes {list(wanted)} of it, not {other}"
    return None


def _are_equal(shape: Shape, wanted: Shape) -> bool:
    """Whether the shapes are the same; one open dimension may have two names, since both have as many elements."""
    if len(shape) != len(wanted):
        return False
    different = [(dim, other) for dim, other in zip(shape, wanted, strict=True) if dim != other]
    if not different:
        return True
    renamed = len(different) == 1 and all(isinstance(dim, str) for dim in different[0])
    return renamed and 0 not in shape


def _says_its_shape(reader: Node | None) -> bool:
    """Whether a Reshape has no 0, which would be another axis."""
    from edgecc.rewriting.reading import integers

    target = None if reader is None else integers(reader, 1)
    return target is not None and 0 not in target


def _axes(node: Node) -> list[int] | None:
    if node.op not in _PICKS:
        return reduced_axes(node)
    shape = node.inputs[0].shape
    return None if shape is None else [int(node.attrs.get("axis", 0)) % len(shape)]


def _reduced(shape: Shape, axes: list[int], keeps: bool) -> list[int | str]:
    if keeps:
        return [1 if axis in axes else dim for axis, dim in enumerate(shape)]
    return [dim for axis, dim in enumerate(shape) if axis not in axes]
