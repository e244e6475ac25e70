"""Shape inference through onnx, without the weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from edgecc.serialization import tensors_of, value_info

if TYPE_CHECKING:
    from edgecc.model import Model


def infer(model: Model) -> None:
    """Set dtype and shape of every tensor that onnx can infer.

    Shapes of inner tensors are derived afresh, so that what a pass left behind never survives. Only outputs of
    operators that onnx does not know keep theirs.
    """
    proto = model.to_proto(detach=True)
    known = _unknown_to_onnx(model)
    proto.graph.value_info.extend(known)
    inferred = onnx.shape_inference.infer_shapes(proto, data_prop=True)
    _apply(model.graph, inferred.graph)


def _unknown_to_onnx(model: Model) -> list[onnx.ValueInfoProto]:
    custom = [node for node in model.graph.nodes if node.domain not in (None, "", "ai.onnx")]
    return [value_info(t) for node in custom for t in node.outputs if t.name and t.dtype is not None]


def _apply(graph: gs.Graph, inferred: onnx.GraphProto) -> None:
    infos = {info.name: info.type for info in (*inferred.value_info, *inferred.output)}
    for tensor in tensors_of(graph):
        if isinstance(tensor, gs.Constant) or tensor.name not in infos:
            continue
        _set_type(tensor, infos[tensor.name])
    inner = {a.name + node.name: a.g for node in inferred.node for a in node.attribute if a.HasField("g")}
    for node in graph.nodes:
        for name, value in node.attrs.items():
            if isinstance(value, gs.Graph) and name + node.name in inner:
                _apply(value, inner[name + node.name])


def _set_type(tensor: gs.Tensor, proto: onnx.TypeProto) -> None:
    if not proto.HasField("tensor_type"):
        return
    kind = proto.tensor_type
    if kind.elem_type:
        tensor.dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type))
    if not kind.HasField("shape"):
        return
    tensor.shape = [_dimension(tensor, axis, dim) for axis, dim in enumerate(kind.shape.dim)]


def _dimension(tensor: gs.Tensor, axis: int, dim: onnx.TensorShapeProto.Dimension) -> int | str:
    if dim.HasField("dim_value"):
        return int(dim.dim_value)
    return dim.dim_param or f"{tensor.name}_{axis}"


def open_dimensions(model: Model) -> list[gs.Tensor]:
    """Inputs with a dimension that is not a number."""
    return [t for t in model.inputs if t.shape is None or any(not isinstance(d, int) for d in t.shape)]

