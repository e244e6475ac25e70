"""Tests of quantize-dynamic in both ways of writing it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings

from edgecc.errors import OptionError
from edgecc.model import Model, value_of
from edgecc.passes.quantize_dynamic import QuantizeDynamic
from edgecc.quantization.dynamic import has_dynamic_kernel, reads_are_dynamic
from edgecc.quantization.scheme import PORTABLE
from edgecc.target import Target
from edgecc.testing import assert_skipped, check_contract, check_pass
from edgecc.testing.declared import target_of
from edgecc.testing.strategies import models

RNG = np.random.default_rng(0)
CONSTANTS = {
    "c": RNG.standard_normal((8, 4, 3, 3)).astype(np.float32),
    "m": RNG.standard_normal((64, 24)).astype(np.float32),
    "n": RNG.standard_normal((24, 64)).astype(np.float32),
    "b": RNG.standard_normal(24).astype(np.float32),
    "e": RNG.standard_normal((40, 16)).astype(np.float32),
}
SMALL = QuantizeDynamic(min_elements=1)
PAIRS = target_of(replace(PORTABLE, dynamic="pairs", dynamic_operators=frozenset({"Conv", "Gemm", "MatMul"})))
#: Relative to the largest value: some steps of 255 in the data and of 127 in the weights.
EIGHT_BITS = 0.03


def of(text: str, shape: str = "2,64", outputs: str = "float[2,24] y") -> Model:
    return Model.from_text(f"g (float[{shape}] x) => ({outputs}) {{ {text} }}", CONSTANTS)


def ops(model: Model) -> list[str]:
    return sorted(node.op for node in model.nodes())


@pytest.mark.parametrize(("text", "bias"), [("y = MatMul(x, m)", 0), ("y = Gemm(x, m, b)", 1)])
def test_product_of_integers(text: str, bias: int) -> None:
    model = check_pass(SMALL, of(text), tolerance=EIGHT_BITS)
    assert ops(model) == sorted(["DynamicQuantizeLinear", "MatMulInteger", "Cast", "Mul", "Mul", *["Add"] * bias])
    weights = value_of(model.nodes("MatMulInteger")[0].inputs[1])
    assert weights is not None
    assert (weights.dtype, weights.shape) == (np.int8, (64, 24))


def test_transposed_weights_and_stacks_of_matrices() -> None:
    check_pass(SMALL, of("y = Gemm<transB=1>(x, n, b)"), tolerance=EIGHT_BITS)
    check_pass(SMALL, of("y = MatMul(x, m)", "2,3,64", "float[2,3,24] y"), tolerance=EIGHT_BITS)


@pytest.mark.parametrize("target", [None, PAIRS])
def test_data_of_several_products_is_rounded_once(target: Target | None) -> None:
    text = "a = MatMul(x, m)  d = Gemm(x, m, b)  y = Add(a, d)"
    model = check_pass(SMALL, of(text), tolerance=EIGHT_BITS, target=target)
    assert len(model.nodes("DynamicQuantizeLinear")) == 1


@pytest.mark.parametrize(
    ("text", "shape", "outputs"),
    [
        ("y = MatMul(x, m)", "2,64", "float[2,24] y"),
        ("y = Gemm<transB=1>(x, n, b)", "2,64", "float[2,24] y"),
        ("y = Conv(x, c)", "1,4,8,8", "float[1,8,6,6] y"),
    ],
)
def test_pairs_in_front_of_float_operators(text: str, shape: str, outputs: str) -> None:
    model = check_pass(SMALL, of(text, shape, outputs), tolerance=EIGHT_BITS, target=PAIRS)
    (node,) = model.nodes("Conv", "Gemm", "MatMul")
    assert has_dynamic_kernel(node)
    assert reads_are_dynamic(model.nodes("DynamicQuantizeLinear")[0], model)


def test_others_that_read_rounded_data() -> None:
    """What else reads the rounded values needs them."""
    text = "q, s, z = DynamicQuantizeLinear(x)  d = DequantizeLinear(q, s, z)  y = Relu(d)"
    model = of(text, outputs="float[2,64] y")
    assert not reads_are_dynamic(model.nodes("DynamicQuantizeLinear")[0], model)


def test_rows_of_tables() -> None:
    table = Model.from_text("g (int64[3] ids) => (float[3,16] y) { y = Gather(e, ids) }", CONSTANTS)
    model = check_pass(SMALL, table, feeds={"ids": np.array([1, 39, 7])}, tolerance=EIGHT_BITS)
    assert ops(model) == ["Cast", "Gather", "Gather", "Mul"]


@pytest.mark.parametrize(
    ("text", "step", "reason"),
    [
        ("y = MatMul(x, m)", QuantizeDynamic(min_elements=5000), "fewer than option min_elements"),
        ("y = MatMul(x, m)", QuantizeDynamic(ignore=("MatMul*",)), "it is excluded"),
        ("y = MatMul(x, m)", QuantizeDynamic(ignore_ops=("MatMul",)), "it is excluded"),
        ("y = Gemm<alpha=2.0>(x, m, b)", SMALL, "scales its product"),
    ],
)
def test_stays_float(text: str, step: QuantizeDynamic, reason: str) -> None:
    assert_skipped(step, of(text), reason)


def test_operators_that_the_target_does_not_gain_from() -> None:
    assert_skipped(SMALL, of("y = Conv(x, c)", "1,4,8,8", "float[1,8,6,6] y"), "slower than that for float")


def test_targets_without_such_kernels() -> None:
    with pytest.raises(OptionError, match="at run time"):
        check_pass(SMALL, of("y = MatMul(x, m)"), target=target_of(replace(PORTABLE, dynamic="")))


def test_one_scale() -> None:
    model = check_pass(QuantizeDynamic(per_channel=False), of("y = MatMul(x, m)"), tolerance=2 * EIGHT_BITS)
    assert value_of(model.nodes("Mul")[0].inputs[1]).shape == ()  # type: ignore[union-attr]


@settings(max_examples=30, deadline=None)
@given(models())
def test_random_models(model: Model) -> None:
    check_contract(SMALL, model)
    check_contract(SMALL, model, target=PAIRS)
