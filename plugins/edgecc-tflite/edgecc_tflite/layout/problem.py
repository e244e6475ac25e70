"""Layout as one optimization problem over the graph.

**Formulation.** Every operator works in a configuration: a memory order for each of its operands. A tensor lies in the
order in which its producer writes it. A reader that wants another order reads a transposed copy; readers that want the
same order share it. The cost of a choice of configurations is

    sum over tensors t of  bytes(t) * number of distinct orders, other than the producer's, in which t is read.

Orders that differ only in axes of size 1 hold the same bytes and count as the same. Constants cost nothing: they are
permuted here and now. A TRANSPOSE in the graph is no cost but a relation: its output in some order is its input in the
corresponding one.

**Moves.** The lowering's own choice is valid: everything as declared. A *proposal* gives each tensor another order: it
starts at operators that work in one way only (convolutions, the model's inputs) and spreads through the others as far
as they allow. Whether an operator keeps its configuration or takes the proposed one is a bit, and the best combination
of bits is a minimum cut: since a proposal names one order per tensor, taking it on both sides of a tensor costs
nothing, which makes every term submodular. That is the expansion move of Boykov, Veksler and Zabih ("Fast approximate
energy minimization via graph cuts", 2001) in the form that fuses two labelings (Lempitsky, Rother, Roth, Blake: "Fusion
moves for Markov random field optimization", 2010). With one proposal, channels-last, and nothing else to choose from,
the result is the exact optimum; further proposals (see `solver`) can only improve it.

"One transposed copy serves many readers" is exact too: an auxiliary node per tensor and order is on one side as soon as
one reader is, and the cost hangs on that node alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from edgecc_tflite.ir import Graph, Operator, Tensor
from edgecc_tflite.layout.behaviours import Config, as_declared, behaviour_of, operands
from edgecc_tflite.layout.min_cut import FlowNetwork
from edgecc_tflite.layout.orders import Order, bytes_key, identity

#: What one TRANSPOSE costs beyond moving its bytes, in bytes.
OVERHEAD = 1024

#: Pseudo operators that stand for the outside world; they only exist inside the problem.
SOURCE, SINK = "graph inputs", "graph outputs"


@dataclass
class Problem:
    """The operators with their current configurations.

    Attributes:
        operators: in execution order; first SOURCE, last SINK.
        config: the current choice, by operator.
        producer, readers: of each tensor: operator and the operand's number.
        free_ends: inputs and outputs of the graph that may take another order (`io_layout=nhwc`).
    """

    operators: list[Operator]
    config: dict[Operator, Config] = field(default_factory=dict)
    producer: dict[Tensor, tuple[Operator, int]] = field(default_factory=dict)
    readers: dict[Tensor, list[tuple[Operator, int]]] = field(default_factory=dict)
    free_ends: frozenset[Tensor] = frozenset()

    @classmethod
    def of(cls, graph: Graph, free_ends: frozenset[Tensor] = frozenset()) -> Problem:
        """The graph with everything as declared."""
        ends = [Operator(SOURCE, [], [t]) for t in graph.inputs], [Operator(SINK, [t], []) for t in graph.outputs]
        problem = cls([*ends[0], *graph.operators, *ends[1]], free_ends=free_ends)
        for op in problem.operators:
            problem.config[op] = as_declared(op)
            for number, tensor in enumerate(operands(op)):
                if tensor is None or tensor.is_constant:
                    continue
                if number < len(op.inputs):
                    problem.readers.setdefault(tensor, []).append((op, number))
                else:
                    problem.producer[tensor] = op, number
        return problem

    def order_at(self, op: Operator, number: int) -> Order | None:
        """The order in which an operator has one of its operands."""
        return self.config[op][number]

    def is_copied(self, tensor: Tensor) -> bool:
        """Whether some reader wants other bytes than the producer writes."""
        orders = (self.order_at(op, number) for op, number in self.neighbours(tensor))
        return len({bytes_key(tensor.shape, order or identity(tensor.rank)) for order in orders}) > 1

    def neighbours(self, tensor: Tensor) -> Iterable[tuple[Operator, int]]:
        yield self.producer[tensor]
        yield from self.readers.get(tensor, ())


@dataclass
class Proposal:
    """Another order for each tensor that it reaches, and the configurations of the operators that follow it."""

    order: dict[Tensor, Order] = field(default_factory=dict)
    config: dict[Operator, Config] = field(default_factory=dict)

    @classmethod
    def spreading(
        cls,
        problem: Problem,
        seeds: Iterable[Operator],
        *,
        only: Callable[[Tensor], bool] | None = None,
        most_operators: int | None = None,
    ) -> Proposal:
        """Start with the orders in which the seeds' operands lie and go as far as the operators allow.

        Args:
            problem: where to spread.
            seeds: operators that stay as they are.
            only: which of the seeds' operands to start from; all if None.
            most_operators: stop when so many follow; None for as far as they allow.
        """
        proposal = cls()
        queue: deque[Tensor] = deque()
        for op in seeds:
            proposal.config[op] = problem.config[op]
            for tensor, order in zip(operands(op), problem.config[op], strict=True):
                if order is None or tensor is None or tensor.is_constant or tensor in proposal.order:
                    continue
                if only is None or only(tensor):
                    proposal.order[tensor] = order
                    queue.append(tensor)
        while queue and (most_operators is None or len(proposal.config) < most_operators):
            tensor = queue.popleft()
            for op, number in problem.neighbours(tensor):
                if op not in proposal.config:
                    queue.extend(proposal._follow(op, number, problem.free_ends))
        return proposal

    def _follow(self, op: Operator, number: int, free_ends: frozenset[Tensor]) -> list[Tensor]:
        """Let an operator follow the order of one operand; returns tensors that got their order by that."""
        tensors = operands(op)
        tensor = tensors[number]
        assert tensor is not None
        if op.builtin in (SOURCE, SINK):
            if tensor in free_ends:
                self.config[op] = (self.order[tensor],)
            return []
        config = behaviour_of(op.builtin).propose(op, number, self.order[tensor])
        if config is None:
            return []
        # Where another operand has another order already, following it costs a transpose there; the cut decides.
        self.config[op] = config
        reached: list[Tensor] = []
        for other, order in zip(tensors, config, strict=True):
            if other is None or order is None or other.is_constant or other in self.order:
                continue
            self.order[other] = order
            reached.append(other)
        return reached


class Cut:
    """The minimum cut that decides which operators take a proposal: the source's side takes it.

    Args:
        problem: what to improve.
        proposal: what operators may take.
        eager: whether operators take it where that costs the same.
    """

    def __init__(self, problem: Problem, proposal: Proposal, *, eager: bool) -> None:
        self._problem = problem
        self._eager = eager
        self._proposal = proposal
        #: Operators with a real choice, in the proposal's order: a short proposal in a large graph is quickly decided.
        self._free = {op: None for op, config in proposal.config.items() if config != problem.config[op]}
        self._group = _Groups()
        self._terms: list[tuple[Tensor, list[tuple[Operator, int]]]] = []

    def taking(self) -> list[Operator]:
        """The operators that should take the proposal, in no particular order."""
        self._collect_terms()
        taking: list[Operator] = []
        for operators, terms in self._components():
            taking.extend(self._solve(operators, terms))
        return taking

    def _collect_terms(self) -> None:
        """Tensors that touch a free operator; free operators around one tensor belong together."""
        seen: set[Tensor] = set()
        for op in self._free:
            for tensor in operands(op):
                if tensor is None or tensor in seen or tensor not in self._proposal.order or tensor.is_constant:
                    continue
                seen.add(tensor)
                touching = list(self._problem.neighbours(tensor))
                self._terms.append((tensor, touching))
                free = [other for other, _ in touching if other in self._free]
                for other in free[1:]:
                    self._group.join(free[0], other)

    def _components(self) -> list[tuple[list[Operator], list[Tensor]]]:
        parts: dict[Operator, tuple[list[Operator], list[Tensor]]] = {}
        for op in self._free:
            parts.setdefault(self._group.leader(op), ([], []))[0].append(op)
        for tensor, touching in self._terms:
            leader = self._group.leader(next(op for op, _ in touching if op in self._free))
            parts[leader][1].append(tensor)
        return list(parts.values())

    def _solve(self, operators: list[Operator], terms: list[Tensor]) -> list[Operator]:
        network = FlowNetwork()
        node = {op: network.node() for op in operators}
        pulls = _Pulls(network)
        for tensor in terms:
            self._add_term(pulls, node, tensor)
        # Most components are forced: nothing speaks for one of the sides.
        if not pulls.towards_source:
            return operators if self._eager and not pulls.towards_sink else []
        if not pulls.towards_sink:
            return operators
        side = network.source_side(largest=self._eager)
        return [op for op in operators if side[node[op]]]

    def _add_term(self, pulls: _Pulls, node: dict[Operator, int], tensor: Tensor) -> None:
        """The cost of one tensor; see the module's text.

        An operator that follows the proposal from another operand may want a third order here. That is counted as one
        transpose of its own, which is right or too much: the cut never makes the graph worse than it believes.
        """
        cost = tensor.nbytes + OVERHEAD
        network = pulls.network
        wanted = bytes_key(tensor.shape, self._proposal.order[tensor])
        writer, place = self._problem.producer[tensor]
        written_now = self._key(self._problem.config, writer, place, tensor)
        written = self._side(node, writer, written_now == wanted)
        readers = self._problem.readers.get(tensor, ())
        if readers and self._strays(writer, place, tensor, wanted):
            pulls.edge(node[writer], network.SINK, cost)

        takers: list[int] = []
        keepers: dict[Order, list[int]] = {}
        for op, number in readers:
            key = self._key(self._problem.config, op, number, tensor)
            side = self._side(node, op, key == wanted)
            if self._strays(op, number, tensor, wanted):
                pulls.edge(node[op], network.SINK, cost)
            else:
                takers.append(side)
            if side != network.SOURCE:
                keepers.setdefault(key, []).append(side)
        # Some reader takes the proposed order and the producer does not.
        pulls.edge(self._any(network, takers, forwards=True), written, cost)
        # Some reader keeps an order in which the producer does not write.
        for key, sides in keepers.items():
            origin = written if key == written_now else network.SOURCE
            pulls.edge(origin, self._any(network, sides, forwards=False), cost)

    @staticmethod
    def _side(node: dict[Operator, int], op: Operator, has_it_now: bool) -> int:
        """The operator's node; a terminal if it has the proposed order anyway or has no choice."""
        return FlowNetwork.SOURCE if has_it_now else node.get(op, FlowNetwork.SINK)

    @staticmethod
    def _key(configs: dict[Operator, Config], op: Operator, number: int, tensor: Tensor) -> Order:
        order = configs[op][number]
        return bytes_key(tensor.shape, identity(tensor.rank) if order is None else order)

    def _strays(self, op: Operator, number: int, tensor: Tensor, wanted: Order) -> bool:
        """Whether the operator, following the proposal, has another order here than the proposal."""
        return op in self._free and self._key(self._proposal.config, op, number, tensor) != wanted

    @staticmethod
    def _any(network: FlowNetwork, nodes: Sequence[int], *, forwards: bool) -> int:
        """A node on the source's (forwards) or the sink's side as soon as one of the nodes is."""
        distinct = list(dict.fromkeys(nodes))
        decided = network.SOURCE if forwards else network.SINK
        if decided in distinct:
            return decided
        if len(distinct) == 1:
            return distinct[0]
        if not distinct:
            return network.SINK if forwards else network.SOURCE
        gate = network.node()
        for other in distinct:
            network.edge(*((other, gate) if forwards else (gate, other)), 1 << 62)
        return gate


