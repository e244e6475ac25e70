"""Copying a graph: nodes, tensors and attributes are new, the weights' arrays are shared.

Graphsurgeon's own copy makes a second tensor of a constant that a subgraph reads from around it, shares attribute
lists, and forgets that a tensor is a sequence.
"""

from __future__ import annotations

import onnx_graphsurgeon as gs

from edgecc.deserialization import link_input, link_output


def clone_graph(graph: gs.Graph) -> gs.Graph:
    """A copy; edits of one graph do not show in the other."""
    return _clone(graph, {})


def _clone(graph: gs.Graph, copies: dict[int, gs.Tensor]) -> gs.Graph:
    inputs = [_tensor(t, copies) for t in graph.inputs]
    nodes = [_node(node, copies) for node in graph.nodes]
    outputs = [_tensor(t, copies) for t in graph.outputs]
    return gs.Graph(
        nodes,
        inputs,
        outputs,
        name=graph.name,
        doc_string=graph.doc_string,
        opset=graph.opset,
        import_domains=list(graph.import_domains) if graph.import_domains is not None else None,
        producer_name=graph.producer_name,
        producer_version=graph.producer_version,
    )


def _node(node: gs.Node, copies: dict[int, gs.Tensor]) -> gs.Node:
    copied = gs.Node(node.op, node.name, domain=node.domain)
    for tensor in node.inputs:
        link_input(copied, _tensor(tensor, copies))
    for tensor in node.outputs:
        link_output(copied, _tensor(tensor, copies))
    for name, value in node.attrs.items():
        copied.attrs[name] = _attribute(value, copies)
    copied.origins = getattr(node, "origins", ())
    return copied


def _attribute(value: object, copies: dict[int, gs.Tensor]) -> object:
    if isinstance(value, gs.Graph):
        return _clone(value, copies)
    if isinstance(value, gs.Constant):
        return gs.Constant(value.name, value.values)
    return list(value) if isinstance(value, list) else value


def _tensor(tensor: gs.Tensor, copies: dict[int, gs.Tensor]) -> gs.Tensor:
    if not tensor.name:
        return gs.Variable.empty()
    copied = copies.get(id(tensor))
    if copied is None:
        copied = copies[id(tensor)] = _copy(tensor)
    return copied


def _copy(tensor: gs.Tensor) -> gs.Tensor:
    if isinstance(tensor, gs.Constant):
        return gs.Constant(tensor.name, tensor.values)
    return gs.Variable(tensor.name, tensor.dtype, list(tensor.shape) if tensor.shape is not None else None, tensor.type)
