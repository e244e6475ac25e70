"""Shape inference through onnx, without the weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
import onnx_graphsurgeon as gs

from edgecc.deserialization import numpy_type
from edgecc.loop_shapes import count_slices, infer_loops, type_states
from edgecc.resize_shapes import correct_scales, resizes_by_scales
from edgecc.serialization import subgraphs_of

if TYPE_CHECKING:
    from edgecc.model import Model

#: Operators of which onnx infers nothing.
_LIKE_INPUT = frozenset({"GroupNormalization", "MeanVarianceNormalization"})
#: Operators that shape arithmetic starts from; on constants alone it is folded before.
_SHAPE_SOURCES = frozenset({"Shape", "Size"})
_LONGEST_VECTOR = 1 << 20
#: What onnx calls open dimensions that have no name, with a number behind it.
_NUMBERED = "unk__"
#: Types of axes and sizes, and of scales.
_SHAPE_TYPES = (onnx.TensorProto.INT64, onnx.TensorProto.FLOAT)
#: More numbers than that are no axes or sizes.
_MOST_SIZES = 64


def infer(model: Model) -> None:
    """Set dtype and shape of every tensor that onnx can infer.

    They are derived afresh from the inputs; what onnx cannot infer (operators it does not know) keeps what it has.
    """
    _infer(model)
    infer_loops(model, _infer)


def _infer(model: Model) -> None:
    proto = model.to_proto(detach=True)
    _bring_constants_inside(proto.graph, {})
    inferred = _inferred(model, proto)
    # A size that was wrong changes those behind it: one more round for every Resize in a row.
    for _ in range(resizes_by_scales(proto.graph)):
        corrected = onnx.ModelProto()
        corrected.CopyFrom(proto)
        if not correct_scales(corrected.graph, inferred.graph):
            break
        inferred = _inferred(model, corrected)
    _apply(model.graph, inferred.graph)


def _inferred(model: Model, proto: onnx.ModelProto) -> onnx.ModelProto:
    inferred = onnx.shape_inference.infer_shapes(proto)
    # Following the values of shape arithmetic is only worth it where there is any, and it follows every vector as if
    # it were a shape: one of a billion elements takes it minutes.
    values = any(node.op in _SHAPE_SOURCES for node in model.all_nodes()) and not _has_long_vector(inferred.graph)
    if values:
        inferred = onnx.shape_inference.infer_shapes(inferred, data_prop=True)
    while _type_like_inputs(inferred.graph):
        inferred = onnx.shape_inference.infer_shapes(inferred, data_prop=values)
    return inferred


def _bring_constants_inside(graph: onnx.GraphProto, around: dict[str, onnx.TensorProto]) -> None:
    """Copy axes, sizes and scales that subgraphs read from around them: onnx does not look at their values there."""
    own = {tensor.name for tensor in graph.initializer} | {info.name for info in graph.input}
    for name in {name for node in graph.node for name in node.input} & (around.keys() - own):
        graph.initializer.add().CopyFrom(around[name])
    if not any(attribute.HasField("g") for node in graph.node for attribute in node.attribute):
        return
    small = {t.name: t for t in graph.initializer if t.data_type in _SHAPE_TYPES and len(t.dims) <= 1}
    known = around | {name: tensor for name, tensor in small.items() if sum(tensor.dims) <= _MOST_SIZES}
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _bring_constants_inside(attribute.g, known)


def _has_long_vector(graph: onnx.GraphProto) -> bool:
    for info in (*graph.value_info, *graph.input, *graph.output):
        dims = info.type.tensor_type.shape.dim
        if len(dims) == 1 and dims[0].dim_value > _LONGEST_VECTOR:
            return True
    return False


def _type_like_inputs(graph: onnx.GraphProto) -> bool:
    """Give results that onnx leaves out the type of the first input, where that is known; whether there were any."""
    infos = {info.name: info for info in (*graph.input, *graph.value_info, *graph.output)}
    changed = False
    for node in graph.node:
        if node.op_type not in _LIKE_INPUT or node.domain not in ("", "ai.onnx"):
            continue
        source, result = infos.get(node.input[0]), infos.get(node.output[0])
        if source is None or not _has_shape(source) or (result is not None and _has_shape(result)):
            continue
        if result is None:
            result = graph.value_info.add(name=node.output[0])
        result.type.CopyFrom(source.type)
        changed = True
    changed = count_slices(graph, infos) or changed
    return type_states(graph, infos) or changed


def _has_shape(info: onnx.ValueInfoProto) -> bool:
    return bool(info.type.HasField("tensor_type") and info.type.tensor_type.HasField("shape"))


def _apply(graph: gs.Graph, inferred: onnx.GraphProto, names: dict[str, str] | None = None) -> None:
    infos = {info.name: info.type for info in (*inferred.value_info, *inferred.output)}
    if names is None:
        # What the user calls so is not onnx's.
        given = (dim for tensor in graph.inputs for dim in tensor.shape or ())
        names = {dim: dim for dim in given if isinstance(dim, str)}
    for node in graph.nodes:
        for tensor in node.outputs:
            if tensor.name in infos:
                _set_type(tensor, infos[tensor.name], names)
    for node, proto in zip(graph.nodes, inferred.node, strict=True):
        if not subgraphs_of(node):
            continue
        inner = {a.name: a.g for a in proto.attribute}
        for name, value in node.attrs.items():
            if isinstance(value, gs.Graph):
                _apply(value, inner[name], names)


def _set_type(tensor: gs.Tensor, proto: onnx.TypeProto, names: dict[str, str]) -> None:
    if not proto.HasField("tensor_type"):
        return
    kind = proto.tensor_type
    if kind.elem_type:
        tensor.dtype = numpy_type(kind.elem_type)
    if not kind.HasField("shape"):
        return
    tensor.shape = [_dimension(tensor, axis, dim, names) for axis, dim in enumerate(kind.shape.dim)]


def _dimension(tensor: gs.Tensor, axis: int, dim: onnx.TensorShapeProto.Dimension, names: dict[str, str]) -> int | str:
    """A dimension that onnx numbers itself is called after where it comes up first: numbers change with the graph."""
    if dim.HasField("dim_value"):
        return int(dim.dim_value)
    own = f"{tensor.name}_{axis}"
    if not dim.dim_param:
        return own
    return names.setdefault(dim.dim_param, own) if dim.dim_param.startswith(_NUMBERED) else str(dim.dim_param)


def open_dimensions(model: Model) -> list[gs.Tensor]:
    """Inputs with a dimension that is not a number."""
    return [t for t in model.inputs if t.shape is None or any(not isinstance(d, int) for d in t.shape)]
