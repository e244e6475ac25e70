"""A Resize by scales has the sizes that ONNX Runtime gives it, whose products are of float32."""

from __future__ import annotations

import itertools

import numpy as np
import onnxruntime
import pytest

from edgecc.model import Model
from edgecc.resize_shapes import resized
from edgecc.serialization import graphs_of

_SIZES = (1, 2, 3, 5, 6, 7, 10, 13, 25, 50, 70, 99)
_SCALES = (0.1, 0.3, 1 / 3, 0.35, 0.6, 0.7, 0.9, 1.1, 1.2, 1.3, 1.4, 1.6, 10 / 7, 5 / 3, 2, 2.2)


def run(model: Model, x: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.to_proto().SerializeToString(), options)
    return np.asarray(session.run(None, {"x": x})[0])


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_sizes_are_those_of_onnxruntime(mode: str) -> None:
    in_float64 = 0
    for size, scale in itertools.product(_SIZES, _SCALES):
        if size * scale < 1:
            continue
        scales = np.array([1, 1, scale, 1], np.float32)
        text = f'g (float[1,1,{size},2] x) => (float[a,b,c,d] y) {{ y = Resize<mode="{mode}">(x, , s) }}'
        model = Model.from_text(text, {"s": scales})
        found = run(model, np.zeros((1, 1, size, 2), np.float32))
        assert model.outputs[0].shape == list(found.shape), (size, scale)
        in_float64 += found.shape[2] != int(np.floor(size * float(scales[2])))
    assert in_float64 > 5


def test_wrong_sizes_behind_each_other() -> None:
    scales = {"s": np.array([1, 1, 1.5, 1.4], np.float32), "t": np.array([1, 1, 1, 10 / 7], np.float32)}
    model = Model.from_text(
        "g (float[1,2,6,5] x) => (float[1,2,9,8] y)"
        "{ a = Resize(x, , s) b = Relu(a) c = Resize(b, , t) d = Resize(c, , s) y = Relu(d) }",
        scales,
    )
    [first, second, third] = [node.outputs[0].shape for node in model.nodes("Resize")]
    assert (first, second, third) == ([1, 2, 9, 7], [1, 2, 9, 10], [1, 2, 13, 14])
    assert model.outputs[0].shape == list(run(model, np.zeros((1, 2, 6, 5), np.float32)).shape) == third


@pytest.mark.parametrize("declared", ["a,b,c,d", "1,2,9,6", "1,2,9,7"])
def test_what_the_output_was_declared_to_be(declared: str) -> None:
    """Exporters declare what onnx infers."""
    model = Model.from_text(
        f"g (float[1,2,6,5] x) => (float[{declared}] y) {{ t = Resize(x, , s) y = Relu(t) }}",
        {"s": np.array([1, 1, 1.5, 1.4], np.float32)},
    )
    assert model.outputs[0].shape == [1, 2, 9, 7]


def test_open_batch_and_named_axes() -> None:
    model = Model.from_text(
        "g (float[N,2,6,5] x) => (float[N,2,9,6] y) { y = Resize<axes=[2,3]>(x, , s) }",
        {"s": np.array([1.5, 1.4], np.float32)},
    )
    assert model.outputs[0].shape == ["N", 2, 9, 7]


def test_subgraphs() -> None:
    model = Model.from_text(
        """g (bool c, float[1,2,6,5] x) => (float[1,2,p,q] y) <float[4] s = {1,1,1.5,1.4}> { y = If(c)<
        then_branch = t () => (float[1,2,9,6] r) { r = Resize(x, , s) },
        else_branch = e () => (float[1,2,9,6] r) { q = Resize(x, , s) r = Relu(q) }> }"""
    )
    _, then, otherwise = graphs_of(model.graph)
    for graph in (then, otherwise):
        assert [node.outputs[0].shape for node in graph.nodes] == [[1, 2, 9, 7]] * len(graph.nodes)


def test_scales_stay_as_they_are() -> None:
    scales = np.array([1, 1, 1.5, 1.4], np.float32)
    model = Model.from_text("g (float[1,2,6,5] x) => (float[a,b,c,d] y) { y = Resize(x, , s) }", {"s": scales})
    [node] = model.nodes()
    np.testing.assert_array_equal(node.inputs[2].values, scales)


def test_product_of_float32() -> None:
    assert resized(5, 1.4) == 7
    assert resized(5, 1.39) == 6
    assert resized(3, 0.5) == 1
