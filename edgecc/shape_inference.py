"""Shape inference through onnx, without the weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
import onnx_graphsurgeon as gs

from edgecc.deserialization import numpy_type
from edgecc.serialization import subgraphs_of

if TYPE_CHECKING:
    from edgecc.model import Model


def infer(model: Model) -> None:
    """Set dtype and shape of every tensor that onnx can infer.

    They are derived afresh from the inputs; what onnx cannot infer (operators it does not know) keeps what it has.
    """
    inferred = onnx.shape_inference.infer_shapes(model.to_proto(detach=True), data_prop=True)
    _apply(model.graph, inferred.graph)


def _apply(graph: gs.Graph, inferred: onnx.GraphProto) -> None:
    infos = {info.name: info.type for info in (*inferred.value_info, *inferred.output)}
    for node in graph.nodes:
        for tensor in node.outputs:
            if tensor.name in infos:
                _set_type(tensor, infos[tensor.name])
    for node, proto in zip(graph.nodes, inferred.node, strict=True):
        if not subgraphs_of(node):
            continue
        inner = {a.name: a.g for a in proto.attribute}
        for name, value in node.attrs.items():
            if isinstance(value, gs.Graph):
                _apply(value, inner[name])


def _set_type(tensor: gs.Tensor, proto: onnx.TypeProto) -> None:
    if not proto.HasField("tensor_type"):
        return
    kind = proto.tensor_type
    if kind.elem_type:
        tensor.dtype = numpy_type(kind.elem_type)
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
