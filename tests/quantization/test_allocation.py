"""Steps from the cheapest choices to the best ones lie on the convex hull."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from edgecc.quantization.allocation import Choice, after, exchange

INT8, INT16, FLOAT = Choice("int8", 1, 9), Choice("int16", 2, 1), Choice("float32", 8, 0)


def test_the_most_gainful_first() -> None:
    start, steps = exchange([[FLOAT, INT8, INT16], [Choice("int8", 1, 90), Choice("float32", 8, 0)]])
    assert [choice.precision for choice in start] == ["int8", "int8"]
    assert [(step.layer, step.choice.precision) for step in steps] == [(1, "float32"), (0, "int16"), (0, "float32")]
    assert [choice.precision for choice in after(start, steps, 2)] == ["int16", "float32"]


def test_what_is_above_the_hull_is_passed_over() -> None:
    # int16 costs nearly as much as float32 and gains little.
    _, steps = exchange([[INT8, Choice("int16", 7, 8), FLOAT]])
    assert [step.choice.precision for step in steps] == ["float32"]


def test_what_costs_nothing_more_comes_first() -> None:
    _, steps = exchange([[INT8, INT16], [Choice("int8", 0, 1), Choice("float32", 0, 0.5)]])
    # The cheapest choice with the least error is where it starts.
    assert [(step.layer, step.choice.precision) for step in steps] == [(0, "int16")]


def test_one_choice_is_no_step() -> None:
    assert exchange([[INT8]]) == ([INT8], [])


#: Costs in whole numbers, so that sums are exact.
choices = st.lists(st.builds(Choice, st.just("p"), st.integers(1, 9), st.integers(0, 99)), min_size=1, max_size=4)


@given(st.lists(choices, min_size=1, max_size=4))
def test_no_other_choices_are_better_at_the_same_cost(layers: list[list[Choice]]) -> None:
    start, steps = exchange(layers)
    for count in range(len(steps) + 1):
        chosen = after(start, steps, count)
        cost, error = sum(c.cost for c in chosen), sum(c.error for c in chosen)
        for others in itertools.product(*layers):
            assert not (sum(c.cost for c in others) <= cost and sum(c.error for c in others) < error)
