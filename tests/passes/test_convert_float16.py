from __future__ import annotations

import collections

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from edgecc.errors import OptionError, UnknownNameError
from edgecc.model import Model
from edgecc.passes.base import PassContext
from edgecc.passes.convert_float16 import ConvertFloat16

#: Float16 has 11 bits; nets of a few layers stay well within this share of the largest value.
RELATIVE = 1e-2

BOTH = {onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16}


def convert(text: str, **options: object) -> tuple[Model, Model, PassContext]:
    """Source, result and context; the result is cleaned, verified and of the same signature."""
    source = Model.from_text(text)
    model = source.clone()
    ctx = PassContext(None, np.random.default_rng(0))
    if ConvertFloat16(**options).run(model, ctx):
        model.cleanup()
    model.verify()
    if options.get("keep_io", True):
        assert model.signature == source.signature
    check_types(model)
    return source, model, ctx


def check_types(model: Model) -> None:
    """onnx's own inference agrees with every type, and no Cast follows another or is made twice."""
    proto = model.to_proto()
    onnx.checker.check_model(proto, full_check=True)
    casts = model.nodes("Cast")
    pairs = [(id(n.inputs[0]), n.attrs["to"]) for n in casts]
    assert len(pairs) == len(set(pairs)), "one Cast per tensor and direction"
    for node in casts:
        producer = model.producer(node.inputs[0])
        assert producer is None or producer.op != "Cast", f"{node.name} follows {producer.name}"


