"""Shapes and values that contradict each other, which onnx's checker and shape inference let through.

A runtime would notice at load, or read beyond a tensor's end. Only what is known for certain is refused.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from edgecc.errors import InvalidModelError

if TYPE_CHECKING:
    from edgecc.model import Model, Node, Tensor


def check(model: Model) -> None:
    """Raise InvalidModelError for the first node whose operands do not fit each other.

    Args:
        model: with shapes inferred.
    """
    from edgecc.model import display_name, is_standard

    for node in model.all_nodes():
        contradiction = _CHECKS[node.op](node) if node.op in _CHECKS and is_standard(node) else ""
        if contradiction:
            where = f"node {display_name(node)!r} ({node.op})"
            raise InvalidModelError("the model is not valid ONNX", where=where, why=contradiction)


def _conv(node: Node) -> str:
    """Weights [out, in / group, kernel ...]."""
    group = int(node.attrs.get("group", 1))
    if group < 1:
        return f"group is {group}"
    found, given = _size(node.inputs[0], 1), _size(node.inputs[1], 1)
    if found is not None and given is not None and found != given * group:
        return f"its weights take {given * group} channels, its input has {found}"
    outputs = _size(node.inputs[1], 0)
    return f"its {outputs} filters cannot be parted into {group} groups" if outputs and outputs % group else ""


def _conv_transpose(node: Node) -> str:
    """Weights [in, out / group, kernel ...]."""
    group = int(node.attrs.get("group", 1))
    if group < 1:
        return f"group is {group}"
    found, given = _size(node.inputs[0], 1), _size(node.inputs[1], 0)
    if found is not None and given is not None and found != given:
        return f"its weights take {given} channels, its input has {found}"
    return f"its {given} channels cannot be parted into {group} groups" if given and given % group else ""


def _reshape(node: Node) -> str:
    before, after = _count(node.inputs[0]), _count(node.outputs[0])
    if before is None or after is None or before == after:
        return ""
    return f"it makes {after} elements of {before}"


def _gather(node: Node) -> str:
    from edgecc.model import value_of

    indices, shape = value_of(node.inputs[1]), node.inputs[0].shape
    if indices is None or indices.size == 0 or shape is None:
        return ""
    axis = int(node.attrs.get("axis", 0))
    if not -len(shape) <= axis < len(shape) or not isinstance(shape[axis], int):
        return ""
    low, high, size = int(indices.min()), int(indices.max()), shape[axis]
    if -size <= low and high < size:
        return ""
    return f"index {high if high >= size else low} is out of range for axis {axis} of size {size}"


def _size(tensor: Tensor, axis: int) -> int | None:
    shape = tensor.shape
    return shape[axis] if shape is not None and len(shape) > axis and isinstance(shape[axis], int) else None


def _count(tensor: Tensor) -> int | None:
    shape = tensor.shape
    return math.prod(shape) if shape is not None and all(isinstance(size, int) for size in shape) else None


_CHECKS = {"Conv": _conv, "ConvTranspose": _conv_transpose, "Gather": _gather, "Reshape": _reshape}
