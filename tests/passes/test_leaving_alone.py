"""Models that came quantized: passes that make models smaller say so, and what to type."""

from __future__ import annotations

import numpy as np
import pytest

from edgecc.compiler import resolve_pass
from edgecc.data.calibration import open_calibration
from edgecc.model import Model
from edgecc.passes.base import PassContext
from edgecc.passes.expand_qoperators import ExpandQOperators
from edgecc.passes.leaving_alone import note_uncounted
from edgecc.passes.pipeline import PassPipeline
from edgecc.registry import default_registry

PAIRS = """g (float[1,3,8,8] x) => (float[1,3,8,8] y)
{ a = QuantizeLinear(x, s, z) b = DequantizeLinear(a, s, z) v = DequantizeLinear(w, s, z) r = Conv(b, v) t = Relu(r)
  c = QuantizeLinear(t, s, z) d = DequantizeLinear(c, s, z) h = Conv(d, v) y = Add(h, b) }"""
OPERATORS = """g (float[1,3,8,8] x) => (float[1,3,8,8] y)
{ a = QuantizeLinear(x, s, z) r = QLinearConv(a, s, z, w, s, z, s, z) h = QLinearConv(r, s, z, w, s, z, s, z)
  y = DequantizeLinear(h, s, z) }"""
#: Both layers behind the first Reshape work on the batch and the sequence as one axis, which a batch of 1 tells apart.
JOINED = """g (float[{batch},9,8] x) => (float[{batch},9,8] y) <int64[2] flat = {{-1, 8}}, int64[3] back = {{-1, 9, 8}}>
{{ a = MatMul(x, w) f = Reshape(a, flat) b = MatMul(f, w2) c = Relu(b) d = MatMul(c, w3) e = Reshape(d, back)
  y = Add(e, a) }}"""
SIZES = """g (float[1,S,8] x) => (float[1,S,8] y)
{ a = MatMul(x, w) b = Relu(a) c = MatMul(b, w2) d = Relu(c) e = MatMul(d, w3) y = Add(e, b) }"""
TIMES = """g (float[1,8] x, int64 n) => (float[1,8] y)
{ a = MatMul(x, w) b = MatMul(a, w2) c = Add(a, b)
  y = Loop(n, "", c) <body = l (int64 i, bool g, float[1,8] s) => (bool h, float[1,8] t)
    { t = MatMul(s, w) h = Identity(g) }> }"""
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


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            JOINED.format(batch="N"),
            "the budget counts 2 of the 3 operators that multiply too low or not at all, since sizes are open or "
            "unknown. Try: --shape x=1,9,8, with the sizes that it is used with",
        ),
        (JOINED.format(batch="1"), ""),
        (
            SIZES,
            "the budget counts 3 of the 3 operators that multiply too low or not at all, since sizes are open or "
            "unknown. Try: --shape x=1,1,8, with the sizes that it is used with",
        ),
        (SIZES.replace("[1,S,8]", "[N,6,8]"), ""),
        (
            TIMES,
            "the budget counts 1 of the 3 operators that multiply once: they are in loops that run an unknown number "
            "of times",
        ),
    ],
)
@pytest.mark.parametrize("name", ["prune-channels", "prune-layers", "factorize-low-rank"])
def test_budgets_about_a_part_of_the_work(text: str, said: str, name: str) -> None:
    rng = np.random.default_rng(0)
    shapes = {"w": (8, 8), "w2": (8, 16), "w3": (16, 8)}
    if text == TIMES:
        shapes["w2"] = (8, 8)
    model = Model.from_text(text, {key: rng.standard_normal(shape).astype(np.float32) for key, shape in shapes.items()})
    model.cleanup()
    step, ctx = resolve_pass(f"{name}:macs=0.8", default_registry()), PassContext(None, rng)
    note_uncounted(step, model, ctx)
    assert ctx.notes == ([f"{name}: {said}"] if said else [])


@pytest.mark.parametrize("spec", ["prune-channels:macs=0.8", "prune-layers:macs=0.8", "factorize-low-rank:macs=0.8"])
def test_the_passes_say_it(spec: str) -> None:
    rng = np.random.default_rng(0)
    shapes = {"w": (8, 8), "w2": (8, 16), "w3": (16, 8)}
    model = Model.from_text(
        SIZES, {key: rng.standard_normal(shape).astype(np.float32) for key, shape in shapes.items()}
    )
    model.cleanup()
    for other, count in ((spec, 1), (spec.replace("macs", "params"), 0)):
        ctx = PassContext(None, rng)
        ctx.calibration = open_calibration({"x": rng.standard_normal((32, 6, 8)).astype(np.float32)}, model.signature)
        PassPipeline([resolve_pass(other, default_registry())]).run(model.clone(), ctx)
        assert sum("the budget counts 3 of the 3" in note for note in ctx.notes) == count


INNER = """g (float[1,8] x, bool c) => (float[1,8] y)
{ y = If(c) <then_branch = t () => (float[1,8] p) { [first] a = MatMul(x, w) p = Add(a, x) },
             else_branch = e () => (float[1,8] q) { [second] q = MatMul(x, w) }> }"""


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (
            "prune-channels:macs=0.7",
            "nothing goes: 2 layers are in subgraphs of If, Loop or Scan, which are left alone",
        ),
        (
            "prune-layers:blocks=1",
            "nothing to do: 2 nodes stay as they are ('first': it is in a subgraph of If, Loop or Scan; "
            "'second': it is in a subgraph of If, Loop or Scan). Try: --prune 0.3 takes channels out",
        ),
    ],
)
def test_layers_of_subgraphs_are_named(spec: str, said: str) -> None:
    model = Model.from_text(INNER, {"w": np.eye(8, dtype=np.float32)})
    model.cleanup()
    step, ctx = resolve_pass(spec, default_registry()), PassContext(None)
    PassPipeline([step]).run(model, ctx)
    assert ctx.notes == [f"{step.name}: {said}"]
    assert [(skip.node, skip.reason) for skip in ctx.skips] == [
        (name, "it is in a subgraph of If, Loop or Scan") for name in ("first", "second")
    ]
