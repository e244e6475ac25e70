"""Tests of correct-bias, behind quantize-static and behind weights that were quantized by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest

from edgecc.data.calibration import CalibrationData, open_calibration
from edgecc.errors import DataError, OptionError, PassOrderError
from edgecc.model import Model, value_of
from edgecc.passes.base import Pass, PassContext
from edgecc.passes.correct_bias import CorrectBias
from edgecc.passes.pipeline import PassPipeline, PipelineResult
from edgecc.passes.quantize_static import QuantizeStatic
from edgecc.passes.verification import run
from edgecc.quantization.bias_shifts import Outputs
from edgecc.quantization.biases import Bias
from edgecc.quantization.scheme import PORTABLE, QuantizationScheme
from edgecc.target import Target

RNG = np.random.default_rng(0)
#: Data is positive, so that errors of weights do not cancel out, and one channel is so large that others are coarse.
X = RNG.uniform(0, 1, (48, 3, 8, 8)).astype(np.float32)
TEST = np.random.default_rng(1).uniform(0, 1, (16, 3, 8, 8)).astype(np.float32)
CONSTANTS = {
    "w": (RNG.standard_normal((6, 3, 3, 3)) * np.array([20, 1, 1, 1, 1, 1]).reshape(6, 1, 1, 1)).astype(np.float32),
    "b": RNG.standard_normal(6).astype(np.float32),
    "v": (RNG.standard_normal((4, 6, 3, 3)) * np.array([20, 1, 1, 1]).reshape(4, 1, 1, 1)).astype(np.float32),
    "m": (RNG.standard_normal((8, 6)) * np.array([20, 1, 1, 1, 1, 1])).astype(np.float32),
    "e": RNG.standard_normal(6).astype(np.float32),
}
COARSE = QuantizeStatic(per_channel=False)


def of(text: str, shape: str = "1,3,8,8", outputs: str = "float[N,M,A,B] y") -> Model:
    return Model.from_text(f"g (float[{shape}] x) => ({outputs}) {{ {text} }}", CONSTANTS)


def data_of(model: Model, samples: np.ndarray) -> CalibrationData:
    found = open_calibration({"x": samples}, model.signature)
    assert isinstance(found, CalibrationData)
    return found


def piped(
    model: Model, *steps: Pass, samples: np.ndarray = X, scheme: QuantizationScheme | None = None
) -> tuple[Model, PipelineResult]:
    """The model behind the passes."""

    class Declared(Target):
        name: ClassVar[str] = "declared"
        suffixes: ClassVar[tuple[str, ...]] = (".declared",)

        def quantization_scheme(self) -> QuantizationScheme | None:
            return scheme

    after = model.clone()
    ctx = PassContext(Declared(), np.random.default_rng(0), calibration=data_of(model, samples))
    result = PassPipeline(steps).run(after, ctx)
    assert after.signature == model.signature
    return after, result


def mean_error(model: Model, other: Model, samples: np.ndarray = TEST) -> float:
    """Of the output's channels: how far their means are apart, in all."""
    found = [np.concatenate([run(m, {"x": x[None]})["y"] for x in samples]) for m in (model, other)]
    difference = found[0] - found[1]
    axes = tuple(i for i in range(difference.ndim) if i != (1 if difference.ndim == 4 else difference.ndim - 1))
    return float(np.abs(difference.mean(axis=axes)).sum())


NETWORK = "a = Conv(x, w, b)  r = Relu(a)  y = Conv(r, v)"


def test_means_are_corrected() -> None:
    model = of(NETWORK)
    plain, _ = piped(model, COARSE)
    corrected, result = piped(model, COARSE, CorrectBias())
    assert result.records[1].changed
    # On samples that it has not seen; what is left is their choice, and rounding to int8.
    assert mean_error(model, corrected) < 0.4 * mean_error(model, plain)


def test_layers_behind_one_another_without_biases() -> None:
    model = of("a = Conv(x, w)  r = Relu(a)  y = Conv(r, v)")
    plain, _ = piped(model, COARSE)
    corrected, _ = piped(model, COARSE, CorrectBias())
    assert all(len(conv.inputs) == 3 for conv in corrected.nodes("Conv"))
    assert mean_error(model, corrected) < 0.4 * mean_error(model, plain)


