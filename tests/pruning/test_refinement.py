"""Layers fitted together."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from edgecc.data.calibration import CalibrationData, open_calibration
from edgecc.model import Model
from edgecc.passes.base import no_progress
from edgecc.passes.verification import run
from edgecc.pruning import refinement
from edgecc.pruning.error_gradients import ErrorGradients
from edgecc.pruning.refinement import refine
from edgecc.pruning.repair import Site, site_of
from edgecc.pruning.step_length import at_length

from .test_coupling import with_weights

TEXT = """g (float[N,3,8,8] x) => (float[N,5] y)
<float[6,3,3,3] w, float[6] b, float[6,6,3,3] v, float[6] s, float[6,5] u, float[5] t>
{ a = Conv<pads = [1, 1, 1, 1]>(x, w, b) c = Relu(a) d = Conv<pads = [1, 1, 1, 1]>(c, v, s) e = Add(c, d) f = Relu(e)
  h = GlobalAveragePool(f) i = Flatten(h) y = Gemm(i, u, t) }"""


def samples(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, 3, 8, 8)).astype(np.float32)


def data_of(model: Model, count: int = 256) -> CalibrationData:
    data = open_calibration({"x": samples(count, 1)}, model.signature)
    assert isinstance(data, CalibrationData)
    return data


def pair(text: str = TEXT) -> tuple[Model, Model]:
    """A model and one with noise in all weights."""
    original = with_weights(text)
    model, rng = original.clone(), np.random.default_rng(2)
    for tensor in model.constants():
        noise = rng.standard_normal(tensor.values.shape).astype(np.float32)
        tensor.values = tensor.values + np.float32(0.1) * noise
    return original, model


def sites_of(original: Model, model: Model) -> list[Site]:
    pairs = zip(*(one.nodes("Conv", "Gemm", "MatMul") for one in (original, model)), strict=True)
    found = [
        site_of(first, second, np.ones(first.outputs[0].shape[1 if first.op == "Conv" else -1], bool), model)
        for first, second in pairs
    ]
    return [site for site in found if site is not None]


def lost(original: Model, model: Model) -> float:
    feeds = {"x": samples(200, 3)}
    wanted, found = run(original, feeds)["y"], run(model, feeds)["y"]
    return float(((found - wanted) ** 2).mean() / wanted.var())


def test_outputs_come_nearer_on_other_samples() -> None:
    original, model = pair()
    before = lost(original, model)
    gain = refine(original, model, sites_of(original, model), data_of(model), 12, no_progress)
    assert 0 < gain < 1
    assert lost(original, model) < 0.5 * before


def test_nothing_changes_where_nothing_is_to_be_gained() -> None:
    original = with_weights(TEXT)
    model = original.clone()
    assert refine(original, model, sites_of(original, model), data_of(model), 2, no_progress) == 0
    assert model.digest() == original.digest()


def test_few_samples_are_not_fitted_to() -> None:
    original, model = pair()
    before = model.digest()
    assert refine(original, model, sites_of(original, model), data_of(model, 63), 12, no_progress) == 0
    assert model.digest() == before


def test_a_batch_that_is_fixed() -> None:
    original, model = pair()
    gain = refine(original, model, sites_of(original, model), data_of(model, 512), 6, no_progress)
    fixed, changed = pair(TEXT.replace("float[N", "float[32"))
    found = refine(fixed, changed, sites_of(fixed, changed), data_of(fixed, 512), 6, no_progress)
    assert found > 0.5 * gain > 0


@pytest.mark.parametrize(("batch", "count"), [(32, 96), (64, 192), (1, 68)])
def test_few_calls_and_those_that_do_not_fill_a_step(batch: int, count: int) -> None:
    original, model = pair(TEXT.replace("float[N", f"float[{batch}"))
    assert refine(original, model, sites_of(original, model), data_of(original, count), 30, no_progress) > 0.3


@pytest.mark.parametrize(("batch", "count"), [("N", 256), ("N", 92), ("1", 68), ("12", 96), ("64", 512)])
def test_steps_see_all_samples_and_end_small(monkeypatch: pytest.MonkeyPatch, batch: str, count: int) -> None:
    rates, seen = [], 0
    step, gradients = refinement._Adam.step, ErrorGradients.run

    def stepped(self: refinement._Adam, found: Mapping[str, np.ndarray]) -> None:
        before = {name: values.copy() for name, values in self._weights.items()}
        step(self, found)
        rates.append(max(float(np.abs(values - before[name]).max()) for name, values in self._weights.items()))

    def run_gradients(self: ErrorGradients, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        nonlocal seen
        seen += len(feeds["x"])
        return gradients(self, feeds)

    monkeypatch.setattr(refinement._Adam, "step", stepped)
    monkeypatch.setattr(ErrorGradients, "run", run_gradients)
    original, model = pair(TEXT.replace("float[N", f"float[{batch}"))
    epochs = 40
    assert refine(original, model, sites_of(original, model), data_of(original, count), epochs, no_progress) > 0
    assert seen == epochs * count
    assert rates[-1] < 0.02 * max(rates)


@pytest.mark.parametrize("length", [0.0, 1.0, 1.3, 50.0])
def test_outputs_and_layers_tell_the_length(monkeypatch: pytest.MonkeyPatch, length: float) -> None:
    """Where that is too far for the layers, what was fitted is left."""
    ends: list[Mapping[str, np.ndarray]] = []

    def chosen(
        _: Model, __: Model, start: Mapping[str, np.ndarray], end: Mapping[str, np.ndarray], *___: object
    ) -> float:
        ends.extend((start, end))
        return length

    monkeypatch.setattr(refinement, "best_length", chosen)
    original, model = pair()
    gain = refine(original, model, sites_of(original, model), data_of(model), 12, no_progress)
    assert (gain > 0) == (length > 0)
    wanted = at_length(*ends, 1.0 if length > 2 else length)
    for tensor in model.constants():
        np.testing.assert_array_equal(tensor.values, wanted[tensor.name])


def test_a_rate_that_is_too_large_is_tried_again_from_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    original, model = pair()
    plain = model.clone()
    refine(original, plain, sites_of(original, plain), data_of(plain), 12, no_progress)
    monkeypatch.setattr(refinement, "_RATE", refinement._RATE / refinement._SLOWER**2)
    assert refine(original, model, sites_of(original, model), data_of(model), 12, no_progress) > 0
    assert lost(original, model) < 2 * lost(original, plain)


MATRICES = """g (float[N,3,8,8] x) => (float[N,3,8,5] y) <float[8,6] w, float[6] b, float[6,5] v>
{ a = MatMul(x, w) c = Add(a, b) d = Relu(c) y = MatMul(d, v) }"""


@pytest.mark.parametrize(("text", "names"), [(TEXT, "wbvsut"), (MATRICES, "wv")])
def test_weights_of_every_layer_are_fitted(text: str, names: str) -> None:
    original, model = pair(text)
    before = {tensor.name: tensor.values for tensor in model.constants()}
    assert refine(original, model, sites_of(original, model), data_of(model), 12, no_progress) > 0
    assert {t.name for t in model.constants() if (t.values != before[t.name]).any()} == set(names)


def test_a_bias_behind_a_matrix_product_counts() -> None:
    original = with_weights(MATRICES)
    model, feeds = original.clone(), samples(256, 1)
    feeds[..., -1] = 1
    # What is always 1 does what the bias did.
    weights, bias = model.nodes("MatMul")[0].inputs[1], model.nodes("Add")[0].inputs[1]
    weights.values = np.concatenate([weights.values[:-1], weights.values[-1:] + bias.values])
    bias.values = bias.values * 0
    data = open_calibration({"x": feeds}, model.signature)
    assert isinstance(data, CalibrationData)
    refine(original, model, sites_of(original, model), data, 4, no_progress)
    np.testing.assert_allclose(run(model, {"x": feeds})["y"], run(original, {"x": feeds})["y"], atol=1e-4)


def test_same_weights_every_time() -> None:
    digests = set()
    for _ in range(2):
        original, model = pair()
        refine(original, model, sites_of(original, model), data_of(model), 4, no_progress)
        digests.add(model.digest())
    assert len(digests) == 1
