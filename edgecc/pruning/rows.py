"""Rows that layers read, gathered from one run over the data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from edgecc.statistics.observation import Observation
from edgecc.statistics.patches import rows_of

if TYPE_CHECKING:
    from edgecc.data.calibration import CalibrationData
    from edgecc.model import Model
    from edgecc.passes.base import WorkProgress
    from edgecc.pruning.features import Linear

RowTable = npt.NDArray[np.float32]

#: Rows for each feature: what least squares then loses by chance is a sixteenth of what it cannot fit anyway.
_PER_FEATURE = 16
_FEWEST = 4096
#: The rows of one layer take at most so many bytes.
_MEMORY = 192 << 20


def rows_per_sample(features: int, samples: int) -> int:
    """How many rows of each sample a layer of so many features is fitted to."""
    wanted = max(_FEWEST, _PER_FEATURE * features)
    most = min(wanted, _MEMORY // (4 * features))
    return max(1, -(-most // max(1, samples)))


def bytes_of(features: int) -> int:
    """What the rows of a layer take, at most."""
    return min(4 * features * max(_FEWEST, _PER_FEATURE * features), _MEMORY)


def gather(
    model: Model, linears: Sequence[Linear], data: CalibrationData, what: str, progress: WorkProgress
) -> list[RowTable]:
    """For each layer, rows [n, features + 1], each with a one appended.

    Args:
        model: not changed.
        linears: layers of it.
        data: read once.
        what: is said to be done.
        progress: called after each sample.
    """
    observation = Observation(model, sorted({linear.request.tensor for linear in linears}))
    tables: list[list[RowTable]] = [[] for _ in linears]
    for number, feeds in enumerate(data.samples()):
        found, _ = observation.run(feeds, f"{data.source}, sample {number}")
        for linear, parts in zip(linears, tables, strict=True):
            limit = rows_per_sample(linear.weights.shape[1], data.total)
            rows = rows_of(found[linear.request.tensor], linear.request.layout, limit)[0]
            parts.append(rows.astype(np.float32))
        progress(what, number + 1, data.total)
    return [np.concatenate(parts) for parts in tables]
