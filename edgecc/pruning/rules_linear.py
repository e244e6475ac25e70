"""How layers with weights, and products of computed tensors, carry labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgecc.pruning.tracking import Layer, Tracker, is_known
from edgecc.rewriting.reading import constant, has_operand, rank

if TYPE_CHECKING:
    from edgecc.model import Node, Tensor


def conv(node: Node, tracker: Tracker) -> None:
    """Output channels are free; groups lose the same channels each, so that they stay equally large."""
    weights = constant(node, 1)
    if weights is None or not is_known(node.outputs[0]):
        return
    group = int(node.attrs.get("group", 1))
    outputs, inputs = weights.shape[0], weights.shape[1] * group
    source = node.inputs[0]
    reads = tracker.of(source).get(1)
    if group > 1 and group == inputs:
        # Depthwise: an output channel goes with the input channel that it is made of.
        writes = tracker.fresh(node.inputs[1], 0)
        if reads is None:
            tracker.freeze(node.inputs[1], f"{source.name!r} keeps its channels", 0)
        else:
            tracker.ties.unite(writes, np.repeat(reads, outputs // group))
        tracker.layers.append(Layer(node, None, writes, group))
    else:
        writes = tracker.fresh(node.inputs[1], 0)
        if group > 1:
            _tie_groups(writes, group, tracker)
        if reads is not None:
            if group > 1:
                _tie_groups(reads, group, tracker)
            tracker.tie(node.inputs[1], 1, reads[: weights.shape[1]])
            tracker.handle(node, 1, 1)
        tracker.layers.append(Layer(node, reads, writes, group))
    tracker.handle(node, 0, 1)
    tracker.handle(node, 1, 0)
    _bias(node, 2, writes, tracker)
    tracker.tie(node.outputs[0], 1, writes)


def conv_transpose(node: Node, tracker: Tracker) -> None:
    """As Conv, with the weights' first axis for the inputs."""
    weights = constant(node, 1)
    if weights is None or not is_known(node.outputs[0]):
        return
    group = int(node.attrs.get("group", 1))
    reads = tracker.of(node.inputs[0]).get(1)
    if group == 1:
        writes = tracker.fresh(node.inputs[1], 1)
    elif group == weights.shape[0] and weights.shape[1] == 1 and reads is not None:
        writes = reads
    else:
        return
    if reads is not None:
        tracker.tie(node.inputs[1], 0, reads)
        tracker.handle(node, 1, 0)
    tracker.layers.append(Layer(node, reads if group == 1 else None, writes, group))
    tracker.handle(node, 0, 1)
    tracker.handle(node, 1, 1)
    _bias(node, 2, writes, tracker)
    tracker.tie(node.outputs[0], 1, writes)


def _tie_groups(labels: np.ndarray, group: int, tracker: Tracker) -> None:
    """Let the groups lose the channels at the same places."""
    table = labels.reshape(group, -1)
    tracker.ties.unite(table[:1], table)


def _bias(node: Node, index: int, labels: np.ndarray, tracker: Tracker) -> None:
    if has_operand(node, index):
        tracker.tie(node.inputs[index], 0, labels)
        tracker.handle(node, index, 0)


def gemm(node: Node, tracker: Tracker) -> None:
    weights = constant(node, 1)
    if weights is None:
        return
    inner, outer = (1, 0) if node.attrs.get("transB", 0) else (0, 1)
    rows, features = (1, 0) if node.attrs.get("transA", 0) else (0, 1)
    writes = _dense(node, inner, outer, features, tracker)
    if rows in tracker.of(node.inputs[0]):
        tracker.tie(node.outputs[0], 0, tracker.of(node.inputs[0])[rows])
        tracker.handle(node, 0, rows)
    if has_operand(node, 2):
        addend = node.inputs[2]
        count = rank(addend)
        if count and addend.shape is not None and addend.shape[-1] == len(writes):
            tracker.tie(addend, count - 1, writes)
            tracker.handle(node, 2, count - 1)


def _dense(node: Node, inner: int, outer: int, features: int, tracker: Tracker) -> np.ndarray:
    """A matrix of weights: `inner` is the axis that is summed over, `features` that of the data."""
    reads = tracker.of(node.inputs[0]).get(features)
    writes = tracker.fresh(node.inputs[1], outer)
    if reads is not None:
        tracker.tie(node.inputs[1], inner, reads)
        tracker.handle(node, 1, inner)
        tracker.handle(node, 0, features)
    tracker.handle(node, 1, outer)
    tracker.layers.append(Layer(node, reads, writes))
    last = rank(node.outputs[0])
    if last:
        tracker.tie(node.outputs[0], last - 1, writes)
    return writes


