"""Requests for a layer's inputs, from the layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgecc.statistics.requests import Gram, Patches, Rows

if TYPE_CHECKING:
    from edgecc.model import Node


def gram_of(node: Node, rows: int = 256) -> Gram | None:
    """The Gram of what a MatMul, Gemm or Conv multiplies with its weight.

    Args:
        node: the layer.
        rows: at most so many of each sample and group.

    Returns:
        None if it is none of these, its first input is a constant, or its kernel's shape is not known.
    """
    first = node.inputs[0] if node.inputs else None
    if first is None or (not first.inputs and getattr(first, "values", None) is not None):
        return None
    if node.op == "MatMul":
        return Gram(first.name, Rows(), rows)
    if node.op == "Gemm":
        return Gram(first.name, Rows(0 if node.attrs.get("transA", 0) else -1), rows)
    if node.op != "Conv" or node.inputs[1].shape is None:
        return None
    kernel = tuple(node.attrs.get("kernel_shape") or node.inputs[1].shape[2:])
    if not all(isinstance(size, int) for size in kernel):
        return None
    ones = (1,) * len(kernel)
    layout = Patches(
        kernel,
        strides=tuple(node.attrs.get("strides") or ones),
        dilations=tuple(node.attrs.get("dilations") or ones),
        pads=tuple(node.attrs.get("pads") or (0,) * (2 * len(kernel))),
        auto_pad=str(node.attrs.get("auto_pad", "NOTSET")),
        group=int(node.attrs.get("group", 1)),
    )
    return Gram(first.name, layout, rows)
