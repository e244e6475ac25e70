"""Layers as matrices."""

from __future__ import annotations

import numpy as np

from edgecc.pruning.features import by_channels, linear_of, whole

from .test_coupling import with_weights

TEXT = """g (float[1,3,8,8] x) => (float[1,5,6,6] y) <float[5,3,3,3] w, float[5] b> { y = Conv(x, w, b) }"""


def test_a_convolution_by_channels_and_back() -> None:
    linear = linear_of(with_weights(TEXT).nodes("Conv")[0])
    assert linear is not None
    narrow = by_channels(linear)
    assert narrow.weights.shape == (5 * 9, 3 + 1)
    np.testing.assert_array_equal(whole(narrow.weights, narrow), linear.weights)
    # Channel 1 of output 2, at each position of the kernel.
    np.testing.assert_array_equal(narrow.weights[18:27, 1], linear.weights[2, 9:18])
    without = narrow.weights.copy()
    without[:, 1] = 0
    assert set(np.flatnonzero(~whole(without, narrow)[:, :-1].any(axis=0))) == set(range(9, 18))
    np.testing.assert_array_equal(whole(linear.weights, linear), linear.weights)
