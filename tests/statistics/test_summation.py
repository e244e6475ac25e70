from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecc.statistics import summation
from edgecc.statistics.summation import ReproducibleSum

NUMBERS = st.floats(-1e30, 1e30, allow_nan=False, allow_infinity=False)
ARRAYS = st.lists(st.lists(NUMBERS, min_size=3, max_size=3), min_size=1, max_size=12)


def total(arrays: list[list[float]], levels: int = 2) -> np.ndarray:
    accumulator = ReproducibleSum((3,), levels)
    for values in arrays:
        accumulator.add(np.array(values))
    return accumulator.value()


@settings(max_examples=200, deadline=None)
@given(ARRAYS, st.randoms(use_true_random=False), st.sampled_from([2, 3]))
def test_the_order_does_not_change_a_bit(arrays: list[list[float]], random: object, levels: int) -> None:
    shuffled = list(arrays)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert total(arrays, levels).tobytes() == total(shuffled, levels).tobytes()


@pytest.mark.parametrize("levels", [2, 3])
@pytest.mark.parametrize("small", [0.75, 2.0**-41, -0.5000001, 1 - 2.0**-53])
def test_a_number_just_below_a_level(small: float, levels: int) -> None:
    """It is nearest to that level's unit, which it has no digit of."""
    arrays = [[0.0, 0.0, 2.0**40], [0.0, 0.0, small]]
    assert total(arrays, levels).tobytes() == total(arrays[::-1], levels).tobytes()


@settings(max_examples=100, deadline=None)
@given(ARRAYS)
def test_the_sum_is_right(arrays: list[list[float]]) -> None:
    expected = [math.fsum(column) for column in zip(*arrays, strict=True)]
    largest = max(abs(value) for values in arrays for value in values)
    # Two levels keep at least 40 bits below the largest number; each of at most 12 is cut off there. Nothing is kept
    # of what is below 2^-800.
    np.testing.assert_allclose(total(arrays), expected, rtol=1e-15, atol=12 * (largest * 2.0**-40 + 2.0**-800))


def test_numbers_that_cancel() -> None:
    # Three levels below 1e20, the largest of all, end at 2^-40.
    found = total([[1e20, 1, 0], [1.0, 1e-8, 0], [-1e20, -1, 0]], levels=3)
    np.testing.assert_allclose(found, [1.0, 1e-8, 0], rtol=0, atol=2.0**-40)


def test_nothing() -> None:
    assert ReproducibleSum((2,)).value().tolist() == [0, 0]
    assert total([[0, 0, 0]]).tolist() == [0, 0, 0]


def test_too_many_arrays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summation, "_CAPACITY", 2)
    with pytest.raises(OverflowError, match="more than 2 arrays cannot be added"):
        total([[1, 1, 1]] * 3)
