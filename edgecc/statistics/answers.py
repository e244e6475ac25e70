"""What the engine answers: plain values, the same bit for bit for any order of the samples.

`MovingRange` is the exception, which is about the order. Infinite values and masks (2^100 and beyond, as in attention
masks) are counted apart and in no other number; NaN is an error when it is met.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"


@dataclass(frozen=True)
class Excluded:
    """How many values were left out.

    Attributes:
        below: -2^100 and less, minus infinity included.
        above: 2^100 and more, infinity included.
    """

    below: int = 0
    above: int = 0


@dataclass(frozen=True, eq=False)
class RangeStatistic:
    """Smallest and largest value.

    Attributes:
        low: float64; shape [] of a whole tensor, [channels] along an axis. 0 where there was no value.
        high: the same.
        excluded: values left out, of the whole tensor.
    """

    low: Array
    high: Array
    excluded: Excluded = Excluded()


@dataclass(frozen=True, eq=False)
class MomentsStatistic:
    """Count, mean and variance.

    Attributes:
        count: values per entry, excluded ones left out; int64, shape [] or [channels].
        mean: float64; 0 where there was no value.
        variance: float64, of the population: divided by the count.
        excluded: values left out, of the whole tensor.
    """

    count: Array
    mean: Array
    variance: Array
    excluded: Excluded = Excluded()


@dataclass(frozen=True, eq=False)
class GramStatistic:
    """Sums of products of a layer's inputs.

    With d features, entry [g, :d, :d] is the sum of x xᵀ, [g, :d, d] the sum of x, [g, d, d] the number of rows.

    Attributes:
        sums: float64 [groups, d + 1, d + 1], symmetric.
    """

    sums: Array = field(repr=False)

    @property
    def count(self) -> int:
        """Rows summed, per group."""
        return int(self.sums[0, -1, -1])

    @property
    def products(self) -> Array:
        """Sum of x xᵀ: [groups, d, d]."""
        return self.sums[:, :-1, :-1]

    @property
    def mean(self) -> Array:
        """Mean of x: [groups, d]."""
        return self.sums[:, :-1, -1] / max(1, self.count)


@dataclass(frozen=True, eq=False)
class LinearBins:
    """Counts in bins of width 2^exponent whose edges are integer multiples of the width.

    Attributes:
        exponent: of the width.
        first: index of the first bin: it begins at first * 2^exponent.
        counts: int64, at most 2048.
    """

    exponent: int
    first: int
    counts: Array = field(repr=False)


@dataclass(frozen=True, eq=False)
class LogBins:
    """Counts in bins of log2 |x|, 32 to each power of two, for either sign.

    Attributes:
        first: index of the first bin; bin i holds magnitudes from `(1 + (i % 32) / 32) * 2^(i // 32 - 127)` on, for i
            below 32 from `i / 32 * 2^-126` on: it is the upper bits of a float32.
        positive: int64 counts from `first` on.
        negative: the same for negative values.
    """

    first: int
    positive: Array = field(repr=False)
    negative: Array = field(repr=False)


@dataclass(frozen=True, eq=False)
class Density:
    """Bins of either kind as a list: counts[i] values lie evenly in [low[i], high[i]], zeros elsewhere.

    Attributes:
        low: float64, rising; empty bins are left out.
        high: float64; equal to low where all values are one number.
        counts: int64.
        zeros: number of values that are exactly 0.
    """

    low: Array
    high: Array
    counts: Array
    zeros: int


@dataclass(frozen=True, eq=False)
class HistogramStatistic:
    """The distribution of a tensor's values.

    Attributes:
        count: values that were counted, zeros included and excluded ones not; of large tensors, evenly spread ones.
        zeros: values that are exactly 0; they are in no bin, so that what follows a Relu is not all zero.
        low: smallest value of all; 0 if there was none.
        high: largest value of all.
        linear: bins of equal width; None if every value is zero.
        log: bins of log2 |x|; there if the linear bins are too coarse for most values (outliers), else None.
        excluded: values left out.
    """

    count: int
    zeros: int
    low: float
    high: float
    linear: LinearBins | None
    log: LogBins | None = None
    excluded: Excluded = Excluded()

    @cached_property
    def density(self) -> Density:
        """The finer bins of the two, cut at `low` and `high`."""
        from edgecc.statistics.density import density_of

        return density_of(self)


Answer: TypeAlias = RangeStatistic | HistogramStatistic | MomentsStatistic | GramStatistic
