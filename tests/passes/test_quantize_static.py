"""Tests of quantize-static with the scheme of a target that declares none, and with schemes made for the test."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings

from edgecc.data.feeds import random_feeds
from edgecc.errors import DataError, OptionError
from edgecc.model import Model, value_of
from edgecc.passes.base import PassContext
from edgecc.passes.pipeline import PassPipeline
from edgecc.passes.quantize_static import QuantizeStatic
from edgecc.quantization.scheme import PORTABLE, QuantizationScheme, Role, rules
from edgecc.testing import assert_skipped, check_contract, check_pass
from edgecc.testing.declared import target_of
from edgecc.testing.strategies import models

RNG = np.random.default_rng(0)
X = RNG.standard_normal((32, 3, 8, 8)).astype(np.float32)
CONSTANTS = {
    "w": RNG.standard_normal((4, 3, 3, 3)).astype(np.float32),
    "v": RNG.standard_normal((4, 4, 3, 3)).astype(np.float32),
    "b": RNG.standard_normal(4).astype(np.float32),
    "m": RNG.standard_normal((8, 5)).astype(np.float32),
}
#: Largest difference of one quantized layer, or a few, to float, relative to the largest value: some 4 steps of 255.
FEW_STEPS = 0.03


def normal(*shape: int) -> np.ndarray:
    """The same values wherever the test stands in the order."""
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


def of(text: str, shape: str = "1,3,8,8", outputs: str = "float[N,M,A,B] y") -> Model:
    return Model.from_text(f"g (float[{shape}] x) => ({outputs}) {{ {text} }}", CONSTANTS)


def check(model: Model, step: QuantizeStatic | None = None, samples: np.ndarray = X, **arguments: object) -> Model:
    """The contract, and values a few steps from the float model's."""
    arguments.setdefault("tolerance", FEW_STEPS)
    feeds = {"x": samples[:1]}
    return check_pass(step or QuantizeStatic(), model, feeds=feeds, calibration={"x": samples}, **arguments)  # type: ignore[arg-type]


def ops(model: Model) -> list[str]:
    """Operators in order, Q and D for the two that change."""
    short = {"QuantizeLinear": "Q", "DequantizeLinear": "D"}
    return [short.get(node.op, node.op) for node in model.nodes()]


# ------------------------------------------------------------------------------------------------------------- fires


def test_convolution_with_its_activation() -> None:
    model = check(of("a = Conv<pads=[1,1,1,1]>(x, w, b)  y = Relu(a)"))
    assert sorted(ops(model)) == sorted(["Q", "D", "D", "D", "Conv", "Relu", "Q", "D"])
    conv, (relu,) = model.nodes("Conv")[0], model.nodes("Relu")
    assert model.producer(relu.inputs[0]) is conv
    weights, bias = (model.producer(conv.inputs[place]) for place in (1, 2))
    assert weights is not None
    assert bias is not None
    assert value_of(weights.inputs[0]).dtype == np.int8  # type: ignore[union-attr]
    assert value_of(bias.inputs[0]).dtype == np.int32  # type: ignore[union-attr]
    assert (value_of(weights.inputs[1]).shape, weights.attrs["axis"]) == ((4,), 0)  # type: ignore[union-attr]


def test_bias_is_in_units_of_data_scale_times_weight_scale() -> None:
    model = check(of("y = Conv(x, w, b)"))
    conv = model.nodes("Conv")[0]
    data, weights, bias = (model.producer(tensor) for tensor in conv.inputs)
    units = value_of(data.inputs[1]) * value_of(weights.inputs[1])  # type: ignore[union-attr,operator]
    np.testing.assert_array_equal(value_of(bias.inputs[1]), units)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("text", "shape", "rank"),
    [
        ("y = Gemm(x, m)", "1,8", 2),
        ("y = MatMul(x, m)", "1,7,8", 3),
        ("t = Transpose<perm=[0,2,1]>(x)  y = MatMul(x, t)", "1,6,8", 3),
        ("y = ConvTranspose<pads=[1,1,1,1]>(x, w)", "1,4,8,8", 4),
    ],
)
def test_products(text: str, shape: str, rank: int) -> None:
    samples = normal(16, *map(int, shape.split(",")[1:]))
    outputs = f"float[{','.join('NABC'[:rank])}] y"
    scheme = replace(PORTABLE, operators={**PORTABLE.operators, **rules(Role.WEIGHTED, "ConvTranspose")})
    check(of(text, shape, outputs), samples=samples, target=target_of(scheme))


