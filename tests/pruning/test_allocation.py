"""How many units each group loses."""

from __future__ import annotations

import numpy as np
import pytest

from edgecc.pruning.allocation import Work, allocate, share_left
from edgecc.pruning.saliency import Curve

#: Two layers in a row, and one that reads a tensor beside which it writes.
WORKS = [
    Work(600, {}, {0: 1.0}, 3, 12),
    Work(900, {0: 1.0}, {1: 2.0}, 12, 16),
    Work(500, {0: 0.5, 1: 1.0}, {1: 1.0}, 20, 8),
]
SIZES = [12, 8]


def curve(seed: int, most: int) -> Curve:
    steps = np.random.default_rng(seed).random(most)
    return Curve(np.arange(most), np.concatenate([[0.0], np.cumsum(steps)]))


@pytest.mark.parametrize("group", [0, 1, 2])
def test_all_counts_at_once_are_each_of_them(group: int) -> None:
    counts, gone = np.arange(5), [3, 2, 0]
    for work in WORKS:
        one_by_one = [work.left([*gone[:group], int(count), *gone[group + 1 :]]) for count in counts]
        np.testing.assert_array_equal(work.left_at(gone, group, counts), one_by_one)


@pytest.mark.parametrize("multiples", [[1, 1], [4, 2]])
@pytest.mark.parametrize("budget", [0.3, 0.6, 0.9])
def test_budget_is_met_and_no_group_can_get_units_back(budget: float, multiples: list[int]) -> None:
    gone = allocate([curve(0, 10), curve(1, 6)], WORKS, budget, multiples, SIZES)
    assert share_left(WORKS, gone) <= budget
    for group, multiple in enumerate(multiples):
        assert (SIZES[group] - gone[group]) % multiple == 0
        if gone[group]:
            fewer = [*gone[:group], gone[group] - multiple, *gone[group + 1 :]]
            assert share_left(WORKS, fewer) > budget


def test_what_cannot_be_met_goes_as_far_as_it_may() -> None:
    assert allocate([curve(0, 10), curve(1, 6)], WORKS, 0.001, [1, 1], SIZES) == [10, 6]
