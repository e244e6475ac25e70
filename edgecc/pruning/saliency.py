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
#: Features that are gone are dropped when they are more than this share.
_WASTE = 1 / 8


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

    Args:
        weights: [outputs, features + 1].
        sums: sum of the products of rows [features + 1, features + 1], each with a one appended.
        columns: features of each unit; all of one length, or empty.
    """

    def __init__(self, weights: Matrix, sums: npt.NDArray[Any], columns: Sequence[Labels]) -> None:
        products = sums.astype(np.float64)
        products /= max(1.0, float(sums[-1, -1]))
        inner = weights[:, :-1]
        power = float(((inner @ products[:-1, :-1]) * inner).sum())
        self._energy = power - float(np.square(inner @ products[:-1, -1]).sum())
        diagonal = np.einsum("ii->i", products)[:-1]
        diagonal += DAMPING * float(np.mean(diagonal)) + np.finfo(np.float32).tiny
        self._inverse = np.linalg.inv(products)
        # Kept, since a new array of that size for each step takes longer than what is written there.
        self._change: Matrix = np.empty((0, 0))
        self._weights = weights.copy()
        self._columns = columns
        self._sizes = np.array([len(found) for found in columns])
        # The features that `_weights` and `_inverse` still have, the place of each there, and which of them are gone.
        self._features = np.arange(weights.shape[1])
        self._places = np.arange(weights.shape[1])
        self._gone = np.zeros(weights.shape[1], bool)

    @property
    def weights(self) -> Matrix:
        """[outputs, features + 1]: by now, those of removed units 0."""
        found: Matrix = np.zeros((len(self._weights), len(self._places)))
        found[:, self._features] = self._weights
        return found

    def scores(self, units: Labels) -> Matrix:
        """What each unit would cost now, relative to the variance of what the layer computes."""
        found = np.zeros(len(units))
        sizes = self._sizes[units]
        for size in np.unique(sizes[sizes > 0]):
            picked = np.flatnonzero(sizes == size)
            columns = self._places[np.stack([self._columns[unit] for unit in units[picked]])]
            taken = self._weights.T[columns]  # [units, features, outputs]
            if size == 1:
                powers = np.square(taken).sum(axis=(1, 2))
                found[picked] = powers / np.einsum("ii->i", self._inverse)[columns[:, 0]]
                continue
            blocks = self._inverse[columns[:, :, np.newaxis], columns[:, np.newaxis, :]]
            products = taken @ taken.transpose(0, 2, 1)
            found[picked] = np.einsum("uij,uji->u", np.linalg.inv(blocks), products)
        scores: Matrix = np.maximum(found, 0) / max(self._energy, np.finfo(np.float32).tiny)
        return scores

    def remove(self, units: Labels) -> None:
        """Let the features of some units go."""
        columns = self._places[np.concatenate([self._columns[unit] for unit in units]).astype(np.int64)]
        if not len(columns):
            return
        rows = self._inverse[columns]
        solved = np.linalg.solve(self._inverse[np.ix_(columns, columns)], rows)
        self._weights -= self._weights[:, columns] @ solved
        if self._change.shape != self._inverse.shape:
            self._change = np.empty_like(self._inverse)
        self._inverse -= np.matmul(rows.T, solved, out=self._change)
        self._gone[columns] = True
        self._weights[:, self._gone] = 0
        if self._gone.sum() > _WASTE * len(self._gone):
            self._shrink()

    def _shrink(self) -> None:
        """Drop what is kept of features that are gone: what is done for each unit grows with the square of the rest."""
        left = np.flatnonzero(~self._gone)
        self._weights, self._inverse = self._weights[:, left], self._inverse[np.ix_(left, left)]
        self._features, self._gone = self._features[left], np.zeros(len(left), bool)
        self._places = np.zeros_like(self._places)
        self._places[self._features] = np.arange(len(left))


def surgeon_curve(
    readers: Sequence[Reader],
    count: int,
    most: int,
    stops: Sequence[int] = (),
    watch: Callable[[Labels], None] = lambda _: None,
    others: Matrix | None = None,
) -> Curve:
    """Remove the unit that costs least, again and again.

    Args:
        readers: of the group; they are used up.
        count: units of the group.
        most: how many may go.
        stops: numbers of units, in order, with which gone `watch` is called.
        watch: looks at the readers, given the units that are gone.
        others: what each unit costs beside, whatever else is gone; nothing if None.
    """
    fixed = np.zeros(count) if others is None else others
    left = np.arange(count)
    order: list[int] = []
    errors = [0.0]
    step = max(1, round(count * _STEP))
    while len(order) < most:
        scores = sum((reader.scores(left) for reader in readers), fixed[left])
        chosen = np.argsort(scores, kind="stable")[: min(step, most - len(order))]
        errors += (errors[-1] + np.cumsum(scores[chosen])).tolist()
        places = [stop - len(order) for stop in stops if len(order) < stop < len(order) + len(chosen)]
        for units in np.split(left[chosen], places):
            for reader in readers:
                reader.remove(units)
            order += units.tolist()
            if len(order) in stops:
                watch(np.array(order, np.int64))
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
