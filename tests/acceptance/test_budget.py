"""How much may be lost, and whether it is."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgecc.acceptance.budget import LossBudget
from edgecc.measuring.metrics import Fidelity, fidelity, wilson_interval


def outputs(right: int, samples: int) -> dict[str, Fidelity]:
    """Class scores of which so many keep their largest."""
    expected = np.eye(2, dtype=np.float32)[np.zeros(samples, int)]
    found = np.eye(2, dtype=np.float32)[(np.arange(samples) >= right).astype(int)]
    return {"y": fidelity(expected, found)}


@pytest.mark.parametrize(
    ("right", "samples", "low", "high"),
    # Worked out by hand from Wilson's formula with z = 1.96, and as in Newcombe (1998), table I: 81 of 263.
    [(81, 263, 0.2553, 0.3662), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (1, 2, 0.0945, 0.9055)],
)
def test_interval(right: int, samples: int, low: float, high: float) -> None:
    # The tables have four digits.
    assert wilson_interval(right / samples, samples) == pytest.approx((low, high), abs=6e-5)


def test_interval_without_samples() -> None:
    assert wilson_interval(1.0, 0) == (0.0, 1.0)


def test_interval_covers_what_it_says() -> None:
    """Of many shares that are counted, 95 % have the true one in their interval, up to the steps of counting."""
    counted = np.random.default_rng(0).binomial(64, 0.9, 4000) / 64
    covered = [low <= 0.9 <= high for low, high in (wilson_interval(share, 64) for share in counted)]
    assert 0.92 < np.mean(covered) < 0.98


@pytest.mark.parametrize(("drop", "needed"), [(None, 1), (0, 1), (2, 50), (1, 100), (0.3, 334), (50, 2), (99, 2)])
def test_samples_needed(drop: float | None, needed: int) -> None:
    assert LossBudget(max_drop=drop).samples_needed() == needed


@pytest.mark.parametrize(("right", "refused"), [(64, False), (62, False), (61, True), (0, True)])
def test_drop(right: int, refused: bool) -> None:
    # Two of 64 are 3.125 points.
    assert bool(LossBudget(max_drop=3.125).refusal(outputs(right, 64), 64)) == refused


def test_words() -> None:
    found = LossBudget(max_drop=3).refusal(outputs(61, 64), 64)
    assert found == (
        "4.7 points of agreement are lost in output 'y' (1.6 to 12.9 with 95 % confidence on 64 samples), "
        "and max_drop allows 3"
    )


def test_the_worst_output_counts() -> None:
    both = {"good": outputs(64, 64)["y"], "bad": outputs(50, 64)["y"]}
    assert "'bad'" in LossBudget(max_drop=3).refusal(both, 64)
    assert "'bad'" in LossBudget(min_sqnr=30).refusal(both, 64)


@pytest.mark.parametrize("sqnr", [math.nan, -math.inf, 19.9])
def test_sqnr(sqnr: float) -> None:
    found = Fidelity(0, 0, 0, sqnr, 0)
    assert LossBudget(min_sqnr=20).refusal({"a": Fidelity(0, 0, 0, 50, 1), "y": found}, 8)
    assert not LossBudget().refusal({"y": found}, 8)
    assert not LossBudget(min_sqnr=20).refusal({"y": Fidelity(0, 0, 0, 20.0, 0)}, 8)
