"""Models that came quantized: passes that make models smaller say so, and what to type."""

from __future__ import annotations

import numpy as np
import pytest

from edgecc.compiler import resolve_pass
from edgecc.model import Model
from edgecc.passes.base import PassContext
from edgecc.passes.expand_qoperators import ExpandQOperators
from edgecc.passes.pipeline import PassPipeline
from edgecc.registry import default_registry

PAIRS = """g (float[1,3,8,8] x) => (float[1,3,8,8] y)
{ a = QuantizeLinear(x, s, z) b = DequantizeLinear(a, s, z) v = DequantizeLinear(w, s, z) r = Conv(b, v) t = Relu(r)
  c = QuantizeLinear(t, s, z) d = DequantizeLinear(c, s, z) h = Conv(d, v) y = Add(h, b) }"""
OPERATORS = """g (float[1,3,8,8] x) => (float[1,3,8,8] y)
{ a = QuantizeLinear(x, s, z) r = QLinearConv(a, s, z, w, s, z, s, z) h = QLinearConv(r, s, z, w, s, z, s, z)
  y = DequantizeLinear(h, s, z) }"""
STEPS = (
    "prune-channels:macs=0.7",
    "prune-heads:ratio=0.5",
    "prune-layers:blocks=1",
    "prune-weights:sparsity=0.5",
    "factorize-low-rank:macs=0.7",
)


@pytest.mark.parametrize("text", [PAIRS, OPERATORS])
@pytest.mark.parametrize("spec", STEPS)
@pytest.mark.parametrize("expanded", [False, True])
def test_quantized_models(text: str, spec: str, expanded: bool) -> None:
    rng = np.random.default_rng(0)
    model = Model.from_text(
        text,
        {
            "w": rng.integers(-99, 99, (3, 3, 1, 1)).astype(np.int8),
            "s": np.array(0.05, np.float32),
            "z": np.array(0, np.int8),
        },
    )
    model.cleanup()
    ctx = PassContext(None, rng)
    if expanded:
        PassPipeline([ExpandQOperators()]).run(model, ctx)
    result = PassPipeline([resolve_pass(spec, default_registry())]).run(model, ctx)
    assert not result.records[0].changed
    name = spec.partition(":")[0]
    assert ctx.notes == [
        f"{name}: 2 layers are quantized already and cannot be made smaller any more. Try: start from the model as it "
        f"was in float: edgecc compile FLOAT_MODEL --pass {spec} --quantize int8 --calibration DATA.npz"
    ]
    quantized = [skip for skip in ctx.skips if skip.reason == "its weights are quantized already"]
    assert len(quantized) == 2
