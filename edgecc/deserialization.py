"""From `onnx.ModelProto` to the `onnx_graphsurgeon.Graph` that a Model wraps.

Graphsurgeon's own importer is not used: it keeps the whole proto alive behind lazy values, drops what it does not know
and takes three times as long.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from edgecc.errors import InvalidModelError
from edgecc.serialization import METADATA_ORIGINS

_Scope = dict[str, gs.Tensor]


def graph_from_proto(proto: onnx.ModelProto, weights: Mapping[str, np.ndarray] | None = None) -> gs.Graph:
    """Import a proto without external data, sparse tensors and local functions (the importer resolves them).

    Args:
        proto: the model, nodes in topological order.
        weights: of a detached proto: values of the inputs that stand for them.

    Raises:
        InvalidModelError: a node has an attribute of a kind that a graph cannot keep.
    """
    opset = next((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), None)
    reader = _Reader(weights or {}, opset, list(proto.opset_import), proto.graph)
    graph = reader.graph(proto.graph, None)
    graph.producer_version = proto.producer_version
    if not graph.doc_string:
        graph.doc_string = proto.doc_string
    return graph


def nodes_from_protos(protos: Iterable[onnx.NodeProto], tensors: Iterable[gs.Tensor], opset: int) -> list[gs.Node]:
    """Import nodes that stand in a graph already: linked to the given tensors by name, to new ones elsewhere.

    Args:
        protos: in topological order.
        tensors: what they may read and write of the graph around them.
        opset: of the graph.
    """
    scope = {tensor.name: tensor for tensor in tensors if not tensor.is_empty()}
    reader = _Reader({}, opset, [])
    return [reader.node(proto, scope, None, {}) for proto in protos]


@dataclass
class _Reader:
    weights: Mapping[str, np.ndarray]
    opset: int | None
    imports: list[onnx.OperatorSetIdProto]
    main: onnx.GraphProto = field(default_factory=onnx.GraphProto)
    names: set[str] = field(default_factory=set)

    def graph(self, proto: onnx.GraphProto, outer: _Scope | None) -> gs.Graph:
        """A graph; `outer` holds the tensors that it may read from around it, None for the main graph."""
        scope: _Scope = {t.name: gs.Constant(t.name, to_array(t)) for t in proto.initializer}
        inputs = []
        for value in proto.input:
            if value.name in self.weights and outer is None:
                scope[value.name] = gs.Constant(value.name, self.weights[value.name])
            elif value.name not in scope:
                scope[value.name] = _variable(value)
                inputs.append(scope[value.name])
        infos = {value.name: value for value in (*proto.value_info, *proto.output)}
        nodes = [self.node(node, scope, outer, infos) for node in proto.node]
        outputs = [self.output(value, scope, outer, nodes) for value in proto.output]
        return gs.Graph(
            nodes,
            inputs,
            outputs,
            name=proto.name,
            doc_string=proto.doc_string,
            opset=self.opset,
            import_domains=self.imports,
        )

    def output(
        self, value: onnx.ValueInfoProto, scope: _Scope, outer: _Scope | None, nodes: list[gs.Node]
    ) -> gs.Tensor:
        """An output of a graph; a tensor from around a subgraph gets an Identity there, by which it is read."""
        tensor = _read(value.name, scope, outer)
        typed = _variable(value)
        if isinstance(tensor, gs.Variable) and tensor.dtype is None:
            tensor.dtype, tensor.shape, tensor.type = typed.dtype, typed.shape, typed.type
        if value.name in scope or outer is None:
            return tensor
        # Passes move the readers of a tensor, and an output of a subgraph is none; ONNX Runtime asks for it as well.
        result = gs.Variable(self.fresh_name(value.name), typed.dtype, typed.shape, typed.type)
        identity = gs.Node("Identity", self.fresh_name(f"{value.name}/Identity"))
        link_input(identity, tensor)
        link_output(identity, result)
        nodes.append(identity)
        return result

    def fresh_name(self, hint: str) -> str:
        """A name that nothing in the model has."""
        self.names = self.names or set(_names_in(self.main))
        others = (f"{hint}_{number}" for number in itertools.count(2))
        name = next(name for name in itertools.chain([hint], others) if name not in self.names)
        self.names.add(name)
        return name

    def node(
        self, proto: onnx.NodeProto, scope: _Scope, outer: _Scope | None, infos: Mapping[str, onnx.ValueInfoProto]
    ) -> gs.Node:
        node = gs.Node(proto.op_type, proto.name, domain=proto.domain or None)
        for name in proto.input:
            link_input(node, _read(name, scope, outer))
        # Attributes before outputs: a subgraph reads what is written so far.
        for attribute in proto.attribute:
            node.attrs[attribute.name] = self.attribute(attribute, proto, scope, outer)
        for name in proto.output:
            link_output(node, _written(name, scope, infos))
        node.origins = _origins(proto)
        return node

    def attribute(
        self, attribute: onnx.AttributeProto, node: onnx.NodeProto, scope: _Scope, outer: _Scope | None
    ) -> object:
        if attribute.type == onnx.AttributeProto.GRAPH:
            return self.graph(attribute.g, {**outer, **scope} if outer else scope)
        read = _PLAIN.get(attribute.type)
        if read is None or attribute.ref_attr_name:
            kind = onnx.AttributeProto.AttributeType.Name(attribute.type)
            raise InvalidModelError(
                f"attribute {attribute.name!r} is of kind {kind}, which edgecc cannot keep",
                where=f"node {node.name!r} ({node.op_type})",
            )
        return read(attribute)


def link_input(node: gs.Node, tensor: gs.Tensor) -> None:
    """Append an input; graphsurgeon's own lists do the same at five times the cost."""
    list.append(node.inputs, tensor)
    list.append(tensor.outputs, node)


