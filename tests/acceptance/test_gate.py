"""The gate: what each lossy pass cost is measured on samples that nothing was fitted to, and too much is taken back."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

import edgecc
from edgecc.acceptance.budget import LossBudget
from edgecc.acceptance.gate import Gate
from edgecc.data.calibration import CalibrationData, open_calibration
from edgecc.errors import DataError, OptionError
from edgecc.model import Model, value_of
from edgecc.passes.base import Loss, Pass, PassContext
from edgecc.passes.pipeline import PassPipeline, PipelineResult

RNG = np.random.default_rng(0)
WEIGHTS = np.random.default_rng(3).standard_normal((6, 4)).astype(np.float32)
TEXT = "g (float[1,6] x) => (float[1,4] y) { y = MatMul(x, w) }"


class Scale(Pass):
    """Multiply the weights of the first column: its score is the largest more often then."""

    name: ClassVar[str] = "scale"
    loss: ClassVar[Loss] = Loss.LOSSY
    by: float = 2.0

    def run(self, model: Model, ctx: PassContext) -> bool:
        node = model.nodes("MatMul")[0]
        values = value_of(node.inputs[1])
        assert values is not None
        ctx.done(node, f"scaled by {self.by:g}")
        ctx.note(f"scaled by {self.by:g}")
        model.set_input(node, 1, model.constant("scaled", values * np.array([self.by, 1, 1, 1], np.float32)))
        return self.by != 1


class Mend(Scale):
    """The same, behind another one."""

    name: ClassVar[str] = "mend"
    needs_float_model: ClassVar[bool] = True


class ScaleAndQuantize(Scale):
    """The same, said to quantize."""

    name: ClassVar[str] = "scale-and-quantize"
    quantizes: ClassVar[bool] = True


def net(text: str = TEXT) -> Model:
    return Model.from_text(text, {"w": WEIGHTS})


def data(count: int, model: Model | None = None, labels: bool = False) -> CalibrationData:
    values = {"x": np.random.default_rng(5).standard_normal((count, 6)).astype(np.float32)}
    if labels:
        values["y"] = (values["x"] @ WEIGHTS).argmax(axis=1)
    found = open_calibration(values, (model or net()).signature)
    assert isinstance(found, CalibrationData)
    return found


def gated(
    passes: list[Pass], budget: LossBudget, samples: int = 100, labels: bool = False
) -> tuple[Model, Gate, PassContext, PipelineResult]:
    model, ctx, pipeline = net(), PassContext(None, RNG), PassPipeline(passes)
    pipeline.gate = Gate(budget, data(samples, labels=labels))
    return model, pipeline.gate, ctx, pipeline.run(model, ctx)


@pytest.mark.parametrize("alike", [True, False])
def test_samples_that_are_all_the_same_are_no_evidence(alike: bool) -> None:
    values = np.zeros((20, 6), np.float32) if alike else np.eye(20, 6, dtype=np.float32)
    samples = open_calibration(values, net().signature)
    assert isinstance(samples, CalibrationData)
    gate, pipeline = Gate(held_out=samples), PassPipeline([Scale(), Scale(by=3.0)])
    pipeline.gate = gate
    pipeline.run(net(), PassContext(None))
    assert [note.startswith("all 20 samples that losses are measured on are the same") for note in gate.notes] == (
        [True] if alike else []
    )


def first_column(model: Model) -> float:
    """By what it was multiplied."""
    values = value_of(model.nodes("MatMul")[0].inputs[1])
    assert values is not None
    return float(values[0, 0] / WEIGHTS[0, 0])


def agreement(by: float, samples: int = 100) -> float:
    feeds = np.concatenate([call["x"] for call in data(samples).samples()])
    expected, found = feeds @ WEIGHTS, feeds @ (WEIGHTS * np.array([by, 1, 1, 1], np.float32))
    return float((expected.argmax(axis=1) == found.argmax(axis=1)).mean())


def test_each_step_is_measured_against_the_source() -> None:
    _, gate, _, _ = gated([Scale(by=1.25), Scale(by=2)], LossBudget())
    found = gate.losses()
    assert found is not None
    assert (found.samples, found.held_out) == (100, True)
    assert [step.step for step in found.steps] == ["scale:by=1.25", "scale"]
    shares = [step.agreement() for step in found.steps]
    assert [share and share[0] for share in shares] == pytest.approx([agreement(1.25), agreement(2.5)])
    # Of 24 MACs and 96 bytes nothing goes.
    assert {(step.macs, step.weight_bytes) for step in found.steps} == {(24, 96)}
    # What is added is 1.5 times a quarter of the outputs: 10 log10(4 / 1.5²), up to the columns' sizes.
    assert found.steps[1].outputs["y"].sqnr_db == pytest.approx(2.5, abs=3)


def test_more_than_the_budget_is_taken_back() -> None:
    drop = 100 * (1 - agreement(4))
    assert 5 < drop < 60, "the test is about something"
    model, gate, ctx, result = gated([Scale(by=4)], LossBudget(max_drop=drop - 1))
    assert first_column(model) == 1
    assert not result.records[0].changed
    assert ctx.changes == []
    assert result.notes == []
    found = gate.losses()
    assert found is not None
    assert found.kept is None
    (note,) = gate.notes
    assert note.startswith(f"scale:by=4.0 was taken back: {drop:.1f} points of agreement are lost in output 'y' (")
    assert note.endswith(f"on 100 samples), and max_drop allows {drop - 1:g}")
    assert found.steps[0].taken_back in note


def test_as_much_as_the_budget_is_kept() -> None:
    model, gate, ctx, result = gated([Scale(by=4)], LossBudget(max_drop=100 * (1 - agreement(4))))
    assert first_column(model) == 4
    assert result.records[0].changed
    assert len(ctx.changes) == 1
    assert gate.notes == []


def test_the_budget_is_for_all_passes_together() -> None:
    """The second alone would be within it, and what is behind goes on from the first."""
    drop = 100 * (1 - agreement(2))
    model, gate, ctx, result = gated([Scale(by=2), Scale(by=1.9), Scale(by=0.9)], LossBudget(max_drop=drop))
    assert first_column(model) == pytest.approx(1.8)
    found = gate.losses()
    assert found is not None
    assert [bool(step.taken_back) for step in found.steps] == [False, True, False]
    assert found.kept is found.steps[2]
    assert [change.what for change in ctx.changes] == ["scaled by 2", "scaled by 0.9"]
    assert result.notes == ["scaled by 2", "scaled by 0.9"]


def test_what_is_mended_is_judged_with_what_mends_it() -> None:
    model, gate, _, _ = gated([Scale(by=4), Mend(by=0.25)], LossBudget(max_drop=1))
    assert first_column(model) == 1
    assert gate.notes == []
    found = gate.losses()
    assert found is not None
    assert [bool(step.taken_back) for step in found.steps] == [False, False]


@pytest.mark.parametrize("by", [0.5, 1.0])
def test_what_is_not_mended_enough_goes_with_what_was_to_mend_it(by: float) -> None:
    """By 1, the second one changes nothing at all."""
    model, gate, ctx, result = gated([Scale(by=4), Mend(by=by)], LossBudget(max_drop=1))
    assert first_column(model) == 1
    assert [record.changed for record in result.records] == [False, False]
    assert ctx.changes == []
    assert result.notes == []
    assert "taken back" in gate.notes[0]


def test_what_does_not_mend_goes_alone() -> None:
    model, gate, _, _ = gated([Scale(by=1.01), Mend(by=4)], LossBudget(max_drop=2))
    assert first_column(model) == pytest.approx(1.01)
    assert gate.notes[0].startswith("mend:by=4.0 was taken back")


@pytest.mark.parametrize(("by", "kept"), [(1.01, True), (8.0, False)])
def test_models_around_what_quantizes(by: float, kept: bool) -> None:
    _, gate, ctx, _ = gated([Scale(by=1.01), ScaleAndQuantize(by=by)], LossBudget(max_drop=3))
    assert (gate.before is not None, gate.after is not None) == (kept, kept)
    assert ctx.float_model is None
    found = gate.losses()
    assert found is not None
    assert (found.quantization is not None) == kept
    if gate.before is not None and gate.after is not None:
        assert first_column(gate.before) == pytest.approx(1.01)
        assert first_column(gate.after) == pytest.approx(1.01**2)


def test_sqnr_of_every_output() -> None:
    model, gate, _, _ = gated([Scale(by=1.01), Scale(by=4)], LossBudget(min_sqnr=20))
    assert first_column(model) == pytest.approx(1.01)
    assert "output 'y' has an SQNR of " in gate.notes[0]
    assert gate.notes[0].endswith("dB, and min_sqnr asks for 20")


def test_accuracy_where_there_are_labels() -> None:
    _, gate, _, _ = gated([Scale(by=4)], LossBudget(), labels=True)
    found = gate.losses()
    assert found is not None
    assert found.accuracy == 1
    assert found.steps[0].accuracy == pytest.approx(agreement(4))


def test_a_drop_of_zero_is_no_sample_at_all() -> None:
    model, _, _, _ = gated([Scale(by=1.001)], LossBudget(max_drop=0), samples=3)
    assert first_column(model) == pytest.approx(1.001)
    assert first_column(gated([Scale(by=4)], LossBudget(max_drop=0))[0]) == 1


def test_too_few_samples_for_the_budget() -> None:
    with pytest.raises(DataError, match=r"max_drop=0\.5 needs 200 samples that are held out, and there") as error:
        gated([Scale(by=4)], LossBudget(max_drop=0.5), samples=64)
    assert error.value.why == "one sample of 64 is 1.6 points; max_drop=2 allows 2 of 100"
    assert error.value.hint == "give 1600 samples with --calibration, or 200 others with --held-out DATA.npz"
    gated([Scale(by=4)], LossBudget(max_drop=0.5), samples=200)


def test_more_calls_than_without_a_budget() -> None:
    _, gate, _, _ = gated([Scale(by=4)], LossBudget(max_drop=0.1), samples=1000)
    found = gate.losses()
    assert found is not None
    assert found.samples == 1000


def test_no_samples() -> None:
    for samples in (None, data(4)):
        pipeline = PassPipeline([Scale(by=4)])
        pipeline.gate = Gate(LossBudget(min_sqnr=10), None, samples)
        with pytest.raises(DataError, match="min_sqnr"):
            pipeline.run(net(), PassContext(None, RNG))


def test_no_class_scores() -> None:
    model = Model.from_text(
        "g (float[1,6] x) => (float[4] z) <int64[1] s = {4}> { y = MatMul(x, w) z = Reshape(y, s) }", {"w": WEIGHTS}
    )
    pipeline = PassPipeline([Scale(by=4)])
    pipeline.gate = Gate(LossBudget(max_drop=2), data(100, model))
    with pytest.raises(OptionError, match="no output of the model is class scores") as error:
        pipeline.run(model, PassContext(None, RNG))
    assert "--min-sqnr 20" in error.value.hint
    pipeline = PassPipeline([Scale(by=4)])
    pipeline.gate = Gate(LossBudget(min_sqnr=20), data(100, model))
    pipeline.run(model, PassContext(None, RNG))
    assert first_column(model) == 1


@pytest.mark.parametrize("budget", [LossBudget(max_drop=2), LossBudget(min_sqnr=20)])
def test_no_floating_point_output(budget: LossBudget) -> None:
    text = "g (float[1,6] x) => (int64[1,1] z) { y = MatMul(x, w)  z = ArgMax<axis = 1>(y) }"
    model, pipeline = net(text), PassPipeline([Scale(by=4)])
    pipeline.gate = Gate(budget, data(100, model))
    with pytest.raises(OptionError, match="is about floating point outputs, and the model has none"):
        pipeline.run(model, PassContext(None, RNG))
    model, pipeline = net(text), PassPipeline([Scale(by=4)])
    pipeline.gate = Gate(LossBudget(), data(100, model))
    pipeline.run(model, PassContext(None, RNG))
    found = pipeline.gate.losses()
    assert found is not None
    assert (found.samples, found.steps[0].outputs) == (100, {})


def test_nan_is_beyond_every_budget() -> None:
    model, _, _, _ = gated([Scale(by=1e38)], LossBudget(min_sqnr=-100))
    assert first_column(model) == 1


def test_without_a_budget_or_samples_all_is_kept() -> None:
    model, pipeline = net(), PassPipeline([Scale(by=4)])
    pipeline.gate = Gate()
    pipeline.run(model, PassContext(None, RNG))
    assert first_column(model) == 4
    found = pipeline.gate.losses()
    assert found is not None
    assert (found.samples, found.steps[0].outputs) == (0, {})


def test_the_source_runs_once_on_each_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    from edgecc.acceptance import losses

    calls: list[int] = []
    real = losses.Session.run
    monkeypatch.setattr(losses.Session, "run", lambda self, feeds: calls.append(id(self)) or real(self, feeds))
    _, gate, _, _ = gated([Scale(by=1.25), Scale(by=2)], LossBudget(max_drop=99))
    assert len(calls) == 3 * 100
    assert sorted(calls.count(session) for session in set(calls)) == [100, 100, 100]
    # What is too large to be kept runs again, with the same result.
    first = gate.losses()
    monkeypatch.setattr(losses, "_KEPT", 10 * 16)
    calls.clear()
    assert gated([Scale(by=1.25), Scale(by=2)], LossBudget(max_drop=99))[1].losses() == first
    # Ten are kept, of which the first was asked for before all the others too.
    assert len(calls) == 4 * 100 - 10


def test_samples_that_are_others_when_they_are_read_again() -> None:
    """A function that does not do what it should is measured on what it gave."""
    rng = np.random.default_rng(0)
    given = open_calibration(
        lambda: [{"x": rng.standard_normal((1, 6), np.float32)} for _ in range(100)], net().signature
    )
    assert isinstance(given, CalibrationData)
    pipeline = PassPipeline([Scale(by=1.0001), Scale(by=1.0001)])
    pipeline.gate = Gate(held_out=given)
    pipeline.run(net(), PassContext(None, RNG))
    found = pipeline.gate.losses()
    assert found is not None
    assert min(step.outputs["y"].sqnr_db for step in found.steps) > 60


class Spy(Pass):
    """Counts the samples that a pass sees."""

    name: ClassVar[str] = "spy"
    loss: ClassVar[Loss] = Loss.LOSSY
    seen: ClassVar[list[int]] = []

    def run(self, model: Model, ctx: PassContext) -> bool:
        assert ctx.calibration is not None
        Spy.seen.append(sum(1 for _ in ctx.calibration.samples()))
        return False


@pytest.fixture
def spy(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    from edgecc.registry import Registry

    real = Registry.pass_class
    monkeypatch.setattr(Registry, "pass_class", lambda self, name: Spy if name == "spy" else real(self, name))
    Spy.seen.clear()
    return Spy.seen


@pytest.mark.parametrize(("apart", "seen"), [(False, 56), (True, 64)])
def test_passes_do_not_see_what_is_held_out(spy: list[int], apart: bool, seen: int, tmp_path: Path) -> None:
    given = {"x": np.random.default_rng(5).standard_normal((64, 6)).astype(np.float32)}
    others = {"x": np.random.default_rng(6).standard_normal((16, 6)).astype(np.float32)} if apart else None
    edgecc.compile(
        net(), "onnxruntime", tmp_path / "m.onnx", passes=["spy"], calibration=given, held_out=others, max_drop=20
    )
    assert spy == [seen]
