"""Rows that layers read, gathered from one run over the data."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from edgecc.data.split import SpreadSamples
from edgecc.errors import DataError
from edgecc.inspection import total_macs
from edgecc.pruning.batched import is_batched
from edgecc.statistics.observation import Observation
from edgecc.statistics.patches import rows_of

if TYPE_CHECKING:
    from edgecc.data.calibration import CalibrationData
    from edgecc.model import Model
    from edgecc.passes.base import WorkProgress
    from edgecc.pruning.features import Linear

RowTable = npt.NDArray[np.float32]
#: Sums of products of rows.
ProductTable = npt.NDArray[np.float32]

#: Rows for each feature: what least squares then loses by chance is a small part of what it cannot fit anyway.
_PER_FEATURE = 128
_FEWEST = 49152
#: The rows of one layer, and what is computed from them, take at most so many bytes each.
_MEMORY = 128 << 20
#: Float32 holds the sum of the squares of as many such values as there may be.
_LARGEST = 1e15
#: Samples run at once where the model takes any number.
_AT_ONCE = 16
#: Most multiply-accumulates of a layer for all of its rows, as long as there are so many rows for each feature.
_WORK = 13_000_000_000
_LEAST_PER_FEATURE = 4
#: Rows that are collected before they are multiplied.
_MULTIPLIED = 1024
#: Samples that are looked at however large the model is.
_FEWEST_SAMPLES = 64


def rows_wanted(linear: Linear) -> int:
    """How many rows a layer is fitted to."""
    outputs, features = map(int, linear.weights.shape)
    most = _MEMORY // (4 * max(features, outputs))
    affordable = max(_WORK // (features * outputs), _LEAST_PER_FEATURE * features)
    return int(min(max(_FEWEST, _PER_FEATURE * features), most, affordable))


def bytes_of(linear: Linear) -> int:
    """What they take."""
    return 4 * int(linear.weights.shape[1]) * rows_wanted(linear)


def bytes_of_products(linear: Linear) -> int:
    """What the products of a layer's rows take."""
    return 4 * int(linear.weights.shape[1]) ** 2


