"""quantize-weights for TensorRT: engines on machines without a GPU, and the size of the typed ONNX."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import edgecc
from edgecc.errors import OptionError
from edgecc.model import Model
from edgecc.passes.quantize_dynamic import QuantizeDynamic
from edgecc.passes.quantize_weights import QuantizeWeights

pytestmark = pytest.mark.usefixtures("sdk_installed")
RNG = np.random.default_rng(0)
CONSTANTS = {
    "m": RNG.standard_normal((64, 96)).astype(np.float32),
    "n": RNG.standard_normal((32, 96)).astype(np.float32),
    "b": RNG.standard_normal(32).astype(np.float32),
    "e": RNG.standard_normal((500, 64)).astype(np.float32),
}
TEXT = """g (float[4,64] x, int64[4] i) => (float[4,96] y, float[4,64] e1, float[4,32] z)
    { y = MatMul(x, m)  e1 = Gather(e, i)  z = Gemm<transB=1>(y, n, b) }"""


@pytest.mark.parametrize(("dtype", "share"), [("int8", 0.32), ("int4", 0.3)])
def test_engine_of_stored_weights(dtype: str, share: float, tmp_path: Path) -> None:
    model = Model.from_text(TEXT, CONSTANTS)
    step = QuantizeWeights(dtype=dtype)  # type: ignore[arg-type]
    result = edgecc.compile(model, "tensorrt", tmp_path / "m.engine", passes=[step])
    assert result.path.stat().st_size > 0
    typed = result.path.with_name("m.engine.onnx").stat().st_size
    assert typed < share * sum(values.nbytes for values in CONSTANTS.values())
    assert {node.op for node in result.model.nodes()} == {"DequantizeLinear", "Gather", "Gemm", "MatMul"}


def test_no_rounding_at_run_time(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="at run time"):
        edgecc.compile(Model.from_text(TEXT, CONSTANTS), "tensorrt", tmp_path / "m.engine", passes=[QuantizeDynamic()])
