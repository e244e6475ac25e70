"""Least squares on what a layer should compute, where some of its weights are 0."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from edgecc.pruning.features import Matrix
    from edgecc.pruning.rows import RowTable
    from edgecc.pruning.sparsity import Mask

#: Added to the diagonal, as a share of its mean: draws weights towards what they were.
_RIDGE = 1e-3


@dataclass(frozen=True)
class Products:
    """What least squares has to know of a layer's data, with ridge regression towards the weights that there are.

    Attributes:
        gram: sum of the products of rows, [features, features], with the ridge on its diagonal.
        wanted: sum of the products of what should come out and rows, [outputs, features].
        ridge: on the diagonal, for all features but a bias.
        biased: whether the last feature is one.
    """

    gram: Matrix
    wanted: Matrix
    ridge: float
    biased: bool

    @staticmethod
    def of(start: Matrix, rows: RowTable, wanted: RowTable, *, biased: bool) -> Products:
        """Those of a layer.

        Args:
            start: weights that there are, [outputs, features].
            rows: [n, features].
            wanted: [n, outputs].
            biased: whether the last feature is one.
        """
        gram: Matrix = (rows.T @ rows).astype(np.float64)
        held = np.arange(len(gram) - biased)
        ridge = _RIDGE * float(np.trace(gram)) / len(gram) + float(np.finfo(np.float32).tiny)
        gram[held, held] += ridge
        return Products(gram, start, ridge, biased).towards(start, rows, wanted)

    def towards(self, start: Matrix, rows: RowTable, wanted: RowTable) -> Products:
        """The same rows, and something else that should come out."""
        products = (wanted.T @ rows).astype(np.float64)
        held = slice(0, len(self.gram) - self.biased)
        products[:, held] += self.ridge * start[:, held]
        return Products(self.gram, products, self.ridge, self.biased)

    def solve(self) -> Matrix:
        """The best weights, [outputs, features]."""
        return np.asarray(np.linalg.solve(self.gram, self.wanted.T).T, np.float64)

    def descend(self, start: Matrix, mask: Mask, steps: int) -> Matrix:
        """The best weights with zeros, by conjugate gradients, each output alone.

        Args:
            start: [outputs, features].
            mask: of what may be something else than 0, without the bias, which always may.
            steps: of conjugate gradients, which are preconditioned by the diagonal.
        """
        free = np.concatenate([mask, np.ones((len(mask), 1), bool)], axis=1) if self.biased else mask
        gram = self.gram.astype(np.float32)
        scale = np.diagonal(gram)
        weights = np.where(free, start, 0).astype(np.float32)
        residual = np.where(free, self.wanted - weights @ gram, 0).astype(np.float32)
        direction = residual / scale
        size = (residual * direction).sum(axis=1, keepdims=True)
        tiny = np.finfo(np.float32).tiny
        for _ in range(steps):
            image = np.where(free, direction @ gram, 0)
            step = size / np.maximum((direction * image).sum(axis=1, keepdims=True), tiny)
            weights += step * direction
            residual -= step * image
            preconditioned = residual / scale
            before, size = size, (residual * preconditioned).sum(axis=1, keepdims=True)
            direction = preconditioned + size / np.maximum(before, tiny) * direction
        return weights.astype(np.float64)
