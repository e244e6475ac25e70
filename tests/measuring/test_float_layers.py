"""Which layers stay float because a machine said so; what is raced is real, what decides is given by the test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgecc
from edgecc.measuring import float_layers, racing
from edgecc.measuring.benchmark import BenchmarkResult, Ratio
from edgecc.measuring.float_layers import cheapest_floats
from edgecc.measuring.layer_times import Layer, LayerClock, LayerTime, integer_layers
from edgecc.model import Model
from edgecc.passes.quantize_static import QuantizeStatic

RNG = np.random.default_rng(0)
CONSTANTS = {
    "w": RNG.standard_normal((4, 3, 3, 3)).astype(np.float32),
    "v": RNG.standard_normal((4, 4, 3, 3)).astype(np.float32),
    "m": RNG.standard_normal((4, 5)).astype(np.float32),
}
TEXT = """g (float[1,3,8,8] x) => (float[1,5] y) {
    a = Conv(x, w)  r = Relu(a)  c = Conv(r, v)  p = GlobalAveragePool(c)  f = Flatten(p)  y = MatMul(f, m) }"""
SAMPLES = {"x": RNG.standard_normal((32, 3, 8, 8)).astype(np.float32)}


def chain(*losses: float) -> tuple[list[Layer], list[LayerTime]]:
    """Layers one behind the other, each of which takes so much longer in integers."""
    layers = [Layer(f"n{i}", "", (f"t{i}",), f"t{i + 1}") for i in range(len(losses))]
    return layers, [LayerTime(10 + loss, 10) for loss in losses]


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ((-3, -3, -3), set()),
        ((5, 5, 5), {"n0", "n1", "n2"}),
        ((5, -3, -3), {"n0"}),
        ((-3, -3, 5), {"n2"}),
        # In the middle, it has to gain more than two changes of type take: 1 to float, 1 back.
        ((-3, 1.9, -3), set()),
        ((-3, 2.1, -3), {"n1"}),
        # A gain that is smaller than the changes around it is given up.
        ((5, -0.9, 5), {"n0", "n1", "n2"}),
        ((5, -2.1, 5), {"n0", "n2"}),
        # Less than can be measured.
        ((0.4, -3), set()),
    ],
)
def test_cheapest_floats(losses: tuple[float, ...], expected: set[str]) -> None:
    layers, times = chain(*losses)
    sizes = {f"t{i}": 10 for i in range(len(layers) + 1)}
    assert cheapest_floats(layers, times, sizes, quantize=0.1, dequantize=0.1) == expected


def test_layers_without_a_time_stay_in_integers() -> None:
    layers, times = chain(5, 5, 5)
    found = cheapest_floats(layers, times[:1], {f"t{i}": 10 for i in range(4)}, quantize=0.1, dequantize=0.1)
    assert found == {"n0"}


def quantized(tmp_path: Path, target: str = "onnxruntime") -> tuple[Model, Model]:
    suffix = "onnx" if target == "onnxruntime" else "tflite"
    before = Model.from_text(TEXT, CONSTANTS)
    result = edgecc.compile(
        before, target, tmp_path / f"m.{suffix}", optimize="0", passes=[QuantizeStatic()], calibration=SAMPLES
    )
    return before, result.model


def test_integer_layers(tmp_path: Path) -> None:
    before, after = quantized(tmp_path)
    layers = integer_layers(before, after)
    assert [(layer.node, bool(layer.activation), layer.reads, layer.writes) for layer in layers] == [
        ("Conv_0", True, ("x",), "r"),
        ("Conv_2", False, ("r",), "c"),
        ("GlobalAveragePool_3", False, ("c",), "p"),
        ("Flatten_4", False, ("p",), "f"),
        ("MatMul_5", False, ("f",), "y"),
    ]


@pytest.mark.parametrize("target", ["onnxruntime", "tflite"])
def test_layers_run_alone_in_both_forms(target: str, tmp_path: Path) -> None:
    from edgecc.compiler import resolve_target
    from edgecc.registry import default_registry

    before, after = quantized(tmp_path, target)
    backend, value = resolve_target(target, default_registry())
    layers = integer_layers(before, after)
    assert len(layers) == 5
    with LayerClock(before, after, backend, value, backend.passes(value), tmp_path) as clock:
        times = list(clock.measure(layers, 60, lambda count: None))
        forms = [clock._forms(layer) for layer in layers]
    assert all(found.in_integers > 0 and found.in_float > 0 for found in times), "one of them did not run"
    for integers, floats in forms:
        assert all(
            spec.dtype in ("int8", "uint8") for spec in (*integers.signature.inputs, *integers.signature.outputs)
        )
        assert all(spec.dtype == "float32" for spec in (*floats.signature.inputs, *floats.signature.outputs))


def types(model: Model) -> set[str]:
    """Of inputs and outputs."""
    return {spec.dtype for spec in (*model.signature.inputs, *model.signature.outputs)}


class Machine:
    """Says how long models take, by the number of their QuantizeLinear nodes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, ratios: dict[int, float]) -> None:
        import onnx

        self.seen: list[int] = []

        def race(paths: list[Path], **options: Any) -> list[BenchmarkResult]:
            counts = [sum(n.op_type == "QuantizeLinear" for n in onnx.load(path).graph.node) for path in paths]
            self.seen += counts
            medians = [Ratio(ratios[count], 0, 9) for count in counts]
            return [BenchmarkResult("m", "onnxruntime", ratio=ratio, versions={"fake": "1"}) for ratio in medians]

        monkeypatch.setattr(racing, "benchmark", race)


