"""How operators that only move values carry labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgecc.pruning.tracking import Tracker, length
from edgecc.rewriting.reading import constant, has_operand, integers, rank
from edgecc.rewriting.shapes import permutation
from edgecc.rewriting.slices import cuts_of

if TYPE_CHECKING:
    from edgecc.model import Node
    from edgecc.pruning.ties import Labels


def transpose(node: Node, tracker: Tracker) -> None:
    order = permutation(node)
    if order is None:
        return
    for axis, labels in list(tracker.of(node.inputs[0]).items()):
        tracker.tie(node.outputs[0], order.index(axis), labels)
        tracker.handle(node, 0, axis)


def concat(node: Node, tracker: Tracker) -> None:
    """Labels follow each other along the axis, and are common to all inputs along the others."""
    result = node.outputs[0]
    count = rank(result)
    if count is None or any(tensor.shape is None for tensor in node.inputs):
        return
    along = int(node.attrs.get("axis", 0)) % count
    for axis in range(count):
        if not any(axis in tracker.of(tensor) for tensor in node.inputs):
            continue
        if axis == along:
            _chain(node, axis, tracker)
        else:
            _share(node, axis, tracker)


def _chain(node: Node, axis: int, tracker: Tracker) -> None:
    parts: list[Labels] = []
    for index, tensor in enumerate(node.inputs):
        assert tensor.shape is not None
        if not isinstance(tensor.shape[axis], int):
            return
        labels = tracker.of(tensor).get(axis)
        if labels is None and getattr(tensor, "values", None) is not None:
            labels = tracker.fresh(tensor, axis)
        if labels is None:
            labels = tracker.ties.fresh(length(tensor, axis))
            tracker.ties.freeze(labels, f"{tensor.name!r} keeps all of axis {axis}")
        parts.append(labels)
        tracker.handle(node, index, axis)
    tracker.tie(node.outputs[0], axis, np.concatenate(parts))


def _share(node: Node, axis: int, tracker: Tracker) -> None:
    labels = next(tracker.of(t)[axis] for t in node.inputs if axis in tracker.of(t))
    for index, tensor in enumerate(node.inputs):
        if axis not in tracker.of(tensor) and getattr(tensor, "values", None) is None:
            tracker.ties.freeze(labels, f"{node.name} puts it beside {tensor.name!r}, which keeps all of that axis")
            continue
        tracker.tie(tensor, axis, labels)
        tracker.handle(node, index, axis)
    tracker.tie(node.outputs[0], axis, labels)


def split(node: Node, tracker: Tracker) -> None:
    count = rank(node.inputs[0])
    if count is None or any(output.shape is None for output in node.outputs):
        return
    along = int(node.attrs.get("axis", 0)) % count
    for axis, labels in list(tracker.of(node.inputs[0]).items()):
        start = 0
        for output in node.outputs:
            size = length(output, axis)
            tracker.tie(output, axis, labels[start : start + size] if axis == along else labels)
            start += size
        tracker.handle(node, 0, axis)


def slice_(node: Node, tracker: Tracker) -> None:
    cuts = cuts_of(node)
    if cuts is None or node.outputs[0].shape is None:
        return
    for axis, labels in list(tracker.of(node.inputs[0]).items()):
        cut = cuts.get(axis)
        taken = labels if cut is None else labels[list(cut.of(len(labels)))]
        if len(taken) == node.outputs[0].shape[axis]:
            tracker.tie(node.outputs[0], axis, taken)
            tracker.handle(node, 0, axis)


def gather(node: Node, tracker: Tracker) -> None:
    """Along the axis, constant places in a row take labels with them; what computed places choose from must stay."""
    source, result = node.inputs[0], node.outputs[0]
    count, indices = rank(source), rank(node.inputs[1])
    if count is None or indices is None or result.shape is None:
        return
    along = int(node.attrs.get("axis", 0)) % count
    if getattr(source, "values", None) is not None and not tracker.of(source):
        # A table of embeddings: its features are free.
        for axis in range(count):
            if axis != along:
                tracker.fresh(source, axis)
    for axis, labels in list(tracker.of(source).items()):
        if axis == along:
            places = integers(node, 1)
            if indices != 1 or places is None:
                continue
            tracker.tie(result, axis, labels[places])
        else:
            tracker.tie(result, axis if axis < along else axis + indices - 1, labels)
        tracker.handle(node, 0, axis)


def expand(node: Node, tracker: Tracker) -> None:
    """Axes that keep their length; they are aligned at the end."""
    source, result = node.inputs[0], node.outputs[0]
    if source.shape is None or result.shape is None or constant(node, 1) is None:
        return
    offset = len(result.shape) - len(source.shape)
    for axis, labels in list(tracker.of(source).items()):
        if result.shape[axis + offset] == len(labels):
            tracker.tie(result, axis + offset, labels)
            tracker.handle(node, 0, axis)


def pad(node: Node, tracker: Tracker) -> None:
    """Axes that are not padded; what is added at one end and cut at the other keeps the length and moves the rest."""
    source, result = node.inputs[0], node.outputs[0]
    pads = integers(node, 1)
    if source.shape is None or result.shape is None or pads is None:
        return
    count = len(source.shape)
    axes = integers(node, 3) if has_operand(node, 3) else list(range(count))
    if axes is None:
        return
    padded = {axis % count for axis, *both in zip(axes, pads, pads[len(axes) :], strict=False) if any(both)}
    for axis, labels in list(tracker.of(source).items()):
        if axis not in padded:
            tracker.tie(result, axis, labels)
            tracker.handle(node, 0, axis)


def reshape(node: Node, tracker: Tracker) -> None:
    """Reshape, Flatten, Squeeze and Unsqueeze: axes that stay, that are taken apart, and that are put together."""
    source, result = node.inputs[0], node.outputs[0]
    if source.shape is None or result.shape is None or not tracker.of(source):
        return
    for taken, given in aligned(list(source.shape), list(result.shape)):
        labels = {axis: tracker.of(source)[axis] for axis in taken if axis in tracker.of(source)}
        if not labels:
            continue
        sizes = [source.shape[axis] for axis in taken], [result.shape[axis] for axis in given]
        if len(taken) == len(given) == 1:
            tracker.tie(result, given[0], labels[taken[0]])
        elif any(not isinstance(size, int) for part in sizes for size in part):
            continue
        elif len(taken) == 1:
            factors = [tracker.ties.fresh(size) for size in sizes[1] if isinstance(size, int)]
            tracker.factorize(labels[taken[0]], factors, [len(factor) for factor in factors])
            for axis, factor in zip(given, factors, strict=True):
                tracker.tie(result, axis, factor)
        elif len(given) == 1:
            long = tracker.ties.fresh(length(result, given[0]))
            tracker.factorize(long, [labels.get(axis) for axis in taken], [length(source, axis) for axis in taken])
            tracker.tie(result, given[0], long)
        else:
            continue
        for axis in labels:
            tracker.handle(node, 0, axis)


def aligned(before: list[int | str], after: list[int | str]) -> list[tuple[list[int], list[int]]]:
    """Which axes of a shape become which of another: the finest runs of equal products, without axes of size 1.

    An open dimension is itself on either side; where there is one on each, and the other sizes multiply to the same,
    it is so whatever it is called.
    """
    opened = [[size for size in shape if isinstance(size, str)] for shape in (before, after)]
    if len(opened[0]) == len(opened[1]) == 1 and _size(before) == _size(after):
        after = [opened[0][0] if isinstance(size, str) else size for size in after]
    first = [axis for axis, size in enumerate(before) if size != 1]
    second = [axis for axis, size in enumerate(after) if size != 1]
    runs: list[tuple[list[int], list[int]]] = []
    while first and second:
        taken, given = [first.pop(0)], [second.pop(0)]
        while not _is_equal([before[axis] for axis in taken], [after[axis] for axis in given]):
            left, right = _size([before[axis] for axis in taken]), _size([after[axis] for axis in given])
            if first and (not second or left <= right):
                taken.append(first.pop(0))
            elif second:
                given.append(second.pop(0))
            else:
                return runs  # what is left matches nothing
        runs.append((taken, given))
    return runs


def _is_equal(first: list[int | str], second: list[int | str]) -> bool:
    return sorted(d for d in first if isinstance(d, str)) == sorted(d for d in second if isinstance(d, str)) and (
        _size(first) == _size(second)
    )


def _size(sizes: list[int | str]) -> int:
    return int(np.prod([size for size in sizes if isinstance(size, int)], dtype=np.int64))
