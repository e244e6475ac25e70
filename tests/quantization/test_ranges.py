from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecc.quantization.ranges import (
    choose_range,
    entropy_range,
    min_max_range,
    mse_range,
    percentile_range,
    request_for,
)
from edgecc.quantization.rounding_error import Grids, RoundingError
from edgecc.statistics import Histogram, MovingRange, Range
from edgecc.statistics.accumulators import HistogramAccumulator
from edgecc.statistics.answers import HistogramStatistic, RangeStatistic
from edgecc.statistics.samples import look_at

RNG = np.random.default_rng(0)
SIZE = 20_000
DATA = {
    "normal": RNG.standard_normal(SIZE),
    "relu": np.maximum(RNG.standard_normal(SIZE), 0),
    "laplace": RNG.laplace(size=SIZE),
    "skewed": RNG.gamma(1, size=SIZE) - 0.3,
    "heavy tails": RNG.standard_t(2, size=SIZE),
    "far from zero": RNG.standard_normal(SIZE) + 10,
    "negative": -RNG.gamma(2, size=SIZE),
    "two clusters": np.concatenate([RNG.normal(-3, 0.1, SIZE), RNG.normal(8, 0.5, SIZE // 10)]),
    "tiny": RNG.standard_normal(SIZE) * 1e-20,
}


class Grid(NamedTuple):
    scale: float
    lowest: int
    highest: int


def statistic(values: np.ndarray) -> HistogramStatistic:
    """As the sweep makes it: logarithmic bins where they are needed."""
    sample = look_at(np.asarray(values, np.float32), "t", "sample 0")
    found = HistogramAccumulator(logarithmic=False)
    found.add(sample)
    if found.needs_logarithm():
        found = HistogramAccumulator(logarithmic=True)
        found.add(sample)
    return found.answer()


def grid_of(low: float, high: float, levels: int, symmetric: bool) -> Grid:
    if symmetric:
        most = (levels - 1) // 2
        return Grid(max(-low, high) / most, -most, most)
    scale = (high - low) / (levels - 1)
    return Grid(scale, -round(-low / scale), levels - 1 - round(-low / scale))


def error(values: np.ndarray, grid: Grid) -> float:
    values = values.astype(np.float64)
    rounded = np.clip(np.rint(values / grid.scale), grid.lowest, grid.highest) * grid.scale
    return float(np.square(values - rounded).mean())


def best_by_trying(values: np.ndarray, levels: int, symmetric: bool) -> float:
    """The least error on the values themselves, over all pairs of ends an eighth of a power of two apart."""
    factors = np.exp2(-np.arange(0, 40) / 8)
    low, high = min(0.0, float(values.min())), max(0.0, float(values.max()))
    if symmetric:
        return min(error(values, grid_of(low * f, high * f, levels, True)) for f in factors)
    lows, highs = (factors if low < 0 else [1.0]), (factors if high > 0 else [1.0])
    return min(error(values, grid_of(low * f, high * g, levels, False)) for f, g in itertools.product(lows, highs))


@pytest.mark.parametrize("symmetric", [False, True], ids=["asymmetric", "symmetric"])
@pytest.mark.parametrize("levels", [256, 16])
@pytest.mark.parametrize("name", DATA)
def test_mse_is_the_best_there_is(name: str, levels: int, symmetric: bool) -> None:
    values = DATA[name].astype(np.float32)[:: 4 if levels == 256 else 8]
    low, high = mse_range(statistic(values), levels=levels, symmetric=symmetric)
    found = error(values, grid_of(low, high, levels, symmetric))
    # The bins know values to some 1/1000 of the range, trying is coarse too: 2 % between them.
    assert found <= 1.02 * best_by_trying(values, levels, symmetric)
    if symmetric:
        assert low == -high


@pytest.mark.parametrize("levels", [256, 16, 65536])
def test_mse_ends_are_on_the_grid(levels: int) -> None:
    low, high = mse_range(statistic(DATA["skewed"]), levels=levels)
    scale = (high - low) / (levels - 1)
    assert low / scale == pytest.approx(round(low / scale), abs=1e-6)
    assert low <= 0 <= high


def test_one_outlier_is_clipped_by_few_levels() -> None:
    values = np.append(RNG.standard_normal(200_000), 60.0)
    assert mse_range(statistic(values), levels=16)[1] < 30
    # With 256 levels clipping to 10 would cost more than the coarser steps: 50² / 200,000 against (60 / 255)² / 12.
    assert mse_range(statistic(values), levels=256)[1] > 40
    assert min_max_range(statistic(values))[1] == 60


def test_zeros_do_not_decide() -> None:
    values = np.abs(RNG.standard_normal(SIZE))
    with_zeros = np.concatenate([values, np.zeros(50 * SIZE)])
    assert mse_range(statistic(values)) == mse_range(statistic(with_zeros))
    assert percentile_range(statistic(values), 99) == percentile_range(statistic(with_zeros), 99)


@settings(max_examples=100, deadline=None)
@given(st.integers(2, 200), st.floats(0.2, 1.5), st.integers(0, 10_000))
def test_error_from_bins_is_that_of_the_values(levels: int, share: float, seed: int) -> None:
    values = np.random.default_rng(seed).standard_normal(50_000).astype(np.float32)
    grid = grid_of(float(values.min()) * share, float(values.max()) * share, levels, symmetric=False)
    found = RoundingError(statistic(values).density).of(Grids(*(np.array([number]) for number in grid)))[0]
    # 50,000 values are as even within a step as their number allows.
    assert found == pytest.approx(error(values, grid), rel=0.05)


# --------------------------------------------------------------------------------------------------------- percentile


@pytest.mark.parametrize("percent", [50, 99, 99.9, 100])
@pytest.mark.parametrize("name", ["normal", "laplace", "skewed", "relu", "heavy tails"])
def test_percentile_is_that_of_the_values(name: str, percent: float) -> None:
    values = DATA[name].astype(np.float32)
    found = statistic(values)
    kept = values[values != 0]
    rest = (1 - percent / 100) / 2
    low, high = percentile_range(found, percent)
    assert low == 0 or is_quantile(low, kept, rest, found)
    assert is_quantile(high, kept, 1 - rest, found)
    low, high = percentile_range(found, percent, symmetric=True)
    assert low == -high
    assert is_quantile(high, np.abs(kept), percent / 100, found)


def is_quantile(value: float, values: np.ndarray, share: float, statistic: HistogramStatistic) -> bool:
    """Whether it is between the values before and after that place in the order, up to a bin."""
    assert statistic.linear is not None
    width = 2.0**statistic.linear.exponent
    ordered = np.sort(values)
    place = round(share * len(values))
    low, high = ordered[max(0, place - 2)], ordered[min(len(values) - 1, place + 1)]
    return bool(low - width <= value <= high + width)


def test_percentile_with_outliers_uses_the_logarithmic_bins() -> None:
    values = np.append(RNG.standard_normal(SIZE), 1e6).astype(np.float32)
    assert percentile_range(statistic(values), 99)[1] == pytest.approx(np.quantile(values, 0.995), rel=1 / 32)


@pytest.mark.parametrize("percent", [0, -1, 101])
def test_percent_out_of_bounds(percent: float) -> None:
    with pytest.raises(ValueError, match="percent must be above 0 and at most 100"):
        percentile_range(statistic(DATA["normal"]), percent)


# ------------------------------------------------------------------------------------------------------------- entropy


def reference_entropy(values: np.ndarray, width: float, levels: int) -> float:
    """The threshold as the paper's pseudo code finds it, bin by bin, on |x|."""
    counts = np.histogram(np.abs(values[values != 0]), np.arange(0, np.abs(values).max() + 2 * width, width))[0]
    counts = np.trim_zeros(counts, "b").astype(float)
    best = (np.inf, 0)
    for stop in range(levels, len(counts) + 1):
        if counts[:stop].sum() < 0.99 * counts.sum():
            continue
        reference = counts[:stop].copy()
        reference[-1] += counts[stop:].sum()
        approximation = np.zeros(stop)
        members: dict[int, list[int]] = {}
        for i in range(stop):
            members.setdefault(i * levels // stop, []).append(i)
        for bins in members.values():
            used = [i for i in bins if reference[i] > 0]
            approximation[used] = counts[bins].sum() / max(1, len(used))
        p, q = (v / v.sum() + 1e-9 for v in (reference, approximation))
        p, q = p / p.sum(), q / q.sum()
        best = min(best, (float((p * np.log(p / q)).sum()), stop))
    return best[1] * width


@pytest.mark.parametrize("name", ["normal", "heavy tails"])
def test_entropy_is_that_of_the_paper(name: str) -> None:
    values = DATA[name][:2000].astype(np.float32)
    found = statistic(values)
    assert found.linear is not None
    expected = reference_entropy(values, 2.0**found.linear.exponent, 256)
    _, high = entropy_range(found, levels=256, symmetric=True)
    assert high == pytest.approx(min(expected, np.abs(values).max()), rel=1e-6)


def test_entropy_clips_an_outlier_that_min_max_keeps() -> None:
    values = np.append(RNG.standard_normal(SIZE), 40.0)
    assert entropy_range(statistic(values))[1] < 8
    assert entropy_range(statistic(values))[0] > -8


def test_entropy_far_from_zero_keeps_the_values() -> None:
    assert entropy_range(statistic(DATA["far from zero"]))[1] > 12


# ------------------------------------------------------------------------------------------------- what all have to do


@pytest.mark.parametrize("method", ["mse", "min-max", "percentile", "entropy"])
@pytest.mark.parametrize("symmetric", [False, True], ids=["asymmetric", "symmetric"])
def test_ranges_hold_zero(method: str, symmetric: bool) -> None:
    for name, values in DATA.items():
        low, high = choose_range(method, statistic(values), symmetric=symmetric)  # type: ignore[arg-type]
        assert low <= 0 <= high, name
        assert low < high, name
        if symmetric:
            assert low == -high, name


@pytest.mark.parametrize("method", ["mse", "min-max", "percentile", "entropy"])
def test_nothing_but_zeros(method: str) -> None:
    assert choose_range(method, statistic(np.zeros(10))) == (0, 0)  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["mse", "min-max", "percentile"])
def test_a_constant(method: str) -> None:
    assert choose_range(method, statistic(np.full(100, 0.7))) == pytest.approx((0, 0.7))  # type: ignore[arg-type]
    assert choose_range(method, statistic(np.full(100, -0.7))) == pytest.approx((-0.7, 0))  # type: ignore[arg-type]


def test_what_to_ask_for() -> None:
    assert request_for("mse", "t") == request_for("entropy", "t") == request_for("percentile", "t") == Histogram("t")
    assert request_for("min-max", "t") == Range("t")
    assert request_for("moving-average", "t") == MovingRange("t")


def test_moving_average_is_its_range() -> None:
    moving = RangeStatistic(np.array(-1.5), np.array(2.5))
    assert choose_range("moving-average", moving) == (-1.5, 2.5)
    assert choose_range("moving-average", moving, symmetric=True) == (-2.5, 2.5)


def test_a_method_needs_what_it_asked_for() -> None:
    with pytest.raises(TypeError, match="'mse' chooses from a histogram"):
        choose_range("mse", RangeStatistic(np.array(0.0), np.array(1.0)))


def test_too_few_levels() -> None:
    with pytest.raises(ValueError, match="levels must be at least 3, got 2"):
        mse_range(statistic(DATA["normal"]), levels=2)
