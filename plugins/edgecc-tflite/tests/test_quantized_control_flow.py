"""Q/DQ inside If, Loop and Scan: integer kernels there too, within a step of ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgecc.model import Model
from edgecc.opset import INTERNAL_OPSET
from edgecc_tflite.ir import Graph
from edgecc_tflite.testing import lowered, run_tflite
from edgecc_tflite.testing.quantized import run_exactly
from edgecc_tflite.verify import verify

_RANDOM = np.random.default_rng(0)
CONSTANTS: dict[str, Any] = {
    "kernel": _RANDOM.integers(-127, 128, (3, 2, 3, 3)).astype(np.int8),
    "matrix": _RANDOM.integers(-127, 128, (4, 4)).astype(np.int8),
    "fine": np.array(0.01, np.float32),
    "coarse": np.array(0.05, np.float32),
    "zero": np.array(0, np.int8),
    "three": np.array(3, np.int8),
    "middle": np.array(130, np.uint8),
    "count": np.array(3, np.int64),
}

BRANCHES = """g (bool p, float[1,2,6,6] x) => (float[1,3,6,6] y) {
    q = QuantizeLinear(x, coarse, three) u = DequantizeLinear(q, coarse, three) y = If(p)<
    then_branch = a () => (float[1,3,6,6] r) {
        i = QuantizeLinear(x, coarse, three) f = DequantizeLinear(i, coarse, three)
        w = DequantizeLinear(kernel, fine, zero) c = Conv<pads=[1,1,1,1]>(f, w)
        j = QuantizeLinear(c, coarse, three) r = DequantizeLinear(j, coarse, three) },
    else_branch = b () => (float[1,3,6,6] s) {
        v = DequantizeLinear(kernel, fine, zero) d = Conv<pads=[1,1,1,1]>(u, v) s = Relu(d) }> }"""
LOOP = """g (float[2,4] x) => (float[2,4] y) { y = Loop(count, , x)<
    body = b (int64 i, bool go, float[2,4] v) => (bool keep, float[2,4] w) {
        keep = Identity(go) q = QuantizeLinear(v, coarse, middle) f = DequantizeLinear(q, coarse, middle)
        m = DequantizeLinear(matrix, fine, zero) p = MatMul(f, m)
        o = QuantizeLinear(p, coarse, middle) w = DequantizeLinear(o, coarse, middle) }> }"""
SCAN = """g (uint8[2,4] h, float[5,2,4] x) => (uint8[2,4] y, float[5,2,4] z) { y, z = Scan<num_scan_inputs=1,
    body = b (uint8[2,4] s, float[2,4] v) => (uint8[2,4] t, float[2,4] o) {
        f = DequantizeLinear(s, coarse, middle) q = QuantizeLinear(v, coarse, middle)
        e = DequantizeLinear(q, coarse, middle) a = Add(e, f)
        t = QuantizeLinear(a, coarse, middle) o = DequantizeLinear(t, coarse, middle) }>(h, x) }"""


def parsed(text: str) -> Model:
    used = {name: values for name, values in CONSTANTS.items() if name in text}
    return Model.from_text(f'<ir_version: 10, opset_import: ["" : {INTERNAL_OPSET}]>\n{text}', used)


def on_integers(graph: Graph, builtin: str) -> int:
    """How many operators of a kind inside the graph's subgraphs work on int8."""
    inner = [op for part in graph.nested() if part is not graph for op in part.operators]
    return sum(op.builtin == builtin and op.outputs[0].dtype == np.int8 for op in inner)


def check(text: str, builtin: str, count: int, **feeds: np.ndarray) -> None:
    model = parsed(text)
    graph = lowered(model)
    assert not verify(graph)
    assert on_integers(graph, builtin) == count
    expected = run_exactly(model, feeds)
    for xnnpack in (True, False):
        for name, found in run_tflite(graph, feeds, xnnpack=xnnpack).items():
            step = 0.05 if found.dtype == np.float32 else 1
            off = np.abs(found.astype(np.float64) - expected[name].astype(np.float64)) / step
            # One step, and the float product that a float island rounds differently.
            assert np.max(off) < 1.001, name


@pytest.mark.parametrize("branch", [True, False])
def test_branches(branch: bool) -> None:
    x = np.random.default_rng(1).standard_normal((1, 2, 6, 6), dtype=np.float32)
    check(BRANCHES, "CONV_2D", 1, p=np.array(branch), x=x)


def test_loop() -> None:
    check(LOOP, "FULLY_CONNECTED", 1, x=np.random.default_rng(1).standard_normal((2, 4), dtype=np.float32))


def test_scan_with_a_quantized_state() -> None:
    random = np.random.default_rng(1)
    feeds = {
        "h": random.integers(100, 160, (2, 4)).astype(np.uint8),
        "x": random.standard_normal((5, 2, 4), dtype=np.float32),
    }
    check(SCAN, "ADD", 1, **feeds)
