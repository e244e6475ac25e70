"""Shapes with open dimensions: broadcasting, permuting, and how a Reshape says them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from edgecc.rewriting.reading import constant, has_operand, integers, rank

if TYPE_CHECKING:
    from edgecc.model import Model, Node, Tensor

Shape: TypeAlias = "Sequence[int | str]"

#: Operators that give the same elements in the same order another shape.
RESHAPES = frozenset({"Flatten", "Reshape", "Squeeze", "Unsqueeze"})


def reshape_target(source: Tensor, result: Tensor, shape: Shape | None = None) -> list[int] | None:
    """What the second input of a Reshape from one tensor to another is; None if it cannot be said or loses a name.

    A number stands for itself, 0 for a dimension that stays in its place, -1 for the one that nothing is known of.

    Args:
        source: what the Reshape reads.
        result: what it writes.
        shape: of the result, if it is to get another one than it has.
    """
    wanted = result.shape if shape is None else shape
    if wanted is None or source.shape is None or 0 in wanted:
        return None
    target = []
    for axis, dim in enumerate(wanted):
        if isinstance(dim, int):
            target.append(dim)
        elif axis < len(source.shape) and source.shape[axis] == dim:
            target.append(0)
        elif dim == f"{result.name}_{axis}":
            target.append(-1)
        else:
            return None
    return target if target.count(-1) <= 1 else None


def without_ones(shape: Shape) -> list[int | str]:
    """The dimensions that are not known to be 1."""
    return [dim for dim in shape if dim != 1]


def same_up_to_ones(first: Tensor, second: Tensor) -> bool:
    """Whether the shapes differ only in axes of size 1."""
    if first.shape is None or second.shape is None:
        return False
    return without_ones(first.shape) == without_ones(second.shape)


def keeps_shape(source: Tensor, constant: Tensor, result: Tensor) -> bool:
    """Whether a constant does not broadcast the other operand to a larger shape."""
    axes = rank(source)
    if axes is not None and len(constant.shape) <= axes and math.prod(constant.shape) == 1:
        return True
    return bool(source.shape) and 0 not in source.shape and list(source.shape) == list(result.shape or ())


def broadcast(*shapes: Shape | None) -> list[int | str] | None:
    """The shape that these broadcast to; None if that is not certain."""
    known = [shape for shape in shapes if shape is not None]
    if len(known) < len(shapes) or not known:
        return None
    length = max(map(len, known))
    result: list[int | str] = []
    for axis in range(length):
        places = [axis - length + len(shape) for shape in known]
        dims = {shape[place] for shape, place in zip(known, places, strict=True) if place >= 0}
        others = dims - {1}
        if len(others) > 1:
            return None
        result.append(others.pop() if others else 1)
    return result


def permutation(node: Node) -> list[int] | None:
    """The order of axes of a Transpose, with its default written out; None if the rank is not known."""
    perm = node.attrs.get("perm")
    if perm is not None:
        return [int(axis) for axis in perm]
    count = rank(node.inputs[0])
    return None if count is None else list(range(count))[::-1]


def inverse(perm: Sequence[int]) -> list[int]:
    """The permutation that undoes one."""
    return [list(perm).index(axis) for axis in range(len(perm))]


def permuted(shape: Shape, perm: Sequence[int]) -> list[int | str]:
    return [shape[axis] for axis in perm]


def axes_of(node: Node, index: int, count: int) -> list[int] | None:
    """Axes given by an input, none of them negative, sorted; None if they are left out or computed.

    Args:
        node: reads them.
        index: of the input.
        count: number of axes that negative ones count from.
    """
    axes = integers(node, index)
    return None if axes is None else sorted(axis % count for axis in axes)


def reduced_axes(node: Node) -> list[int] | None:
    """The axes over which a reduction goes, sorted; all of them where none are given. None if that is not known."""
    count = rank(node.inputs[0])
    if count is None or (has_operand(node, 1) and constant(node, 1) is None):
        return None
    axes = axes_of(node, 1, count) if has_operand(node, 1) else []
    if axes:
        return axes
    return [] if node.attrs.get("noop_with_empty_axes", 0) else list(range(count))


def is_free(tensor: Tensor, model: Model) -> bool:
    """Whether one node of the main graph alone reads the tensor, which is no output: it may come to hold other values.

    The same node may read it twice.
    """
    reader = model.single_consumer(tensor)
    return reader is not None and not model.is_inner(reader)


def as_integers(values: Sequence[int]) -> np.ndarray:
    """A vector as shapes, axes and bounds are stored."""
    return np.array(list(values), np.int64)
