"""Layers with two zeros in each four weights: found in every form, and the builder told of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import edgecc
from edgecc.model import Model
from edgecc.passes.prune_weights import PruneWeights
from edgecc.passes.quantize_static import QuantizeStatic
from edgecc_tensorrt.sparse_layers import sparse_layers

RNG = np.random.default_rng(0)


def along(axis: int, shape: tuple[int, ...]) -> np.ndarray:
    """Weights of which each first and second of four along an axis are 0."""
    values = np.moveaxis(RNG.standard_normal(shape).astype(np.float32), axis, 0)
    values[0::4] = values[1::4] = 0
    return np.ascontiguousarray(np.moveaxis(values, 0, axis))


@pytest.mark.parametrize(
    ("text", "shape", "axis"),
    [
        ("g (float[1,8,9,9] x) => (float[1,16,7,7] y) { y = Conv(x, w) }", (16, 8, 3, 3), 1),
        ("g (float[1,8] x) => (float[1,16] y) { y = Gemm(x, w) }", (8, 16), 0),
        ("g (float[1,8] x) => (float[1,16] y) { y = Gemm<transB = 1>(x, w) }", (16, 8), 1),
        ("g (float[2,3,8] x) => (float[2,3,16] y) { y = MatMul(x, w) }", (8, 16), 0),
    ],
)
def test_along_the_input_channels_only(text: str, shape: tuple[int, ...], axis: int) -> None:
    assert len(sparse_layers(Model.from_text(text, {"w": along(axis, shape)}))) == 1
    assert not sparse_layers(Model.from_text(text, {"w": along(1 - axis, shape)}))


@pytest.mark.usefixtures("sdk_installed")
@pytest.mark.parametrize("quantized", [False, True])
@pytest.mark.parametrize("options", ["", ":precision=float16"])
def test_engine(quantized: bool, options: str, tmp_path: Path) -> None:
    text = """g (float[1,16,8,8] x) => (float[1,16,8,8] y)
    { a = Conv<pads = [1, 1, 1, 1]>(x, w) b = Relu(a) y = Conv<pads = [1, 1, 1, 1]>(b, v) }"""
    weights = {name: RNG.standard_normal((16, 16, 3, 3)).astype(np.float32) / 12 for name in "wv"}
    steps = [PruneWeights(pattern="2:4"), *([QuantizeStatic()] if quantized else [])]
    if quantized and options:
        pytest.skip("int8 weights are the same for both")
    samples = RNG.standard_normal((8, 16, 8, 8)).astype(np.float32)
    model = Model.from_text(text, weights)
    result = edgecc.compile(model, f"tensorrt{options}", tmp_path / "m.engine", passes=steps, calibration=samples)
    assert "2 layers have 2:4 sparse weights: TensorRT may choose sparse kernels for them" in result.notes
    dense = edgecc.compile(Model.from_text(text, weights), f"tensorrt{options}", tmp_path / "d.engine")
    assert not any("2:4" in note for note in dense.notes)
