"""Tests of quantize-weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings

from edgecc.errors import OptionError
from edgecc.model import Model, value_of
from edgecc.passes.quantize_weights import QuantizeWeights
from edgecc.quantization.scheme import PORTABLE
from edgecc.testing import assert_skipped, check_contract, check_pass
from edgecc.testing.declared import target_of
from edgecc.testing.strategies import models

RNG = np.random.default_rng(0)
CONSTANTS = {
    "c": RNG.standard_normal((8, 4, 3, 3)).astype(np.float32),
    "t": RNG.standard_normal((4, 8, 3, 3)).astype(np.float32),
    "m": RNG.standard_normal((64, 24)).astype(np.float32),
    "n": RNG.standard_normal((24, 64)).astype(np.float32),
    "b": RNG.standard_normal(24).astype(np.float32),
    "e": (RNG.standard_normal((40, 16)) * 10.0 ** RNG.integers(-3, 3, (40, 1))).astype(np.float32),
}
SMALL = QuantizeWeights(min_elements=1)
#: Relative to the largest value: a few of 127 steps, and of 7.
EIGHT_BITS, FOUR_BITS = 0.02, 0.25


def of(text: str, shape: str = "2,64", outputs: str = "float[2,24] y") -> Model:
    return Model.from_text(f"g (float[{shape}] x) => ({outputs}) {{ {text} }}", CONSTANTS)


TABLE = Model.from_text("g (int64[3] ids) => (float[3,16] y) { y = Gather(e, ids) }", CONSTANTS)
IDS = {"ids": np.array([1, 39, 7])}


@pytest.mark.parametrize("step", [SMALL, QuantizeWeights(min_elements=1, dtype="int4", block_size=0)])
@pytest.mark.parametrize(
    ("text", "shape", "outputs", "axis", "channels"),
    [
        ("y = Conv(x, c)", "1,4,8,8", "float[1,8,6,6] y", 0, 8),
        ("y = ConvTranspose(x, t)", "1,4,8,8", "float[1,8,10,10] y", 1, 8),
        ("y = MatMul(x, m)", "2,64", "float[2,24] y", 1, 24),
        ("y = Gemm(x, m, b)", "2,64", "float[2,24] y", 1, 24),
        ("y = Gemm<transB=1>(x, n, b)", "2,64", "float[2,24] y", 1, 24),
    ],
)
def test_a_scale_for_each_channel(
    step: QuantizeWeights, text: str, shape: str, outputs: str, axis: int, channels: int
) -> None:
    tolerance = EIGHT_BITS if step.dtype == "int8" else FOUR_BITS
    model = check_pass(step, of(text, shape, outputs), tolerance=tolerance)
    (node,) = model.nodes("DequantizeLinear")
    stored, scale = value_of(node.inputs[0]), value_of(node.inputs[1])
    assert stored is not None
    assert scale is not None
    assert stored.dtype.name == step.dtype
    assert (node.attrs["axis"], scale.shape) == (axis, (channels,))


@pytest.mark.parametrize("text", ["y = MatMul(x, m)", "y = Gemm(x, m, b)", "y = Gemm<transB=1>(x, n, b)"])
def test_a_scale_for_each_run_in_four_bits(text: str) -> None:
    model = check_pass(QuantizeWeights(min_elements=1, dtype="int4"), of(text), tolerance=FOUR_BITS)
    (node,) = model.nodes("DequantizeLinear")
    assert (node.attrs["axis"], node.attrs["block_size"]) == (0, 32)
    assert value_of(node.inputs[1]).shape == (2, 24)  # type: ignore[union-attr]


def test_runs_in_eight_bits_and_one_scale() -> None:
    runs = check_pass(QuantizeWeights(block_size=16), of("y = MatMul(x, m)"), tolerance=EIGHT_BITS)
    assert value_of(runs.nodes("DequantizeLinear")[0].inputs[1]).shape == (4, 24)  # type: ignore[union-attr]
    one = check_pass(QuantizeWeights(per_channel=False), of("y = MatMul(x, m)"), tolerance=2 * EIGHT_BITS)
    assert value_of(one.nodes("DequantizeLinear")[0].inputs[1]).shape == ()  # type: ignore[union-attr]


@pytest.mark.parametrize("dtype", ["int8", "int4"])
def test_rows_are_unpacked_where_they_are_read(dtype: str) -> None:
    """Rows of very different sizes: each is as exact as 8 bits are."""
    step = QuantizeWeights(min_elements=1, dtype=dtype)  # type: ignore[arg-type]
    model = check_pass(step, TABLE, feeds=IDS, tolerance=EIGHT_BITS)
    assert [node.op for node in model.nodes()] == ["Gather", "Cast", "Gather", "Mul"]
    assert value_of(model.nodes("Gather")[0].inputs[0]).dtype == np.int8  # type: ignore[union-attr]


def test_tables_of_targets_without_plain_integers() -> None:
    target = target_of(replace(PORTABLE, integer_rows=False))
    model = check_pass(SMALL, TABLE, feeds=IDS, tolerance=EIGHT_BITS, target=target)
    assert [node.op for node in model.nodes()] == ["DequantizeLinear", "Gather"]
    one = check_pass(QuantizeWeights(min_elements=1, per_channel=False), TABLE, feeds=IDS, tolerance=EIGHT_BITS)
    assert [node.op for node in one.nodes()] == ["Gather", "Cast", "Mul"]


def test_shared_weights_are_stored_once() -> None:
    model = check_pass(SMALL, of("a = MatMul(x, m)  d = MatMul(x, m)  y = Add(a, d)"), tolerance=EIGHT_BITS)
    assert len(model.nodes("DequantizeLinear")) == 1


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (QuantizeWeights(min_elements=5000), "1536 weights, fewer than option min_elements"),
        (QuantizeWeights(ignore=("MatMul*",)), "it is excluded"),
        (QuantizeWeights(ignore_ops=("MatMul",)), "it is excluded"),
    ],
)
def test_stays_float(step: QuantizeWeights, reason: str) -> None:
    assert_skipped(step, of("y = MatMul(x, m)"), reason)


def test_infinite_weights_stay() -> None:
    constants = {"m": np.full((64, 24), np.inf, np.float32)}
    assert_skipped(
        SMALL, Model.from_text("g (float[2,64] x) => (float[2,24] y) { y = MatMul(x, m) }", constants), "not finite"
    )


def test_computed_weights_are_no_weights() -> None:
    assert_skipped(SMALL, Model.from_text("g (float[2,4] x, float[4,3] w) => (float[2,3] y) { y = MatMul(x, w) }"), "")


@pytest.mark.parametrize("options", [{"ignore": ("nothing*",)}, {"ignore_ops": ("Conv",)}])
def test_what_matches_nothing_is_an_error(options: dict[str, tuple[str, ...]]) -> None:
    with pytest.raises(OptionError, match=r"matches no node|is not in the model"):
        check_pass(QuantizeWeights(**options), of("y = MatMul(x, m)"))  # type: ignore[arg-type]


@settings(max_examples=30, deadline=None)
@given(models())
def test_random_models(model: Model) -> None:
    check_contract(SMALL, model)
    check_contract(QuantizeWeights(min_elements=1, dtype="int4"), model)