def test_layers_that_share_a_bias_get_their_own() -> None:
    model = of("a = Conv(x, w, b)  c = Relu(a)  h = Neg(x)  d = Conv(h, w, b)  y = Sub(c, d)")
    quantized, _ = piped(model, COARSE)
    first, second = quantized.nodes("Conv")
    # Both read data at one scale, so that a pass may have merged their biases.
    quantized.set_input(second, 0, first.inputs[0])
    quantized.set_input(second, 2, first.inputs[2])
    bias = quantized.producer(first.inputs[2])
    assert bias is not None
    units, before = value_of(bias.inputs[1]), value_of(bias.inputs[0])
    assert units is not None
    assert before is not None
    Bias(second, 2, units, bias).add(np.full(6, units, np.float64), quantized)
    stored = [quantized.producer(conv.inputs[2]) for conv in (first, second)]
    values = [value_of(node.inputs[0]) for node in stored if node is not None]
    np.testing.assert_array_equal(values, [before, before + 1])


def test_a_second_run_changes_nothing() -> None:
    _, result = piped(of(NETWORK), COARSE, CorrectBias(), CorrectBias())
    assert [record.changed for record in result.records] == [True, True, False]


def test_biases_stay_int32_in_units_of_data_scale_times_weight_scale() -> None:
    model, _ = piped(of(NETWORK), QuantizeStatic(), CorrectBias())
    for conv in model.nodes("Conv"):
        data, weights, bias = (model.producer(tensor) for tensor in conv.inputs)
        assert value_of(bias.inputs[0]).dtype == np.int32  # type: ignore[union-attr]
        units = value_of(data.inputs[1]) * value_of(weights.inputs[1])  # type: ignore[union-attr,operator]
        np.testing.assert_array_equal(value_of(bias.inputs[1]), units)  # type: ignore[union-attr]


def test_layers_behind_one_that_had_no_bias() -> None:
    model = of("a = Conv(x, w)  r = Relu(a)  y = Conv(r, v)")
    plain, _ = piped(model, COARSE)
    corrected, _ = piped(model, COARSE, CorrectBias())
    biases = [corrected.producer(conv.inputs[2]) for conv in corrected.nodes("Conv")]
    assert [value_of(bias.inputs[0]).dtype for bias in biases if bias is not None] == [np.int32] * 2  # type: ignore[union-attr]
    assert mean_error(model, corrected) < 0.4 * mean_error(model, plain)


def test_scales_and_weights_stay() -> None:
    plain, _ = piped(of("y = Conv(x, w, b)"), COARSE)
    corrected, _ = piped(of("y = Conv(x, w, b)"), COARSE, CorrectBias())
    pairs = zip(plain.nodes("DequantizeLinear"), corrected.nodes("DequantizeLinear"), strict=True)
    changed = [
        place
        for first, second in pairs
        for place in range(3)
        if value_of(first.inputs[place]) is not None
        and not np.array_equal(value_of(first.inputs[place]), value_of(second.inputs[place]))  # type: ignore[arg-type]
    ]
    assert changed == [0]


def test_target_with_biases_in_float() -> None:
    scheme = replace(PORTABLE, integer_bias=False)
    model = of(NETWORK)
    plain, _ = piped(model, COARSE, scheme=scheme)
    corrected, _ = piped(model, COARSE, CorrectBias(), scheme=scheme)
    assert [value_of(node.inputs[2]).dtype for node in corrected.nodes("Conv")] == [np.float32] * 2  # type: ignore[union-attr]
    assert mean_error(model, corrected) < 0.4 * mean_error(model, plain)


@pytest.mark.parametrize(
    ("text", "shape"),
    [("y = Gemm(x, m, e)", "1,8"), ("y = Gemm(x, m)", "1,8"), ("h = MatMul(x, m)  y = Add(h, e)", "1,5,8")],
)
def test_products(text: str, shape: str) -> None:
    sizes = tuple(map(int, shape.split(",")[1:]))
    samples, test = (np.random.default_rng(i).uniform(0, 1, (64, *sizes)).astype(np.float32) for i in (0, 1))
    model = of(text, shape, f"float[{','.join('NAM'[: 1 + len(sizes)])}] y")
    scheme = replace(PORTABLE, operators={k: v for k, v in PORTABLE.operators.items() if k != "Add"})
    plain, _ = piped(model, COARSE, samples=samples, scheme=scheme)
    corrected, result = piped(model, COARSE, CorrectBias(), samples=samples, scheme=scheme)
    assert result.records[1].changed
    assert mean_error(model, corrected, test) < 0.6 * mean_error(model, plain, test)
    _, result = piped(model, COARSE, CorrectBias(), CorrectBias(), samples=samples, scheme=scheme)
    assert not result.records[2].changed


