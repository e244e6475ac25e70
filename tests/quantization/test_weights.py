from __future__ import annotations

import numpy as np
import pytest

from edgecc.quantization.weights import block_weights, integer_bias, integer_weights, least_scales


@pytest.mark.parametrize("axis", [0, 1, 3])
def test_each_channel_has_its_scale(axis: int) -> None:
    weights = np.random.default_rng(0).standard_normal((4, 6, 3, 5)).astype(np.float32)
    factors = 10.0 ** np.arange(weights.shape[axis])
    weights *= np.moveaxis(factors.reshape(-1, 1, 1, 1), 0, axis).astype(np.float32)
    steps, scales = integer_weights(weights, axis)
    assert steps.dtype == np.int8
    assert steps.shape == weights.shape
    assert scales.shape == (weights.shape[axis],)
    back = steps * np.moveaxis(scales.reshape(-1, 1, 1, 1), 0, axis)
    rows = np.moveaxis(weights - back, axis, 0).reshape(len(scales), -1)
    size = np.moveaxis(weights, axis, 0).reshape(len(scales), -1)
    # 8 bits of a normal distribution have some 40 dB.
    assert np.all(np.square(rows).sum(1) < 1e-3 * np.square(size).sum(1))


def test_one_scale() -> None:
    weights = np.random.default_rng(0).standard_normal((8, 16)).astype(np.float32)
    steps, scale = integer_weights(weights, None)
    assert scale.shape == ()
    assert np.abs(steps * scale - weights).max() <= scale * 0.51 + 0.4 * np.abs(weights).max()


def test_minus_128_is_left_out() -> None:
    steps, _ = integer_weights(np.array([[-1.0, 0.1, 0.99]], np.float32), 0)
    assert steps.min() >= -127


def test_clipping_pays_where_one_value_is_far_out() -> None:
    weights = np.random.default_rng(0).standard_normal((1, 100_000)).astype(np.float32)
    weights[0, 0] = 9.0
    _, scales = integer_weights(weights, 0)
    assert scales[0] < 9.0 / 127


def test_channels_of_zeros() -> None:
    steps, scales = integer_weights(np.zeros((3, 4), np.float32), 0)
    assert not steps.any()
    assert np.all(scales > 0)


def test_a_large_bias_fits_beside_tiny_weights() -> None:
    weights, bias = np.full((1, 4), 1e-12, np.float32), np.array([1e3], np.float32)
    _, scales = integer_weights(weights, 0, least_scales(bias, 0.1, 0))
    steps, units = integer_bias(bias, 0.1, scales)
    # float32 units have 24 bits.
    np.testing.assert_allclose(steps * units.astype(np.float64), bias, rtol=1e-7)


def test_four_bits() -> None:
    weights = np.random.default_rng(0).standard_normal((8, 64)).astype(np.float32)
    steps, scales = integer_weights(weights, 0, bits=4)
    assert (steps.min(), steps.max()) == (-8, 7)
    error = np.square(steps * scales[:, None] - weights).mean()
    # The best uniform quantizer of 16 levels has an error of 0.0115 for a normal distribution (Max, 1960).
    assert error < 0.015


@pytest.mark.parametrize(("axis", "block"), [(0, 32), (1, 16), (0, 30)])
def test_each_run_has_its_scale(axis: int, block: int) -> None:
    weights = np.random.default_rng(0).standard_normal((64, 48)).astype(np.float32)
    runs = np.arange(weights.shape[axis]) // block
    weights *= (10.0**runs).reshape((-1, 1) if axis == 0 else (1, -1)).astype(np.float32)
    steps, scales = block_weights(weights, axis, block, 8)
    expected = list(weights.shape)
    expected[axis] = -(-expected[axis] // block)
    assert list(scales.shape) == expected
    spread = np.repeat(scales, block, axis)[tuple(map(slice, weights.shape))]
    # Half a step, or what clipping the largest value leaves.
    assert np.all(np.abs(steps * spread - weights) <= spread * 128 * 0.4 + spread / 2)
    assert np.square(steps * spread - weights).sum() < 1e-3 * np.square(weights).sum()


@pytest.mark.parametrize(("size", "half"), [(1.0, True), (1e-6, False), (1e8, False)])
def test_scales_of_runs_are_numbers_of_float16_where_they_fit(size: float, half: bool) -> None:
    weights = (size * np.random.default_rng(0).standard_normal((32, 4))).astype(np.float32)
    steps, scales = block_weights(weights, 0, 32, 4)
    with np.errstate(over="ignore"):
        assert np.array_equal(scales.astype(np.float16).astype(np.float32), scales) == half
    assert np.abs(steps * scales - weights).max() < 0.5 * np.abs(weights).max()
