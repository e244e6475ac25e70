"""quantize-static for TensorRT: what its parser takes, and engines on machines without a GPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import edgecc
from edgecc.model import Model, value_of
from edgecc.passes.quantize_static import QuantizeStatic

pytestmark = pytest.mark.usefixtures("sdk_installed")
RNG = np.random.default_rng(0)
CONSTANTS = {
    "w": RNG.standard_normal((4, 3, 3, 3)).astype(np.float32),
    "v": RNG.standard_normal((4, 4, 3, 3)).astype(np.float32),
    "b": RNG.standard_normal(4).astype(np.float32),
    "m": RNG.standard_normal((4, 5)).astype(np.float32),
}
RESIDUAL = (
    "a = Conv<pads=[1,1,1,1]>(x, w, b)  r = Relu(a)  c = Conv<pads=[1,1,1,1]>(r, v, b)  s = Add(r, c)  t = Relu(s)"
)
NET = f"{RESIDUAL}  p = GlobalAveragePool(t)  f = Flatten(p)  h = Gemm(f, m)  y = Softmax(h)"


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_engine_of_a_residual_net(precision: str, tmp_path: Path) -> None:
    model = Model.from_text(f"g (float[1,3,16,16] x) => (float[A,B] y) {{ {NET} }}", CONSTANTS)
    samples = np.random.default_rng(1).standard_normal((16, 3, 16, 16)).astype(np.float32)
    target = f"tensorrt:precision={precision}"
    result = edgecc.compile(model, target, tmp_path / "m.engine", passes=[QuantizeStatic()], calibration={"x": samples})
    assert result.path.stat().st_size > 0
    rounding = result.model.nodes("QuantizeLinear")
    # x, the residual's two operands, what the second convolution reads (one of them) and what Gemm reads.
    assert len(rounding) == 4
    assert not any(value_of(node.inputs[2]).any() for node in rounding)  # type: ignore[union-attr]
    biases = [node.inputs[2] for node in result.model.nodes("Conv", "Gemm") if len(node.inputs) > 2]
    assert all(result.model.producer(bias) is None or precision == "float16" for bias in biases)
