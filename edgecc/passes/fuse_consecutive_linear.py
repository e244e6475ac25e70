"""Pass fuse-consecutive-linear."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from edgecc.passes.base import Loss, NodePass, PassContext
from edgecc.rewriting.affine import data_index, is_affine
from edgecc.rewriting.linear import Linear, linear_of
from edgecc.rewriting.reading import describe, is_op, text

if TYPE_CHECKING:
    from edgecc.model import Model, Node

_OPS = ("Conv", "Gemm", "MatMul")


class FuseConsecutiveLinear(NodePass):
    """Multiply the weights of two linear nodes in a row where one with the product has less to do than both.

    Before: a = MatMul(x, w1)   y = MatMul(a, w2)          w1 of shape [64, 256], w2 of shape [256, 64]
    After:  y = MatMul(x, w)                               w = w1 w2

    Gemm and MatMul follow each other in any order; a Conv follows or is followed by one with a kernel of size 1.
    Multiply-accumulates and weights are counted, those of the product must be fewer. Biases pass through, except that
    one in front of zero padding cannot, as the padding has none. Weights are multiplied in float64.

    Attributes:
        ignore: patterns of node names (of either of the two) to leave alone.
    """

    name = "fuse-consecutive-linear"
    loss = Loss.ROUNDING
    keeps_types = True
    # What float16 rounds away before weights are multiplied is lost for good.
    before = ("convert-float16",)

    def run(self, model: Model, ctx: PassContext) -> bool:
        # One that stays beside the first may go with the product of the other two.
        changed = False
        while super().run(model, ctx):
            ctx.forget_skips()
            changed = True
        return changed

    def candidates(self, model: Model) -> list[Node]:
        return model.nodes(*_OPS, ignore=self.ignore)

    def visit(self, node: Node, model: Model, ctx: PassContext) -> bool:
        from edgecc.model import matches_any

        before = _linear_before(node, model)
        if before is None or matches_any(before, self.ignore):
            return False
        plan = _plan(before, node, model)
        if isinstance(plan, str):
            ctx.skip(node, plan)
            return False
        ctx.done(node, f"the weights of {describe(before)} became part of its own", [node, before])
        _apply(plan, model)
        return True


class _Plan(NamedTuple):
    """Two linear nodes, and what the second becomes when the first is gone."""

    first: Linear
    second: Linear
    op: str
    attributes: dict[str, object]
    weights: np.ndarray
    bias: np.ndarray | None


def _linear_before(node: Node, model: Model) -> Node | None:
    """The linear node whose result, bias included, this one reads."""
    producer = model.producer(node.inputs[0])
    if producer is not None and is_op(producer, "Add") and is_affine(producer):
        product = model.producer(producer.inputs[data_index(producer)])
        producer = product if is_op(product, "MatMul") else None
    if producer is None or not is_op(producer, *_OPS):
        return None
    return producer if (producer.op == "Conv") == (node.op == "Conv") else None


def _plan(before: Node, node: Node, model: Model) -> _Plan | str:
    first, second = linear_of(before, model), linear_of(node, model)
    if isinstance(first, str):
        return first
    if isinstance(second, str):
        return second
    between = node.inputs[0]
    if first.last.outputs[0] is not between:
        return f"what {describe(model.producer(between))} adds is not one value per channel"
    for tensor in (between, before.outputs[0]):
        if model.is_output(tensor):
            return f"{tensor.name!r} is an output of the model"
        if len(tensor.outputs) != 1:
            return f"{tensor.name!r} is read by {len(tensor.outputs)} inputs of nodes"
    return _of_convolutions(first, second) if node.op == "Conv" else _of_matrices(first, second)


# ----------------------------------------------------------------------------------------------------------- matrices


def _of_matrices(first: Linear, second: Linear) -> _Plan | str:
    if second.node.attrs.get("transA", 0):
        return f"it transposes what {describe(first.node)} computes"
    rows, middle, columns = first.inputs, first.outputs, second.outputs
    reason = _costs(rows * columns, rows * middle + middle * columns, first)
    if reason is not None:
        return reason
    old = first.bias()
    if old is not None and (old.size not in (1, middle) or old.shape[-1:] not in ((), (1,), (middle,))):
        return f"the bias of {describe(first.node)} is not one value per column"
    bias = second.bias()
    if old is not None:
        passed = second.of_constant(np.broadcast_to(old.reshape(-1), (middle,)))
        bias = passed if bias is None else bias + passed
    if bias is not None and not second.takes_bias():
        return f"it has no place for the bias of {describe(first.node)}: its output does not have two axes"
    weights = _matrix(first) @ _matrix(second)
    is_gemm = "Gemm" in (first.node.op, second.node.op) or (bias is not None and second.adder is None)
    attributes: dict[str, object] = {"transA": 1} if first.node.attrs.get("transA", 0) else {}
    return _finite(first, second, "Gemm" if is_gemm else "MatMul", attributes, weights, bias)


def _matrix(linear: Linear) -> np.ndarray:
    """Its weights in float64, one row per input."""
    values: np.ndarray = linear.weights.astype(np.float64) * linear.node.attrs.get("alpha", 1.0)
    return values.T if linear.transposed else values


# ------------------------------------------------------------------------------------------------------- convolutions


def _of_convolutions(first: Linear, second: Linear) -> _Plan | str:
    if first.groups != 1 or second.groups != 1:
        return f"it or {describe(first.node)} works on groups of channels"
    if _is_pointwise(second) and not any(second.node.attrs.get("pads", ())):
        return _pointwise_last(first, second)
    if _is_pointwise(first) and all(step == 1 for step in first.node.attrs.get("strides", ())):
        if any(first.node.attrs.get("pads", ())):
            return f"{describe(first.node)} pads with zeros"
        return _pointwise_first(first, second)
    return f"neither it nor {describe(first.node)} has a kernel of size 1 that sees every place and no padding"


def _pointwise_last(first: Linear, second: Linear) -> _Plan | str:
    steps = second.node.attrs.get("strides") or [1] * (second.weights.ndim - 2)
    if _pads_itself(first) and any(step != 1 for step in steps):
        return f"its strides would change the padding of {describe(first.node)} (auto_pad)"
    reason = _convolution_costs(first, second, math.prod(first.weights.shape[2:]))
    if reason is not None:
        return reason
    weights = np.tensordot(_pointwise_weights(second), first.weights.astype(np.float64), axes=(1, 0))
    own = first.node.attrs.get("strides") or [1] * len(steps)
    attributes = {**first.node.attrs, "strides": [a * b for a, b in zip(own, steps, strict=True)]}
    return _finite(first, second, "Conv", attributes, weights, _passed_bias(first, second))


def _pointwise_first(first: Linear, second: Linear) -> _Plan | str:
    old = first.bias()
    pads = any(second.node.attrs.get("pads", ())) or _pads_itself(second)
    if old is not None and old.any() and pads:
        return f"it pads with zeros, which do not have the bias of {describe(first.node)}"
    reason = _convolution_costs(first, second, math.prod(second.weights.shape[2:]))
    if reason is not None:
        return reason
    product = np.tensordot(second.weights.astype(np.float64), _pointwise_weights(first), axes=(1, 0))
    weights = np.moveaxis(product, -1, 1)
    return _finite(first, second, "Conv", dict(second.node.attrs), weights, _passed_bias(first, second))


def _is_pointwise(linear: Linear) -> bool:
    return all(size == 1 for size in linear.weights.shape[2:])


def _pads_itself(linear: Linear) -> bool:
    return text(linear.node, "auto_pad", "NOTSET") not in ("NOTSET", "VALID") and not _is_pointwise(linear)


def _pointwise_weights(linear: Linear) -> np.ndarray:
    return linear.weights.reshape(linear.weights.shape[:2]).astype(np.float64)


def _passed_bias(first: Linear, second: Linear) -> np.ndarray | None:
    old, bias = first.bias(), second.bias()
    if old is None:
        return bias
    passed = second.of_constant(old)
    return passed if bias is None else bias + passed


# ------------------------------------------------------------------------------------------------------------- counts


def _convolution_costs(first: Linear, second: Linear, kernel: int) -> str | None:
    """Why one convolution is not cheaper than the two; None if it is."""
    product = second.outputs * first.inputs * kernel
    parts = (first.weights.size, second.weights.size)
    if product > sum(parts):
        return f"its weights would be {product} numbers, {sum(parts)} with {describe(first.node)} apart"
    ours, its = _places(first), _places(second)
    if ours is None or its is None:
        # The second one sees no more places than the first unless it pads; if it does, it must cost more by itself.
        pads = any(second.node.attrs.get("pads", ())) or _pads_itself(second)
        return _costs(product, parts[1] if pads else sum(parts), first)
    return _costs(its * product, ours * parts[0] + its * parts[1], first)


def _places(linear: Linear) -> int | None:
    """How many places the output has per channel."""
    shape = linear.node.outputs[0].shape
    if shape is None or not all(isinstance(dim, int) for dim in shape[2:]):
        return None
    return math.prod(int(dim) for dim in shape[2:])


def _costs(product: int, apart: int, first: Linear) -> str | None:
    if product < apart:
        return None
    return f"the product would take {product} multiply-accumulates, {apart} with {describe(first.node)} apart"


# -------------------------------------------------------------------------------------------------------- the new node


def _finite(
    first: Linear,
    second: Linear,
    op: str,
    attributes: dict[str, object],
    weights: np.ndarray,
    bias: np.ndarray | None,
) -> _Plan | str:
    new_weights = np.ascontiguousarray(second.rounded(weights))
    new_bias = None if bias is None else second.rounded(bias)
    reason = second.refuses(new_weights, new_bias)
    return reason or _Plan(first, second, op, attributes, new_weights, new_bias)


def _apply(plan: _Plan, model: Model) -> None:
    from edgecc.model import merged_origins

    first, second, node = plan.first, plan.second, plan.second.node
    inputs = [first.node.inputs[0], model.constant(node.inputs[1].name, plan.weights)]
    if plan.bias is not None and second.adder is None:
        named = node if len(node.inputs) > 2 else first.node
        name = named.inputs[2].name if len(named.inputs) > 2 else ""
        inputs.append(model.constant(name or f"{node.name}/bias", plan.bias))
    elif plan.bias is not None:
        second.update(model, None, plan.bias)
    model.replace(node, plan.op, inputs, attributes=plan.attributes, origins=merged_origins((first.node, node)))
    if first.adder is not None:
        model.remove(first.adder)
    model.remove(first.node)
