"""Tests of store-unsigned, and of what ONNX Runtime makes of it."""

from __future__ import annotations

import numpy as np
import pytest

from edgecc.model import Model
from edgecc.testing import assert_skipped, check_pass
from edgecc_onnxruntime.store_unsigned import StoreUnsigned

RNG = np.random.default_rng(0)
CONSTANTS = {
    "s": np.full((), 0.05, np.float32),
    "z": np.array(-7, np.int8),
    "u": np.array(121, np.uint8),
    "sw": np.full((), 0.01, np.float32),
    "zw": np.zeros((), np.int8),
    "w": RNG.integers(-127, 128, (8, 8, 3, 3)).astype(np.int8),
}
READ = "y = DequantizeLinear(q, s, z)"
FLOAT = "g (float[1,8,6,6] x) => (float[1,8,6,6] y)"
WEIGHTS = "k = DequantizeLinear(w, sw, zw)"


def of(text: str, head: str = FLOAT) -> Model:
    return Model.from_text(f"{head} {{ {text} }}", CONSTANTS)


def stored(model: Model) -> list[str]:
    """Types that data is stored in, in order."""
    return [np.dtype(node.outputs[0].dtype).name for node in model.nodes("QuantizeLinear")]


@pytest.mark.parametrize("text", [
    f"q = QuantizeLinear(x, s, z)  {READ}",
    f"p = QuantizeLinear(x, s, z)  q = Transpose<perm = [0, 1, 3, 2]>(p)  {READ}",
    f"p = QuantizeLinear(x, s, z)  q = MaxPool<kernel_shape = [1, 1]>(p)  {READ}",
])  # fmt: skip
def test_fires(text: str) -> None:
    model = check_pass(StoreUnsigned(), of(text))
    assert stored(model) == ["uint8"]


def test_several_readers_of_one_tensor() -> None:
    text = "q = QuantizeLinear(x, s, z)  a = DequantizeLinear(q, s, z)  b = DequantizeLinear(q, sw, z)  y = Sub(a, b)"
    model = check_pass(StoreUnsigned(), of(text))
    assert {int(node.inputs[2].values) for node in model.nodes("DequantizeLinear")} == {121}


@pytest.mark.parametrize(("text", "reason"), [
    ("q = QuantizeLinear(x, s, u)  y = DequantizeLinear(q, s, u)", ""),
    (f"a = Add(x, x)  r = Relu(a)  q = QuantizeLinear(r, s, z)  {READ}", ""),
    ("q = QuantizeLinear(x, s, z)  c = Cast<to = 1>(q)  d = DequantizeLinear(q, s, z)  y = Mul(c, d)", "more than"),
])  # fmt: skip
def test_leaves_alone(text: str, reason: str) -> None:
    assert_skipped(StoreUnsigned(), of(text), reason)


@pytest.mark.parametrize(("head", "text"), [
    ("g (int8[1,8,6,6] q) => (float[1,8,4,4] y)", "a = DequantizeLinear(q, s, z)"),
    (
        "g (int8[1,6,6,8] p) => (float[1,8,4,4] y)",
        "q = Transpose<perm = [0, 3, 1, 2]>(p)  a = DequantizeLinear(q, s, z)",
    ),
    (
        "g (float[1,8,6,6] x) => (float[1,8,4,4] y)",
        "h = Add(x, x)  q = QuantizeLinear(h, s, z)  a = DequantizeLinear(q, s, z)",
    ),
])  # fmt: skip
def test_what_stays_signed_is_stored_again_for_weights(head: str, text: str) -> None:
    model = check_pass(StoreUnsigned(), of(f"{text}  {WEIGHTS}  y = Conv(a, k)", head))
    assert stored(model)[-1] == "uint8"


def test_convolutions_of_a_residual_net_compute_integers(tmp_path: object) -> None:
    import onnx
    import onnxruntime as ort

    from edgecc.passes.base import PassContext

    conv = "{y} = Conv<pads = [1, 1, 1, 1]>({x}, k)"
    text = (
        f"a = DequantizeLinear(i, s, z)  {WEIGHTS}  {conv.format(x='a', y='b')}  q = QuantizeLinear(b, s, z)"
        f"  c = DequantizeLinear(q, s, z)  {conv.format(x='c', y='d')}  p = QuantizeLinear(d, s, z)"
        f"  e = DequantizeLinear(p, s, z)  f = Add(c, e)  o = QuantizeLinear(f, s, z)"
    )
    model = of(text, "g (int8[1,8,6,6] i) => (int8[1,8,6,6] o)")
    assert StoreUnsigned().run(model, PassContext(None, RNG))
    model.cleanup()
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = f"{tmp_path}/optimized.onnx"
    ort.InferenceSession(model.to_proto().SerializeToString(), options, providers=["CPUExecutionProvider"])
    kinds = [node.op_type for node in onnx.load(f"{tmp_path}/optimized.onnx").graph.node]
    assert kinds.count("QLinearConv") == 2
    assert "Conv" not in kinds
    assert "QLinearAdd" not in kinds
