"""Tests of what layers become: by energy, by value and to a budget, against a search over everything."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from edgecc.low_rank.options import Option, best_value, by_energy, frontier, to_budget
from edgecc.low_rank.splits import Split

SPLIT = Split("channel", (), (), np.arange(10, dtype=np.int64).reshape(1, 10), 10, 10, 4, 1, 1)


def option(cost: int, error: float) -> Option:
    return Option(SPLIT, 1, 0, cost, cost, 4, error)


def layer(seed: int) -> list[Option]:
    """Errors that grow with what is saved, the faster the more of it."""
    rng = np.random.default_rng(seed)
    costs = np.unique(rng.integers(5, 95, 60))[::-1]
    errors = np.sort(rng.uniform(0, 1, len(costs)) * (1 - costs / 100) ** 2)
    return [
        Option(None, 0, 0, 100, 100, 4, 0.0),
        *(option(int(c), float(e)) for c, e in zip(costs, errors, strict=True)),
    ]


def test_by_energy_takes_the_cheapest_that_keeps_enough():
    options = [option(80, 0.005), option(60, 0.009), option(40, 0.02)]
    assert by_energy(options, 0.99) is options[1]
    assert by_energy(options, 0.999) is None


def test_best_value_weighs_errors_against_what_is_saved():
    options = [option(90, 0.01), option(50, 0.02), option(40, 0.2)]
    assert best_value(options) is options[1]
    assert best_value([]) is None


def test_frontier_is_convex():
    hull = frontier(layer(3), "macs")
    costs, errors = [o.macs for o in hull], [o.error for o in hull]
    assert costs == sorted(costs, reverse=True)
    assert costs[0] == 100
    slopes = -np.diff(errors) / np.diff(costs)
    assert np.all(np.diff(slopes) >= -1e-12)
    assert min(o.macs for o in layer(3)) == costs[-1]


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("share", [0.4, 0.6, 0.9])
def test_a_budget_is_met_nearly_as_well_as_can_be(seed, share):
    layers = [layer(3 * seed + i) for i in range(3)]
    chosen = to_budget(layers, "macs", share * 300)
    assert sum(o.macs for o in chosen) <= share * 300
    best = min(
        sum(o.error for o in combination)
        for combination in itertools.product(*layers)
        if sum(o.macs for o in combination) <= share * 300
    )
    # Greedy steps lose at most the last one, which is short where there are many options.
    assert sum(o.error for o in chosen) <= best + 0.03


def test_a_budget_that_cannot_be_met_gives_the_cheapest():
    layers = [layer(1), layer(2)]
    chosen = to_budget(layers, "macs", 1)
    assert [o.macs for o in chosen] == [min(o.macs for o in options) for options in layers]
