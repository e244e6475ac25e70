"""The range that a tensor's integers stand for, chosen from its statistics; pure functions.

Every range holds 0, which quantized operators need exactly (padding, Relu). A symmetric one is (-a, a).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

import numpy as np

from edgecc.quantization.rounding_error import Grids, RoundingError
from edgecc.statistics.answers import Array, Density, HistogramStatistic, RangeStatistic
from edgecc.statistics.density import folded
from edgecc.statistics.requests import Histogram, MovingRange, Range

RangeMethod: TypeAlias = Literal["mse", "min-max", "percentile", "entropy", "moving-average"]
Interval: TypeAlias = tuple[float, float]


def request_for(method: RangeMethod, tensor: str) -> Histogram | Range | MovingRange:
    """What a pass asks for so that `choose_range` can answer."""
    if method == "min-max":
        return Range(tensor)
    return MovingRange(tensor) if method == "moving-average" else Histogram(tensor)


def choose_range(
    method: RangeMethod,
    statistic: HistogramStatistic | RangeStatistic,
    *,
    levels: int = 256,
    symmetric: bool = False,
    percent: float = 99.99,
) -> Interval:
    """The range of a tensor, from the answer to `request_for(method, tensor)`.

    Args:
        method: how it is chosen.
        statistic: the answer.
        levels: integers that there are: 256 of int8, 65536 of int16.
        symmetric: around 0.
        percent: of the values that are kept, for "percentile".
    """
    if method == "min-max" or method == "moving-average":
        return min_max_range(statistic, symmetric=symmetric)
    if not isinstance(statistic, HistogramStatistic):
        raise TypeError(f"method {method!r} chooses from a histogram: ask for request_for({method!r}, tensor)")
    if method == "percentile":
        return percentile_range(statistic, percent, symmetric=symmetric)
    if method == "entropy":
        return entropy_range(statistic, symmetric=symmetric)
    return mse_range(statistic, levels=levels, symmetric=symmetric)


# --------------------------------------------------------------------------------------------------------- all values


def min_max_range(statistic: HistogramStatistic | RangeStatistic, *, symmetric: bool = False) -> Interval:
    """All values; also of a moving average, which depends on the order of the samples."""
    return _with_zero(float(np.min(statistic.low)), float(np.max(statistic.high)), symmetric)


def _with_zero(low: float, high: float, symmetric: bool) -> Interval:
    low, high = min(low, 0.0), max(high, 0.0)
    return (-max(-low, high) + 0.0, max(-low, high)) if symmetric else (low, high)


# --------------------------------------------------------------------------------------------------------- percentile


def percentile_range(statistic: HistogramStatistic, percent: float = 99.99, *, symmetric: bool = False) -> Interval:
    """Without the outermost values: half of the rest on each side, or the largest magnitudes if symmetric.

    Zeros do not count. Linear interpolation within a bin.

    Args:
        statistic: of the tensor.
        percent: of the values that stay, above 0 and at most 100.
        symmetric: around 0.
    """
    if not 0 < percent <= 100:
        raise ValueError(f"percent must be above 0 and at most 100, got {percent}")
    density = statistic.density
    if not density.counts.size:
        return 0.0, 0.0
    if symmetric:
        magnitude = quantile(_magnitudes(density), percent / 100)
        return -magnitude, magnitude
    rest = (1 - percent / 100) / 2
    return _with_zero(quantile(density, rest), quantile(density, 1 - rest), symmetric=False)


def quantile(density: Density, share: float) -> float:
    """The value that this share of the values, zeros left out, is not above."""
    wanted = share * int(density.counts.sum())
    upto = np.cumsum(density.counts)
    index = min(int(np.searchsorted(upto, wanted)), len(upto) - 1)
    inside = (wanted - (upto[index] - density.counts[index])) / density.counts[index]
    low, high = float(density.low[index]), float(density.high[index])
    return low + (high - low) * min(1.0, max(0.0, float(inside)))


def _magnitudes(density: Density) -> Density:
    """The density of |x|; bins of both signs may lie at the same place, which is as good as one bin."""
    low = np.where(density.low < 0, -density.high, density.low)
    high = np.where(density.low < 0, -density.low, density.high)
    order = np.argsort(high, kind="stable")
    return Density(low[order], high[order], density.counts[order], density.zeros)


# --------------------------------------------------------------------------------------------------- mean squared error

#: From one factor tried to the next: a quarter of a power of two.
_RATIO = 2.0**0.25
#: Shrinking the range by these is tried first, from all of it to a millionth, then by what lies around the best.
_OCTAVES = 2.0 ** -np.arange(0.0, 20.0)
_BETWEEN = _RATIO ** np.array([-3.0, -2.0, -1.0, 1.0, 2.0, 3.0])
#: Then this many between the neighbours of the best, twice.
_FINE = 12
#: Rounds in which either end moves on its own, by at most these.
_ROUNDS = 3
_NEARBY = _RATIO ** np.arange(-6.0, 7.0)


def mse_range(statistic: HistogramStatistic, *, levels: int = 256, symmetric: bool = False) -> Interval:
    """The range with the least mean squared error of rounding and clipping, searched coarse to fine.

    The ends are points of the grid: low = scale * (0 - zero point), high = scale * (levels - 1 - zero point).

    Args:
        statistic: of the tensor.
        levels: integers that there are, at least 3. A symmetric range uses an odd number of them: 255 of 256.
        symmetric: around 0.
    """
    if levels < 3:
        raise ValueError(f"levels must be at least 3, got {levels}")
    density = statistic.density
    if not density.counts.size:
        return 0.0, 0.0
    low, high = _with_zero(statistic.low, statistic.high, symmetric)
    rounding = RoundingError(density)

    def errors(low_factors: Array, high_factors: Array) -> Array:
        return rounding.of(_grids(low * low_factors, high * high_factors, levels, symmetric))

    factor = _search(lambda tried: errors(tried, tried), _octave(errors))
    factors = (factor, factor)
    for _ in range(_ROUNDS if low < 0 < high and not symmetric else 0):
        former, factors = factors, _move_ends(errors, factors)
        if factors == former:
            break
    grid = _grids(np.array([low * factors[0]]), np.array([high * factors[1]]), levels, symmetric)
    return float(grid.scale[0] * grid.lowest[0]) + 0.0, float(grid.scale[0] * grid.highest[0])


def _octave(errors: Callable[[Array, Array], Array]) -> Array:
    """Factors for both ends around the best of those that are tried first."""
    best = _best(_OCTAVES, errors(_OCTAVES, _OCTAVES))
    around: Array = np.append(np.minimum(1.0, best * _BETWEEN), best)
    return around


def _move_ends(errors: Callable[[Array, Array], Array], factors: Interval) -> Interval:
    """First the upper end on its own, then the lower one; neither goes far in one round."""
    low, high = factors
    high = _search(lambda tried: errors(np.full(len(tried), low), tried), _nearby(high))
    best = high
    return _search(lambda tried: errors(tried, np.full(len(tried), best)), _nearby(low)), high


def _nearby(factor: float) -> Array:
    nearby: Array = np.minimum(1.0, factor * _NEARBY)
    return nearby


def _grids(low: Array, high: Array, levels: int, symmetric: bool) -> Grids:
    """The grids with these ends; the zero point is rounded, which may move both."""
    if symmetric:
        most = np.full(len(low), (levels - 1) // 2)
        return Grids(np.maximum(-low, high) / most, -most, most)
    scale = (high - low) / (levels - 1)
    zero_point = np.clip(np.rint(-low / scale), 0, levels - 1).astype(np.int64)
    return Grids(scale, -zero_point, levels - 1 - zero_point)


def _search(errors: Callable[[Array], Array], tried: Array) -> float:
    """The factor up to 1 with the least error, near those tried first; the larger one of two that are equal."""
    found = errors(tried)
    reach = _RATIO - 1
    for _ in range(2):
        best = _best(tried, found)
        more = np.minimum(1.0, best * (1 + np.linspace(-reach, reach, _FINE)))
        tried, found = np.append(more, best), np.append(errors(more), found[tried == best][0])
        reach *= 2 / (_FINE - 1)
    return _best(tried, found)


def _best(tried: Array, errors: Array) -> float:
    return float(tried[errors == errors.min()].max())


# ------------------------------------------------------------------------------------------------------------- entropy

#: Bins of |x| that are compared; more are merged.
_ENTROPY_BINS = 2048
#: Probability that every bin has at least, so that no divergence is infinite.
_SMOOTHING = 1e-9
#: Share of the values that every threshold keeps: where values lie far from 0, clipping nearly all of them leaves two
#: distributions of one bin, which do not differ.
_ENTROPY_KEPT = 0.99


def entropy_range(statistic: HistogramStatistic, *, levels: int = 128, symmetric: bool = False) -> Interval:
    """The threshold on |x| with the least Kullback-Leibler divergence between values and quantized values.

    NVIDIA, "8-bit Inference with TensorRT" (2017): up to 2048 bins, merged into `levels`, smoothed. Values beyond the
    threshold count into the last bin of the distribution, not of its approximation: clipping costs.

    Args:
        statistic: of the tensor; its linear bins are used.
        levels: magnitudes that there are: 128 of int8.
        symmetric: around 0; otherwise an end that values do not reach stays where they end.
    """
    if statistic.linear is None:
        return 0.0, 0.0
    upper, filled = folded(statistic.linear)
    shift = max(0, (int(upper[-1]) - 1).bit_length() - _ENTROPY_BINS.bit_length() + 1)
    counts = np.bincount((upper - 1) >> shift, weights=filled)
    least = int(np.searchsorted(np.cumsum(counts), _ENTROPY_KEPT * counts.sum())) + 1
    stops = range(min(max(levels, least), len(counts)), len(counts) + 1)
    divergences = {stop: _divergence(counts, stop, levels) for stop in stops}
    stop = min(divergences, key=lambda bins: (divergences[bins], bins))
    threshold = float(np.ldexp(float(stop), shift + statistic.linear.exponent))
    low, high = max(statistic.low, -threshold), min(statistic.high, threshold)
    return _with_zero(low, high, symmetric)


def _divergence(counts: Array, stop: int, levels: int) -> float:
    """Between the first `stop` bins, with all that is beyond in the last, and their approximation by `levels`."""
    inside = counts[:stop]
    reference = inside.copy()
    reference[-1] += counts[stop:].sum()
    level = np.arange(stop) * levels // stop
    used = reference > 0
    held = np.bincount(level, weights=inside, minlength=levels)
    bins = np.bincount(level, weights=used, minlength=levels)
    approximation = np.where(used, held[level] / np.maximum(1, bins[level]), 0)
    p, q = _smoothed(reference), _smoothed(approximation)
    return float(np.sum(p * np.log(p / q)))


def _smoothed(counts: Array) -> Array:
    total = counts.sum()
    shares = counts / total if total else counts
    return (shares + _SMOOTHING) / (1 + _SMOOTHING * len(shares))
