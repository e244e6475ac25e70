"""Weights that become 0, layer by layer, and the others fitted to what the layer computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from edgecc.pruning.chunks import chunks
from edgecc.pruning.features import Linear, Matrix, constant_layer
from edgecc.pruning.fitting import best_weights, fitted_layers, has_bias, layers_in_order, store
from edgecc.pruning.masked_fit import Products
from edgecc.pruning.repair import Target
from edgecc.pruning.rows import RowTable, gather
from edgecc.pruning.saliency import DAMPING
from edgecc.pruning.sparsity import Mask, Pattern, Scores, smallest_gone

if TYPE_CHECKING:
    from edgecc.data.calibration import CalibrationData
    from edgecc.model import Model
    from edgecc.passes.base import WorkProgress

#: What a weight costs. obs: what the output loses when the other weights make up for it (optimal brain surgeon;
#: SparseGPT, arXiv 2301.00774). activation: without the others (Wanda, arXiv 2306.11695). magnitude: its square.
Criterion: TypeAlias = Literal["obs", "activation", "magnitude"]

#: Rounds in which weights go; those that are left are fitted after each.
_ROUNDS = 4
#: Steps of conjugate gradients after each round, and at the end.
_STEPS, _LAST_STEPS = 6, 20
#: Rounds at the end in which what a Relu sets to 0 is set free.
_RECTIFIED = 2
_TINY, _LARGEST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Sparsity:
    """What a layer loses.

    Attributes:
        zeros: weights that are 0 afterwards; of no meaning with a pattern.
        pattern: which of them; None for any.
    """

    zeros: int
    pattern: Pattern | None = None

    def mask(self, scores: Scores, taps: int, share: float) -> Mask:
        """What stays when that share of what has to go is gone."""
        if self.pattern is None:
            return smallest_gone(scores, round(share * self.zeros))
        lost = round(share * (self.pattern.of - self.pattern.keep))
        return self.pattern.mask(scores, taps, self.pattern.of - lost)


def costs_of(gram: Matrix, criterion: Criterion, left: float, *, biased: bool = True) -> Matrix:
    """What the square of a weight of each feature costs.

    For obs it is 1 / (H⁻¹)_jj, as if all others were there to make up for it. Between weights of a layer that is what
    tells them apart best; between layers it flatters those whose features say the same several times over. There, of
    products between features only the share `left` is counted, as if each output had kept another choice of them.

    Args:
        gram: sum of the products of rows, [features, features].
        criterion: what a weight costs.
        left: share of the weights that is not 0.
        biased: whether the last feature is one, to which a bias belongs, which costs nothing.
    """
    features = np.arange(len(gram) - biased)
    if criterion == "magnitude":
        return np.ones(len(features))
    power = np.diagonal(gram)[features]
    if criterion == "activation":
        return np.asarray(power, np.float64)
    # The bias stays and makes up for the mean. With fewer of the products a variance is one still, a power not.
    inner = _without_mean(gram) if biased else gram
    mixed = (left * inner).astype(np.float32)  # damped as it is, that is enough
    mixed[features, features] = np.diagonal(inner) + DAMPING * float(np.mean(power)) + _TINY
    return np.asarray(1 / np.diagonal(np.linalg.inv(mixed)), np.float64)


def _without_mean(gram: Matrix) -> Matrix:
    """Sum of the products of features less their means, from that of rows that end with a one."""
    means: Matrix = np.outer(gram[-1, :-1], gram[-1, :-1]) / max(1.0, float(gram[-1, -1]))
    return gram[:-1, :-1] - means


def measured_scores(
    model: Model,
    linears: Sequence[Linear],
    criterion: Criterion,
    left: float,
    data: CalibrationData | None,
    progress: WorkProgress,
) -> list[Scores]:
    """What each weight of each layer costs, as a share of the variance of what the layer computes.

    Args:
        model: not changed.
        linears: layers of it.
        criterion: what a weight costs.
        left: share of the weights that will not be 0.
        data: samples; None only for magnitude, for which it is the share of the layer's squared weights.
        progress: called after each run.
    """
    if criterion == "magnitude" or data is None:
        squares = [linear.weights[:, :-1] ** 2 for linear in linears]
        return [(found / max(float(found.sum()), _TINY)).astype(np.float32) for found in squares]
    result: list[Scores] = []
    for part in chunks(linears, linears):
        for linear, rows in zip(part, gather(model, part, data, "measuring weights", progress), strict=True):
            gram, weights = (rows.T @ rows).astype(np.float64), linear.weights[:, :-1]
            energy = float(((weights @ _without_mean(gram)) * weights).sum())
            # Of a layer whose result never changes, any weight costs all there is.
            biased = has_bias(model, linear.node)
            costs = costs_of(gram if biased else gram[:-1, :-1], criterion, left, biased=biased)
            shares = weights**2 * costs / max(energy, _TINY)
            result.append(np.minimum(shares, _LARGEST).astype(np.float32))
    return result


@dataclass(frozen=True)
class Sparsifier:
    """How weights go.

    Attributes:
        criterion: which of them.
        progress: called after each run.
    """

    criterion: Criterion
    progress: WorkProgress

    def with_repair(self, model: Model, chosen: Mapping[str, Sparsity], kept: set[str], data: CalibrationData) -> None:
        """Sparsify layers of a model, and fit all layers behind the first of them to what they computed.

        Args:
            model: changed.
            chosen: what layers lose, by the nodes' names.
            kept: names of layers whose weights stay as they are.
            data: samples.
        """
        names = [name for name in fitted_layers(model) if name not in kept]
        first = next(place for place, name in enumerate(names) if name in chosen)
        found = layers_in_order(model.clone(), model, names[first:], data, self.progress)
        for target, rows, others in found:
            node = target.site.second
            lost, biased = chosen.get(node.name), has_bias(model, node)
            if lost is None:
                weights = best_weights(target, rows, others, biased=biased)
            else:
                weights = _Given(target, rows, others, biased).sparse(lost, self.criterion)
            store(model, node, weights)

    def without_repair(self, model: Model, chosen: Mapping[str, Sparsity], scores: Mapping[str, Scores]) -> None:
        """Set weights of layers to 0 and leave the others.

        Args:
            model: changed.
            chosen: what layers lose, by the nodes' names.
            scores: of their weights.
        """
        for node in model.nodes("Conv", "Gemm", "MatMul"):
            lost = chosen.get(node.name)
            if lost is None:
                continue
            linear = constant_layer(node)
            weights = linear.weights.copy()
            weights[:, :-1][~lost.mask(scores[node.name], linear.taps, 1.0)] = 0
            store(model, node, np.concatenate([weights[:, :-1], linear.weights[:, -1:]], axis=1))


class _Given:
    """What is known of a layer that is about to get other weights.

    Args:
        target: what it should compute.
        rows: that it reads by now, [n, features + 1].
        others: what is added to its result.
        biased: whether there is a bias to be fitted.
    """

    def __init__(self, target: Target, rows: RowTable, others: RowTable, biased: bool) -> None:
        self._site, self._values, self._others, self._biased = target.site, target.values, others, biased
        self._rows = rows if biased else np.ascontiguousarray(rows[:, :-1])
        start = target.site.after.weights
        self._start = start if biased else start[:, :-1]

    def _whole(self, weights: Matrix) -> Matrix:
        """With a column for a bias."""
        return weights if self._biased else np.concatenate([weights, np.zeros((len(weights), 1))], axis=1)

    def sparse(self, lost: Sparsity, criterion: Criterion) -> Matrix:
        """Weights with zeros: some go, the others are fitted, and again."""
        products = Products.of(self._start, self._rows, self._values - self._others, biased=self._biased)
        width, taps = self._rows.shape[1] - self._biased, self._site.after.taps
        weights = products.solve()
        costs = costs_of(products.gram, criterion, 1.0, biased=self._biased)
        mask = np.ones((len(weights), width), bool)
        for number in range(1, _ROUNDS + 1):
            scores = (weights[:, :width] ** 2 * costs).astype(np.float32)
            scores[~mask] = -1
            mask = lost.mask(scores, taps, 1 - (1 - number / _ROUNDS) ** 3)
            weights = products.descend(weights, mask, _LAST_STEPS if number == _ROUNDS else _STEPS)
        for _ in range(_RECTIFIED if self._site.rectified else 0):
            now = self._rows @ weights.T.astype(np.float32) + self._others
            wanted = np.where(self._values > 0, self._values, np.minimum(now, 0)) - self._others
            weights = products.towards(self._start, self._rows, wanted).descend(weights, mask, _STEPS)
        return self._whole(weights)
