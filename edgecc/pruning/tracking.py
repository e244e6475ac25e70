"""Labels of the axes of tensors, while a model is walked through.

Every index of an axis that could be made shorter has a label. Operators carry labels from tensor to tensor and tie
those together that can only go together (DepGraph, arXiv 2301.12900); since each index has a label of its own, Concat,
Split, Flatten and channel shuffles are nothing but rearranged arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgecc.pruning.ties import Labels, Ties
from edgecc.rewriting.reading import describe

if TYPE_CHECKING:
    from edgecc.model import Model, Node, Tensor


@dataclass(frozen=True)
class Factorization:
    """A long axis that a Reshape takes apart into several, or that it is made of.

    Only what is rectangular can be removed: whole indices of one of the factors. Which one is decided at the end.

    Attributes:
        long: labels of the long axis.
        factors: labels of each shorter axis; None for one that can lose nothing.
        sizes: of the shorter axes; their product is the length of the long one.
    """

    long: Labels
    factors: tuple[Labels | None, ...]
    sizes: tuple[int, ...]

    def spread(self, index: int) -> Labels:
        """The labels of one factor, for each index of the long axis."""
        labels = self.factors[index]
        assert labels is not None
        shape = [1] * len(self.sizes)
        shape[index] = self.sizes[index]
        return np.broadcast_to(labels.reshape(shape), self.sizes).reshape(-1)


@dataclass(frozen=True)
class Layer:
    """A node with constant weights.

    Attributes:
        node: Conv, ConvTranspose, Gemm or MatMul.
        reads: labels of the features that it sums over, one for each channel that it reads; None if it sums over
            something that has none.
        writes: labels of its output channels.
        group: of a convolution; channels are those of all groups.
    """

    node: Node
    reads: Labels | None
    writes: Labels
    group: int = 1


class Tracker:
    """Labels of a model's axes.

    Attributes:
        model: not changed.
        ties: of the labels.
        layers: nodes with weights, in order.
        factorizations: in the order in which they were met.
        heads: labels of axes that products of two computed tensors are batched over, and of those that such an axis is
            made of.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self.ties = Ties()
        self.layers: list[Layer] = []
        self.factorizations: list[Factorization] = []
        self.heads: list[Labels] = []
        self._tensors: dict[int, Tensor] = {}
        self._labels: dict[int, dict[int, Labels]] = {}
        self._handled: set[tuple[int, int, int]] = set()
        self._fixed = {id(tensor): f"{tensor.name!r} is an input of the model" for tensor in model.inputs}

    # -------------------------------------------------------------------------------------------------- labels

    def of(self, tensor: Tensor) -> dict[int, Labels]:
        """The labels of each axis that has any."""
        return self._labels.get(id(tensor), {})

    def tensors(self) -> list[Tensor]:
        """Those with labels, in the order in which they got them."""
        return [self._tensors[key] for key in self._labels]

    def fresh(self, tensor: Tensor, axis: int) -> Labels:
        """New labels for an axis that has none, otherwise those that it has."""
        known = self.of(tensor).get(axis)
        if known is not None:
            return known
        labels = self.ties.fresh(length(tensor, axis))
        self.tie(tensor, axis, labels)
        return labels

    def tie(self, tensor: Tensor, axis: int, labels: Labels) -> None:
        """Give an axis these labels, or tie them to those that it has."""
        size = length(tensor, axis)
        if size != len(labels):
            raise AssertionError(f"axis {axis} of {tensor.name!r} has {size} indices and gets {len(labels)} labels")
        if id(tensor) in self._fixed:
            self.ties.freeze(labels, self._fixed[id(tensor)])
            return
        self._tensors[id(tensor)] = tensor
        axes = self._labels.setdefault(id(tensor), {})
        if axis in axes:
            self.ties.unite(axes[axis], labels)
        else:
            axes[axis] = labels

    def factorize(self, long: Labels, factors: Sequence[Labels | None], sizes: Sequence[int]) -> None:
        """Say that an axis is made of others; one of the factors is chosen by `settle`."""
        self.factorizations.append(Factorization(long, tuple(factors), tuple(sizes)))

    # ------------------------------------------------------------------------------------------- what a rule did

    def handle(self, node: Node, index: int, axis: int) -> None:
        """Say that the node does well without indices of this axis of its input."""
        self._handled.add((id(node), index, axis))

    def is_handled(self, node: Node, index: int, axis: int) -> bool:
        return (id(node), index, axis) in self._handled

    def freeze(self, tensor: Tensor, reason: str, axis: int | None = None) -> None:
        """Keep all of one axis, or of every axis, of a tensor."""
        for place, labels in self.of(tensor).items():
            if axis is None or place == axis:
                self.ties.freeze(labels, reason)

    # ------------------------------------------------------------------------------------------------- the end

    def settle(self) -> None:
        """Keep what is unhandled or leaves the model, and choose a factor of each factorization."""
        for node in self.model.all_nodes():
            inner = self.model.is_inner(node)
            for index, tensor in enumerate(node.inputs):
                for axis, labels in self.of(tensor).items():
                    if inner or not self.is_handled(node, index, axis):
                        self.ties.freeze(labels, f"{describe(node)} needs all of axis {axis} of {tensor.name!r}")
        for tensor in self.model.outputs:
            self.freeze(tensor, f"{tensor.name!r} is an output of the model")
        # Heads that several heads share are heads too: what is put together last is looked at first.
        for item in reversed(self.factorizations):
            if self._are_heads(item.long):
                self.heads += [labels for labels in item.factors if labels is not None]
        for item in self.factorizations:
            self._choose(item)

    def _are_heads(self, labels: Labels) -> bool:
        heads = {int(root) for known in self.heads for root in self.ties.roots(known)}
        return not heads.isdisjoint(self.ties.roots(labels).tolist())

    def _choose(self, item: Factorization) -> None:
        """Tie the long axis to one factor: heads before others, then the one with most indices that may go."""
        open_ones = [
            index for index, labels in enumerate(item.factors) if labels is not None and not self.ties.is_frozen(labels)
        ]

        def rank(index: int) -> tuple[bool, int]:
            labels = item.factors[index]
            assert labels is not None
            return self._are_heads(labels), len(set(self.ties.roots(labels).tolist()))

        chosen = max(open_ones, key=rank, default=None)
        for index, labels in enumerate(item.factors):
            if labels is not None and index != chosen:
                self.ties.freeze(labels, "it is a part of an axis that loses whole indices of another part")
        if chosen is None:
            self.ties.freeze(item.long, "it is taken apart into axes that must stay")
        else:
            self.ties.unite(item.long, item.spread(chosen))


def length(tensor: Tensor, axis: int) -> int:
    """How many indices an axis has.

    Raises:
        AssertionError: it is open or not known; rules look at `is_labelable` first.
    """
    size = tensor.shape[axis] if tensor.shape is not None else None
    if not isinstance(size, int):
        raise AssertionError(f"axis {axis} of {tensor.name!r} is not known to have a length")
    return size


def is_known(tensor: Tensor) -> bool:
    """Whether the number of axes is known."""
    return tensor.shape is not None
