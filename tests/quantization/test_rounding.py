"""Tests of the choice of integers against all choices there are, and against AdaRound's relaxation."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from edgecc.quantization.rounding import Choices, cost, round_weights


def problem(seed: int, outputs: int, features: int, rows: int = 400) -> tuple[Choices, np.ndarray]:
    """Weights of four bits and the products of data whose features go together."""
    rng = np.random.default_rng(seed)
    data = rng.standard_normal((rows, features)) @ (rng.standard_normal((features, features)) * 0.3 + np.eye(features))
    weights = rng.standard_normal((1, outputs, features)).astype(np.float32)
    scale = (np.abs(weights).max(axis=2, keepdims=True) / 7).astype(np.float32)
    limit = np.full((1, 1, 1), 7, np.float32)
    products = (data.T @ data / rows).astype(np.float32)[np.newaxis]
    return Choices(weights, scale, np.zeros((1, 1, 1), np.float32), -limit, limit), products


def total(choices: Choices, integers: np.ndarray, products: np.ndarray) -> float:
    return float(cost(choices.error(integers), products).sum())


@pytest.mark.parametrize("seed", range(5))
def test_near_the_best_of_all_choices(seed: int) -> None:
    choices, products = problem(seed, 1, 10)
    two = choices.beside()
    every = np.array(list(product((0, 1), repeat=10)), np.float32)[:, np.newaxis] + two.low
    errors = (every - two.zero) * two.scale - two.weights
    best = cost(errors, np.broadcast_to(products, (len(every), 10, 10))).min()
    found = total(two, round_weights(two, products), products)
    assert best <= found * 1.0001
    # Greedy: within a fifth of the best; nearest rounding is 2 to 6 times as far.
    assert found <= 1.2 * best
    assert total(two, two.nearest(), products) > 1.3 * best


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("features", [3, 40, 300])
def test_never_more_than_nearest_for_any_output(seed: int, features: int) -> None:
    choices, products = problem(seed, 8, features)
    for allowed in (choices, choices.beside()):
        integers = round_weights(allowed, products)
        assert ((integers >= allowed.low) & (integers <= allowed.high)).all()
        assert (integers == np.rint(integers)).all()
        before = cost(allowed.error(allowed.nearest()), products)
        assert (cost(allowed.error(integers), products) <= before * 1.0001).all()


def test_features_that_do_not_go_together_are_rounded_to_the_nearest() -> None:
    choices, _ = problem(0, 8, 30)
    products = np.eye(30, dtype=np.float32)[np.newaxis]
    np.testing.assert_array_equal(round_weights(choices, products), choices.nearest())


def test_features_that_are_always_zero() -> None:
    choices, products = problem(0, 8, 30)
    products[:, 5] = products[:, :, 5] = 0
    integers = round_weights(choices, products)
    assert np.isfinite(integers).all()
    assert total(choices, integers, products) < total(choices, choices.nearest(), products)


def relaxed(choices: Choices, products: np.ndarray, steps: int = 3000) -> np.ndarray:
    """AdaRound (arXiv 2004.10568): h(V) between the two integers, pushed to either while the cost falls; Adam."""
    two = choices.beside()
    exact = two.weights / two.scale + two.zero - two.low
    gamma, zeta = -0.1, 1.1
    variable = -np.log((zeta - gamma) / (np.clip(exact, 1e-3, 1 - 1e-3) - gamma) - 1)
    first, second = np.zeros_like(variable), np.zeros_like(variable)
    # The paper's weight of the regularizer is for outputs of unit size.
    strength = 0.01 * float(cost(two.error(two.nearest()), products).mean())
    for step in range(1, steps + 1):
        sigmoid = 1 / (1 + np.exp(-variable))
        h = np.clip(sigmoid * (zeta - gamma) + gamma, 0, 1)
        inside = ((h > 0) & (h < 1)) * sigmoid * (1 - sigmoid) * (zeta - gamma)
        gradient = 2 * (((two.low + h - two.zero) * two.scale - two.weights) @ products) * two.scale
        progress = (step / steps - 0.2) / 0.8
        if progress > 0:
            beta = 2 + 9 * (1 + np.cos(progress * np.pi))
            distance = 2 * h - 1
            gradient -= strength * beta * np.abs(distance) ** (beta - 1) * np.sign(distance) * 2
        gradient *= inside
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        variable -= 0.01 * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-12)
    h = np.clip(1 / (1 + np.exp(-variable)) * (zeta - gamma) + gamma, 0, 1)
    return np.asarray(two.low + (h >= 0.5))


@pytest.mark.parametrize(("features", "seed"), [(30, 0), (100, 1)])
def test_no_worse_than_the_relaxation(features: int, seed: int) -> None:
    choices, products = problem(seed, 16, features)
    theirs = total(choices, relaxed(choices, products), products)
    ours = total(choices.beside(), round_weights(choices.beside(), products), products)
    assert theirs < 0.8 * total(choices, choices.nearest(), products), "the peer works"
    assert ours <= 1.02 * theirs
