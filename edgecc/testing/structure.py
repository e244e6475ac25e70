"""A model's structure as text that does not depend on names, so that two models can be compared and the diff read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgecc.cleanup import reads
from edgecc.model import value_of
from edgecc.serialization import subgraphs_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from edgecc.model import Model, Node, Tensor

#: Integer constants up to this many values are compared by value: axes, shapes, pads, permutations.
_SHOWN_VALUES = 64


def structure(model: Model) -> list[str]:
    """One line per node, in an order that follows from the outputs alone.

    Inputs and outputs of the model are known by their names, other tensors by numbers. Integer constants are shown
    with their values, others with type and shape: their values are compared by executing the model.
    """
    names = {id(tensor): tensor.name for tensor in (*model.inputs, *model.outputs)}
    return _graph_lines(model.nodes(), model.outputs, names)


def _graph_lines(nodes: Sequence[Node], outputs: Sequence[Tensor], names: dict[int, str]) -> list[str]:
    """Lines of one graph's nodes; numbers for its inner tensors are added to `names`."""
    lines: list[str] = []
    for node in _in_order(nodes, outputs):
        for tensor in node.outputs:
            if not tensor.is_empty():
                names.setdefault(id(tensor), f"%{len(names)}")
        lines += _node_lines(node, names)
    return [*lines, f"return {', '.join(_show(t, names) for t in outputs)}"]


def _in_order(nodes: Sequence[Node], outputs: Sequence[Tensor]) -> list[Node]:
    """The nodes that the outputs need, each after those that it reads; a stack, since chains may be long."""
    producers = {id(tensor): node for node in nodes for tensor in node.outputs}
    order: list[Node] = []
    done: set[int] = set()
    stack = _producers(reversed(outputs), producers)
    while stack:
        node = stack[-1]
        pending = [other for other in _producers(reads(node), producers) if id(other) not in done]
        if pending and id(node) not in done:
            stack += reversed(pending)
            continue
        stack.pop()
        if id(node) not in done:
            done.add(id(node))
            order.append(node)
    return order


def _producers(tensors: Iterable[Tensor], producers: dict[int, Node]) -> list[Node]:
    return [producers[id(tensor)] for tensor in tensors if id(tensor) in producers]


def _node_lines(node: Node, names: dict[int, str]) -> list[str]:
    read = ", ".join(_show(t, names) for t in node.inputs)
    written = ", ".join(_show(t, names) for t in node.outputs)
    subgraphs = {id(subgraph): subgraph for subgraph in subgraphs_of(node)}
    plain = {key: value for key, value in sorted(node.attrs.items()) if id(value) not in subgraphs}
    text = "".join(f" {key}={_attribute(value)}" for key, value in plain.items())
    domain = f"{node.domain}." if node.domain else ""
    lines = [f"{written} = {domain}{node.op}({read}){text}"]
    for subgraph in subgraphs.values():
        inner = {**names, **{id(t): f"%in{index}" for index, t in enumerate(subgraph.inputs)}}
        lines += [f"    {line}" for line in _graph_lines(subgraph.nodes, subgraph.outputs, inner)]
    return lines


def _show(tensor: Tensor, names: dict[int, str]) -> str:
    if tensor.is_empty():
        return "none"
    values = value_of(tensor)
    if values is None:
        return names.get(id(tensor), str(tensor.name))
    return _constant(values)


def _constant(values: np.ndarray) -> str:
    kind = f"{values.dtype.name}[{','.join(map(str, values.shape))}]"
    if values.dtype.kind in "iub" and values.size <= _SHOWN_VALUES:
        return f"{kind}{values.tolist()}"
    return kind


def _attribute(value: object) -> str:
    values = getattr(value, "values", None)
    if isinstance(values, np.ndarray):
        return _constant(values)
    if isinstance(value, float):
        return f"{value:g}"
    return repr(list(value)) if isinstance(value, tuple) else repr(value)
