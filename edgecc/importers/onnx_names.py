"""Names of nodes: every node gets one, no two share one."""

from __future__ import annotations

from collections.abc import Iterator

import onnx

_UNKNOWN_DOMAIN = "edgecc.unknown"


def every_graph(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """The graph and all its subgraphs."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from every_graph(attribute.g)


def name_nodes(proto: onnx.ModelProto) -> None:
    """Name what has no name (`Conv_12`) and number what shares one; all other names stay."""
    taken: set[str] = set()
    rest: list[tuple[onnx.NodeProto, str]] = []
    for graph in every_graph(proto.graph):
        for index, node in enumerate(graph.node):
            if node.name and node.name not in taken:
                taken.add(node.name)
                continue
            rest.append((node, node.name or f"{node.op_type}_{index}"))
    for node, wanted in rest:
        name, count = wanted, 1
        while name in taken:
            count += 1
            name = f"{wanted}_{count}"
        taken.add(name)
        node.name = name


def without_unknown_ops(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model as the checker takes it: operators nobody knows are a backend's business, not the checker's."""
    unknown = [
        node
        for graph in every_graph(proto.graph)
        for node in graph.node
        if not node.domain and not onnx.defs.has(node.op_type)
    ]
    if not unknown:
        return proto
    names = {node.name for node in unknown}
    checked = onnx.ModelProto()
    checked.CopyFrom(proto)
    checked.opset_import.add(domain=_UNKNOWN_DOMAIN, version=1)
    for graph in every_graph(checked.graph):
        for node in graph.node:
            if node.name in names:
                node.domain = _UNKNOWN_DOMAIN
    return checked
