"""What rounding to a grid costs, from a histogram."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgecc.statistics.answers import Array, Density

#: Bins narrower than this part of their place are widened to it: the difference of their ends would be rounding alone.
_NARROWEST = 1e-6


@dataclass(frozen=True, eq=False)
class Grids:
    """Several grids: the numbers `scale * i` for all integers i from `lowest` to `highest`, 0 among them.

    Attributes:
        scale: float64 [grids].
        lowest: int64 [grids].
        highest: int64 [grids].
    """

    scale: Array
    lowest: Array
    highest: Array


class RoundingError:
    """Mean of (x - rounded x)² over the values of a histogram.

    Within a bin values lie evenly, so that the mean is an integral which is known: bins may be wider than the steps of
    the grid. Zeros cost nothing.
    """

    def __init__(self, density: Density) -> None:
        room = np.maximum(0, _NARROWEST * np.maximum(np.abs(density.low), np.abs(density.high)) - _width(density)) / 2
        low, high = density.low - room, density.high + room
        # The error is a sum over bins of weight * (integral to the upper end - integral to the lower end); ends that
        # bins share are one end.
        weight = density.counts / (high - low) / max(1, int(density.counts.sum()) + density.zeros)
        self._ends, index = np.unique(np.concatenate([low, high]), return_inverse=True)
        self._weights = np.bincount(index, weights=np.concatenate([-weight, weight]), minlength=len(self._ends))

    def of(self, grids: Grids) -> Array:
        """Float64 [grids].

        Each whole step adds scale³ / 12 to the integral from 0, the part of a step up to distance r from its middle
        r³ / 3; so does clipping, where r grows beyond half a step.
        """
        scale = grids.scale[:, np.newaxis]
        steps = self._ends / scale
        np.rint(steps, out=steps)
        np.clip(steps, grids.lowest[:, np.newaxis], grids.highest[:, np.newaxis], out=steps)
        rest = self._ends - steps * scale
        cubes = rest * rest
        cubes *= rest
        errors: Array = (steps @ self._weights) * (grids.scale**3 / 12) + (cubes @ self._weights) / 3
        return errors


def _width(density: Density) -> Array:
    width: Array = density.high - density.low
    return width
