"""Weights that torchao stores in integers stay so, and what is computed with them is right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

pytest.importorskip("torch")

import edgecc
from edgecc.passes.verification import run
from edgecc_torch.stored_weights import keep_integers

#: Sums in another order, relative to the largest value.
TOLERANCE = 1e-5


@pytest.mark.parametrize("config", ["Int8WeightOnlyConfig", "IntxWeightOnlyConfig"])
def test_torchao_weight_only(config: str, tmp_path: Path) -> None:
    import torch

    quantization = pytest.importorskip("torchao.quantization")
    from torchao.utils import unwrap_tensor_subclass

    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(64, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10)).eval()
    quantization.quantize_(module, getattr(quantization, config)())
    x = torch.randn(3, 64)
    expected = module(x).detach().numpy()
    unwrap_tensor_subclass(module)
    torch.export.save(torch.export.export(module, (x,)), tmp_path / "m.pt2")
    result = edgecc.compile(tmp_path / "m.pt2", output=tmp_path / "m.onnx")
    assert sorted(t.values.shape for t in result.model.constants() if t.values.dtype == np.int8 and t.values.ndim > 1)
    assert result.artifact.nbytes < 64 * 128 * 2, "a byte for each weight"
    (found,) = run(edgecc.load(result.path), {edgecc.load(result.path).inputs[0].name: x.numpy()}).values()
    assert np.max(np.abs(found - expected)) < TOLERANCE * np.max(np.abs(expected))


def model(text: str) -> onnx.ModelProto:
    proto = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 20]> {text}')
    weights = np.random.default_rng(0).integers(-127, 128, (4, 3)).astype(np.int8)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(weights, "w"))
    return proto


def test_a_cast_in_front_of_a_product_is_a_dequantization() -> None:
    proto = model("g (float[2,3] x) => (float[2,4] y) { t = Transpose(w) f = Cast<to = 1>(t) y = MatMul(x, f) }")
    keep_integers(proto.graph)
    assert [node.op_type for node in proto.graph.node] == ["Transpose", "DequantizeLinear", "MatMul"]
    onnx.checker.check_model(proto, full_check=True)


@pytest.mark.parametrize("text", [
    "g (int8[2,3] x) => (float[2,3] y) { y = Cast<to = 1>(x) }",
    "g (float[4,3] x) => (float[4,3] y) { f = Cast<to = 1>(w) y = Add(x, f) }",
    "g (float16[2,4] x) => (float16[2,3] y) { f = Cast<to = 10>(w) y = MatMul(x, f) }",
])  # fmt: skip
def test_other_casts_stay(text: str) -> None:
    proto = model(text)
    before = proto.SerializeToString(deterministic=True)
    keep_integers(proto.graph)
    assert proto.SerializeToString(deterministic=True) == before
