"""From the `onnx_graphsurgeon.Graph` that a Model wraps to `onnx.ModelProto`; `edgecc.deserialization` is the way back.

Weights never pass through onnx's C++ side: inlining, version conversion, checking and shape inference run on a
*detached* proto whose large initializers are typed graph inputs. That keeps those steps independent of the weights'
size and free of protobuf's 2 GB limit.

Graphsurgeon's own exporter is not used: it copies constants of the outer graph into every subgraph that reads them,
loses the origins of nodes, takes float8_e4m3fnuz for float8_e4m3fn, and cannot write an empty list.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from edgecc import __version__
from edgecc.model_metadata import write_metadata
from edgecc.opset import INTERNAL_IR_VERSION, INTERNAL_OPSET

#: Initializers up to this many bytes stay in a detached proto: shape inference and adapters read their values.
INLINE_BYTES = 1024
#: Key of a node's metadata that holds the names of the source nodes it came from, one per line.
METADATA_ORIGINS = "edgecc.origins"

_Kind = onnx.AttributeProto.AttributeType


def tensors_of(graph: gs.Graph) -> Iterator[gs.Tensor]:
    """Each tensor that the graph's own nodes, inputs and outputs touch, once, in order of first use."""
    seen: set[int] = set()
    for tensor in _touched(graph):
        if id(tensor) in seen or not tensor.name:
            continue
        seen.add(id(tensor))
        yield tensor


def constants_of(graph: gs.Graph) -> Iterator[gs.Constant]:
    """Each constant of the graph and its subgraphs, once; those that only a subgraph reads too."""
    seen: set[int] = set()
    for tensor in (tensor for part in graphs_of(graph) for tensor in tensors_of(part)):
        if isinstance(tensor, gs.Constant) and id(tensor) not in seen:
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
    return [value for value in node.attrs.values() if isinstance(value, gs.Graph)] if node.attrs else []


def graphs_of(graph: gs.Graph) -> Iterator[gs.Graph]:
    """The graph and all its subgraphs."""
    yield graph
    for node in graph.nodes:
        for subgraph in subgraphs_of(node):
            yield from graphs_of(subgraph)


def graph_to_proto(graph: gs.Graph, metadata: Mapping[str, str], *, detach: bool = False) -> onnx.ModelProto:
    """Export the graph. With `detach`, initializers over INLINE_BYTES become typed inputs without data."""
    proto = onnx.ModelProto(
        ir_version=INTERNAL_IR_VERSION,
        producer_name="edgecc",
        producer_version=__version__,
        opset_import=_opset_imports(graph),
    )
    writer = _Writer(proto.graph, _shared_constants(graph), detach)
    writer.write(graph, proto.graph)
    for tensor in writer.shared.values():
        writer.constant(tensor, proto.graph)
    write_metadata(metadata, proto)
    return proto


def node_to_proto(node: gs.Node) -> onnx.NodeProto:
    """Export one node without subgraphs."""
    body = onnx.GraphProto()
    _Writer(body, {}, detach=True).node(node, body)
    written: onnx.NodeProto = body.node[0]
    return written


def _opset_imports(graph: gs.Graph) -> list[onnx.OperatorSetIdProto]:
    known = {o.domain: o.version for o in graph.import_domains or ()}
    known[""] = graph.opset
    used = {node.domain or "" for part in graphs_of(graph) for node in part.nodes} | {""}
    return [onnx.helper.make_opsetid(domain, known.get(domain, 1)) for domain in sorted(used)]


def _shared_constants(graph: gs.Graph) -> dict[int, gs.Constant]:
    """The constants to write into the main graph, where subgraphs can read them too.

    All but those of subgraphs whose name another tensor has: they stay in their subgraph.
    """
    constants: dict[int, gs.Constant] = {}
    owners: dict[str, int] = {}
    for part in graphs_of(graph):
        for tensor in tensors_of(part):
            if isinstance(tensor, gs.Constant):
                constants[id(tensor)] = tensor
            else:
                owners[tensor.name] = id(tensor)
    return {key: tensor for key, tensor in constants.items() if owners.setdefault(tensor.name, key) == key}


@dataclass
class _Writer:
    """Writes a graph and its subgraphs.

    Attributes:
        main: the main graph's proto.
        shared: constants of the main graph, by id.
        detach: leave large constants out, as inputs of the main graph.
    """

    main: onnx.GraphProto
    shared: Mapping[int, gs.Constant]
    detach: bool

    def write(self, graph: gs.Graph, body: onnx.GraphProto) -> None:
        body.name = graph.name or "graph"
        if graph.doc_string:
            body.doc_string = graph.doc_string
        body.input.extend(map(value_info, graph.inputs))
        body.output.extend(map(value_info, graph.outputs))
        boundary = {id(t) for t in (*graph.inputs, *graph.outputs)}
        for node in graph.nodes:
            self.node(node, body)
            if self.detach and is_known(node):
                continue  # what onnx can infer is inferred afresh
            for tensor in node.outputs:
                if tensor.name and tensor.dtype is not None and id(tensor) not in boundary:
                    body.value_info.append(value_info(tensor))
        for tensor in tensors_of(graph):
            if isinstance(tensor, gs.Constant) and id(tensor) not in self.shared:
                self.constant(tensor, body)

    def node(self, node: gs.Node, body: onnx.GraphProto) -> None:
        written = body.node.add(op_type=node.op, name=node.name)
        written.input.extend([t.name for t in node.inputs])
        written.output.extend([t.name for t in node.outputs])
        if node.domain:
            written.domain = node.domain
        if node.attrs:
            kinds = _attribute_kinds(node.op, node.domain or "")
            for name, value in node.attrs.items():
                self.attribute(written.attribute.add(name=name), value, kinds.get(name))
        origins = getattr(node, "origins", ())
        if origins and origins != (node.name,):
            written.metadata_props.add(key=METADATA_ORIGINS, value="\n".join(origins))

    def attribute(self, written: onnx.AttributeProto, value: object, kind: int | None) -> None:
        if isinstance(value, gs.Graph):
            written.type = onnx.AttributeProto.GRAPH
            self.write(value, written.g)
        elif isinstance(value, gs.Constant):
            written.type = onnx.AttributeProto.TENSOR
            _write_tensor(written.t, value.name, value.values)
        else:
            _write_plain(written, value, kind)

    def constant(self, tensor: gs.Constant, body: onnx.GraphProto) -> None:
        values = tensor.values
        if self.detach and values.nbytes > INLINE_BYTES and values.dtype != object:
            self.main.input.append(value_info(tensor))
            return
        _write_tensor(body.initializer.add(), tensor.name, values)


