"""Finds the precision of each layer under a budget."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from edgecc.quantization.allocation import Choice, Step, after, exchange

if TYPE_CHECKING:
    from edgecc.passes.base import WorkProgress
    from edgecc.quantization.quantizer import Precision
    from edgecc.quantization.sensitivity import Outcome, Trials, Unit

#: Bits of weights and of data.
BITS: dict[str, tuple[int, int]] = {"int8": (8, 8), "int16": (8, 16), "float16": (16, 32), "float32": (32, 32)}
#: What else a layer could be is tried where it makes at least this share of all noise.
_LEAST_SHARE = 1e-3


@dataclass(frozen=True)
class Budget:
    """What must not be left, or what may be spent.

    Attributes:
        kind: "sqnr" of the worst output in dB, "agreement" of top-1 in percent, "bytes" of weights as share of those
            in float32.
        value: the least of the first two, the most of the last.
    """

    kind: Literal["sqnr", "agreement", "bytes"]
    value: float

    def is_met(self, outcome: Outcome) -> bool:
        """Whether outputs are as exact as it says."""
        if self.kind == "agreement":
            return outcome.top1 is None or 100 * outcome.top1 >= self.value
        return outcome.sqnr_db >= self.value


@dataclass(frozen=True)
class Mix:
    """What was found.

    Attributes:
        choices: of each unit, in order, with the noise that it makes alone; NaN if that was not measured.
        outcome: of all of them together.
        is_met: whether the budget is.
        integer_macs: share of the multiply-accumulates in integers.
        bytes: of weights, as share of float32's.
    """

    choices: list[Choice]
    outcome: Outcome
    is_met: bool
    integer_macs: float
    bytes: float

    def note(self, budget: Budget) -> str:
        """What the user should read."""
        counts: dict[str, int] = {}
        for choice in self.choices:
            counts[choice.precision] = counts.get(choice.precision, 0) + 1
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
        top1 = "" if self.outcome.top1 is None else f", top-1 of {100 * self.outcome.top1:.1f} % kept"
        met = "" if self.is_met else f"; THE BUDGET IS NOT MET: {budget.kind}={budget.value:g} cannot be reached"
        work, size = f"{100 * self.integer_macs:.1f} % of the work", f"{100 * self.bytes:.0f} % of the weights' bytes"
        exact = f"{self.outcome.sqnr_db:.1f} dB{top1} on the samples that it was held to"
        return f"mixed precision: layers are {kinds}; {exact}, {work} in integers, {size}{met}"


def spread(units: Sequence[Unit], precisions: Sequence[str]) -> dict[str, Precision]:
    """The precision of nodes by name; in integers, what only moves or clamps values follows by itself."""
    found: dict[str, Precision] = {}
    for unit, precision in zip(units, precisions, strict=True):
        names = unit.nodes if precision.startswith("float") else unit.computing
        found |= dict.fromkeys(names, precision)  # type: ignore[arg-type]
    return found


@dataclass
class Mixing:
    """The search.

    Attributes:
        units: what precisions are chosen for.
        alone: runs a choice for one unit.
        whole: runs a choice for all, on more samples.
        fixed: precision by name of the nodes that are not up for choice.
        precisions: that a layer may have.
        cannot: pairs of a unit's place and a precision that the target has no kernels for.
        budget: what must be met.
        progress: called after each trial.
    """

    units: Sequence[Unit]
    alone: Trials
    whole: Trials
    fixed: Mapping[str, Precision]
    precisions: Sequence[str]
    cannot: frozenset[tuple[int, str]]
    budget: Budget
    progress: WorkProgress
    _noise: dict[tuple[int, str], float] = field(default_factory=dict)

    def run(self) -> Mix:
        """Measure each layer alone, then the whole as often as bisection needs; nothing alone where that is enough."""
        kinds = [self._cheapest(place) for place in range(len(self.units))]
        choices = [Choice(k, self._cost(unit, k), math.nan) for unit, k in zip(self.units, kinds, strict=True)]
        if self.budget.kind == "bytes" or not self.budget.is_met(self._outcome(choices)):
            start, steps = exchange(self._choices(kinds))
            count = self._most_that_fit(start, steps) if self.budget.kind == "bytes" else self._fewest(start, steps)
            choices = after(start, steps, count)
        outcome = self._outcome(choices)
        spent = self._bytes(choices)
        met = spent <= self.budget.value if self.budget.kind == "bytes" else self.budget.is_met(outcome)
        return Mix(choices, outcome, met, self._integer_share(choices), spent)

    # ---------------------------------------------------------------------------------------------- noise alone

    def _choices(self, least: Sequence[str]) -> list[list[Choice]]:
        for place, precision in enumerate(least):
            self._measure(place, precision)
            self.progress("trying each layer", place + 1, len(self.units))
        whole = sum(self._noise.values())
        found = []
        for place, unit in enumerate(self.units):
            noise = self._noise[place, least[place]]
            others = [kind for kind in self.precisions if kind != least[place] and (place, kind) not in self.cannot]
            if noise < _LEAST_SHARE * whole:
                others = sorted(others, key=lambda kind: -math.prod(BITS[kind]))[:1]
            for kind in others:
                self._measure(place, kind)
            kinds = [least[place], *others]
            found.append([Choice(kind, self._cost(unit, kind), self._noise[place, kind]) for kind in kinds])
            self.progress("trying other precisions", place + 1, len(self.units))
        return found

    def _cheapest(self, place: int) -> str:
        allowed = [kind for kind in self.precisions if (place, kind) not in self.cannot] or ["float32"]
        return min(allowed, key=lambda kind: self._cost(self.units[place], kind))

    def _measure(self, place: int, precision: str) -> None:
        """The noise of one unit alone, all others in float."""
        if precision == "float32" or (precision == "float16" and not self.units[place].weights):
            self._noise[place, precision] = 0.0
            return
        kinds = ["float32"] * len(self.units)
        kinds[place] = precision
        self._noise[place, precision] = self.alone.run({**self.fixed, **spread(self.units, kinds)}).noise

    def _outcome(self, choices: Sequence[Choice]) -> Outcome:
        return self.whole.run({**self.fixed, **spread(self.units, [choice.precision for choice in choices])})

    # ---------------------------------------------------------------------------------------------- what it costs

    def _cost(self, unit: Unit, precision: str) -> float:
        """Of a budget of bytes those; else work in bits times bits, and bytes, each as share of all in int8."""
        weights, data = BITS[precision]
        size = unit.weights * weights / 8
        if self.budget.kind == "bytes":
            return size
        macs = sum(other.macs for other in self.units)
        stored = sum(other.weights for other in self.units)
        return unit.macs * weights * data / 64 / macs + size / max(1, stored)

    def _bytes(self, choices: Sequence[Choice]) -> float:
        pairs = zip(self.units, choices, strict=True)
        size = sum(unit.weights * BITS[choice.precision][0] / 32 for unit, choice in pairs)
        return size / max(1, sum(unit.weights for unit in self.units))

    def _integer_share(self, choices: Sequence[Choice]) -> float:
        pairs = zip(self.units, choices, strict=True)
        work = sum(unit.macs for unit, choice in pairs if choice.precision.startswith("int"))
        return work / sum(unit.macs for unit in self.units)

    # ---------------------------------------------------------------------------------------------- how many steps

    def _most_that_fit(self, start: Sequence[Choice], steps: Sequence[Step]) -> int:
        """Steps of least gain are undone until the bytes fit."""
        fitting = [n for n in range(len(steps) + 1) if self._bytes(after(start, steps, n)) <= self.budget.value]
        return max(fitting, default=0)

    def _fewest(self, start: Sequence[Choice], steps: Sequence[Step]) -> int:
        """Steps after which the whole model meets the accuracy, without any of which it does not; or all of them."""

        def is_met(count: int) -> bool:
            return self.budget.is_met(self._outcome(after(start, steps, count)))

        low, high = 0, len(steps)
        rounds = math.ceil(math.log2(max(2, high)))
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if is_met(middle) else (middle, high)
            self.progress("looking for the fewest steps", rounds - math.ceil(math.log2(max(1, high - low))), rounds)
        return high
