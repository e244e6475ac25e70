"""How operators that compute each index by itself carry labels, and those that only look along other axes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgecc.pruning.tracking import Tracker, is_known
from edgecc.rewriting.reading import has_operand, rank
from edgecc.rewriting.shapes import reduced_axes

if TYPE_CHECKING:
    from edgecc.model import Node, Tensor


def same(node: Node, tracker: Tracker) -> None:
    """The result has the first input's shape, and each of its values is made of the one at its place."""
    for axis in list(tracker.of(node.inputs[0])):
        _carry(node, axis, axis, tracker)


def _carry(node: Node, source: int, result: int, tracker: Tracker) -> None:
    for tensor in node.outputs:
        if not tensor.is_empty() and is_known(tensor):
            tracker.tie(tensor, result, tracker.of(node.inputs[0])[source])
    tracker.handle(node, 0, source)


def broadcasting(node: Node, tracker: Tracker) -> None:
    """Operands are aligned at their last axes; what meets there goes together, constants are cut."""
    result = node.outputs[0]
    operands = [tensor for tensor in node.inputs if not tensor.is_empty()]
    if any(tensor.shape is None for tensor in (*operands, result)):
        return
    assert result.shape is not None
    for axis, size in enumerate(result.shape):
        if isinstance(size, int) and size > 1:
            _join(node, axis - len(result.shape), size, tracker)


def _join(node: Node, place: int, size: int, tracker: Tracker) -> None:
    """One axis of the result, counted from the end."""
    result = node.outputs[0]
    full: list[tuple[int, Tensor, int]] = []
    for index, tensor in enumerate(node.inputs):
        shape = tensor.shape or ()
        if not tensor.is_empty() and len(shape) + place >= 0 and shape[place] == size:
            full.append((index, tensor, len(shape) + place))
    labels = next((tracker.of(t)[axis] for _, t, axis in full if axis in tracker.of(t)), None)
    if labels is None:
        return
    loose = [t for _, t, axis in full if axis not in tracker.of(t) and getattr(t, "values", None) is None]
    if loose:
        tracker.ties.freeze(labels, f"{node.name} combines it with {loose[0].name!r}, which keeps all of that axis")
    for index, tensor, axis in full:
        if all(tensor is not other for other in loose):
            tracker.tie(tensor, axis, labels)
            tracker.handle(node, index, axis)
    assert result.shape is not None
    tracker.tie(result, len(result.shape) + place, labels)


def per_channel(node: Node, tracker: Tracker) -> None:
    """BatchNormalization and InstanceNormalization: vectors with a value for each channel of axis 1."""
    labels = tracker.of(node.inputs[0]).get(1)
    if labels is None or not is_known(node.outputs[0]):
        return
    _carry(node, 1, 1, tracker)
    for index in range(1, len(node.inputs)):
        if has_operand(node, index):
            tracker.tie(node.inputs[index], 0, labels)
            tracker.handle(node, index, 0)


def group_normalization(node: Node, tracker: Tracker) -> None:
    """Groups of channels are normalized together: each goes as a whole, so that the others' values stay."""
    labels = tracker.of(node.inputs[0]).get(1)
    groups = int(node.attrs.get("num_groups", 0))
    if labels is None or groups < 1 or len(labels) % groups:
        return
    table = labels.reshape(groups, -1)
    tracker.ties.unite(table[:, :1], table)
    per_channel(node, tracker)


def spatial(node: Node, tracker: Tracker) -> None:
    """Pooling and the like: samples and channels stay what they are."""
    for axis in (0, 1):
        if axis in tracker.of(node.inputs[0]) and is_known(node.outputs[0]):
            _carry(node, axis, axis, tracker)


def resize(node: Node, tracker: Tracker) -> None:
    """Axes whose length stays, if nothing else is said about them."""
    source, result = node.inputs[0], node.outputs[0]
    if source.shape is None or result.shape is None:
        return
    for axis in list(tracker.of(source)):
        if axis <= 1 and source.shape[axis] == result.shape[axis]:
            _carry(node, axis, axis, tracker)


def along_axis(node: Node, tracker: Tracker) -> None:
    """Softmax and the like look along one axis, which must stay."""
    count = rank(node.inputs[0])
    if count is None:
        return
    looked_at = int(node.attrs.get("axis", -1)) % count
    for axis in list(tracker.of(node.inputs[0])):
        if axis != looked_at:
            _carry(node, axis, axis, tracker)


def normalization(node: Node, tracker: Tracker) -> None:
    """LayerNormalization and RMSNormalization look along the last axes, from `axis` on, which must stay.

    Their mean and variance would change with every index that goes, by an amount that no repair of weights can undo.
    """
    count = rank(node.inputs[0])
    if count is None:
        return
    first = int(node.attrs.get("axis", -1)) % count
    for axis in list(tracker.of(node.inputs[0])):
        if axis < first:
            tracker.tie(node.outputs[0], axis, tracker.of(node.inputs[0])[axis])
            tracker.handle(node, 0, axis)


def reduction(node: Node, tracker: Tracker) -> None:
    """Axes that are not reduced pass; one that is reduced must stay, since the result would change."""
    source, result = node.inputs[0], node.outputs[0]
    count, axes = rank(source), reduced_axes(node)
    if count is None or axes is None or not is_known(result):
        return
    keeps = bool(node.attrs.get("keepdims", 1))
    for axis in list(tracker.of(source)):
        if axis not in axes:
            _carry(node, axis, axis if keeps else axis - sum(other < axis for other in axes), tracker)


def arg_reduction(node: Node, tracker: Tracker) -> None:
    count = rank(node.inputs[0])
    if count is None or not is_known(node.outputs[0]):
        return
    taken = int(node.attrs.get("axis", 0)) % count
    keeps = bool(node.attrs.get("keepdims", 1))
    for axis in list(tracker.of(node.inputs[0])):
        if axis != taken:
            _carry(node, axis, axis if keeps or axis < taken else axis - 1, tracker)
