"""Matching: whether a node is the last one of a pattern, which tensors stand for what, and if not, why not.

The search walks from the last node along the graph's edges towards its inputs. It is complete: an order of commutative
operands or an alternative that fails further on is taken back. Its work depends on the pattern's size, never on the
graph's, so that a sweep over all nodes is linear.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from edgecc.rewriting.patterns import (
    COMMUTATIVE,
    AnyOf,
    Number,
    Op,
    Pattern,
    Product,
    Rest,
    Scalar,
    Total,
    Value,
    Weight,
)
from edgecc.rewriting.reading import describe, is_close, scalar

if TYPE_CHECKING:
    from edgecc.model import Model, Node, Tensor


@dataclass(frozen=True)
class Match:
    """Where a pattern was found.

    Attributes:
        root: the last node.
        nodes: all nodes of the pattern, the root first.
    """

    root: Node
    nodes: tuple[Node, ...]
    _tensors: dict[int, Tensor]
    _rests: dict[int, tuple[Tensor, ...]]

    def tensor(self, pattern: Pattern) -> Tensor:
        """What stands for that pattern.

        Raises:
            KeyError: it is of an alternative that was not taken; `has` tells.
        """
        return self._tensors[id(pattern)]

    def has(self, pattern: Pattern) -> bool:
        """Whether something stands for it: alternatives that were not taken have nothing."""
        return id(pattern) in self._tensors

    def constant(self, pattern: Pattern) -> np.ndarray:
        """Values of a Weight, Scalar or Number; never write into them."""
        from edgecc.model import value_of

        values = value_of(self.tensor(pattern))
        if values is None:
            raise TypeError("the pattern stands for a computed tensor")
        return values

    def node(self, pattern: Pattern) -> Node:
        """The node that writes what stands for that pattern."""
        node: Node = self.tensor(pattern).inputs[0]
        return node

    def rest(self, pattern: Rest) -> tuple[Tensor, ...]:
        """The tensors that stand for a Rest."""
        return self._rests[id(pattern)]

    @property
    def output(self) -> Tensor:
        return self.root.outputs[0]


class Mismatch(NamedTuple):
    """Why a node is not the last one of a pattern.

    Attributes:
        reason: of the attempt that went furthest.
        nodes: what had matched by then.
    """

    reason: str
    nodes: tuple[Node, ...]


def match(pattern: Pattern, node: Node, model: Model) -> Match | Mismatch:
    """Match the pattern's last node with `node`.

    Every other node of the match is read by nodes of the match alone and is no output of the model, so that it can go.
    """
    search = _Search(model)
    return _first(search, pattern, node) or Mismatch(search.reason, search.nodes)


def find(pattern: Pattern, node: Node, model: Model) -> Match | None:
    """The same without a reason, which takes longer to write than to find out."""
    return _first(_Search(model, explains=False), pattern, node)


def _first(search: _Search, pattern: Pattern, node: Node) -> Match | None:
    for state in search.solutions(pattern, node.outputs[0], _State({}, {}, {})):
        if id(node) not in state.nodes:
            continue  # a product of one factor that is no product: it would stand for the node's whole output
        reason = _read_elsewhere(state, node, search.model)
        if reason is None:
            return Match(node, (node, *(n for n in state.nodes.values() if n is not node)), state.tensors, state.rests)
        search.fail(state, reason, complete=True)
    return None


class _State(NamedTuple):
    """What stands for what so far; extended by copies, so that a search can take a step back."""

    tensors: dict[int, Tensor]
    nodes: dict[int, Node]
    rests: dict[int, tuple[Tensor, ...]]

    def bind(self, pattern: Pattern, tensor: Tensor, *nodes: Node) -> _State:
        added = {id(node): node for node in nodes}
        return self._replace(tensors={**self.tensors, id(pattern): tensor}, nodes={**self.nodes, **added})


class _Search:
    """One search; keeps the reason of the attempt that matched most nodes, if it is to explain."""

    def __init__(self, model: Model, *, explains: bool = True) -> None:
        self.model = model
        self.explains = explains
        self.reason = ""
        self.nodes: tuple[Node, ...] = ()
        self.complete = False

    def fail(self, state: _State, reason: Callable[[], str], *, complete: bool = False) -> None:
        """Note why an attempt failed, one that matched the whole pattern before any that did not."""
        if not self.explains:
            return
        if not self.reason or (complete, len(state.nodes)) > (self.complete, len(self.nodes)):
            self.reason, self.nodes, self.complete = reason(), tuple(state.nodes.values()), complete

    def solutions(self, pattern: Pattern, tensor: Tensor, state: _State) -> Iterator[_State]:
        """Every way in which the tensor can stand for the pattern."""
        bound = state.tensors.get(id(pattern))
        if bound is not None:
            if bound is tensor:
                yield state
            else:
                self.fail(state, lambda: f"{bound.name!r} and {tensor.name!r} should be the same tensor")
            return
        match pattern:
            case Value():
                yield state.bind(pattern, tensor)
            case Weight() | Scalar() | Number():
                yield from self._constant(pattern, tensor, state)
            case Op():
                yield from self._op(pattern, tensor, state)
            case AnyOf():
                for option in pattern.options:
                    for found in self.solutions(option, tensor, state):
                        yield found.bind(pattern, tensor)
            case Product():
                yield from self._chain(pattern, _factors(tensor, self.model), pattern.factors, pattern.scale, state)
            case Total():
                yield from self._chain(pattern, _terms(tensor, self.model), pattern.terms, pattern.constant, state)

    def _constant(self, pattern: Weight | Scalar | Number, tensor: Tensor, state: _State) -> Iterator[_State]:
        from edgecc.model import value_of

        values = value_of(tensor)
        if values is None:
            self.fail(
                state, lambda: f"{tensor.name!r} is computed by {describe(self.model.producer(tensor))}, not constant"
            )
        elif isinstance(pattern, Weight) or (isinstance(pattern, Scalar) and values.size == 1):
            yield state.bind(pattern, tensor)
        elif isinstance(pattern, Scalar):
            self.fail(state, lambda: f"the constant {tensor.name!r} has {values.size} elements, not one")
        elif is_close(scalar(tensor), pattern.value, values.dtype):
            yield state.bind(pattern, tensor)
        else:
            self.fail(state, lambda: f"the constant {tensor.name!r} is not {pattern.value:.6g}")

    def _op(self, pattern: Op, tensor: Tensor, state: _State) -> Iterator[_State]:
        from edgecc.model import is_standard

        node = self.model.producer(tensor)
        if node is None or node.op != pattern.op or not is_standard(node) or node.outputs[0] is not tensor:
            self.fail(state, lambda: f"{tensor.name!r} comes from {describe(node)}, not from {pattern.op}")
            return
        operands = _operands(node)
        patterns = pattern.inputs
        start = state.bind(pattern, tensor, node)
        if patterns and isinstance(patterns[-1], Rest):
            fixed = len(patterns) - 1
            if len(operands) >= fixed:
                rests = {**start.rests, id(patterns[-1]): tuple(operands[fixed:])}
                yield from self._in_order(patterns[:-1], operands[:fixed], start._replace(rests=rests))
            return
        if len(operands) != len(patterns):
            self.fail(start, lambda: f"{describe(node)} has {len(operands)} inputs, not {len(patterns)}")
            return
        yield from self._all(patterns, operands, start)
        if node.op in COMMUTATIVE and len(operands) == 2:
            yield from self._all(patterns, operands[::-1], start)

    def _all(self, patterns: Sequence[Pattern], tensors: Sequence[Tensor], state: _State) -> Iterator[_State]:
        """Each tensor for its pattern; constants first, which cost nothing and tell most where they do not match."""
        pairs = sorted(zip(patterns, tensors, strict=True), key=lambda pair: not isinstance(pair[0], _CONSTANTS))
        yield from self._in_order([pattern for pattern, _ in pairs], [tensor for _, tensor in pairs], state)

    def _in_order(self, patterns: Sequence[Pattern], tensors: Sequence[Tensor], state: _State) -> Iterator[_State]:
        if not patterns:
            yield state
            return
        for found in self.solutions(patterns[0], tensors[0], state):
            yield from self._in_order(patterns[1:], tensors[1:], found)

    def _chain(
        self, pattern: Pattern, chain: _Chain, parts: Sequence[Pattern], number: float, state: _State
    ) -> Iterator[_State]:
        start = state.bind(pattern, chain.tensor, *chain.nodes)
        if len(chain.parts) != len(parts):
            self.fail(start, lambda: f"{chain.tensor.name!r} has {len(chain.parts)} {chain.word}, not {len(parts)}")
            return
        if not is_close(chain.number, number, chain.dtype):
            self.fail(
                start, lambda: f"the constants of {chain.tensor.name!r} make {chain.number:.6g}, not {number:.6g}"
            )
            return
        for order in itertools.permutations(chain.parts):
            yield from self._in_order(parts, order, start)


_CONSTANTS = (Weight, Scalar, Number)


def _read_elsewhere(state: _State, root: Node, model: Model) -> Callable[[], str] | None:
    for node in state.nodes.values():
        if node is root:
            continue
        for tensor in node.outputs:
            if model.is_output(tensor):
                return partial("{!r} is an output of the model".format, tensor.name)
            other = next((reader for reader in tensor.outputs if id(reader) not in state.nodes), None)
            if other is not None:
                return partial("{!r} is read by {} too".format, tensor.name, describe(other))
    return None


def _operands(node: Node) -> list[Tensor]:
    """The node's inputs without empty ones at the end."""
    operands = list(node.inputs)
    while operands and operands[-1].is_empty():
        operands.pop()
    return operands


