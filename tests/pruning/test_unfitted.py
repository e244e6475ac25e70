"""Layers that are not fitted: what reads a unit there, what it costs, and what the model loses without it."""

from __future__ import annotations

import numpy as np
import pytest

from edgecc.data.calibration import CalibrationData, open_calibration
from edgecc.model import Model
from edgecc.passes.base import no_progress
from edgecc.passes.verification import run
from edgecc.pruning.groups import Group, find_coupling
from edgecc.pruning.removal import remove_units
from edgecc.pruning.rows import products_of
from edgecc.pruning.sensitivity import Trials
from edgecc.pruning.tracking import Layer
from edgecc.pruning.unfitted import products_in, shares_of, silent_places, unfitted_readers

from .test_coupling import open_groups, with_weights

INTEGERS = {"axis": [1], "first": [0], "flat": [5, 2, 8]}
HEAD = "g (float[5,2,3] x) => (float[5,2,2] y)"
CASES = {
    "LSTM with states and peepholes": HEAD
    + """ <float[1,16,3] w, float[1,16,4] r, float[1,32] b, float[1,2,4] h, float[1,2,4] c, float[1,12] p, float[4,2] u,
    int64[1] axis> { a = LSTM<hidden_size = 4>(x, w, r, b, , h, c, p) s = Squeeze(a, axis) y = MatMul(s, u) }""",
    "LSTM of other activations": HEAD
    + """ <float[1,16,3] w, float[1,16,4] r, float[1,32] b, float[4,2] u, int64[1] axis>
    { a = LSTM<hidden_size = 4, activations = ["Sigmoid", "Softsign", "Sigmoid"]>(x, w, r, b) s = Squeeze(a, axis)
      y = MatMul(s, u) }""",
    "GRU": HEAD
    + """ <float[1,12,3] w, float[1,12,4] r, float[1,24] b, float[1,2,4] h, float[4,2] u, int64[1] axis>
    { a = GRU<hidden_size = 4>(x, w, r, b, , h) s = Squeeze(a, axis) y = MatMul(s, u) }""",
    "GRU that resets behind": HEAD
    + """ <float[1,12,3] w, float[1,12,4] r, float[1,24] b, float[1,2,4] h, float[4,2] u, int64[1] axis>
    { a = GRU<hidden_size = 4, linear_before_reset = 1>(x, w, r, b, , h) s = Squeeze(a, axis) y = MatMul(s, u) }""",
    "stacked RNN": HEAD
    + """ <float[1,4,3] w, float[1,4,4] r, float[1,6,4] v, float[1,6,6] q, float[6,2] u, int64[1] axis>
    { a = RNN<hidden_size = 4>(x, w, r) s = Squeeze(a, axis) d = RNN<hidden_size = 6, activations = ["Relu"]>(s, v, q)
      e = Squeeze(d, axis) y = MatMul(e, u) }""",
    "both directions": HEAD
    + """ <float[2,16,3] w, float[2,16,4] r, float[2,32] b, float[8,2] u, int64[3] flat>
    { a = LSTM<direction = "bidirectional", hidden_size = 4>(x, w, r, b) t = Transpose<perm = [0, 2, 1, 3]>(a)
      f = Reshape(t, flat) y = MatMul(f, u) }""",
    "last states": "g (float[5,2,3] x) => (float[2,2] y)"
    + """ <float[1,12,3] w, float[1,12,4] r, float[1,24] b, float[4,2] u, int64[1] first>
    { , h = GRU<hidden_size = 4>(x, w, r, b) s = Squeeze(h, first) y = MatMul(s, u) }""",
    "transposed": """g (float[1,3,4,4] x) => (float[1,2,8,8] y) <float[4,3,1,1] w, float[4] b, float[4,2,2,2] u>
    { a = Conv(x, w, b) c = Relu(a) y = ConvTranspose<strides = [2, 2]>(c, u) }""",
    "several groups": """g (float[1,3,4,4] x) => (float[1,6,4,4] y) <float[4,3,1,1] w, float[4] b, float[6,2,3,3] u>
    { a = Conv(x, w, b) c = Relu(a) y = Conv<group = 2, pads = [1, 1, 1, 1]>(c, u) }""",
    "a scaled layer": """g (float[5,3] x) => (float[5,2] y) <float[3,4] w, float[4] b, float[2,4] u>
    { a = Gemm(x, w, b) c = Relu(a) y = Gemm<alpha = 0.5, transB = 1>(c, u) }""",
    "a product": """g (float[5,3] x) => (float[5,5] y) <float[3,4] w, float[4] b, float[3,4] v, float[4] d>
    { a = Gemm(x, w, b) k = MatMul(x, v) e = Add(k, d) t = Transpose<perm = [1, 0]>(e) y = MatMul(a, t) }""",
}


