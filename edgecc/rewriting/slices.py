"""Slices: what a Slice, a Split or a Gather of constant places takes of a tensor."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from edgecc.rewriting.reading import constant, has_operand, integers, rank

if TYPE_CHECKING:
    from edgecc.model import Model, Node, Tensor

#: Ends here are the end of the axis, however long it is.
TO_THE_END = int(np.iinfo(np.int32).max)


class Cut(NamedTuple):
    """Start, end and step along one axis, as a Slice has them."""

    start: int
    stop: int
    step: int

    def of(self, size: int) -> range:
        """The places that it takes of an axis of that size."""
        return range(size)[self.start : self.stop : self.step]


class Piece(NamedTuple):
    """A tensor that is a part of another one: `source[start:stop]` along the axis."""

    source: Tensor
    axis: int
    start: int
    stop: int


def cuts_of(node: Node) -> dict[int, Cut] | None:
    """What a Slice takes, by axis; None if that is computed."""
    count = rank(node.inputs[0])
    starts, ends = integers(node, 1), integers(node, 2)
    if count is None or starts is None or ends is None:
        return None
    axes = integers(node, 3) if has_operand(node, 3) else list(range(len(starts)))
    steps = integers(node, 4) if has_operand(node, 4) else [1] * len(starts)
    if axes is None or steps is None:
        return None
    cuts = zip(starts, ends, steps, strict=True)
    return {axis % count: Cut(*cut) for axis, cut in zip(axes, cuts, strict=True)}


def piece_of(tensor: Tensor) -> Piece | None:
    """What a tensor is a part of, if a Slice along one axis or a Split gives it."""
    from edgecc.model import is_standard

    node = tensor.inputs[0] if tensor.inputs else None
    if node is None or not is_standard(node) or node.inputs[0].shape is None:
        return None
    if node.op == "Slice":
        return slice_piece(node)
    if node.op != "Split":
        return None
    axis = int(node.attrs.get("axis", 0)) % len(node.inputs[0].shape)
    start = 0
    for output in node.outputs:
        size = output.shape[axis] if output.shape is not None else None
        if not isinstance(size, int):
            return None
        if output is tensor:
            return Piece(node.inputs[0], axis, start, start + size)
        start += size
    return None


def slice_piece(node: Node) -> Piece | None:
    """What a Slice takes, if that is along one axis, without gaps."""
    cuts = cuts_of(node)
    if cuts is None or len(cuts) != 1:
        return None
    ((axis, cut),) = cuts.items()
    size = node.inputs[0].shape[axis]
    if cut.step != 1 or not isinstance(size, int):
        return None
    places = cut.of(size)
    return Piece(node.inputs[0], axis, places.start, places.stop) if places else None


def picked(node: Node) -> tuple[int, int] | None:
    """Axis and place of a Gather that takes one place and drops the axis."""
    index, count = constant(node, 1), rank(node.inputs[0])
    if index is None or index.ndim or count is None:
        return None
    return int(node.attrs.get("axis", 0)) % count, int(index)


def become_slice(node: Node, source: Tensor, cuts: dict[int, Cut], model: Model, origins: tuple[str, ...]) -> None:
    """Let the node be a Slice that takes this."""
    axes = sorted(cuts)
    name = node.outputs[0].name
    columns = {
        "starts": [cuts[axis].start for axis in axes],
        "ends": [cuts[axis].stop for axis in axes],
        "axes": axes,
        "steps": [cuts[axis].step for axis in axes],
    }
    operands = [model.constant(f"{name}_{part}", np.array(values, np.int64)) for part, values in columns.items()]
    if all(step == 1 for step in columns["steps"]):
        operands.pop()
    model.replace(node, "Slice", [source, *operands], origins=origins)
