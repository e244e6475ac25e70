"""Pooling as jax2onnx writes it, over every axis of the operand, becomes pooling over those that have a window.

`jax.lax.reduce_window` has a window for each axis, batch and channels included: jax2onnx puts two axes in front and
pools over four, which no runtime has a kernel for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx
from onnx import helper

_POOLING = ("MaxPool", "AveragePool")
#: Batch, height, width and channels, in whatever order.
_AXES = 4


def narrow_pooling(proto: onnx.ModelProto) -> None:
    """Replace, in place, each pooling over four axes of which two have a window of 1: batch and channels."""
    graph = proto.graph
    made: list[onnx.NodeProto] = []
    for node in graph.node:
        made.extend(_narrowed(node))
    del graph.node[:]
    graph.node.extend(made)


def _narrowed(node: onnx.NodeProto) -> Sequence[onnx.NodeProto]:
    settings: dict[str, Any] = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    kernel = list(settings.get("kernel_shape", ()))
    if node.op_type not in _POOLING or len(kernel) != _AXES or settings.get("auto_pad", b"NOTSET") != b"NOTSET":
        return [node]
    strides = list(settings.get("strides", [1] * _AXES))
    pads = list(settings.get("pads", [0] * 2 * _AXES))
    dilations = list(settings.get("dilations", [1] * _AXES))
    still = [i for i in range(_AXES) if kernel[i] == strides[i] == 1 and not pads[i] and not pads[_AXES + i]]
    moved = [i for i in range(_AXES) if i not in still[:1] + still[-1:]]
    if len(still) < 2 or len(node.output) != 1:
        return [node]
    order = [still[0], still[-1], *moved]
    back = [order.index(axis) for axis in range(_AXES)]
    settings["kernel_shape"] = [kernel[i] for i in moved]
    settings["strides"] = [strides[i] for i in moved]
    settings["dilations"] = [dilations[i] for i in moved]
    settings["pads"] = [pads[i] for i in moved] + [pads[_AXES + i] for i in moved]
    name = node.name or node.output[0]
    inner, pooled, axes = f"{name}/in", f"{name}/out", f"{name}/axes"
    return [
        helper.make_node("Constant", [], [axes], f"{name}/constant", value_ints=[0, 1]),
        helper.make_node("Squeeze", [node.input[0], axes], [f"{inner}/narrow"], f"{name}/squeeze"),
        helper.make_node("Transpose", [f"{inner}/narrow"], [inner], f"{name}/to_channels_first", perm=order),
        helper.make_node(node.op_type, [inner], [pooled], name, **settings),
        helper.make_node("Transpose", [pooled], [f"{pooled}/back"], f"{name}/from_channels_first", perm=back),
        helper.make_node("Unsqueeze", [f"{pooled}/back", axes], [node.output[0]], f"{name}/unsqueeze"),
    ]