def compiled(tmp_path: Path, **options: Any) -> edgecc.CompileResult:
    Model.from_text(TEXT, CONSTANTS).save(tmp_path / "s.onnx")
    return edgecc.compile(tmp_path / "s.onnx", "onnxruntime", tmp_path / "m.onnx", calibration=SAMPLES, **options)


def test_integers_that_are_faster_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, {0: 1.0, 6: 0.5})
    result = compiled(tmp_path, quantize="int8")
    assert machine.seen == [0, 6]
    assert result.artifact.report["measured"]["integers"]["median"] == 0.5
    assert "integers take 0.50 (0.00..9.00) of float32's time" in result.notes[0]
    assert (result.recipe.quantize, result.recipe.measure) == ("int8", False)


def test_what_is_slower_stays_float_and_the_recipe_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, {0: 1.0, 6: 1.5, 3: 0.8})
    monkeypatch.setattr(float_layers, "_layer_times", lambda *given: ([LayerTime(2, 1)] * 5, {"MatMul_5"}))
    result = compiled(tmp_path, quantize="int8")
    assert machine.seen == [0, 6, 0, 6, 3]
    assert result.recipe.all_passes == ('quantize-static:ignore=["MatMul_5"]',)
    assert "so 1 node stays float, which takes 0.80" in result.notes[0]
    assert result.losses is not None
    assert result.losses.quantization is not None
    assert 0 < result.losses.quantization.integer_macs < 1
    first = result.path.read_bytes()
    # The recorded recipe gives the same again, whatever the machine says.
    Machine(monkeypatch, {})
    recorded = result.artifact.report["recipe"]
    again = compiled(tmp_path, **{key: recorded[key] for key in ("passes", "quantize", "measure")})
    assert again.path.read_bytes() == first


