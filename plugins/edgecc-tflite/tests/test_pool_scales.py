"""Average pools of integers: imported they round as kernels do, and lowered they are the kernels' own again."""

from __future__ import annotations

import numpy as np
import pytest

from edgecc.model import Model
from edgecc_tflite.ir import Graph, Operator, Quantization, Tensor
from edgecc_tflite.quantization import with_pool_scales
from edgecc_tflite.quantization.pools import HALVES_AWAY
from edgecc_tflite.testing.importing import imported
from edgecc_tflite.testing.running import lowered, run_onnx, run_tflite

CONSTANTS = {
    "s": np.full((), 0.5, np.float32),
    "z": np.array(-7, np.int8),
    "u": np.array(121, np.uint8),
    "one": np.ones((), np.float32),
    "away": HALVES_AWAY.scale.reshape(()),
    "zero": np.zeros((), np.int8),
    "middle": np.array(128, np.uint8),
}


def of(text: str) -> Model:
    return Model.from_text(f"g (float[1,2,4,4] x) => (float[1,2,2,2] y) {{ {text} }}", CONSTANTS)


def pool(first: str, last: str) -> str:
    return (
        f"a = DequantizeLinear({first})  m = AveragePool<kernel_shape = [2, 2], strides = [2, 2]>(a)"
        f"  r = QuantizeLinear({last})"
    )


SIGNED = pool("q, one, zero", "m, away, zero")


def scales(model: Model) -> set[float]:
    return {float(node.inputs[1].values) for node in model.nodes("QuantizeLinear", "DequantizeLinear")}


@pytest.mark.parametrize("text", [
    f"q = QuantizeLinear(x, s, z)  {SIGNED}  y = DequantizeLinear(r, s, z)",
    f"q = QuantizeLinear(x, s, u)  {pool('q, one, middle', 'm, away, middle')}  y = DequantizeLinear(r, s, u)",
    f"p = QuantizeLinear(x, s, z)  q = Transpose<perm = [0, 1, 3, 2]>(p)  {SIGNED}  y = DequantizeLinear(r, s, z)",
])  # fmt: skip
def test_the_scale_is_that_of_what_is_around(text: str) -> None:
    model = of(text)
    assert scales(with_pool_scales(model)) == {0.5}
    assert len(scales(model)) == 3, "the model itself is not changed"


@pytest.mark.parametrize("text", [
    f"q = QuantizeLinear(x, s, z)  {pool('q, s, z', 'm, s, z')}  y = DequantizeLinear(r, s, z)",
    f"q = QuantizeLinear(x, s, z)  {pool('q, one, zero', 'm, one, zero')}  y = DequantizeLinear(r, s, z)",
    "q = QuantizeLinear(x, s, z)  a = DequantizeLinear(q, one, zero)"
    "  m = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(a)  r = QuantizeLinear(m, away, zero)"
    "  y = DequantizeLinear(r, s, z)",
])  # fmt: skip
def test_other_pools_stay(text: str) -> None:
    model = of(text)
    assert with_pool_scales(model) is model


def _file(dtype: str, window: tuple[int, int]) -> Graph:
    """A TFLite graph of one pool that divides an image into windows."""
    quantization = Quantization(np.array([0.37], np.float32), np.array([3], np.int64))
    kind = np.dtype(dtype)
    x = Tensor("x", (1, 24, 24, 3), kind, quantization=quantization)
    y = Tensor("y", (1, 24 // window[0], 24 // window[1], 3), kind, quantization=quantization)
    options = {"filterHeight": window[0], "filterWidth": window[1], "strideH": window[0], "strideW": window[1]}
    return Graph("g", [x], [y], [Operator("AVERAGE_POOL_2D", [x], [y], {**options, "padding": 1})])


@pytest.mark.parametrize("window", [(1, 2), (2, 2), (2, 3), (3, 3), (8, 8), (6, 4), (24, 24)])
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_halves_are_rounded_as_kernels_do(dtype: str, window: tuple[int, int]) -> None:
    graph = _file(dtype, window)
    model = imported(graph)
    assert model is not None
    limits = np.iinfo(dtype)
    generator = np.random.default_rng(0)
    for _ in range(4):
        values = generator.integers(limits.min, limits.max + 1, (1, 24, 24, 3)).astype(dtype)
        # Sums that a window of even size divides to a half, on both sides of zero.
        values[:, :: window[0], :: window[1]] |= 1
        expected = run_tflite(graph, {"x": values})["y"]
        np.testing.assert_array_equal(run_onnx(model, {"x": values})["y"], expected)


def test_written_again_it_is_the_same_operator() -> None:
    model = imported(_file("int8", (2, 2)))
    assert model is not None
    assert [op.builtin for op in lowered(model).operators] == ["AVERAGE_POOL_2D"]
