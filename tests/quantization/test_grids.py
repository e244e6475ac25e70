from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecc.quantization.grids import Grid, grid_for

NUMBERS = st.floats(-1e6, 1e6, width=32)


def test_asymmetric() -> None:
    grid = grid_for((-1.0, 2.0), "int8", symmetric=False)
    assert (grid.scale, grid.zero_point) == (np.float32(3 / 255), -43)


def test_relu_has_its_zero_at_the_lowest_integer() -> None:
    assert grid_for((0.0, 5.0), "int8", symmetric=False).zero_point == -128


def test_images_are_exact() -> None:
    grid = grid_for((0.0, 255.0), "int8", symmetric=False)
    pixels = np.arange(256, dtype=np.float32)
    assert grid.scale == 1.0
    np.testing.assert_array_equal(grid.store(pixels), np.arange(-128, 128))


@pytest.mark.parametrize(("dtype", "largest"), [("int8", 127), ("int16", 32767)])
def test_symmetric(dtype: str, largest: int) -> None:
    grid = grid_for((-1.0, 2.0), dtype, symmetric=True)
    assert (grid.scale, grid.zero_point) == (np.float32(2 / largest), 0)


def test_always_zero() -> None:
    grid = grid_for((0.0, 0.0), "int8", symmetric=False)
    assert grid.scale == 1.0
    assert grid.low == 0.0


def test_unsigned_stands_for_the_same_numbers() -> None:
    signed = grid_for((-1.0, 2.0), "int8", symmetric=False)
    unsigned = signed.as_unsigned()
    assert (unsigned.low, unsigned.high) == (signed.low, signed.high)
    assert unsigned.store(np.array([-9.0, 9.0])).tolist() == [0, 255]


@given(NUMBERS, NUMBERS, st.booleans())
def test_zero_is_exact_and_the_ends_are_within_a_step(first: float, last: float, symmetric: bool) -> None:
    grid = grid_for((min(first, last), max(first, last)), "int8", symmetric=symmetric)
    assert int(grid.store(np.zeros(1))[0]) == grid.zero_point
    assert -128 <= grid.zero_point <= 127
    # Rounding the zero point moves either end by at most half a step; float32's scale adds a millionth.
    assert grid.low <= min(first, last, 0.0) + grid.scale * 0.51
    assert grid.high >= max(first, last, 0.0) - grid.scale * 0.51


def test_holds() -> None:
    grid = Grid("int8", 1 / 256, -128)
    assert grid.holds((0.0, 1.0))
    assert not grid.holds((0.0, 1.1))
    assert not grid.holds((-0.1, 1.0))
