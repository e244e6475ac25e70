"""One tensor of one sample, looked at once for all who count it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from edgecc.errors import DataError
from edgecc.statistics.answers import Array, Excluded

#: Magnitudes from here on are no activations but stand for infinity, as attention masks do with -3.4e38.
MASK = 2.0**100
NOTHING_EXCLUDED = Excluded()


@dataclass(frozen=True, eq=False)
class TensorSample:
    """Values of a tensor.

    Attributes:
        values: float32, as the model computed them.
        low: the smallest that is not excluded; infinity if there is none.
        high: the largest; minus infinity if there is none.
        excluded: how many are left out.
    """

    values: Array
    low: float
    high: float
    excluded: Excluded

    @cached_property
    def kept(self) -> Array | None:
        """Where values count; None if all do."""
        if self.excluded is NOTHING_EXCLUDED:
            return None
        return np.abs(self.values) < MASK

    @cached_property
    def flat(self) -> Array:
        """The values that count."""
        return self.values.reshape(-1) if self.kept is None else self.values[self.kept]


def look_at(values: Array, tensor: str, sample: str) -> TensorSample:
    """The values in float32 (double ones are rounded), with their range.

    Args:
        values: of any floating point type.
        tensor: its name, for the error.
        sample: which one it is, for the error.

    Raises:
        DataError: a value is NaN.
    """
    if values.dtype != np.float32:
        with np.errstate(over="ignore"):
            values = values.astype(np.float32)
    if not values.flags.c_contiguous:
        values = np.ascontiguousarray(values)
    if not values.size:
        return TensorSample(values, np.inf, -np.inf, NOTHING_EXCLUDED)
    low, high = float(values.min()), float(values.max())
    if np.isnan(low):
        raise DataError(
            f"tensor {tensor!r} is NaN",
            where=sample,
            why="the model computes it from this sample",
            hint="leave the sample out, or mend the model: edgecc compile --verify finds passes that break one",
        )
    if low > -MASK and high < MASK:
        return TensorSample(values, low, high, NOTHING_EXCLUDED)
    excluded = Excluded(int((values <= -MASK).sum()), int((values >= MASK).sum()))
    kept = values[np.abs(values) < MASK]
    low, high = (float(kept.min()), float(kept.max())) if kept.size else (np.inf, -np.inf)
    return TensorSample(values, low, high, excluded)
