"""How far values are from their mean."""

from __future__ import annotations

import numpy as np


class Spread:
    """Variance of all values of a tensor, over samples as they come.

    Attributes:
        samples, values: how many there were.
    """

    def __init__(self) -> None:
        self.samples = self.values = 0
        self._sum = self._squares = 0.0

    def add(self, values: np.ndarray, samples: int) -> None:
        with np.errstate(invalid="ignore"):  # of masks of minus infinity there is none, and no error: nothing moves
            self._sum += float(values.sum(dtype=np.float64))
            self._squares += float(np.square(values, dtype=np.float64).sum())
        self.samples += samples
        self.values += values.size

    def variance(self) -> float:
        """NaN where some values are not finite."""
        mean = self._sum / max(1, self.values)
        return self._squares / max(1, self.values) - mean**2 if np.isfinite(mean) else float("nan")
