"""Removing units: constants are cut, and attributes and shapes that count what is gone are written anew."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgecc.deserialization import link_input
from edgecc.pruning.ties import Labels
from edgecc.rewriting.reading import constant, has_operand, integers
from edgecc.rewriting.shapes import as_integers
from edgecc.rewriting.slices import cuts_of

if TYPE_CHECKING:
    from edgecc.model import Model, Node, Tensor
    from edgecc.pruning.groups import Coupling, Unit


@dataclass(frozen=True)
class Kept:
    """What stays of each tensor.

    Attributes:
        masks: by the tensor's id, then by axis: which indices stay, for axes of which some go.
        gone: roots of what went.
    """

    masks: Mapping[int, Mapping[int, np.ndarray]]
    gone: Labels

    def axes(self, tensor: Tensor) -> Mapping[int, np.ndarray]:
        """The axes of the tensor that lose something."""
        return self.masks.get(id(tensor), {})

    def size(self, tensor: Tensor, axis: int) -> int | None:
        """How many indices stay; None if all do."""
        mask = self.axes(tensor).get(axis)
        return None if mask is None else int(mask.sum())


def remove_units(model: Model, coupling: Coupling, units: Collection[Unit]) -> Kept:
    """Take units out of a model, in place; shapes are to be inferred again afterwards.

    Args:
        model: that the coupling was found in.
        coupling: its groups.
        units: of groups that may go; where nothing would be left of an axis (the part of a group that a Slice takes),
            the last of them stays.
    """
    kept = _kept(coupling, np.array(sorted(unit.root for unit in units), dtype=np.int64))
    touched = [node for node in model.nodes() if _is_touched(node, kept)]
    for node in touched:  # before constants are cut: it is their old values that say what was meant
        resize = _RESIZERS.get(node.op)
        if resize is not None:
            resize(node, model, kept)
    for tensor in coupling.tracker.tensors():
        values = getattr(tensor, "values", None)
        if values is None:
            continue
        for axis, mask in kept.axes(tensor).items():
            values = np.compress(mask, values, axis=axis)
        if values is not tensor.values:
            tensor.values = np.ascontiguousarray(values)
    for node in touched:
        for tensor in node.outputs:
            for axis, mask in kept.axes(tensor).items():
                assert tensor.shape is not None
                tensor.shape = [*tensor.shape[:axis], int(mask.sum()), *tensor.shape[axis + 1 :]]
    return kept


def _kept(coupling: Coupling, gone: Labels) -> Kept:
    masks: dict[int, dict[int, np.ndarray]] = {}
    tracker = coupling.tracker
    axes = [
        (id(tensor), axis, coupling.root_of(labels))
        for tensor in tracker.tensors()
        for axis, labels in tracker.of(tensor).items()
    ]
    for _, _, roots in axes:
        if len(roots) and np.isin(roots, gone).all():
            gone = gone[gone != roots[-1]]
    for key, axis, roots in axes:
        mask = ~np.isin(roots, gone)
        if not mask.all():
            masks.setdefault(key, {})[axis] = mask
    return Kept(masks, gone)


def _is_touched(node: Node, kept: Kept) -> bool:
    return any(kept.axes(tensor) for tensor in (*node.inputs, *node.outputs))


def _conv(node: Node, model: Model, kept: Kept) -> None:
    """A depthwise convolution has as many groups as channels."""
    group = int(node.attrs.get("group", 1))
    channels = node.inputs[0].shape[1] if node.inputs[0].shape is not None else None
    left = kept.size(node.inputs[0], 1)
    if group > 1 and group == channels and left is not None:
        node.attrs["group"] = left


def _reshape(node: Node, model: Model, kept: Kept) -> None:
    target = integers(node, 1)
    if target is None:
        return
    sizes = [kept.size(node.outputs[0], axis) for axis in range(len(target))]
    new = [old if old <= 0 or size is None else size for old, size in zip(target, sizes, strict=True)]
    if new != target:
        model.set_input(node, 1, model.constant(f"{node.name}/shape", as_integers(new)))


def _expand(node: Node, model: Model, kept: Kept) -> None:
    target = integers(node, 1)
    if target is None:
        return
    offset = len(node.outputs[0].shape or target) - len(target)
    sizes = [kept.size(node.outputs[0], axis + offset) for axis in range(len(target))]
    new = [old if old == 1 or size is None else size for old, size in zip(target, sizes, strict=True)]
    if new != target:
        model.set_input(node, 1, model.constant(f"{node.name}/shape", as_integers(new)))


def _split(node: Node, model: Model, kept: Kept) -> None:
    axis = int(node.attrs.get("axis", 0)) % len(node.inputs[0].shape or [0])
    if kept.size(node.inputs[0], axis) is None:
        return
    sizes = []
    for output in node.outputs:
        left = kept.size(output, axis)
        assert output.shape is not None
        sizes.append(int(output.shape[axis]) if left is None else left)
    node.attrs.pop("num_outputs", None)
    parts = model.constant(f"{node.name}/split", as_integers(sizes))
    if len(node.inputs) > 1:
        model.set_input(node, 1, parts)
    else:
        link_input(node, parts)


def _slice(node: Node, model: Model, kept: Kept) -> None:
    """Bounds among what is left. A Slice with steps becomes one without, of a Gather's places."""
    cuts = cuts_of(node)
    if cuts is None:
        return
    source = node.inputs[0]
    for axis, mask in kept.axes(source).items():
        if axis not in cuts:
            continue
        taken = np.zeros(len(mask), bool)
        places = list(cuts[axis].of(len(mask)))
        taken[places] = True
        _bounds(node, axis, np.flatnonzero(taken[mask]), model, backwards=cuts[axis].step < 0)


