from __future__ import annotations

import hashlib
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgecc.errors import InvalidModelError, OptionError
from edgecc.measuring.compare import compare, recorded_source
from edgecc.measuring.correspondence import Boundary
from edgecc.running.runner import Runner
from edgecc.signature import Signature, TensorSpec

MakeRunner = Callable[..., Runner]
X = np.array([[1, 2, 3], [6, 5, 4]], np.float32)


def report(runner: Runner, **values: Any) -> None:
    runner.artifact.with_name(runner.artifact.name + ".report.json").write_text(json.dumps(values))


def test_equal_models(make_runner: MakeRunner) -> None:
    source = make_runner()
    result = compare([make_runner(), make_runner()], source)
    assert (result.source, result.data, result.samples) == (str(source.artifact), "random values (seed 0)", 8)
    assert len(result.comparisons) == 2
    for row in result.comparisons:
        assert (row.error, row.notes, row.accuracy) == ("", (), None)
        assert list(row.outputs) == ["y"]
        assert row.outputs["y"].max_abs == 0
        assert row.outputs["y"].sqnr_db == math.inf
        assert row.outputs["y"].top1 == 1.0


def test_difference_by_hand(make_runner: MakeRunner) -> None:
    worse = make_runner("def run(self):\n    self.y = self.x * 2\n    self.y[0, 2] = 0")
    result = compare([worse], make_runner(), {"x": X})
    figures = result.comparisons[0].outputs["y"]
    # 2x = (2, 4, 6), (12, 10, 8): squares sum to 364; the artifact lacks the 6.
    assert (figures.max_abs, figures.mean_abs, figures.relative) == (6, 1, 0.5)
    assert figures.sqnr_db == pytest.approx(10 * math.log10(364 / 36))
    assert figures.top1 == 0.5
    assert result.samples == 2


def test_labels_that_are_no_classes_are_a_note(make_runner: MakeRunner, tmp_path: Path) -> None:
    values = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=values, y=np.array([0, 1, 2, 1, 3]))
    result = compare([make_runner()], make_runner(), tmp_path / "data.npz")
    assert (result.accuracy, result.comparisons[0].accuracy) == (None, None)
    assert "no accuracy: label 3 is no class of the output" in result.comparisons[0].notes[0]


