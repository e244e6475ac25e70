"""Pass fold-leading-affine."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from edgecc.passes.base import Loss, NodePass, PassContext
from edgecc.rewriting.affine import AFFINE, Affine, affine_of, data_index, is_affine
from edgecc.rewriting.linear import LINEAR, Linear, linear_of
from edgecc.rewriting.reading import describe, is_op, rank, scalar, text

if TYPE_CHECKING:
    from edgecc.model import Model, Node


class FoldLeadingAffine(NodePass):
    """Compute each BatchNormalization inside the Conv, ConvTranspose, Gemm or MatMul that follows it.

    Before: n = BatchNormalization(x, scale, bias, mean, variance)   y = Conv(n, w, b)
    After:  y = Conv(x, w2, b2)

    with x * a + s for the normalization, w2 = w * a per input channel and b2 = b + w s. The same happens to Mul, Div,
    Add and Sub of one constant per channel. A shift in front of zero padding stays, as the padding is not shifted. All
    readers of the normalization take it over, or none does; constants that others read too are copied, never written.

    Attributes:
        ignore: patterns of node names to leave alone.
    """

    name = "fold-leading-affine"
    loss = Loss.ROUNDING
    keeps_types = True
    # What float16 rounds away before folding is lost for good.
    before = ("convert-float16",)

    def candidates(self, model: Model) -> list[Node]:
        # Last ones first: where they follow each other, the reader of the first is then the reader of the second.
        return [node for node in model.nodes(*AFFINE, ignore=self.ignore)[::-1] if is_affine(node)]

    def visit(self, node: Node, model: Model, ctx: PassContext) -> bool:
        readers = model.consumers(node.outputs[0])
        if not any(is_op(reader, *LINEAR) and reader.inputs[0] is node.outputs[0] for reader in readers):
            return False
        plans = _plans(node, readers, model)
        if isinstance(plans, str):
            ctx.skip(node, plans)
            return False
        names = " and ".join(describe(plan.linear.node) for plan in plans)
        ctx.done(node, f"{node.op} became part of {names}", [*(plan.linear.node for plan in plans), node])
        for plan in plans:
            _apply(plan, node, model)
        model.remove(node)
        return True


class _Plan(NamedTuple):
    """A linear node and its new weights; None for those that stay."""

    linear: Linear
    weights: np.ndarray | None
    bias: np.ndarray | None


def _plans(node: Node, readers: list[Node], model: Model) -> list[_Plan] | str:
    """What becomes of every reader, or why one of them does not take the node in."""
    result = node.outputs[0]
    if model.is_output(result):
        return f"its output {result.name!r} is an output of the model"
    plans = []
    for reader in readers:
        plan = "it is in a subgraph" if model.is_inner(reader) else _plan(node, reader, model)
        if isinstance(plan, str):
            return f"its reader {describe(reader)} cannot take it in: {plan}"
        plans.append(plan)
    return plans


def _plan(node: Node, reader: Node, model: Model) -> _Plan | str:
    result = node.outputs[0]
    linear = linear_of(reader, model)
    if isinstance(linear, str):
        return linear
    if any(tensor is result for tensor in reader.inputs[1:]):
        return f"it reads {result.name!r} twice"
    affine = _affine(node, linear)
    if isinstance(affine, str):
        return affine
    shifts = bool(affine.shift.any())
    reason = _shift_refused(linear, affine) if shifts else None
    if reason is not None:
        return reason
    weights = linear.scale_inputs(affine.scale) if (affine.scale != 1).any() else None
    bias = None
    if shifts:
        old = linear.bias()
        bias = linear.rounded((0.0 if old is None else old) + linear.of_constant(affine.shift))
    return linear.refuses(weights, bias, affine.scale) or _Plan(linear, weights, bias)


def _affine(node: Node, linear: Linear) -> Affine | str:
    source, result = node.inputs[data_index(node)], node.outputs[0]
    axes, axis = rank(source), linear.input_axis()
    if axes is None or axis is None or rank(result) != axes:
        return f"{source.name!r} and {result.name!r} are not known to have as many axes"
    affine = affine_of(node, axes, axis, linear.inputs)
    if isinstance(affine, str) or node.op == "BatchNormalization" or source.shape[axis] == linear.inputs:
        return affine
    # Equal values are not enough: as many as there are channels, they broadcast a tensor with one.
    if scalar(node.inputs[1 - data_index(node)]) is not None:
        return affine
    return f"{source.name!r} is not known to have {linear.inputs} channels without it"


#: What a sum may be shifted by: the result of the linear node keeps fewer digits by as much as that is large.
_LARGEST_SHIFT = 128


def _shift_refused(linear: Linear, affine: Affine) -> str | None:
    """Why a shift of the input is no shift of the output; None if it is one."""
    largest = float(np.abs(affine.shift).max())
    if largest > _LARGEST_SHIFT:
        return f"it shifts by up to {largest:.3g}: behind the product of what it brings near zero, digits would be lost"
    node, kernel = linear.node, linear.weights.shape[2:]
    if node.op in ("Gemm", "MatMul"):
        return None if linear.takes_bias() else "it has no place for a bias: its output does not have two axes"
    if node.op == "ConvTranspose":
        steps = (*kernel, *node.attrs.get("strides", ()), *(1 + pad for pad in node.attrs.get("output_padding", ())))
        if any(size != 1 for size in steps) or "output_shape" in node.attrs:
            return "not every place of its output sees as many places of the shifted input"
        return None
    if any(node.attrs.get("pads", ())):
        return "it pads with zeros, which are not shifted"
    if text(node, "auto_pad", "NOTSET") not in ("NOTSET", "VALID") and any(size != 1 for size in kernel):
        return f"it pads with zeros (auto_pad={text(node, 'auto_pad', '')}), which are not shifted"
    return None


def _apply(plan: _Plan, node: Node, model: Model) -> None:
    from edgecc.model import merged_origins

    linear = plan.linear
    linear.update(model, plan.weights, plan.bias)
    linear.node.origins = merged_origins((node, linear.node))
    model.set_input(linear.node, 0, node.inputs[data_index(node)])
