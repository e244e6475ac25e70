"""Sizes that a Resize by scales gives, as ONNX Runtime rounds them.

ONNX says floor(size * scale) and leaves open in which precision: onnx's shape inference multiplies in float64, ONNX
Runtime in float32. 5 * 1.4 is 6.9999999 in the one and 7 in the other, as 1.4 itself is rounded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import onnx

#: Shape of a tensor by its name; None for open dimensions.
_Shapes = dict[str, list[int | None]]


def resizes_by_scales(graph: onnx.GraphProto) -> int:
    """How many nodes there are, those of subgraphs too, whose scales are constants of their own graph."""
    inner = sum(resizes_by_scales(a.g) for node in graph.node for a in node.attribute if a.HasField("g"))
    return inner + sum(1 for _ in _resizes(graph))


def correct_scales(graph: onnx.GraphProto, inferred: onnx.GraphProto) -> bool:
    """Nudge scales until onnx, too, infers the sizes that ONNX Runtime gives; whether what it inferred was wrong.

    Args:
        graph: what onnx infers from, for nothing else; its scales are edited. Where a size was wrong, what its outputs
            are declared to be is dropped.
        inferred: the same nodes, with shapes.
    """
    return _correct(graph, inferred, {})


def _correct(graph: onnx.GraphProto, inferred: onnx.GraphProto, around: _Shapes) -> bool:
    shapes = around | _shapes(inferred)
    is_wrong = False
    for node, scales in list(_resizes(graph)):
        source, result = shapes.get(node.input[0]), shapes.get(node.output[0])
        if source is None or result is None or len(source) != len(result):
            continue
        axes = next((list(a.ints) for a in node.attribute if a.name == "axes"), list(range(len(source))))
        nudged = scales.copy()
        for position, axis in enumerate(axes[: len(scales)]):
            size = source[axis]
            if size is not None:
                nudged[position] = _nudged(size, scales[position])
                is_wrong |= result[axis] not in (None, resized(size, scales[position]))
        if (nudged != scales).any():
            # Another node may read the same scales for another size.
            node.input[2] = f"scales of {node.output[0]}"
            graph.initializer.append(onnx.numpy_helper.from_array(nudged, node.input[2]))
    for node, shaped in zip(graph.node, inferred.node, strict=True):
        inner = {a.name: a.g for a in shaped.attribute if a.HasField("g")}
        for attribute in node.attribute:
            if attribute.HasField("g"):
                is_wrong |= _correct(attribute.g, inner[attribute.name], shapes)
    for info in graph.output if is_wrong else ():
        _forget_sizes(info)
    return is_wrong


def _forget_sizes(info: onnx.ValueInfoProto) -> None:
    """Leave of a declared shape what is no size: the names of open dimensions."""
    dims = info.type.tensor_type.shape.dim
    if not any(dim.dim_param for dim in dims):
        info.type.tensor_type.ClearField("shape")
    for dim in dims:
        dim.ClearField("dim_value")


def resized(size: int, scale: float) -> int:
    """The size after resizing: the floor of a float32 product."""
    return int(np.floor(np.float32(size) * np.float32(scale)))


def _nudged(size: int, scale: np.float32) -> np.float32:
    """The scale, or the next larger one whose product in float64 has the floor of that in float32."""
    while np.floor(size * float(scale)) < resized(size, float(scale)):
        scale = np.nextafter(scale, np.float32(np.inf))
    return scale


def _resizes(graph: onnx.GraphProto) -> Iterator[tuple[onnx.NodeProto, np.ndarray]]:
    """Nodes whose scales are a constant of the same graph, and the scales."""
    constants = _constants(graph)
    for node in graph.node:
        if node.op_type != "Resize" or node.domain not in ("", "ai.onnx") or len(node.input) < 3:
            continue
        tensor = constants.get(node.input[2])
        if tensor is None or tensor.data_type != onnx.TensorProto.FLOAT or list(tensor.dims) in ([], [0]):
            continue
        yield node, onnx.numpy_helper.to_array(tensor)


def _constants(graph: onnx.GraphProto) -> Mapping[str, onnx.TensorProto]:
    found = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            found[node.output[0]] = node.attribute[0].t
    return found


def _shapes(graph: onnx.GraphProto) -> _Shapes:
    return {
        info.name: [d.dim_value if d.HasField("dim_value") else None for d in info.type.tensor_type.shape.dim]
        for info in (*graph.input, *graph.value_info, *graph.output)
        if info.type.HasField("tensor_type") and info.type.tensor_type.HasField("shape")
    }
