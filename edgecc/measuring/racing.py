"""Whole models against each other on the target's own runtime, in turns."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgecc.errors import RunnerError
from edgecc.measuring.benchmark import BenchmarkResult, benchmark
from edgecc.measuring.layer_times import compile_to

if TYPE_CHECKING:
    from edgecc.backend import Backend
    from edgecc.model import Model
    from edgecc.passes.base import Pass, WorkProgress
    from edgecc.target import Target

#: Runs, turns, and the seconds that one of them may take in all.
_RUNS, _TURNS, _MOST_SECONDS = 200, 20, 1.5
#: Ratios that differ by less cannot be told apart.
NOISE = 0.02


@dataclass
class Race:
    """Compiles models and runs them.

    Attributes:
        backend: whose runtime runs them.
        target: what they are compiled for.
        passes: that models go through before.
        folder: for the files.
        doing: what is being done, for progress.
        progress: called before each race.
    """

    backend: Backend
    target: Target
    passes: Sequence[Pass]
    folder: Path
    doing: str
    progress: WorkProgress

    def run(self, models: Sequence[Model]) -> list[BenchmarkResult]:
        """Whole models in turns, the first of which is the reference.

        Raises:
            RunnerError: one of them does not run.
        """
        self.progress(self.doing, 0, 0)
        paths = []
        for place, model in enumerate(models):
            paths.append(self.folder / f"model{place}{self.target.suffixes[0]}")
            compile_to(paths[-1], model, self.backend, self.target, self.passes)
        found = benchmark(
            paths, target=self.backend.name, iterations=_RUNS, rounds=_TURNS, max_seconds=_MOST_SECONDS, warmup=3
        )
        for result in found:
            if result.error:
                raise RunnerError(result.error)
        return found


def least_ratio(first: BenchmarkResult, second: BenchmarkResult) -> float:
    """The least time of the second over the least of the first.

    Other work on the machine only ever adds to a run. On a busy one this is steady to a hundredth for runs of a few
    milliseconds, where medians are anything; runs of many time slices are always interrupted, and want a quiet one.
    """
    assert first.min is not None, "it ran"
    assert second.min is not None, "it ran"
    return second.min / first.min


def machine_of(result: BenchmarkResult) -> str:
    """Processor, device and versions, as a report names them."""
    versions = ", ".join(f"{name} {version}" for name, version in result.versions.items())
    return f"{platform.processor() or platform.machine()}, {result.device}, {versions}"
