"""Digests of what tensors are computed from, to tell whether a statistic still holds after an edit."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import onnx_graphsurgeon as gs

from edgecc.serialization import node_to_proto, subgraphs_of

if TYPE_CHECKING:
    from edgecc.model import Model, Node


def cones_of(model: Model) -> dict[str, str]:
    """A digest for every tensor of the main graph that is not a constant.

    It covers operators, attributes, constants, and names, types and shapes of the model's inputs; not the names of
    nodes and inner tensors.
    """
    known: dict[int, str] = {}
    for tensor in model.inputs:
        known[id(tensor)] = _digest("input", tensor.name, str(np.dtype(tensor.dtype)), str(tensor.shape))
    found = {tensor.name: known[id(tensor)] for tensor in model.inputs}
    for node in model.nodes():
        assert all(t.is_empty() or not t.inputs or id(t) in known for t in node.inputs), "the graph is sorted"
        own = _digest(_text_of(node), *(_cone(tensor, known) for tensor in _read_by(node)))
        for index, tensor in enumerate(node.outputs):
            known[id(tensor)] = _digest(own, str(index))
            found[tensor.name] = known[id(tensor)]
    return found


def _cone(tensor: gs.Tensor, known: dict[int, str]) -> str:
    if id(tensor) in known:
        return known[id(tensor)]
    if isinstance(tensor, gs.Constant):
        values = np.ascontiguousarray(tensor.values)
        content = repr(values.tolist()).encode() if values.dtype == object else values.data.cast("B")
        digest = hashlib.sha256(f"{values.dtype} {values.shape} ".encode())
        digest.update(content)
        known[id(tensor)] = digest.hexdigest()
        return known[id(tensor)]
    return _digest("none")


def _read_by(node: Node) -> list[gs.Tensor]:
    """The inputs of a node, and what its subgraphs read."""
    found = list(node.inputs)
    for graph in subgraphs_of(node):
        found += [tensor for inner in graph.nodes for tensor in _read_by(inner)]
        found += graph.outputs
    return found


def _text_of(node: Node) -> str:
    """Operator and attributes without names; in subgraphs names count: what is renamed there is measured again."""
    proto = node_to_proto(node)
    given = " ".join(str(not tensor.is_empty()) for tensor in node.inputs)
    del proto.input[:], proto.output[:], proto.metadata_props[:]
    proto.name = ""
    return _digest(proto.SerializeToString(deterministic=True).hex(), given)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