def test_residual_and_shared_input() -> None:
    text = "a = Conv<pads=[1,1,1,1]>(x, w, b)  c = Conv<pads=[1,1,1,1]>(a, v)  s = Add(a, c)  y = Relu(s)"
    model = check(of(text), tolerance=2 * FEW_STEPS)
    # x, a, c and y; the sum is rounded behind Relu.
    assert ops(model).count("Q") == 4


def test_pooling_and_moving_share_a_scale() -> None:
    text = "a = Conv(x, w)  p = MaxPool<kernel_shape=[2,2]>(a)  y = Transpose<perm=[0,2,3,1]>(p)"
    model = check(of(text))
    scales = {float(value_of(node.inputs[1])) for node in model.nodes("QuantizeLinear")[1:]}  # type: ignore[arg-type]
    assert len(scales) == 1


def test_softmax_writes_its_own_scale() -> None:
    samples = normal(16, 8)
    model = check(of("h = Gemm(x, m)  y = Softmax<axis=-1>(h)", "1,8", "float[N,M] y"), samples=samples)
    last = model.producer(model.outputs[0])
    assert last is not None
    assert (float(value_of(last.inputs[1])), int(value_of(last.inputs[2]))) == (1 / 256, -128)  # type: ignore[arg-type]


def test_concat_of_a_fixed_and_a_computed_scale_is_requantized() -> None:
    text = "a = Conv(x, w)  s = Sigmoid(a)  y = Concat<axis=1>(a, s)"
    model = check(of(text))
    concat = model.nodes("Concat")[0]
    grids = [float(value_of(model.producer(tensor).inputs[1])) for tensor in concat.inputs]  # type: ignore[union-attr,arg-type]
    assert grids[0] == grids[1] != 1 / 256


def test_constant_operands() -> None:
    constants = {**CONSTANTS, "two": np.full((1, 1, 1), 2.5, np.float32), "many": CONSTANTS["b"].reshape(4, 1, 1)}
    text = "g (float[1,3,8,8] x) => (float[1,4,6,6] y) { a = Conv(x, w)  p = Mul(a, two)  y = Add(p, many) }"
    model = check(Model.from_text(text, constants))
    stored = [value_of(model.producer(model.nodes(op)[0].inputs[1]).inputs[0]) for op in ("Mul", "Add")]  # type: ignore[union-attr]
    assert [values.dtype for values in stored if values is not None] == [np.int8, np.int8]


def test_float_readers_read_what_was_rounded() -> None:
    model = check(of("a = Conv(x, w)  y = Abs(a)"))
    producer = model.producer(model.nodes("Abs")[0].inputs[0])
    assert producer is not None
    assert producer.op == "DequantizeLinear"


def test_always_zero_and_constant_tensors() -> None:
    zeros = np.zeros((4, 3, 8, 8), np.float32)
    check(of("y = Conv(x, w, b)"), samples=zeros)
    check(of("y = Conv(x, w)"), samples=zeros)
    check(of("y = Conv(x, w, b)"), samples=zeros + 3)


# ------------------------------------------------------------------------------------------------------------ options


def test_int16_activations() -> None:
    scheme = replace(PORTABLE, activations=("int8", "int16"))
    # What is left is the rounding of weights.
    model = check(of("y = Conv(x, w, b)"), QuantizeStatic(activations="int16"), target=target_of(scheme))
    zero = value_of(model.nodes("QuantizeLinear")[0].inputs[2])
    assert zero is not None
    assert (zero.dtype, int(zero)) == (np.int16, 0)


def test_int8_layers_beside_int16_ones_use_all_integers() -> None:
    scheme = replace(PORTABLE, activations=("int8", "int16"))
    step = QuantizeStatic(activations="int16", layers=("Conv_0:int8",))
    positive = np.abs(X)
    model = check(of("a = Conv(x, w, b)  y = Conv(a, v)"), step, positive, target=target_of(scheme))
    zero = value_of(model.nodes("QuantizeLinear")[0].inputs[2])
    assert zero is not None
    assert (zero.dtype, int(zero)) == (np.int8, -128)


def test_int16_is_refused_where_there_are_no_kernels() -> None:
    with pytest.raises(OptionError, match="no kernels for int16 activations"):
        check(of("y = Conv(x, w, b)"), QuantizeStatic(activations="int16"))


