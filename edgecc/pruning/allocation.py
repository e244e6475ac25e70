"""How many units each group loses, so that the whole meets a budget at the least error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgecc.pruning.features import Matrix
from edgecc.pruning.saliency import Curve

if TYPE_CHECKING:
    from edgecc.pruning.groups import Coupling
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

    def left_at(self, gone: Sequence[int], group: int, counts: Labels) -> Matrix:
        """The same for each of these counts of one group's units that are gone, in place of `gone[group]`."""
        if group not in self.reads and group not in self.writes:
            return np.full(len(counts), self.left(gone))

        def share(channels: dict[int, float], whole: int) -> Matrix:
            lost = sum(per * (counts if other == group else gone[other]) for other, per in channels.items())
            return np.maximum(0.0, 1 - np.asarray(lost, np.float64) / max(1, whole))

        return self.size * share(self.reads, self.inputs) * share(self.writes, self.outputs)


def per_unit(labels: Labels, coupling: Coupling, owner: dict[int, int], sizes: Sequence[int]) -> dict[int, float]:
    """Indices of an axis that go with one unit of each group, on average."""
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

    def savings(group: int, counts: Labels) -> Matrix:
        saved = np.zeros(len(counts))
        for i in touching[group]:
            saved += now[i] - works[i].left_at(gone, group, counts)
        return saved

    def next_step(group: int) -> tuple[float, int] | None:
        """Error per work of the cheapest step ahead, and the count that it leads to."""
        counts = _stops(gone[group], len(curves[group].order), multiples[group], sizes[group])
        saved = savings(group, counts)
        counts, saved = counts[saved > 0], saved[saved > 0]
        if not len(counts):
            return None
        errors = curves[group].errors
        prices = (errors[counts] - errors[gone[group]]) / np.maximum(saved, 1e-9)
        best = int(np.argmin(prices))
        return float(prices[best]), int(counts[best])

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
        enough = stops[sum(now) - savings(group, stops) <= budget * total]
        gone[group] = int(enough[0]) if len(enough) else step[1]
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
        counts = np.append(0, _stops(0, gone[group] - 1, multiples[group], sizes[group]))
        left = sum((work.left_at(gone, group, counts) for work in works), np.zeros(len(counts)))
        enough = counts[left <= most]
        if len(enough):
            gone = [*gone[:group], int(enough[0]), *gone[group + 1 :]]
    return gone


def _stops(start: int, most: int, multiple: int, size: int) -> Labels:
    """Counts behind `start` that leave a multiple."""
    counts = np.arange(start + 1, most + 1)
    found: Labels = counts[(size - counts) % multiple == 0]
    return found


def uniform(curves: Sequence[Curve], ratio: float, multiples: Sequence[int], sizes: Sequence[int]) -> list[int]:
    """The same share of every group, rounded down to what leaves a multiple."""
    gone = []
    for curve, multiple, size in zip(curves, multiples, sizes, strict=True):
        stops = _stops(0, len(curve.order), multiple, size)
        gone.append(int(stops[stops <= ratio * size + 1e-9].max(initial=0)))
    return gone


def share_left(works: Sequence[Work], gone: Sequence[int]) -> float:
    """Of the work, when so many units are gone."""
    total = sum(work.size for work in works)
    return float(np.sum([work.left(gone) for work in works]) / max(1, total))