def test_a_model_that_is_fastest_in_float_stays_float(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Machine(monkeypatch, {0: 1.0, 6: 1.5, 3: 1.2})
    monkeypatch.setattr(float_layers, "_layer_times", lambda *given: ([LayerTime(2, 1)] * 5, {"MatMul_5"}))
    result = compiled(tmp_path, quantize="int8")
    assert result.recipe.all_passes == ('quantize-static:ignore=["*"]',)
    assert result.notes[0].startswith(
        "nothing is quantized: integers are 1.50 times slower than float32 on this machine"
    )
    assert "--no-measure keeps them" in result.notes[0]
    assert not result.model.nodes("QuantizeLinear")


def test_what_is_left_for_integers_can_be_too_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Nothing but pooling and Flatten would be left, which move values only.
    floats = {"Conv_0", "Conv_2", "MatMul_5"}
    machine = Machine(monkeypatch, {0: 1.0, 6: 1.5})
    monkeypatch.setattr(float_layers, "_layer_times", lambda *given: ([LayerTime(2, 1)] * 5, floats))
    result = compiled(tmp_path, quantize="int8")
    assert machine.seen == [0, 6, 0, 6]
    assert result.notes[0].startswith("nothing is quantized: integers are 1.50 times slower")


def test_skips_say_who_keeps_a_node_in_float(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Machine(monkeypatch, {0: 1.0, 6: 1.5, 2: 0.8})
    monkeypatch.setattr(float_layers, "_layer_times", lambda *given: ([LayerTime(2, 1)] * 4, {"MatMul_5"}))
    result = compiled(tmp_path, passes=["quantize-static:ignore=Conv_2"], measure=True)
    reasons = {skip.node: skip.reason for skip in result.pipeline.skips if skip.pass_name == "quantize-static"}
    assert reasons["Conv_2"] == "it is excluded"
    assert reasons["MatMul_5"] == "integers are slower here"


def test_differences_within_noise_keep_integers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Machine(monkeypatch, {0: 1.0, 6: 1.01, 3: 1.0})
    monkeypatch.setattr(float_layers, "_layer_times", lambda *given: ([LayerTime(2, 1)] * 5, {"MatMul_5"}))
    result = compiled(tmp_path, quantize="int8")
    assert "every layer stays in integers" in result.notes[0]
    assert result.recipe.passes == ()


@pytest.mark.parametrize(
    ("options", "measured"),
    [
        ({"quantize": "int8"}, True),
        ({"quantize": "int8", "measure": False}, False),
        ({"passes": "quantize-static"}, False),
        ({"passes": "quantize-static", "measure": True}, True),
    ],
)
def test_when_it_is_measured(
    options: dict[str, Any], measured: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(monkeypatch, {0: 1.0, 6: 0.5})
    result = compiled(tmp_path, **options)
    assert bool(machine.seen) is measured
    assert bool(result.artifact.report["measured"]) is measured


def test_a_runtime_that_fails_is_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = [BenchmarkResult("m", "onnxruntime", error="it crashed")] * 2
    monkeypatch.setattr(racing, "benchmark", lambda paths, **options: failed)
    result = compiled(tmp_path, quantize="int8")
    assert "whether integers are faster was not measured: it crashed" in result.notes
    assert result.model.nodes("QuantizeLinear")


@pytest.mark.parametrize("passes", [("quantize-dynamic:min_elements=1",), ("mixed-precision", "quantize-static")])
def test_what_cannot_be_measured_is_a_note(
    passes: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(monkeypatch, {})
    result = compiled(tmp_path, passes=passes, measure=True)
    assert not machine.seen
    text = (
        f"it is where quantize-static quantizes, once, and here {', '.join(name.split(':')[0] for name in passes)} does"
    )
    assert f"whether integers are faster was not measured: {text}" in result.notes


@pytest.mark.parametrize("partly", [1.2, 0.8])
def test_saved_statistics_serve_whatever_stays_float(
    partly: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Machine(monkeypatch, {0: 1.0, 6: 1.5, 5: partly})
    # The convolution whose activation is taken in.
    monkeypatch.setattr(float_layers, "_layer_times", lambda *given: ([LayerTime(2, 1)] * 5, {"Conv_0"}))
    first = compiled(tmp_path, quantize="int8", measure=False)
    first.statistics.save(tmp_path / "t.json")
    source = tmp_path / "s.onnx"
    result = edgecc.compile(
        source, "onnxruntime", tmp_path / "m.onnx", quantize="int8", calibration=str(tmp_path / "t.json")
    )
    expected = "Conv_0" if partly < 1 else "*"
    assert expected in result.recipe.all_passes[0]