def _bounds(node: Node, axis: int, places: np.ndarray, model: Model, *, backwards: bool) -> None:
    count = len(node.inputs[0].shape or [])
    axes = integers(node, 3) if has_operand(node, 3) else list(range(len(integers(node, 1) or [])))
    index = [a % count for a in axes or []].index(axis)
    lists = [integers(node, place) if has_operand(node, place) else None for place in (1, 2, 4)]
    starts, ends, steps = lists[0] or [], lists[1] or [], lists[2] or [1] * len(axes or [])
    step = 1 if len(places) < 2 else int(places[1] - places[0])
    first, last = int(places[0]), int(places[-1])
    starts[index], ends[index], steps[index] = (
        (last, first - 1 if first else -(1 << 31), -step) if backwards else (first, last + 1, step)
    )
    for place, values in ((1, starts), (2, ends), (4, steps)):
        if place < len(node.inputs):
            model.set_input(node, place, model.constant(f"{node.name}/bounds", as_integers(values)))


def _gather(node: Node, model: Model, kept: Kept) -> None:
    axis = int(node.attrs.get("axis", 0)) % len(node.inputs[0].shape or [0])
    mask = kept.axes(node.inputs[0]).get(axis)
    places = integers(node, 1)
    if mask is None or places is None:
        return
    moved = np.cumsum(mask) - 1
    chosen = [place % len(mask) for place in places]
    new = as_integers([int(moved[place]) for place in chosen if mask[place]])
    model.set_input(node, 1, model.constant(f"{node.name}/indices", new))


def _resize(node: Node, model: Model, kept: Kept) -> None:
    """Where sizes are given, not factors."""
    sizes = integers(node, 3) if has_operand(node, 3) else None
    if not sizes:
        return
    axes = [int(axis) for axis in node.attrs.get("axes", range(len(sizes)))]
    left = [kept.size(node.outputs[0], axis) for axis in axes]
    new = [size if count is None else count for size, count in zip(sizes, left, strict=True)]
    model.set_input(node, 3, model.constant(f"{node.name}/sizes", as_integers(new)))


def _group_normalization(node: Node, model: Model, kept: Kept) -> None:
    """Whole groups go."""
    mask = kept.axes(node.inputs[0]).get(1)
    if mask is not None:
        groups = int(node.attrs["num_groups"])
        node.attrs["num_groups"] = int(mask.reshape(groups, -1).any(axis=1).sum())


def _recurrent(node: Node, model: Model, kept: Kept) -> None:
    recurrence = constant(node, 2)
    left = kept.size(node.inputs[2], 2)
    if recurrence is not None and left is not None:
        node.attrs["hidden_size"] = left


#: What else a node says about the sizes of its tensors.
_RESIZERS: dict[str, Callable[[Node, Model, Kept], None]] = {
    "Conv": _conv,
    "ConvTranspose": _conv,
    "Expand": _expand,
    "GRU": _recurrent,
    "Gather": _gather,
    "GroupNormalization": _group_normalization,
    "LSTM": _recurrent,
    "RNN": _recurrent,
    "Reshape": _reshape,
    "Resize": _resize,
    "Slice": _slice,
    "Split": _split,
}
