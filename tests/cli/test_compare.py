"""`edgecc compare`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., "Outcome"]  # noqa: F821 - of conftest.py
DATA = Path(__file__).resolve().parents[2] / "examples" / "digits" / "digits.npz"


@pytest.fixture
def artifact(edgecc: Run, digits: Path) -> str:
    """The digits model for TFLite, beside its source."""
    assert edgecc("compile", digits.name, "-o", "digits.tflite").code == 0
    return "digits.tflite"


def test_shows_what_was_lost_and_what_it_costs(edgecc: Run, artifact: str) -> None:
    done = edgecc("compare", artifact, "--data", DATA, "--samples", "16")
    assert (done.code, done.err) == (0, "")
    assert f"against digits.onnx on {DATA}" in done.out
    assert "accuracy of the source: " in done.out
    for column in ("max error", "SQNR", "cosine", "top-1 agreement", "accuracy", "median", "peak memory"):
        assert column in done.out


def test_json_has_the_same_facts(edgecc: Run, artifact: str) -> None:
    facts = json.loads(edgecc("compare", artifact, "--data", DATA, "--samples", "16", "--no-latency", "--json").out)
    (row,) = facts["comparisons"]
    assert facts["samples"] == 16
    assert facts["costs"] == []
    assert row["accuracy"] == facts["accuracy"]
    # Float32 on both sides; LiteRT sums in another order than ONNX Runtime.
    assert row["outputs"]["logits"]["relative"] < 1e-5
    assert row["outputs"]["logits"]["top1"] == 1.0


def test_without_data_says_that_values_are_random(edgecc: Run, artifact: str) -> None:
    assert "against digits.onnx on random values (seed 0)" in edgecc("compare", artifact, "--no-latency").out


def test_an_artifact_without_a_report_needs_the_source(edgecc: Run, artifact: str) -> None:
    shutil.copy(artifact, "alone.tflite")
    done = edgecc("compare", "alone.tflite", "--no-latency")
    assert done.code == 2
    assert "the source to compare with is not known\n  try: name it: --source MODEL.onnx" in done.err
    assert edgecc("compare", "alone.tflite", "--source", "digits.onnx", "--no-latency").code == 0


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("no.tflite",), "no.tflite does not exist"),
        (("digits.tflite", "--source", "no.onnx"), "no.onnx does not exist"),
        (("digits.tflite", "--data", "no.npz"), "no.npz does not exist"),
        (("digits.tflite", "--target", "tflight"), "unknown target 'tflight'"),
    ],
)
def test_wrong_request(words: tuple[str, ...], text: str, edgecc: Run, artifact: str) -> None:
    done = edgecc("compare", *words, "--no-latency")
    assert (done.code, done.out) == (2, "")
    assert text in done.err
    assert "Traceback" not in done.err
