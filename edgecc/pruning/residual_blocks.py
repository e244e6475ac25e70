"""Residual blocks of a model: branches whose result is added to what they read."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from edgecc.inspection import total_macs
from edgecc.pruning.works import weights_of
from edgecc.rewriting.reading import constant, same_shape

if TYPE_CHECKING:
    from edgecc.model import Model, Node, Tensor

#: Nodes of an addition's operand among which a layer is looked for where it is no residual branch.
_NEAR = 64


@dataclass(frozen=True)
class Block:
    """A branch that could go.

    Attributes:
        adder: adds the branch to the shortcut.
        shortcut: what the branch reads, and is added to.
        branch: what the branch computes.
        nodes: that nothing but the branch needs, in the order of the model.
    """

    adder: Node
    shortcut: Tensor
    branch: Tensor
    nodes: tuple[Node, ...]

    @property
    def name(self) -> str:
        """That of the addition."""
        return str(self.adder.name)

    def layers(self) -> list[Node]:
        """Those of its nodes that have weights."""
        return [node for node in self.nodes if weights_of(node)]

    def cost(self, measure: str) -> int:
        """Multiply-accumulates (`macs`), or values of its layers' weights (`params`)."""
        if measure == "macs":
            return total_macs(self.nodes)
        inside = {id(node) for node in self.nodes}
        weights = {id(tensor): tensor for node in self.nodes for tensor in weights_of(node)}
        # What others read too stays.
        gone = [tensor for tensor in weights.values() if all(id(reader) in inside for reader in tensor.outputs)]
        return sum(int(tensor.values.size) for tensor in gone)


def find_blocks(model: Model) -> tuple[list[Block], list[tuple[Node, str]]]:
    """Residual blocks in the order of the model, and additions of two branches that are none, with the reason.

    Only branches that are added to the very tensor that they read, of the same shape: what is left without one is the
    shortcut alone, and nothing else has to change.

    Args:
        model: sorted; not changed.
    """
    places = {id(node): place for place, node in enumerate(model.nodes())}
    blocks, others = [], []
    for adder in model.nodes("Add"):
        if any(constant(adder, place) is not None for place in (0, 1)) or adder.inputs[0] is adder.inputs[1]:
            continue
        tensors = list(adder.inputs)
        found = [_block(adder, tensors[1 - place], tensors[place], model, places) for place in (0, 1)]
        whole = [block for block in found if isinstance(block, Block)]
        reasons = [reason for reason in found if isinstance(reason, str)]
        if whole:
            blocks.append(whole[0])
        elif reasons:
            others.append((adder, reasons[0]))
    return blocks, others


def _block(
    adder: Node, shortcut: Tensor, branch: Tensor, model: Model, places: Mapping[int, int]
) -> Block | str | None:
    """The block; the reason if it is none, and None if its branch has no weights."""
    computed = model.producer(shortcut)
    start = -1 if computed is None else places.get(id(computed), -1)
    # Behind the shortcut first: what lies before it may be the whole model, once for each addition.
    if not _reads(branch, shortcut, start, model, places):
        found = any(map(weights_of, islice(_private(adder, branch, shortcut, model, places), _NEAR)))
        return "what it adds to is not what the branch reads: its shortcut computes something" if found else None
    nodes = list(_private(adder, branch, shortcut, model, places))
    if not any(map(weights_of, nodes)):
        return None
    if not (same_shape(shortcut, branch) and same_shape(shortcut, adder.outputs[0])):
        return "its branch and its shortcut differ in shape"
    return Block(adder, shortcut, branch, tuple(reversed(nodes)))


def _private(adder: Node, branch: Tensor, shortcut: Tensor, model: Model, places: Mapping[int, int]) -> Iterator[Node]:
    """Nodes that only the branch needs, the last one first.

    From the end of the model to its beginning: all readers of a node have been looked at before it is.
    """
    kept: dict[int, Node] = {}

    def is_private(node: Node) -> bool:
        return all(
            not model.is_output(tensor)
            and all(id(reader) in kept or (reader is adder and tensor is branch) for reader in tensor.outputs)
            for tensor in node.outputs
        )

    for node in _backwards([branch], shortcut, model, places, goes_on=is_private):
        if is_private(node):
            kept[id(node)] = node
            yield node


def _reads(branch: Tensor, shortcut: Tensor, start: int, model: Model, places: Mapping[int, int]) -> bool:
    """Whether the branch is computed from the shortcut, perhaps through nodes that others need too.

    Nodes up to the place `start`, where the shortcut is computed, do not read it.
    """
    if len(shortcut.outputs) < 2:
        return False
    nodes = _backwards([branch], shortcut, model, places, goes_on=lambda node: places[id(node)] > start)
    return any(tensor is shortcut for node in nodes for tensor in node.inputs)


def _backwards(
    tensors: Iterable[Tensor],
    stop: Tensor,
    model: Model,
    places: Mapping[int, int],
    *,
    goes_on: Callable[[Node], bool],
) -> Iterator[Node]:
    """Nodes of the main graph that the tensors are computed from without `stop`, from the last one of the model on.

    Args:
        tensors: where it begins.
        stop: is not looked behind.
        model: that they are in.
        places: of its nodes.
        goes_on: whether to look behind a node, asked before it is yielded.
    """
    found: dict[int, Node] = {}
    waiting: list[int] = []

    def push(tensor: Tensor) -> None:
        node = None if tensor is stop else model.producer(tensor)
        place = None if node is None else places.get(id(node))
        if node is not None and place is not None and place not in found:
            found[place] = node
            heapq.heappush(waiting, -place)

    for tensor in tensors:
        push(tensor)
    while waiting:
        node = found[-heapq.heappop(waiting)]
        behind = goes_on(node)
        yield node
        for tensor in node.inputs if behind else ():
            push(tensor)
