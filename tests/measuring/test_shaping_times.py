"""Budgets of time become budgets of work: what is timed is real, what decides is given by the test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgecc
from edgecc.backend import Availability
from edgecc.errors import OptionError, UnavailableError
from edgecc.inspection import inspect_model
from edgecc.measuring import racing, shaping_times
from edgecc.measuring.benchmark import BenchmarkResult
from edgecc.measuring.layer_times import LayerClock
from edgecc.measuring.shaping_times import LayerPair, ShapingChoice, Try
from edgecc.model import Model

RNG = np.random.default_rng(0)
SHAPES = {"w": (16, 3, 3, 3), "v": (16, 16, 3, 3), "z": (12, 16, 3, 3), "u": (12, 5)}
CONSTANTS = {name: (RNG.standard_normal(shape) / 5).astype(np.float32) for name, shape in SHAPES.items()}
TEXT = """g (float[1,3,8,8] x) => (float[1,5] y) {
    a = Conv<pads = [1, 1, 1, 1]>(x, w)  b = Relu(a)  c = Conv<pads = [1, 1, 1, 1]>(b, v)  d = Relu(c)
    e = Conv<pads = [1, 1, 1, 1]>(d, z)  p = GlobalAveragePool(e)  f = Flatten(p)  y = MatMul(f, u) }"""
SAMPLES = {"x": RNG.standard_normal((32, 3, 8, 8)).astype(np.float32)}


class Machine:
    """Says how long models take: the time that a function gives for their share of the first one's work."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, time: Callable[[float], float]) -> None:
        self.shares: list[float] = []

        def race(paths: list[Path], **options: Any) -> list[BenchmarkResult]:
            first, second = (inspect_model(edgecc.load(path)).macs for path in paths)
            self.shares.append(second / first)
            return [
                BenchmarkResult("m", "t", min=2 * seconds, versions={"fake": "1"})
                for seconds in (1.0, time(second / first))
            ]

        monkeypatch.setattr(racing, "benchmark", race)


def compiled(tmp_path: Path, target: str = "onnxruntime", **options: Any) -> edgecc.CompileResult:
    Model.from_text(TEXT, CONSTANTS).save(tmp_path / "s.onnx")
    suffix = "tflite" if target == "tflite" else "onnx"
    return edgecc.compile(tmp_path / "s.onnx", target, tmp_path / f"m.{suffix}", calibration=SAMPLES, **options)


def share(result: edgecc.CompileResult) -> float:
    assert result.losses is not None
    return inspect_model(result.model).macs / result.losses.macs