# ------------------------------------------------------------------------------------------------ products and sums


@dataclass
class _Chain:
    """A tree of Mul and Div, or of Add, Sum and Sub, taken apart.

    Attributes:
        tensor: what the tree computes.
        word: what its parts are called.
        parts: what is not a scalar constant.
        number: what the scalar constants make.
        dtype: of the first of them.
        nodes: the tree's.
    """

    tensor: Tensor
    word: str
    number: float
    parts: list[Tensor] = field(default_factory=list)
    dtype: np.dtype | None = None
    nodes: list[Node] = field(default_factory=list)

    def apply(self, tensor: Tensor, value: float) -> None:
        self.dtype = self.dtype or np.dtype(tensor.dtype)
        self.number = value


#: A tree with more nodes is no pattern's.
_MOST_NODES = 16


def _factors(tensor: Tensor, model: Model) -> _Chain:
    chain = _Chain(tensor, "factors", 1.0)
    pending = [tensor]
    while pending:
        part = pending.pop()
        node = _inside(part, chain, ("Mul", "Div"), model)
        if node is None:
            chain.parts.append(part)
            continue
        a, b = node.inputs
        divisor = scalar(b)
        if node.op == "Div" and not divisor:
            chain.parts.append(part)
            continue
        chain.nodes.append(node)
        if node.op == "Div":
            assert divisor
            chain.apply(b, chain.number / divisor)
            pending.append(a)
            continue
        for operand in (b, a):
            value = scalar(operand)
            if value is None:
                pending.append(operand)
            else:
                chain.apply(operand, chain.number * value)
    return chain


