"""Pass fold-batchnorm."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from edgecc.passes.base import Loss, NodePass, PassContext, Property
from edgecc.rewriting.affine import AFFINE, ARITHMETIC, Affine, affine_of, data_index, is_affine
from edgecc.rewriting.linear import LINEAR, Linear, linear_of
from edgecc.rewriting.reading import describe, is_op
from edgecc.rewriting.shapes import permutation

if TYPE_CHECKING:
    from edgecc.model import Model, Node, Tensor


class FoldBatchNorm(NodePass):
    """Compute each BatchNormalization inside the Conv, ConvTranspose, Gemm or MatMul that it follows.

    Before: c = Conv(x, w, b)   y = BatchNormalization(c, scale, bias, mean, variance)
    After:  y = Conv(x, w2, b2)

    with a = scale / sqrt(variance + epsilon), w2 = w * a and b2 = (b - mean) * a + bias, one value per output channel
    and in float64. The same happens to a normalization that was exported as Mul, Div, Add and Sub with one constant
    per channel. A MatMul of two axes with a bias becomes a Gemm; one of more axes has its bias in an Add behind it.
    Transposes between the two stay. Constants that others read too are copied, never written.

    Attributes:
        ignore: patterns of node names to leave alone.
    """

    name = "fold-batchnorm"
    loss = Loss.ROUNDING
    keeps_types = True
    ensures = (Property.NO_BATCHNORM,)
    # What float16 rounds away before folding is lost for good.
    before = ("convert-float16",)

    def candidates(self, model: Model) -> list[Node]:
        return model.nodes(*AFFINE, ignore=self.ignore)

    def visit(self, node: Node, model: Model, ctx: PassContext) -> bool:
        if node.op in ARITHMETIC and not _scales_channels(node, model):
            return False
        plan = _plan(node, model)
        if isinstance(plan, str):
            ctx.skip(node, plan)
            return False
        ctx.done(node, f"{node.op} became part of {describe(plan.linear.node)}", [node, plan.linear.last])
        _apply(plan, node, model)
        return True


def foldable(node: Node, model: Model) -> str | None:
    """None if the pass folds this node, otherwise the reason why it does not."""
    plan = _plan(node, model)
    return plan if isinstance(plan, str) else None


class _Fold(NamedTuple):
    """The linear node that takes the normalization in, and its new weights; None for those that stay."""

    linear: Linear
    weights: np.ndarray | None
    bias: np.ndarray | None


def _plan(node: Node, model: Model) -> _Fold | str:
    first = model.producer(node.inputs[data_index(node)])
    below = _below(node, model)
    source = model.producer(below[-1])
    linear_node = _linear_node(source, model)
    if linear_node is None or not is_op(linear_node, *LINEAR):
        return f"its input comes from {describe(first)}, not from a {', '.join(LINEAR[:-1])} or {LINEAR[-1]}"
    for tensor in below:
        if model.is_output(tensor):
            return f"its input {tensor.name!r} is an output of the model too"
        if model.single_consumer(tensor) is None:
            return f"its input {tensor.name!r} is read by {len(model.consumers(tensor))} nodes"
    linear = linear_of(linear_node, model)
    if isinstance(linear, str):
        return linear
    if linear.adder is node:
        return f"{linear_node.name} has no place for a bias: its output does not have two axes"
    if linear.last is not source:
        return f"{describe(source)} between it and {describe(linear_node)} does not add one value per channel"
    affine = _affine(node, linear, below, model)
    return affine if isinstance(affine, str) else _fold(linear, affine)


def _below(node: Node, model: Model) -> list[Tensor]:
    """The normalization's input, and the inputs of the Transposes that it comes through."""
    tensors = [node.inputs[data_index(node)]]
    while (producer := model.producer(tensors[-1])) is not None and is_op(producer, "Transpose"):
        tensors.append(producer.inputs[0])
    return tensors


def _linear_node(source: Node | None, model: Model) -> Node | None:
    """The node itself, or the MatMul whose bias it adds."""
    if source is None or not is_op(source, "Add") or not is_affine(source):
        return source
    product = model.producer(source.inputs[data_index(source)])
    return product if is_op(product, "MatMul") else source


def _affine(node: Node, linear: Linear, below: list[Tensor], model: Model) -> Affine | str:
    axes, axis = linear.rank, linear.output_axis()
    if axes is None or axis is None:
        return f"the shape of {linear.node.name}'s output is not known to have one channel per column of its weights"
    for tensor in reversed(below[:-1]):
        producer = model.producer(tensor)
        assert producer is not None, "it is a Transpose"
        perm = permutation(producer)
        if perm is None:
            return f"the rank of {producer.inputs[0].name!r} is not known"
        axis = perm.index(axis)
    return affine_of(node, axes, axis, linear.outputs)


def _fold(linear: Linear, affine: Affine) -> _Fold | str:
    old = linear.bias()
    if affine.shift.any() and not linear.takes_bias():
        return f"{linear.node.name} has no place for a bias: its output does not have two axes"
    scales = bool((affine.scale != 1).any())
    weights = linear.scale_outputs(affine.scale) if scales else None
    bias = None
    if old is not None or affine.shift.any():
        with np.errstate(over="ignore", invalid="ignore"):
            bias = linear.rounded((0.0 if old is None else old) * affine.scale + affine.shift)
    return linear.refuses(weights, bias, affine.scale) or _Fold(linear, weights, bias)


def _apply(plan: _Fold, node: Node, model: Model) -> None:
    from edgecc.model import merged_origins

    linear = plan.linear
    plan_inner = _below(node, model)[1:]
    if linear.adder is not None:
        plan_inner.append(linear.node.outputs[0])
        linear.adder.origins = merged_origins((linear.adder, node))
    # A name keeps meaning the same values: what lies between gets a new one, and what wrote the normalization's input
    # writes its output.
    for tensor in plan_inner:
        tensor.name = model.fresh_name(f"{tensor.name}_scaled")
    linear.update(model, plan.weights, plan.bias)
    linear.node.origins = merged_origins((linear.node, node))
    source, result = node.inputs[data_index(node)], node.outputs[0]
    writer = model.producer(source)
    assert writer is not None, "the linear node or a Transpose behind it"
    if not model.is_output(result):
        result.shape = source.shape
    model.set_output(writer, 0, result)
    model.remove(node)


def _scales_channels(node: Node, model: Model) -> bool:
    """Whether a Mul, Div, Add or Sub of a constant follows a linear node."""
    if not is_affine(node):
        return False
    linear = _linear_node(model.producer(_below(node, model)[-1]), model)
    return is_op(linear, *LINEAR)
