"""What measured values keep float32 in convert-float16."""

from __future__ import annotations

import numpy as np

from edgecc.data.calibration import open_calibration
from edgecc.model import Model
from edgecc.passes.base import PassContext, Skip
from edgecc.passes.convert_float16 import ConvertFloat16
from edgecc.passes.pipeline import PassPipeline
from edgecc.passes.verification import run
from edgecc.statistics.table import StatisticTable

#: Float16 has 11 bits; nets of a few layers stay well within this share of the largest value.
RELATIVE = 1e-2
W, V = (np.random.default_rng(seed).standard_normal((8, 8)).astype(np.float32) * 0.3 for seed in (7, 8))
CONSTANTS = {"w": W, "v": V}
SUMS = """g (float[1,8] x) => (float[1,8] y)
{ a = MatMul(x, w)  r = Relu(a)  s = Mul(r, r)  b = MatMul(s, v)  y = Relu(b) }"""


def measured(text: str, values: np.ndarray, **options: object) -> tuple[Model, list[Skip]]:
    """The model after the pass, with those values as calibration data."""
    model = Model.from_text(text, CONSTANTS)
    data = open_calibration({"x": values}, model.signature)
    assert not isinstance(data, StatisticTable)
    ctx = PassContext(None, np.random.default_rng(0), calibration=data)
    result = PassPipeline([ConvertFloat16(**options)]).run(model, ctx)
    return model, result.skips


def samples(scale: float) -> np.ndarray:
    return (scale * np.random.default_rng(0).standard_normal((16, 8))).astype(np.float32)


def test_ordinary_values_keep_nothing_float32() -> None:
    model, skips = measured(SUMS, samples(1))
    assert len(model.nodes("Cast")) == 2
    assert not skips


def test_what_came_near_the_end_of_the_range_stays_float32() -> None:
    """Squares of some thousands: what makes and reads them stays, what is in front becomes float16."""
    model, skips = measured(SUMS, samples(1000))
    kept = {skip.node for skip in skips}
    assert kept == {"Mul_2", "MatMul_3", "Relu_4"}
    assert all("over 65504 / 8 (option headroom)" in skip.reason for skip in skips)
    first, second = model.nodes("MatMul")
    assert (first.inputs[1].dtype, second.inputs[1].dtype) == (np.float16, np.float32)
    assert len(model.nodes("Cast")) == 2
    feeds = {"x": samples(1000)[:1]}
    wanted, found = run(Model.from_text(SUMS, CONSTANTS), feeds)["y"], run(model, feeds)["y"]
    np.testing.assert_allclose(found, wanted, atol=RELATIVE * np.abs(wanted).max())


def test_without_data_it_runs_too() -> None:
    model = Model.from_text(SUMS, CONSTANTS)
    PassPipeline([ConvertFloat16()]).run(model, PassContext(None, np.random.default_rng(0)))
    assert all(node.inputs[1].dtype == np.float16 for node in model.nodes("MatMul"))


def test_headroom() -> None:
    assert measured(SUMS, samples(30), headroom=1000)[1]
    assert not measured(SUMS, samples(30), headroom=1)[1]


def test_tiny_values() -> None:
    _, skips = measured("g (float[1,8] x) => (float[1,8] y) { a = Add(x, x) y = Mul(a, a) }", samples(1e-6))
    assert "under float16's smallest normal value" in skips[0].reason


def test_masks() -> None:
    values = samples(1)
    values[:, 0] = np.finfo(np.float32).min
    _, skips = measured("g (float[1,8] x) => (float[1,8] y) { a = Relu(x) y = Mul(a, a) }", values)
    assert any("infinities or masks" in skip.reason for skip in skips)
