"""Helpers over GraphProtos: walking subgraphs, naming and sorting nodes."""

from __future__ import annotations

import graphlib
from collections.abc import Iterable, Iterator

import onnx

from edgecc.errors import InvalidModelError

_UNKNOWN_DOMAIN = "edgecc.unknown"


def every_graph(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """The graph and all its subgraphs, outer ones first."""
    yield graph
    for node in graph.node:
        for subgraph in subgraphs(node):
            yield from every_graph(subgraph)


def subgraphs(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    """The graphs in a node's attributes."""
    return [a.g for a in node.attribute if a.type == onnx.AttributeProto.GRAPH]


def name_nodes(proto: onnx.ModelProto) -> None:
    """Name what has no name (`Conv_12`) and number what shares one; all other names stay."""
    taken: set[str] = set()
    rest: list[tuple[onnx.NodeProto, str]] = []
    for graph in every_graph(proto.graph):
        for index, node in enumerate(graph.node):
            name = node.name
            if name and name not in taken:
                taken.add(name)
            else:
                rest.append((node, name or f"{node.op_type}_{index}"))
    for node, wanted in rest:
        name, count = wanted, 1
        while name in taken:
            count += 1
            name = f"{wanted}_{count}"
        taken.add(name)
        node.name = name


def refuse_damaged_names(graph: onnx.GraphProto) -> None:
    """Protobuf hands out names that are not UTF-8 as bytes, and everything after would stumble over them.

    Raises:
        InvalidModelError: there is such a name.
    """
    for part in every_graph(graph):
        _refuse_bytes((part.name, part.doc_string))
        for node in part.node:
            texts = (node.name, node.op_type, node.domain, *node.input, *node.output, *(a.name for a in node.attribute))
            _refuse_bytes(texts)
        _refuse_bytes(value.name for value in (*part.input, *part.output, *part.value_info, *part.initializer))
        dims = (d for v in (*part.input, *part.output, *part.value_info) for d in v.type.tensor_type.shape.dim)
        _refuse_bytes(dim.dim_param for dim in dims)


def _refuse_bytes(texts: Iterable[object]) -> None:
    for text in texts:
        if not isinstance(text, str):
            raise InvalidModelError(
                f"the model is damaged: the name {text!r} is not UTF-8", hint="export or download it again"
            )


def sort_nodes(graph: onnx.GraphProto) -> None:
    """Put the nodes of a graph and its subgraphs into topological order, where they are not.

    Raises:
        InvalidModelError: nodes wait for each other.
    """
    for node in graph.node:
        for subgraph in subgraphs(node):
            sort_nodes(subgraph)
    producers = {name: index for index, node in enumerate(graph.node) for name in node.output if name}
    needs: dict[int, set[int]] = {}
    is_sorted = True
    for index, node in enumerate(graph.node):
        needs[index] = {producers[name] for name in _reads(node) if name in producers}
        is_sorted = is_sorted and all(source < index for source in needs[index])
    if is_sorted:
        return
    try:
        order = list(graphlib.TopologicalSorter(needs).static_order())
    except graphlib.CycleError as error:
        circle = " -> ".join(graph.node[index].name for index in error.args[1])
        raise InvalidModelError("nodes wait for each other's outputs", where=circle) from error
    nodes = onnx.GraphProto(node=[graph.node[index] for index in order]).node
    del graph.node[:]
    graph.node.extend(nodes)


def _reads(node: onnx.NodeProto) -> Iterator[str]:
    yield from node.input
    for subgraph in subgraphs(node):
        for inner in subgraph.node:
            yield from _reads(inner)
        yield from (value.name for value in subgraph.output)


def checkable(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model as onnx's checker takes it.

    Operators that nobody knows are a backend's business, not the checker's; and inputs and outputs of unknown rank are
    valid, whatever it says.
    """
    unknown = {
        node.name
        for graph in every_graph(proto.graph)
        for node in graph.node
        if not node.domain and not onnx.defs.has(node.op_type)
    }
    if not unknown and not _without_rank(proto):
        return proto
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    copy.opset_import.add(domain=_UNKNOWN_DOMAIN, version=1)
    for graph in every_graph(copy.graph):
        for node in graph.node:
            if node.name in unknown:
                node.domain = _UNKNOWN_DOMAIN
    for value in _without_rank(copy):
        value.type.tensor_type.shape.SetInParent()
    return copy


def _without_rank(proto: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    values = (*proto.graph.input, *proto.graph.output)
    return [v for v in values if v.type.HasField("tensor_type") and not v.type.tensor_type.HasField("shape")]
