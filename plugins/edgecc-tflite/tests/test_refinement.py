"""Axes that RESHAPEs merge stay apart where every operator in between takes them so."""

from __future__ import annotations

import numpy as np
import pytest

from edgecc.model import Model
from edgecc_tflite.layout.refinement import divided
from edgecc_tflite.testing import assert_close, counts, lowered, run_onnx, run_tflite
from edgecc_tflite.testing.net import Net


@pytest.mark.parametrize(
    ("shape", "into", "expected"),
    [
        ((2, 3, 4), (2, 12), ((2,), (3, 4))),
        ((2, 12), (2, 3, 4), ((2,), (3,), (4,))),
        ((2, 8, 1, 5), (2, 8, 5), ((2,), (8,), (1, 5))),
        ((2, 8, 5, 1), (2, 8, 5), ((2,), (8,), (5, 1))),
        ((-1, 3, 4), (-1, 12), ((-1,), (3, 4))),
        ((6, -1, 12), (6, -1, 4), ((6,), (-1, 3), (4,))),
        ((-1, 7, 9), (-1, 9), ((-1, 7), (9,))),
        ((4, 6), (3, 8), None),
        ((-1, 2), (3, -1), None),
    ],
)
def test_the_finest_axes_in_common(
    shape: tuple[int, ...], into: tuple[int, ...], expected: tuple[tuple[int, ...], ...] | None
) -> None:
    assert divided(shape, into) == expected


def solved(model: Model, batch: int = 2) -> dict[str, int]:
    """Counts of operators; the result is compared with ONNX Runtime on the way."""
    generator = np.random.default_rng(0)
    feeds = {
        s.name: generator.standard_normal([d if isinstance(d, int) else batch for d in s.shape], np.float32)
        for s in model.signature.inputs
    }
    graph = lowered(model)
    assert_close(run_tflite(graph, feeds), run_onnx(model, feeds), 1e-5)
    return counts(graph)


@pytest.mark.parametrize("batch", ["2", "n"])
def test_one_dimensional_convolutions_need_no_reshape_between_them(batch: str) -> None:
    net = Net(x=f"f:{batch},4,32")
    x = net.op("PRelu", net.op("Conv", "x", net.random(8, 4, 3)), net.random(8, 1))
    y = net.op("Conv", x, net.random(8, 8, 3), pads=[1, 1])
    x = net.op("Add", x, net.op("Relu", net.op("Mul", y, net.op("ReduceMean", y, np.array([2])))))
    pooled = net.op("MaxPool", x, kernel_shape=[2], strides=[2])
    found = solved(net.model(net.op("Conv", pooled, net.random(3, 8, 1))))
    assert (found["RESHAPE"], found["TRANSPOSE"]) == (2, 2)


def test_merged_heads_of_an_open_batch_stay_apart() -> None:
    """Time first, as torch.nn.MultiheadAttention computes it."""
    net = Net(x="f:n,6,16")

    def heads() -> str:
        y = net.op("Transpose", net.op("MatMul", "x", net.random(16, 16)), perm=[1, 0, 2])
        return str(net.op("Transpose", net.op("Reshape", y, np.array([6, -1, 4])), perm=[1, 0, 2]))

    keys = net.op("Transpose", heads(), perm=[0, 2, 1])
    mixed = net.op("MatMul", net.op("Softmax", net.op("MatMul", heads(), keys), axis=-1), heads())
    flat = net.op("Reshape", net.op("Transpose", mixed, perm=[1, 0, 2]), np.array([-1, 16]))
    product = net.op("Gemm", flat, net.random(16, 16), net.random(16))
    out = net.op("Transpose", net.op("Reshape", product, np.array([6, -1, 16])), perm=[1, 0, 2])
    assert solved(net.model(net.op("Add", "x", out)))["TRANSPOSE"] <= 4


def test_a_region_that_saves_nothing_stays() -> None:
    net = Net(x="f:2,3,4")
    y = net.op("Tanh", net.op("Reshape", "x", np.array([2, 12])))
    assert solved(net.model(net.op("Softmax", y, axis=-1)))["RESHAPE"] == 1


def test_what_enters_and_leaves_a_region_keeps_its_shape() -> None:
    net = Net(x="f:2,3,4", z="f:2,12")
    y = net.op("Tanh", net.op("Reshape", "x", np.array([2, 12])))
    total = net.op("Add", y, "z")
    back = [net.op("Exp", net.op("Reshape", t, np.array([2, 3, 4]))) for t in (y, total)]
    solved(net.model(*back, total))


def test_a_key_transpose_far_from_the_ends_is_multiplied_as_transposed() -> None:
    """What a RESHAPE separates from the model's input is found too."""
    net = Net(x="f:4,3,4,16")
    x = net.op("Reshape", net.op("Transpose", "x", perm=[0, 2, 1, 3]), np.array([4, 12, 16]))
    qkv = net.op("Reshape", net.op("MatMul", x, net.random(16, 48)), np.array([4, 12, 3, 4, 4]))
    parts = net.op("Transpose", qkv, perm=[2, 0, 3, 1, 4])
    q, k, v = (net.op("Gather", parts, np.array(n), axis=0) for n in range(3))
    scores = net.op("MatMul", net.op("Tanh", q), net.op("Transpose", k, perm=[0, 1, 3, 2]))
    mixed = net.op("Transpose", net.op("MatMul", net.op("Softmax", scores, axis=-1), v), perm=[0, 2, 1, 3])
    out = net.op("MatMul", net.op("Reshape", mixed, np.array([4, 12, 16])), net.random(16, 16))
    assert solved(net.model(out))["TRANSPOSE"] <= 3
