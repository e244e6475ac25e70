"""Samples in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np


@dataclass
class Samples:
    """Calibration data that counts how often it is read."""

    arrays: dict[str, np.ndarray]
    source: str = "samples"
    notes: tuple[str, ...] = ()
    per_call: int = 1
    sweeps: int = 0

    @property
    def total(self) -> int:
        return len(next(iter(self.arrays.values())))

    def samples(self) -> Iterator[dict[str, np.ndarray]]:
        self.sweeps += 1
        for index in range(self.total):
            yield {name: values[index : index + 1] for name, values in self.arrays.items()}
