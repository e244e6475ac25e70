"""Layers that are not fitted: recurrent ones, and those that `linear_of` does not know.

Nothing makes up for what they no longer read. What they sum over is a matrix of one row here: the root of the power of
the weights of each channel.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from edgecc.inspection import RECURRENT
from edgecc.pruning.features import Linear, Matrix, columns_of, linear_of
from edgecc.rewriting.reading import constant, is_op
from edgecc.statistics.requests import Gram, Rows

if TYPE_CHECKING:
    from edgecc.model import Node
    from edgecc.pruning.groups import Coupling, Group, Place, Unit
    from edgecc.pruning.rows import ProductTable
    from edgecc.pruning.ties import Labels
    from edgecc.pruning.tracking import Layer


class Product(NamedTuple):
    """A product of weights and channels in a layer that is not fitted.

    Attributes:
        layer: whose `reads` are the labels of these channels; None if they have none.
        linear: of one row, without a bias.
    """

    layer: Layer
    linear: Linear


def unfitted_readers(group: Group) -> list[Layer]:
    """Layers that sum over the group's units and are not fitted; a recurrent layer reads what it wrote before."""
    own = (layer for layer in group.writers if is_op(layer.node, *RECURRENT))
    found = {id(layer): layer for layer in (*group.readers, *own) if linear_of(layer.node) is None}
    return list(found.values())


def products_in(layer: Layer) -> list[Product]:
    """What such a layer sums over: a recurrent one its input and its state, those of both directions together."""
    node = layer.node
    first = node.inputs[0]
    if not is_op(node, *RECURRENT):
        features = 1 if node.op in ("Conv", "ConvTranspose") else 0 if node.attrs.get("transA", 0) else -1
        return [Product(layer, _row(layer, Gram(first.name, Rows(features)), *_summed(node)[0]))]
    # All states if there are such an output, otherwise the last ones.
    state = next(tensor for tensor in node.outputs if not tensor.is_empty())
    places = zip((layer, replace(layer, reads=layer.writes)), (first, state), _summed(node), strict=True)
    return [Product(part, _row(part, Gram(tensor.name, Rows()), *place)) for part, tensor, place in places]


def _row(layer: Layer, request: Gram, index: int, axis: int) -> Linear:
    weights = constant(layer.node, index)
    assert weights is not None, "rules know layers of constant weights"
    power = np.square(weights.astype(np.float64))
    if layer.node.op == "Conv":
        # The first of several groups of outputs reads the first channels.
        power = power.reshape(layer.group, -1, weights.shape[1], power[0, 0].size).sum(axis=(1, 3)).reshape(-1)
    else:
        power = np.moveaxis(power, axis, 0).reshape(weights.shape[axis], -1).sum(axis=1)
    return Linear(layer.node, request, np.append(np.sqrt(power), 0.0)[np.newaxis], 1)


def _summed(node: Node) -> list[tuple[int, int]]:
    """Its inputs that are weights, each with the axis that is summed over."""
    if is_op(node, *RECURRENT):
        return [(1, 2), (2, 2)]
    return [(1, 1 if node.op == "Conv" or node.attrs.get("transB", 0) else 0)]


def strengths(weights: Matrix, sums: ProductTable) -> Matrix:
    """Squared weights times the power of what they multiply, of each feature, summed over the rows.

    Args:
        weights: [outputs, features + 1].
        sums: of the products of rows [features + 1, features + 1].
    """
    found: Matrix = np.square(weights[:, :-1]).sum(axis=0) * np.diagonal(sums)[:-1]
    return found


def shares_of(products: Sequence[tuple[Product, ProductTable]], coupling: Coupling, roots: Labels) -> Matrix:
    """What an unfitted layer loses with each unit, as a share of the power of all that it sums.

    Args:
        products: of one layer, with the sums of the products of their rows.
        coupling: with the labels of all axes.
        roots: of the units.
    """
    powers = [strengths(product.linear.weights, sums) / max(1.0, float(sums[-1, -1])) for product, sums in products]
    total = max(sum(float(power.sum()) for power in powers), float(np.finfo(np.float32).tiny))
    found = np.zeros(len(roots))
    for (product, _), power in zip(products, powers, strict=True):
        if product.layer.reads is not None:
            found += [power[columns].sum() for columns in columns_of(product.layer, coupling, roots, 1)]
    return found / total


def silent_places(layers: Sequence[Layer], units: Iterable[Unit]) -> list[Place]:
    """Where zeros let these layers not read the units; all places of the units if there are none."""
    if not layers:
        return [place for unit in units for place in unit.places]
    axes = {(id(layer.node.inputs[index]), axis) for layer in layers for index, axis in _summed(layer.node)}
    return [place for unit in units for place in unit.places if (id(place.constant), place.axis) in axes]
