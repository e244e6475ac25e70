"""Artifacts against each other, in steps of their integers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import edgecc
from edgecc.measuring.compare import compare
from edgecc.measuring.parity import ParityMeter
from edgecc.model import Model
from edgecc.running.runner import Runner

MakeRunner = Callable[..., Runner]
X = np.array([[1, 2, 3], [6, 5, 4]], np.float32)


def test_figures_by_hand() -> None:
    meter = ParityMeter({"a": {"y": 0.5}, "b": {"y": 0.25}})
    first, second = np.array([[0.0, 1.0, 2.0]]), np.array([[0.0, 1.2, 0.5]])
    meter.add([("a", {"y": first}), ("b", {"y": second})])
    meter.add([("a", {"y": first}), ("b", {"y": first})])
    (row,) = meter.result()
    assert (row.first, row.second, row.output, row.step) == ("a", "b", "y", 0.5)
    # 2 - 0.5 is three of the coarser steps; 0.2 is less than half of one.
    assert (row.max_abs, row.max_steps) == (1.5, 3.0)
    assert row.equal == pytest.approx(5 / 6)
    assert row.top1 == 0.5


def test_without_steps_values_are_equal_or_not() -> None:
    meter = ParityMeter({})
    values = np.array([np.nan, np.inf, 1.0])
    meter.add([("a", {"y": values}), ("b", {"y": values + np.array([0, 0, 1e-9])})])
    (row,) = meter.result()
    assert (row.step, row.max_steps) == (None, None)
    assert row.equal == pytest.approx(2 / 3)


def test_every_pair_that_runs(make_runner: MakeRunner) -> None:
    fails = make_runner("def run(self): raise RuntimeError('no')", name="c.fake")
    runners = [make_runner(name="a.fake"), make_runner(name="b.fake"), fails]
    for runner in runners:
        report = runner.artifact.with_name(runner.artifact.name + ".report.json")
        report.write_text(json.dumps({"output_steps": {"y": 2.0}}))
    result = compare(runners, make_runner(), {"x": X})
    assert [(Path(row.first).name, Path(row.second).name, row.max_steps) for row in result.parity] == [
        ("a.fake", "b.fake", 0.0)
    ]
    assert json.loads(json.dumps(result.to_dict()["parity"]))[0]["step"] == 2.0


def test_one_artifact_has_no_peer(make_runner: MakeRunner) -> None:
    assert compare([make_runner()], make_runner(), {"x": X}).parity == ()


def test_one_model_quantized_for_two_targets(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    constants = {
        "w": rng.standard_normal((4, 3, 3, 3)).astype(np.float32),
        "m": rng.standard_normal((4, 5)).astype(np.float32),
    }
    text = """g (float[1,3,8,8] x) => (float[1,5] y) {
        a = Conv(x, w)  r = Relu(a)  p = GlobalAveragePool(r)  f = Flatten(p)  y = MatMul(f, m) }"""
    Model.from_text(text, constants).save(tmp_path / "s.onnx")
    samples = {"x": rng.standard_normal((64, 3, 8, 8)).astype(np.float32)}
    for target, name in (("tflite", "m.tflite"), ("onnxruntime", "m.onnx")):
        edgecc.compile(tmp_path / "s.onnx", target, tmp_path / name, passes="quantize-static", calibration=samples)
    np.savez(tmp_path / "d.npz", **samples)
    (row,) = compare([tmp_path / "m.tflite", tmp_path / "m.onnx"], data=tmp_path / "d.npz").parity
    assert row.step is not None
    assert row.max_steps is not None
    # Scales are the same; kernels round a value that lies between two steps up or down, and the next layer sums them.
    assert row.max_steps <= 2.01
    assert row.top1 is not None
    assert row.top1 >= 0.95
