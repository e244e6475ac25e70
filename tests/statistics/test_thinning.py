"""Which values of large tensors are counted, and that the rest does not notice."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecc.data.calibration import open_calibration
from edgecc.model import Model
from edgecc.quantization.ranges import mse_range
from edgecc.statistics.accumulators import HistogramAccumulator
from edgecc.statistics.answers import HistogramStatistic
from edgecc.statistics.requests import Histogram
from edgecc.statistics.samples import look_at
from edgecc.statistics.sweep import sweep
from edgecc.statistics.table import StatisticTable
from edgecc.statistics.thinning import ENOUGH, LEAST, quota, stride


@given(st.lists(st.integers(1, 40), min_size=1, max_size=4), st.integers(1, 5000))
def test_stride(shape: list[int], wanted: int) -> None:
    size, found = math.prod(shape), stride(tuple(shape), wanted)
    assert all(math.gcd(found, dim) == 1 for dim in shape)
    assert found == 1 or found >= size // wanted


def test_every_channel_comes_up_as_often() -> None:
    places = np.arange(64 * 384)[:: stride((1, 64, 384), 2048)]
    for axis in (places // 384, places % 384):
        counts = np.bincount(axis)
        assert counts.max() - counts.min() <= 1


def test_quota() -> None:
    assert (quota(0), quota(1), quota(64), quota(100_000)) == (None, ENOUGH, ENOUGH // 64, LEAST)


def statistic(samples: list[np.ndarray], known: int) -> HistogramStatistic:
    found = HistogramAccumulator(logarithmic=False, samples=known)
    for values in samples:
        found.add(look_at(values, "t", "sample"))
    return found.answer()


def same(first: HistogramStatistic, second: HistogramStatistic) -> bool:
    a, b = first.linear, second.linear
    assert a is not None
    assert b is not None
    equal = (a.exponent, a.first) == (b.exponent, b.first) and np.array_equal(a.counts, b.counts)
    return equal and (first.count, first.zeros, first.low, first.high) == (
        second.count,
        second.zeros,
        second.low,
        second.high,
    )


def test_any_order_gives_the_same() -> None:
    rng = np.random.default_rng(0)
    samples = [(rng.standard_normal((3, 50, 70)) * 4.0**i).astype(np.float32) for i in range(-6, 6)]
    first = statistic(samples, 400)
    assert first.count < 12 * 3 * 50 * 70 / 4
    for _ in range(4):
        rng.shuffle(samples)  # type: ignore[arg-type]
        assert same(first, statistic(samples, 400))


def test_smallest_and_largest_are_of_all_values() -> None:
    values = np.zeros((1, 100_000), np.float32)
    values[0, 12_345], values[0, 12_346] = 5, -7
    found = statistic([values], 512)
    assert (found.low, found.high) == (-7, 5)
    assert 0.9 * LEAST <= found.count < 2 * LEAST
    # Neither is among the values that are counted.
    assert mse_range(found) == pytest.approx((-7, 5), abs=0.1)


def error_of(high: float, values: np.ndarray) -> float:
    """Mean squared, of rounding to 256 numbers from 0 on."""
    step = high / 255
    return float(np.square(np.clip(np.rint(values / step), 0, 255) * step - values).mean())


def test_ranges_are_nearly_as_good() -> None:
    rng = np.random.default_rng(0)
    samples = [np.abs(rng.standard_normal((16, 40, 40))).astype(np.float32) for _ in range(256)]
    # 0.5 million values and 6.5 million.
    thinned, whole = (error_of(mse_range(statistic(samples, n))[1], np.stack(samples)) for n in (256, 0))
    # The error is flat around its least: 2 % of it are 0.1 dB.
    assert thinned <= 1.02 * whole


def test_counts_without_a_known_number_of_samples_are_of_all_values() -> None:
    assert statistic([np.ones((1, 100_000), np.float32)], 0).count == 100_000


@pytest.mark.parametrize("reused", [True, False])
def test_samples_may_share_memory(reused: bool) -> None:
    """The model runs on one sample while the one before is looked at."""
    model = Model.from_text("g (float[1,4] x) => (float[1,4] y) { a = Neg(x)  y = Neg(a) }")
    buffer = np.zeros((1, 4), np.float32)

    def feeds() -> Iterator[dict[str, np.ndarray]]:
        for number in range(50):
            values = buffer if reused else np.empty((1, 4), np.float32)
            values[:] = number
            yield {"x": values}

    data = open_calibration(feeds, model.signature)
    assert not isinstance(data, StatisticTable)
    table = sweep(model, [Histogram("x"), Histogram("y")], data)
    for name in ("x", "y"):
        bins = table.histogram(name).linear
        assert bins is not None
        assert bins.counts[bins.counts > 0].tolist() == [4] * 49, "each number but 0 comes up once, four values each"