def link_output(node: gs.Node, tensor: gs.Tensor) -> None:
    """Append an output."""
    list.append(node.outputs, tensor)
    list.append(tensor.inputs, node)


def _read(name: str, scope: _Scope, outer: _Scope | None) -> gs.Tensor:
    if not name:
        return gs.Variable.empty()
    found = scope.get(name)
    if found is None and outer is not None:
        found = outer.get(name)
    if found is None:
        found = scope[name] = gs.Variable(name)
    return found


def _written(name: str, scope: _Scope, infos: Mapping[str, onnx.ValueInfoProto]) -> gs.Tensor:
    if not name:
        return gs.Variable.empty()
    if name not in scope:
        scope[name] = _variable(infos[name]) if name in infos else gs.Variable(name)
    return scope[name]


def _names_in(graph: onnx.GraphProto) -> Iterator[str]:
    """Of everything in the graph and its subgraphs."""
    yield from (item.name for item in (*graph.input, *graph.initializer, *graph.node))
    for node in graph.node:
        yield from node.output
        for attribute in node.attribute:
            yield from _names_in(attribute.g)


def _variable(value: onnx.ValueInfoProto) -> gs.Variable:
    kind, name = value.type, "tensor_type"
    if kind.HasField("sequence_type"):
        kind, name = kind.sequence_type.elem_type, "sequence_type"
    tensor = kind.tensor_type
    if not tensor.elem_type:
        return gs.Variable(value.name)
    return gs.Variable(value.name, numpy_type(tensor.elem_type), shape_of(tensor), name)


def shape_of(tensor: onnx.TypeProto.Tensor) -> list[int | str | None] | None:
    """Dimensions as numbers, symbols, or None; None if not even their number is known."""
    if not tensor.HasField("shape"):
        return None
    return [d.dim_value if d.HasField("dim_value") else d.dim_param or None for d in tensor.shape.dim]


@cache
def numpy_type(number: int) -> np.dtype[Any]:
    """The element type of onnx's number.

    Raises:
        InvalidModelError: there is no such type.
    """
    try:
        return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(number))
    except KeyError as error:
        raise InvalidModelError(f"the model has a tensor of the unknown element type {number}") from error


def _origins(node: onnx.NodeProto) -> tuple[str, ...]:
    for entry in node.metadata_props:
        if entry.key == METADATA_ORIGINS:
            return tuple(entry.value.split("\n"))
    return (node.name,) if node.name else ()


def to_array(tensor: onnx.TensorProto) -> np.ndarray:
    """The values of a tensor whose data is in the proto.

    Raises:
        InvalidModelError: its data does not fit its type and shape.
    """
    try:
        return onnx.numpy_helper.to_array(tensor)
    except UnicodeDecodeError:
        return _bytes_array(tensor.string_data, tensor.dims)
    except (ValueError, TypeError, KeyError) as error:
        raise InvalidModelError(
            f"the data of tensor {tensor.name!r} does not fit its type and shape", why=str(error)
        ) from error


def _bytes_array(strings: Iterable[bytes], dims: Iterable[int]) -> np.ndarray:
    flat = np.array(list(strings), dtype=object)
    return flat.reshape(tuple(dims))


def _text(value: bytes) -> str | bytes:
    """Custom operators keep binary data in strings."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value


_PLAIN: dict[int, Callable[[onnx.AttributeProto], object]] = {
    onnx.AttributeProto.FLOAT: lambda a: a.f,
    onnx.AttributeProto.INT: lambda a: a.i,
    onnx.AttributeProto.STRING: lambda a: _text(a.s),
    onnx.AttributeProto.TENSOR: lambda a: gs.Constant(a.t.name, to_array(a.t)),
    onnx.AttributeProto.FLOATS: lambda a: list(a.floats),
    onnx.AttributeProto.INTS: lambda a: list(a.ints),
    onnx.AttributeProto.STRINGS: lambda a: [_text(s) for s in a.strings],
}
