"""Where the channels of a tensor are, and where an operator that treats each of them alike takes them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from edgecc.rewriting.reading import constant, describe, has_operand, integers, is_op, rank, text
from edgecc.rewriting.shapes import RESHAPES, permutation, reduced_axes

if TYPE_CHECKING:
    from edgecc.model import Node, Tensor


@dataclass(frozen=True)
class Channels:
    """The channels of a tensor.

    Attributes:
        axis: that they lie along.
        index: int64, the channel of each place along the axis: in [N, C * H * W] each one has H * W places.
        keeps_constants: whether a number added to a channel where it was computed is added to all that is here: not
            behind padding, nor behind the slope of a LeakyRelu.
    """

    axis: int
    index: np.ndarray
    keeps_constants: bool = True

    def matches(self, other: Channels) -> bool:
        return self.axis == other.axis and np.array_equal(self.index, other.index)


#: f(s x) = s f(x) for s > 0, and f(x + c) = f(x) + c, for Relu as long as what it reads stays positive.
_ELEMENTWISE = frozenset({"Relu", "Identity", "Dropout"})
#: Only the former.
_SCALING = frozenset({"LeakyRelu", "PRelu", "Abs", "Neg"})
_POOLS = frozenset({"MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "LpPool", "GlobalLpPool"})
_REDUCTIONS = frozenset({"ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum", "ReduceL1", "ReduceL2"})
_CHANGES_CONSTANTS = frozenset({"LpPool", "GlobalLpPool", "ReduceSum", "ReduceL1", "ReduceL2"})


def follow(node: Node, found: Channels) -> Channels | str:
    """The channels of the first output of a node whose first input has these.

    Returns:
        The reason where a positive factor on each channel of the input is not the same factor on the output.
    """
    if len(node.outputs) > 1 and any(tensor.outputs for tensor in node.outputs[1:]):
        return f"{describe(node)} has a second output that is read"
    if is_op(node, *_ELEMENTWISE):
        return found
    if is_op(node, *_SCALING):
        return replace(found, keeps_constants=False)
    if is_op(node, *_POOLS):
        return _pooled(node, found)
    if is_op(node, *_REDUCTIONS):
        return _reduced(node, found)
    if is_op(node, "Transpose"):
        perm = permutation(node)
        return replace(found, axis=perm.index(found.axis)) if perm is not None else _unknown(node)
    if is_op(node, *RESHAPES):
        return _reshaped(node.inputs[0], node.outputs[0], found) or f"{describe(node)} takes channels apart"
    if is_op(node, "Pad"):
        return _padded(node, found)
    if is_op(node, "Resize"):
        return _resized(node, found)
    return f"{describe(node)} does not keep positive factors on channels"


def _unknown(node: Node) -> str:
    return f"the shape of what {describe(node)} reads is not known"


def _pooled(node: Node, found: Channels) -> Channels | str:
    if found.axis > 1:
        return f"{describe(node)} pools over the channels"
    pads = node.attrs.get("pads") or ()
    padded = any(pads) or text(node, "auto_pad", "NOTSET").startswith("SAME")
    # The largest value beside padding is one of the values; an average counts zeros if it counts padding.
    counts = node.op == "AveragePool" and padded and bool(node.attrs.get("count_include_pad", 0))
    changes = counts or node.op in _CHANGES_CONSTANTS
    return replace(found, keeps_constants=found.keeps_constants and not changes)


def _reduced(node: Node, found: Channels) -> Channels | str:
    axes = reduced_axes(node)
    if axes is None:
        return f"the axes of {describe(node)} are not known"
    if found.axis in axes:
        return f"{describe(node)} reduces the channels"
    axis = found.axis if node.attrs.get("keepdims", 1) else found.axis - sum(other < found.axis for other in axes)
    return Channels(axis, found.index, found.keeps_constants and node.op not in _CHANGES_CONSTANTS)


def _reshaped(source: Tensor, result: Tensor, found: Channels) -> Channels | None:
    """Where the axis stays whole, or becomes part of a longer one with all that lies in it.

    What lies in front of it needs no look: of as many elements it is what is left, be it an open batch.
    """
    if source.shape is None or result.shape is None:
        return None
    old, new = list(source.shape), list(result.shape)
    for begin in range(found.axis, -1, -1):
        for end in range(found.axis + 1, len(old) + 1):
            size, behind = _size(old[begin:end]), _size(old[end:])
            for axis in range(len(new)):
                if size and behind and (new[axis], _size(new[axis + 1 :])) == (size, behind):
                    outer, inner = _size(old[begin : found.axis]) or 1, _size(old[found.axis + 1 : end]) or 1
                    return replace(found, axis=axis, index=np.tile(np.repeat(found.index, inner), outer))
    return None


def _size(dims: Sequence[int | str]) -> int | None:
    return math.prod(int(dim) for dim in dims) if all(isinstance(dim, int) for dim in dims) else None


def _padded(node: Node, found: Channels) -> Channels | str:
    """Zeros stay zeros, and what is repeated carries its factor with it."""
    pads, count = integers(node, 1), rank(node.inputs[0])
    if pads is None or count is None:
        return f"the padding of {describe(node)} is not known"
    axes = integers(node, 3) if has_operand(node, 3) else list(range(count))
    if axes is None:
        return f"the axes of {describe(node)} are not known"
    sizes = {axis % count: (pads[i], pads[i + len(axes)]) for i, axis in enumerate(axes)}
    if any(sizes.get(found.axis, ())):
        return f"{describe(node)} pads the channels"
    if text(node, "mode", "constant") != "constant":
        return found
    value = constant(node, 2)
    if has_operand(node, 2) and (value is None or value.any()):
        return f"{describe(node)} pads with something else than zeros"
    return replace(found, keeps_constants=False)


def _resized(node: Node, found: Channels) -> Channels | str:
    shapes = node.inputs[0].shape, node.outputs[0].shape
    if shapes[0] is None or shapes[1] is None or shapes[0][found.axis] != shapes[1][found.axis]:
        return f"{describe(node)} may resize the channels"
    outside = text(node, "coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize"
    if outside and float(node.attrs.get("extrapolation_value", 0.0)):
        return f"{describe(node)} fills in something else than zeros"
    return replace(found, keeps_constants=found.keeps_constants and not outside)