def test_weights_alone() -> None:
    """Data in float, weights of four bits: their bias is in float."""

    class ByHand(Pass):
        name: ClassVar[str] = "by-hand"
        loss = QuantizeStatic.loss

        def run(self, model: Model, ctx: PassContext) -> bool:
            for node in model.nodes("Conv"):
                values = value_of(node.inputs[1])
                if values is None:
                    continue
                scale = np.float32(np.abs(values).max() / 7)
                stored = model.constant("stored", np.clip(np.rint(values / scale), -7, 7).astype(np.int8))
                out = model.variable("weights", np.dtype(np.float32), values.shape)
                model.add("DequantizeLinear", [stored, model.constant("scale", np.asarray(scale))], [out])
                model.set_input(node, 1, out)
            return True

    model = of(NETWORK)
    plain, _ = piped(model, ByHand())
    corrected, _ = piped(model, ByHand(), CorrectBias())
    assert value_of(corrected.nodes("Conv")[1].inputs[2]).dtype == np.float32  # type: ignore[union-attr]
    assert mean_error(model, corrected) < 0.1 * mean_error(model, plain)


def test_what_samples_disagree_about_stays() -> None:
    """Each sample shifts the mean another way: that is chance, not a bias."""
    outputs = Outputs(
        expected=np.zeros((8, 2), np.float32),
        found=np.tile([[-1.0, 0.5]], (8, 1)).astype(np.float32),
        means=np.array([[1.0, -9.0], [1.1, 8.0], [0.9, -8.0], [1.0, 7.0]]),
    )
    assert outputs.shift().tolist() == [1.0, 0.0]


def test_what_the_activation_hides_stays() -> None:
    """Below 0 nobody sees a shift; it would make what is above wrong."""
    expected = np.array([[-5.0, 1.0], [-5.0, 2.0], [1.0, 3.0]], np.float32)
    found = np.array([[-8.0, 0.0], [-8.0, 1.0], [1.0, 2.0]], np.float32)
    outputs = Outputs(expected, found, np.zeros((1, 2)))
    change = np.array([2.0, 1.0])
    assert outputs.improved(change, lambda values: np.maximum(values, 0)).tolist() == [False, True]
    assert outputs.improved(change, lambda values: values).tolist() == [True, True]


# ------------------------------------------------------------------------------------------------------ does not fire


def skips_of(result: PipelineResult) -> list[str]:
    return [skip.reason for skip in result.skips if skip.pass_name == "correct-bias"]


def test_without_a_float_model() -> None:
    quantized, _ = piped(of(NETWORK), QuantizeStatic())
    after, result = piped(quantized, CorrectBias())
    assert not result.records[0].changed
    assert after.digest() == quantized.digest()
    assert all("what it was in float is not known" in reason for reason in skips_of(result))
    assert len(skips_of(result)) == 2


def test_float_model() -> None:
    _, result = piped(of(NETWORK), CorrectBias())
    assert not result.records[0].changed
    assert not result.skips


def test_no_bias_to_add_to() -> None:
    samples = np.random.default_rng(0).uniform(0, 1, (16, 5, 8)).astype(np.float32)
    _, result = piped(of("y = MatMul(x, m)", "1,5,8", "float[N,A,M] y"), COARSE, CorrectBias(), samples=samples)
    assert skips_of(result) == ["it has no bias to add to"]


def test_ignore() -> None:
    _, result = piped(of(NETWORK), COARSE, CorrectBias(ignore=("Conv_*",)))
    assert not result.records[1].changed
    with pytest.raises(OptionError, match="matches no node"):
        piped(of(NETWORK), COARSE, CorrectBias(ignore=("none",)))


def test_fewer_samples_change_the_result() -> None:
    one, many = (piped(of(NETWORK), COARSE, CorrectBias(samples=count))[0] for count in (2, 48))
    assert one.digest() != many.digest()


def test_saved_statistics_do_not_do() -> None:
    model, ctx = of(NETWORK), PassContext(None, np.random.default_rng(0), calibration=data_of(of(NETWORK), X))
    pipeline = PassPipeline([COARSE, CorrectBias()])

    class Watch:
        def before_pass(self, step: Pass, model: Model) -> None:
            if step.name == "correct-bias":
                ctx.calibration = None

        def after_pass(self, step: Pass, model: Model, changed: bool, seconds: float) -> None: ...

    pipeline.instruments = (Watch(),)
    with pytest.raises(DataError, match="needs calibration data"):
        pipeline.run(model, ctx)


def test_order() -> None:
    with pytest.raises(PassOrderError):
        PassPipeline([CorrectBias(), QuantizeStatic()])
