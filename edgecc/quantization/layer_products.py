"""Mean products of what layers read, for rounding their weights.

The statistics engine sums Grams so that no order of the samples shows, which takes several passes over a matrix of
features x features for each sample: minutes for layers of thousands of features. Here rows are collected and multiplied
many at a time, in the order of the samples.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from edgecc.statistics.grouping import grouped
from edgecc.statistics.observation import Observation
from edgecc.statistics.patches import rows_of
from edgecc.statistics.requests import Gram

if TYPE_CHECKING:
    from edgecc.data.calibration import CalibrationData
    from edgecc.model import Model
    from edgecc.statistics.answers import Array

#: Rows of each feature that are looked at, as far as samples have them; and at least.
_ROWS, _LEAST_ROWS = 2, 2048
#: Part of the mean diagonal that is added to it.
_TRUST = np.float32(0.01)
#: Rows that are collected before they are multiplied.
_AT_ONCE = 1024


class Products:
    """Mean of x xᵀ over rows x: float32 [groups, features, features]."""

    def __init__(self, groups: int, features: int) -> None:
        self._sums = np.zeros((groups, features, features), np.float32)
        self._rows: list[Array] = []
        self._waiting = self._count = 0

    def add(self, rows: Array) -> None:
        """Add rows, [groups, rows, features]."""
        self._rows.append(rows.astype(np.float32))
        self._waiting += rows.shape[1]
        if self._waiting >= _AT_ONCE:
            self._multiply()

    def mean(self) -> Array:
        """The mean of all rows so far; a little is added to the diagonal, since other samples move other features."""
        self._multiply()
        found: Array = self._sums / np.float32(max(1, self._count))
        for part in found:
            diagonal = np.einsum("ii->i", part)
            diagonal += _TRUST * diagonal.mean()
        return found

    def _multiply(self) -> None:
        if not self._rows:
            return
        rows = np.concatenate(self._rows, axis=1)
        self._sums += rows.transpose(0, 2, 1) @ rows
        self._count += rows.shape[1]
        self._rows, self._waiting = [], 0


def products_of(
    features: Mapping[Gram, tuple[int, int]], model: Model, data: CalibrationData, samples: int
) -> dict[Gram, Array]:
    """The mean products of several layers, in one sweep over the samples.

    Args:
        features: groups and features of each request, whose own number of rows does not count.
        model: not changed.
        data: read once.
        samples: calls at most.
    """
    names = list(dict.fromkeys(request.tensor for request in features))
    observation = Observation(model, names)
    found = {request: Products(*sizes) for request, sizes in features.items()}
    for number, feeds in enumerate(islice(data.samples(), samples)):
        values, _ = observation.run(feeds, f"{data.source}, sample {number}")
        for request, (_, count) in features.items():
            limit = math.ceil(max(_LEAST_ROWS, _ROWS * count) / max(1, samples))
            found[request].add(rows_of(values[request.tensor], request.layout, limit)[..., :-1])
    return {request: products.mean() for request, products in found.items()}


def batches(features: Mapping[Gram, tuple[int, int]], memory: int) -> Iterator[dict[Gram, tuple[int, int]]]:
    """As many requests at a time as the memory allows for, one at least, in order."""
    sizes = {request: 4 * groups * count * count for request, (groups, count) in features.items()}
    for batch in grouped(sizes, memory) if sizes else ():
        yield {request: features[request] for request in batch}
