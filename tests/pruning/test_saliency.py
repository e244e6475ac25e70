"""The order in which units go, and what is lost on the way."""

from __future__ import annotations

import numpy as np

from edgecc.pruning.saliency import DAMPING, Reader, surgeon_curve


def problem(units: int, taps: int) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Weights [5, features + 1], sums of products of rows, and each unit's features."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((400, units * taps)) @ rng.standard_normal((units * taps, units * taps))
    given = np.concatenate([rows, np.ones((400, 1))], axis=1)
    weights = rng.standard_normal((5, units * taps + 1))
    return weights, given.T @ given, [np.arange(taps) + taps * unit for unit in range(units)]


def test_what_is_left_makes_up_for_what_is_gone_as_well_as_it_can() -> None:
    weights, sums, columns = problem(24, 3)
    reader = Reader(weights, sums, columns)
    curve = surgeon_curve([reader], 24, 18)
    gone = np.concatenate([columns[unit] for unit in curve.order])
    kept = np.setdiff1d(np.arange(weights.shape[1]), gone)
    hessian = sums / sums[-1, -1]
    diagonal = np.arange(len(hessian) - 1)
    hessian[diagonal, diagonal] += DAMPING * np.diagonal(hessian)[:-1].mean()
    expected = np.zeros_like(weights)
    expected[:, kept] = np.linalg.solve(hessian[np.ix_(kept, kept)], hessian[kept] @ weights.T).T
    np.testing.assert_allclose(reader.weights, expected, rtol=1e-6, atol=1e-8)


def test_looked_at_where_it_was_asked_for() -> None:
    weights, sums, columns = problem(200, 1)
    reader, seen = Reader(weights, sums, columns), []
    curve = surgeon_curve(
        [reader], 200, 150, [1, 50, 77, 150], lambda _: seen.append((reader.weights == 0).all(axis=0))
    )
    assert [int(zeros.sum()) for zeros in seen] == [1, 50, 77, 150]
    for zeros in seen:
        assert set(np.flatnonzero(zeros)) == set(curve.order[: int(zeros.sum())].tolist())
    unwatched = surgeon_curve([Reader(weights, sums, columns)], 200, 150)
    np.testing.assert_array_equal(unwatched.order, curve.order)
