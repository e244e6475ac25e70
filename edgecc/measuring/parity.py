"""Whether artifacts of several targets compute the same: agreement, and differences in steps of their integers."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from edgecc.measuring.metrics import FidelityMeter


@dataclass(frozen=True)
class Parity:
    """Two artifacts on the same inputs, one output.

    Attributes:
        first: path of one artifact.
        second: path of the other.
        output: name in the source.
        step: what one step of its integers stands for (LSB), as the artifacts' reports have it; the larger one where
            they differ, None where neither artifact's output is quantized.
        max_abs: largest difference, in the output's unit.
        max_steps: the same in steps; None without a step.
        equal: share of values that are less than half a step apart; without a step, equal.
        top1: share of samples with the same top-1; None where the output is no class scores.
    """

    first: str
    second: str
    output: str
    step: float | None
    max_abs: float
    max_steps: float | None
    equal: float
    top1: float | None

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


@dataclass
class _PairMeter:
    """One output of two artifacts."""

    step: float | None
    fidelity: FidelityMeter = field(default_factory=FidelityMeter)
    count: int = 0
    equal: int = 0

    def add(self, first: np.ndarray, second: np.ndarray) -> None:
        self.fidelity.add(first, second)
        self.count += first.size
        room = self.step / 2 if self.step is not None else 0.0
        a, b = first.astype(np.float64), second.astype(np.float64)
        with np.errstate(invalid="ignore"):
            self.equal += int(((np.abs(a - b) <= room) | (a == b) | (np.isnan(a) & np.isnan(b))).sum())


class ParityMeter:
    """Collects the outputs of several artifacts, batch by batch."""

    def __init__(self, steps: Mapping[str, Mapping[str, float]]) -> None:
        """Begin.

        Args:
            steps: what one step of an output stands for, by artifact and the source's name of the output.
        """
        self._steps = steps
        self._meters: dict[tuple[str, str, str], _PairMeter] = {}

    def add(self, outputs: Sequence[tuple[str, Mapping[str, np.ndarray]]]) -> None:
        """Compare a batch.

        Args:
            outputs: of each artifact that ran, in order, in the source's names, layout and unit.
        """
        for (first, mine), (second, others) in itertools.combinations(outputs, 2):
            for name, values in mine.items():
                key = first, second, name
                if key not in self._meters:
                    known = [self._steps.get(artifact, {}).get(name) for artifact in (first, second)]
                    self._meters[key] = _PairMeter(max((step for step in known if step is not None), default=None))
                self._meters[key].add(values, others[name])

    def result(self) -> tuple[Parity, ...]:
        """A row for each output of each pair."""
        rows = []
        for (first, second, name), meter in self._meters.items():
            found = meter.fidelity.result()
            steps = None if meter.step is None else found.max_abs / meter.step
            share = meter.equal / meter.count if meter.count else 1.0
            rows.append(Parity(first, second, name, meter.step, found.max_abs, steps, share, found.top1))
        return tuple(rows)
