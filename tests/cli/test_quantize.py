"""`edgecc compile --quantize int8`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from .conftest import Outcome

Run = Callable[..., Outcome]


@pytest.fixture
def data(digits: Path) -> Path:
    rng = np.random.default_rng(0)
    np.savez("d.npz", image=rng.standard_normal((64, 1, 8, 8)).astype(np.float32), labels=np.arange(64) % 10)
    return digits


@pytest.mark.parametrize("output", ["out.onnx", "out.tflite"])
def test_says_what_was_lost(edgecc: Run, data: Path, output: str) -> None:
    words = ("compile", "digits.onnx", "-o", output, "--quantize", "int8", "--calibration", "d.npz", "--no-measure")
    done = edgecc(*words)
    assert done.code == 0, done.err
    assert "100.0 % of multiply-accumulates are computed with integers" in done.out
    assert "against the source, on 8 held-out samples\n" in done.out
    assert "accuracy" in done.out
    assert "least exact layers" in done.out
    report = json.loads(Path(f"{output}.report.json").read_text())
    assert report["recipe"]["quantize"] == "int8"
    assert report["calibration"]["samples"] == 56
    assert report["quantization"]["integer_macs"] == 1.0
    assert report["losses"]["samples"] == 8
    assert 0 <= report["losses"]["steps"][0]["accuracy"] <= 1


def test_measures_what_is_faster_here(edgecc: Run, data: Path) -> None:
    done = edgecc("compile", "digits.onnx", "-o", "out.onnx", "--quantize", "int8", "--calibration", "d.npz")
    assert done.code == 0, done.err
    assert "note: measured here (" in done.err or "note: nothing is quantized: integers are " in done.err
    report = json.loads(Path("out.onnx.report.json").read_text())
    assert report["measured"]["integers"]["median"] > 0
    # Whatever the machine said, the recipe that is recorded says it too.
    assert report["recipe"]["measure"] is False
    kept = report["measured"]["ignore"]
    assert [json.dumps(name) in str(report["recipe"]["passes"]) for name in kept] == [True] * len(kept)


def test_without_data(edgecc: Run, data: Path) -> None:
    done = edgecc("compile", "digits.onnx", "-o", "out.onnx", "--quantize", "int8")
    assert done.code == 2
    assert "pass 'quantize-static' needs calibration data" in done.err
    assert "add --calibration DATA.npz" in done.err
    assert not Path("out.onnx").exists()


def test_saved_statistics_serve_every_target(edgecc: Run, data: Path) -> None:
    common = ("compile", "digits.onnx", "--quantize", "int8", "--no-measure", "--calibration")
    first = edgecc(*common, "d.npz", "-o", "out.onnx", "--save-statistics", "t.json")
    assert first.code == 0, first.err
    done = edgecc(*common, "t.json", "-o", "out.tflite")
    assert done.code == 0, done.err
    assert "give samples, not only statistics" in done.out


def test_random_values_are_called_that(edgecc: Run, data: Path) -> None:
    done = edgecc("compile", "digits.onnx", "-o", "o.onnx", "--quantize", "int8", "--calibration", "random")
    assert done.code == 0, done.err
    assert "CALIBRATED ON RANDOM VALUES" in done.err


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        ({"image": np.zeros((8, 1, 8, 9), np.float32)}, "shape"),
        ({"image": np.full((8, 1, 8, 8), np.nan, np.float32)}, "NaN"),
        ({"image": np.full((8, 1, 8, 8), np.inf, np.float32)}, "inf"),
        ({"image": np.zeros((0, 1, 8, 8), np.float32)}, "samples"),
    ],
)
def test_bad_data(edgecc: Run, data: Path, arrays: dict[str, np.ndarray], text: str) -> None:
    np.savez("bad.npz", **arrays)  # type: ignore[arg-type]
    done = edgecc("compile", "digits.onnx", "-o", "o.onnx", "--quantize", "int8", "--calibration", "bad.npz")
    assert done.code == 2
    assert text in done.err
    assert "try:" in done.err


def test_one_sample(edgecc: Run, data: Path) -> None:
    np.savez("one.npz", image=np.ones((1, 1, 8, 8), np.float32))
    done = edgecc(
        "compile", "digits.onnx", "-o", "o.onnx", "--quantize", "int8", "--calibration", "one.npz", "--no-measure"
    )
    assert done.code == 0, done.err
    assert "calibrated on a single sample" in done.err
    assert "too few to hold some out" in done.out


def test_what_must_follow_quantization_does(edgecc: Run, data: Path) -> None:
    words = ("compile", "digits.onnx", "--quantize", "int8", "--no-measure", "--calibration", "d.npz", "-o", "o.onnx")
    done = edgecc(*words, "--pass", "round-weights", "--pass", "correct-bias")
    assert done.code == 0, done.err
    report = json.loads(Path("o.onnx.report.json").read_text())
    names = [item["pass"].partition(":")[0] for item in report["passes"]]
    assert names.index("quantize-static") < names.index("round-weights") < names.index("correct-bias")
    wrong = edgecc(*words, "--pass", "correct-bias", "--pass", "round-weights")
    assert wrong.code == 2
    assert "where: quantize-static correct-bias round-weights\n" in wrong.err
    assert "use this order: --pass quantize-static --pass round-weights --pass correct-bias\n" in wrong.err


@pytest.mark.parametrize("name", ["correct-bias", "round-weights"])
def test_mending_without_quantization_is_a_note(edgecc: Run, data: Path, name: str) -> None:
    done = edgecc("compile", "digits.onnx", "-o", "o.onnx", "--pass", name, "--calibration", "d.npz")
    assert done.code == 0, done.err
    assert f"note: nothing is quantized: run {name} behind quantize-static\n" in done.err
    assert "the calibration data was not used" not in done.err


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (
            ("--pass", "fold-batchnorm"),
            "nothing was measured: --measure is about what quantize-static and factorize-low-rank make",
        ),
        (
            ("--quantize", "int8-weights"),
            "whether integers are faster was not measured: it is where quantize-static quantizes, once, "
            "and here quantize-weights does",
        ),
    ],
)
def test_measuring_nothing_is_a_note(edgecc: Run, data: Path, words: tuple[str, ...], why: str) -> None:
    done = edgecc("compile", "digits.onnx", "-o", "o.onnx", "--measure", *words)
    assert done.code == 0, done.err
    assert f"note: {why}\n" in done.err
