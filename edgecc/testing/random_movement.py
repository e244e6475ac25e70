"""Steps of random models that move data: another order, another shape, in pieces and together again."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

from edgecc.testing.random_builder import Builder
from edgecc.testing.random_steps import unary

if TYPE_CHECKING:
    from edgecc.model import Tensor


def cast(b: Builder, x: Tensor) -> Tensor:
    return b.node("Cast", [x], x.shape, to=1)


def concat(b: Builder, x: Tensor) -> Tensor | None:
    others = [t for t in b.tensors if t.shape[0] == x.shape[0] and t.shape[2:] == x.shape[2:]]
    parts = [x, *(b.pick(others) for _ in range(b.pick([0, 1, 1])))]
    channels = sum(t.shape[1] for t in parts)
    return b.node("Concat", parts, [x.shape[0], channels, *x.shape[2:]], axis=1) if channels <= 8 else None


def reshape(b: Builder, x: Tensor) -> Tensor | None:
    batch, channels, side, other = x.shape
    if side != other:
        return None
    if b.flip():
        return b.node("Reshape", [x, b.integers(0, -1, side, side)], x.shape)
    flat = b.node("Reshape", [x, b.integers(0, 0, -1)], [batch, channels, side * side])
    return b.node("Reshape", [flat, b.integers(0, channels, side, side)], x.shape)


def transpose(b: Builder, x: Tensor) -> Tensor:
    return b.permuted(x, b.pick([[0, 1, 2, 3], [0, 1, 3, 2]]))


def slice(b: Builder, x: Tensor) -> Tensor:
    start = b.pick([0, 0, 1]) if x.shape[1] > 1 else 0
    inputs: list[Tensor] = [x, b.integers(start), b.integers(b.pick([x.shape[1], 2**31 - 1])), b.integers(1)]
    return b.node("Slice", inputs, [x.shape[0], x.shape[1] - start, *x.shape[2:]])


def permute(b: Builder, x: Tensor) -> Tensor:
    """Any order, the batch in its place: what follows reads as channels what was a side."""
    return b.permuted(x, b.pick([[0, 2, 3, 1], [0, 3, 1, 2], [0, 3, 2, 1], [0, 2, 1, 3], [0, 1, 3, 2]]))


def back_and_forth(b: Builder, x: Tensor) -> Tensor:
    """Elementwise operators in another layout, as exporters of NHWC frameworks write them."""
    perm = b.pick([[0, 2, 3, 1], [0, 1, 3, 2]])
    t = b.permuted(x, perm)
    for _ in range(b.pick([1, 2])):
        t = b.pick([unary, per_last, with_another, split_and_join])(b, t)
    return b.permuted(t, [perm.index(axis) for axis in range(4)])


def per_last(b: Builder, x: Tensor) -> Tensor:
    if not isinstance(x.shape[-1], int):
        return unary(b, x)
    return b.node(b.pick(["Mul", "Add"]), [x, b.weights(*b.pick([(x.shape[-1],), (1, 1, 1)]))], x.shape)


def with_another(b: Builder, x: Tensor) -> Tensor:
    """An operand of the same shape, which may be in any layout."""
    others = [t for t in b.tensors if t.shape is not None and sorted(map(str, t.shape)) == sorted(map(str, x.shape))]
    other = b.pick(others) if others else x
    if other.shape != x.shape:
        perm = next((p for p in orders(4) if [other.shape[axis] for axis in p] == list(x.shape)), None)
        other = b.permuted(other, perm) if perm else x
    return b.node(b.pick(["Add", "Max"]), b.pick([[x, other], [other, x]]), x.shape)


def split_and_join(b: Builder, x: Tensor) -> Tensor:
    """Cut along an axis and put together again, the pieces in any order."""
    axis = b.pick([a for a in range(1, 4) if isinstance(x.shape[a], int)])
    size = x.shape[axis]
    if size < 2:
        return x
    at = b.pick([1, size - 1])
    shapes = [[*x.shape[:axis], part, *x.shape[axis + 1 :]] for part in (at, size - at)]
    if b.flip():
        parts = [b.model.variable("t", np.float32, shape) for shape in shapes]
        b.model.add("Split", [x, b.integers(at, size - at)], parts, attributes={"axis": axis})
    else:
        bounds = [(0, at), (at, b.pick([size, 2**31 - 1]))]
        parts = [
            b.node("Slice", [x, b.integers(start), b.integers(end), b.integers(axis)], shape)
            for (start, end), shape in zip(bounds, shapes, strict=True)
        ]
    if b.flip():
        parts[0] = unary(b, parts[0])
    parts = b.pick([parts, parts[::-1]])
    return b.node("Concat", list(parts), x.shape, axis=b.pick([axis, axis - 4]))


def other_shape(b: Builder, x: Tensor) -> Tensor:
    """Through a shape of three or five axes and back, with something in between."""
    t = b.pick([as_rows, with_a_one, without_ones, halved_channels])(b, x)
    for _ in range(b.pick([0, 1, 1, 2])):
        t = b.pick([unary, per_last, rows])(b, t)
    if len(t.shape) > 3 and b.flip():
        t = b.permuted(t, [0, *b.pick(orders(len(t.shape) - 1, 1))])
    numbers = [dim for dim in t.shape if isinstance(dim, int)]
    count = int(np.prod(numbers[1:] if numbers[:1] == list(t.shape[:1]) else numbers))
    shapes = [(1, 1), (count, 1), (1, count), *((k, count // k) for k in (2, 3) if count % k == 0)]
    first, second = b.pick(shapes)
    rest = count // (first * second)
    batch = t.shape[0]
    return b.node("Reshape", [t, b.integers(b.pick([0, -1]), first, second, rest)], [batch, first, second, rest])


def as_rows(b: Builder, x: Tensor) -> Tensor:
    batch, channels, height, width = x.shape
    return b.node("Reshape", [x, b.integers(0, channels * height, -1)], [batch, channels * height, width])


def with_a_one(b: Builder, x: Tensor) -> Tensor:
    axis = b.pick([1, 2, 4])
    return b.node("Unsqueeze", [x, b.integers(axis)], [*x.shape[:axis], 1, *x.shape[axis:]])


def without_ones(b: Builder, x: Tensor) -> Tensor:
    ones = [axis for axis in range(1, 4) if x.shape[axis] == 1][:1]
    if not ones:
        return with_a_one(b, x)
    return b.node("Squeeze", [x, b.integers(*ones)], [dim for axis, dim in enumerate(x.shape) if axis not in ones])


def halved_channels(b: Builder, x: Tensor) -> Tensor:
    batch, channels, height, width = x.shape
    if channels % 2:
        return with_a_one(b, x)
    shape = [2, channels // 2, height, width]
    return b.node("Reshape", [x, b.integers(0, *shape)], [batch, *shape])


def rows(b: Builder, x: Tensor) -> Tensor:
    size = x.shape[-1]
    if not isinstance(size, int) or size > 8:
        return unary(b, x)
    if b.flip():
        return b.node("Softmax", [x], x.shape, axis=b.pick([-1, len(x.shape) - 1]))
    return b.node("MatMul", [x, b.weights(size, 2)], [*x.shape[:-1], 2])


def twice(b: Builder, x: Tensor) -> Tensor:
    """The same computed by two nodes."""
    op = b.pick(["Relu", "Tanh"])
    first, second = b.node(op, [x], x.shape), b.node(op, [x], x.shape)
    return b.node("Add", [first, unary(b, second)], x.shape)


def orders(count: int, start: int = 0) -> list[tuple[int, ...]]:
    return list(itertools.permutations(range(start, start + count)))
