"""`edgecc benchmark`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., "Outcome"]  # noqa: F821 - of conftest.py
QUICK = ("--iterations", "3", "--rounds", "1", "--warmup", "0")


@pytest.fixture
def artifacts(edgecc: Run, small: Path) -> list[str]:
    """The same model for two targets."""
    for output, target in (("a.tflite", "tflite"), ("b.onnx", "onnxruntime")):
        assert edgecc("compile", small, "-t", target, "-o", output).code == 0
    return ["a.tflite", "b.onnx"]


def test_prints_one_row_per_artifact(edgecc: Run, artifacts: list[str]) -> None:
    done = edgecc("benchmark", *artifacts, *QUICK)
    assert (done.code, done.err) == (0, "")
    header, *rows = done.out.splitlines()
    assert [row.split()[:2] for row in rows] == [["a.tflite", "tflite"], ["b.onnx", "onnxruntime"]]
    for column in ("size", "median", "p90", "p99", "first run", "load", "peak memory"):
        assert column in header


def test_json_has_the_same_facts(edgecc: Run, artifacts: list[str]) -> None:
    first, second = json.loads(edgecc("benchmark", *artifacts, *QUICK, "--json").out)
    assert first["artifact_bytes"] == Path("a.tflite").stat().st_size
    assert 0 < first["min"] <= first["median"] <= first["p99"]
    assert first["peak_rss"] > first["rss_before_load"] > 0
    assert second["ratio"]["low"] <= second["ratio"]["median"] <= second["ratio"]["high"]
    assert (first["tool"], second["tool"]) == ("ai-edge-litert", "onnxruntime")


def test_a_damaged_artifact_is_a_row_and_stops_nothing(edgecc: Run, artifacts: list[str]) -> None:
    Path("bad.tflite").write_bytes(Path("a.tflite").read_bytes()[:100])
    done = edgecc("benchmark", "bad.tflite", "b.onnx", *QUICK)
    assert done.code == 1
    assert "b.onnx" in done.out
    assert "bad.tflite was not measured: the runtime failed loading the artifact" in done.err
    assert "Traceback" not in done.err


def test_a_target_without_its_device_says_what_is_missing(
    edgecc: Run, artifacts: list[str], small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgecc.backend import Availability
    from edgecc.registry import default_registry

    backend = default_registry().backend("onnxruntime")
    monkeypatch.setattr(type(backend), "can_run", lambda self: Availability("there is no GPU", "buy one"))
    done = edgecc("benchmark", *artifacts, *QUICK)
    assert done.code == 0
    assert "b.onnx was not measured: onnxruntime artifacts do not run here" in done.err
    assert "why: there is no GPU\n  try: buy one" in done.err
    assert done.out.splitlines()[1].startswith("a.tflite")


def test_options_reach_the_runtime(edgecc: Run, artifacts: list[str]) -> None:
    words = ("--threads", "2", "--runtime", "xnnpack=false")
    (result,) = json.loads(edgecc("benchmark", "a.tflite", *QUICK, *words, "--json").out)
    assert result["threads"] == 2
    assert result["error"] == ""


def test_an_option_goes_to_the_runtimes_that_have_it(edgecc: Run, artifacts: list[str]) -> None:
    done = edgecc("benchmark", *artifacts, *QUICK, "--runtime", "xnnpack=false", "--runtime", "optimize=basic")
    assert (done.code, done.err) == (0, "")


@pytest.mark.parametrize(
    ("words", "what", "hint"),
    [
        (("no.tflite",), "no.tflite does not exist", "check the path"),
        (("m.xyz",), "unknown file suffix '.xyz'", "known: "),
        (("m.onnx", "-t", "tflight"), "unknown target 'tflight'", "did you mean 'tflite'?"),
        (("m.onnx", "--runtime", "xnpack=false"), "unknown runtime option 'xnpack'", "known: "),
        (("m.onnx", "--runtime", "provider=cudda"), "did you mean 'cuda'?", "edgecc targets onnxruntime"),
        (("m.onnx", "--iterations", "0"), "Invalid value for '--iterations'", ""),
        ((), "Missing argument", "edgecc benchmark --help"),
    ],
)
def test_wrong_request(words: tuple[str, ...], what: str, hint: str, edgecc: Run, small: Path) -> None:
    done = edgecc("benchmark", *words)
    assert (done.code, done.out) == (2, "")
    assert what in done.err
    assert hint in done.err
    assert "Traceback" not in done.err
