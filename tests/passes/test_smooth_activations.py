"""Tests of smooth-activations."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from edgecc.data.calibration import CalibrationData, open_calibration
from edgecc.errors import DataError
from edgecc.model import Model, value_of
from edgecc.passes.base import PassContext
from edgecc.passes.pipeline import PassPipeline
from edgecc.passes.quantize_static import QuantizeStatic
from edgecc.passes.smooth_activations import SmoothActivations
from edgecc.passes.verification import run
from edgecc.testing import assert_skipped, check_contract, check_pass
from edgecc.testing.strategies import models

#: Constants are multiplied and rounded to float32.
ROUNDING = 1e-5
RNG = np.random.default_rng(0)
#: Two channels are outliers, as in transformers, and their weights are small.
OUTLIERS = np.ones(16, np.float32)
OUTLIERS[[3, 7]] = 60, 30
CONSTANTS = {
    "g": OUTLIERS,
    "b": RNG.standard_normal(16).astype(np.float32),
    "q": (RNG.standard_normal((16, 8)) / OUTLIERS[:, None]).astype(np.float32),
    "k": (RNG.standard_normal((16, 8)) / OUTLIERS[:, None]).astype(np.float32),
    "p": (RNG.standard_normal((16, 16)) * OUTLIERS).astype(np.float32),
    "w": (RNG.standard_normal((16, 3, 1, 1)) * OUTLIERS.reshape(16, 1, 1, 1)).astype(np.float32),
    "v": RNG.standard_normal((4, 16, 3, 3)).astype(np.float32),
    "six": np.asarray(6, np.float32),
    "low": np.asarray(0, np.float32),
}
X = np.random.default_rng(1).standard_normal((16, 5, 16)).astype(np.float32)
ATTENTION = "n = LayerNormalization(x, g, b)  h = MatMul(n, q)  i = MatMul(n, k)  y = Add(h, i)"


def of(text: str, shape: str = "1,5,16", output: str = "N,A,M") -> Model:
    return Model.from_text(f"g (float[{shape}] x) => (float[{output}] y) {{ {text} }}", CONSTANTS)


@pytest.mark.parametrize(
    "normalize", ["LayerNormalization(x, g, b)", "LayerNormalization(x, g)", "RMSNormalization(x, g)", "Mul(x, g)"]
)
def test_scale_moves_into_all_readers(normalize: str) -> None:
    text = ATTENTION.replace("LayerNormalization(x, g, b)", normalize)
    model = check_pass(SmoothActivations(), of(text), tolerance=ROUNDING, calibration={"x": X}, skips=None)
    first = model.nodes()[0]
    scale = value_of(first.inputs[1])
    assert scale is not None
    assert scale.max() / scale.min() < 0.3 * OUTLIERS.max()
    for node, name in zip(model.nodes("MatMul"), "qk", strict=True):
        weights = value_of(node.inputs[1])
        np.testing.assert_allclose(weights, CONSTANTS[name] * (OUTLIERS / scale)[:, None], rtol=1e-4)


@pytest.mark.parametrize(("alpha", "even"), [(1.0, "data"), (0.0, "weights")])
def test_alpha(alpha: float, even: str) -> None:
    """All of the data's differences move, or all of the weights'."""
    model = check_pass(
        SmoothActivations(alpha=alpha), of(ATTENTION), tolerance=ROUNDING, calibration={"x": X}, skips=None
    )
    norm, products = model.nodes("LayerNormalization")[0], model.nodes("MatMul")
    if even == "data":
        values = np.concatenate([run(model, {"x": x[None]}, [norm.outputs[0].name])[norm.outputs[0].name] for x in X])
        found = np.abs(values).max(axis=(0, 1))
    else:
        found = np.max([np.abs(value_of(node.inputs[1])).max(axis=1) for node in products], axis=0)  # type: ignore[arg-type]
    assert found.max() / found.min() < 1.01


@pytest.mark.parametrize(
    ("text", "shape", "output"),
    [
        ("a = MatMul(x, p)  y = MatMul(a, q)", "1,5,16", "N,A,M"),
        ("a = MatMul(x, p)  c = Add(a, b)  r = Relu(c)  y = MatMul(r, q)", "1,5,16", "N,A,M"),
        ("a = Conv(x, w)  r = Relu(a)  y = Conv(r, v)", "1,3,8,8", "N,M,A,B"),
    ],
)
def test_layer_in_front(text: str, shape: str, output: str) -> None:
    check_pass(SmoothActivations(), of(text, shape, output), tolerance=ROUNDING, skips=["an output"])


def test_int8_with_outliers_gets_better() -> None:
    """One scale for all data, which two channels would take nearly all of."""
    model = of(ATTENTION)
    test = np.random.default_rng(2).standard_normal((8, 5, 16)).astype(np.float32)
    errors: list[float] = []
    for steps in ([QuantizeStatic()], [SmoothActivations(), QuantizeStatic()]):
        after, data = model.clone(), open_calibration({"x": X}, model.signature)
        assert isinstance(data, CalibrationData)
        PassPipeline(steps).run(after, PassContext(None, np.random.default_rng(0), calibration=data))
        pairs = [(run(model, {"x": x[None]})["y"], run(after, {"x": x[None]})["y"]) for x in test]
        errors.append(sum(float(np.square(a - b).sum()) for a, b in pairs))
    assert errors[1] < 0.3 * errors[0]


# ------------------------------------------------------------------------------------------------------ does not fire


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("n = LayerNormalization(x, g, b)  h = MatMul(n, p)  y = Add(h, n)", "'y' is an output"),
        ("n = LayerNormalization(x, g, b)  h = Sigmoid(n)  y = MatMul(h, q)", "does not keep positive factors"),
        ("n = LayerNormalization(x, g, b)  h = Clip(n, low, six)  y = MatMul(h, q)", "bounds all channels alike"),
        ("n = LayerNormalization(x, g, b)  t = Transpose<perm=[0,2,1]>(n)  y = MatMul(n, t)", "does not keep"),
        ("y = LayerNormalization(x, g, b)", "'y' is an output"),
    ],
)
def test_other_readers(text: str, reason: str) -> None:
    assert_skipped(SmoothActivations(), of(text), reason, calibration={"x": X})


@pytest.mark.parametrize(
    "text", ["n = LayerNormalization(x, x)  y = MatMul(n, q)", "h = Mul(x, six)  y = MatMul(h, q)", "y = MatMul(x, q)"]
)
def test_nothing_to_scale(text: str) -> None:
    assert_skipped(SmoothActivations(), of(text), "an output", calibration={"x": X})


def test_weights_that_would_leave_their_type() -> None:
    constants = {
        "p": np.diag([1, 1, 1, 6e4]).astype(np.float16),
        "q": np.diag([100, 100, 100, 4e4]).astype(np.float16),
    }
    model = Model.from_text("g (float16[1,4] x) => (float16[1,4] y) { a = MatMul(x, p)  y = MatMul(a, q) }", constants)
    data = open_calibration({"x": np.ones((4, 4), np.float16)}, model.signature)
    assert isinstance(data, CalibrationData)
    before, ctx = model.digest(), PassContext(None, np.random.default_rng(0), calibration=data)
    result = PassPipeline([SmoothActivations()]).run(model, ctx)
    assert [skip.node for skip in result.skips if "would not be finite in float16" in skip.reason] == ["MatMul_0"]
    assert (model.digest(), ctx.changes) == (before, [])


def test_ignore() -> None:
    assert_skipped(SmoothActivations(ignore=("MatMul_1",)), of(ATTENTION), "is excluded", calibration={"x": X})
    assert_skipped(SmoothActivations(ignore=("Layer*",)), of(ATTENTION), "is excluded", calibration={"x": X})


def test_needs_data() -> None:
    with pytest.raises(DataError, match="needs calibration data"):
        PassPipeline([SmoothActivations()]).run(of(ATTENTION), PassContext(None, np.random.default_rng(0)))


@settings(max_examples=30, deadline=None)
@given(models())
def test_random_models(model: Model) -> None:
    try:
        check_contract(SmoothActivations(), model, tolerance=1e-4)
    except DataError as error:
        # Random graphs compute NaN, of masks for example, which calibration refuses.
        assert "NaN" in str(error)  # noqa: PT017
