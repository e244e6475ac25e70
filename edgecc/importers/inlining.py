"""Replacing calls of a model's own functions by what they stand for."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

import onnx
from onnx import inliner

from edgecc.errors import InvalidModelError
from edgecc.importers.proto_graphs import every_graph, subgraphs
from edgecc.serialization import METADATA_ORIGINS

#: Functions that call functions can stand for more nodes than any machine holds; real models have some thousands.
MAX_NODES = 1_000_000


def inline_functions(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model without calls of its local functions.

    Raises:
        InvalidModelError: a function calls itself, or the functions stand for more than MAX_NODES nodes.
    """
    _refuse_explosion(proto)
    called = {(function.domain, function.name) for function in proto.functions}
    calls: dict[str, str] = {}
    kept: set[str] = set()
    for graph in every_graph(proto.graph):
        for node in graph.node:
            if (node.domain, node.op_type) in called:
                calls.update(dict.fromkeys(filter(None, node.output), node.name))
            else:
                kept.add(node.name)
    try:
        inlined = inliner.inline_local_functions(proto)
    except Exception as error:  # the inliner's C++ errors share no base class
        raise InvalidModelError("the model's functions cannot be inlined", why=str(error).splitlines()[0]) from error
    for graph in every_graph(inlined.graph):
        _name_after_calls(graph, calls, kept)
    return inlined


def _refuse_explosion(proto: onnx.ModelProto) -> None:
    bodies = {(f.domain, f.name): f for f in proto.functions}
    sizes: dict[tuple[str, str], int] = {}
    pending = [(key, False) for key in bodies]
    open_calls: set[tuple[str, str]] = set()
    while pending:
        key, visited = pending.pop()
        calls = [(n.domain, n.op_type) for n in _inner_nodes(bodies[key].node)]
        if visited:
            sizes[key] = sum(sizes.get(call, 1) for call in calls)
            open_calls.discard(key)
            continue
        if key in sizes:
            continue
        if key in open_calls:
            raise InvalidModelError("the model's functions cannot be inlined", why=f"function {key[1]!r} calls itself")
        open_calls.add(key)
        pending.append((key, True))
        pending += [(call, False) for call in calls if call in bodies and call not in sizes]
    total = sum(sizes.get((n.domain, n.op_type), 1) for n in _inner_nodes(proto.graph.node))
    if total > MAX_NODES:
        raise InvalidModelError(
            "the model's functions cannot be inlined",
            why=f"they stand for {total:,} nodes, and edgecc takes {MAX_NODES:,}",
        )


def _inner_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """The nodes and those of their subgraphs."""
    for node in nodes:
        yield node
        for graph in subgraphs(node):
            yield from _inner_nodes(graph.node)


def _name_after_calls(graph: onnx.GraphProto, calls: dict[str, str], kept: Collection[str]) -> None:
    """Name what came out of a call after it; the nodes of a body stand together and the last one writes its output."""
    owner = ""
    for node in reversed(graph.node):
        owner = next((calls[name] for name in node.output if name in calls), owner)
        if node.name in kept or not owner:
            continue
        _name(node, owner)


def _name(node: onnx.NodeProto, owner: str) -> None:
    node.name = f"{owner}/{node.name or node.op_type}"
    node.metadata_props.add(key=METADATA_ORIGINS, value=owner)
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            for graph in every_graph(attribute.g):
                for inner in graph.node:
                    inner.name = f"{owner}/{inner.name or inner.op_type}"
                    inner.metadata_props.add(key=METADATA_ORIGINS, value=owner)
