"""Rows that layers read."""

from __future__ import annotations

import numpy as np

from edgecc.data.calibration import Calibration, CalibrationData, open_calibration
from edgecc.model import Model
from edgecc.passes.base import no_progress
from edgecc.pruning.batched import is_batched
from edgecc.pruning.features import linear_of
from edgecc.pruning.rows import RowTable, affordable, gather, products_of, rows_wanted

from .test_coupling import with_weights

TEXT = """g (float[N,2,32,32] x) => (float[N,3,32,32] y) <float[4,2,1,1] w, float[3,4,1,1] v>
{ a = Conv(x, w) y = Conv(a, v) }"""


def test_as_many_of_samples_whose_number_is_not_known() -> None:
    model = with_weights(TEXT)
    linear = linear_of(model.nodes("Conv")[1])
    assert linear is not None
    values = np.random.default_rng(0).standard_normal((64, 2, 32, 32)).astype(np.float32)

    def rows(given: Calibration) -> RowTable:
        data = open_calibration(given, model.signature)
        assert isinstance(data, CalibrationData)
        return gather(model, [linear], data, "rows", no_progress)[0]

    found = rows(lambda: ({"x": sample[np.newaxis]} for sample in values))
    assert len(found) == rows_wanted(linear) < 64 * 32 * 32
    np.testing.assert_array_equal(found, rows({"x": values}))


def test_sums_of_products_are_those_of_the_rows() -> None:
    model = with_weights(TEXT)
    linear = linear_of(model.nodes("Conv")[1])
    assert linear is not None
    values = np.random.default_rng(0).standard_normal((48, 2, 32, 32)).astype(np.float32)
    data = open_calibration({"x": values}, model.signature)
    assert isinstance(data, CalibrationData)
    (rows,), (sums,) = (make(model, [linear], data, "rows", no_progress) for make in (gather, products_of))
    np.testing.assert_allclose(sums, rows.T @ rows, rtol=1e-4, atol=0.1)
    # 1,024 positions of 8 and of 12 multiply-accumulates.
    assert affordable(model, data, 40 * 1024 * 20).total == 48
    large = open_calibration({"x": np.concatenate([values, values])}, model.signature)
    assert isinstance(large, CalibrationData)
    assert [affordable(model, large, calls * 1024 * 20).total for calls in (10, 70, 100)] == [64, 70, 96]


def test_samples_are_joined_only_where_nothing_looks_along_them() -> None:
    batched = {
        "float[N,4] y { y = Relu(x) }": True,
        "float[N,4] y { a = Transpose(x) b = MatMul(x, a) y = MatMul(b, x) }": False,
        "float[N,4] y { a = Softmax<axis = 0>(x) y = Mul(a, x) }": False,
        "float[N,4] y { a = Softmax<axis = -2>(x) y = Mul(a, x) }": False,
        "float[N,4] y { a = ReduceMean<keepdims = 1>(x, axes) y = Sub(x, a) }": False,
        "float[N] y { a = ReduceSum<keepdims = 0>(x, last) y = Softmax(a) }": False,
        "float[N] y { a = ReduceSum<keepdims = 0>(x, last) y = Relu(a) }": True,
        "float[N,4] y { y = CumSum(x, start) }": False,
        "float[N,4] y { y = MeanVarianceNormalization<axes = [0, 1]>(x) }": False,
        "float[N,4] y { y = Trilu(x) }": False,
        'float[N,4] y { y = Einsum<equation = "ij->ij">(x) }': False,
        "float[N,4] y { i = ArgMax<axis = 1, keepdims = 0>(x) y = Gather(x, i) }": False,
        "float[N,3] y { i = ArgMax<axis = 1, keepdims = 0>(x) y = Gather(table, i) }": True,
        "float[N,2] y { y = Gather<axis = 1>(x, places) }": True,
        "float[1,4] y { y = ReduceMean<keepdims = 1>(x, axes) }": False,
        # As tf2onnx writes them: names for open dimensions begin anew behind a Reshape.
        "float[M,4] y { y = Reshape(x, fours) }": True,
        "float[M,2] y { y = Reshape(x, twos) }": False,
        "float[N,4] y { a = Reshape(x, twos) b = Relu(a) y = Reshape(b, fours) }": True,
        "float[N,4] y { a = Reshape(x, twos) b = Softmax<axis = 0>(a) y = Reshape(b, fours) }": False,
        "float[N,4] y { a = Reshape(x, twos) b = Transpose(a) c = Transpose(b) y = Reshape(c, fours) }": False,
        # The name says that it is the same dimension, and it is not.
        "float[N,2] y { y = Reshape(x, twos) }": False,
    }
    constants = "int64[1] axes = {0}, int64 start = {0}, int64[2] fours = {-1, 4}, int64[2] twos = {-1, 2}"
    constants += (
        ", int64[1] last = {1}, int64[2] places = {3, 0}, float[4,3] table = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}"
    )
    for text, expected in batched.items():
        signature, body = text.split(" {")
        source = f"g (float[N,4] x) => ({signature}) <{constants}> {{{body}"
        assert is_batched(Model.from_text(source)) is expected, text
    assert not is_batched(Model.from_text("g (float[1,4] x) => (float[1,4] y) { y = Relu(x) }"))
    # Of two names nobody knows whether both count samples.
    two = "g (float[N,4] a, float[M,4] b) => (float[K,4] y) { y = Add(a, b) }"
    assert not is_batched(Model.from_text(two))
