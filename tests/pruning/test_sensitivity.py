"""What outputs lose, measured."""

from __future__ import annotations

import numpy as np
import pytest

from edgecc.data.calibration import CalibrationData, open_calibration
from edgecc.model import Model
from edgecc.passes.base import no_progress
from edgecc.pruning.features import linear_of
from edgecc.pruning.saliency import Curve, rescaled
from edgecc.pruning.sensitivity import Trials

from .test_coupling import with_weights

HEAD = "g (float[N,4] x) => (float[N,3] y) <float[4,5] w, float[5,3] v>"
PLAIN = HEAD + "{ a = MatMul(x, w) y = MatMul(a, v) }"
CLASSES = HEAD + "{ a = MatMul(x, w) b = MatMul(a, v) y = Softmax(b) }"


def trials(model: Model) -> Trials:
    values = np.random.default_rng(0).standard_normal((64, 4)).astype(np.float32)
    data = open_calibration({"x": values}, model.signature)
    assert isinstance(data, CalibrationData)
    return Trials(model, data, 2, no_progress)


@pytest.mark.parametrize("text", [PLAIN, CLASSES])
def test_nothing_is_lost_with_the_same_weights_and_all_without_any(text: str) -> None:
    model = with_weights(text)
    linear = linear_of(model.nodes("MatMul")[1])
    assert linear is not None
    measured = trials(model)
    assert measured.error([(linear, linear.weights)]) < 1e-9
    half, none = (measured.error([(linear, linear.weights * share)]) for share in (0.5, 0.0))
    assert 0 < half < none
    if text is PLAIN:
        assert half == pytest.approx(0.25 * none, rel=1e-3)


def test_divergence_of_classes() -> None:
    model = with_weights(CLASSES)
    linear = linear_of(model.nodes("MatMul")[1])
    assert linear is not None
    values = np.random.default_rng(0).standard_normal((64, 4)).astype(np.float32)
    first, second = (t.values for t in (model.nodes("MatMul")[0].inputs[1], model.nodes("MatMul")[1].inputs[1]))
    scores = values @ first @ second
    logs = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    expected = float((np.exp(logs) * (logs + np.log(3))).sum(axis=1).mean())
    assert trials(model).error([(linear, linear.weights * 0)]) == pytest.approx(expected, rel=1e-3)


def test_curve_goes_through_what_was_measured() -> None:
    curve = Curve(np.arange(4), np.array([0.0, 1.0, 2.0, 4.0, 4.0]))
    found = rescaled(curve, [2, 4], [3.0, 5.0])
    np.testing.assert_allclose(found.errors[[0, 2, 4]], [0, 3, 5])
    np.testing.assert_allclose(found.errors[[1, 3]], [1.5, 5], rtol=1e-4)
    assert (np.diff(rescaled(curve, [2, 4], [3.0, 2.0]).errors) >= 0).all()


def test_infinite_scores_have_no_error() -> None:
    model = with_weights(HEAD + "{ a = MatMul(x, w) b = MatMul(a, v) y = Log(b) }")
    linear = linear_of(model.nodes("MatMul")[1])
    assert linear is not None
    # Logarithms of negative numbers are NaN, and of others finite.
    assert 0 < trials(model).error([(linear, linear.weights * 0.5)]) < np.inf


@pytest.mark.parametrize("text", [PLAIN, CLASSES])
def test_outputs_that_are_no_longer_finite_cost_most(text: str) -> None:
    model = with_weights(text)
    linear = linear_of(model.nodes("MatMul")[1])
    assert linear is not None
    measured = trials(model)
    broken = measured.error([(linear, np.full_like(linear.weights, np.nan))])
    assert 1e6 * measured.error([(linear, linear.weights * 0)]) < broken < np.inf
