"""Residual blocks of a model: branches whose result is added to what they read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgecc.inspection import macs
from edgecc.pruning.works import weights_of
from edgecc.rewriting.reading import constant, same_shape

if TYPE_CHECKING:
    from edgecc.model import Model, Node, Tensor


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
            return sum(macs(node) for node in self.nodes)
        inside = {id(node) for node in self.nodes}
        weights = {id(tensor): tensor for node in self.nodes for tensor in weights_of(node)}
        # What others read too stays.
        gone = [tensor for tensor in weights.values() if all(id(reader) in inside for reader in tensor.outputs)]
        return sum(int(tensor.values.size) for tensor in gone)


def find_blocks(model: Model) -> tuple[list[Block], list[tuple[Node, str]]]:
    """Residual blocks in the order of the model, and additions of two branches that are none, with the reason.

    Only branches that are added to the very tensor that they read, of the same shape: what is left without one is the
    shortcut alone, and nothing else has to change.
    """
    order = {id(node): index for index, node in enumerate(model.nodes())}
    blocks, others = [], []
    for adder in model.nodes("Add"):
        if any(constant(adder, place) is not None for place in (0, 1)) or adder.inputs[0] is adder.inputs[1]:
            continue
        tensors = list(adder.inputs)
        found = [_block(adder, tensors[1 - place], tensors[place], model, order) for place in (0, 1)]
        whole = [block for block in found if isinstance(block, Block)]
        reasons = [reason for reason in found if isinstance(reason, str)]
        if whole:
            blocks.append(whole[0])
        elif reasons:
            others.append((adder, reasons[0]))
    return blocks, others


def _block(adder: Node, shortcut: Tensor, branch: Tensor, model: Model, order: dict[int, int]) -> Block | str | None:
    """The block; the reason if it is none, and None if its branch has no weights."""
    nodes = _private(adder, branch, shortcut, model)
    if not any(map(weights_of, nodes)):
        return None
    if not _reads(nodes, branch, shortcut, model):
        return "what it adds to is not what the branch reads: its shortcut computes something"
    if not (same_shape(shortcut, branch) and same_shape(shortcut, adder.outputs[0])):
        return "its branch and its shortcut differ in shape"
    return Block(adder, shortcut, branch, tuple(sorted(nodes, key=lambda node: order[id(node)])))


def _private(adder: Node, branch: Tensor, shortcut: Tensor | None, model: Model) -> list[Node]:
    """Nodes that only the branch needs."""
    found = _behind([branch], shortcut, model)
    kept = {id(node): node for node in found}
    changed = True
    while changed:
        changed = False
        for node in list(kept.values()):
            pairs = [(tensor, reader) for tensor in node.outputs for reader in model.consumers(tensor)]
            needed = any(
                id(reader) not in kept and not (reader is adder and tensor is branch) for tensor, reader in pairs
            )
            if needed or any(model.is_output(tensor) for tensor in node.outputs):
                del kept[id(node)]
                changed = True
    producer = model.producer(branch)
    return list(kept.values()) if producer is not None and id(producer) in kept else []


def _reads(nodes: Iterable[Node], branch: Tensor, shortcut: Tensor, model: Model) -> bool:
    """Whether the branch is computed from the shortcut, perhaps through nodes that others need too."""
    if any(tensor is shortcut for node in nodes for tensor in node.inputs):
        return True
    found = _behind([branch], shortcut, model)
    return any(tensor is shortcut for node in found for tensor in node.inputs)


def _behind(tensors: Iterable[Tensor], stop: Tensor | None, model: Model) -> list[Node]:
    """Nodes of the main graph that the tensors are computed from, without going through `stop`."""
    found: dict[int, Node] = {}
    waiting = list(tensors)
    while waiting:
        tensor = waiting.pop()
        node = None if tensor is stop else model.producer(tensor)
        if node is None or id(node) in found or model.is_inner(node):
            continue
        found[id(node)] = node
        waiting += list(node.inputs)
    return list(found.values())
