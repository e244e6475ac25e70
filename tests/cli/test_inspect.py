"""`edgecc inspect`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgecc.model import Model

Run = Callable[..., "Outcome"]  # noqa: F821 - of conftest.py
Save = Callable[[str], Path]


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


def test_says_when_loops_are_counted_once(edgecc: Run, save: Callable[[str], Path]) -> None:
    source = save(
        """g (float[1,4] x, float[4,4] w, int64 n) => (float[1,4] y) {
        y = Loop(n, "", x) <body = b (int64 i, bool c, float[1,4] s) => (bool d, float[1,4] t)
        { t = MatMul(s, w) d = Identity(c) }> }"""
    )
    out = edgecc("inspect", source, "-t", "onnxruntime").out
    once = "(1 of the operators are in loops that run an unknown number of times: counted once)"
    assert f"at least 16 MACs\n{once}" in out


def test_damaged_source(edgecc: Run) -> None:
    Path("empty.onnx").touch()
    done = edgecc("inspect", "empty.onnx")
    assert done.code == 2
    assert "empty.onnx is empty" in done.err


GELU = """g (float[2,8] x) => (float[2,8] y, float[2,8] z)
    <float root = {1.4142135}, float one = {1}, float half = {0.5}> {
    [div] a = Div(x, root) [erf] b = Erf(a) [add] c = Add(b, one) [mul] d = Mul(x, c) [end] y = Mul(d, half)
    [alone] z = Erf(x) }"""


def test_explains_a_pass(edgecc: Run, save: Save) -> None:
    done = edgecc("inspect", save(GELU), "--explain", "fuse-gelu")
    assert done.code == 0
    assert "div, erf, add, mul, end" in done.out
    assert "became Gelu" in done.out
    assert "left alone: no Div or Mul behind it ends the pattern" in done.out


def test_explains_for_a_target(edgecc: Run, save: Save) -> None:
    found = json.loads(edgecc("inspect", save(GELU), "--explain", "fuse-gelu", "--json").out)
    assert [change["op"] for change in found["changes"]] == ["Mul"]
    assert [skip["node"] for skip in found["skips"]] == ["alone"]
    kept = json.loads(edgecc("inspect", save(GELU), "--explain", "fuse-gelu:ignore=[erf]", "--json").out)
    assert kept["changes"] == []


def test_explains_where_there_is_nothing(edgecc: Run, save: Save) -> None:
    done = edgecc("inspect", save("g (float[2] x) => (float[2] y) { y = Relu(x) }"), "--explain", "fuse-gelu")
    assert done.out == "fuse-gelu has no candidate in this model\n"


NETWORK = """g (float[1,8,4,4] x) => (float[1,8,4,4] y) {
    [first] a = Conv(x, w) b = Relu(a) [second] c = Conv(b, v) [end] y = Add(x, c) }"""


def network() -> str:
    """Of two layers whose inner features can go."""
    rng = np.random.default_rng(0)
    weights = {"w": rng.standard_normal((16, 8, 1, 1)), "v": rng.standard_normal((8, 16, 1, 1))}
    model = Model.from_text(NETWORK, {name: value.astype(np.float32) for name, value in weights.items()})
    model.cleanup()
    model.save("network.onnx")
    np.savez("data.npz", x=rng.standard_normal((64, 8, 4, 4)).astype(np.float32))
    return "network.onnx"


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("prune-channels:macs=0.5", "8 of 16 units removed"),
        ("factorize-low-rank:macs=0.5,keep=0", "channel factors of rank"),
        ("prune-layers:blocks=1", "its branch of 2 layers is gone"),
        ("prune-weights:sparsity=0.5", "of its weights are 0"),
        ("quantize-static", "quantize-static changes the model, and does not say node by node how"),
    ],
)
def test_explains_passes_that_need_data(edgecc: Run, spec: str, said: str) -> None:
    source = network()
    without = edgecc("inspect", source, "--explain", spec)
    assert without.code == 2
    assert "add --calibration DATA.npz" in without.err
    found = edgecc("inspect", source, "--explain", spec, "--calibration", "data.npz", "-t", "onnxruntime")
    assert found.code == 0, found.err
    assert said in found.out


def test_what_a_pass_says_of_the_whole_model(edgecc: Run) -> None:
    words = ("inspect", network(), "--explain", "prune-weights:sparsity=0.5", "--calibration", "data.npz")
    assert "note: prune-weights: 50% of the weights of 2 layers are 0" in edgecc(*words).err
    assert json.loads(edgecc(*words, "--json").out)["notes"][0].startswith("prune-weights: 50%")


def test_data_is_for_explanations(edgecc: Run) -> None:
    done = edgecc("inspect", network(), "--calibration", "data.npz")
    assert done.code == 2
    assert "add --explain PASS" in done.err


def test_explains_no_pass_that_is_not_there(edgecc: Run, save: Save) -> None:
    done = edgecc("inspect", save("g (float[2] x) => (float[2] y) { y = Relu(x) }"), "--explain", "fuse-gelo")
    assert done.code == 2
    assert "fuse-gelu" in done.err
