from __future__ import annotations

import numpy as np
import pytest

from edgecc.errors import PassContractError
from edgecc.model import Model
from edgecc.statistics import Gram
from edgecc.statistics.cross import cross_grams
from edgecc.statistics.layers import gram_of
from edgecc.statistics.patches import rows_of
from edgecc.statistics.sweep import sweep

from .samples import Samples

IMAGES = np.random.default_rng(0).standard_normal((6, 2, 6, 6)).astype(np.float32)


def network(step: float) -> Model:
    """Its first layer's weights are rounded to the step."""
    rng = np.random.default_rng(1)
    first, second = (rng.standard_normal(shape).astype(np.float32) for shape in ((3, 2, 3, 3), (4, 3, 3, 3)))
    return Model.from_text(
        "g (float[1,2,6,6] x) => (float[1,4,2,2] y) { c = Conv(x, w)  r = Relu(c)  y = Conv(r, v) }",
        {"w": np.round(first / step).astype(np.float32) * np.float32(step), "v": second},
    )


def grams(model: Model) -> list[Gram]:
    return [gram for gram in map(gram_of, model.nodes("Conv")) if gram is not None]


def test_a_model_with_itself_is_its_gram() -> None:
    model, data = network(2**-20), Samples({"x": IMAGES})
    asked = grams(model)
    table, crossed = sweep(model, asked, data), cross_grams(model, model, asked, data)
    for request in asked:
        # The matrix product of one array with itself may sum in another order.
        np.testing.assert_allclose(crossed[request].sums, table.gram(request).sums, rtol=1e-12, atol=1e-12)


def test_products_are_those_of_both_models() -> None:
    reference, model = network(2**-20), network(0.5)
    (_, request) = grams(model)
    found = cross_grams(reference, model, [request], Samples({"x": IMAGES}))[request]
    expected = 0.0
    for image in IMAGES[:, np.newaxis]:
        x, y = (_rows(network_, image, request) for network_ in (reference, model))
        expected = expected + x.transpose(0, 2, 1) @ y
    np.testing.assert_allclose(found.sums, expected, rtol=1e-12, atol=1e-12)
    assert found.count == 6 * 4


def _rows(model: Model, image: np.ndarray, request: Gram) -> np.ndarray:
    from edgecc.passes.verification import run

    return rows_of(run(model, {"x": image}, ["r"])["r"], request.layout, request.rows)


def test_order_and_groups_change_nothing() -> None:
    reference, model = network(2**-20), network(0.5)
    asked = grams(model)
    first = cross_grams(reference, model, asked, Samples({"x": IMAGES}))
    second = cross_grams(reference, model, asked, Samples({"x": IMAGES[::-1].copy()}), memory=1)
    for request in asked:
        assert first[request].sums.tobytes() == second[request].sums.tobytes()


def test_a_tensor_that_one_of_them_lacks() -> None:
    other = Model.from_text("g (float[1,2,6,6] x) => (float[1,2,6,6] y) { y = Relu(x) }")
    with pytest.raises(PassContractError, match="tensor 'r', which the model does not have"):
        cross_grams(other, network(0.5), grams(network(0.5)), Samples({"x": IMAGES}))
