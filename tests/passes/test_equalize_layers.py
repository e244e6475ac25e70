"""Tests of equalize-layers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from edgecc.errors import DataError, OptionError
from edgecc.model import Model, value_of
from edgecc.passes.base import Loss, PassContext
from edgecc.passes.equalize_layers import EqualizeLayers
from edgecc.passes.pipeline import PassPipeline
from edgecc.rewriting.linear import Linear, linear_of
from edgecc.testing import assert_skipped, check_contract, check_pass
from edgecc.testing.strategies import models

#: Weights are multiplied and rounded to float32 twice, sums are as long as before.
ROUNDING = 1e-5


def spread(rng: np.random.Generator, *shape: int, axis: int = 0) -> np.ndarray:
    """Weights whose channels along an axis differ by factors up to a hundred."""
    factors = 10.0 ** rng.uniform(-1, 1, shape[axis])
    values = rng.standard_normal(shape) * factors.reshape([-1 if i == axis else 1 for i in range(len(shape))])
    return values.astype(np.float32)


RNG = np.random.default_rng(0)
CONSTANTS = {
    "w": spread(RNG, 8, 3, 3, 3),
    "b": RNG.standard_normal(8).astype(np.float32),
    "d": spread(RNG, 8, 1, 3, 3),
    "g": spread(RNG, 8, 4, 3, 3),
    "v": spread(RNG, 4, 8, 1, 1),
    "c": RNG.standard_normal(4).astype(np.float32),
    "u": spread(RNG, 8, 8, 1, 1),
    "t": spread(RNG, 8, 4, 2, 2, axis=1),
    "slope": RNG.uniform(0.1, 0.9, (8, 1, 1)).astype(np.float32),
    "six": np.float32(6).reshape(()),
    "low": np.float32(0).reshape(()),
    "minus": np.float32(-1).reshape(()),
    "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64),
    "flat": np.array([0, -1], np.int64),
    "m": spread(RNG, 8 * 36, 5),
    "p": spread(RNG, 6, 8, axis=1),
    "q": spread(RNG, 8, 5),
    "e": RNG.standard_normal(8).astype(np.float32),
}


def of(text: str, shape: str = "1,3,8,8", output: str = "N,M,A,B") -> Model:
    return Model.from_text(f"g (float[{shape}] x) => (float[{output}] y) {{ {text} }}", CONSTANTS)


def largest(model: Model, index: int, *, rows: bool) -> np.ndarray:
    """Largest weight of each output channel, or of each input channel, of one linear node."""
    linear = linear_of(model.nodes("Conv", "Gemm", "MatMul")[index], model)
    assert isinstance(linear, Linear)
    values = np.abs(linear.weights)
    values = values.max(axis=tuple(range(2, values.ndim))) if values.ndim > 2 else values.T
    if linear.groups > 1 and not rows:
        return np.asarray(values.reshape(linear.groups, -1, values.shape[1]).max(axis=1).reshape(-1))
    return np.asarray(values.max(axis=1 if rows else 0))


def ratio(first: np.ndarray, second: np.ndarray) -> float:
    """How much larger the largest quotient of a channel is than the smallest; 1 where they are balanced."""
    return float((first / second).max() / (first / second).min())


# ------------------------------------------------------------------------------------------------------------- fires


@pytest.mark.parametrize(
    "between",
    [
        "r = Relu(a)",
        "r = Identity(a)",
        "r = LeakyRelu<alpha=0.1>(a)",
        "r = PRelu(a, slope)",
        "r = Clip(a, low)",
        "h = Relu(a)  r = MaxPool<kernel_shape=[2,2]>(h)",
        "h = Relu(a)  r = AveragePool<kernel_shape=[2,2], pads=[1,1,1,1], count_include_pad=1>(h)",
        "h = Relu(a)  r = GlobalAveragePool(h)",
        "h = Pad(a, pads)  r = Relu(h)",
        "h = Transpose<perm=[2,0,3,1]>(a)  i = Relu(h)  r = Transpose<perm=[1,3,0,2]>(i)",
    ],
)
def test_pair(between: str) -> None:
    model = check_pass(
        EqualizeLayers(), of(f"a = Conv(x, w, b)  {between}  y = Conv(r, v, c)"), tolerance=ROUNDING, skips=None
    )
    assert ratio(largest(model, 0, rows=True), largest(model, 1, rows=False)) < 1.01
    assert ratio(CONSTANTS["w"].max(axis=(1, 2, 3)), CONSTANTS["v"][:, :, 0, 0].max(axis=0)) > 3


def test_no_activation_at_all() -> None:
    check_pass(EqualizeLayers(), of("a = Conv(x, w, b)  y = Conv(a, v, c)"), tolerance=ROUNDING, skips=["an output"])


def test_depthwise_triple() -> None:
    text = "a = Conv(x, w, b)  r = Relu(a)  h = Conv<group=8, pads=[1,1,1,1]>(r, d)  s = Relu(h)  y = Conv(s, v)"
    model = check_pass(EqualizeLayers(), of(text), tolerance=ROUNDING, skips=["an output"])
    first, depthwise = largest(model, 0, rows=True), largest(model, 1, rows=True)
    assert ratio(first, depthwise) < 1.01
    assert ratio(depthwise, largest(model, 2, rows=False)) < 1.01


def test_grouped_convolution() -> None:
    text = "a = Conv(x, w, b)  r = Relu(a)  y = Conv<group=2>(r, g)"
    model = check_pass(EqualizeLayers(), of(text), tolerance=ROUNDING, skips=["an output"])
    assert ratio(largest(model, 0, rows=True), largest(model, 1, rows=False)) < 1.01


def test_transposed_convolution() -> None:
    text = "a = Conv(x, w, b)  r = Relu(a)  y = ConvTranspose(r, t)"
    check_pass(EqualizeLayers(), of(text), tolerance=ROUNDING, skips=["an output"])


@pytest.mark.parametrize("flatten", ["f = Flatten(r)", "f = Reshape(r, flat)"])
def test_channels_become_a_part_of_a_longer_axis(flatten: str) -> None:
    text = f"a = Conv(x, w, b)  r = Relu(a)  {flatten}  y = Gemm(f, m)"
    model = check_pass(EqualizeLayers(), of(text, output="N,M"), tolerance=ROUNDING, skips=["an output"])
    columns = largest(model, 1, rows=False).reshape(8, -1).max(axis=1)
    assert ratio(largest(model, 0, rows=True), columns) < 1.01


@pytest.mark.parametrize(
    "text", ["a = MatMul(x, p)  h = Add(a, e)  r = Relu(h)  y = MatMul(r, q)", "a = MatMul(x, p)  y = MatMul(a, q)"]
)
def test_products(text: str) -> None:
    model = check_pass(EqualizeLayers(), of(text, "2,7,6", "N,M,A"), tolerance=ROUNDING, skips=["an output"])
    assert ratio(largest(model, 0, rows=True), largest(model, 1, rows=False)) < 1.01


def test_all_readers_are_scaled_together() -> None:
    text = "a = Conv(x, w, b)  r = Relu(a)  h = Conv(r, v)  i = Conv(r, v2)  y = Add(h, i)"
    constants = {**CONSTANTS, "v2": spread(np.random.default_rng(3), 4, 8, 1, 1)}
    model = Model.from_text(f"g (float[1,3,8,8] x) => (float[N,M,A,B] y) {{ {text} }}", constants)
    model = check_pass(EqualizeLayers(), model, tolerance=ROUNDING, skips=["an output", "an output"])
    columns = np.maximum(largest(model, 1, rows=False), largest(model, 2, rows=False))
    assert ratio(largest(model, 0, rows=True), columns) < 1.01


def test_residual_addition_has_one_scale() -> None:
    text = "a = Conv(x, w, b)  r = Relu(a)  h = Conv(r, u)  s = Add(h, r)  z = Relu(s)  y = Conv(z, v)"
    model = check_pass(EqualizeLayers(), of(text), tolerance=ROUNDING, skips=["an output"])
    rows = np.maximum(largest(model, 0, rows=True), largest(model, 1, rows=True))
    columns = np.maximum(largest(model, 1, rows=False), largest(model, 2, rows=False))
    assert ratio(rows, columns) < 1.01


def test_dead_channels_keep_their_scale() -> None:
    weights = CONSTANTS["w"].copy()
    weights[2], weights[5] = 0, 1e-18
    constants = {**CONSTANTS, "w": weights}
    model = Model.from_text(
        "g (float[1,3,8,8] x) => (float[N,M,A,B] y) { a = Conv(x, w, b)  r = Relu(a)  y = Conv(r, v, c) }", constants
    )
    bias = value_of(model.nodes("Conv")[0].inputs[2])
    model = check_pass(EqualizeLayers(), model, tolerance=ROUNDING, skips=["an output"])
    after = value_of(model.nodes("Conv")[0].inputs[2])
    assert bias is not None
    assert after is not None
    assert after[[2, 5]].tolist() == bias[[2, 5]].tolist()
    assert np.abs(after / bias - 1).max() > 0.5


def test_names_stay_with_values() -> None:
    before = of("a = Conv(x, w, b)  r = Relu(a)  y = Conv(r, v, c)")
    after = check_pass(EqualizeLayers(), before, tolerance=ROUNDING, skips=["an output"])
    kept = {tensor.name for tensor in before.tensors()} & {tensor.name for tensor in after.tensors()}
    assert kept == {"c", "x", "y"}  # nothing scales the last bias


# ------------------------------------------------------------------------------------------------------ does not fire


@pytest.mark.parametrize(
    ("between", "reason"),
    [
        ("r = Sigmoid(a)", "does not keep positive factors"),
        ("r = HardSwish(a)", "does not keep positive factors"),
        ("r = Clip(a, minus, six)", "does not keep positive factors"),
        ("r = Mul(a, a)", "does not keep positive factors"),
        ("r = Concat<axis=1>(a)", "does not keep positive factors"),
        (
            "h = Transpose<perm=[0,2,1,3]>(a)  i = MaxPool<kernel_shape=[1,1]>(h)  r = Transpose<perm=[0,2,1,3]>(i)",
            "pools over",
        ),
    ],
)
def test_what_is_not_homogeneous(between: str, reason: str) -> None:
    assert_skipped(EqualizeLayers(), of(f"a = Conv(x, w, b)  {between}  y = Conv(r, v, c)"), reason)


def test_another_reader_is_no_layer() -> None:
    text = "a = Conv(x, w, b)  r = Relu(a)  h = Conv(r, u)  s = Sigmoid(r)  y = Add(h, s)"
    assert_skipped(EqualizeLayers(), of(text), "does not keep positive factors")


def test_read_as_the_second_factor() -> None:
    text = "a = MatMul(x, p)  t = Transpose<perm=[0,2,1]>(x)  h = MatMul(t, a)  y = MatMul(h, q)"
    assert_skipped(EqualizeLayers(), of(text, "2,7,6", "N,M,A"), "does not keep positive factors")


def test_shared_weights() -> None:
    text = "a = Conv(x, w, b)  r = Relu(a)  h = Conv(r, u)  s = Relu(h)  y = Conv(s, u)"
    assert_skipped(EqualizeLayers(), of(text), "another node reads the weights")


def test_what_lies_between_is_an_output() -> None:
    text = (
        "g (float[1,3,8,8] x) => (float[N,M,A,B] y, float[K,L,O,P] r) { a = Conv(x, w)  r = Relu(a)  y = Conv(r, v) }"
    )
    assert_skipped(EqualizeLayers(), Model.from_text(text, CONSTANTS), "'r' is an output")


def test_subgraph_reads_it() -> None:
    text = """g (float[1,3,8,8] x, bool k) => (float[N,M,A,B] y) { a = Conv(x, w)  r = Relu(a)  h = Conv(r, u)
    y = If (k) <then_branch = g () => (float[N,M,A,B] o) { o = Add(h, r) },
    else_branch = g () => (float[N,M,A,B] o) { o = Identity(h) }> }"""
    assert_skipped(EqualizeLayers(), Model.from_text(text, CONSTANTS), "a subgraph reads")


def test_ignore() -> None:
    model = of("a = Conv(x, w, b)  r = Relu(a)  y = Conv(r, v, c)")
    assert_skipped(EqualizeLayers(ignore=("Conv_2",)), model, "is excluded")
    assert_skipped(EqualizeLayers(ignore=("Conv_0",)), model, "is excluded")
    with pytest.raises(OptionError, match="matches no node"):
        assert_skipped(EqualizeLayers(ignore=("none",)), model, "")


# ------------------------------------------------------------------------------------------------------------- clips


CLIPPED = "a = Conv(x, w, b)  r = Clip(a, low, six)  y = Conv(r, v, c)"
SMALL = {"x": 1e-3 * np.random.default_rng(0).standard_normal((8, 3, 8, 8)).astype(np.float32)}
LARGE = {"x": 10 * SMALL["x"] / 1e-3}


def test_clip_that_never_clips_becomes_relu() -> None:
    feeds = {"x": SMALL["x"][:1]}
    model = check_pass(
        EqualizeLayers(), of(CLIPPED), tolerance=ROUNDING, calibration=SMALL, feeds=feeds, skips=["an output"]
    )
    assert [node.op for node in model.nodes()] == ["Conv", "Relu", "Conv"]


def test_clip_that_clips_stays() -> None:
    assert_skipped(EqualizeLayers(), of(CLIPPED), "clips at 6", calibration=LARGE)
    assert_skipped(EqualizeLayers(clips="keep"), of(CLIPPED), "bounds all channels alike", calibration=SMALL)


def test_clip_without_data() -> None:
    model, ctx = of(CLIPPED), PassContext(None, np.random.default_rng(0))
    PassPipeline([EqualizeLayers()]).run(model, ctx)
    assert any("calibration data would show" in skip.reason for skip in ctx.skips)
    assert [node.op for node in model.nodes()] == ["Conv", "Clip", "Conv"]


def test_loss_is_that_of_the_options() -> None:
    assert EqualizeLayers().loses() is Loss.LOSSY
    assert EqualizeLayers(clips="keep").loses() is Loss.ROUNDING
    assert EqualizeLayers(clips="keep", absorb=True).loses() is Loss.LOSSY


# -------------------------------------------------------------------------------------------------------- absorption


POSITIVE = {**CONSTANTS, "b": np.full(8, 500, np.float32)}


def test_constants_are_absorbed() -> None:
    text = "g (float[1,3,8,8] x) => (float[N,M,A,B] y) { a = Conv(x, w, b)  r = Relu(a)  y = Conv(r, v) }"
    samples = {"x": np.random.default_rng(0).standard_normal((32, 3, 8, 8)).astype(np.float32)}
    before = Model.from_text(text, POSITIVE)
    after = check_pass(
        EqualizeLayers(absorb=True),
        before,
        tolerance=1e-4,
        calibration=samples,
        feeds={"x": samples["x"][:1]},
        skips=["an output"],
    )
    bias = value_of(after.nodes("Conv")[0].inputs[2])
    plain = check_pass(EqualizeLayers(), before, tolerance=1e-4, skips=["an output"])
    assert bias is not None
    assert (bias < 0.5 * value_of(plain.nodes("Conv")[0].inputs[2])).all()  # type: ignore[operator]
    assert len(after.nodes("Conv")[1].inputs) == 3


@pytest.mark.parametrize(
    "layers", ["r = Relu(a)  y = Conv<pads=[1,1,1,1]>(r, v)", "h = Relu(a)  r = Pad(h, pads)  y = Conv(r, v)"]
)
def test_no_constant_passes_padding(layers: str) -> None:
    text = f"g (float[1,3,8,8] x) => (float[N,M,A,B] y) {{ a = Conv(x, w, b)  {layers} }}"
    model = check_pass(
        EqualizeLayers(absorb=True), Model.from_text(text, POSITIVE), tolerance=ROUNDING, skips=["an output"]
    )
    assert all(len(node.inputs) == (3, 2)[i] for i, node in enumerate(model.nodes("Conv")))


def test_absorbing_needs_data() -> None:
    model = Model.from_text(
        "g (float[1,3,8,8] x) => (float[N,M,A,B] y) { a = Conv(x, w, b)  r = Relu(a)  y = Conv(r, v) }", POSITIVE
    )
    with pytest.raises(DataError, match="needs calibration data"):
        PassPipeline([EqualizeLayers(absorb=True)]).run(model, PassContext(None, np.random.default_rng(0)))


# -------------------------------------------------------------------------------------------------------- any model


@settings(max_examples=30, deadline=None)
@given(models())
def test_random_models(model: Model) -> None:
    check_contract(EqualizeLayers(clips="keep"), model, tolerance=1e-4)


def test_weights_that_would_leave_their_type() -> None:
    """Every layer is told that it stays, and none is said to have changed."""
    constants = {
        "p": np.diag([1, 1, 1, 6e4]).astype(np.float16),
        "q": np.diag([100, 100, 100, 4e4]).astype(np.float16),
    }
    model = Model.from_text("g (float16[1,4] x) => (float16[1,4] y) { a = MatMul(x, p)  y = MatMul(a, q) }", constants)
    before, ctx = model.digest(), PassContext(None, np.random.default_rng(0))
    result = PassPipeline([EqualizeLayers()]).run(model, ctx)
    assert [skip.node for skip in result.skips if "would not be finite in float16" in skip.reason] == ["MatMul_0"]
    assert (model.digest(), ctx.changes) == (before, [])
