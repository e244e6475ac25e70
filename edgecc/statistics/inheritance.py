"""Tensors whose values are another's in another order: what is known of that one is known of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgecc.model import is_standard

if TYPE_CHECKING:
    from edgecc.model import Model, Tensor

#: Operators whose output has the values of their first input, each once. Slice, Gather, MaxPool and others choose among
#: the values: the range of their output may be smaller, so they are measured.
REORDERING = frozenset(
    {"DepthToSpace", "Flatten", "Identity", "Reshape", "SpaceToDepth", "Squeeze", "Transpose", "Unsqueeze"}
)


def ancestor(tensor: Tensor) -> Tensor:
    """The tensor that the values come from: itself, if they are computed."""
    while tensor.inputs and tensor.inputs[0].op in REORDERING and is_standard(tensor.inputs[0]):
        source = tensor.inputs[0].inputs[0]
        if not source.inputs and getattr(source, "values", None) is not None:
            return tensor
        tensor = source
    return tensor


def sources_of(model: Model) -> dict[str, str]:
    """By name of each tensor whose values are another's, the name of that one."""
    pairs = ((tensor, ancestor(tensor)) for tensor in model.tensors())
    return {tensor.name: source.name for tensor, source in pairs if source is not tensor}
