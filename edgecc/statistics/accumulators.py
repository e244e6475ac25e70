"""What is kept of a tensor from sample to sample, one class per kind of request."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from edgecc.statistics.answers import (
    Answer,
    Array,
    Excluded,
    GramStatistic,
    HistogramStatistic,
    MomentsStatistic,
    RangeStatistic,
)
from edgecc.statistics.density import is_coarse
from edgecc.statistics.histogram import LinearHistogram, LogHistogram
from edgecc.statistics.patches import rows_of
from edgecc.statistics.requests import ChannelAbsMax, Gram, Histogram, Moments, MovingRange, Range, Request
from edgecc.statistics.samples import NOTHING_EXCLUDED, TensorSample
from edgecc.statistics.summation import ReproducibleSum
from edgecc.statistics.thinning import quota, stride

#: Values that wait to be counted together.
_WAITING = 1 << 13


class Accumulator(Protocol):
    """Sees one sample after the other."""

    def add(self, sample: TensorSample) -> None: ...

    def answer(self) -> Answer: ...


class Bounds(Protocol):
    """An accumulator that needs each sample's smallest and largest values only."""

    def add_bounds(self, low: Array, high: Array) -> None: ...


class RangeAccumulator:
    """Range and ChannelAbsMax."""

    def __init__(self, axis: int | None) -> None:
        self._axis = axis
        self._low: Array | None = None
        self._high: Array | None = None
        self._excluded = Excluded()

    def add(self, sample: TensorSample) -> None:
        self._excluded = _sum(self._excluded, sample.excluded)
        if self._axis is None:
            self.add_bounds(np.asarray(sample.low), np.asarray(sample.high))
            return
        values = sample.values
        others = tuple(i for i in range(values.ndim) if i != self._axis % values.ndim)
        low = values.min(axis=others, initial=np.inf, where=True if sample.kept is None else sample.kept)
        high = values.max(axis=others, initial=-np.inf, where=True if sample.kept is None else sample.kept)
        self.add_bounds(low, high)

    def add_bounds(self, low: Array, high: Array) -> None:
        self._low = np.array(low, np.float64) if self._low is None else np.minimum(self._low, low)
        self._high = np.array(high, np.float64) if self._high is None else np.maximum(self._high, high)

    def answer(self) -> RangeStatistic:
        return _range(self._low, self._high, self._excluded)


class MovingRangeAccumulator:
    """MovingRange."""

    def __init__(self, momentum: float) -> None:
        self._momentum = momentum
        self._low: float | None = None
        self._high: float | None = None
        self._excluded = Excluded()

    def add(self, sample: TensorSample) -> None:
        self._excluded = _sum(self._excluded, sample.excluded)
        if sample.low <= sample.high:
            self.add_bounds(np.asarray(sample.low), np.asarray(sample.high))

    def add_bounds(self, low: Array, high: Array) -> None:
        if self._low is None or self._high is None:
            self._low, self._high = float(low), float(high)
            return
        self._low += (1 - self._momentum) * (float(low) - self._low)
        self._high += (1 - self._momentum) * (float(high) - self._high)

    def answer(self) -> RangeStatistic:
        low = None if self._low is None else np.asarray(self._low)
        high = None if self._high is None else np.asarray(self._high)
        return _range(low, high, self._excluded)


class HistogramAccumulator:
    """Histogram; the logarithmic bins only in a second sweep, for tensors that turned out to need them.

    Values of several samples are counted at once: numpy's calls take longer than what they do for few.
    """

    def __init__(self, logarithmic: bool, samples: int = 0) -> None:
        """Begin.

        Args:
            logarithmic: whether values are counted in logarithmic bins too.
            samples: that there will be, so that of large tensors only as many values are counted as it takes; 0 if that
                is not known, and all are counted.
        """
        self._quota = quota(samples)
        self._waiting: Array = np.empty(_WAITING, np.float32)
        self._filled = 0
        self._thinned = False
        self._linear = LinearHistogram()
        self._log = LogHistogram() if logarithmic else None
        self._count = self._zeros = 0
        self._low, self._high = np.inf, -np.inf
        self._excluded = Excluded()

    def add(self, sample: TensorSample) -> None:
        self._low, self._high = min(self._low, sample.low), max(self._high, sample.high)
        self._excluded = _sum(self._excluded, sample.excluded)
        values = sample.flat
        if self._quota is not None and values.size > self._quota:
            values = values[:: stride(sample.values.shape, self._quota)]
            self._thinned = True
        if values.size > _WAITING - self._filled:
            self._flush()
        if values.size > _WAITING:
            self._bin(np.ascontiguousarray(values))
            return
        end = self._filled + values.size
        self._waiting[self._filled : end] = values
        self._filled = end

    def _flush(self) -> None:
        """Count what waits."""
        self._bin(self._waiting[: self._filled])
        self._filled = 0

    def _bin(self, values: Array) -> None:
        # Comparing first takes half of the time: numpy counts booleans by the word.
        zeros = int(np.count_nonzero(values == 0))
        self._count += values.size
        self._zeros += zeros
        # The range of all so far, which those that wait are within: bins depend on the last one alone.
        self._linear.add(values, self._low, self._high, zeros)
        if self._log is not None:
            self._log.add(values)

    def needs_logarithm(self) -> bool:
        self._flush()
        return self._log is None and is_coarse(self._linear.bins())

    def answer(self) -> HistogramStatistic:
        self._flush()
        if self._thinned and self._low < self._high and self._linear.bins() is None:
            # It is zero nearly everywhere: the ends are what is known of the rest.
            self._bin(np.array([self._low, self._high], np.float32))
            self._thinned = False
        low, high = (float(self._low), float(self._high)) if self._count else (0.0, 0.0)
        log = None if self._log is None else self._log.bins()
        # + 0.0: a negative zero becomes zero, whichever of the two came first.
        return HistogramStatistic(
            self._count, self._zeros, low + 0.0, high + 0.0, self._linear.bins(), log, self._excluded
        )


