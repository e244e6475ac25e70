"""Pass fold-distant-scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgecc.passes.base import Loss, NodePass, PassContext
from edgecc.rewriting.affine import data_index, is_affine
from edgecc.rewriting.linear import LINEAR, Linear, linear_of
from edgecc.rewriting.reading import describe, is_floating, is_op, scalar, smallest_normal

if TYPE_CHECKING:
    from edgecc.model import Model, Node, Tensor

#: Operators that only move the elements of their first input.
_MOVES = frozenset(
    {"Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Slice", "Gather", "Expand", "Tile", "Identity"}
)
#: A way with more nodes is not followed.
_MOST_STEPS = 12


class FoldDistantScale(NodePass):
    """Compute a product with one number inside weights that lie further up, or in another such product.

    Before: p = MatMul(x, w)   h = Reshape(p, s)   q = Transpose(h)   m = MatMul(q, k)   y = Div(m, {8})
    After:  p = MatMul(x, w2)  h = Reshape(p, s)   q = Transpose(h)   y = MatMul(q, k)

    with w2 = w / 8, and a bias likewise. The scale passes what moves elements (Transpose, Reshape, Squeeze, Unsqueeze,
    Slice, Gather ...) and one factor of a MatMul, as long as nothing else reads what lies between. Where it comes to
    no constant weights, the scales of both factors of a MatMul become one: queries and keys of attention.

    Attributes:
        ignore: patterns of node names (of the Mul or Div) to leave alone.
    """

    name = "fold-distant-scale"
    loss = Loss.ROUNDING
    keeps_types = True
    # What float16 rounds away before folding is lost for good.
    before = ("convert-float16",)

    def candidates(self, model: Model) -> list[Node]:
        return [node for node in model.nodes("Mul", "Div", ignore=self.ignore) if _factor(node) is not None]

    def visit(self, node: Node, model: Model, ctx: PassContext) -> bool:
        way = _up(node.inputs[data_index(node)], (), model)
        found = (_across(node, model) or way) if isinstance(way, str) else way
        if isinstance(found, str):
            above = model.producer(node.inputs[data_index(node)])
            if is_op(above, *_MOVES, "MatMul"):
                ctx.skip(node, found)
            return False
        reason = _fold(found, node, model, ctx)
        if reason is not None:
            ctx.skip(node, reason)
        return reason is None


@dataclass(frozen=True)
class _Way:
    """From a scale to what can take it in.

    Attributes:
        end: linear weights, or another product with one number.
        between: the tensors that hold other values from then on.
        is_across: whether it leads to the other factor of a MatMul.
    """

    end: Linear | Node
    between: tuple[Tensor, ...]
    is_across: bool = False


def _factor(node: Node) -> float | None:
    """What a Mul or Div by one number multiplies by; None for any other node."""
    if not is_op(node, "Mul", "Div") or not is_affine(node) or not is_floating(node.outputs[0].dtype):
        return None
    source = node.inputs[data_index(node)]
    value = scalar(node.inputs[1 - data_index(node)])
    if value is None or source.shape is None or node.outputs[0].shape is None:
        return None
    if len(source.shape) != len(node.outputs[0].shape):
        return None
    if node.op == "Mul":
        return value
    return 1 / value if value else None


def _up(tensor: Tensor, between: tuple[Tensor, ...], model: Model) -> _Way | str:
    from edgecc.model import is_standard

    if model.is_output(tensor):
        return f"{tensor.name!r} on the way up is an output of the model"
    if len(tensor.outputs) != 1:
        return f"{tensor.name!r} on the way up is read by {len(tensor.outputs)} inputs of nodes"
    producer = model.producer(tensor)
    if producer is None or not is_standard(producer) or len(between) >= _MOST_STEPS:
        return f"the way up ends at {tensor.name!r}, which comes from {describe(producer)}"
    between = (*between, tensor)
    if _factor(producer) is not None:
        return _Way(producer, between)
    linear = _linear(producer, model)
    if linear is not None:
        # Beside a bias in an Add of its own, the product itself is scaled too.
        inner = () if linear.adder is None else (linear.node.outputs[0],)
        return _Way(linear, (*between, *inner))
    if producer.op in _MOVES:
        return _up(producer.inputs[0], between, model)
    if producer.op == "MatMul":
        first = _up(producer.inputs[0], between, model)
        return first if not isinstance(first, str) else _second_factor(producer, between, first, model)
    return f"the way up ends at {tensor.name!r}, which comes from {describe(producer)}"


def _second_factor(product: Node, between: tuple[Tensor, ...], reason: str, model: Model) -> _Way | str:
    second = _up(product.inputs[1], between, model)
    return f"{reason}, and {second}" if isinstance(second, str) else second


def _linear(producer: Node, model: Model) -> Linear | None:
    """The linear node with constant weights whose result, bias included, that node writes."""
    node = producer
    if producer.op == "Add" and is_affine(producer):
        above = model.producer(producer.inputs[data_index(producer)])
        node = above if is_op(above, "MatMul") else producer
    if node.op not in LINEAR:
        return None
    linear = linear_of(node, model)
    if isinstance(linear, str) or linear.last is not producer or model.is_output(node.outputs[0]):
        return None
    return linear


def _across(node: Node, model: Model) -> _Way | None:
    """Another scale, of the other factor of the MatMul that reads this one."""
    tensor = node.outputs[0]
    between: tuple[Tensor, ...] = ()
    while len(between) < _MOST_STEPS and not model.is_output(tensor) and len(tensor.outputs) == 1:
        reader = tensor.outputs[0]
        if model.is_inner(reader):
            return None
        if is_op(reader, "MatMul"):
            return _other_factor(reader.inputs[1 if reader.inputs[0] is tensor else 0], between, model)
        if not is_op(reader, *_MOVES) or reader.inputs[0] is not tensor:
            return None
        tensor = reader.outputs[0]
        between = (*between, tensor)
    return None


def _other_factor(tensor: Tensor, between: tuple[Tensor, ...], model: Model) -> _Way | None:
    for _ in range(_MOST_STEPS):
        producer = model.producer(tensor)
        if producer is None or model.is_output(tensor) or len(tensor.outputs) != 1:
            return None
        between = (*between, tensor)
        if _factor(producer) is not None:
            return _Way(producer, between, is_across=True)
        if not is_op(producer, *_MOVES):
            return None
        tensor = producer.inputs[0]
    return None


# ------------------------------------------------------------------------------------------------------------ folding


def _fold(way: _Way, node: Node, model: Model, ctx: PassContext) -> str | None:
    """Let the end of the way take the scale in, and remove the node; the reason if that is not possible."""
    from edgecc.model import merged_origins

    factor = _factor(node)
    assert factor is not None, "candidates() has seen to it"
    taker = way.end.node if isinstance(way.end, Linear) else way.end
    reason = (
        _scale_linear(way.end, factor, model) if isinstance(way.end, Linear) else _scale_other(taker, factor, model)
    )
    if reason is not None:
        return reason
    ctx.done(node, f"{node.op} by one number became part of {describe(taker)}", [node, taker])
    taker.origins = merged_origins((taker, node))
    # A name keeps meaning the same values: what lies between gets a new one.
    for tensor in way.between:
        tensor.name = model.fresh_name(f"{tensor.name}_scaled")
    source, result = node.inputs[data_index(node)], node.outputs[0]
    if way.is_across:
        model.redirect(result, source)
    else:
        writer = model.producer(source)
        assert writer is not None, "the way leads through it"
        if not model.is_output(result):
            result.shape = source.shape
        model.set_output(writer, 0, result)
    model.remove(node)
    return None


def _scale_linear(linear: Linear, factor: float, model: Model) -> str | None:
    weights = linear.scale_outputs(np.full(linear.outputs, factor))
    old = linear.bias()
    bias = None if old is None else linear.rounded(old * factor)
    reason = linear.refuses(weights, bias, factor)
    if reason is None:
        linear.update(model, weights, bias)
    return reason


def _scale_other(other: Node, factor: float, model: Model) -> str | None:
    own = _factor(other)
    assert own is not None, "the way ends in such a node"
    index = 1 - data_index(other)
    product = own * factor if other.op == "Mul" else 1 / (own * factor) if own * factor else np.inf
    tensor = other.inputs[index]
    with np.errstate(over="ignore", under="ignore"):
        rounded = np.full(tensor.shape, product).astype(tensor.dtype)
    if not np.isfinite(rounded).all() or 0 < abs(product) < smallest_normal(rounded.dtype):
        return f"one number for it and {describe(other)} would be too small or not finite in {rounded.dtype}"
    model.set_input(other, index, model.constant(tensor.name, rounded))
    return None
