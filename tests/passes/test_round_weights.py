"""Tests of round-weights, behind quantize-static and behind weights of four bits that were stored by hand."""

from __future__ import annotations

from typing import ClassVar

import ml_dtypes  # noqa: F401  (numpy knows int4 by it)
import numpy as np
import pytest

from edgecc.data.calibration import CalibrationData, open_calibration
from edgecc.errors import DataError, OptionError, PassOrderError
from edgecc.model import Model, value_of
from edgecc.passes.base import Loss, Pass, PassContext
from edgecc.passes.correct_bias import CorrectBias
from edgecc.passes.pipeline import PassPipeline, PipelineResult
from edgecc.passes.quantize_static import QuantizeStatic
from edgecc.passes.round_weights import RoundWeights
from edgecc.passes.verification import run

RNG = np.random.default_rng(0)
MIX = RNG.standard_normal((8, 8)) * 0.15 + 1


def smooth(seed: int, count: int) -> np.ndarray:
    """Channels and neighbours go together, as in images: only then is there something to make good."""
    values = np.einsum("ncij,cd->ndij", np.random.default_rng(seed).standard_normal((count, 8, 8, 8)), MIX)
    return np.asarray(sum(np.roll(values, (i, j), (2, 3)) for i in range(3) for j in range(3)), np.float32)


X, TEST = smooth(0, 48), smooth(1, 8)
CONSTANTS = {
    "w": RNG.standard_normal((6, 8, 3, 3)).astype(np.float32),
    "d": RNG.standard_normal((8, 1, 3, 3)).astype(np.float32),
    "s": RNG.standard_normal((6, 4, 3, 3)).astype(np.float32),
    "v": RNG.standard_normal((4, 6, 1, 1)).astype(np.float32),
    "t": RNG.standard_normal((8, 4, 3, 3)).astype(np.float32),
    "m": RNG.standard_normal((8, 6)).astype(np.float32),
    "n": RNG.standard_normal((6, 8)).astype(np.float32),
}


class FewBits(Pass):
    """Weights of four bits: one scale, one per channel, or one per block along the inputs."""

    name: ClassVar[str] = "few-bits"
    loss: ClassVar[Loss] = Loss.LOSSY

    grid: str = "tensor"
    dtype: str = "int8"

    def run(self, model: Model, ctx: PassContext) -> bool:
        changed = False
        for node in model.nodes("Conv", "Gemm", "MatMul", "ConvTranspose"):
            values = value_of(node.inputs[1])
            if values is None:
                continue
            rows_first = node.op == "Conv" or bool(node.attrs.get("transB", 0))
            axis = 0 if rows_first else values.ndim - 1
            attributes: dict[str, object] = {"axis": axis}
            if self.grid == "tensor":
                scale, attributes = np.asarray(np.abs(values).max() / 7, np.float32), {}
            elif self.grid == "channel":
                scale = (np.abs(values).max(axis=tuple(i for i in range(values.ndim) if i != axis)) / 7).astype(
                    np.float32
                )
            else:
                attributes = {"axis": 1 - axis, "block_size": 4}
                parts = values.reshape(-1, 2, 4) if axis == 0 else values.T.reshape(-1, 2, 4)
                scale = (np.abs(parts).max(axis=2) / 7).astype(np.float32)
                scale = scale if axis == 0 else np.ascontiguousarray(scale.T)
            full = scale
            if scale.ndim == 1:
                full = scale.reshape([-1 if i == axis else 1 for i in range(values.ndim)])
            elif scale.ndim:
                full = np.repeat(scale, 4, axis=1 - axis)
            integers = np.clip(np.rint(values / full), -7, 7).astype(np.dtype(self.dtype))
            stored, scales = model.constant("stored", integers), model.constant("scale", scale)
            out = model.variable("weights", np.dtype(np.float32), values.shape)
            model.add("DequantizeLinear", [stored, scales], [out], attributes=attributes)
            model.set_input(node, 1, out)
            changed = True
        return changed


def of(text: str, shape: str = "1,8,8,8", output: str = "N,M,A,B") -> Model:
    return Model.from_text(f"g (float[{shape}] x) => (float[{output}] y) {{ {text} }}", CONSTANTS)


def piped(model: Model, *steps: Pass, samples: np.ndarray = X) -> tuple[Model, PipelineResult]:
    data = open_calibration({"x": samples}, model.signature)
    assert isinstance(data, CalibrationData)
    after = model.clone()
    result = PassPipeline(steps).run(after, PassContext(None, np.random.default_rng(0), calibration=data))
    assert after.signature == model.signature
    return after, result