def test_accuracy_with_labels_and_a_last_batch_that_is_not_full(make_runner: MakeRunner, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    values = rng.standard_normal((5, 3)).astype(np.float32)
    labels = values.argmax(axis=1)
    labels[4] = (labels[4] + 1) % 3
    np.savez(tmp_path / "data.npz", x=values, y=labels)
    negated = make_runner("def run(self):\n    self.y = -self.x")
    result = compare([make_runner(), negated], make_runner(), tmp_path / "data.npz")
    assert result.samples == 5
    assert result.accuracy == pytest.approx(0.8)
    assert result.comparisons[0].accuracy == pytest.approx(0.8)
    assert result.comparisons[1].accuracy == pytest.approx(float((values.argmin(axis=1) == labels).mean()))
    assert result.comparisons[1].outputs["y"].cosine == pytest.approx(-1)
    assert compare([make_runner()], make_runner(), tmp_path / "data.npz", samples=3).samples == 3


def test_other_names_are_matched_by_order_and_said_so(make_runner: MakeRunner) -> None:
    body = """
inputs = [{"name": "input_1", "shape": [2, 3], "dtype": "float32"}]
outputs = [{"name": "Identity", "shape": [2, 3], "dtype": "float32"}]
def set_inputs(self, feeds): self.x = feeds["input_1"]
def get_outputs(self): return {"Identity": self.y}
"""
    (row,) = compare([make_runner(body)], make_runner()).comparisons
    assert row.outputs["y"].max_abs == 0
    assert row.notes == ("inputs are matched by order: x = input_1", "outputs are matched by order: y = Identity")


def test_recorded_layout_and_scale(make_runner: MakeRunner) -> None:
    body = """
inputs = [{"name": "x", "shape": [3, 2], "dtype": "int8"}]
outputs = [{"name": "out", "shape": [3, 2], "dtype": "float32"}]
def run(self): self.y = self.x.astype(np.float32) * 0.5 * 2
def get_outputs(self): return {"out": self.y}
"""
    runner = make_runner(body, name="other.fake")
    matches = [
        {"source": "x", "target": "x", "layout": [1, 0], "scale": 0.5, "zero_point": 0},
        {"source": "y", "target": "out", "layout": [1, 0], "scale": None, "zero_point": None},
    ]
    report(runner, correspondence=matches)
    (row,) = compare([runner], make_runner(), {"x": X}).comparisons
    assert row.error == ""
    assert row.notes == ()
    assert row.outputs["y"].max_abs == 0


def test_open_dimensions_of_the_source_are_as_the_artifact_has_them(make_runner: MakeRunner) -> None:
    body = 'inputs = [{"name": "x", "shape": [-1, -1], "dtype": "float32"}]'
    (row,) = compare([make_runner()], make_runner(body)).comparisons
    assert row.error == ""


def test_quantized_boundary_saturates() -> None:
    source = Signature((TensorSpec("x", "float32", (3,)),), (TensorSpec("y", "float32", (3,)),))
    target = Signature((TensorSpec("x", "uint8", (3,)),), (TensorSpec("y", "uint8", (3,)),))
    matches = [{"source": n, "target": n, "layout": None, "scale": 0.1, "zero_point": 100} for n in "xy"]
    boundary = Boundary.between(source, target, matches)
    stored = boundary.inputs({"x": np.array([0.0, 1.24, 99.0])})["x"]
    assert stored.tolist() == [100, 112, 255]
    assert stored.dtype == np.uint8
    restored = boundary.outputs({"y": stored})["y"]
    np.testing.assert_allclose(restored, [0, 1.2, 15.5], rtol=1e-6)
    assert restored.dtype == np.float32


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_a_crash_is_a_result(make_runner: MakeRunner) -> None:
    crashing = make_runner("def run(self):\n    os.kill(os.getpid(), signal.SIGSEGV)")
    unavailable = make_runner(missing="there is no GPU")
    rows = compare([crashing, unavailable, make_runner()], make_runner()).comparisons
    assert "SIGSEGV" in rows[0].error
    assert rows[0].outputs == {}
    assert "there is no GPU" in rows[1].error
    assert rows[2].error == ""


def test_artifact_of_another_source(make_runner: MakeRunner) -> None:
    body = 'inputs = [{"name": n, "shape": [2, 3], "dtype": "float32"} for n in "ab"]'
    (row,) = compare([make_runner(body)], make_runner()).comparisons
    assert "the artifact has 2 inputs, the source has 1" in row.error
    wrong = make_runner("def run(self):\n    self.y = self.x[:, :2]")
    (row,) = compare([wrong], make_runner()).comparisons
    assert "output 'y' has shape [2, 2], the source's has [2, 3]" in row.error


def test_source_that_is_not_known(make_runner: MakeRunner) -> None:
    runner = make_runner()
    with pytest.raises(InvalidModelError, match="the source to compare with is not known") as caught:
        compare([runner])
    assert caught.value.hint == "name it: --source MODEL.onnx"
    report(runner, recipe={"source": "gone.onnx"})
    with pytest.raises(InvalidModelError) as caught:
        compare([runner])
    assert caught.value.why == "model.fake was compiled from gone.onnx, which is not there"


def test_source_that_onnx_runtime_does_not_run(make_runner: MakeRunner) -> None:
    with pytest.raises(InvalidModelError, match=r"model\.h5 cannot be run as the source"):
        compare([make_runner()], "model.h5")


def sha256(*contents: bytes) -> str:
    digests = [hashlib.sha256(content).hexdigest() for content in contents]
    return digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()


def test_the_source_has_changed(make_runner: MakeRunner, tmp_path: Path) -> None:
    runner = make_runner()
    (tmp_path / "m.onnx").write_bytes(b"changed")
    report(runner, recipe={"source": "m.onnx"}, source_files=["m.onnx"], source_sha256=sha256(b"first"))
    notes: list[str] = []
    assert recorded_source([runner.artifact], notes) == tmp_path / "m.onnx"
    assert notes == [f"{tmp_path / 'm.onnx'} has changed since model.fake was compiled from it"]


def test_weights_beside_the_source_have_changed(make_runner: MakeRunner, tmp_path: Path) -> None:
    runner = make_runner()
    (tmp_path / "m.onnx").write_bytes(b"graph")
    (tmp_path / "m.data").write_bytes(b"weights")
    files = {"source_files": ["m.onnx", "m.data"], "source_sha256": sha256(b"graph", b"weights")}
    report(runner, recipe={"source": "m.onnx"}, **files)
    notes: list[str] = []
    assert recorded_source([runner.artifact], notes) == tmp_path / "m.onnx"
    assert notes == []
    (tmp_path / "m.data").write_bytes(b"others")
    recorded_source([runner.artifact], notes)
    assert notes == [f"{tmp_path / 'm.onnx'} has changed since model.fake was compiled from it"]


def test_the_source_where_it_was_compiled_and_not_a_stranger_of_its_name(
    make_runner: MakeRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The artifact was moved away; beside it lies another file called as the source."""
    runner = make_runner()
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "m.onnx").write_bytes(b"model")
    (tmp_path / "m.onnx").write_bytes(b"stranger")
    monkeypatch.chdir(tmp_path / "work")
    report(runner, recipe={"source": "m.onnx"}, source_files=["m.onnx"], source_sha256=sha256(b"model"))
    notes: list[str] = []
    assert recorded_source([runner.artifact], notes).resolve() == tmp_path / "work" / "m.onnx"
    assert notes == []


def test_a_model_in_memory_has_no_source(make_runner: MakeRunner, tmp_path: Path) -> None:
    runner = make_runner()
    (tmp_path / "g.onnx").write_bytes(b"stranger")
    report(runner, recipe={"source": "g.onnx"}, source_files=[], source_sha256="", model_sha256="0" * 64)
    with pytest.raises(InvalidModelError, match="the source to compare with is not known") as caught:
        recorded_source([runner.artifact], [])
    assert caught.value.why == "model.fake was compiled from a model in memory"
    assert caught.value.hint == "name it: --source MODEL.onnx"


def test_result_as_json(make_runner: MakeRunner) -> None:
    values = compare([make_runner()], make_runner()).to_dict()
    assert json.loads(json.dumps(values, allow_nan=False))["comparisons"][0]["outputs"]["y"]["sqnr_db"] == "inf"


def test_other_number_of_outputs() -> None:
    one = Signature((), (TensorSpec("y", "float32", ()),))
    with pytest.raises(OptionError, match="the artifact has 0 outputs, the source has 1"):
        Boundary.between(one, Signature((), ()), [])
