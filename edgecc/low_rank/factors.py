"""Two factors of a layer's weights that keep what it computes on data, and what they lose at every rank."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgecc.low_rank.splits import Split
from edgecc.statistics.answers import Array

#: Added to the diagonal of covariances, as a share of its mean.
DAMPING = 1e-4
#: Rounds of alternating least squares, and steps of conjugate gradients in each.
_ROUNDS, _STEPS = 8, 24


@dataclass(frozen=True)
class Basis:
    """First factors of every rank, the leading rows of one matrix, and what is lost with the best second ones.

    Attributes:
        split: where.
        first: [largest rank, features of the first layer].
        explained: [rows, outputs]: with its first `rank * places` rows, the sum of their squares is the part of the
            output's variance that a second factor can keep.
        energy: the output's variance, summed over channels.
    """

    split: Split
    first: Array
    explained: Array
    energy: float

    def errors(self) -> Array:
        """Share of the output's variance that is lost at each rank from 0 on."""
        kept = (self.explained**2).sum(axis=1).reshape(-1, self.split.places).sum(axis=1)
        return self._lost(np.concatenate([[0.0], np.cumsum(kept)]))

    def inner_errors(self, rank: int) -> Array:
        """The same at a rank, for each number from 0 on of channels that come out of the second layer."""
        part = self.explained[: rank * self.split.places]
        kept = np.linalg.eigvalsh(part.T @ part)[::-1]
        return self._lost(np.concatenate([[0.0], np.cumsum(kept)]))

    def _lost(self, kept: Array) -> Array:
        return np.clip(1 - kept / max(self.energy, float(np.finfo(np.float64).tiny)), 0.0, 1.0)


def basis_of(weights: Array, covariance: Array, split: Split) -> Basis:
    """The first factors of all ranks.

    Where the first layer has the whole kernel they are the principal components of the output, which no others beat;
    elsewhere those of the weights behind inputs that are whitened by their average covariance over the kernel's places.

    Args:
        weights: [outputs, features].
        covariance: of the features, damped.
        split: where.
    """
    energy = float(np.einsum("of,of->", weights @ covariance, weights))
    first = _components(weights, covariance) if split.places == 1 else _whitened(weights, covariance, split)
    spread = split.spread(first)
    products = covariance @ spread.T
    factor = _cholesky(spread @ products)
    explained = np.linalg.solve(factor, (weights @ products).T)
    return Basis(split, first, explained, energy)


def _components(weights: Array, covariance: Array) -> Array:
    vectors, _, _ = np.linalg.svd(weights @ _cholesky(covariance), full_matrices=False)
    found: Array = vectors.T @ weights
    return found


def _whitened(weights: Array, covariance: Array, split: Split) -> Array:
    average = np.mean([covariance[np.ix_(taps, taps)] for taps in split.taps], axis=0)
    values, vectors = np.linalg.eigh(average)
    values = np.maximum(values, values[-1] * 1e-10)
    root, inverse = ((vectors * values**power) @ vectors.T for power in (0.5, -0.5))
    parts = [weights[:, taps] @ root for taps in split.taps]
    _, directions = np.linalg.eigh(np.sum([part.T @ part for part in parts], axis=0))
    found: Array = directions[:, ::-1][:, : split.most()].T @ inverse
    return found


def damped(covariance: Array, share: float = DAMPING) -> Array:
    """With something on the diagonal: what never varies, or follows from the rest, cannot be divided by."""
    result = covariance.copy()
    count = np.arange(len(result))
    result[count, count] += share * float(np.trace(result)) / len(result) + float(np.finfo(np.float32).tiny)
    return result


@dataclass(frozen=True)
class Factors:
    """Weights of the two or three layers.

    Attributes:
        first: [rank, features of the first layer].
        second: [outputs, rank * places]; [inner, rank * places] if there is a third one.
        third: [outputs, inner], or None.
    """

    first: Array
    second: Array
    third: Array | None = None


def factorize(weights: Array, covariance: Array, split: Split, rank: int, inner: int = 0) -> Factors:
    """The factors at given ranks.

    Args:
        weights: [outputs, features].
        covariance: of the features, damped.
        split: where.
        rank: channels between the first layer and the second.
        inner: channels between the second and a third; 0 for no third one.
    """
    first = basis_of(weights, covariance, split).first[:rank]
    second, left = _second(weights, covariance, split, first)
    if split.places > 1:
        for _ in range(_ROUNDS):
            first = _refined(weights, covariance, split, first, second)
            second, left = _second(weights, covariance, split, first)
    if not inner:
        return Factors(first, second)
    _, vectors = np.linalg.eigh(second @ left @ second.T)
    third = vectors[:, ::-1][:, :inner]
    return Factors(first, third.T @ second, third)


def _second(weights: Array, covariance: Array, split: Split, first: Array) -> tuple[Array, Array]:
    """The best second factor, and the covariance of what it reads."""
    spread = split.spread(first)
    products = covariance @ spread.T
    left = spread @ products
    factor = _cholesky(left)
    half = np.linalg.solve(factor, (weights @ products).T)
    solved: Array = np.linalg.solve(factor.T, half).T
    return solved, left


def _refined(weights: Array, covariance: Array, split: Split, first: Array, second: Array) -> Array:
    """A better first factor for a second one, by conjugate gradients on what is lost."""
    places = second.reshape(len(second), -1, split.places)

    def gradient(part: Array) -> Array:
        """Of half the error with respect to the first factor, from the error of the weights."""
        rows = part @ covariance
        parts = [places[:, :, i].T @ rows[:, taps] for i, taps in enumerate(split.taps)]
        total: Array = np.sum(parts, axis=0)
        return total

    residual = gradient(weights - second @ split.spread(first))
    direction, size = residual, float((residual**2).sum())
    for _ in range(_STEPS):
        if size <= 0:
            break
        image = gradient(second @ split.spread(direction))
        step = size / max(float((direction * image).sum()), float(np.finfo(np.float64).tiny))
        first, residual = first + step * direction, residual - step * image
        before, size = size, float((residual**2).sum())
        direction = residual + size / before * direction
    return first


def _cholesky(matrix: Array) -> Array:
    """Of a matrix whose rows may follow from one another."""
    scale = float(np.trace(matrix)) / len(matrix) + float(np.finfo(np.float32).tiny)
    factor: Array = np.linalg.cholesky(matrix + np.eye(len(matrix)) * scale * 1e-9)
    return factor
