"""How many components of a matrix are no noise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from edgecc.statistics.answers import Array


#: Of the golden section search over the noise's variance.
_SECTIONS = 80


def evbmf_rank(matrix: Array) -> int:
    """Rank by empirical variational Bayesian matrix factorization, with the noise's variance estimated.

    The global solution in closed form (Nakajima, Sugiyama, Babacan and Tomioka, JMLR 14, 2013): components are kept
    whose singular value is above a threshold that depends on the shape and on the noise alone.

    Args:
        matrix: of any shape.
    """
    low, high = sorted(matrix.shape)
    squares = np.linalg.svd(matrix, compute_uv=False) ** 2
    if not squares.size or squares[0] <= 0:
        return 0
    alpha = low / high
    tau = 2.5129 * np.sqrt(alpha)
    limit = (1 + tau) * (1 + alpha / tau)
    most = min(int(np.ceil(low / (1 + alpha))) - 1, low) - 1
    tail = squares[most + 1 :]
    upper = float(squares.sum()) / (low * high)
    lower = max(float(squares[most + 1]) / (high * limit), float(tail.mean()) / high) if tail.size else upper * 1e-6
    lower = min(max(lower, upper * 1e-12), upper)
    variance = _minimum(lambda value: _free_energy(squares / (high * value), alpha, limit), lower, upper)
    return int(np.count_nonzero(squares > high * variance * limit))


def _free_energy(x: Array, alpha: float, limit: float) -> float:
    """Up to a constant, as a function of squared singular values relative to the noise."""
    x = np.maximum(x, np.finfo(np.float64).tiny)
    small, large = x[x <= limit], x[x > limit]
    found = float((small - np.log(small)).sum())
    if large.size:
        shifted = large - (1 + alpha)
        tau = (shifted + np.sqrt(np.maximum(shifted**2 - 4 * alpha, 0.0))) / 2
        found += float((large - tau + np.log((tau + 1) / large) + alpha * np.log(tau / alpha + 1)).sum())
    return found


def _minimum(function, low: float, high: float) -> float:  # type: ignore[no-untyped-def]
    """Where a function of a positive number is least: on a grid of ratios, then between the neighbours of its best."""
    grid = np.geomspace(low, high, _SECTIONS)
    best = int(np.argmin([function(value) for value in grid]))
    fine = np.geomspace(grid[max(0, best - 1)], grid[min(len(grid) - 1, best + 1)], _SECTIONS)
    return float(fine[int(np.argmin([function(value) for value in fine]))])