def affordable(model: Model, data: CalibrationData, work: float) -> CalibrationData:
    """As many of the samples, evenly spread, as one run of the model over them takes that work for.

    Args:
        model: that will run.
        data: all samples.
        work: most multiply-accumulates.
    """
    calls = int(work / max(1, total_macs(model.nodes())))
    return SpreadSamples(data, max(-(-_FEWEST_SAMPLES // data.per_call), calls))


@dataclass(frozen=True)
class Seen:
    """Tensors of some samples that were run at once.

    Attributes:
        tensors: by name.
        where: what to call the samples.
        count: how many they are.
        total: how many there are in all.
    """

    tensors: Mapping[str, np.ndarray]
    where: str
    count: int
    total: int

    def share(self, linear: Linear) -> int:
        """How many of a layer's rows these samples give."""
        return -(-rows_wanted(linear) * self.count // max(1, self.total))

    def rows(self, linear: Linear, limit: int) -> npt.NDArray[np.float64]:
        """At most so many rows [n, features + 1] of a layer.

        Raises:
            DataError: some are not finite, or so large that sums of their squares would not be.
        """
        request = linear.request
        rows: npt.NDArray[np.float64] = rows_of(self.tensors[request.tensor], request.layout, limit)[0]
        largest = max(float(rows.max()), -float(rows.min())) if rows.size else 0.0
        if not largest <= _LARGEST:  # NaN is not either
            found = f"values as large as {largest:.0e}" if np.isfinite(largest) else "NaN or infinities"
            raise DataError(
                f"the model computes {found} in {request.tensor!r}",
                where=self.where,
                why=f"{linear.node.name} is to be fitted to what it reads there",
                hint="leave the sample out, or the layer: ignore=[...]",
            )
        return rows


def observed(
    model: Model,
    tensors: Collection[str],
    data: CalibrationData,
    what: str,
    progress: WorkProgress,
    at_once: int = _AT_ONCE,
) -> Iterator[Seen]:
    """Run the model over the data once and yield the tensors.

    Args:
        model: not changed.
        tensors: their names.
        data: read once; once more where it does not know how many samples it has, on which depends how many rows of
            each are kept.
        what: is said to be done.
        progress: called after each run.
        at_once: samples of one run, where the model takes any number.
    """
    total = data.total or sum(1 for _ in data.samples())
    observation, done = Observation(model, sorted(tensors)), 0
    for feeds, where, count in batches(data, is_batched(model), at_once):
        yield Seen(observation.run(feeds, where)[0], where, count, total)
        done += count
        progress(what, done, total)


def batches(
    data: CalibrationData, several: bool, at_once: int = _AT_ONCE
) -> Iterator[tuple[dict[str, np.ndarray], str, int]]:
    """Feeds of several samples at once, where a model takes them (`is_batched`), what to call them, and how many.

    Whoever reads the same places of each batch in two models sees the same samples in both.
    """
    waiting: list[Mapping[str, np.ndarray]] = []
    for number, feeds in enumerate(data.samples()):
        if waiting and not (several and _fit(waiting[0], feeds) and len(waiting) < at_once):
            yield _joined(waiting), f"{data.source}, sample {number - len(waiting)} on", len(waiting)
            waiting = []
        waiting.append(feeds)
    if waiting:
        yield _joined(waiting), f"{data.source}, the last {len(waiting)} samples", len(waiting)


def _fit(first: Mapping[str, np.ndarray], second: Mapping[str, np.ndarray]) -> bool:
    return all(first[name].shape[1:] == second[name].shape[1:] for name in first)


def _joined(feeds: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    if len(feeds) == 1:
        return dict(feeds[0])
    return {name: np.concatenate([one[name] for one in feeds]) for name in feeds[0]}


def products_of(
    model: Model, linears: Sequence[Linear], data: CalibrationData, what: str, progress: WorkProgress
) -> list[ProductTable]:
    """For each layer, sums of products of rows [features + 1, features + 1], each row with a one appended.

    Args:
        model: not changed.
        linears: layers of it.
        data: read once.
        what: is said to be done.
        progress: called after each run.
    """
    sums = [_Sums(linear.weights.shape[1]) for linear in linears]
    for tables in _tables(model, linears, data, what, progress):
        for found, rows in zip(sums, tables, strict=True):
            found.add(rows)
    return [found.value() for found in sums]


class _Sums:
    """Sums of products of rows.

    Args:
        size: of a row.
    """

    def __init__(self, size: int) -> None:
        self._sums = np.zeros((size, size), np.float32)
        self._waiting: list[RowTable] = []
        self._count = 0

    def add(self, rows: RowTable) -> None:
        """Count rows in, which are multiplied many at a time: each time all sums are written."""
        self._waiting.append(rows)
        self._count += len(rows)
        if self._count >= _MULTIPLIED:
            self._multiply()

    def value(self) -> ProductTable:
        self._multiply()
        return self._sums

    def _multiply(self) -> None:
        if self._count:
            rows = np.concatenate(self._waiting)
            self._sums += rows.T @ rows
            self._waiting, self._count = [], 0


def gather(
    model: Model, linears: Sequence[Linear], data: CalibrationData, what: str, progress: WorkProgress
) -> list[RowTable]:
    """For each layer, rows [n, features + 1], each with a one appended.

    Args:
        model: not changed.
        linears: layers of it.
        data: read once.
        what: is said to be done.
        progress: called after each run.
    """
    runs = list(_tables(model, linears, data, what, progress))
    return [np.concatenate(parts) for parts in zip(*runs, strict=True)]


def _tables(
    model: Model, linears: Sequence[Linear], data: CalibrationData, what: str, progress: WorkProgress
) -> Iterator[list[RowTable]]:
    """Of each run of the model over samples, rows for each layer; no run without layers."""
    names = {linear.request.tensor for linear in linears}
    for seen in observed(model, names, data, what, progress) if names else ():
        yield [seen.rows(linear, seen.share(linear)).astype(np.float32) for linear in linears]
