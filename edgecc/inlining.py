"""An If whose condition is constant becomes the nodes of the branch that is taken.

PyTorch writes such a node for every squeeze: its branches differ in rank, so that nothing behind them has a known one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import onnx_graphsurgeon as gs

from edgecc.serialization import graphs_of, tensors_of

if TYPE_CHECKING:
    from edgecc.model import Model


def inline_branches(model: Model) -> bool:
    """Replace every If with a constant condition, in subgraphs too; returns whether there was one.

    Names stay unique: what has a name that is also used elsewhere gets another one.
    """
    found = [(part, node) for part in graphs_of(model.graph) for node in part.nodes if _taken(node) is not None]
    for part, node in found:
        # One that lies in a branch that was not taken is gone by now.
        if any(node is other for other in part.nodes):
            _inline(model, part, node)
    return bool(found)


def _taken(node: gs.Node) -> gs.Graph | None:
    """The branch that is always taken."""
    if node.op != "If" or node.domain not in (None, "", "ai.onnx") or not node.outputs:
        return None
    condition = node.inputs[0]
    if not isinstance(condition, gs.Constant):
        return None
    branch = node.attrs["then_branch" if condition.values.item() else "else_branch"]
    return branch if isinstance(branch, gs.Graph) else None


def _inline(model: Model, part: gs.Graph, node: gs.Node) -> None:
    branch = _taken(node)
    assert branch is not None
    other = node.attrs["else_branch" if branch is node.attrs["then_branch"] else "then_branch"]
    outer, results, origins = list(node.outputs), list(branch.outputs), tuple(getattr(node, "origins", ()))
    node.attrs.clear()
    _disconnect(other)
    model.remove(node)
    _make_unique(model, branch)
    position = next(index for index, candidate in enumerate(part.nodes) if candidate is node)
    part.nodes[position : position + 1] = branch.nodes
    inside = {id(inner) for inner in branch.nodes}
    taken: set[int] = set()
    for result, out in zip(results, outer, strict=True):
        if result.inputs and id(result.inputs[0]) in inside and id(result) not in taken:
            taken.add(id(result))
            _rename(result, out)
        else:
            # What the branch passes on is written elsewhere, or is given out twice.
            source = next((o for r, o in zip(results, outer, strict=True) if r is result and id(r) in taken), result)
            copy = gs.Node("Identity", model.fresh_name(f"{out.name}/Identity"), {}, [source], [out])
            copy.origins = origins
            part.nodes.append(copy)


def _rename(result: gs.Tensor, out: gs.Tensor) -> None:
    """Let the producer of `result` write `out`, which everything that read `result` reads then."""
    producer = result.inputs[0]
    for index, tensor in enumerate(producer.outputs):
        if tensor is result:
            list.__setitem__(producer.outputs, index, out)
    list.append(out.inputs, producer)
    for reader in {id(r): r for r in result.outputs}.values():
        for index, tensor in enumerate(reader.inputs):
            if tensor is result:
                list.__setitem__(reader.inputs, index, out)
                list.append(out.outputs, reader)
    list.clear(result.inputs)
    list.clear(result.outputs)


def _disconnect(graph: gs.Graph) -> None:
    """Unlink the nodes of a branch that is never taken from what they read around it."""
    for part in graphs_of(graph):
        for node in part.nodes:
            for tensor in {id(t): t for t in node.inputs}.values():
                alive = [reader for reader in tensor.outputs if reader is not node]
                list.clear(tensor.outputs)
                list.extend(tensor.outputs, alive)


def _make_unique(model: Model, branch: gs.Graph) -> None:
    """Rename what the branch makes where the rest of the model uses the name; the branch is in no graph any more."""
    used = {tensor.name for part in graphs_of(model.graph) for tensor in tensors_of(part)}
    used |= {node.name for part in graphs_of(model.graph) for node in part.nodes}
    for made in _made(branch):
        if not made.name or made.name in used:
            made.name = model.fresh_name(made.name or made.op)
        used.add(made.name)


def _made(branch: gs.Graph) -> Iterator[gs.Node | gs.Tensor]:
    """The branch's nodes, what they write, and the constants that only they read."""
    inside = {id(node) for node in branch.nodes}
    constants = {id(t): t for node in branch.nodes for t in node.inputs if isinstance(t, gs.Constant)}
    for node in branch.nodes:
        yield node
        yield from (tensor for tensor in node.outputs if tensor.name)
    for constant in constants.values():
        if all(id(reader) in inside for reader in constant.outputs):
            yield constant
