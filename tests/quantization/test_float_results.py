"""What stays float for its result's sake."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgecc.data.calibration import open_calibration
from edgecc.model import Model
from edgecc.passes.quantize_static import QuantizeStatic
from edgecc.quantization.float_results import rounding_sqnr
from edgecc.quantization.grids import grid_for
from edgecc.quantization.ranges import choose_range
from edgecc.quantization.scheme import PORTABLE, QuantizationScheme, Role, rules
from edgecc.statistics.requests import Histogram
from edgecc.statistics.sweep import sweep
from edgecc.statistics.table import StatisticTable
from edgecc.testing import check_pass
from edgecc.testing.declared import target_of

RNG = np.random.default_rng(0)
CONSTANTS = {
    "m": RNG.standard_normal((16, 16)).astype(np.float32),
    "v": RNG.standard_normal((16, 16)).astype(np.float32),
    "s": np.ones(16, np.float32),
}
SAMPLES = {"x": np.random.default_rng(1).standard_normal((32, 8, 16)).astype(np.float32)}
#: The same with one token of 256 far beyond the others.
FAR = {"x": SAMPLES["x"] * np.where(np.arange(256).reshape(32, 8, 1) == 100, 200, 1).astype(np.float32)}
FLOAT = replace(PORTABLE, float_results=frozenset({"MatMul"}))
PAIRS = replace(PORTABLE, dynamic="pairs")
#: A few of 255 steps, relative to the largest value.
FEW_STEPS = 0.03


def run(
    text: str,
    scheme: QuantizationScheme,
    samples: dict[str, np.ndarray] = SAMPLES,
    tolerance: float | None = FEW_STEPS,
    **options: float,
) -> list[str]:
    model = Model.from_text(f"g (float[1,8,16] x) => (float[1,8,16] y) {{ {text} }}", CONSTANTS)
    step = QuantizeStatic(**options)  # type: ignore[arg-type]
    found = check_pass(
        step,
        model,
        feeds={"x": samples["x"][:1]},
        calibration=samples,
        target=target_of(scheme),
        skips=None,
        tolerance=tolerance,
    )
    short = {"QuantizeLinear": "Q", "DequantizeLinear": "D", "DynamicQuantizeLinear": "R"}
    return [short.get(node.op, node.op) for node in found.nodes()]


def test_what_only_float_operators_read_is_not_rounded() -> None:
    """The residual sum in front of LayerNormalization is float; for the product it depends on the target."""
    text = "p = MatMul(x, m)  a = Add(p, x)  y = LayerNormalization(a, s)"
    assert sorted(run(text, FLOAT)) == sorted(["Q", "D", "D", "MatMul", "Add", "LayerNormalization"])
    expected = ["Q", "D", "D", "MatMul", "Q", "D", "Add", "LayerNormalization"]
    assert sorted(run(text, PORTABLE)) == sorted(expected)


def test_outputs_and_what_integers_read_are_rounded() -> None:
    assert run("p = MatMul(x, m)  y = MatMul(p, v)", FLOAT, tolerance=2 * FEW_STEPS).count("Q") == 3


def test_what_moves_values_goes_with_its_readers() -> None:
    scheme = replace(FLOAT, operators={**FLOAT.operators, **rules(Role.SAME, "Transpose")})
    text = "p = MatMul(x, m)  t = Transpose<perm=[0,2,1]>(p)  u = Transpose<perm=[0,2,1]>(t)  y = Gelu(u)"
    assert run(text, scheme).count("Q") == 1


@pytest.mark.parametrize("least", [28.0, 0.0])
def test_results_that_8_bits_hold_badly(least: float) -> None:
    """A product of which few values are far beyond the others rounds its data at run time, and writes float."""
    text = "p = MatMul(x, m)  a = Add(p, p)  y = LayerNormalization(a, s)"
    found = run(text, PAIRS, FAR, tolerance=None, least_sqnr=least)
    assert ("R" in found) == (least > 0)


def test_tables_are_stored_by_rows() -> None:
    table = {"e": np.random.default_rng(2).standard_normal((100, 16)).astype(np.float32), **CONSTANTS}
    text = "g (int64[8] i) => (float[8,16] y) { x = Gather(e, i)  y = MatMul(x, m) }"
    ids = np.random.default_rng(3).integers(0, 100, 8)
    model = check_pass(QuantizeStatic(), Model.from_text(text, table), feeds={"i": ids}, tolerance=FEW_STEPS)
    assert model.nodes("Gather")[0].inputs[0].dtype == np.int8


@pytest.mark.parametrize(("far", "low", "high"), [(False, 38, 42), (True, 5, 28)])
def test_sqnr_of_rounding(far: bool, low: float, high: float) -> None:
    """A normal distribution with the best of 256 uniform steps has 40 dB (Max, 1960)."""
    values = np.random.default_rng(0).standard_normal((1, 100_000)).astype(np.float32)
    if far:
        values[0, :10] *= 300
    model = Model.from_text("g (float[1,100000] x) => (float[1,100000] y) { y = Relu(x) }")
    data = open_calibration({"x": values}, model.signature)
    assert not isinstance(data, StatisticTable)
    statistic = sweep(model, [Histogram("x")], data).histogram("x")
    grid = grid_for(choose_range("mse", statistic), "int8", symmetric=False)
    found = rounding_sqnr(statistic, grid)
    rounded = (grid.store(values).astype(np.float64) - grid.zero_point) * grid.scale
    exact = 10 * np.log10(np.mean(values.astype(np.float64) ** 2) / np.mean((values - rounded) ** 2))
    assert low < found < high
    assert found == pytest.approx(exact, abs=0.3)