class MomentsAccumulator:
    """Moments: sums within a sample as numpy does them, between samples in any order."""

    def __init__(self, axis: int | None) -> None:
        self._axis = axis
        self._count: Array = np.zeros((), np.int64)
        self._sums: ReproducibleSum | None = None
        self._excluded = Excluded()

    def add(self, sample: TensorSample) -> None:
        self._excluded = _sum(self._excluded, sample.excluded)
        values, kept = sample.values, sample.kept
        axes = tuple(range(values.ndim))
        if self._axis is not None:
            axes = tuple(i for i in axes if i != self._axis % values.ndim)
        counted = np.ones(values.shape, np.bool_) if kept is None else kept
        doubles = np.where(counted, values, 0).astype(np.float64)
        sums = np.stack([doubles.sum(axis=axes), np.square(doubles).sum(axis=axes)])
        self._count = self._count + counted.sum(axis=axes, dtype=np.int64)
        if self._sums is None:
            self._sums = ReproducibleSum(sums.shape, levels=3)
        self._sums.add(sums)

    def answer(self) -> MomentsStatistic:
        if self._sums is None:
            nothing = np.zeros(())
            return MomentsStatistic(self._count, nothing, nothing, self._excluded)
        total, squares = self._sums.value() / np.maximum(1, self._count)
        return MomentsStatistic(self._count, total, np.maximum(0, squares - total * total), self._excluded)


class GramAccumulator:
    """Gram: products within a sample as the matrix product does them, between samples in any order."""

    def __init__(self, request: Gram) -> None:
        self._request = request
        self._sums: ReproducibleSum | None = None

    def add(self, sample: TensorSample) -> None:
        # What a layer reads is never left out: a mask among it is a value like any other.
        rows = rows_of(sample.values, self._request.layout, self._request.rows)
        products = rows.transpose(0, 2, 1) @ rows
        if self._sums is None:
            self._sums = ReproducibleSum(products.shape)
        self._sums.add(products)

    def answer(self) -> GramStatistic:
        return GramStatistic(np.zeros((1, 1, 1)) if self._sums is None else self._sums.value())


def accumulator_for(request: Request, *, logarithmic: bool, samples: int = 0) -> Accumulator:
    """A new one, that has seen nothing; the rest is as of `HistogramAccumulator`."""
    match request:
        case Range():
            return RangeAccumulator(request.axis)
        case ChannelAbsMax():
            return RangeAccumulator(request.axis)
        case MovingRange():
            return MovingRangeAccumulator(request.momentum)
        case Histogram():
            return HistogramAccumulator(logarithmic, samples)
        case Moments():
            return MomentsAccumulator(request.axis)
        case Gram():
            return GramAccumulator(request)


def _sum(first: Excluded, second: Excluded) -> Excluded:
    if second is NOTHING_EXCLUDED:
        return first
    return Excluded(first.below + second.below, first.above + second.above)


def _range(low: Array | None, high: Array | None, excluded: Excluded) -> RangeStatistic:
    if low is None or high is None:
        return RangeStatistic(np.zeros(()), np.zeros(()), excluded)
    empty = low > high
    # + 0.0: a negative zero becomes zero, whichever of the two came first.
    return RangeStatistic(np.where(empty, 0.0, low) + 0.0, np.where(empty, 0.0, high) + 0.0, excluded)
