"""Memory orders: in which order a tensor's axes lie in memory.

An order is a permutation of the axes that the lowering declared: `order[i]` is the declared axis that lies at place i
in memory. The order (0, 2, 3, 1) of a tensor declared (batch, channels, height, width) is channels-last; the identity
is "as declared". Axes of size 1 take no place in memory: two orders that differ only in them hold the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence

from edgecc_tflite.ir import Shape

Order = tuple[int, ...]


def identity(rank: int) -> Order:
    return tuple(range(rank))


def inverse(order: Sequence[int]) -> Order:
    """Where in memory each declared axis lies."""
    places = [0] * len(order)
    for place, axis in enumerate(order):
        places[axis] = place
    return tuple(places)


def reordered(shape: Shape, order: Order) -> Shape:
    """The shape as it lies in memory."""
    return tuple(shape[axis] for axis in order)


def bytes_key(shape: Shape, order: Order) -> Order:
    """Equal for orders that hold the same bytes."""
    return tuple(axis for axis in order if shape[axis] != 1)


def through_transpose(order: Order, perm: Sequence[int]) -> Order:
    """The order of a TRANSPOSE's output for which its input in `order` is already the result."""
    places = inverse(perm)
    return tuple(places[axis] for axis in order)


def through_reshape(shape: Shape, order: Order, into: Shape) -> Order | None:
    """The order of a RESHAPE's output for which its input in `order` holds the same bytes.

    A RESHAPE splits and merges axes in blocks, such as (channels) into (groups, channels per group). It commutes with
    every order that moves blocks as wholes.

    Returns:
        None if the order tears a block apart.
    """
    blocks = _blocks(shape, into)
    if blocks is None:
        return None
    block_of = {axis: number for number, (axes, _) in enumerate(blocks) for axis in axes}
    result: list[int] = []
    axes_in_memory = list(bytes_key(shape, order))
    while axes_in_memory:
        axes, new_axes = blocks[block_of[axes_in_memory[0]]]
        if axes_in_memory[: len(axes)] != axes:
            return None
        del axes_in_memory[: len(axes)]
        result.extend(new_axes)
    return with_unit_axes(into, result)


def _blocks(shape: Shape, into: Shape) -> list[tuple[list[int], list[int]]] | None:
    """The smallest groups of axes of both shapes with the same product; axes of size 1 are in none."""
    left = [axis for axis, dim in enumerate(shape) if dim != 1]
    right = [axis for axis, dim in enumerate(into) if dim != 1]
    blocks: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(left) and j < len(right):
        axes, new_axes = [left[i]], [right[j]]
        size, new_size = shape[left[i]], into[right[j]]
        i, j = i + 1, j + 1
        while size != new_size:
            if min(size, new_size) < 0:
                return None
            if size < new_size:
                if i == len(left):
                    return None
                if shape[left[i]] < 0:
                    return None
                size *= shape[left[i]]
                axes.append(left[i])
                i += 1
            else:
                if j == len(right):
                    return None
                if into[right[j]] < 0:
                    return None
                new_size *= into[right[j]]
                new_axes.append(right[j])
                j += 1
        blocks.append((axes, new_axes))
    return blocks if i == len(left) and j == len(right) else None


def with_unit_axes(shape: Shape, order: Sequence[int]) -> Order:
    """Put the axes of size 1 back where they disturb least: as declared or channels-last if that fits."""
    wanted = tuple(order)
    rank = len(shape)
    for candidate in (identity(rank), (0, *range(2, rank), 1)):
        if len(candidate) == rank and bytes_key(shape, candidate) == wanted:
            return candidate
    result: list[int] = [axis for axis in range(rank) if shape[axis] == 1 and not any(d != 1 for d in shape[:axis])]
    placed = set(result)
    for axis in wanted:
        before = axis - 1
        run: list[int] = []
        while before >= 0 and shape[before] == 1 and before not in placed:
            run.insert(0, before)
            before -= 1
        result.extend((*run, axis))
        placed.update(run)
    result.extend(axis for axis in range(rank) if shape[axis] == 1 and axis not in placed)
    return tuple(result)