@pytest.mark.parametrize("key", ["prune", "low_rank"])
def test_the_largest_share_that_is_fast_enough(key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that takes 0.2 of the time for nothing: 0.7 is reached at 0.625 of the work."""
    machine = Machine(monkeypatch, lambda work: 0.2 + 0.8 * work)
    result = compiled(tmp_path, **{key: "latency=0.7"}, measure=False)
    found = getattr(result.recipe, key)
    assert found.startswith("macs=0.6")
    # A channel is a sixteenth of nearly all; ranks are finer.
    assert 0.55 < share(result) <= 0.625
    # Seven halvings for all numbers of channels, and as many for multiples of 8, which leave no more here.
    assert len(machine.shares) <= 16
    (timed,) = result.artifact.report["shaped"]
    assert timed["wanted"] == 0.7
    best = max(t["left"] for t in timed["tried"] if t["time"] <= 0.7)
    assert share(result) == pytest.approx(best, abs=1e-4)
    assert any(note.startswith(f"latency=0.7: {timed['chosen']} takes 0.") for note in result.notes)


def test_multiples_that_kernels_like(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where other numbers of channels take half as long again, as with blocked layouts, more of them are left."""

    def race(paths: list[Path], **options: Any) -> list[BenchmarkResult]:
        times = []
        for path in paths:
            model = edgecc.load(path)
            # 12 has the last layer to begin with.
            odd = any(node.inputs[1].shape[0] % 8 for node in model.nodes("Conv") if node.inputs[1].shape[0] != 12)
            times.append(inspect_model(model).macs * (1.5 if odd else 1.0))
        return [BenchmarkResult("m", "t", min=seconds, versions={"fake": "1"}) for seconds in times]

    monkeypatch.setattr(racing, "benchmark", race)
    result = compiled(tmp_path, low_rank="latency=0.6", measure=False)
    assert str(result.recipe.low_rank).endswith(",multiple=8")
    outputs = [node.inputs[1].shape[0] for node in result.model.nodes("Conv") if node.name != "Conv_4"]
    assert all(count % 8 == 0 for count in outputs)
    (timed,) = result.artifact.report["shaped"]
    fast = [one for one in timed["tried"] if one["time"] <= 0.6]
    plain, rounded = (max(o["left"] for o in fast if ("multiple" in o["step"]) is is_it) for is_it in (False, True))
    assert rounded > plain


def test_the_recorded_recipe_gives_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Machine(monkeypatch, lambda work: work)
    slower(monkeypatch)
    result = compiled(tmp_path, prune="latency=0.6", low_rank="latency=0.8", quantize="int8-weights", measure=True)
    first, recorded = result.path.read_bytes(), result.artifact.report["recipe"]
    assert recorded["measure"] is False
    assert len(result.artifact.report["shaped"]) == 2
    machine = Machine(monkeypatch, lambda work: 1 / 0)
    again = compiled(tmp_path, **{key: recorded[key] for key in ("prune", "low_rank", "quantize", "measure")})
    assert machine.shares == []
    assert again.path.read_bytes() == first


def test_a_pass_that_the_user_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Machine(monkeypatch, lambda work: work)
    options = "latency=0.6,criterion=magnitude,repair=false"
    result = compiled(tmp_path, passes=["fold-batchnorm", f"prune-channels:{options}"])
    assert result.recipe.passes[0] == "fold-batchnorm"
    assert result.recipe.passes[1].startswith("prune-channels:macs=0.")
    assert share(result) <= 0.6


def test_a_time_that_is_not_reached_says_how_far_it_got(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, lambda work: 0.5 + 0.5 * work)
    result = compiled(tmp_path, prune="latency=0.3,criterion=magnitude,repair=false")
    assert len(machine.shares) == 2
    note = next(note for note in result.notes if note.startswith("latency=0.3 is not reached"))
    assert "the least that prune-channels can leave takes 0.5" in note
    assert "--quantize int8" in note
    # It goes as far as it can.
    assert share(result) < 0.1


def test_the_second_pass_is_timed_against_what_the_first_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Machine(monkeypatch, lambda work: work)
    slower(monkeypatch)
    result = compiled(tmp_path, prune="latency=0.6,criterion=magnitude,repair=false", low_rank="latency=0.8")
    assert result.losses is not None
    first, second = (step.macs / result.losses.macs for step in result.losses.steps)
    assert 0.5 < first <= 0.6
    assert 0.7 * first < second <= 0.8 * first


@pytest.mark.parametrize("target", ["onnxruntime", "tflite"])
def test_real_times(target: str, tmp_path: Path) -> None:
    result = compiled(
        tmp_path, target, prune="latency=0.8,criterion=magnitude,repair=false", low_rank=0.2, measure=True
    )
    first, second = result.artifact.report["shaped"]
    assert all(0 < one["time"] < 10 for one in first["tried"])
    assert second["layers"], "no layer was timed alone"
    assert all(pair["before"] > 0 and pair["after"] > 0 for pair in second["layers"]), "one of them did not run"


def factors_of(model: Model) -> set[str]:
    """Names of the layers that are in factors."""
    return {node.name.partition("/factor")[0] for node in model.nodes() if "/factor" in node.name}


def slower(monkeypatch: pytest.MonkeyPatch, *names: str) -> list[int]:
    """Say that those layers take longer in factors; what others take is half. How many were timed each time is kept."""
    counts: list[int] = []

    def pairs(self: LayerClock, forms: Any, seconds: float, progress: Any) -> list[tuple[float, float]]:
        ends = [whole.outputs[0].name for whole, _ in forms]
        counts.append(len(ends))
        return [(1.0, 1.2 if name in names else 0.5) for name in ends]

    monkeypatch.setattr(LayerClock, "pairs", pairs)
    return counts


def test_layers_that_are_slower_in_factors_stay_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Machine(monkeypatch, lambda work: work)
    counts = slower(monkeypatch, "c")
    result = compiled(tmp_path, low_rank=0.3)
    assert result.recipe.low_rank == 'macs=0.7,whole=["Conv_2"]'
    assert result.recipe.measure is False
    assert len(counts) == 2
    factors = factors_of(result.model)
    assert factors
    assert "Conv_2" not in factors
    note = next(note for note in result.notes if note.startswith("measured here ("))
    assert "1 layer stays whole, which is slower in factors, and --no-measure factorizes them too" in note


def test_all_layers_slower(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Machine(monkeypatch, lambda work: work)
    slower(monkeypatch, "a", "c", "e", "y")
    result = compiled(tmp_path, low_rank=0.3)
    assert not factors_of(result.model)
    assert any(
        note.startswith("factorize-low-rank: 100% of the multiply-accumulates are left") for note in result.notes
    )


@pytest.mark.parametrize(
    ("options", "timed"),
    [
        ({"low_rank": 0.3}, True),
        ({"low_rank": 0.3, "measure": False}, False),
        ({"passes": "factorize-low-rank:macs=0.7"}, False),
        ({"passes": "factorize-low-rank:macs=0.7", "measure": True}, True),
        ({"passes": "factorize-low-rank:energy=0.9", "measure": True}, True),
        ({"low_rank": 0.3, "target": "tflite"}, False),
        ({"prune": "0.3,criterion=magnitude,repair=false", "measure": True}, False),
    ],
)
def test_when_layers_are_timed(
    options: dict[str, Any], timed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Machine(monkeypatch, lambda work: work)
    counts = slower(monkeypatch)
    result = compiled(tmp_path, **options)
    assert bool(counts) is timed
    assert bool(result.artifact.report["shaped"]) is timed


def cannot_run(monkeypatch: pytest.MonkeyPatch) -> None:
    from edgecc.registry import default_registry

    backend = type(default_registry().backend("onnxruntime"))
    monkeypatch.setattr(backend, "can_compile", lambda self: Availability())
    monkeypatch.setattr(backend, "can_run", lambda self: Availability("there is no such device", "buy one"))


def test_without_a_runtime_factors_are_not_timed_and_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cannot_run(monkeypatch)
    result = compiled(tmp_path, low_rank=0.3)
    assert (
        "whether layers are faster behind factorize-low-rank was not measured: there is no such device" in result.notes
    )
    assert factors_of(result.model)


def test_without_a_runtime_there_is_no_budget_of_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cannot_run(monkeypatch)
    with pytest.raises(UnavailableError, match=r"latency=0\.7 of pass 'prune-channels' is measured") as error:
        compiled(tmp_path, prune="latency=0.7")
    assert error.value.why == "there is no such device"
    assert error.value.hint == "macs=0.7 leaves that share of the multiply-accumulates; buy one"


def test_a_runtime_that_fails_is_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = [BenchmarkResult("m", "onnxruntime", error="it crashed")] * 2
    monkeypatch.setattr(racing, "benchmark", lambda paths, **options: failed)
    result = compiled(tmp_path, low_rank=0.3)
    assert any("was not measured: it crashed" in note for note in result.notes)


def test_two_budgets(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="takes one of macs, params, bytes, latency and ratio"):
        compiled(tmp_path, prune="latency=0.7,macs=0.5")


def test_what_is_known_of_a_pair() -> None:
    assert not LayerPair("n", 1.0, 1.04).is_slower, "less than can be measured"
    assert LayerPair("n", 1.0, 1.06).is_slower
    assert not LayerPair("n", 0.0, 0.0).is_slower, "it did not run alone"
    choice = ShapingChoice(
        "s", "s", wanted=0.5, tried=(Try("a", 0.9, 0.2, 0.4), Try("b", 0.6, 0.6, 0.7), Try("c", 0.4, 0.4, 0.5))
    )
    assert choice.best == Try("c", 0.4, 0.4, 0.5)
    assert shaping_times.ShapingChoice("s", "s").best is None


@pytest.mark.parametrize(("time", "words"), [(0.68, "latency=0.7: p:macs=0.6"), (0.83, "latency=0.7 is not reached")])
def test_the_note_is_about_what_runs(time: float, words: str) -> None:
    tried, layers = (Try("p:macs=0.6", 0.6, 0.6, 0.69),), (LayerPair("n", 1.0, 2.0),)
    chosen = 'p:macs=0.6,ignore=["n"]'
    choice = shaping_times.ShapingChoice("p:latency=0.7", chosen, "cpu", 0.7, tried, layers, time)
    note = choice.notes()[0]
    assert note.startswith(words)
    assert f"{chosen} takes {time:.2f} of the time" in note