def run(model: Model, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(model.to_proto().SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)  # type: ignore[no-any-return]


def check_close(source: Model, model: Model, scale: float = 1.0) -> None:
    rng = np.random.default_rng(1)
    feeds = {}
    for spec in source.signature.inputs:
        shape = [d if isinstance(d, int) else 2 for d in spec.shape]
        values = rng.standard_normal(shape) * scale if spec.dtype == "float32" else rng.integers(0, 5, shape)
        feeds[spec.name] = values.astype(spec.dtype)
    wanted = run(source, feeds)
    inputs = {s.name: s.dtype for s in model.signature.inputs}
    found = run(model, {name: values.astype(inputs[name]) for name, values in feeds.items()})
    for one, other in zip(wanted, found, strict=True):
        np.testing.assert_allclose(other, one, rtol=0, atol=RELATIVE * max(np.abs(one).max(), 1e-6))


def ops(model: Model) -> collections.Counter[str]:
    return collections.Counter(node.op for node in model.nodes())


def dtype_of(model: Model, op: str) -> str:
    (node,) = model.nodes(op)
    return str(node.inputs[0].dtype)


def numbers(count: int, scale: float = 0.3) -> str:
    return ",".join(f"{v:.4f}" for v in np.random.default_rng(7).standard_normal(count) * scale)


RESIDUAL = f"""g (float[1,3,8,8] x) => (float[1,4,8,8] y)
<float[4,3,3,3] w1 = {{{numbers(108)}}}, float[4,4,1,1] w2 = {{{numbers(16)}}}, float[4] b = {{{numbers(4)}}}> {{
  a = Conv<pads=[1,1,1,1]>(x, w1, b)
  r = Relu(a)
  c = Conv(r, w2, b)
  s = Add(c, a)
  y = Relu(s)
}}"""


def test_residual_net_has_casts_at_its_boundary_only() -> None:
    source, model, ctx = convert(RESIDUAL)
    assert ops(model) == {"Conv": 2, "Relu": 2, "Add": 1, "Cast": 2}
    assert all(t.dtype == np.float16 for n in model.nodes("Conv") for t in n.inputs)
    assert not ctx.skips
    check_close(source, model)


def test_shared_constant_is_converted_once() -> None:
    _, model, _ = convert(RESIDUAL)
    first, second = model.nodes("Conv")
    assert first.inputs[2] is second.inputs[2]


def test_model_is_half_the_size() -> None:
    text = f"g (float[1,64] x) => (float[1,64] y) <float[64,64] w = {{{numbers(4096)}}}> {{ y = MatMul(x, w) }}"
    source, model, _ = convert(text)
    size = [len(m.to_proto().SerializeToString()) for m in (source, model)]
    assert size[1] < size[0] * 0.55


def test_float16_io() -> None:
    source, model, _ = convert(RESIDUAL, keep_io=False)
    assert [s.dtype for s in (*model.signature.inputs, *model.signature.outputs)] == ["float16", "float16"]
    assert "Cast" not in ops(model)
    check_close(source, model)


def test_float16_io_of_a_float32_node() -> None:
    text = "g (float[1,4] x) => (float[1,4] y) { a = Relu(x) b = Mul(a, a) y = Softmax(b) }"
    source, model, _ = convert(text, keep_io=False)
    assert ops(model)["Cast"] == 2
    assert dtype_of(model, "Softmax") == "float32"
    check_close(source, model)


SOFTMAX = f"""g (float[1,8] x) => (float[1,4] y) <float[8,4] w = {{{numbers(32)}}}> {{
  a = MatMul(x, w)
  y = Softmax(a)
}}"""


def test_softmax_stays_float32_with_its_reason() -> None:
    source, model, ctx = convert(SOFTMAX)
    assert dtype_of(model, "Softmax") == "float32"
    assert dtype_of(model, "MatMul") == "float16"
    assert [(s.op, s.reason) for s in ctx.skips] == [
        ("Softmax", "Softmax is precision-critical (option keep_float32_ops)")
    ]
    check_close(source, model)


def test_softmax_in_float16_when_asked() -> None:
    source, model, ctx = convert(SOFTMAX, keep_float32_ops=())
    assert dtype_of(model, "Softmax") == "float16"
    assert not ctx.skips
    check_close(source, model)


def test_operators_with_float32_definitions_stay_whatever_the_option_says() -> None:
    text = """g (float[2,3,4,4] x) => (float[2,3,4,4] y) {
      a = Mul(x, x)
      y = MeanVarianceNormalization<axes=[0,2,3]>(a)
    }"""
    source, model, _ = convert(text, keep_float32_ops=())
    assert dtype_of(model, "MeanVarianceNormalization") == "float32"
    check_close(source, model)


def test_batchnorm() -> None:
    text = f"""g (float[2,3,4,4] x) => (float[2,3,4,4] y)
    <float[3] s = {{1.1,0.9,1.5}}, float[3] b = {{{numbers(3)}}},
     float[3] m = {{{numbers(3)}}}, float[3] v = {{1,2,0.5}}> {{
      y = BatchNormalization(x, s, b, m, v)
    }}"""
    source, model, _ = convert(text)
    assert all(t.dtype == np.float16 for n in model.nodes("BatchNormalization") for t in n.inputs)
    check_close(source, model)


def test_integer_paths_are_untouched() -> None:
    text = f"""g (int64[2,3] ids, float[2,3,4] x) => (float[2,3,4] y, int64[2,3] best)
    <float[5,4] table = {{{numbers(20)}}}, int64[1] axis = {{-1}}, int64[2,3] one = {{1,1,1,1,1,1}}> {{
      e = Gather(table, ids)
      y = Add(e, x)
      top = ArgMax<axis=-1, keepdims=0>(y)
      best = Add(top, one)
    }}"""
    source, model, _ = convert(text)
    gather = model.nodes("Gather")[0]
    assert [t.dtype for t in gather.inputs] == [np.float16, np.int64]
    assert [t.dtype for n in model.nodes("Add") for t in n.inputs if t.name in ("top", "one")] == [np.int64] * 2
    check_close(source, model)


def test_positions_made_from_integers_stay_exact() -> None:
    text = """g (int64[1,3] positions, float[1,3] x) => (float[1,3] y) <float scale = {0.5}, float one = {1.0}> {
      p = Cast<to=1>(positions)
      q = Mul(p, scale)
      s = Sin(q)
      y = Add(s, x)
    }"""
    source, model, ctx = convert(text)
    assert dtype_of(model, "Mul") == "float32"
    assert dtype_of(model, "Sin") == "float32"
    assert "not exact in float16" in next(s.reason for s in ctx.skips if s.op == "Mul")
    check_close(source, model)


def test_sizes_that_become_integers_stay_exact() -> None:
    text = """g (float[1,4] x, float[1] n) => (float[1,4] y, int64[1] m) <float[1] two = {2.0}> {
      d = Mul(n, two)
      f = Floor(d)
      m = Cast<to=7>(f)
      y = Add(x, two)
    }"""
    source, model, _ = convert(text)
    assert dtype_of(model, "Mul") == "float32"
    assert dtype_of(model, "Add") == "float16"
    check_close(source, model)


def test_image_of_bytes_needs_one_cast() -> None:
    text = """g (uint8[1,3,4,4] x) => (float[1,3,4,4] y) <float scale = {0.0078}, float[1] one = {1.0}> {
      f = Cast<to=1>(x)
      s = Mul(f, scale)
      y = Sub(s, one)
    }"""
    source, model, _ = convert(text)
    casts = model.nodes("Cast")
    assert sorted((str(c.inputs[0].dtype), str(c.outputs[0].dtype)) for c in casts) == [
        ("float16", "float32"),
        ("uint8", "float16"),
    ]
    check_close(source, model)


@pytest.mark.parametrize(
    ("value", "reason"),
    [("100000.0", "over float16's largest value 65504"), ("1e-12", "under float16's smallest normal value")],
)
def test_constants_out_of_range_stay_float32(value: str, reason: str) -> None:
    text = f"""g (float[1,4] x) => (float[1,4] y, float[1,4] z) <float[1] c = {{{value}}}, float[1] two = {{2.0}}> {{
      y = Add(x, c)
      z = Mul(x, two)
    }}"""
    source, model, ctx = convert(text)
    assert dtype_of(model, "Add") == "float32"
    assert dtype_of(model, "Mul") == "float16"
    (skip,) = ctx.skips
    assert reason in skip.reason
    assert "constant c" in skip.reason
    check_close(source, model)


def test_constant_shared_by_both_types_keeps_both() -> None:
    text = """g (float[1,4] x) => (float[1,4] y, float[1,4] z) <float[1] c = {2.0}> {
      y = Add(x, c)
      z = Pow(x, c)
    }"""
    source, model, _ = convert(text)
    assert sorted(str(t.dtype) for t in model.tensors() if t.name.startswith("c")) == ["float16", "float32"]
    check_close(source, model)


def test_clip_bounds_saturate() -> None:
    text = """g (float[1,4] x) => (float[1,4] y) <float low = {0.0}, float high = {3.4e38}, float[1] c = {2.0}> {
      a = Mul(x, c)
      y = Clip(a, low, high)
    }"""
    source, model, ctx = convert(text)
    assert not ctx.skips
    assert np.isposinf(model.nodes("Clip")[0].inputs[2].values)
    check_close(source, model)


def test_infinite_mask_converts() -> None:
    text = """g (bool[1,4] m, float[1,4] x) => (float[1,4] y) <float c = {2.0}> {
      a = Mul(x, c)
      b = Where(m, a, low)
      y = Softmax(b)
    }"""
    source = Model.from_text(text.replace("<float c", "<float low = {0.0}, float c"))
    where = source.nodes("Where")[0]
    where.inputs[2].values = np.array(-np.inf, np.float32)
    model = source.clone()
    ctx = PassContext(None, np.random.default_rng(0))
    assert ConvertFloat16().run(model, ctx)
    model.cleanup()
    assert [s.op for s in ctx.skips] == ["Softmax"]
    assert np.isneginf(model.nodes("Where")[0].inputs[2].values)


def test_output_that_is_also_consumed() -> None:
    text = """g (float[1,4] x) => (float[1,4] a, float[1,4] y, float[1,4] s) <float[1] c = {2.0}> {
      a = Mul(x, c)
      y = Add(a, c)
      s = Softmax(a)
    }"""
    source, model, _ = convert(text)
    casts = collections.Counter((str(n.inputs[0].dtype), str(n.outputs[0].dtype)) for n in model.nodes("Cast"))
    # One Cast in for x; one out for a, which Softmax reads as well; one out for y.
    assert casts == {("float32", "float16"): 1, ("float16", "float32"): 2}
    (softmax,) = model.nodes("Softmax")
    assert softmax.inputs[0] is model.outputs[0]
    check_close(source, model)


def test_float32_output_that_is_read_as_float16() -> None:
    text = """g (float[1,4] x) => (float[1,4] s, float[1,4] y) <float[1] c = {2.0}> {
      s = Softmax(x)
      y = Add(s, c)
    }"""
    source, model, _ = convert(text)
    check_close(source, model)


def test_moves_between_float32_nodes_get_no_casts() -> None:
    text = """g (float[2,4] x) => (float[4,2] y) <int64[2] s = {4,2}> {
      a = Softmax(x)
      b = Reshape(a, s)
      c = Identity(b)
      y = Softmax(c)
    }"""
    source, model, _ = convert(text)
    assert "Cast" not in ops(model)
    check_close(source, model)


def test_resize_scales_stay_float32() -> None:
    text = """g (float[1,1,4,4] x) => (float[1,1,8,8] y)
    <float[1] c = {2.0}, float[8] roi = {0,0,0,0,1,1,1,1}, float[4] scales = {1,1,2,2}> {
      a = Mul(x, c)
      y = Resize<mode="linear">(a, roi, scales)
    }"""
    source, model, _ = convert(text)
    (resize,) = model.nodes("Resize")
    assert [str(t.dtype) for t in resize.inputs] == ["float16", "float32", "float32"]
    check_close(source, model)


def test_quantized_weights_follow() -> None:
    text = """g (float[1,4] x) => (float[1,2] y)
    <int8[4,2] q = {1,2,3,4,5,6,7,8}, float s = {0.1}, int8 z = {0}, float s2 = {0.02}> {
      xq = QuantizeLinear(x, s2, z)
      xd = DequantizeLinear(xq, s2, z)
      w = DequantizeLinear<output_dtype=1>(q, s, z)
      y = MatMul(xd, w)
    }"""
    source, model, _ = convert(text)
    assert dtype_of(model, "MatMul") == "float16"
    assert all(n.inputs[1].dtype == np.float16 for n in model.nodes("DequantizeLinear"))
    # The input is quantized from float32, as it comes.
    assert dtype_of(model, "QuantizeLinear") == "float32"
    check_close(source, model)


ISLAND = """g (float[1,4] x) => (float[1,4] y)
    <int8[4,4] q = {1,2,3,4,5,6,7,8,-1,-2,-3,-4,5,4,3,2}, float s = {0.1}, int8 z = {0}> {
    a = QuantizeLinear(x, s, z)  b = DequantizeLinear(a, s, z)  w = DequantizeLinear(q, s, z)
    c = MatMul(b, w)  r = Relu(c)  d = QuantizeLinear(r, s, z)  e = DequantizeLinear(d, s, z)
    REST }"""


def test_what_is_computed_with_integers_stays() -> None:
    source, model, ctx = convert(
        ISLAND.replace("REST", "f = Add(e, b)  h = QuantizeLinear(f, s, z)  y = DequantizeLinear(h, s, z)")
    )
    assert model.digest() == source.digest()
    assert {skip.op for skip in ctx.skips if "computes with integers" in skip.reason} == {"MatMul", "Relu", "Add"}


def test_floats_behind_integers_become_float16() -> None:
    source, model, ctx = convert(ISLAND.replace("REST", "y = Erf(e)"))
    assert (dtype_of(model, "MatMul"), dtype_of(model, "Erf")) == ("float32", "float16")
    assert {skip.op for skip in ctx.skips} == {"MatMul", "Relu"}
    # One behind Erf, since the output keeps its type.
    assert ops(model)["Cast"] == 1
    check_close(source, model)


def test_integers_that_change_their_scale_stay() -> None:
    rest = "f = QuantizeLinear(e, s2, z)  h = DequantizeLinear(f, s2, z)  y = Erf(h)"
    text = ISLAND.replace("REST", rest).replace("float s = {0.1},", "float s = {0.1}, float s2 = {0.2},")
    source, model, _ = convert(text)
    assert {str(node.inputs[1].dtype) for node in model.nodes("QuantizeLinear")} == {"float32"}
    assert ops(model)["Cast"] == 1
    check_close(source, model)


def test_layer_normalization_keeps_its_float32_statistics_inside() -> None:
    text = """g (float[2,8] x) => (float[2,8] y) <float[8] s = {1,2,1,1,1,1,1,1}> {
      y = LayerNormalization(x, s)
    }"""
    source, model, ctx = convert(text)
    assert dtype_of(model, "LayerNormalization") == "float16"
    assert not ctx.skips
    check_close(source, model)


def test_decomposed_layer_normalization() -> None:
    text = """g (float[2,8] x) => (float[2,8] y) <int64[1] axis = {-1}, float two = {2.0}, float eps = {1e-5}> {
      m = ReduceMean(x, axis)
      d = Sub(x, m)
      p = Pow(d, two)
      v = ReduceMean(p, axis)
      e = Add(v, eps)
      s = Sqrt(e)
      y = Div(d, s)
    }"""
    source, model, _ = convert(text)
    assert dtype_of(model, "Add") == "float32"
    # Squares of 600 overflow float16: the statistics must not be in it.
    check_close(source, model, scale=600.0)


def test_subgraphs_are_left_alone() -> None:
    text = """g (bool c, float[1,4] x) => (float[1,4] y) <float[1] two = {2.0}> {
      a = Mul(x, two)
      b = If(c) <
        then_branch = t () => (float[1,4] u) { u = Neg(a) },
        else_branch = e () => (float[1,4] v) { v = Add(a, two) }
      >
      y = Mul(b, two)
    }"""
    source, model, ctx = convert(text)
    (branch,) = model.nodes("If")
    inner = [n for n in model.all_nodes() if n.op in ("Neg", "Add")]
    assert [str(t.dtype) for n in inner for t in n.inputs] == ["float32"] * 3
    assert next(s.reason for s in ctx.skips if s.node == branch.name) == "it has subgraphs"
    check_close(source, model)


@pytest.mark.parametrize("keep_io", [True, False])
def test_sequences_are_left_alone(keep_io: bool) -> None:
    text = """g (float[2,4] x, int64 i) => (float[1,4] y) <float[1] two = {2.0}> {
      a = Mul(x, two)
      s = SplitToSequence<axis=0>(a)
      b = SequenceAt(s, i)
      y = Mul(b, two)
    }"""
    _, model, ctx = convert(text, keep_io=keep_io)
    assert {s.op for s in ctx.skips} == {"SplitToSequence", "SequenceAt"}
    assert all(n.inputs[0].dtype == np.float16 for n in model.nodes("Mul"))


def test_ignored_nodes_stay_float32() -> None:
    source, model, ctx = convert(RESIDUAL, ignore=("Conv_2",))
    assert sorted(str(n.inputs[1].dtype) for n in model.nodes("Conv")) == ["float16", "float32"]
    assert [(s.node, s.reason) for s in ctx.skips] == [("Conv_2", "option ignore names it")]
    check_close(source, model)


COMPARISON = """g (float[1,4] x, float[1,1] z) => (float[1,4] y) <float[1] a = {0.5}> {
  s = Mul(x, a)
  zero = CastLike(z, x)
  c = Less(x, zero)
  y = Where(c, s, x)
}"""


def test_comparison_of_a_float32_value_stays_exact() -> None:
    source, model, _ = convert(COMPARISON)
    assert dtype_of(model, "Less") == "float32"
    check_close(source, model)


@pytest.mark.parametrize("text", [RESIDUAL, SOFTMAX, COMPARISON])
@pytest.mark.parametrize("keep_io", [True, False])
def test_second_run_changes_nothing(text: str, keep_io: bool) -> None:
    _, model, _ = convert(text, keep_io=keep_io)
    digest = model.digest()
    assert not ConvertFloat16(keep_io=keep_io).run(model, PassContext(None, np.random.default_rng(0)))
    assert model.digest() == digest


def test_model_without_floats_is_unchanged() -> None:
    source, model, _ = convert("g (int64[2] x) => (int64[2] y) { y = Add(x, x) }")
    assert model.digest() == source.digest()


def test_wrong_ignore_pattern() -> None:
    with pytest.raises(OptionError, match="'conv_typo' of option 'ignore' matches no node"):
        convert(RESIDUAL, ignore=("conv_typo",))


def test_wrong_operator_name() -> None:
    with pytest.raises(UnknownNameError, match="unknown operator 'SoftMax'") as caught:
        convert(RESIDUAL, keep_float32_ops=("SoftMax",))
    assert "'Softmax'" in caught.value.hint
