"""How far weights go in a direction."""

from __future__ import annotations

import numpy as np
import pytest

from edgecc.data.calibration import CalibrationData, open_calibration
from edgecc.model import Model
from edgecc.passes.base import no_progress
from edgecc.pruning.step_length import at_length, best_length

from .test_coupling import with_weights

PLAIN = "g (float[N,4] x) => (float[N,3] y) <float[4,3] w> { y = MatMul(x, w) }"
CLASSES = "g (float[N,4] x) => (float[N,3] y) <float[4,3] w> { a = MatMul(x, w) y = Softmax(a) }"
INDICES = "g (float[N,4] x) => (int64[N,1] y) <float[4,3] w> { a = MatMul(x, w) y = ArgMax<axis = 1>(a) }"


def data_of(model: Model) -> CalibrationData:
    values = np.random.default_rng(0).standard_normal((64, 4)).astype(np.float32)
    data = open_calibration({"x": values}, model.signature)
    assert isinstance(data, CalibrationData)
    return data


def found(text: str, share: float) -> float:
    """The length where an end is that share of the way to the right weights."""
    original = with_weights(text)
    right = {tensor.name: tensor.values for tensor in original.constants()}
    rng = np.random.default_rng(1)
    start = {name: values + rng.standard_normal(values.shape).astype(np.float32) for name, values in right.items()}
    end = at_length(start, right, share)
    model = original.clone()
    before = model.digest()
    length = best_length(original, model, start, end, data_of(original), no_progress)
    assert model.digest() == before
    return length


@pytest.mark.parametrize("text", [PLAIN, CLASSES, PLAIN.replace("N", "1"), PLAIN.replace("N", "32")])
@pytest.mark.parametrize(("share", "length"), [(1.3, 1), (1, 1), (1 / 1.15, 1.15), (1 / 1.3, 1.3), (0.2, 1.5)])
def test_the_length_with_which_outputs_are_nearest(text: str, share: float, length: float) -> None:
    assert found(text, share) == length


def test_outputs_that_become_worse_on_the_way() -> None:
    assert found(PLAIN, -0.5) == 0


def test_indices_do_not_tell_a_length() -> None:
    assert found(INDICES, 0.2) == 1


def test_weights_on_the_way_keep_their_type() -> None:
    start, end = {"w": np.zeros(2, np.float32)}, {"w": np.ones(2, np.float32)}
    values = at_length(start, end, 1.5)["w"]
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values, [1.5, 1.5])


def test_both_ends_are_met_bit_for_bit() -> None:
    start, end = {"w": np.array([1e8, 0.3], np.float32)}, {"w": np.array([1, 1e-9], np.float32)}
    np.testing.assert_array_equal(at_length(start, end, 1)["w"], end["w"])
    np.testing.assert_array_equal(at_length(start, end, 0)["w"], start["w"])
