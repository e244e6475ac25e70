"""Limits: what keeps every element of a tensor between two numbers, however it is written."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from edgecc.rewriting.reading import describe, has_operand, is_floating, is_op, same_shape, scalar

if TYPE_CHECKING:
    from edgecc.model import Model, Node, Tensor

#: Operators that can limit.
LIMITING = ("Relu", "Clip", "Max", "Min", "Where")


class Limits(NamedTuple):
    """min(max(source, low), high) with low <= high.

    Attributes:
        source: what is limited.
        low: minus infinity if there is none.
        high: infinity if there is none.
        nodes: that do it, the last one first.
        refused: why the limits in front of these were not joined to them; "" if there are none.
    """

    source: Tensor
    low: float
    high: float
    nodes: tuple[Node, ...]
    refused: str = ""


def own_limits(node: Node) -> Limits | str | None:
    """The limits that one node sets; the reason if it should and cannot be read; None if it does something else.

    Relu, Clip with constant bounds, Max and Min with a constant of one element, and
    `Where(LessOrEqual(x, c), c, x)`, which is how a threshold is exported. Floating point alone: what limits integers
    computes shapes.
    """
    if not is_op(node, *LIMITING) or not node.outputs or not is_floating(node.outputs[0].dtype):
        return None
    match node.op:
        case "Relu":
            return Limits(node.inputs[0], 0.0, math.inf, (node,))
        case "Clip":
            return _with_a_range(_of_clip(node))
        case "Where":
            return _with_a_range(_of_where(node))
    return _with_a_range(_of_extremum(node))


def _with_a_range(found: Limits | str | None) -> Limits | str | None:
    """Refuse what leaves infinity alone: a Clip could not say it, since there such a bound is one that is left out."""
    if isinstance(found, Limits) and (found.low == math.inf or found.high == -math.inf):
        return f"it makes every value {found.low if found.low == math.inf else found.high:g}"
    return found


def limits(node: Node, model: Model, most: int | None = None) -> Limits | str | None:
    """As `own_limits`, joined with those of the nodes in front that do the same and are read by nothing else.

    Args:
        node: the last one.
        model: it is of.
        most: nodes to join at most, so that looking at each node of a long chain stays linear.
    """
    found = own_limits(node)
    while isinstance(found, Limits) and (most is None or len(found.nodes) < most):
        producer = model.producer(found.source)
        inner = None if producer is None else own_limits(producer)
        if not isinstance(inner, Limits):
            return found
        refused = _read_elsewhere(found.source, found.nodes[-1], model)
        if refused:
            return Limits(found.source, found.low, found.high, found.nodes, refused)
        low, high = (min(max(bound, found.low), found.high) for bound in (inner.low, inner.high))
        found = Limits(inner.source, low, high, (*found.nodes, *inner.nodes))
    return found


def _of_clip(node: Node) -> Limits | str:
    bounds = []
    for index, default in ((1, -math.inf), (2, math.inf)):
        bound = scalar(node.inputs[index]) if has_operand(node, index) else default
        if bound is None:
            return f"its bound {node.inputs[index].name!r} is computed"
        bounds.append(_without_extremes(bound, node.outputs[0]))
    low, high = bounds
    if not low <= high:
        return f"its lower bound {low:g} is not below its upper bound {high:g}"
    return Limits(node.inputs[0], low, high, (node,))


def _of_extremum(node: Node) -> Limits | str | None:
    from edgecc.model import value_of

    if len(node.inputs) != 2:
        return None
    constants = [index for index in (0, 1) if value_of(node.inputs[index]) is not None]
    if len(constants) != 1:
        return None
    constant, source = node.inputs[constants[0]], node.inputs[1 - constants[0]]
    bound = scalar(constant)
    if bound is None:
        return f"its constant {constant.name!r} has {math.prod(constant.shape)} elements, and a bound has one"
    if math.isnan(bound):
        return f"its constant {constant.name!r} is not a number"
    if len(constant.shape) and not same_shape(source, node.outputs[0]):
        return f"its constant {constant.name!r} broadcasts {source.name!r} to another shape"
    low, high = (bound, math.inf) if node.op == "Max" else (-math.inf, bound)
    return Limits(source, low, high, (node,))


def _of_where(node: Node) -> Limits | None:
    """`Where(x <= c, c, x)`; one that compares the other way round turns what is not a number into c."""
    condition, bound, source = node.inputs
    test = condition.inputs[0] if condition.inputs else None
    value = scalar(bound)
    if test is None or not is_op(test, "LessOrEqual", "Less") or value is None or math.isnan(value):
        return None
    if test.inputs[0] is not source or scalar(test.inputs[1]) != value or not same_shape(source, node.outputs[0]):
        return None
    return Limits(source, value, math.inf, (node,))


def _without_extremes(bound: float, tensor: Tensor) -> float:
    """Exporters write the greatest number of the type where they mean no bound."""
    if np.dtype(tensor.dtype).kind == "f" and abs(bound) >= float(np.finfo(tensor.dtype).max):
        return math.copysign(math.inf, bound)
    return bound


def _read_elsewhere(tensor: Tensor, reader: Node, model: Model) -> str:
    if model.is_output(tensor):
        return f"{tensor.name!r}, which is limited too, is an output of the model"
    others = [other for other in model.consumers(tensor) if other is not reader and not _is_its_test(other, reader)]
    if others:
        return f"{tensor.name!r}, which is limited too, is read by {describe(others[0])} too"
    return ""


def _is_its_test(other: Node, reader: Node) -> bool:
    """Whether it is the comparison of a Where that sets limits."""
    return any(tensor is reader.inputs[0] for tensor in other.outputs) and len(other.outputs[0].outputs) == 1


def bound_tensors(found: Limits) -> Iterator[Tensor]:
    """The constants without axes that the nodes read as bounds: a new node can read them again."""
    for node in found.nodes:
        for tensor in node.inputs:
            if scalar(tensor) is not None and not tensor.shape:
                yield tensor
