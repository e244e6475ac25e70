"""Which weights go, and least squares on what is left."""

from __future__ import annotations

import numpy as np
import pytest

from edgecc.pruning.masked_fit import Products
from edgecc.pruning.sparsity import Pattern, smallest_gone, zeros_at

RNG = np.random.default_rng(0)


def test_the_smallest_of_a_layer_go() -> None:
    scores = np.arange(12, dtype=np.float32).reshape(3, 4)[::-1]
    mask = smallest_gone(scores, 5)
    assert (scores[~mask] == np.arange(5)[np.argsort(np.argsort(scores[~mask]))]).all()
    assert int((~mask).sum()) == 5


@pytest.mark.parametrize("taps", [1, 9])
def test_pattern_lies_along_the_channels(taps: int) -> None:
    """At each place of a kernel, two of four neighbouring channels stay: the two that score highest."""
    scores = RNG.random((5, 8 * taps)).astype(np.float32)
    pattern = Pattern(2, 4)
    mask = pattern.mask(scores, taps, 2)
    by_channel = mask.reshape(5, 2, 4, taps)
    assert (by_channel.sum(axis=2) == 2).all()
    kept = np.sort(np.where(by_channel, scores.reshape(5, 2, 4, taps), 0), axis=2)[:, :, 2:]
    np.testing.assert_array_equal(kept, np.sort(scores.reshape(5, 2, 4, taps), axis=2)[:, :, 2:])
    assert pattern.holds(np.where(mask, 1.0, 0.0), taps)


def test_pattern_along_another_axis_does_not_hold() -> None:
    weights = np.zeros((4, 8, 4))
    weights[..., :2] = 1  # two of four places of the kernel, not of four channels
    assert not Pattern(2, 4).holds(weights.reshape(4, 32), 4)
    assert Pattern(2, 4).holds(weights.reshape(4, 32), 1)
    assert not Pattern(2, 4).holds(np.zeros((4, 6)), 1)


def test_the_cheapest_of_all_layers_go() -> None:
    cheap, dear = np.full((4, 5), 1.0, np.float32), np.full((8, 5), 2.0, np.float32)
    assert zeros_at([cheap, dear], 0.2, 0.0) == [12, 0]
    assert zeros_at([cheap, dear], 0.5, 0.0) == [20, 10]
    assert zeros_at([cheap, dear], 0.5, 0.25) == [15, 15]
    assert zeros_at([cheap, dear], 0.9, 0.25) == [15, 30]


@pytest.mark.parametrize("biased", [False, True])
def test_masked_fit_is_least_squares_of_each_output(biased: bool) -> None:
    rows = (RNG.standard_normal((400, 12)) @ RNG.standard_normal((12, 12))).astype(np.float32)
    if biased:
        rows = np.concatenate([rows, np.ones((400, 1), np.float32)], axis=1)
    width = 12
    wanted = (rows[:, :width] @ RNG.standard_normal((12, 5)) + 3 * biased).astype(np.float32)
    mask = RNG.random((5, width)) < 0.5
    start = np.zeros((5, rows.shape[1]))
    found = Products.of(start, rows, wanted, biased=biased).descend(start, mask, 60)
    assert not found[:, :width][~mask].any()
    ridge = 1e-3 * float(np.trace(rows.T @ rows)) / rows.shape[1]
    for index in range(5):
        free = np.concatenate([mask[index], np.ones(int(biased), bool)])
        part = rows[:, free].astype(np.float64)
        held = np.diag([ridge] * int(mask[index].sum()) + [0.0] * biased)
        best = np.linalg.solve(part.T @ part + held, part.T @ wanted[:, index])
        np.testing.assert_allclose(found[index, free], best, atol=1e-3 * np.abs(best).max())
