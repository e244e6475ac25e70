"""Who gets more bits: choices between a few options for each of many, all the best ones of a single exchange rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Choice:
    """One precision that a layer can have.

    Attributes:
        precision: its name.
        cost: in any unit, the same for all layers.
        error: what it leaves; of several layers they add.
    """

    precision: str
    cost: float
    error: float


@dataclass(frozen=True)
class Step:
    """A layer gets a better precision.

    Attributes:
        layer: its place among the layers.
        choice: what it has from then on.
        gain: error less per cost more; infinite where it costs nothing.
    """

    layer: int
    choice: Choice
    gain: float


def exchange(layers: Sequence[Sequence[Choice]]) -> tuple[list[Choice], list[Step]]:
    """The cheapest choice of each layer, and the steps from there to the best one of each, the most gainful first.

    After any number of steps the sum of errors plus a rate times the sum of costs is least for some rate (Shoham and
    Gersho, "Efficient bit allocation for an arbitrary set of quantizers", 1988): no other choices that cost as much or
    less have less error.

    Args:
        layers: the choices of each of them, in any order, one at least.
    """
    start: list[Choice] = []
    steps: list[Step] = []
    for place, choices in enumerate(layers):
        now = min(choices, key=lambda choice: (choice.cost, choice.error))
        start.append(now)
        better = [choice for choice in choices if choice.error < now.error]
        while better:
            # The steepest way down, and the farthest of those that are equal.
            best = max(better, key=lambda choice: (_gain(now, choice), choice.cost, -choice.error))
            steps.append(Step(place, best, _gain(now, best)))
            now = best
            better = [choice for choice in better if choice.error < now.error]
    # A stable sort: the steps of one layer fall in gain already.
    return start, sorted(steps, key=lambda step: -step.gain)


def after(start: Sequence[Choice], steps: Sequence[Step], count: int) -> list[Choice]:
    """The choice of each layer after so many steps."""
    chosen = list(start)
    for step in steps[:count]:
        chosen[step.layer] = step.choice
    return chosen


def _gain(now: Choice, choice: Choice) -> float:
    more = choice.cost - now.cost
    return (now.error - choice.error) / more if more > 0 else float("inf")
