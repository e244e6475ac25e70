"""Factors fitted layer by layer, each to what the original computes, on what the model before it has become."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

import numpy as np

from edgecc.low_rank.factors import Factors, damped, factorize
from edgecc.low_rank.measuring import covariance
from edgecc.low_rank.options import Option
from edgecc.low_rank.replacement import replace_layer
from edgecc.pruning.fitting import fitted_layers, has_bias, layers_in_order, store
from edgecc.pruning.repair import Target, fit
from edgecc.statistics.answers import Array

if TYPE_CHECKING:
    from edgecc.data.calibration import CalibrationData
    from edgecc.model import Model
    from edgecc.passes.base import WorkProgress
    from edgecc.pruning.repair import Site


def factorize_in_order(
    original: Model,
    model: Model,
    chosen: Mapping[str, Option],
    data: CalibrationData,
    progress: WorkProgress,
    kept: Collection[str] = (),
) -> list[Site]:
    """Factorize layers, and fit those behind the first of them to what they computed.

    Args:
        original: not changed.
        model: equal to it; changed.
        chosen: what becomes of layers, by the nodes' names.
        data: samples.
        progress: called after each sample.
        kept: names of layers whose weights stay as they are.

    Returns:
        The layers that were fitted, of those that were factorized the last factor.
    """
    names = [name for name in fitted_layers(model) if name not in kept]
    first = next(place for place, name in enumerate(names) if name in chosen)
    fitted = []
    for target, rows, others in layers_in_order(original, model, names[first:], data, progress):
        _settle(model, target, chosen.get(target.site.second.name), rows, others)
        fitted.append(target.site)
    return fitted


def _settle(model: Model, target: Target, option: Option | None, rows: Array, others: Array) -> None:
    """Give the layer the weights or factors that fit best."""
    site, node = target.site, target.site.second
    problem = _Problem(rows[:, :-1], target.values, others, site.rectified, has_bias(model, node))
    weights = problem.solve(site.after.weights)
    if option is not None:
        assert option.split is not None
        factors, weights = _factors(problem, weights, option)
        replace_layer(model, node, option.split, factors)
    store(model, node, weights)


class _Problem:
    """What a layer reads, and what should come of it.

    Args:
        rows: [n, features].
        targets: [n, outputs].
        others: what is added to the result.
        rectified: whether a Relu follows.
        biased: whether there is a bias to be fitted.
    """

    def __init__(self, rows: Array, targets: Array, others: Array, rectified: bool, biased: bool) -> None:
        self._mean = rows.mean(axis=0, dtype=np.float64) if biased else np.zeros(rows.shape[1])
        self.rows = rows - self._mean.astype(np.float32)
        self._targets, self._others, self._rectified, self._biased = targets, others, rectified, biased

    def solve(self, start: Array) -> Array:
        """Weights of the layer near those given; [outputs, features + 1]."""
        weights = start.copy()
        weights[:, -1] += weights[:, :-1] @ self._mean
        weights = self.solve_for(self.rows, weights)
        weights[:, -1] -= weights[:, :-1] @ self._mean
        return weights

    def solve_for(self, rows: Array, start: Array) -> Array:
        """The same for rows that were computed from those that are centred."""
        if self._biased:
            given = np.concatenate([rows, np.ones((len(rows), 1), np.float32)], axis=1)
            return fit(start, given, self._targets, self._others, held=rows.shape[1], rectified=self._rectified)
        weights = fit(start[:, :-1], rows, self._targets, self._others, held=rows.shape[1], rectified=self._rectified)
        return np.concatenate([weights, np.zeros((len(weights), 1))], axis=1)

    def centred(self, weights: Array) -> Array:
        """The same weights with the bias that centred rows ask for."""
        result = weights.copy()
        result[:, -1] += weights[:, :-1] @ self._mean
        return result

    def covariance(self) -> Array:
        return damped(covariance(self.rows))

    def shift(self, weights: Array) -> Array:
        """What they make of the mean of all rows."""
        return weights @ self._mean


def _factors(problem: _Problem, whole: Array, option: Option) -> tuple[Factors, Array]:
    """The factors, and weights of the last one with the bias."""
    split = option.split
    assert split is not None
    covariance = problem.covariance()
    bias = problem.centred(whole)[:, -1:]
    factors = factorize(whole[:, :-1], covariance, split, option.rank)
    spread = split.spread(factors.first)
    rows = (problem.rows @ spread.T.astype(np.float32)).astype(np.float32)
    last = problem.solve_for(rows, np.concatenate([factors.second, bias], axis=1))
    path = spread
    if option.inner:
        _, vectors = np.linalg.eigh(last[:, :-1] @ (spread @ covariance @ spread.T) @ last[:, :-1].T)
        third = vectors[:, ::-1][:, : option.inner]
        path = third.T @ last[:, :-1] @ spread
        factors = Factors(factors.first, third.T @ last[:, :-1], third)
        rows = (problem.rows @ path.T.astype(np.float32)).astype(np.float32)
        last = problem.solve_for(rows, np.concatenate([third, last[:, -1:]], axis=1))
    last[:, -1] -= last[:, :-1] @ problem.shift(path)
    return factors, last