def error(model: Model, other: Model, samples: np.ndarray = TEST) -> float:
    pairs = [(run(model, {"x": x[None]})["y"], run(other, {"x": x[None]})["y"]) for x in samples]
    return sum(float(np.square(first - second, dtype=np.float64).sum()) for first, second in pairs)


def stored(model: Model) -> list[np.ndarray]:
    """The integers of weights, in order."""
    found = [value_of(node.inputs[0]) for node in model.nodes("DequantizeLinear")]
    return [values for values in found if values is not None and values.ndim > 1]


FORMS = [
    ("y = Conv(x, w)", "1,8,8,8", "N,M,A,B"),
    ("y = Conv<pads=[1,1,1,1], strides=[2,2]>(x, w)", "1,8,8,8", "N,M,A,B"),
    ("y = Conv<group=8>(x, d)", "1,8,8,8", "N,M,A,B"),
    ("y = Conv<group=2>(x, s)", "1,8,8,8", "N,M,A,B"),
    ("y = Gemm(x, m)", "1,8", "N,M"),
    ("y = Gemm<transB=1>(x, n)", "1,8", "N,M"),
    ("y = MatMul(x, m)", "1,5,8", "N,A,M"),
]


# ------------------------------------------------------------------------------------------------------------- fires


@pytest.mark.parametrize("method", ["adaround", "gptq"])
@pytest.mark.parametrize(("text", "shape", "output"), FORMS)
def test_every_form_of_layer(text: str, shape: str, output: str, method: str) -> None:
    sizes = tuple(map(int, shape.split(",")[1:]))
    samples, test = X, TEST
    if len(sizes) < 3:
        rng = np.random.default_rng(2)
        samples, test = ((rng.standard_normal((96, *sizes)) @ MIX).astype(np.float32) for _ in range(2))
    model = of(text, shape, output)
    plain, _ = piped(model, FewBits(), samples=samples)
    rounded, result = piped(model, FewBits(), RoundWeights(method=method), samples=samples)  # type: ignore[arg-type]
    assert result.records[1].changed
    # On samples that it has not seen.
    assert error(model, rounded, test) < 0.7 * error(model, plain, test)


@pytest.mark.parametrize("grid", ["tensor", "channel", "block"])
@pytest.mark.parametrize("dtype", ["int8", "int4"])
def test_every_grid(grid: str, dtype: str) -> None:
    rng = np.random.default_rng(2)
    samples, test = ((rng.standard_normal((96, 5, 8)) @ MIX).astype(np.float32) for _ in range(2))
    model = of("y = MatMul(x, m)", "1,5,8", "N,A,M")
    plain, _ = piped(model, FewBits(grid=grid, dtype=dtype), samples=samples)
    rounded, _ = piped(model, FewBits(grid=grid, dtype=dtype), RoundWeights(), samples=samples)
    assert error(model, rounded, test) < 0.7 * error(model, plain, test)
    (values,) = stored(rounded)
    assert values.dtype == np.dtype(dtype)
    assert int(values.astype(np.int32).min()) >= (-127 if dtype == "int8" else -7)


def test_adaround_goes_to_a_neighbour_and_gptq_anywhere() -> None:
    model = of("y = Conv(x, w)")
    scale = np.abs(CONSTANTS["w"]).max() / 7
    places = CONSTANTS["w"] / np.float32(scale)
    far = {}
    for method in ("adaround", "gptq"):
        (values,) = stored(piped(model, FewBits(), RoundWeights(method=method))[0])  # type: ignore[arg-type]
        far[method] = float(np.abs(values - places).max())
    assert far["adaround"] < 1.0001 < far["gptq"]


def test_gemm_whose_weights_were_turned_round() -> None:
    """Square, so that no shape shows it."""

    class Turned(FewBits):
        name: ClassVar[str] = "turned"

        def run(self, model: Model, ctx: PassContext) -> bool:
            for node in model.nodes("Gemm"):
                values = value_of(node.inputs[1])
                if values is not None:
                    model.set_input(node, 1, model.constant("turned", np.ascontiguousarray(values.T)))
                    node.attrs["transB"] = 0
            return super().run(model, ctx)

    samples, test = ((np.random.default_rng(i).standard_normal((96, 8)) @ MIX).astype(np.float32) for i in (2, 3))
    square = np.random.default_rng(0).standard_normal((8, 8)).astype(np.float32)
    model = Model.from_text("g (float[1,8] x) => (float[N,M] y) { y = Gemm<transB=1>(x, w) }", {"w": square})
    plain, _ = piped(model, Turned(grid="channel"), samples=samples)
    rounded, _ = piped(model, Turned(grid="channel"), RoundWeights(), samples=samples)
    assert error(model, rounded, test) < 0.7 * error(model, plain, test)


