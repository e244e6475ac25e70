"""What must hold of a Model after every pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_graphsurgeon as gs

from edgecc.errors import VerificationError
from edgecc.serialization import subgraphs_of

if TYPE_CHECKING:
    from edgecc.model import Model


def verify(model: Model) -> None:
    """Raise VerificationError unless the graph is whole.

    Every tensor is an input, a constant or written by exactly one node before it is read; names are unique; links
    between nodes and tensors agree in both directions; inputs and outputs have a type. Linear in the graph's size.
    """
    for tensor in (*model.inputs, *model.outputs):
        if tensor.dtype is None:
            raise VerificationError(f"tensor {tensor.name!r} of the model's signature has no type")
    _verify_graph(model.graph, outer={})


def _verify_graph(graph: gs.Graph, outer: dict[str, gs.Tensor]) -> None:
    visible = dict(outer)
    for tensor in graph.inputs:
        visible[tensor.name] = tensor
    node_names: set[str] = set()
    readers: dict[int, set[int]] = {}
    for node in graph.nodes:
        if not node.outputs:
            continue
        if node.name in node_names:
            raise VerificationError(f"two nodes are named {node.name!r}", where=str(node.op))
        node_names.add(node.name)
        _verify_inputs(node, visible, readers)
        for subgraph in subgraphs_of(node):
            _verify_graph(subgraph, visible)
        for tensor in node.outputs:
            _declare(tensor, node, visible, outer)
    for tensor in graph.outputs:
        _verify_read(tensor, visible, where=f"output of graph {graph.name!r}")


def _verify_inputs(node: gs.Node, visible: dict[str, gs.Tensor], readers: dict[int, set[int]]) -> None:
    for tensor in node.inputs:
        if tensor.is_empty():
            continue
        if id(tensor) not in readers:
            readers[id(tensor)] = {id(reader) for reader in tensor.outputs}
        if id(node) not in readers[id(tensor)]:
            raise VerificationError(f"{tensor.name!r} does not know its reader", where=_at(node))
        _verify_read(tensor, visible, _at(node))


def _verify_read(tensor: gs.Tensor, visible: dict[str, gs.Tensor], where: str) -> None:
    is_constant = isinstance(tensor, gs.Constant)
    known = visible.setdefault(tensor.name, tensor) if is_constant else visible.get(tensor.name)
    if known is None:
        raise VerificationError(
            f"tensor {tensor.name!r} is read before anything writes it", where=where, why="a cycle or a dangling input"
        )
    if known is not tensor:
        raise VerificationError(f"two tensors are named {tensor.name!r}", where=where)


def _declare(tensor: gs.Tensor, node: gs.Node, visible: dict[str, gs.Tensor], outer: dict[str, gs.Tensor]) -> None:
    if tensor.is_empty():
        return
    if tensor.name in visible:
        raise VerificationError(f"tensor {tensor.name!r} is written twice", where=_at(node))
    if len(tensor.inputs) != 1 or tensor.inputs[0] is not node:
        raise VerificationError(f"{tensor.name!r} does not know its producer", where=_at(node))
    visible[tensor.name] = tensor


def _at(node: gs.Node) -> str:
    return f"node {node.name!r} ({node.op})"
