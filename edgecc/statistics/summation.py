"""Sums of float64 arrays that do not depend on the order of what is added."""

from __future__ import annotations

import math

import numpy as np

from edgecc.statistics.answers import Array

#: Bits of one level. A level holds integers below 2^WIDTH, so that int64 takes 2^(63 - WIDTH) of them: 8 million.
_WIDTH = 40
#: So that the units of all levels are float64: what is below 2^-800 counts as nothing.
_LOWEST_TOP = -20
#: Room for this many arrays.
_CAPACITY = 1 << (63 - _WIDTH - 1)


class ReproducibleSum:
    """Adds arrays of one shape; the result is the same bit for bit in any order and any grouping.

    Each number is cut into integers on a grid of fixed exponents (multiples of 40 bits), and integers are added
    exactly. Only the upper levels, counted from the largest number ever added, are kept: what lies below is cut off
    each number the same way, whenever it comes. After Demmel and Nguyen, "Parallel Reproducible Summation" (2015),
    with integers instead of floats so that nothing needs to be carried.

    Args:
        shape: of the arrays.
        levels: kept; the sum is exact to 2^(-40 (levels - 1)) of the largest number or better.
    """

    def __init__(self, shape: tuple[int, ...], levels: int = 2) -> None:
        self._digits = np.zeros((levels, *shape), np.int64)
        self._top: int | None = None
        self._added = 0

    def add(self, values: Array) -> None:
        """Add float64 values, all finite."""
        self._added += 1
        if self._added > _CAPACITY:
            raise OverflowError(f"more than {_CAPACITY} arrays cannot be added")
        largest = float(np.abs(values).max(initial=0.0))
        if largest == 0.0:
            return
        # Level i has the unit 2^(WIDTH i); in the top one the largest number has at most WIDTH bits.
        self._raise_top(max(_LOWEST_TOP, (math.frexp(largest)[1] - 1) // _WIDTH))
        assert self._top is not None, "it was just raised"
        rest = np.array(values, np.float64)
        for index in range(len(self._digits)):
            unit = 2.0 ** (_WIDTH * (self._top - index))
            digits = rest / unit  # exact, as all that follows
            # Not to the nearest: what lies below a level must not show in it, since it may be cut off before it comes.
            np.trunc(digits, out=digits)
            self._digits[index] += digits.astype(np.int64)
            digits *= unit
            rest -= digits

    def _raise_top(self, top: int) -> None:
        if self._top is None:
            self._top = top
        steps = top - self._top
        if steps <= 0:
            return
        kept = max(0, len(self._digits) - steps)
        self._digits[len(self._digits) - kept :] = self._digits[:kept].copy()
        self._digits[: len(self._digits) - kept] = 0
        self._top = top

    def value(self) -> Array:
        """The sum, float64."""
        if self._top is None:
            return np.zeros(self._digits.shape[1:])
        digits = self._digits.copy()
        for index in range(len(digits) - 1, 0, -1):
            carried = digits[index] >> _WIDTH
            digits[index] -= carried << _WIDTH
            digits[index - 1] += carried
        total = np.zeros(digits.shape[1:])
        for index in range(len(digits) - 1, -1, -1):  # the smallest first
            total = total + digits[index] * 2.0 ** (_WIDTH * (self._top - index))
        return total