def _terms(tensor: Tensor, model: Model) -> _Chain:
    chain = _Chain(tensor, "terms", 0.0)
    pending = [tensor]
    while pending:
        part = pending.pop()
        node = _inside(part, chain, ("Add", "Sum", "Sub"), model)
        subtracted = None if node is None or node.op != "Sub" else scalar(node.inputs[1])
        if node is None or (node.op == "Sub" and subtracted is None):
            chain.parts.append(part)
            continue
        chain.nodes.append(node)
        if subtracted is not None:
            chain.apply(node.inputs[1], chain.number - subtracted)
            pending.append(node.inputs[0])
            continue
        for operand in node.inputs[::-1]:
            value = scalar(operand)
            if value is None:
                pending.append(operand)
            else:
                chain.apply(operand, chain.number + value)
    return chain


def _inside(part: Tensor, chain: _Chain, ops: tuple[str, ...], model: Model) -> Node | None:
    """The producer, if it belongs to the tree: one of the operators, and read by the tree alone below its top."""
    from edgecc.model import is_standard

    node = model.producer(part)
    if node is None or node.op not in ops or not is_standard(node) or len(chain.nodes) >= _MOST_NODES:
        return None
    if part is not chain.tensor and (len(part.outputs) != 1 or model.is_output(part)):
        return None
    return node