def is_known(node: gs.Node) -> bool:
    """Whether onnx has a schema of the operator, and so can infer the types of its outputs."""
    return _is_known(node.op, node.domain or "")


@cache
def _is_known(op: str, domain: str) -> bool:
    return bool(onnx.defs.has(op, "" if domain == "ai.onnx" else domain))


@cache
def _attribute_kinds(op: str, domain: str) -> dict[str, int]:
    """What onnx expects each attribute to be, so that 1 is written as a float where one is due."""
    if domain in ("", "ai.onnx"):
        if not onnx.defs.has(op, INTERNAL_OPSET, ""):
            return {}
        schema = onnx.defs.get_schema(op, INTERNAL_OPSET, "")
    elif onnx.defs.has(op, domain):
        schema = onnx.defs.get_schema(op, domain)
    else:
        return {}
    return {name: int(getattr(attribute.type, "value", 0)) for name, attribute in schema.attributes.items()}


def _write_plain(written: onnx.AttributeProto, value: Any, kind: int | None) -> None:
    if isinstance(value, (type, np.dtype)):
        value = onnx_type(np.dtype(value))
    kind = kind or _kind_of(value)
    written.type = _Kind.ValueType(kind)
    if kind == onnx.AttributeProto.INT:
        written.i = int(value)
    elif kind == onnx.AttributeProto.FLOAT:
        written.f = float(value)
    elif kind == onnx.AttributeProto.STRING:
        written.s = _encoded(value)
    elif kind == onnx.AttributeProto.INTS:
        written.ints.extend(int(v) for v in value)
    elif kind == onnx.AttributeProto.FLOATS:
        written.floats.extend(float(v) for v in value)
    elif kind == onnx.AttributeProto.STRINGS:
        written.strings.extend(_encoded(v) for v in value)
    else:
        raise TypeError(f"attribute {written.name!r} must be a {_Kind.Name(written.type)}, not {value!r}")


def _kind_of(value: object) -> int:
    """For attributes that no schema describes; a list without elements counts as integers."""
    if isinstance(value, (str, bytes)):
        return onnx.AttributeProto.STRING
    if isinstance(value, (list, tuple, np.ndarray)):
        kinds = {_kind_of(v) for v in value}
        if onnx.AttributeProto.STRING in kinds:
            return onnx.AttributeProto.STRINGS
        return onnx.AttributeProto.FLOATS if onnx.AttributeProto.FLOAT in kinds else onnx.AttributeProto.INTS
    return onnx.AttributeProto.FLOAT if isinstance(value, (float, np.floating)) else onnx.AttributeProto.INT


def _encoded(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value


def value_info(tensor: gs.Tensor) -> onnx.ValueInfoProto:
    """Name, type and shape as onnx writes them; the name alone where there is no type."""
    info = onnx.ValueInfoProto(name=tensor.name)
    if tensor.dtype is None:
        return info
    is_sequence = getattr(tensor, "type", "") == "sequence_type"
    kind = (info.type.sequence_type.elem_type if is_sequence else info.type).tensor_type
    kind.elem_type = onnx_type(tensor.dtype)
    if tensor.shape is not None:
        _write_dims(kind.shape, tensor.shape)
    return info


def _write_dims(written: onnx.TensorShapeProto, shape: Sequence[object]) -> None:
    written.SetInParent()  # a scalar has a shape, of no dimensions
    for dim in shape:
        if isinstance(dim, str):
            written.dim.add(dim_param=dim)
        elif isinstance(dim, (int, np.integer)) and dim >= 0:
            written.dim.add(dim_value=int(dim))
        else:
            written.dim.add()


def onnx_type(dtype: np.dtype[Any] | type | int) -> int:
    """The number by which onnx names an element type."""
    return dtype if isinstance(dtype, int) else _onnx_type(np.dtype(dtype))


@cache
def _onnx_type(dtype: np.dtype[Any]) -> int:
    return int(onnx.helper.np_dtype_to_tensor_dtype(dtype))


def _write_tensor(written: onnx.TensorProto, name: str, values: np.ndarray) -> None:
    if values.dtype.kind in "biufc" and sys.byteorder == "little":
        written.name, written.data_type = name, _onnx_type(values.dtype)
        written.dims.extend(values.shape)
        written.raw_data = values.tobytes()
        return
    # Strings, and types that numpy lacks and onnx packs: int4, bfloat16 ...
    written.CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(values).reshape(values.shape), name))
