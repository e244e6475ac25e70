"""What rounding to a grid costs, from a histogram."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgecc.statistics.answers import Array, Density


@dataclass(frozen=True)
class Grid:
    """The numbers `scale * i` for all integers i from `lowest` to `highest`, 0 among them."""

    scale: float
    lowest: int
    highest: int


def mean_squared_error(density: Density, grid: Grid) -> float:
    """Mean of (x - rounded x)² over all values.

    Within a bin values lie evenly, so that the mean is an integral which is known: bins may be wider than the steps of
    the grid. Zeros cost nothing.
    """
    total = int(density.counts.sum()) + density.zeros
    width = density.high - density.low
    # So narrow that the difference of two integrals would be rounding alone.
    narrow = width <= 1e-9 * np.maximum(np.abs(density.low), np.abs(density.high))
    integral = _integral(density.high, grid) - _integral(density.low, grid)
    means = np.where(narrow, _squared_error(density.low, grid), integral / np.where(narrow, 1, width))
    return float(np.dot(means, density.counts) / max(1, total))


def _squared_error(values: Array, grid: Grid) -> Array:
    nearest = np.clip(np.rint(values / grid.scale), grid.lowest, grid.highest) * grid.scale
    squares: Array = np.square(values - nearest)
    return squares


def _integral(values: Array, grid: Grid) -> Array:
    """Of the squared error from 0 to each value.

    Each whole step gives scale³ / 12, the part of a step up to distance r from its middle r³ / 3; so does clipping,
    where r grows beyond half a step.
    """
    steps = np.clip(np.rint(values / grid.scale), grid.lowest, grid.highest)
    rest = values - steps * grid.scale
    integral: Array = steps * (grid.scale**3 / 12) + rest**3 / 3
    return integral