@pytest.mark.parametrize("method", ["mse", "min-max", "percentile", "entropy", "moving-average"])
def test_ranges(method: str) -> None:
    # Entropy clips more than the others on few samples.
    check(of("y = Conv(x, w, b)"), QuantizeStatic(range=method), tolerance=0.3)  # type: ignore[arg-type]


def test_per_tensor() -> None:
    model = check(of("y = Conv(x, w, b)"), QuantizeStatic(per_channel=False))
    weights = model.producer(model.nodes("Conv")[0].inputs[1])
    assert weights is not None
    assert value_of(weights.inputs[1]).shape == ()  # type: ignore[union-attr]


TWO = "a = Conv(x, w)  y = Conv(a, v)"


@pytest.mark.parametrize(
    ("step", "quantized"),
    [
        (QuantizeStatic(ignore=("Conv_0",)), [False, True]),
        (QuantizeStatic(keep_first=True), [False, True]),
        (QuantizeStatic(keep_last=True), [True, False]),
    ],
)
def test_nodes_that_stay_float(step: QuantizeStatic, quantized: list[bool]) -> None:
    model = check(of(TWO), step, skips=["it is excluded"])
    found = [model.producer(node.inputs[1]) is not None for node in model.nodes("Conv")]
    assert found == quantized


def test_operators_that_stay_float() -> None:
    text = "a = Conv(x, w)  y = Add(a, a)"
    model = check(of(text), QuantizeStatic(ignore_ops=("Add",)), skips=["it is excluded"])
    assert model.producer(model.outputs[0]) is model.nodes("Add")[0]


def test_an_activation_that_stays_float() -> None:
    model = check(of("a = Conv(x, w)  y = Relu(a)"), QuantizeStatic(ignore_ops=("Relu",)), skips=["it is excluded"])
    assert model.producer(model.outputs[0]) is model.nodes("Relu")[0]
    assert model.producer(model.nodes("Relu")[0].inputs[0]).op == "DequantizeLinear"  # type: ignore[union-attr]


def test_computed_bounds() -> None:
    text = "g (float[1,3,8,8] x, float l) => (float[1,4,6,6] y) { a = Conv(x, w)  y = Clip(a, l) }"
    samples = {"x": X, "l": np.zeros(32, np.float32)}
    model = Model.from_text(text, CONSTANTS)
    feeds = {"x": X[:1], "l": np.zeros((), np.float32)}
    check_pass(QuantizeStatic(), model, tolerance=FEW_STEPS, feeds=feeds, calibration=samples, skips=["bounds"])


def test_a_pattern_that_matches_nothing() -> None:
    with pytest.raises(OptionError, match="pattern 'nothing' of option 'ignore' matches no node"):
        check(of(TWO), QuantizeStatic(ignore=("nothing",)))
    with pytest.raises(OptionError, match="operator 'Gemm' of option 'ignore_ops' is not in the model"):
        check(of(TWO), QuantizeStatic(ignore_ops=("Gemm",)))


# ---------------------------------------------------------------------------------------------------- schemes


def test_only_data_of_operators_is_rounded() -> None:
    scheme = QuantizationScheme(
        {**rules(Role.WEIGHTED, "Conv"), **rules(Role.COMPUTE, "Add", (0, 1))},
        symmetric=True,
        rounds_results=False,
        integer_bias=False,
    )
    text = "a = Conv<pads=[1,1,1,1]>(x, w, b)  c = Conv<pads=[1,1,1,1]>(a, v)  s = Add(a, c)  y = Relu(s)"
    model = check(of(text), target=target_of(scheme), tolerance=2 * FEW_STEPS)
    # x, a and c; the result stays as it is, and so does the bias.
    assert ops(model).count("Q") == 3
    assert not any(value_of(node.inputs[2]).any() for node in model.nodes("QuantizeLinear"))  # type: ignore[union-attr]
    assert value_of(model.nodes("Conv")[0].inputs[2]) is not None
    assert model.producer(model.outputs[0]) is model.nodes("Relu")[0]


