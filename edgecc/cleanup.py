"""What the driver does after a pass that changed something: fold, drop, sort, infer shapes.

Never an entry in a list of passes: every pass may count on it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_graphsurgeon as gs

from edgecc.folding import fold_constants
from edgecc.inlining import inline_branches
from edgecc.serialization import subgraphs_of

if TYPE_CHECKING:
    from edgecc.model import Model


def clean(model: Model, *, types_known: bool = False) -> list[str]:
    """Fold constants, inline branches, drop what nothing uses, sort, infer shapes, until nothing changes.

    Shape arithmetic resolves in rounds: a folded shape makes a Reshape static, which makes the next Shape static. Every
    round turns at least one computed tensor into a constant, so they come to an end.

    Args:
        model: to be cleaned up, in place.
        types_known: every tensor has its right type and shape; then they are inferred only once something was folded.

    Returns:
        Notes about nodes that have constant inputs and could not be folded.
    """
    notes: list[str] = []
    while True:
        types_known = not inline_branches(model) and types_known
        drop_unused(model.graph)
        sort(model.graph)
        if not types_known:
            model.infer_shapes()
        if not fold_constants(model, notes):
            break
        types_known = False
    return list(dict.fromkeys(notes))


def drop_unused(graph: gs.Graph) -> bool:
    """Remove nodes that contribute to no output, subgraphs included; returns whether there were any."""
    changed = False
    for node in graph.nodes:
        for subgraph in subgraphs_of(node):
            changed |= drop_unused(subgraph)
    needed: set[int] = set()
    producers = {id(t): node for node in graph.nodes for t in node.outputs}
    pending = [t for t in graph.outputs if id(t) in producers]
    while pending:
        node = producers[id(pending.pop())]
        if id(node) in needed:
            continue
        needed.add(id(node))
        pending += [t for t in reads(node) if id(t) in producers]
    kept = [node for node in graph.nodes if id(node) in needed]
    if len(kept) == len(graph.nodes):
        return changed
    _disconnect([node for node in graph.nodes if id(node) not in needed])
    graph.nodes = kept
    return True


def reads(node: gs.Node) -> list[gs.Tensor]:
    """What the node reads, tensors of the outer graph that its subgraphs read included."""
    found = [t for t in node.inputs if not t.is_empty()]
    for subgraph in subgraphs_of(node):
        for inner in subgraph.nodes:
            found += reads(inner)
        found += list(subgraph.outputs)
    return found


def _disconnect(nodes: list[gs.Node]) -> None:
    """Unlink the nodes from every tensor, in one sweep over each tensor's links."""
    dead = {id(inner): inner for node in nodes for inner in _with_inner(node)}
    touched = {id(t): t for node in dead.values() for t in (*node.inputs, *node.outputs)}
    for tensor in touched.values():
        for links in (tensor.inputs, tensor.outputs):
            alive = [node for node in links if id(node) not in dead]
            list.clear(links)
            list.extend(links, alive)
    for node in dead.values():
        list.clear(node.inputs)
        list.clear(node.outputs)


def _with_inner(node: gs.Node) -> list[gs.Node]:
    return [node, *(n for subgraph in subgraphs_of(node) for inner in subgraph.nodes for n in _with_inner(inner))]


def sort(graph: gs.Graph) -> None:
    """Topological order: the present one where it is one already; what is out of place goes right before its readers.

    A node that a pass appends thus stays near what reads it, and memory is held no longer than in the source.
    """
    for node in graph.nodes:
        for subgraph in subgraphs_of(node):
            sort(subgraph)
    producers = {id(t): node for node in graph.nodes for t in node.outputs}
    order: list[gs.Node] = []
    placed: set[int] = set()
    opened: set[int] = set()
    for start in graph.nodes:
        pending = [start]
        while pending:
            node = pending[-1]
            if id(node) in placed:
                pending.pop()
                continue
            sources = [producers[id(t)] for t in reads(node) if id(t) in producers] if id(node) not in opened else []
            opened.add(id(node))
            # A source that is opened and not placed is in a cycle, which is left in place: verify() names it.
            waiting = [source for source in sources if id(source) not in placed and id(source) not in opened]
            if waiting:
                pending += reversed(waiting)
                continue
            placed.add(id(node))
            order.append(node)
            pending.pop()
    graph.nodes = order