def matmul(node: Node, tracker: Tracker) -> None:
    """With constant weights, a layer; otherwise a product that is batched over its first axes."""
    first, second = node.inputs[:2]
    counts = rank(first), rank(second), rank(node.outputs[0])
    if None in counts or 1 in counts[:2]:
        return
    if constant(node, 1) is not None and counts[1] == 2:
        features = counts[0] - 1  # type: ignore[operator]
        _dense(node, 0, 1, features, tracker)
        for axis, labels in tracker.of(first).items():
            if axis != features:
                tracker.tie(node.outputs[0], axis, labels)
                tracker.handle(node, 0, axis)
        return
    _product(node, first, second, tracker)


def _product(node: Node, first: Tensor, second: Tensor, tracker: Tracker) -> None:
    """[..., m, k] @ [..., k, n]: rows and columns pass, k is common to both, the axes in front are heads."""
    result = node.outputs[0]
    assert first.shape is not None
    assert second.shape is not None
    assert result.shape is not None
    counts = len(first.shape), len(second.shape), len(result.shape)
    rows, columns = tracker.of(first).get(counts[0] - 2), tracker.of(second).get(counts[1] - 1)
    if rows is not None:
        tracker.tie(result, counts[2] - 2, rows)
        tracker.handle(node, 0, counts[0] - 2)
    if columns is not None:
        tracker.tie(result, counts[2] - 1, columns)
        tracker.handle(node, 1, counts[1] - 1)
    sums = tracker.of(first).get(counts[0] - 1), tracker.of(second).get(counts[1] - 2)
    if sums[0] is not None and sums[1] is not None:
        tracker.ties.unite(sums[0], sums[1])
        tracker.handle(node, 0, counts[0] - 1)
        tracker.handle(node, 1, counts[1] - 2)
    for axis in range(counts[2] - 2):
        _batch(node, axis - counts[2], tracker)


def _batch(node: Node, place: int, tracker: Tracker) -> None:
    """An axis in front of the matrices, counted from the end: both operands have it, or one has 1."""
    result = node.outputs[0]
    found = []
    for index, tensor in enumerate(node.inputs[:2]):
        assert tensor.shape is not None
        axis = len(tensor.shape) + place
        if axis < 0 or tensor.shape[axis] == 1:
            continue
        labels = tracker.of(tensor).get(axis)
        if labels is None:
            return  # one operand that must stay keeps the other: nothing is handled
        found.append((index, axis, labels))
    for index, axis, labels in found:
        assert result.shape is not None
        tracker.tie(result, len(result.shape) + place, labels)
        tracker.handle(node, index, axis)
    tracker.heads += [labels for _, _, labels in found]


def attention(node: Node, tracker: Tracker) -> None:
    """Attention of [batch, heads, length, size] tensors: heads go together, and so do the sizes of queries and keys.

    Where several heads of queries share one of keys and values, it goes with all of them.
    """
    tensors, result = node.inputs[:3], node.outputs[0]
    mask = node.inputs[3] if has_operand(node, 3) else None
    if any(rank(tensor) != 4 for tensor in (*tensors, result)) or len(node.inputs) > 4 or len(node.outputs) > 1:
        return
    heads = [labels for tensor in tensors if (labels := tracker.of(tensor).get(1)) is not None]
    if len(heads) == 3 and _is_common(mask):
        tracker.tie(result, 1, heads[0])
        tracker.ties.unite(heads[1], heads[2])
        if len(heads[0]) == len(heads[1]):
            tracker.ties.unite(heads[0], heads[1])
        else:
            tracker.factorize(heads[0], [heads[1], None], [len(heads[1]), len(heads[0]) // len(heads[1])])
        for index, labels in enumerate(heads):
            tracker.handle(node, index, 1)
            tracker.heads.append(labels)
    query, key, value = (tracker.of(tensor).get(3) for tensor in tensors)
    if query is not None and key is not None and node.attrs.get("scale") is not None:
        tracker.ties.unite(query, key)
        tracker.handle(node, 0, 3)
        tracker.handle(node, 1, 3)
    if value is not None:
        tracker.tie(result, 3, value)
        tracker.handle(node, 2, 3)


def _is_common(mask: Tensor | None) -> bool:
    """Whether a mask, whose axes are aligned at the end, is the same for every head."""
    return mask is None or (mask.shape is not None and (len(mask.shape) < 3 or mask.shape[-3] == 1))
