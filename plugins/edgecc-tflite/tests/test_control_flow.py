"""If, Loop and Scan against ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgecc.model import Model
from edgecc_tflite import verify
from edgecc_tflite.lower import find_unsupported
from edgecc_tflite.lowerings import builtin_rules
from edgecc_tflite.testing import assert_close, counts, lowered, run_onnx, run_tflite

_BRANCHES = {
    "plain": """g (bool p, float[2,3] x) => (float[2,3] y) { y = If(p)<
        then_branch = a () => (float[2,3] r) { r = Neg(x) },
        else_branch = b () => (float[2,3] s) { t = Abs(x) s = Add(t, x) }> }""",
    "two-outputs": """g (bool p, float[2,3] x, float[2,3] z) => (float[2,3] y, float[2] w) { u = Relu(x) y, v = If(p)<
        then_branch = a () => (float[2,3] r, float[2,1] q) { r = Add(u, z) q = ReduceSum<keepdims=1>(u, axes) },
        else_branch = b () => (float[2,3] s, float[2,1] o) { s = Mul(u, x) o = ReduceMax<keepdims=1>(z, axes) }>
        w = Squeeze(v, axes) }""",
    "passed-on": """g (bool p, float[2,3] x, float[2,3] z) => (float[2,3] y) { t = Exp(x) u = If(p)<
        then_branch = a () => (float[2,3] r) { r = Identity(t) },
        else_branch = b () => (float[2,3] s) { s = Identity(z) }> y = Sub(u, z) }""",
    "constant": """g (bool p, float[2,3] x) => (float[2,3] y) { u = If(p)<
        then_branch = a () => (float[3] r) { r = Identity(row) },
        else_branch = b () => (float[3] s) { s = Constant<value_floats=[4.0,5.0,6.0]>() }> y = Add(x, u) }""",
    "nested": """g (bool p, bool q, float[2,3] x) => (float[2,3] y) { y = If(p)<
        then_branch = a () => (float[2,3] r) { r = If(q)<
            then_branch = c () => (float[2,3] t) { t = Neg(x) },
            else_branch = d () => (float[2,3] u) { u = Exp(x) }> },
        else_branch = b () => (float[2,3] s) { s = Abs(x) }> }""",
    "computed": """g (float[2,3] x) => (float[2,3] y) { m = ReduceMax<keepdims=0>(x) c = Greater(m, limit) y = If(c)<
        then_branch = a () => (float[2,3] r) { r = Neg(x) },
        else_branch = b () => (float[2,3] s) { s = Mul(x, row) }> }""",
    "convolution": """g (bool p, float[1,2,6,6] x) => (float[1,3,6,6] y) { t = Conv<pads=[1,1,1,1]>(x, kernel) y = If(p)<
        then_branch = a () => (float[1,3,6,6] r) { r = Conv<pads=[1,1,1,1]>(t, kernels) },
        else_branch = b () => (float[1,3,6,6] s) { s = Relu(t) }> }""",
}
_LOOPS = {
    "counted": """g (float[2,3] x) => (float[2,3] y) { y = Loop(count, , x)<
        body = b (int64 i, bool go, float[2,3] v) => (bool keep, float[2,3] w) { keep = Identity(go) w = Mul(v, row) }> }""",
    "slices": """g (float[2,3] x) => (float[2,3] y, float[5,2,3] z) { y, z = Loop(count, , x)<
        body = b (int64 i, bool go, float[2,3] v) => (bool keep, float[2,3] w, float[2,3] o) {
            keep = Identity(go) f = Cast<to=1>(i) w = Add(v, f) o = Neg(w) }> }""",
    "until": """g (float[2,3] x) => (float[2,3] y) { y = Loop(, yes, x)<
        body = b (int64 i, bool go, float[2,3] v) => (bool keep, float[2,3] w) {
            w = Add(v, one) m = ReduceMax<keepdims=0>(w) keep = Less(m, ten) }> }""",
    "either": """g (float[2,3] x, bool p) => (float[2,3] y) { y = Loop(count, p, x)<
        body = b (int64 i, bool go, float[2,3] v) => (bool keep, float[2,3] w) {
            w = Add(v, one) m = ReduceMax<keepdims=0>(w) keep = Less(m, limit) }> }""",
    "computed-count": """g (float[2,3] x, int64 n) => (float[2,3] y) { y = Loop(n, , x)<
        body = b (int64 i, bool go, float[2,3] v) => (bool keep, float[2,3] w) { keep = Identity(go) w = Add(v, x) }> }""",
    "swapped": """g (float[2,3] x, float[2,3] z) => (float[2,3] y, float[2,3] o) { y, o = Loop(count, , x, z)<
        body = b (int64 i, bool go, float[2,3] v, float[2,3] w) => (bool keep, float[2,3] q, float[2,3] r) {
            keep = Identity(go) q = Identity(w) r = Identity(v) }> }""",
    "branch-within": """g (float[2,3] x) => (float[2,3] y) { y = Loop(count, , x)<
        body = b (int64 i, bool go, float[2,3] v) => (bool keep, float[2,3] w) {
            keep = Identity(go) m = ReduceMax<keepdims=0>(v) c = Greater(m, limit) w = If(c)<
                then_branch = t () => (float[2,3] r) { r = Sub(v, one) },
                else_branch = e () => (float[2,3] s) { s = Add(v, x) }> }> }""",
}
_SCANS = {
    "sum": """g (float[2] h, float[7,2] x) => (float[2] y, float[7,2] z) { y, z = Scan<num_scan_inputs=1,
        body = b (float[2] s, float[2] v) => (float[2] t, float[2] o) { t = Add(s, v) o = Neg(t) }>(h, x) }""",
    "backwards": """g (float[2] h, float[7,2] x) => (float[2] y, float[7,2] z) { y, z = Scan<num_scan_inputs=1,
        scan_input_directions=[1], scan_output_directions=[1],
        body = b (float[2] s, float[2] v) => (float[2] t, float[2] o) { t = Add(s, v) o = Neg(t) }>(h, x) }""",
    "axes": """g (float[2] h, float[2,7] x) => (float[2] y, float[2,7] z) { y, z = Scan<num_scan_inputs=1,
        scan_input_axes=[1], scan_output_axes=[-1],
        body = b (float[2] s, float[2] v) => (float[2] t, float[2] o) { t = Add(s, v) o = Mul(t, v) }>(h, x) }""",
    "two": """g (float[3] h, float[7,3] x, float[7,3] u) => (float[3] y, float[7,3] z) { y, z = Scan<num_scan_inputs=2,
        body = b (float[3] s, float[3] v, float[3] w) => (float[3] t, float[3] o) {
            p = Mul(v, w) t = Add(s, p) o = Add(t, row) }>(h, x, u) }""",
}
_CONSTANTS = {
    "axes": np.array([1]),
    "row": np.array([0.5, -1, 2], np.float32),
    "limit": np.array(1.5, np.float32),
    "ten": np.array(10, np.float32),
    "one": np.array(1, np.float32),
    "yes": np.array(True),
    "count": np.array(5),
    "kernel": np.random.default_rng(1).standard_normal((3, 2, 3, 3)).astype(np.float32),
    "kernels": np.random.default_rng(2).standard_normal((3, 3, 3, 3)).astype(np.float32),
}


def _model(text: str) -> Model:
    model = Model.from_text(text, _CONSTANTS)
    model.cleanup()
    return model


def _feeds(model: Model, seed: int) -> dict[str, np.ndarray]:
    """Random values; a bool is the seed's first bits."""
    random, feeds = np.random.default_rng(seed), {}
    for number, tensor in enumerate(model.inputs):
        values: Any = random.uniform(-2, 2, tensor.shape)
        if tensor.dtype == np.bool_:
            values = bool(seed >> number & 1)
        feeds[tensor.name] = np.asarray(6 if tensor.dtype == np.int64 else values, tensor.dtype)
    return feeds


@pytest.mark.parametrize("text", [*_BRANCHES.values(), *_LOOPS.values(), *_SCANS.values()], ids=[*_BRANCHES, *_LOOPS, *_SCANS])
def test_equals_onnxruntime(text: str) -> None:
    model = _model(text)
    for solve in (True, False):
        graph = lowered(model, solve=solve)
        assert verify.verify(graph) == []
        for seed in range(4):
            feeds = _feeds(model, seed)
            expected = run_onnx(model, feeds)
            for xnnpack in (True, False):
                assert_close(run_tflite(graph, feeds, xnnpack=xnnpack), expected, 2e-6)
