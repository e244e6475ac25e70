"""Pass eliminate-nan-guard."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgecc.passes.base import Loss, NodePass, PassContext
from edgecc.rewriting.reading import describe, is_op, rank

if TYPE_CHECKING:
    from edgecc.model import Model, Node, Tensor

#: What gives finite values from finite ones, unless it overflows.
_FINITE = frozenset({"MatMul", "Gemm", "Conv", "Einsum", "LayerNormalization"})


class EliminateNanGuard(NodePass):
    """Read a Softmax itself where PyTorch puts 0 for NaN behind it, which only rows of minus infinity give.

    Before: s = Softmax(scores)   n = IsNaN(s)   w = Where(n, {0}, s)   y = MatMul(w, v)
    After:  s = Softmax(scores)   y = MatMul(s, v)

    Only where no row can be minus infinity throughout: scores that are a product, scaled by constants, with constant
    masks that leave something in every row. What is infinite or NaN before the product no longer becomes 0, as it does
    in float arithmetic that overflowed; finite values stay the same.

    Attributes:
        ignore: patterns of node names (of the IsNaN) to leave alone.
    """

    name = "eliminate-nan-guard"
    loss = Loss.ROUNDING
    keeps_types = True

    def candidates(self, model: Model) -> list[Node]:
        return [node for node in model.nodes("IsNaN", ignore=self.ignore) if _softmax(node, model) is not None]

    def visit(self, node: Node, model: Model, ctx: PassContext) -> bool:
        softmax = _softmax(node, model)
        assert softmax is not None
        where = model.single_consumer(node.outputs[0])
        if where is None or not _replaces_nan(where, node):
            ctx.skip(node, "what reads it is not one Where that puts a constant for NaN")
            return False
        value, guarded = node.inputs[0], where.outputs[0]
        reason = _why_nan(softmax, model)
        if model.is_inner(where):
            reason = "what reads it is in a subgraph"
        elif model.is_output(value) and model.is_output(guarded):
            reason = f"{value.name!r} and {guarded.name!r} are both outputs of the model"
        if reason is not None:
            ctx.skip(node, reason)
            return False
        ctx.done(node, f"IsNaN + Where behind {describe(softmax)} went: no row of it is NaN", [where, node])
        model.redirect(guarded, value)
        model.remove(where)
        model.remove(node)
        return True


def _softmax(node: Node, model: Model) -> Node | None:
    producer = model.producer(node.inputs[0])
    return producer if is_op(producer, "Softmax") else None


def _replaces_nan(where: Node, node: Node) -> bool:
    """Whether it is Where(IsNaN(x), constant, x) of the same shape as x."""
    from edgecc.model import value_of

    if not is_op(where, "Where") or len(where.inputs) != 3:
        return False
    flag, value, data = where.inputs
    constant = value_of(value)
    if flag is not node.outputs[0] or data is not node.inputs[0] or constant is None or constant.size != 1:
        return False
    count = rank(data)
    return count is not None and constant.ndim <= count


def _why_nan(softmax: Node, model: Model) -> str | None:
    """Why a row of the Softmax may be NaN; None if none can."""
    tensor = softmax.inputs[0]
    count = rank(tensor)
    if count is None:
        return f"the rank of {tensor.name!r} is not known"
    # Whether minus infinity is among the constants that were added.
    over_rows, masked = int(softmax.attrs.get("axis", -1)) in (-1, count - 1), False
    while True:
        node = model.producer(tensor)
        if node is None:
            return f"rows of minus infinity may come from {tensor.name!r}, an input or constant"
        if is_op(node, *_FINITE):
            return None
        step = _step(node)
        if isinstance(step, str):
            return step
        if step.forbids and (masked or not over_rows):
            return f"{describe(node)} and another mask may forbid a row together" if masked else _OTHER_AXIS
        masked |= step.forbids
        tensor = step.source


_OTHER_AXIS = "its Softmax is not over the last axis, along which the mask leaves something"


@dataclass(frozen=True)
class _Step:
    """A node that scales or masks by constants.

    Attributes:
        source: what it scales or masks.
        forbids: whether it puts minus infinity somewhere, though not everywhere in a row.
    """

    source: Tensor
    forbids: bool = False


def _step(node: Node) -> _Step | str:
    """What the node does; or why its result may have rows of minus infinity."""
    from edgecc.model import is_standard, value_of

    if not is_standard(node):
        return f"rows of minus infinity may come from {describe(node)}"
    values = [value_of(tensor) for tensor in node.inputs]
    places = [index for index, value in enumerate(values) if value is None]
    if node.op == "Where":
        return _choice(node, *values)
    if node.op in ("Add", "Sub") and len(places) == 2:
        names = " and ".join(repr(tensor.name) for tensor in node.inputs)
        return f"rows of minus infinity may come from {describe(node)}: {names} are both computed"
    if len(places) != 1 or len(values) != 2 or (node.op in ("Div", "Sub") and places == [1]):
        return f"rows of minus infinity may come from {describe(node)}"
    source, constant = node.inputs[places[0]], values[1 - places[0]]
    assert constant is not None
    if node.op in ("Mul", "Div"):
        if np.isfinite(constant).all() and (constant > 0).all():
            return _Step(source)
        return f"{describe(node)} scales by what is not positive and finite"
    if node.op in ("Add", "Sub"):
        return _sum(node, source, constant if node.op == "Add" else -constant)
    return f"rows of minus infinity may come from {describe(node)}"


def _sum(node: Node, source: Tensor, mask: np.ndarray) -> _Step | str:
    forbidden = np.isneginf(mask)
    if not np.isfinite(mask[~forbidden]).all():
        return f"{describe(node)} adds NaN or infinity"
    return _masked(node, source, ~forbidden)


def _choice(node: Node, chosen: np.ndarray | None, first: np.ndarray | None, second: np.ndarray | None) -> _Step | str:
    """Where(condition, scores, constant), or the other way round."""
    if (first is None) == (second is None):
        return f"rows of minus infinity may come from {describe(node)}"
    constant, source = (second, node.inputs[1]) if second is not None else (first, node.inputs[2])
    assert constant is not None
    if np.isfinite(constant).all():
        return _Step(source)
    if chosen is None or not np.isneginf(constant).all():
        return f"{describe(node)} may put rows of minus infinity: its condition is computed"
    return _masked(node, source, chosen if second is not None else ~chosen)


def _masked(node: Node, source: Tensor, kept: np.ndarray) -> _Step | str:
    if kept.all():
        return _Step(source)
    if kept.ndim == 0 or not kept.any(axis=-1).all():
        return f"the mask of {describe(node)} forbids a whole row"
    return _Step(source, forbids=True)
