"""Arithmetic of shapes: it is done in Python's numbers while the graph is built, or when the module runs."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from edgecc.model import value_of
from edgecc_torch.rules.base import NodeView, RefusalError, Rule, Sizes, torch_type

if TYPE_CHECKING:
    from torch.fx import Proxy


def _shape(n: NodeView) -> Sizes:
    rank = n.rank()
    start, end, _ = slice(n.attribute("start", 0), n.attribute("end")).indices(rank)
    axes = range(start, end)
    known = n.shape()
    return Sizes(tuple(_known(known[axis]) if isinstance(known[axis], int) else n[0].size(axis) for axis in axes))


def _known(size: int | str) -> int:
    return int(size)


def _given(n: NodeView, index: int = 0) -> Sizes:
    found = n.known_sizes(index)
    if found is None:
        raise RefusalError("it mixes sizes with values")
    return found


def _gather(n: NodeView) -> Sizes:
    values, indices = _given(n).values, n.value(1)
    return Sizes(tuple(values[int(index)] for index in indices.reshape(-1)), indices.ndim == 0)


def _slice(n: NodeView) -> Sizes:
    start, end = n.numbers(1)[0], n.numbers(2)[0]
    return Sizes(_given(n).values[start : end : n.numbers(4)[0] if n.has(4) else 1])


def _concat(n: NodeView) -> Sizes:
    return Sizes(tuple(value for index in range(len(n.node.inputs)) for value in _given(n, index).values))


def _arithmetic(function: Callable[[Any, Any], Any]) -> Rule:
    def rule(n: NodeView) -> Sizes:
        first, second = _given(n, 0), _given(n, 1)
        count = max(len(first.values), len(second.values))
        left, right = (side.values * count if len(side.values) == 1 else side.values for side in (first, second))
        values = tuple(function(a, b) for a, b in zip(left, right, strict=True))
        return Sizes(values, first.scalar and second.scalar)

    return rule


def _where(n: NodeView) -> Sizes:
    """Chosen by constants, as where -1 stands for a size that stays."""
    chosen = n.value(0).reshape(-1)
    first, second = _given(n, 1), _given(n, 2)
    count = max(len(chosen), len(first.values), len(second.values))
    sides = (side.values * count if len(side.values) == 1 else side.values for side in (first, second))
    conditions = list(chosen) * count if len(chosen) == 1 else chosen
    return Sizes(tuple(a if condition else b for condition, a, b in zip(conditions, *sides, strict=True)))


def _reshape(n: NodeView) -> Sizes:
    """To one axis or none, which is all that lists of sizes have."""
    return Sizes(_given(n).values, not n.value(1).size)


def _kept(n: NodeView) -> Sizes:
    return _given(n)


def _filled(n: NodeView) -> Proxy:
    """ConstantOfShape."""
    value = n.attribute("value")
    values = value_of(value) if hasattr(value, "values") else value
    number = 0.0 if values is None else getattr(values, "reshape", lambda *_: values)(-1)[0].item()
    return n.call(torch.full, n.sizes(0), number, options={"dtype": torch_type(n.output_dtype())})


def _range(n: NodeView) -> Proxy:
    bounds = (n.sizes(index)[0] for index in range(3))
    return n.call(torch.arange, *bounds, options={"dtype": torch_type(n.output_dtype())})


#: For nodes that read sizes, and Shape.
RULES: dict[str, Rule] = {
    "Add": _arithmetic(operator.add),
    "Cast": _kept,
    "Concat": _concat,
    "Div": _arithmetic(operator.floordiv),
    "Gather": _gather,
    "Identity": _kept,
    "Mul": _arithmetic(operator.mul),
    "Reshape": _reshape,
    "Shape": _shape,
    "Slice": _slice,
    "Squeeze": lambda n: Sizes(_given(n).values, True),
    "Sub": _arithmetic(operator.sub),
    "Unsqueeze": lambda n: Sizes(_given(n).values),
    "Where": _where,
}

#: Operators that make tensors from sizes.
MAKERS: dict[str, Rule] = {
    "ConstantOfShape": _filled,
    "Range": _range,
}
