from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecc.statistics.answers import LinearBins
from edgecc.statistics.histogram import BINS, LinearHistogram, LogHistogram, exponent_for, log_edges
from edgecc.statistics.samples import MASK

#: Everything that is counted: subnormals, zeros of both signs, magnitudes up to the masks.
FLOATS = st.floats(-MASK, MASK, width=32, exclude_min=True, exclude_max=True)
MODEST = st.floats(-100, 100, width=32)
BATCHES = st.lists(st.lists(FLOATS | MODEST, min_size=1, max_size=20), min_size=1, max_size=8)


def add(histogram: LinearHistogram, values: np.ndarray) -> None:
    zeros = values.size - int(np.count_nonzero(values))
    histogram.add(values, float(values.min()), float(values.max()), zeros)


def linear(*batches: np.ndarray) -> LinearHistogram:
    histogram = LinearHistogram()
    for values in batches:
        add(histogram, values)
    return histogram


def logarithmic(*batches: np.ndarray) -> LogHistogram:
    histogram = LogHistogram()
    for values in batches:
        histogram.add(values)
    return histogram


def assert_same(first: LinearHistogram, second: LinearHistogram) -> None:
    a, b = first.bins(), second.bins()
    if a is None or b is None:
        assert a is b
        return
    assert (a.exponent, a.first, a.counts.tolist()) == (b.exponent, b.first, b.counts.tolist())


def exact(values: np.ndarray) -> LinearBins | None:
    """By integers of any size, value by value."""
    kept = [float(value) for value in values if value != 0]
    if not kept:
        return None
    exponent = exponent_for(float(values.min()), float(values.max()))
    numbers = [math.floor(math.ldexp(value, -exponent)) for value in (*kept, float(values.min()), float(values.max()))]
    first = min(numbers)
    counts = np.bincount([number - first for number in numbers[:-2]], minlength=max(numbers) - first + 1)
    return LinearBins(exponent, first, counts)


@settings(max_examples=300, deadline=None)
@given(BATCHES, st.randoms(use_true_random=False))
def test_any_order_and_any_split_give_the_same_bits(batches: list[list[float]], random: object) -> None:
    arrays = [np.array(values, np.float32) for values in batches]
    everything = np.concatenate(arrays)
    whole = linear(everything)
    assert_same(linear(*(everything[i : i + 1] for i in range(len(everything)))), whole)
    assert_same(linear(*arrays), whole)
    random.shuffle(arrays)  # type: ignore[attr-defined]
    assert_same(linear(*arrays), whole)


@settings(max_examples=200, deadline=None)
@given(BATCHES)
def test_merging_is_exact(batches: list[list[float]]) -> None:
    arrays = [np.array(values, np.float32) for values in batches]
    merged, merged_log = LinearHistogram(), LogHistogram()
    for values in arrays:
        merged.merge(linear(values))
        merged_log.merge(logarithmic(values))
    assert_same(merged, linear(np.concatenate(arrays)))
    assert merged_log.counts.tolist() == logarithmic(np.concatenate(arrays)).counts.tolist()


@settings(max_examples=200, deadline=None)
@given(st.lists(FLOATS | MODEST, min_size=1, max_size=50))
def test_counts_are_exact(values: list[float]) -> None:
    array = np.array(values, np.float32)
    found, expected = linear(array).bins(), exact(array)
    if found is None or expected is None:
        assert found is expected
        return
    assert (found.exponent, found.first, found.counts.tolist()) == (
        expected.exponent,
        expected.first,
        expected.counts.tolist(),
    )


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1.0, 255.0, 1e4, 1e25])
def test_bins_are_many_and_never_too_many(scale: float) -> None:
    values = (np.random.default_rng(0).standard_normal(100_000) * scale).astype(np.float32)
    bins = linear(values).bins()
    assert bins is not None
    assert BINS // 2 <= len(bins.counts) <= BINS
    assert bins.counts.sum() == len(values)
    edges = np.arange(bins.first, bins.first + len(bins.counts) + 1) * 2.0**bins.exponent
    assert bins.counts.tolist() == np.histogram(values, edges)[0].tolist()


def test_scales_that_grow_by_ten_thousand() -> None:
    rng = np.random.default_rng(0)
    batches = [(rng.standard_normal(500) * scale).astype(np.float32) for scale in (0.01, 0.1, 1, 10, 50, 100)]
    assert_same(linear(*batches), linear(*batches[::-1]))
    bins = linear(*batches).bins()
    assert bins is not None
    assert len(bins.counts) <= BINS


def test_zeros_are_in_no_bin() -> None:
    values = np.array([0, -0.0, 1, 0, -1], np.float32)
    bins = linear(values).bins()
    assert bins is not None
    assert bins.counts.sum() == 2
    assert linear(np.zeros(5, np.float32)).bins() is None
    assert logarithmic(values).bins().positive.sum() == logarithmic(values).bins().negative.sum() == 1


def test_one_value() -> None:
    bins = linear(np.full(7, 0.3, np.float32)).bins()
    assert bins is not None
    assert bins.counts.tolist() == [7]
    assert bins.first * 2.0**bins.exponent <= 0.3 < (bins.first + 1) * 2.0**bins.exponent


def test_logarithmic_bins_hold_their_values() -> None:
    values = np.geomspace(1e-44, 1e30, 4000).astype(np.float32)
    bins = logarithmic(values, -values[:10]).bins()
    edges = log_edges(bins.first, len(bins.positive))
    assert bins.positive.tolist() == np.histogram(values.astype(np.float64), edges)[0].tolist()
    assert bins.negative.sum() == 10
    normal = edges[edges > 1e-37]
    assert (normal[1:] / normal[:-1]).max() <= 1 + 1 / 32


def test_logarithmic_bins_of_nothing() -> None:
    bins = logarithmic(np.zeros(3, np.float32)).bins()
    assert (bins.positive.size, bins.negative.size) == (0, 0)
