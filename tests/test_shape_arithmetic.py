"""What is known of shape arithmetic although the batch is open."""

from __future__ import annotations

import numpy as np
import pytest

from edgecc.model import Model, value_of
from edgecc.shape_arithmetic import OpenSize, _divided, _equal, _minus, _plus, _times

BATCH = OpenSize(1, ("n",))


def clean(text: str) -> Model:
    model = Model.from_text(text)
    model.cleanup()
    model.verify()
    return model


def constants_of(model: Model, op: str, index: int) -> list[int]:
    values = value_of(model.nodes(op)[0].inputs[index])
    assert values is not None
    return [int(v) for v in values]


def test_a_reshape_to_computed_sizes() -> None:
    """As `x.view(n, c // 2, 2, w)` is exported."""
    model = clean(
        """g (float[n,6,5] x) => (float[n,3,2,5] y)
        <int64 zero = {0}, int64 one = {1}, int64 two = {2}, int64[1] first = {0}, int64[1] twice = {2},
         int64[1] last = {5}> {
            s = Shape(x) n = Gather(s, zero) c = Gather(s, one) half = Div(c, two)
            a = Unsqueeze(n, first) b = Unsqueeze(half, first)
            target = Concat<axis = 0>(a, b, twice, last) y = Reshape(x, target) }"""
    )
    assert [node.op for node in model.nodes()] == ["Reshape"]
    assert constants_of(model, "Reshape", 1) == [0, 3, 2, 5]


def test_a_batch_that_is_multiplied_and_divided_again() -> None:
    """Windows become a part of the batch and leave it again."""
    model = clean(
        """g (float[n,4,6] x) => (float[n,6,4] y)
        <int64[1] four = {4}, int64[1] six = {6}, int64[1] minus = {-1}> {
            n = Shape<start = 0, end = 1>(x) many = Mul(n, four) t = Concat<axis = 0>(many, six) w = Reshape(x, t)
            v = Tanh(w) m = Shape<start = 0, end = 1>(w) few = Div(many, four)
            back = Concat<axis = 0>(few, six, four) y = Reshape(v, back) }"""
    )
    assert [node.op for node in model.nodes()] == ["Reshape", "Tanh", "Reshape"]
    assert [value_of(node.inputs[1]).tolist() for node in model.nodes("Reshape")] == [[-1, 6], [-1, 6, 4]]


def test_two_open_dimensions_that_move_stay_computed() -> None:
    model = clean(
        """g (float[n,m,6] x) => (float[m,n,6] y) <int64[1] six = {6}> {
            n = Shape<start = 0, end = 1>(x) m = Shape<start = 1, end = 2>(x)
            t = Concat<axis = 0>(m, n, six) y = Reshape(x, t) }"""
    )
    assert value_of(model.nodes("Reshape")[0].inputs[1]) is None


def test_a_zero_that_means_zero_is_left_alone() -> None:
    model = clean(
        """g (float[n,0,6] x) => (float[n,0,3] y) <int64[2] rest = {0, 3}> {
            n = Shape<start = 0, end = 1>(x) t = Concat<axis = 0>(n, rest) y = Reshape<allowzero = 1>(x, t) }"""
    )
    assert value_of(model.nodes("Reshape")[0].inputs[1]) is None


def test_a_resize_is_told_only_the_sizes_that_change() -> None:
    model = clean(
        """g (float[n,3,4,4] x) => (float[n,3,8,6] y) <int64[2] size = {8, 6}> {
            kept = Shape<start = 0, end = 2>(x) t = Concat<axis = 0>(kept, size)
            y = Resize<mode = "linear">(x, , , t) }"""
    )
    assert model.nodes("Resize")[0].attrs["axes"] == [2, 3]
    assert constants_of(model, "Resize", 3) == [8, 6]
    assert model.nodes("Resize")[0].outputs[0].shape == ["n", 3, 8, 6]


def test_the_result_is_the_same() -> None:
    """The choice of an expanded shape, as PyTorch writes `expand(n, -1, 4)`."""
    text = """g (float[n,3,1] x) => (float[n,3,4] y)
        <int64[2] rest = {-1, 4}, int64[3] none = {-1, -1, -1}, int64[3] ones = {1, 1, 1}> {
            n = Shape<start = 0, end = 1>(x) t = Concat<axis = 0>(n, rest) is = Equal(t, none) e = Where(is, ones, t)
            y = Expand(x, e) }"""
    import onnxruntime

    model = clean(text)
    x = np.arange(6, dtype=np.float32).reshape(2, 3, 1)
    session = onnxruntime.InferenceSession(model.to_proto().SerializeToString(), providers=["CPUExecutionProvider"])
    np.testing.assert_array_equal(session.run(None, {"x": x})[0], np.broadcast_to(x, (2, 3, 4)))


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (_times(BATCH, 4), OpenSize(4, ("n",))),
        (_times(BATCH, BATCH), OpenSize(1, ("n", "n"))),
        (_times(BATCH, 0), 0),
        (_times(BATCH, -1), None),
        (_divided(OpenSize(4, ("n",)), 2), OpenSize(2, ("n",))),
        (_divided(OpenSize(4, ("n",)), BATCH), 4),
        (_divided(BATCH, 2), None),
        (_divided(-7, 2), -3),
        (_divided(7, 0), None),
        (_plus(BATCH, BATCH), OpenSize(2, ("n",))),
        (_plus(BATCH, 1), None),
        (_minus(BATCH, BATCH), 0),
        (_minus(OpenSize(3, ("n",)), BATCH), OpenSize(2, ("n",))),
        (_minus(5, 7), -2),
        (_equal(BATCH, -1), 0),
        (_equal(BATCH, 1), None),
        (_equal(BATCH, BATCH), 1),
    ],
)
def test_arithmetic(found: object, expected: object) -> None:
    assert found == expected


def test_sizes_that_are_all_known_stay_whole() -> None:
    """ONNX Runtime is slower where a Resize names axes."""
    text = """g (float[2,3,4,3] x) => (float[2,3,8,6] y) <int64[2] space = {8, 6}, int64[1] i = {0}, int64[1] k = {2}> {
        s = Shape(x) b = Slice(s, i, k) t = Concat<axis = 0>(b, space) y = Resize<mode = "linear">(x, , , t) }"""
    model = Model.from_text(text)
    model.cleanup()
    assert "axes" not in model.nodes("Resize")[0].attrs
    assert constants_of(model, "Resize", 3) == [2, 3, 8, 6]
