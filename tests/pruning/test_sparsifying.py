"""What single weights cost."""

from __future__ import annotations

import numpy as np
import pytest

from edgecc.pruning.sparsifying import costs_of


@pytest.mark.parametrize("left", [0.1, 0.5, 1.0])
def test_features_that_never_change_cost_something(left: float) -> None:
    """Of their products a share is counted: no weight is worth less than nothing for that."""
    rows = np.array([[6, 6, 1]] * 8, np.float64)
    assert (costs_of(rows.T @ rows, "obs", left) > 0).all()


def test_without_the_others_a_weight_costs_the_variance() -> None:
    rows = np.array([[1, 1, 1], [3, 1, 1], [1, 3, 1], [3, 3, 1]], np.float64)
    gram = rows.T @ rows
    damping = 0.01 * 20
    np.testing.assert_allclose(costs_of(gram, "obs", 0.5), [4 + damping, 4 + damping], rtol=1e-5)
    np.testing.assert_allclose(costs_of(gram, "activation", 0.5), [20, 20])


def test_without_a_bias_a_mean_is_not_made_up_for() -> None:
    rows = np.random.default_rng(0).standard_normal((256, 4)) * [0.1, 1, 1, 1] + [3, 0, 0, 0]
    costs = costs_of(rows.T @ rows, "obs", 1.0, biased=False)
    assert costs.shape == (4,)
    assert costs[0] > 3 * costs[1:].max()