class _Pulls:
    """Notes whether anything at all pulls towards the source or the sink."""

    def __init__(self, network: FlowNetwork) -> None:
        self.network = network
        self.towards_source = self.towards_sink = False

    def edge(self, start: int, end: int, cost: int) -> None:
        if start == end or start == self.network.SINK or end == self.network.SOURCE:
            return
        if (start, end) == (self.network.SOURCE, self.network.SINK):
            return
        self.towards_source |= start == self.network.SOURCE
        self.towards_sink |= end == self.network.SINK
        self.network.edge(start, end, cost)


class _Groups:
    """Disjoint sets of operators."""

    def __init__(self) -> None:
        self._parent: dict[Operator, Operator] = {}

    def leader(self, op: Operator) -> Operator:
        parent = self._parent
        root = op
        while (above := parent.get(root, root)) is not root:
            root = above
        while op is not root:
            parent[op], op = root, parent.get(op, op)
        return root

    def join(self, a: Operator, b: Operator) -> None:
        a, b = self.leader(a), self.leader(b)
        if a is not b:
            self._parent[b] = a


def cost_of(problem: Problem) -> int:
    """The cost of the current configurations."""
    total = 0
    for tensor, (writer, place) in problem.producer.items():
        order = problem.config[writer][place] or identity(tensor.rank)
        wanted = {
            bytes_key(tensor.shape, problem.config[op][number] or order)
            for op, number in problem.readers.get(tensor, ())
        }
        total += len(wanted - {bytes_key(tensor.shape, order)}) * (tensor.nbytes + OVERHEAD)
    return total