def test_with_quantize_static() -> None:
    """Only integers of weights change: scales and data stay, and biases, whose units they are."""
    model = of("a = Conv(x, w)  r = Relu(a)  y = Conv(r, v)")
    plain, _ = piped(model, QuantizeStatic(per_channel=False))
    rounded, result = piped(model, QuantizeStatic(per_channel=False), RoundWeights())
    assert result.records[1].changed
    for first, second in zip(plain.nodes("DequantizeLinear"), rounded.nodes("DequantizeLinear"), strict=True):
        assert first.inputs[0].dtype == second.inputs[0].dtype
        np.testing.assert_array_equal(value_of(first.inputs[1]), value_of(second.inputs[1]))  # type: ignore[arg-type]
    assert all(np.abs(values.astype(int)).max() <= 127 for values in stored(rounded))


def test_a_second_run_changes_nothing() -> None:
    model = of("a = Conv(x, w)  r = Relu(a)  y = Conv(r, v)")
    _, result = piped(model, FewBits(), RoundWeights(), RoundWeights(method="adaround"), RoundWeights())
    assert [record.changed for record in result.records] == [True, True, False, False]


def test_correct_bias_behind_it() -> None:
    model = of("a = Conv(x, w)  r = Relu(a)  y = Conv(r, v)")
    _, result = piped(model, FewBits(), RoundWeights(), CorrectBias())
    assert result.records[1].changed
    with pytest.raises(PassOrderError):
        PassPipeline([QuantizeStatic(), CorrectBias(), RoundWeights()])


# ------------------------------------------------------------------------------------------------------ does not fire


def reasons(result: PipelineResult) -> list[str]:
    return [skip.reason for skip in result.skips if skip.pass_name == "round-weights"]


def test_transposed_convolution() -> None:
    _, result = piped(of("y = ConvTranspose(x, t)"), FewBits(), RoundWeights())
    assert reasons(result) == ["what it sums over is not known"]


def test_without_a_float_model() -> None:
    quantized, _ = piped(of("y = Conv(x, w)"), FewBits())
    _, result = piped(quantized, RoundWeights())
    assert not result.records[0].changed
    assert "what it was in float is not known" in reasons(result)[0]


def test_float_weights() -> None:
    _, result = piped(of("y = Conv(x, w)"), RoundWeights())
    assert not result.records[0].changed
    assert not reasons(result)


def test_ignore() -> None:
    _, result = piped(of("y = Conv(x, w)"), FewBits(), RoundWeights(ignore=("Conv_0",)))
    assert not result.records[1].changed
    with pytest.raises(OptionError, match="matches no node"):
        piped(of("y = Conv(x, w)"), FewBits(), RoundWeights(ignore=("none",)))


def test_needs_samples() -> None:
    with pytest.raises(DataError, match="needs calibration data"):
        PassPipeline([FewBits(), RoundWeights()]).run(of("y = Conv(x, w)"), PassContext(None, np.random.default_rng(0)))


def test_too_many_features(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgecc.passes.round_weights._MOST_FEATURES", 71)
    _, result = piped(of("y = Conv(x, w)"), FewBits(), RoundWeights())
    assert reasons(result) == ["it sums 72 features, and products of 71 are the most"]


def test_layers_that_do_not_fit_together_are_swept_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    model = of("a = Conv(x, w)  r = Relu(a)  y = Conv(r, v)")
    together, _ = piped(model, FewBits(), RoundWeights())
    monkeypatch.setattr("edgecc.passes.round_weights._MEMORY", 1)
    apart, _ = piped(model, FewBits(), RoundWeights())
    assert together.digest() == apart.digest()


def test_data_that_is_always_zero() -> None:
    _, result = piped(of("y = Conv(x, w)"), FewBits(), RoundWeights(), samples=np.zeros_like(X))
    assert not result.records[1].changed


def test_few_samples_change_the_result() -> None:
    model = of("y = Conv(x, w)")
    assert (
        piped(model, FewBits(), RoundWeights(samples=1))[0].digest()
        != piped(model, FewBits(), RoundWeights())[0].digest()
    )
