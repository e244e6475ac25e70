"""Tests of ranks by empirical variational Bayes, on matrices whose rank is known."""

from __future__ import annotations

import numpy as np
import pytest

from edgecc.low_rank.ranks import evbmf_rank


def planted(seed: int, shape: tuple[int, int], rank: int, noise: float) -> np.ndarray:
    rng = np.random.default_rng(seed)
    left, _ = np.linalg.qr(rng.standard_normal((shape[0], max(1, rank))))
    right, _ = np.linalg.qr(rng.standard_normal((shape[1], max(1, rank))))
    sizes = np.linspace(4, 8, rank) * np.sqrt(max(shape)) * noise
    return (left[:, :rank] * sizes) @ right[:, :rank].T + noise * rng.standard_normal(shape)


@pytest.mark.parametrize("shape", [(60, 200), (200, 60), (100, 100)])
@pytest.mark.parametrize("rank", [1, 5, 12])
@pytest.mark.parametrize("noise", [1e-3, 1.0])
def test_planted_ranks_are_found(shape, rank, noise):
    assert evbmf_rank(planted(rank, shape, rank, noise)) == rank


@pytest.mark.parametrize("seed", range(5))
def test_noise_has_no_rank(seed):
    assert evbmf_rank(planted(seed, (80, 240), 0, 1.0)) == 0


def test_what_is_below_the_noise_is_not_seen():
    rng = np.random.default_rng(0)
    weak = np.outer(rng.standard_normal(80), rng.standard_normal(240)) * 0.02
    assert evbmf_rank(weak + rng.standard_normal((80, 240))) == 0


def test_zeros():
    assert evbmf_rank(np.zeros((4, 6))) == 0
    assert evbmf_rank(np.ones((1, 1))) in (0, 1)
