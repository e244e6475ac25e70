"""Regions of a graph in which each channel can be divided by a factor that linear nodes behind multiply in again."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from edgecc.rewriting.channels import Channels, follow
from edgecc.rewriting.limits import Limits, own_limits
from edgecc.rewriting.linear import LINEAR, Linear, linear_of
from edgecc.rewriting.reading import describe, is_op, same_shape

if TYPE_CHECKING:
    from edgecc.model import Model, Node, Tensor


class Source(Protocol):
    """What writes channels that constants can scale: a `Linear`, or a `Scaling`."""

    @property
    def node(self) -> Node:
        """The node whose constants they are."""
        ...

    @property
    def last(self) -> Node:
        """The node that writes the result."""
        ...

    @property
    def outputs(self) -> int:
        """Number of channels."""
        ...

    def output_axis(self) -> int | None:
        """The axis that they lie along; None if that is not known."""
        ...


@dataclass(frozen=True)
class Reader:
    """A linear node that reads a tensor of a region.

    Attributes:
        linear: the node.
        channels: of what it reads.
    """

    linear: Linear
    channels: Channels


@dataclass(eq=False)
class Region:
    """Tensors with the same channels, from what scales them to the linear nodes that read them.

    Attributes:
        count: number of channels.
        sources: write them; several where residual connections add.
        readers: linear nodes.
        clips: on the way, with bounds that are not scaled along.
        tensors: hold other values once channels are divided.
        refused: why they cannot be, the first reason found; "" if they can.
    """

    count: int
    sources: list[Source] = field(default_factory=list)
    readers: list[Reader] = field(default_factory=list)
    clips: list[Node] = field(default_factory=list)
    tensors: list[Tensor] = field(default_factory=list)
    refused: str = ""

    def refuse(self, reason: str) -> None:
        """Leave it alone for that reason; "" is none."""
        self.refused = self.refused or reason

    def absorb(self, other: Region) -> None:
        """Become one with another region of as many channels."""
        for name in ("sources", "readers", "clips", "tensors"):
            getattr(self, name).extend(getattr(other, name))
        self.refuse(other.refused)


def regions(model: Model, source_of: Callable[[Node], Source | None], ignored: Iterable[int] = ()) -> list[Region]:
    """Every region, those that must be left alone with the reason.

    Args:
        model: sorted; not changed.
        source_of: what a node is the source of; asked of the node that holds the constants.
        ignored: ids of linear nodes that must stay as they are.
    """
    finder = _Finder(model, frozenset(ignored))
    for node in model.nodes():
        finder.visit(node, source_of(node))
    found = {id(region): region for region, _ in finder.known.values()}
    return [region for region in found.values() if region.sources and (region.readers or region.refused)]


def linear_source(node: Node, model: Model) -> Linear | None:
    """A linear node as a source."""
    found = linear_of(node, model) if is_op(node, *LINEAR) else ""
    return None if isinstance(found, str) else found


class _Finder:
    """Goes through the nodes in order, with the region and the channels of each tensor so far."""

    def __init__(self, model: Model, ignored: frozenset[int]) -> None:
        self.model, self.ignored = model, ignored
        self.known: dict[int, tuple[Region, Channels]] = {}

    def visit(self, node: Node, source: Source | None) -> None:
        if id(node.outputs[0]) in self.known:
            return  # the Add of a bias, which belongs to its product
        read = [place for place, tensor in enumerate(node.inputs) if id(tensor) in self.known]
        if is_op(node, "Add", "Sum") and len(read) == len(node.inputs) > 1:
            self._join(node)
        elif read == [0] and is_op(node, *LINEAR):
            self._end(node)
        elif read == [0]:
            self._follow(node)
        else:
            self._refuse(node, read, f"{describe(node)} does not keep positive factors on channels")
        if source is not None:
            self._begin(source)

    def _begin(self, source: Source) -> None:
        axis, node = source.output_axis(), source.node
        if axis is None:
            return
        region = Region(source.outputs, [source])
        if id(node) in self.ignored:
            region.refuse(f"{describe(node)} is excluded")
        if isinstance(source, Linear):
            region.refuse(_shares_weights(node))
        for last in (node,) if source.last is node else (node, source.last):
            self._take(last.outputs[0], region, Channels(axis, np.arange(source.outputs)))

    def _take(self, tensor: Tensor, region: Region, channels: Channels) -> None:
        self.known[id(tensor)] = region, channels
        region.tensors.append(tensor)
        if self.model.is_output(tensor):
            region.refuse(f"{tensor.name!r} is an output of the model")
        if any(self.model.is_inner(reader) for reader in self.model.consumers(tensor)):
            region.refuse(f"a subgraph reads {tensor.name!r}")

    def _follow(self, node: Node) -> None:
        region, channels = self.known[id(node.inputs[0])]
        limits = own_limits(node) if is_op(node, "Clip") else None
        if isinstance(limits, Limits) and limits.low == 0:
            if limits.high < np.inf:
                region.clips.append(node)
            self._take(node.outputs[0], region, channels)
            return
        found = follow(node, channels)
        if isinstance(found, str):
            region.refuse(found)
        else:
            self._take(node.outputs[0], region, found)

    def _join(self, node: Node) -> None:
        """A sum of tensors of one shape: their regions become one."""
        parts = [self.known[id(tensor)] for tensor in node.inputs]
        region, channels = parts[0]
        same = all(same_shape(tensor, node.inputs[0]) for tensor in node.inputs[1:])
        if not same or not all(other.matches(channels) for _, other in parts[1:]):
            self._refuse(node, range(len(parts)), f"the channels of what {describe(node)} adds are not the same")
            return
        for other in [self.known[id(tensor)][0] for tensor in node.inputs[1:]]:
            if other is region:
                continue
            region.absorb(other)
            for tensor in other.tensors:
                self.known[id(tensor)] = region, self.known[id(tensor)][1]
        self._take(node.outputs[0], region, replace(channels, keeps_constants=False))

    def _end(self, node: Node) -> None:
        region, channels = self.known[id(node.inputs[0])]
        linear = linear_of(node, self.model)
        if isinstance(linear, str):
            region.refuse(linear)
            return
        if id(node) in self.ignored:
            region.refuse(f"{describe(node)} is excluded")
        region.refuse(_shares_weights(node))
        if linear.input_axis() != channels.axis or linear.inputs != len(channels.index):
            region.refuse(f"{describe(node)} does not sum over the channels")
        region.readers.append(Reader(linear, channels))

    def _refuse(self, node: Node, places: Iterable[int], reason: str) -> None:
        for place in places:
            self.known[id(node.inputs[place])][0].refuse(reason)


def _shares_weights(node: Node) -> str:
    return f"another node reads the weights of {describe(node)}" if len(node.inputs[1].outputs) > 1 else ""
