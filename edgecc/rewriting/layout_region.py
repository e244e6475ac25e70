"""Regions of a graph that can compute in another layout, and what that saves.

A region is connected and made of operators that do not care about the order of axes. Each Transpose at its border can
go where the region takes its layout over, and each border without one gets one: a region is moved where that leaves
fewer of them. All sums are over a node's own tensors, so that the work is linear in the nodes, as long as no tensor of
a region has thousands of readers: each of these looks at all the others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgecc.rewriting.elementwise import has_one_element, is_elementwise
from edgecc.rewriting.reading import is_op, rank
from edgecc.rewriting.shapes import inverse, permutation, permuted

if TYPE_CHECKING:
    from edgecc.model import Model, Node, Tensor

#: Permutations tried per region; others are rarer at its border.
_MOST_PERMUTATIONS = 4
#: Operators with attribute `axis` that work on any axis alike.
_ALONG_AXIS = frozenset({"Concat", "Split"})
#: Those that are fast on the last axis.
_ALONG_LAST_AXIS = frozenset({"LogSoftmax", "Softmax"})


@dataclass(frozen=True)
class Plan:
    """Nodes to compute in the layout that a Transpose with this permutation starts from."""

    region: Region
    nodes: list[Node]
    perm: list[int]

    @property
    def transposes(self) -> list[Node]:
        """Those that the nodes read or that read them."""
        inside = {id(node) for node in self.nodes}
        return [node for node in self.region.transposes() if _touches(node, inside)]

    def apply(self) -> None:
        _Move(self).apply()


class Region:
    """A connected part of the main graph whose operators work in any layout.

    Attributes:
        nodes: in order.
        model: that they are of.
    """

    def __init__(self, nodes: list[Node], model: Model, ignored: set[int]) -> None:
        self.nodes, self.model, self.ignored = nodes, model, ignored
        self.outputs = {id(tensor) for tensor in model.outputs}
        self.tensors = {id(tensor): tensor for node in nodes for tensor in (*node.inputs, *node.outputs)}

    def transposes(self) -> list[Node]:
        """At its border."""
        found = {}
        for node in self.nodes:
            for tensor in node.inputs:
                for producer in tensor.inputs:
                    found[id(producer)] = producer
            for tensor in node.outputs:
                for reader in tensor.outputs:
                    found[id(reader)] = reader
        return [node for node in found.values() if self.permutation_of(node) is not None]

    def best_plan(self) -> Plan | None:
        """The move that saves most; None if none saves anything."""
        best, saved = None, 0
        for perm in self._permutations():
            plan, saving = self._plan(perm)
            if saving > saved:
                best, saved = plan, saving
        return best

    def _permutations(self) -> list[list[int]]:
        inside = {id(node) for node in self.nodes}
        counted: Counter[tuple[int, ...]] = Counter()
        for node in self.transposes():
            perm = self.permutation_of(node)
            assert perm is not None, "transposes() has seen to it"
            before = bool(node.inputs[0].inputs) and id(node.inputs[0].inputs[0]) in inside
            counted[tuple(inverse(perm) if before else perm)] += 1
        return [list(perm) for perm, _ in counted.most_common(_MOST_PERMUTATIONS)]

    def _plan(self, perm: list[int]) -> tuple[Plan, int]:
        """Start with all that can be moved; leave out, from either end, what does not make it worse."""
        inside = {id(node) for node in self.nodes if _movable(node, perm)}
        before = sum(self._count(tensor, set(), perm) for tensor in self.tensors.values())
        for order in (self.nodes, self.nodes[::-1]):
            for node in order:
                if id(node) in inside and self._change(node, inside, perm) <= 0:
                    inside.discard(id(node))
        after = sum(self._count(tensor, inside, perm) for tensor in self.tensors.values())
        return Plan(self, [node for node in self.nodes if id(node) in inside], perm), before - after

    def _change(self, node: Node, inside: set[int], perm: list[int]) -> int:
        """How many more Transposes there are without the node."""
        behind = [reader.outputs[0] for tensor in node.outputs for reader in tensor.outputs if reader.op == "Transpose"]
        touched = {id(tensor): tensor for tensor in (*node.inputs, *node.outputs, *behind)}
        tensors = [tensor for key, tensor in touched.items() if key in self.tensors]
        with_it = sum(self._count(tensor, inside, perm) for tensor in tensors)
        inside.discard(id(node))
        without_it = sum(self._count(tensor, inside, perm) for tensor in tensors)
        inside.add(id(node))
        return without_it - with_it

    def _count(self, tensor: Tensor, inside: set[int], perm: list[int]) -> int:
        """Transposes that a tensor needs if the nodes inside compute in the layout before `perm`.

        One between two tensors of the region is counted where it is read.
        """
        if rank(tensor) != len(perm) or has_one_element(tensor) or not (tensor.inputs or _is_variable(tensor)):
            return 0
        producer = tensor.inputs[0] if tensor.inputs else None
        outside = [reader for reader in tensor.outputs if id(reader) not in inside]
        between = {id(r) for r in outside if r.outputs and id(r.outputs[0]) in self.tensors}
        orders = [self.permutation_of(reader) for reader in outside]
        plain = None in orders or id(tensor) in self.outputs
        wanted = {tuple(o) for o, r in zip(orders, outside, strict=True) if o is not None and id(r) not in between}
        moved = any(id(reader) in inside for reader in tensor.outputs)
        if producer is not None and id(producer) in inside:
            composed = {tuple(perm[axis] for axis in order) for order in wanted}
            return len(composed - {tuple(range(len(perm)))}) + plain
        first = self.permutation_of(producer) if producer is not None else None
        if producer is None or first is None:
            return len(wanted | {tuple(inverse(perm))} if moved else wanted)
        needed = plain or bool(wanted)
        if any(id(node) in inside for node in producer.inputs[0].inputs):
            return int(needed and first != inverse(perm)) + len(wanted) + int(moved)
        return int(needed) + len(wanted) + int(moved and first != perm)

    def permutation_of(self, node: Node) -> list[int] | None:
        """Of a Transpose of the main graph that may be touched; None for every other node."""
        if not is_op(node, "Transpose") or id(node) in self.ignored or self.model.is_inner(node):
            return None
        perm = permutation(node)
        return None if perm is None or perm == sorted(perm) else perm


def regions(model: Model, ignore: Sequence[str] = ()) -> Iterator[Region]:
    """The regions with a Transpose at their border."""
    nodes = model.nodes(ignore=ignore)
    kept = {id(node) for node in nodes}
    ignored = {id(node) for node in model.nodes("Transpose") if id(node) not in kept} if ignore else set()
    members = {id(node): node for node in nodes if _has_any_layout(node)}
    places = {key: place for place, key in enumerate(members)}
    seen: set[int] = set()
    for start in members.values():
        if id(start) in seen:
            continue
        part = _connected(start, members, seen)
        region = Region(sorted(part, key=lambda node: places[id(node)]), model, ignored)
        if region.transposes():
            yield region


def _connected(start: Node, members: dict[int, Node], seen: set[int]) -> list[Node]:
    """Members that are joined to this one by tensors; marks them as seen."""
    seen.add(id(start))
    found, pending = [], [start]
    while pending:
        node = pending.pop()
        found.append(node)
        for other in _neighbours(node):
            if id(other) in members and id(other) not in seen and other.outputs:
                seen.add(id(other))
                pending.append(other)
    return found


def _neighbours(node: Node) -> Iterator[Node]:
    """Who writes what it reads and reads what it writes; those that read the same Transpose, too."""
    for tensor in node.outputs:
        yield from tensor.outputs
    for tensor in node.inputs:
        yield from tensor.inputs
        if tensor.inputs and tensor.inputs[0].op == "Transpose":
            yield from tensor.outputs


def _has_any_layout(node: Node) -> bool:
    """Whether the operator could work on transposed operands, with its constants and axis transposed, too."""
    from edgecc.model import is_standard

    if not node.outputs or not node.inputs or not is_standard(node):
        return False
    count = rank(node.outputs[0])
    if count is None or count < 2 or any(rank(tensor) != count for tensor in node.outputs):
        return False
    if node.op in _ALONG_AXIS or node.op in _ALONG_LAST_AXIS:
        return all(rank(tensor) == count for tensor in (node.inputs if node.op == "Concat" else node.inputs[:1]))
    return is_elementwise(node) and all(_fits(tensor, count) for tensor in node.inputs)


def _fits(tensor: Tensor, count: int) -> bool:
    if tensor.is_empty() or has_one_element(tensor):
        return True
    length = rank(tensor)
    return length is not None and (length == count if _is_variable(tensor) else length <= count)


def _is_variable(tensor: Tensor) -> bool:
    from edgecc.model import value_of

    return value_of(tensor) is None and not tensor.is_empty()


def _movable(node: Node, perm: list[int]) -> bool:
    if rank(node.outputs[0]) != len(perm):
        return False
    return node.op not in _ALONG_LAST_AXIS or perm[_axis(node, len(perm))] == len(perm) - 1


def _axis(node: Node, count: int) -> int:
    default = -1 if node.op in _ALONG_LAST_AXIS else 0
    return int(node.attrs.get("axis", default)) % count


def _touches(transpose: Node, inside: set[int]) -> bool:
    return any(id(node) in inside for node in (*transpose.inputs[0].inputs, *transpose.outputs[0].outputs))


class _Move:
    """Carries a plan out."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.nodes, self.perm, self.region = plan, plan.nodes, plan.perm, plan.region
        self.model = plan.region.model
        self.inside = {id(node) for node in plan.nodes}
        self.origins = _origins(plan.transposes)
        #: What stands for a tensor in the other layout.
        self.moved: dict[int, Tensor] = {}

    def apply(self) -> None:
        transposes = [*self.plan.transposes]
        for node in self.nodes:
            for tensor in node.outputs:
                self.moved[id(tensor)] = self._like(tensor)
        written = [tensor for node in self.nodes for tensor in node.outputs]
        for node in self.nodes:
            self._move(node)
        for tensor in written:
            self._serve(tensor, self.moved[id(tensor)])
        for node in transposes:
            if node.outputs and not node.outputs[0].outputs and not self.model.is_output(node.outputs[0]):
                self.model.remove(node)

    def _like(self, tensor: Tensor) -> Tensor:
        shape = permuted(tensor.shape, inverse(self.perm))
        return self.model.variable(f"{tensor.name}_transposed", tensor.dtype, shape)

    def _move(self, node: Node) -> None:
        for index, tensor in enumerate(list(node.inputs)):
            replacement = self._operand(tensor, node)
            if replacement is not tensor:
                self.model.set_input(node, index, replacement)
        if node.op in _ALONG_AXIS or node.op in _ALONG_LAST_AXIS:
            node.attrs["axis"] = self.perm[_axis(node, len(self.perm))]
        for index, tensor in enumerate(list(node.outputs)):
            self.model.set_output(node, index, self.moved[id(tensor)])

    def _operand(self, tensor: Tensor, node: Node) -> Tensor:
        """The tensor in the other layout."""
        if tensor.is_empty() or has_one_element(tensor) or (node.op == "Split" and tensor is not node.inputs[0]):
            return tensor
        if id(tensor) not in self.moved:
            self.moved[id(tensor)] = self._outside(tensor)
        return self.moved[id(tensor)]

    def _outside(self, tensor: Tensor) -> Tensor:
        from edgecc.model import value_of

        values, back = value_of(tensor), inverse(self.perm)
        if values is not None:
            full = values.reshape((1,) * (len(back) - values.ndim) + values.shape)
            return self.model.constant(tensor.name, np.transpose(full, back))
        producer = self.model.producer(tensor)
        if producer is not None and self.region.permutation_of(producer) == self.perm:
            return producer.inputs[0]
        for reader in tensor.outputs:
            if self.region.permutation_of(reader) == back:
                return reader.outputs[0]
        result = self._like(tensor)
        self.model.add("Transpose", [tensor], [result], attributes={"perm": back}, origins=self.origins)
        return result

    def _serve(self, tensor: Tensor, moved: Tensor) -> None:
        """Give those outside the region what they read."""
        for reader in self.model.consumers(tensor):
            order = self.region.permutation_of(reader)
            if order is None:
                continue
            composed = [self.perm[axis] for axis in order]
            self.model.set_input(reader, 0, moved)
            reader.attrs["perm"] = composed
            if composed == sorted(composed):
                moved = self._cancel(reader, moved)
        if tensor.outputs or self.model.is_output(tensor):
            self.model.add("Transpose", [moved], [tensor], attributes={"perm": self.perm}, origins=self.origins)

    def _cancel(self, transpose: Node, moved: Tensor) -> Tensor:
        """Remove a Transpose that has nothing to do any more; returns what its input is called now."""
        output = transpose.outputs[0]
        if not self.model.redirect(output, moved):
            # Two names of the signature hang on it.
            self.model.replace(transpose, "Identity", [moved])
            return moved
        self.model.remove(transpose)
        return output if self.model.is_output(output) else moved


def _origins(nodes: Iterable[Node]) -> tuple[str, ...]:
    from edgecc.model import merged_origins

    return merged_origins(nodes)
