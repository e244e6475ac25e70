"""Between `onnx.ModelProto` and the `onnx_graphsurgeon.Graph` that a Model wraps.

Weights never pass through onnx's C++ side: inlining, version conversion, checking and shape inference run on a
*detached* proto whose large initializers are typed graph inputs. That keeps those steps independent of the weights'
size and free of protobuf's 2 GB limit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import cast

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx_graphsurgeon.exporters.onnx_exporter import OnnxExporter, dtype_to_onnx
from onnx_graphsurgeon.ir.tensor import LazyValues

from edgecc.opset import INTERNAL_IR_VERSION

#: Initializers up to this many bytes stay in a detached proto: shape inference and adapters read their values.
INLINE_BYTES = 1024
#: Types whose values graphsurgeon cannot hold as a plain array without changing their encoding.
_KEEP_ENCODED = frozenset(
    getattr(onnx.TensorProto, name)
    for name in ("STRING", "INT4", "UINT4", "FLOAT4E2M1", "INT2", "UINT2")
    if hasattr(onnx.TensorProto, name)
)
#: Key of a node's metadata that holds the names of the source nodes it came from, one per line.
METADATA_ORIGINS = "edgecc.origins"


def tensors_of(graph: gs.Graph) -> Iterator[gs.Tensor]:
    """Each tensor that the graph's own nodes, inputs and outputs touch, once, in order of first use."""
    seen: set[int] = set()
    for tensor in _touched(graph):
        if id(tensor) in seen or tensor.is_empty():
            continue
        seen.add(id(tensor))
        yield tensor


def _touched(graph: gs.Graph) -> Iterator[gs.Tensor]:
    yield from graph.inputs
    for node in graph.nodes:
        yield from node.inputs
        yield from node.outputs
    yield from graph.outputs


def subgraphs_of(node: gs.Node) -> list[gs.Graph]:
    """The graphs in a node's attributes (If, Loop, Scan)."""
    return [value for value in node.attrs.values() if isinstance(value, gs.Graph)]


def graph_from_proto(proto: onnx.ModelProto, weights: Mapping[str, np.ndarray] | None = None) -> gs.Graph:
    """Import a proto whose external data is already in memory; weights become numpy arrays.

    Graphsurgeon alone would keep the whole proto alive behind lazy values, holding the weights twice once they are
    read.

    Args:
        proto: the model.
        weights: of a detached proto: values of the inputs that stand for them.
    """
    graph = gs.import_onnx(proto)
    if weights:
        _attach(graph, weights)
    opsets = list(proto.opset_import)
    graph.import_domains = opsets
    for part in graphs_of(graph):
        for tensor in tensors_of(part):
            _normalize_tensor(tensor)
    for node, source in _zip_nodes(graph, proto.graph):
        recorded = {p.key: p.value for p in source.metadata_props}.get(METADATA_ORIGINS)
        node.origins = tuple(recorded.split("\n")) if recorded else (source.name,) if source.name else ()
    return graph


def _attach(graph: gs.Graph, weights: Mapping[str, np.ndarray]) -> None:
    for tensor in graph.inputs:
        if tensor.name in weights:
            tensor.to_constant(weights[tensor.name])
    graph.inputs = [tensor for tensor in graph.inputs if tensor.name not in weights]


def graphs_of(graph: gs.Graph) -> Iterator[gs.Graph]:
    yield graph
    for node in graph.nodes:
        for subgraph in subgraphs_of(node):
            yield from graphs_of(subgraph)


def _zip_nodes(graph: gs.Graph, proto: onnx.GraphProto) -> Iterator[tuple[gs.Node, onnx.NodeProto]]:
    for node, source in zip(graph.nodes, proto.node, strict=True):
        yield node, source
        attributes = {a.name: a.g for a in source.attribute if a.type == onnx.AttributeProto.GRAPH}
        for name, value in node.attrs.items():
            if isinstance(value, gs.Graph):
                yield from _zip_nodes(value, attributes[name])


def _normalize_tensor(tensor: gs.Tensor) -> None:
    if isinstance(tensor, gs.Constant):
        values = tensor._values
        if type(values) is LazyValues and values.tensor.data_type not in _KEEP_ENCODED:
            tensor._values = onnx.numpy_helper.to_array(values.tensor)
        tensor.data_location = None
        return
    if isinstance(tensor.dtype, int) and tensor.dtype:
        # graphsurgeon leaves types that numpy lacks (bfloat16, float8) as onnx's enum value.
        tensor.dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.dtype)


def graph_to_proto(graph: gs.Graph, metadata: dict[str, str], *, detach: bool = False) -> onnx.ModelProto:
    """Export the graph. With `detach`, initializers over INLINE_BYTES become typed inputs without data."""
    proto = onnx.ModelProto(
        ir_version=INTERNAL_IR_VERSION,
        producer_name="edgecc",
        producer_version=graph.producer_version,
        opset_import=_opset_imports(graph),
    )
    body = proto.graph
    body.name = graph.name or "graph"
    body.doc_string = graph.doc_string or ""
    boundary = {id(t) for t in (*graph.inputs, *graph.outputs)}
    body.input.extend(value_info(t) for t in graph.inputs)
    body.output.extend(value_info(t) for t in graph.outputs)
    for node in graph.nodes:
        exported = OnnxExporter.export_node(node)
        origins = getattr(node, "origins", ())
        if origins and origins != (node.name,):
            exported.metadata_props.add(key=METADATA_ORIGINS, value="\n".join(origins))
        body.node.append(exported)
    for tensor in tensors_of(graph):
        if isinstance(tensor, gs.Constant):
            _export_constant(body, tensor, detach)
        elif id(tensor) not in boundary and tensor.dtype is not None and not detach:
            body.value_info.append(value_info(tensor))
    for key, value in metadata.items():
        proto.metadata_props.add(key=key, value=value)
    return proto


def _opset_imports(graph: gs.Graph) -> list[onnx.OperatorSetIdProto]:
    known = {o.domain: o.version for o in graph.import_domains or ()}
    known[""] = graph.opset
    used = {node.domain or "" for part in graphs_of(graph) for node in part.nodes} | {""}
    return [onnx.helper.make_opsetid(domain, known.get(domain, 1)) for domain in sorted(used)]


def value_info(tensor: gs.Tensor) -> onnx.ValueInfoProto:
    return cast(onnx.ValueInfoProto, OnnxExporter.export_value_info_proto(tensor, do_type_check=False))


def _export_constant(body: onnx.GraphProto, tensor: gs.Constant, detach: bool) -> None:
    values = tensor._values
    if isinstance(values, LazyValues):
        body.initializer.append(OnnxExporter.export_tensor_proto(tensor))
        return
    if detach and values.nbytes > INLINE_BYTES:
        body.input.append(onnx.helper.make_tensor_value_info(tensor.name, dtype_to_onnx(values.dtype), values.shape))
        return
    stored = body.initializer.add(name=tensor.name, data_type=dtype_to_onnx(values.dtype), dims=values.shape)
    stored.raw_data = np.ascontiguousarray(values).astype(values.dtype.newbyteorder("<"), copy=False).tobytes()
