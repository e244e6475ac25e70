"""Histograms of fixed size that come out the same for any order and any split of the values.

The linear one has bins of width 2^k with edges at integer multiples of it. The width depends on the range of all
values seen, never on the way there: when the range grows, indices are shifted right, which is exact since
floor(floor(x / 2^a) / 2^b) = floor(x / 2^(a + b)). The logarithmic one has fixed bins, read off the bits of float32.
"""

from __future__ import annotations

import math

import numpy as np

from edgecc.statistics.answers import Array, LinearBins, LogBins

BINS = 2048
#: Indices stay below 2^22, so that float32 holds them and their distance to 2^23 exactly.
_INDEX_BITS = 22
#: The narrowest bins: 2^120 is a float32, and its inverse too.
_LEAST_EXPONENT = -120
#: Values that are binned at once: few enough to stay in a core's cache.
_BLOCK = 1 << 15
#: Adding it to a small integer leaves that integer in the lower 23 bits of the float32.
_MAGIC = 1 << 23


class LinearHistogram:
    """At most BINS bins of equal power-of-two width."""

    def __init__(self) -> None:
        self.low = math.inf
        self.high = -math.inf
        self.exponent = _LEAST_EXPONENT
        self.first = 0
        self.counts = np.zeros(0, np.int64)

    def add(self, values: Array, low: float, high: float, zeros: int) -> None:
        """Count values.

        Args:
            values: flat, float32, finite.
            low: the smallest of them.
            high: the largest of them.
            zeros: how many are 0; those are not counted, but bins cover them.
        """
        if not values.size:
            return
        self._cover(low, high)
        size = len(self.counts)
        binned = _binned if self.exponent <= 0 else _binned_wide
        for start in range(0, values.size, _BLOCK):
            block = values[start : start + _BLOCK]
            self.counts += np.bincount(binned(block, self.exponent, self.first), minlength=size)
        if zeros:
            self.counts[-self.first] -= zeros

    def merge(self, other: LinearHistogram) -> None:
        """Count what another one counted."""
        if not len(other.counts):
            return
        self._cover(other.low, other.high)
        places = (np.arange(len(other.counts)) + other.first) >> (self.exponent - other.exponent)
        np.add.at(self.counts, places - self.first, other.counts)

    def _cover(self, low: float, high: float) -> None:
        """Make room for a range, with wider bins if need be."""
        if low >= self.low and high <= self.high:
            return
        self.low, self.high = min(self.low, low), max(self.high, high)
        exponent = exponent_for(self.low, self.high)
        first, last = _index(self.low, exponent), _index(self.high, exponent)
        counts = np.zeros(last - first + 1, np.int64)
        places = (np.arange(len(self.counts)) + self.first) >> (exponent - self.exponent)
        np.add.at(counts, places - first, self.counts)
        self.exponent, self.first, self.counts = exponent, first, counts

    def bins(self) -> LinearBins | None:
        """None if there is nothing but zeros."""
        return LinearBins(self.exponent, self.first, self.counts.copy()) if self.counts.any() else None


def exponent_for(low: float, high: float) -> int:
    """The smallest k for which bins of width 2^k cover a range with at most BINS bins."""
    magnitude = max(abs(low), abs(high))
    least = max(_LEAST_EXPONENT, math.frexp(magnitude)[1] - _INDEX_BITS) if magnitude else _LEAST_EXPONENT
    exponent = max(least, math.frexp((high - low) / BINS)[1] - 1) if high > low else least
    while _index(high, exponent) - _index(low, exponent) >= BINS:
        exponent += 1
    return exponent


def _index(value: float, exponent: int) -> int:
    return math.floor(math.ldexp(value, -exponent))


def _binned(block: Array, exponent: int, first: int) -> Array:
    """Indices from 0; multiplying by a power of two from 1 on is exact."""
    scaled = block * np.float32(2.0**-exponent)
    np.floor(scaled, out=scaled)
    scaled += np.float32(_MAGIC - first)
    return scaled.view(np.int32) & (_MAGIC - 1)


def _binned_wide(block: Array, exponent: int, first: int) -> Array:
    """The same for wide bins, where float32 could round a small negative number to zero."""
    return np.floor(np.ldexp(block.astype(np.float64), -exponent)).astype(np.int64) - first


class LogHistogram:
    """Bins of log2 |x|, 32 to each power of two: exponent and the first five bits of the fraction of a float32."""

    _SHIFT = 18
    _HALF = 1 << 13
    _MINUS_ZERO = 1 << 31

    def __init__(self) -> None:
        self.counts = np.zeros(2 * self._HALF, np.int64)

    def add(self, values: Array) -> None:
        """Count values, flat, float32 and finite; zeros are not counted."""
        for start in range(0, values.size, _BLOCK):
            bits = values[start : start + _BLOCK].view(np.uint32)
            self.counts += np.bincount(bits >> self._SHIFT, minlength=2 * self._HALF)
            self.counts[0] -= np.count_nonzero(bits == 0)
            self.counts[self._HALF] -= np.count_nonzero(bits == self._MINUS_ZERO)

    def merge(self, other: LogHistogram) -> None:
        """Count what another one counted."""
        self.counts += other.counts

    def bins(self) -> LogBins:
        halves = self.counts.reshape(2, self._HALF)
        used = np.flatnonzero(halves.any(axis=0))
        first, end = (int(used[0]), int(used[-1]) + 1) if used.size else (0, 0)
        return LogBins(first, halves[0, first:end].copy(), halves[1, first:end].copy())


def log_edges(first: int, count: int) -> Array:
    """The count + 1 edges of logarithmic bins, float64."""
    bits = np.arange(first, first + count + 1, dtype=np.uint32) << np.uint32(LogHistogram._SHIFT)
    return bits.view(np.float32).astype(np.float64)
