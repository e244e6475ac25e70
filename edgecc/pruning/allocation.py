"""How many units each group loses, so that the whole meets a budget at the least error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgecc.inspection import macs
from edgecc.pruning.saliency import Curve

if TYPE_CHECKING:
    from edgecc.pruning.groups import Coupling, Group
    from edgecc.pruning.ties import Labels


@dataclass(frozen=True)
class Work:
    """Something whose size is a product of what is left of its inputs and of its outputs.

    Attributes:
        size: multiply-accumulates or parameters now.
        reads, writes: channels of each group among its inputs and outputs, by the group's index.
        inputs, outputs: all its channels.
    """

    size: int
    reads: dict[int, float]
    writes: dict[int, float]
    inputs: int
    outputs: int

    def left(self, gone: Sequence[int]) -> float:
        """Its size when so many units of each group are gone."""
        read = 1 - sum(per * gone[group] for group, per in self.reads.items()) / max(1, self.inputs)
        written = 1 - sum(per * gone[group] for group, per in self.writes.items()) / max(1, self.outputs)
        return self.size * max(0.0, read) * max(0.0, written)


def works_of(coupling: Coupling, groups: Sequence[Group], measure: str) -> list[Work]:
    """The layers' multiply-accumulates (`macs`) or weights (`params`)."""
    owner = {unit.root: index for index, group in enumerate(groups) for unit in group.units}
    sizes = [len(group.units) for group in groups]
    works = []
    for layer in coupling.tracker.layers:
        values = layer.node.inputs[1].values
        size = macs(layer.node) if measure == "macs" else int(values.size)
        reads = _per_unit(layer.reads, coupling, owner, sizes) if layer.reads is not None else {}
        inputs = len(layer.reads) if layer.reads is not None else 1
        writes = _per_unit(layer.writes, coupling, owner, sizes)
        works.append(Work(size, reads, writes, inputs, len(layer.writes)))
    return works


def _per_unit(labels: Labels, coupling: Coupling, owner: dict[int, int], sizes: Sequence[int]) -> dict[int, float]:
    """Channels that go with one unit of each group, on average."""
    counts: dict[int, int] = {}
    for root in coupling.root_of(labels).tolist():
        if root in owner:
            counts[owner[root]] = counts.get(owner[root], 0) + 1
    return {group: count / sizes[group] for group, count in counts.items()}


def allocate(
    curves: Sequence[Curve], works: Sequence[Work], budget: float, multiples: Sequence[int], sizes: Sequence[int]
) -> list[int]:
    """Units to remove of each group until at most the share `budget` of the work is left, or nothing more may go.

    Greedily by error per work saved, from one point of a curve to the one ahead that is cheapest per unit.

    Args:
        curves: of the groups.
        works: what is to become less.
        budget: share of its sum.
        multiples: what each group's number of units left shall be divided by.
        sizes: units of each group.
    """
    gone = [0] * len(curves)
    touching = [[i for i, work in enumerate(works) if g in work.reads or g in work.writes] for g in range(len(curves))]
    now = [work.left(gone) for work in works]
    total = sum(work.size for work in works)

    def saving(group: int, count: int) -> float:
        after = [*gone[:group], count, *gone[group + 1 :]]
        return sum(now[i] - works[i].left(after) for i in touching[group])

    def next_step(group: int) -> tuple[float, int] | None:
        """Error per work of the cheapest step ahead, and the count that it leads to."""
        best: tuple[float, int] | None = None
        for count in _stops(gone[group], len(curves[group].order), multiples[group], sizes[group]):
            saved = saving(group, count)
            price = (curves[group].errors[count] - curves[group].errors[gone[group]]) / max(saved, 1e-9)
            if saved > 0 and (best is None or price < best[0]):
                best = price, count
        return best

    steps = [next_step(group) for group in range(len(curves))]
    while sum(now) > budget * total:
        ready = [(step[0], group) for group, step in enumerate(steps) if step is not None]
        if not ready:
            return gone  # the budget cannot be met
        _, group = min(ready)
        step = steps[group]
        assert step is not None
        # Not further than the budget asks for.
        stops = _stops(gone[group], step[1], multiples[group], sizes[group])
        enough = (count for count in stops if sum(now) - saving(group, count) <= budget * total)
        gone[group] = next(enough, step[1])
        for index in touching[group]:
            now[index] = works[index].left(gone)
        neighbours = {other for index in touching[group] for other in (*works[index].reads, *works[index].writes)}
        for other in neighbours | {group}:
            steps[other] = next_step(other)
    return _given_back(gone, curves, works, budget * total, multiples, sizes)


def _given_back(
    gone: list[int],
    curves: Sequence[Curve],
    works: Sequence[Work],
    most: float,
    multiples: Sequence[int],
    sizes: Sequence[int],
) -> list[int]:
    """Let groups keep what need not go after all, now that the last step went further: the most expensive first."""
    for group in sorted(range(len(gone)), key=lambda g: -curves[g].errors[gone[g]]):
        for count in (0, *_stops(0, gone[group] - 1, multiples[group], sizes[group])):
            fewer = [*gone[:group], count, *gone[group + 1 :]]
            if sum(work.left(fewer) for work in works) <= most:
                gone = fewer
                break
    return gone


def _stops(start: int, most: int, multiple: int, size: int) -> list[int]:
    """Counts behind `start` that leave a multiple."""
    return [count for count in range(start + 1, most + 1) if (size - count) % multiple == 0]


def uniform(curves: Sequence[Curve], ratio: float, multiples: Sequence[int], sizes: Sequence[int]) -> list[int]:
    """The same share of every group, rounded down to what leaves a multiple."""
    gone = []
    for curve, multiple, size in zip(curves, multiples, sizes, strict=True):
        stops = [count for count in _stops(0, len(curve.order), multiple, size) if count <= ratio * size + 1e-9]
        gone.append(max(stops, default=0))
    return gone


def share_left(works: Sequence[Work], gone: Sequence[int]) -> float:
    """Of the work, when so many units are gone."""
    total = sum(work.size for work in works)
    return float(np.sum([work.left(gone) for work in works]) / max(1, total))
