"""`edgecc inspect`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

Run = Callable[..., "Outcome"]  # noqa: F821 - of conftest.py


def test_shows_what_is_in_the_model(edgecc: Run, digits: Path) -> None:
    done = edgecc("inspect", digits)
    assert (done.code, done.err) == (0, "")
    assert "input   image: float32[" in done.out
    assert "parameters" in done.out
    assert "Conv" in done.out
    assert "tflite: yes" in done.out
    assert "onnxruntime: yes" in done.out


def test_says_why_a_target_cannot_take_it(edgecc: Run, save: Callable[[str], Path]) -> None:
    """This is an answer, not a failure."""
    source = save("g (float[1,4] x) => (float[1,4] y) { y = my.domain.Frobnicate(x) }")
    done = edgecc("inspect", source, "-t", "tflite")
    assert done.code == 0
    assert "tflite: no, 1 nodes cannot be compiled" in done.out
    assert "Frobnicate" in done.out


def test_a_target_names_what_takes_each_node(edgecc: Run, save: Callable[[str], Path]) -> None:
    model = save("g (float[1,4] x) => (float[1,4] y) { [first] t = Relu(x) [second] y = my.domain.Odd(t) }")
    done = edgecc("inspect", model, "--target", "tflite")
    rows = [line.split() for line in done.out.splitlines()]
    assert ["first", "Relu", "rule", "Relu", "of", "edgecc-tflite"] in rows
    assert ["second", "Odd", "nothing", "no", "lowering", "rule", "for", "this", "operator"] in rows


def test_lists_nodes(edgecc: Run, small: Path) -> None:
    done = edgecc("inspect", small, "--nodes", "-t", "onnxruntime")
    assert "Relu" in done.out
    assert "y[1, 4]" in done.out


def test_json(edgecc: Run, small: Path) -> None:
    facts = json.loads(edgecc("inspect", small, "--json", "--nodes").out)
    assert facts["signature"]["inputs"] == [{"name": "x", "dtype": "float32", "shape": [1, 4]}]
    assert facts["parameters"] == 0
    assert {"target": "tflite", "unsupported": [], "problem": "", "nodes": []} in facts["targets"]
    assert facts["nodes"][-1]["op"] == "Relu"


def test_open_dimensions_keep_their_names(edgecc: Run, save: Callable[[str], Path]) -> None:
    source = save("g (float[batch,4] x) => (float[batch,4] y) { y = Relu(x) }")
    assert "x: float32[batch, 4]" in edgecc("inspect", source, "-t", "onnxruntime").out
    assert "x: float32[2, 4]" in edgecc("inspect", source, "-t", "onnxruntime", "--shape", "x=2,4").out


def test_says_when_macs_are_incomplete(edgecc: Run, save: Callable[[str], Path]) -> None:
    source = save(
        "g (float[1,3,H,8] x, float[4,3,3,3] w, float[2,5] a, float[5,6] b) => (float[1,4,N,6] y, float[2,6] z)"
        "{ y = Conv(x, w) z = MatMul(a, b) }"
    )
    words = ("inspect", source, "-t", "onnxruntime")
    open_note = "(open or unknown sizes in 1 of the operators counted; fix them: --shape NAME=...)"
    out = edgecc(*words).out
    assert f"at least 708 MACs\n{open_note}" in out
    out = edgecc(*words, "--shape", "x=1,3,8,8").out
    assert " 3,948 MACs\n" in out
    assert "at least" not in out


def test_damaged_source(edgecc: Run) -> None:
    Path("empty.onnx").touch()
    done = edgecc("inspect", "empty.onnx")
    assert done.code == 2
    assert "empty.onnx is empty" in done.err