def test_unsigned_data_gives_the_same() -> None:
    text = "a = Conv<pads=[1,1,1,1]>(x, w, b)  y = Relu(a)"
    signed, unsigned = check(of(text)), check(of(text), target=target_of(replace(PORTABLE, unsigned=True)))
    from edgecc.passes.verification import run

    feeds = {"x": X[3:4]}
    np.testing.assert_array_equal(run(signed, feeds)["y"], run(unsigned, feeds)["y"])
    assert value_of(unsigned.nodes("QuantizeLinear")[0].inputs[2]).dtype == np.uint8  # type: ignore[union-attr]


def test_islands_stay_float_where_the_target_gains_nothing() -> None:
    scheme = replace(PORTABLE, needs_weights=True)
    text = "a = Add(x, x)  e = Erf(a)  y = Conv(e, w)"
    model = check(of(text), target=target_of(scheme), skips=["no operator with weights is beside it"])
    assert model.nodes("Add")[0].inputs[0].name == "x"


# -------------------------------------------------------------------------------------------------- leaves alone


@pytest.mark.parametrize(
    ("text", "shape", "reason"),
    [
        ("y = Gemm<transA=1>(x, m)", "8,3", "it transposes its data"),
        ("y = Gemm<alpha=2.0>(x, m)", "3,8", "scales its product"),
    ],
)
def test_what_has_no_kernel(text: str, shape: str, reason: str) -> None:
    rows = int(shape.split(",")[0])
    samples = normal(4 * rows, int(shape.split(",")[1]))
    assert_skipped(QuantizeStatic(), of(text, shape, "float[N,M] y"), reason, calibration={"x": samples})


def test_computed_weights() -> None:
    assert_skipped(QuantizeStatic(), of("y = Conv(x, x)"), "its weights are computed", calibration={"x": X})


def test_recurrent_layers_stay_float() -> None:
    text = "y = LSTM<hidden_size=3>(x, lw, lr)"
    constants = {"lw": normal(1, 12, 4), "lr": normal(1, 12, 3)}
    model = Model.from_text(f"g (float[5,2,4] x) => (float[A,B,C,D] y) {{ {text} }}", constants)
    assert_skipped(QuantizeStatic(), model, "recurrent layer", calibration={"x": normal(8, 5, 2, 4)})


def test_layers_in_subgraphs_stay_float() -> None:
    text = """y = If (c) <
        then_branch = t () => (float[A,B,C,D] u) { u = Conv(x, w) },
        else_branch = e () => (float[A,B,C,D] v1) { v1 = Conv(x, w) }>"""
    model = Model.from_text(f"g (float[1,3,8,8] x, bool c) => (float[A,B,C,D] y) {{ {text} }}", CONSTANTS)
    data = {"x": X, "c": np.arange(len(X)) % 2 == 0}
    assert_skipped(QuantizeStatic(), model, "it is in a subgraph", calibration=data)


def test_nothing_but_moving() -> None:
    text = "y = Transpose<perm=[0,2,3,1]>(x)"
    assert_skipped(QuantizeStatic(), of(text), "", calibration={"x": X})


def test_integers_are_left_alone() -> None:
    model = Model.from_text("g (int64[1,4] x) => (int64[4,1] y) { y = Transpose(x) }")
    assert_skipped(QuantizeStatic(), model, "")


@pytest.mark.parametrize("masked", [-np.inf, -3.4e38, -1e4])
def test_masks_stay_float(masked: float) -> None:
    mask = np.where(np.arange(8) < 5, 0, masked).astype(np.float32).reshape(1, 8)
    text = "g (float[1,8] x) => (float[1,5] y) { a = MatMul(x, s)  k = Add(a, mask)  p = Softmax(k)  y = MatMul(p, m) }"
    model = Model.from_text(text, {**CONSTANTS, "s": normal(8, 8), "mask": mask})
    samples = normal(16, 8)
    model = check(model, samples=samples, skips=None, tolerance=2 * FEW_STEPS)
    assert model.nodes("Add")[0].inputs[1].name == "mask"
    assert model.producer(model.nodes("Softmax")[0].inputs[0]) is model.nodes("Add")[0]


def test_infinities_among_the_data() -> None:
    infinite = np.full((1, 4, 6, 6), -np.inf, np.float32)
    text = "g (float[1,3,8,8] x) => (float[1,4,6,6] y) { a = Conv(x, w)  k = Where(c, a, inf)  y = Relu(k) }"
    chosen = normal(1, 4, 6, 6) > 0
    model = Model.from_text(text, {**CONSTANTS, "c": chosen, "inf": infinite})
    scheme = replace(PORTABLE, operators={**PORTABLE.operators, **rules(Role.SAME, "Where", (1, 2))})
    check(model, target=target_of(scheme), skips=["infinities or masks", "infinities or masks"])


