"""What outputs lose."""

from __future__ import annotations

import numpy as np
import pytest

from edgecc.pruning.output_errors import OutputErrors, score_names

from .test_coupling import with_weights

PLAIN = "g (float[N,4] x) => (float[N,3] y) <float[4,3] w> { y = MatMul(x, w) }"
CLASSES = "g (float[N,4] x) => (float[N,3] y) <float[4,3] w> { a = MatMul(x, w) y = Softmax(a) }"
BOTH = """g (float[N,4] x) => (float[N,3] y, int64[N,1] z) <float[4,3] w>
{ y = MatMul(x, w) z = ArgMax<axis = 1>(y) }"""


def outputs(*values: float) -> dict[str, np.ndarray]:
    return {"y": np.array([values], np.float32)}


@pytest.mark.parametrize("apart", [False, True])
def test_errors_are_relative_to_the_variance_of_all_samples(apart: bool) -> None:
    """However many of them are run at once."""
    before, after = np.array([[1.0], [-1], [3], [-3]], np.float32), np.zeros((4, 1), np.float32)
    first, second = ([{"y": part} for part in np.split(values, 4 if apart else 1)] for values in (before, after))
    errors = OutputErrors(with_weights(PLAIN), first)
    assert errors.total(second) == pytest.approx(1)
    assert errors.total(first) == 0


def test_indices_have_no_errors() -> None:
    assert score_names(with_weights(BOTH)) == ["y"]
    expected = {"y": np.array([[1, 2, 3]], np.float32), "z": np.array([[2]])}
    errors = OutputErrors(with_weights(BOTH), [expected])
    assert errors.total([expected | {"z": np.array([[0]])}]) == 0


@pytest.mark.parametrize("text", [PLAIN, CLASSES])
def test_what_was_not_finite_does_not_count(text: str) -> None:
    expected = [outputs(0.2, np.nan, 0.7), outputs(0.1, 0.2, 0.7)]
    errors = OutputErrors(with_weights(text), expected)
    assert errors.total(expected) == 0
    assert 0 < errors.total([outputs(0.3, 0.0, 0.6), outputs(0.2, 0.2, 0.6)]) < 10


@pytest.mark.parametrize("text", [PLAIN, CLASSES])
def test_what_is_no_longer_finite_is_worst_and_a_number(text: str) -> None:
    errors = OutputErrors(with_weights(text), [outputs(0.1, 0.2, 0.7)])
    assert 1e20 < errors.total([outputs(0.1, np.nan, 0.7)]) < np.inf


def test_losses_of_one_do_not_change_those_of_another() -> None:
    errors = OutputErrors(with_weights(PLAIN), [outputs(1, 2, 3)])
    broken, whole = errors.lost(0, outputs(np.inf, 2, 3)), errors.lost(0, outputs(1, 2, 4))
    for table, place in ((np.array([broken, whole]), 1), (np.array([whole, broken]), 0)):
        assert errors.relative(table)[place] == pytest.approx(0.5)
