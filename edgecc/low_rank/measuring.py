"""What layers lose in each form and at each rank, measured on data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from edgecc.low_rank.factors import Basis, basis_of, damped
from edgecc.low_rank.options import Option
from edgecc.pruning.chunks import chunks
from edgecc.pruning.rows import gather
from edgecc.statistics.answers import Array

if TYPE_CHECKING:
    from edgecc.data.calibration import CalibrationData
    from edgecc.low_rank.layers import Candidate
    from edgecc.model import Model
    from edgecc.passes.base import WorkProgress

#: The options at a split, from what is lost there and the layer's weights.
Ranks: TypeAlias = "Callable[[Basis, Array], list[Option]]"


def measure(
    model: Model, found: Sequence[Candidate], ranks: Ranks, data: CalibrationData, progress: WorkProgress
) -> list[list[Option]]:
    """For each layer, what it could become.

    Args:
        model: not changed.
        found: layers of it.
        ranks: the options at a split of a layer's weights.
        data: samples.
        progress: called after each of them.
    """
    result = []
    for part in chunks(found, [candidate.linear for candidate in found]):
        tables = gather(model, [candidate.linear for candidate in part], data, "measuring layers", progress)
        for candidate, table in zip(part, tables, strict=True):
            weights, rows = candidate.linear.weights[:, :-1], table[:, :-1]
            mean = rows.mean(axis=0, dtype=np.float64) if candidate.biased else np.zeros(rows.shape[1])
            matrix = damped(covariance(rows - mean.astype(np.float32)))
            bases = [basis_of(weights, matrix, split) for split in candidate.splits]
            result.append([option for basis in bases for option in ranks(basis, weights)])
    return result


def covariance(rows: Array) -> Array:
    """Of centred rows [n, features]."""
    return (rows.T @ rows).astype(np.float64) / max(1, len(rows))
