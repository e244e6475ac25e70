"""Divides channels where they are computed and multiplies weights where they are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from edgecc.rewriting.affine import data_index, is_affine
from edgecc.rewriting.linear import Linear
from edgecc.rewriting.reading import constant, has_operand, is_op, rank

if TYPE_CHECKING:
    from edgecc.model import Model, Node, Tensor
    from edgecc.passes.base import PassContext
    from edgecc.quantization.equalization import Division
    from edgecc.statistics.answers import Array


@dataclass(frozen=True)
class Scaling:
    """A node with constants that scale channels: a normalization's scale and bias, or the factor of a Mul.

    Attributes:
        node: the node.
        places: of the constants among its inputs.
        axis: of the channels in its output.
        outputs: number of channels.
    """

    node: Node
    places: tuple[int, ...]
    axis: int
    outputs: int

    @property
    def last(self) -> Node:
        """The node itself."""
        return self.node

    def output_axis(self) -> int | None:
        """The axis of the channels."""
        return self.axis

    def divide(self, factors: Array, model: Model) -> None:
        """Divide its constants; one value per channel, whatever their rank."""
        for place in self.places:
            values = constant(self.node, place)
            assert values is not None, "it was constant when it was found"
            shape = [1] * values.ndim
            shape[next(i for i, size in enumerate(values.shape) if size == self.outputs)] = self.outputs
            divided = (values / factors.reshape(shape)).astype(values.dtype)
            model.set_input(self.node, place, model.constant(self.node.inputs[place].name, divided))


def rescale(divisions: Sequence[Division], model: Model) -> str:
    """Carry divisions out in the graph.

    Returns:
        Why nothing was changed: a type of weights that does not reach; "" if all was.
    """
    linears: dict[int, Linear] = {}
    for division in divisions:
        members = [s for s in division.region.sources if isinstance(s, Linear)]
        for linear in (*members, *(reader.linear for reader in division.region.readers)):
            linears.setdefault(id(linear.node), linear)
    biases: dict[int, Array] = {}
    weights = {key: linear.weights for key, linear in linears.items()}
    for division in divisions:
        _scale_weights(division, linears, weights, biases)
    for key, linear in linears.items():
        reason = linear.refuses(weights[key], biases.get(key))
        if reason is not None:
            return reason
    for key, linear in linears.items():
        linear.update(model, weights[key], biases.get(key))
    for division in divisions:
        for source in division.region.sources:
            if isinstance(source, Scaling):
                source.divide(division.factors, model)
        rename(division.region.tensors, model)
    return ""


def report(divisions: Sequence[Division], reason: str, ctx: PassContext) -> bool:
    """Say of every source what became of its channels, or why nothing did; whether something did.

    Args:
        divisions: that `rescale` was given.
        reason: what it returned.
        ctx: of the pass.
    """
    for division in divisions:
        low, high = float(division.factors.min()), float(division.factors.max())
        what = f"its channels were divided by {low:.3g} to {high:.3g}, and multiplied again where they are read"
        readers = [reader.linear.node for reader in division.region.readers]
        for source in division.region.sources:
            if reason:
                ctx.skip(source.node, reason)
            else:
                ctx.done(source.node, what, [source.node, *readers])
    return not reason


def _scale_weights(
    division: Division, linears: dict[int, Linear], weights: dict[int, Array], biases: dict[int, Array]
) -> None:
    for source in division.region.sources:
        if not isinstance(source, Linear):
            continue
        key = id(source.node)
        inverse = 1 / division.factors
        weights[key] = replace(linears[key], weights=weights[key]).scale_outputs(inverse)
        bias = source.bias()
        if bias is not None:
            biases[key] = source.rounded(bias * inverse)
    for reader in division.region.readers:
        key = id(reader.linear.node)
        factors = division.factors[reader.channels.index]
        weights[key] = replace(linears[key], weights=weights[key]).scale_inputs(factors)


def rename(tensors: Sequence[Tensor], model: Model) -> None:
    """A name keeps meaning the same values: those that come to hold others get new ones."""
    for tensor in tensors:
        tensor.name = model.fresh_name(f"{tensor.name}_scaled")


def scaling_of(node: Node) -> Scaling | None:
    """A node with constants that scale channels, if it is one.

    LayerNormalization and RMSNormalization over the last axis with constant scale and bias, of one value per channel,
    and Mul by a constant with more than one value along one axis only.
    """
    if is_op(node, "LayerNormalization", "RMSNormalization"):
        axes = rank(node.inputs[0])
        if axes is None or int(node.attrs.get("axis", -1)) not in (-1, axes - 1):
            return None
        places = (1, 2) if has_operand(node, 2) else (1,)
        values = [constant(node, place) for place in places]
        channels = values[0].size if values[0] is not None else 0
        if channels < 2 or any(found is None or found.shape != (channels,) for found in values):
            return None
        return Scaling(node, places, axes - 1, channels)
    if not is_op(node, "Mul") or not is_affine(node):
        return None
    place, axes = 1 - data_index(node), rank(node.outputs[0])
    found = constant(node, place)
    if found is None or axes is None or found.dtype.kind != "f" or found.ndim > axes:
        return None
    long = [axis for axis, size in enumerate(found.shape) if size > 1]
    return Scaling(node, (place,), long[0] + axes - found.ndim, found.size) if len(long) == 1 else None


def clipped_to(node: Node) -> float:
    """The upper bound of a Clip."""
    values = constant(node, 2)
    return float(np.asarray(values)) if values is not None else np.inf
