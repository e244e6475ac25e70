"""Bins of either kind as one list of intervals with counts."""

from __future__ import annotations

import numpy as np

from edgecc.statistics.answers import Array, Density, HistogramStatistic, LinearBins, LogBins
from edgecc.statistics.histogram import log_edges

#: Linear bins are too coarse where the largest magnitude is more than so many times that which 99.99 % stay below.
COARSE = 64
COARSE_SHARE = 0.9999


def density_of(statistic: HistogramStatistic) -> Density:
    """The finer bins, cut at the smallest and the largest value."""
    if statistic.log is not None:
        low, high, counts = _logarithmic(statistic.log)
    elif statistic.linear is not None:
        low, high, counts = _linear(statistic.linear)
    else:
        low = high = np.zeros(0)
        counts = np.zeros(0, np.int64)
    used = counts > 0
    low, high = np.maximum(low[used], statistic.low), np.minimum(high[used], statistic.high)
    return Density(low, high, counts[used], statistic.zeros)


def _linear(bins: LinearBins) -> tuple[Array, Array, Array]:
    edges = np.ldexp(np.arange(bins.first, bins.first + len(bins.counts) + 1, dtype=np.float64), bins.exponent)
    return edges[:-1], edges[1:], bins.counts


def _logarithmic(bins: LogBins) -> tuple[Array, Array, Array]:
    edges = log_edges(bins.first, len(bins.positive))
    low = np.concatenate([-edges[:0:-1], edges[:-1]])
    high = np.concatenate([-edges[-2::-1], edges[1:]])
    return low, high, np.concatenate([bins.negative[::-1], bins.positive])


def is_coarse(bins: LinearBins | None) -> bool:
    """Whether most values share few of the linear bins."""
    if bins is None:
        return False
    magnitudes, counts = folded(bins)
    below = np.searchsorted(np.cumsum(counts), COARSE_SHARE * counts.sum())
    return bool(magnitudes[-1] > COARSE * magnitudes[min(int(below), len(magnitudes) - 1)])


def folded(bins: LinearBins) -> tuple[Array, Array]:
    """Bins of |x| that hold something: the number of widths at their upper edge, rising, and their counts."""
    places = np.arange(bins.first, bins.first + len(bins.counts))
    upper = np.where(places >= 0, places + 1, -places)
    magnitudes, index = np.unique(upper[bins.counts > 0], return_inverse=True)
    return magnitudes, np.bincount(index, weights=bins.counts[bins.counts > 0]).astype(np.int64)
