"""Tests of factors against singular values and against what a search over both factors finds."""

from __future__ import annotations

import numpy as np
import pytest

from edgecc.low_rank.factors import basis_of, damped, factorize
from edgecc.low_rank.splits import Split, splits_of
from edgecc.model import Model

RNG = np.random.default_rng(0)


def convolution(kernel: str = "[3, 3]", more: str = "pads = [1, 1, 1, 1]", size: str = "8,8") -> Model:
    text = f"g (float[1,4,9,8] x) => (float[1,6,{size}] y) {{ y = Conv<kernel_shape = {kernel}, {more}>(x, w) }}"
    shape = tuple(int(part) for part in kernel.strip("[]").split(","))
    return Model.from_text(text, {"w": np.ones((6, 4, *shape), np.float32)})


def splits(model: Model) -> dict[tuple[int, ...], Split]:
    found = splits_of(model.nodes("Conv")[0], 4, 6, ("channel", "spatial", "tucker"))
    return {split.axes: split for split in found}


SPLITS = splits(convolution(size="9,8"))


def data(features: int) -> np.ndarray:
    mix = RNG.standard_normal((features, features)) + np.eye(features)
    return damped(mix @ mix.T / features)


def product(split: Split, factors) -> np.ndarray:
    second = factors.second if factors.third is None else factors.third @ factors.second
    return second @ split.spread(factors.first)


def lost(weights: np.ndarray, other: np.ndarray, covariance: np.ndarray) -> float:
    """Share of the variance of what the weights compute."""
    rest = weights - other
    return float(np.sum((rest @ covariance) * rest) / np.sum((weights @ covariance) * weights))


def test_there_are_four_splits_of_a_square_kernel():
    assert [(split.kind, split.axes) for split in SPLITS.values()] == [
        ("channel", (0, 1)),
        ("spatial", (0,)),
        ("spatial", (1,)),
        ("tucker", ()),
    ]
    assert [split.first_kernel() for split in SPLITS.values()] == [(3, 3), (3, 1), (1, 3), (1, 1)]
    assert [split.second_kernel() for split in SPLITS.values()] == [(1, 1), (1, 3), (3, 1), (3, 3)]


def test_a_kernel_of_size_1_has_one():
    assert list(splits(convolution("[1, 1]", "group = 1", "9,8"))) == [()]
    assert list(splits(convolution("[3, 1]", "group = 1", "7,8"))) == [(0,), ()]


def test_what_a_split_costs():
    strided = splits(convolution("[3, 3]", "pads = [1, 1, 1, 1], strides = [3, 2]", "3,4"))
    assert strided[0, 1].macs(2) == 2 * 4 * 9 * 12 + 2 * 6 * 12
    assert strided[(0,)].macs(2) == 2 * 4 * 3 * 3 * 8 + 6 * 2 * 3 * 12
    assert strided[(1,)].macs(2) == 2 * 4 * 3 * 9 * 4 + 6 * 2 * 3 * 12
    assert strided[()].macs(2, 3) == 2 * 4 * 9 * 8 + 3 * 2 * 9 * 12 + 6 * 3 * 12
    assert strided[()].params(2, 3) == 2 * 4 + 3 * 2 * 9 + 6 * 3
    assert {split.full_macs() for split in strided.values()} == {6 * 36 * 12}


@pytest.mark.parametrize("axes", SPLITS)
def test_what_is_said_to_be_lost_is_lost(axes):
    split, weights, covariance = SPLITS[axes], RNG.standard_normal((6, 36)), data(36)
    basis = basis_of(weights, covariance, split)
    errors = basis.errors()
    assert errors[0] == 1
    assert errors[-1] < 1e-6
    assert np.all(np.diff(errors) <= 1e-12)
    for rank in range(1, len(errors)):
        found = lost(weights, product(split, factorize(weights, covariance, split, rank)), covariance)
        # At full rank nothing is left but what the damping of singular matrices leaves.
        assert found <= errors[rank] + 1e-6
        if split.places == 1:
            assert found == pytest.approx(errors[rank], abs=1e-8)


def test_the_channel_form_is_the_best_of_its_rank():
    """Eckart and Young: behind whitened inputs it is the truncated SVD."""
    split, weights, covariance = SPLITS[0, 1], RNG.standard_normal((6, 36)), data(36)
    sizes = np.linalg.svd(weights @ np.linalg.cholesky(covariance), compute_uv=False) ** 2
    errors = basis_of(weights, covariance, split).errors()
    assert errors[1:] == pytest.approx(1 - np.cumsum(sizes) / sizes.sum(), abs=1e-8)


@pytest.mark.parametrize("axes", [(0,), (1,), ()])
def test_alternating_finds_planted_factors(axes):
    split, covariance = SPLITS[axes], data(36)
    planted = RNG.standard_normal((6, 2 * split.places)) @ split.spread(RNG.standard_normal((2, split.taps.shape[1])))
    found = product(split, factorize(planted, covariance, split, 2))
    assert lost(planted, found, covariance) < 1e-6


def test_data_matter():
    """Inputs that never vary cost nothing, however large their weights are."""
    split, weights = SPLITS[0, 1], RNG.standard_normal((6, 36))
    weights[3:, 18:], weights[3:, :18] = 100 * weights[3:, 18:], 0
    covariance = np.diag(np.r_[np.ones(18), np.full(18, 1e-9)])
    assert lost(weights, product(split, factorize(weights, covariance, split, 3)), covariance) < 1e-3


def test_three_factors():
    split, weights, covariance = SPLITS[()], RNG.standard_normal((6, 36)), data(36)
    basis = basis_of(weights, covariance, split)
    for rank, inner in ((2, 3), (4, 2), (3, 5)):
        factors = factorize(weights, covariance, split, rank, inner)
        assert factors.third is not None
        assert factors.third.shape == (6, inner)
        found = lost(weights, product(split, factors), covariance)
        assert found <= basis.inner_errors(rank)[inner] + 1e-6
        assert found >= basis.errors()[-1]