def built(name: str) -> Model:
    return with_weights(CASES[name], INTEGERS)


def feeds_of(model: Model, count: int) -> list[dict[str, np.ndarray]]:
    rng, shape = np.random.default_rng(1), model.inputs[0].shape
    return [{"x": rng.standard_normal(shape).astype(np.float32)} for _ in range(count)]


def data_for(model: Model, count: int = 6) -> CalibrationData:
    data = open_calibration(feeds_of(model, count), model.signature)
    assert isinstance(data, CalibrationData)
    return data


def readers_of(group: Group) -> list[Layer]:
    return [*group.readers, *(layer for layer in unfitted_readers(group) if layer not in group.readers)]


@pytest.mark.parametrize("name", CASES)
def test_a_unit_that_is_silent_costs_what_it_costs_to_remove_it(name: str) -> None:
    model = built(name)
    feeds = feeds_of(model, 6)
    expected = np.stack([run(model, one)["y"] for one in feeds]).astype(np.float64)
    for number, group in enumerate(open_groups(find_coupling(model))):
        errors = []
        for index in range(len(group.units)):
            cut = model.clone()
            coupling = find_coupling(cut)
            remove_units(cut, coupling, [list(open_groups(coupling))[number].units[index]])
            cut.infer_shapes()
            after = np.stack([run(cut, one)["y"] for one in feeds])
            errors.append(((after - expected) ** 2).sum() / ((expected - expected.mean()) ** 2).sum())
        places = [silent_places(readers_of(group), [unit]) for unit in group.units]
        constants = {id(place.constant): place.constant for several in places for place in several}
        trials = Trials(model, data_for(model), 1, no_progress, tuple(constants.values()), len(group.units))
        # The mean is that of each sample there, and of all together here.
        found = trials.unit_errors(places)
        assert max(errors) > 1e-3
        np.testing.assert_allclose(found / found.max(), np.array(errors) / max(errors), rtol=1e-3, atol=1e-6)
        together = trials.error((), [place for several in places[:2] for place in several])
        assert together == pytest.approx(trials.unit_errors([[*places[0], *places[1]]])[0], rel=1e-6)


def test_what_a_recurrent_layer_loses_is_a_share_of_its_input_and_its_state() -> None:
    model = built("stacked RNN")
    w, r, v, q = (tensor.values[0] for node in model.nodes("RNN") for tensor in node.inputs[1:3])
    lower, upper = [], []
    for feeds in feeds_of(model, 6):
        first, second = np.zeros((2, 4)), np.zeros((2, 6))
        for step in feeds["x"]:
            first = np.tanh(step @ w.T + first @ r.T)
            second = np.maximum(first @ v.T + second @ q.T, 0)
            lower.append(first)
            upper.append(second)
    given, state = ((np.square(weights).sum(axis=0), seen) for weights, seen in ((v, lower), (q, upper)))
    powers = [power * np.square(np.concatenate(seen)).mean(axis=0) for power, seen in (given, state)]
    coupling = find_coupling(model)
    group = next(open_groups(coupling))
    roots = np.array([unit.root for unit in group.units])
    (layer,) = (layer for layer in unfitted_readers(group) if layer in group.readers)
    products = products_in(layer)
    sums = products_of(model, [one.linear for one in products], data_for(model), "", no_progress)
    found = shares_of(list(zip(products, sums, strict=True)), coupling, roots)
    np.testing.assert_allclose(found, powers[0] / (powers[0].sum() + powers[1].sum()), rtol=1e-4)


def test_groups_of_a_convolution_read_channels_of_their_own() -> None:
    (group,) = open_groups(find_coupling(built("several groups")))
    (layer,) = unfitted_readers(group)
    weights = layer.node.inputs[1].values
    (product,) = products_in(layer)
    expected = [np.square(weights[:3, 0]).sum(), np.square(weights[:3, 1]).sum()]
    expected += [np.square(weights[3:, 0]).sum(), np.square(weights[3:, 1]).sum()]
    np.testing.assert_allclose(product.linear.weights[0] ** 2, [*expected, 0], rtol=1e-6)
