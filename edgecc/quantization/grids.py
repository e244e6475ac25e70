"""The real numbers that a tensor's integers stand for."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from edgecc.quantization.ranges import Interval

#: Scales below make integers times scale subnormal, where not every integer comes back.
_SMALLEST_SCALE = 2.0**-100


@dataclass(frozen=True)
class Grid:
    """real = scale * (stored - zero_point).

    Attributes:
        dtype: of the stored integers: int8, uint8 or int16.
        scale: positive; exactly a float32.
        zero_point: stored integer that stands for 0.
    """

    dtype: str
    scale: float
    zero_point: int

    @property
    def low(self) -> float:
        """The smallest number."""
        return (int(np.iinfo(self.dtype).min) - self.zero_point) * self.scale

    @property
    def high(self) -> float:
        """The largest number."""
        return (int(np.iinfo(self.dtype).max) - self.zero_point) * self.scale

    def holds(self, interval: Interval) -> bool:
        """Whether the interval is within the grid, give or take a step: that of Softmax ends at 255/256."""
        slack = self.scale * 1.001
        return self.low - slack <= interval[0] and interval[1] <= self.high + slack

    def as_unsigned(self) -> Grid:
        """The same numbers in uint8."""
        return Grid("uint8", self.scale, self.zero_point + 128) if self.dtype == "int8" else self

    def store(self, values: np.ndarray) -> np.ndarray:
        """The nearest integers, the outermost ones for what lies beyond."""
        limits = np.iinfo(self.dtype)
        steps = np.rint(np.asarray(values, np.float64) / self.scale) + self.zero_point
        return np.asarray(np.clip(steps, limits.min, limits.max).astype(self.dtype))


def grid_for(interval: Interval, dtype: str, *, symmetric: bool) -> Grid:
    """The signed grid that an interval around 0 is spread over.

    Args:
        interval: smallest and largest number; (0, 0) for a tensor that is always zero, which any grid holds.
        dtype: int8 or int16.
        symmetric: with zero point 0 and as many steps on both sides: -127 to 127.
    """
    limits = np.iinfo(dtype)
    low, high = min(interval[0], 0.0), max(interval[1], 0.0)
    if symmetric:
        return Grid(dtype, _scale(max(-low, high) / limits.max), 0)
    scale = _scale((high - low) / (limits.max - limits.min))
    zero_point = limits.min - round(low / scale)
    return Grid(dtype, scale, int(min(limits.max, max(limits.min, zero_point))))


def _scale(step: float) -> float:
    if not math.isfinite(step) or step < _SMALLEST_SCALE:
        return 1.0
    return float(np.float32(step))
