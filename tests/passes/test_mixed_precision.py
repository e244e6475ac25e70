"""Tests of mixed-precision: what is chosen, that budgets are met, and that the choice can be given back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest

from edgecc.data.calibration import open_calibration
from edgecc.errors import OptionError, PassOrderError
from edgecc.model import Model
from edgecc.options import build, parse_spec
from edgecc.passes.base import Pass, PassContext
from edgecc.passes.equalize_layers import EqualizeLayers
from edgecc.passes.mixed_precision import MixedPrecision
from edgecc.passes.pipeline import PassPipeline
from edgecc.passes.quantize_dynamic import QuantizeDynamic
from edgecc.passes.quantize_static import QuantizeStatic
from edgecc.passes.quantize_weights import QuantizeWeights
from edgecc.passes.smooth_activations import SmoothActivations
from edgecc.quantization.scheme import PORTABLE, QuantizationScheme, Role, rules
from edgecc.statistics.table import StatisticTable
from edgecc.target import Target
from edgecc.testing import check_pass
from edgecc.testing.declared import target_of

RNG = np.random.default_rng(0)
SAMPLES = RNG.standard_normal((32, 8)).astype(np.float32)
#: The second layer reads two channels of very different size: int8 data loses the small one, which the third one reads.
SPREAD = np.diag([10, *[0.1] * 7]).astype(np.float32)
CONSTANTS = {
    "a": RNG.standard_normal((8, 8)).astype(np.float32),
    "hard": SPREAD,
    "undo": np.linalg.inv(SPREAD).astype(np.float32),
    "b": RNG.standard_normal((8, 4)).astype(np.float32),
}
TEXT = """g (float[1,8] x) => (float[1,4] y) {
    p = MatMul(x, a)  q = MatMul(p, hard)  r = MatMul(q, undo)  s = Relu(r)  y = MatMul(s, b) }"""


class Both(Target):
    """Has kernels for int8 and int16."""

    name: ClassVar[str] = "both"
    suffixes: ClassVar[tuple[str, ...]] = (".both",)

    def quantization_scheme(self) -> QuantizationScheme:
        return replace(PORTABLE, activations=("int8", "int16"))


def run(
    step: QuantizeStatic, target: Target | None = None, samples: np.ndarray = SAMPLES, text: str = TEXT
) -> tuple[Model, PassContext]:
    model = Model.from_text(text, CONSTANTS)
    data = open_calibration({"x": samples}, model.signature)
    assert not isinstance(data, StatisticTable)
    ctx = PassContext(target, np.random.default_rng(0), calibration=data)
    PassPipeline([step]).run(model, ctx)
    return model, ctx


def integers(model: Model) -> set[str]:
    """Names of the products that read dequantized data."""
    found = set()
    for node in model.nodes("MatMul"):
        writer = model.producer(node.inputs[0])
        if writer is not None and writer.op == "DequantizeLinear":
            found.add(node.name)
    return found


def figures(ctx: PassContext) -> str:
    return next(note for note in ctx.notes if note.startswith("mixed precision"))


def sqnr(ctx: PassContext) -> float:
    return float(figures(ctx).split(" dB")[0].split("; ")[-1])


def test_contract() -> None:
    step = MixedPrecision(sqnr=20)
    model = Model.from_text(TEXT, CONSTANTS)
    check_pass(step, model, feeds={"x": SAMPLES[:1]}, calibration={"x": SAMPLES}, tolerance=0.3)


def test_the_layer_that_loses_most_gets_more_bits() -> None:
    _, whole = run(MixedPrecision(sqnr=0.1))
    assert sqnr(whole) < 20, "the case is not hard"
    model, ctx = run(MixedPrecision(sqnr=25))
    assert sqnr(ctx) >= 25
    assert "MatMul_2" not in integers(model), "what reads the spread channels must be float"
    assert integers(model), "nothing is left in integers"
    assert "NOT MET" not in figures(ctx)


def test_int16_where_the_target_has_it() -> None:
    model, ctx = run(MixedPrecision(sqnr=25, precisions=("int8", "int16")), Both())
    types = {str(node.outputs[0].dtype) for node in model.nodes("QuantizeLinear")}
    assert types == {"int8", "int16"}
    assert len(integers(model)) == 4
    assert sqnr(ctx) >= 25


def test_what_follows_stays_float_where_it_has_no_kernel_for_int16() -> None:
    text = TEXT.replace("s = Relu(r)", "s = Tanh(r)")
    scheme = replace(Both().quantization_scheme(), int8_only=frozenset({"Tanh"}))
    scheme = replace(scheme, operators={**scheme.operators, **rules(Role.COMPUTE, "Tanh")})
    found = {}
    for step in (QuantizeStatic(activations="int16"), MixedPrecision(sqnr=25, precisions=("int8", "int16"))):
        found[step.name] = run(step, target_of(scheme), text=text)
    model, ctx = found["mixed-precision"]
    assert "NOT MET" not in figures(ctx)
    assert len(integers(model)) == 4
    tanh = model.nodes("Tanh")[0]
    skips = {(skip.node, skip.reason) for skip in ctx.skips}
    assert skips == {(tanh.name, "the target has no kernel for int16")}
    assert skips <= {(skip.node, skip.reason) for skip in found["quantize-static"][1].skips}


def test_int16_is_left_out_where_it_has_none() -> None:
    model, _ = run(MixedPrecision(sqnr=25, precisions=("int8", "int16", "float32")))
    assert {str(node.outputs[0].dtype) for node in model.nodes("QuantizeLinear")} == {"int8"}


def test_a_budget_that_cannot_be_met_says_how_far_it_came() -> None:
    _, ctx = run(MixedPrecision(sqnr=90, precisions=("int8", "int16")), Both())
    assert "THE BUDGET IS NOT MET: sqnr=90 cannot be reached" in figures(ctx)
    assert 25 < sqnr(ctx) < 90


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75, 1.0])
def test_bytes(share: float) -> None:
    model, ctx = run(MixedPrecision(bytes=share, precisions=("int8", "float32")))
    size = sum(t.values.nbytes for t in model.constants() if t.values.ndim == 2)
    assert size <= share * sum(values.nbytes for values in CONSTANTS.values())
    assert "NOT MET" not in figures(ctx)


def test_more_bytes_are_never_worse() -> None:
    found = [sqnr(run(MixedPrecision(bytes=share))[1]) for share in (0.25, 0.4, 0.6, 1.0)]
    assert found == sorted(found)


def test_bytes_that_cannot_be_met() -> None:
    _, ctx = run(MixedPrecision(bytes=0.2))
    assert "THE BUDGET IS NOT MET: bytes=0.2" in figures(ctx)


def test_agreement() -> None:
    _, ctx = run(MixedPrecision(agreement=100))
    assert "top-1 of 100.0 % kept" in figures(ctx)


def test_weights_in_float16_are_stored_so() -> None:
    model, _ = run(MixedPrecision(sqnr=200, precisions=("int8", "float16")))
    assert {str(t.values.dtype) for t in model.constants() if t.values.size >= 64} == {"float16"}
    assert len(model.nodes("Cast")) == 3, "the last layer's weights are too few"


def test_every_layer_is_reported() -> None:
    _, ctx = run(MixedPrecision(sqnr=25))
    told = {change.node: change.what for change in ctx.changes}
    assert set(told) == {"MatMul_0", "MatMul_1", "MatMul_2", "MatMul_4"}
    assert all("alone it leaves" in what for what in told.values())


def test_the_choice_can_be_given_back() -> None:
    model, ctx = run(MixedPrecision(sqnr=25), Both())
    text = next(note for note in ctx.notes if note.startswith("the same without trying again"))
    name, options = parse_spec(text.split("'")[1])
    assert name == "quantize-static"
    again, _ = run(build(QuantizeStatic, "pass", name, options), Both())
    assert again.digest() == model.digest()


def test_the_same_samples_give_the_same_choice() -> None:
    assert run(MixedPrecision(sqnr=25))[0].digest() == run(MixedPrecision(sqnr=25))[0].digest()


def test_what_is_excluded_stays_float() -> None:
    model, ctx = run(MixedPrecision(sqnr=0.1, ignore=("MatMul_0",)))
    assert "MatMul_0" not in integers(model)
    assert ("MatMul_0", "it is excluded") in {(skip.node, skip.reason) for skip in ctx.skips}


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"sqnr": 30, "bytes": 0.5}, "^options of pass 'mixed-precision': sqnr, agreement .*give one of them"),
        ({"sqnr": float("inf")}, "option 'sqnr' .*finite"),
        ({"bytes": 2}, "less than or equal to 1"),
        ({"precisions": []}, "'precisions' of pass 'mixed-precision': layers must be something: give one of int8, "),
    ],
)
def test_wrong_options(options: dict[str, Any], text: str) -> None:
    with pytest.raises(OptionError, match=text):
        build(MixedPrecision, "pass", "mixed-precision", options)


def test_a_target_without_any_of_the_precisions() -> None:
    with pytest.raises(OptionError, match="none of the precisions int16") as caught:
        run(MixedPrecision(precisions=("int16",)))
    assert caught.value.hint == "it has int8, float16, float32"


def test_statistics_are_not_enough() -> None:
    _, ctx = run(QuantizeStatic())
    model = Model.from_text(TEXT, CONSTANTS)
    again = PassContext(None, np.random.default_rng(0))
    again.statistics = ctx.statistics
    with pytest.raises(OptionError, match="layers are tried on samples"):
        PassPipeline([MixedPrecision()]).run(model, again)


def test_a_quantized_model_stays() -> None:
    model, ctx = run(QuantizeStatic())
    before = model.digest()
    data = open_calibration({"x": SAMPLES}, model.signature)
    assert not isinstance(data, StatisticTable)
    PassPipeline([MixedPrecision()]).run(model, PassContext(None, ctx.seed, calibration=data))
    assert model.digest() == before


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (MixedPrecision(), EqualizeLayers()),
        (MixedPrecision(), SmoothActivations()),
        (QuantizeWeights(), MixedPrecision()),
        (QuantizeDynamic(), MixedPrecision()),
    ],
)
def test_order_beside_other_passes(first: Pass, second: Pass) -> None:
    with pytest.raises(PassOrderError, match=f"pass '{second.name}' must run before '{first.name}'"):
        PassPipeline([first, second])


def test_nothing_to_choose() -> None:
    model = Model.from_text("g (float[2] x) => (float[2] y) { y = Erf(x) }")
    data = open_calibration({"x": np.ones((8, 2), np.float32)}, model.signature)
    assert not isinstance(data, StatisticTable)
    result = PassPipeline([MixedPrecision()]).run(model, PassContext(None, RNG, calibration=data))
    assert not result.records[0].changed