def test_quantized_models_are_kept_or_refused() -> None:
    model = check(of(TWO))
    assert_skipped(QuantizeStatic(), model, "the model is quantized already: it keeps its scales")
    with pytest.raises(OptionError, match="the model is quantized already"):
        assert_skipped(QuantizeStatic(quantized="refuse"), model, "")


def test_without_data() -> None:
    with pytest.raises(DataError, match="needs calibration data") as caught:
        PassPipeline([QuantizeStatic()]).run(of(TWO), PassContext(None, np.random.default_rng(0)))
    assert "--calibration DATA.npz" in str(caught.value.hint)


def test_open_batch_and_several_outputs() -> None:
    model = Model.from_text(
        "g (float[N,3,8,8] x) => (float[N,4,6,6] y, float[N,4,6,6] z) { y = Conv(x, w)  z = Relu(y) }", CONSTANTS
    )
    check_contract(QuantizeStatic(), model, calibration={"x": X})


@settings(max_examples=40, deadline=None)
@given(models())
def test_random_models(model: Model) -> None:
    data = [random_feeds(model.signature, seed) for seed in range(3)]
    try:
        check_contract(QuantizeStatic(range="min-max"), model, calibration=lambda: data)
    except DataError as error:
        # Random graphs divide by zero: what they compute then is NaN, which calibration refuses.
        assert "NaN" in str(error)  # noqa: PT017


# ------------------------------------------------------------------------------------------------------------- layers


def test_layers_stay_float_by_name() -> None:
    text = "a = Conv(x, w)  r = Relu(a)  y = Conv(r, v)"
    model = check(of(text), QuantizeStatic(layers=("Conv_2:float32",)), skips=["it is excluded"])
    writer = model.producer(model.nodes("Conv")[1].inputs[0])
    assert writer is not None
    assert writer.op == "DequantizeLinear", "what was rounded in front of it is read so"
    assert value_of(model.nodes("Conv")[1].inputs[1]) is not None


@pytest.mark.parametrize("item", ["Conv_0", "Conv_0:int9", ":int8"])
def test_layers_that_cannot_be_read(item: str) -> None:
    with pytest.raises(ValueError, match="is not PATTERN:PRECISION, the latter one of int8, int16, float16, float32"):
        QuantizeStatic(layers=(item,))


def test_layers_that_match_nothing() -> None:
    with pytest.raises(OptionError, match="pattern 'nothing' of option 'layers' matches no node"):
        check(of("y = Conv(x, w)"), QuantizeStatic(layers=("nothing:float32",)))


def test_layers_of_a_type_without_kernels() -> None:
    with pytest.raises(OptionError, match="has no kernels for int16 activations"):
        check(of("y = Conv(x, w)"), QuantizeStatic(layers=("Conv_0:int16",)))


# ------------------------------------------------------------------------------------------------------------ biases


@pytest.mark.parametrize("shape", [(5,), (1, 5), (1,), (), (1, 1)])
def test_bias_of_gemm_that_is_the_same_for_all_rows(shape: tuple[int, ...]) -> None:
    constants = {**CONSTANTS, "c": normal(*shape)}
    model = Model.from_text("g (float[6,8] x) => (float[6,5] y) { y = Gemm(x, m, c) }", constants)
    found = check_pass(
        QuantizeStatic(), model, feeds={"x": normal(6, 8)}, calibration={"x": normal(192, 8)}, tolerance=FEW_STEPS
    )
    bias = found.producer(found.nodes("Gemm")[0].inputs[2])
    assert bias is not None
    assert value_of(bias.inputs[0]).dtype == np.int32  # type: ignore[union-attr]


@pytest.mark.parametrize("shape", [(6, 1), (6, 5)])
def test_bias_of_gemm_for_each_row(shape: tuple[int, ...]) -> None:
    constants = {**CONSTANTS, "c": normal(*shape)}
    model = Model.from_text("g (float[6,8] x) => (float[6,5] y) { y = Gemm(x, m, c) }", constants)
    assert_skipped(QuantizeStatic(), model, "its bias is not the same for all rows", calibration={"x": normal(192, 8)})
