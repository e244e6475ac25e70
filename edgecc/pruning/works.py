"""What budgets count: multiply-accumulates, layers' weights and bytes, and how they become fewer with units.

Subgraphs count too, and constants that several nodes read count once, as in the file and in `edgecc inspect`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from edgecc.inspection import RECURRENT, attention_macs, counted_products, stored_bytes, total_macs
from edgecc.pruning.allocation import Work, per_unit
from edgecc.rewriting.linear import LINEAR
from edgecc.rewriting.reading import is_op

if TYPE_CHECKING:
    from edgecc.model import Constant, Model, Node
    from edgecc.pruning.groups import Coupling, Group
    from edgecc.pruning.ties import Labels
    from edgecc.pruning.tracking import Layer


def weights_of(node: Node) -> list[Constant]:
    """The constants that a layer multiplies; biases are not counted."""
    if not is_op(node, *LINEAR, *RECURRENT):
        return []
    operands = node.inputs[1:3] if node.op in RECURRENT else node.inputs[1:2]
    return [tensor for tensor in operands if getattr(tensor, "values", None) is not None]


def size_of(model: Model, measure: str) -> int:
    """Of a whole model: multiply-accumulates (`macs`), values of layers' weights (`params`), or bytes (`bytes`)."""
    if measure == "macs":
        return total_macs(model.graph.nodes)
    return sum(size_of_constant(tensor, measure) for tensor in _constants(model, measure))


def works_of(model: Model, coupling: Coupling, groups: Sequence[Group], measure: str) -> list[Work]:
    """What adds up to `size_of`, each with the axes that go with units; of more than two such axes, two count.

    Args:
        model: that the coupling was found in.
        coupling: with the labels of all axes.
        groups: those that may lose something.
        measure: `macs`, `params` or `bytes`.
    """
    owner = {unit.root: index for index, group in enumerate(groups) for unit in group.units}
    sizes = [len(group.units) for group in groups]

    def work(size: int, axes: Sequence[Labels]) -> Work:
        shares = [(per_unit(labels, coupling, owner, sizes), len(labels)) for labels in axes]
        (writes, outputs), (reads, inputs) = [*((found, count) for found, count in shares if found), ({}, 1), ({}, 1)][
            :2
        ]
        return Work(size, reads, writes, inputs, outputs)

    if measure == "macs":
        return [work(size, axes) for size, axes in _multiplied(model, coupling)]
    tracker = coupling.tracker
    return [
        work(size_of_constant(tensor, measure), [labels for _, labels in sorted(tracker.of(tensor).items())])
        for tensor in _constants(model, measure)
    ]


def size_of_constant(tensor: Constant, measure: str) -> int:
    """Of weights: how many they are (`params`), or their bytes (`bytes`)."""
    return int(tensor.values.size) if measure == "params" else stored_bytes(tensor)


def _constants(model: Model, measure: str) -> list[Constant]:
    """Each once."""
    if measure == "bytes":
        return model.constants()
    return list({id(tensor): tensor for node in model.all_nodes() for tensor in weights_of(node)}.values())


def _multiplied(model: Model, coupling: Coupling) -> Iterator[tuple[int, list[Labels]]]:
    """Multiply-accumulates of each product, with the labels of the axes to whose lengths they are proportional."""
    tracker = coupling.tracker
    layers = {id(layer.node): layer for layer in tracker.layers}
    for product in counted_products(model.graph.nodes):
        node, size, layer = product.node, product.macs, layers.get(id(product.node))
        if not size:
            continue
        if node.op == "Attention":
            yield from _attention(node, coupling, size)
            continue
        if layer is not None and node.op in RECURRENT:
            yield from _recurrent(node, layer, size)
            continue
        inner = layer.reads if layer is not None else _summed(node, coupling)
        axes = [labels for _, labels in sorted(tracker.of(node.outputs[0]).items(), reverse=True)]
        yield size, [*axes, *([] if inner is None else [inner])]


def _recurrent(node: Node, layer: Layer, size: int) -> Iterator[tuple[int, list[Labels]]]:
    """The weights of the data, and those of the state: the latter become fewer with both of their axes."""
    data, state = (int(tensor.values.size) for tensor in node.inputs[1:3])
    of_state = size * state // max(1, data + state)
    yield size - of_state, [layer.writes, *([] if layer.reads is None else [layer.reads])]
    yield of_state, [layer.writes, layer.writes]


def _attention(node: Node, coupling: Coupling, size: int) -> Iterator[tuple[int, list[Labels]]]:
    """Queries times keys, and weights times values: proportional to heads and to what each head reads or gives."""
    first, second = attention_macs(node)
    times = size // max(1, first + second)
    for part, tensor in ((first, node.inputs[0]), (second, node.outputs[0])):
        yield part * times, [labels for _, labels in sorted(coupling.tracker.of(tensor).items())]


def _summed(node: Node, coupling: Coupling) -> Labels | None:
    """What a product of two computed tensors sums over."""
    tensor = node.inputs[0]
    return coupling.tracker.of(tensor).get(len(tensor.shape or ()) - 1) if node.op == "MatMul" else None
