"""In which order the units of a group go, and what is lost on the way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgecc.pruning.features import Matrix

if TYPE_CHECKING:
    from edgecc.pruning.ties import Labels

#: Added to the diagonal, as a share of its mean: rows that follow from others cannot be inverted (GPTQ, SparseGPT).
DAMPING = 0.01
#: Removed at once before the rest is looked at again, as a share of a group's units.
_STEP = 1 / 64


@dataclass(frozen=True)
class Curve:
    """What a group loses with its first, first two ... units.

    Attributes:
        order: indices of units, the first to go first.
        errors: summed over the readers, each relative to the variance of what it computes; one more than `order`,
            beginning with 0 and never falling.
    """

    order: Labels
    errors: Matrix


class Reader:
    """A layer that loses features while its other weights make up for them as well as they can.

    Optimal brain surgeon (Hassibi 1993; for layers: OBC, arXiv 2208.11580): removing the features S costs
    tr(W_S [(H⁻¹)_SS]⁻¹ W_Sᵀ), after which the other weights move by -W_S [(H⁻¹)_SS]⁻¹ (H⁻¹)_S. The bias is a feature
    that never goes.

    Attributes:
        weights: [outputs, features + 1]: by now, those of removed units 0.

    Args:
        weights: [outputs, features + 1].
        sums: sum of the products of rows [features + 1, features + 1], each with a one appended.
        columns: features of each unit; all of one length, or empty.
    """

    def __init__(self, weights: Matrix, sums: npt.NDArray[Any], columns: Sequence[Labels]) -> None:
        count = max(1.0, float(sums[-1, -1]))
        products = sums.astype(np.float64) / count
        variance = products[:-1, :-1] - np.outer(products[:-1, -1], products[:-1, -1])
        self._energy = float(np.einsum("oi,ij,oj->", weights[:, :-1], variance, weights[:, :-1], optimize=True))
        damped = products.copy()
        diagonal = np.arange(len(products) - 1)
        damped[diagonal, diagonal] += DAMPING * float(np.mean(np.diag(products)[:-1])) + np.finfo(np.float32).tiny
        self._inverse = np.linalg.inv(damped)
        self.weights = weights.copy()
        self._columns = columns

    def scores(self, units: Labels) -> Matrix:
        """What each unit would cost now, relative to the variance of what the layer computes."""
        sizes = {len(self._columns[unit]) for unit in units}
        found = np.zeros(len(units))
        for size in sorted(sizes - {0}):
            picked = np.array([index for index, unit in enumerate(units) if len(self._columns[unit]) == size])
            columns = np.array([self._columns[units[index]] for index in picked])
            blocks = self._inverse[columns[:, :, np.newaxis], columns[:, np.newaxis, :]]
            taken = self.weights[:, columns].transpose(1, 2, 0)  # [units, features, outputs]
            found[picked] = np.einsum("ufo,ufo->u", taken, np.linalg.solve(blocks, taken))
        scores: Matrix = np.maximum(found, 0) / max(self._energy, np.finfo(np.float32).tiny)
        return scores

    def remove(self, unit: int) -> None:
        """Let the unit's features go."""
        columns = self._columns[unit]
        if not len(columns):
            return
        rows = self._inverse[columns]
        solved = np.linalg.solve(self._inverse[np.ix_(columns, columns)], rows)
        self.weights -= self.weights[:, columns] @ solved
        self._inverse -= rows.T @ solved
        self.weights[:, columns] = 0


def surgeon_curve(
    readers: Sequence[Reader], count: int, most: int, watch: Callable[[int], None] = lambda gone: None
) -> Curve:
    """Remove the unit that costs least, again and again.

    Args:
        readers: of the group; they are used up.
        count: units of the group.
        most: how many may go.
        watch: called after each unit with how many are gone.
    """
    left = np.arange(count)
    order: list[int] = []
    errors = [0.0]
    step = max(1, round(count * _STEP))
    while len(order) < most:
        scores = sum((reader.scores(left) for reader in readers), np.zeros(len(left)))
        chosen = np.argsort(scores, kind="stable")[: min(step, most - len(order))]
        for index in chosen:
            errors.append(errors[-1] + float(scores[index]))
            order.append(int(left[index]))
            for reader in readers:
                reader.remove(order[-1])
            watch(len(order))
        left = np.delete(left, chosen)
    return Curve(np.array(order, np.int64), np.array(errors))


def rescaled(curve: Curve, counts: Sequence[int], errors: Sequence[float]) -> Curve:
    """A curve through errors that were measured, of the given one's shape between them.

    Args:
        curve: with estimates.
        counts: growing numbers of units, at which errors were measured; the last is that of all.
        errors: at each.
    """
    if not counts or float(curve.errors[-1]) <= 0:
        return curve
    places = np.concatenate([[0], counts])
    measured = np.maximum.accumulate(np.concatenate([[0.0], errors]))
    # Where estimates do not grow, counts decide.
    grown = curve.errors + np.arange(len(curve.errors)) * float(curve.errors[-1]) * 1e-6
    return Curve(curve.order, np.interp(grown, grown[places], measured))


def static_curve(scores: Matrix, most: int) -> Curve:
    """Remove the units in the order of scores that do not change, as shares of their sum."""
    order = np.argsort(scores, kind="stable")[:most]
    total = max(float(scores.sum()), float(np.finfo(np.float32).tiny))
    return Curve(order, np.concatenate([[0.0], np.cumsum(scores[order]) / total]))
