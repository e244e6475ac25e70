"""Replacing calls of a model's own functions by what they stand for."""

from __future__ import annotations

from collections.abc import Collection

import onnx
from onnx import inliner

from edgecc.errors import InvalidModelError
from edgecc.importers.proto_graphs import every_graph
from edgecc.serialization import METADATA_ORIGINS


def inline_functions(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model without calls of its local functions."""
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
