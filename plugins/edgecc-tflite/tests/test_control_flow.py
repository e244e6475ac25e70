"""If, Loop and Scan against ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from edgecc.model import Model
from edgecc_tflite import verify
from edgecc_tflite.lower import find_unsupported
from edgecc_tflite.lowerings import builtin_rules
from edgecc_tflite.testing import Case, assert_close, check, counts, lowered, run_onnx, run_tflite
from edgecc_tflite.writer import write

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
    "convolution": """g (bool p, float[1,2,6,6] x) => (float[1,3,6,6] y) {
        t = Conv<pads=[1,1,1,1]>(x, kernel) y = If(p)<
        then_branch = a () => (float[1,3,6,6] r) { r = Conv<pads=[1,1,1,1]>(t, kernels) },
        else_branch = b () => (float[1,3,6,6] s) { s = Relu(t) }> }""",
}
_LOOPS = {
    "counted": """g (float[2,3] x) => (float[2,3] y) { y = Loop(count, , x)<
        body = b (int64 i, bool go, float[2,3] v) => (bool keep, float[2,3] w) {
            keep = Identity(go) w = Mul(v, row) }> }""",
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
        body = b (int64 i, bool go, float[2,3] v) => (bool keep, float[2,3] w) {
            keep = Identity(go) w = Add(v, x) }> }""",
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
    "axes-from-around": """g (float[2] h, float[7,2,1] x) => (float[2] y, float[7,2,1] z) {
        y, z = Scan<num_scan_inputs=1,
        body = b (float[2] s, float[2,1] v) => (float[2] t, float[2,1] o) {
            w = Squeeze(v, axes) t = Add(s, w) r = Neg(t) o = Unsqueeze(r, axes) }>(h, x) }""",
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

_ADD_UP = "b (float[2] s, float[2] v) => (float[2] t, float[2] o) { t = Add(s, v) o = Neg(t) }"
_DOUBLE = "b (int64 i, bool go, float[2,3] v) => (bool keep, float[2,3] w) { keep = Identity(go) w = Add(v, v) }"
CASES = [
    Case("Constant", (), {"value_floats": [1.0, 2.0, 3.0]}),
    Case(
        "If",
        ("b:1",),
        {
            "then_branch": onnx.parser.parse_graph("a () => (float[2] r) { r = Constant<value_floats=[1.0,2.0]>() }"),
            "else_branch": onnx.parser.parse_graph("b () => (float[2] s) { s = Constant<value_floats=[3.0,4.0]>() }"),
        },
    ),
    Case("Loop", (np.array(3), None, "f:2,3"), {"body": onnx.parser.parse_graph(_DOUBLE)}),
    Case("Scan", ("f:2", "f:5,2"), {"num_scan_inputs": 1, "body": onnx.parser.parse_graph(_ADD_UP)}, outputs=2),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_one_node(case: Case) -> None:
    check(case)


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


@pytest.mark.parametrize(
    "text", [*_BRANCHES.values(), *_LOOPS.values(), *_SCANS.values()], ids=[*_BRANCHES, *_LOOPS, *_SCANS]
)
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


def test_a_branch_takes_what_either_reads() -> None:
    graph = lowered(_model(_BRANCHES["two-outputs"]))
    (operator,) = [op for op in graph.operators if op.builtin == "IF"]
    assert [len(branch.inputs) for branch in operator.subgraphs] == [3, 3]
    assert len(operator.inputs) == 4


def test_layout_is_solved_within_branches() -> None:
    graph = lowered(_model(_BRANCHES["convolution"]))
    (operator,) = [op for op in graph.operators if op.builtin == "IF"]
    assert counts(operator.subgraphs[0]) == {"TRANSPOSE": 2, "CONV_2D": 1}


def test_unsupported_nodes_of_subgraphs_are_listed() -> None:
    text = """g (bool p, float[2,3] x) => (float[2,3] y) { y = If(p)<
        then_branch = a () => (float[2,3] r) { [inner] r = com.acme.Magic(x) },
        else_branch = b () => (float[2,3] s) { s = Identity(x) }> [outer] z = com.acme.Other(y) }"""
    header = '<ir_version: 10, opset_import: ["" : 23, "com.acme" : 1]> '
    problems = find_unsupported(Model.from_text(header + text), builtin_rules())
    assert {problem.op for problem in problems} >= {"com.acme.Magic", "com.acme.Other"}


_GROWS = """g (float[2,3] x) => (float[n,3] y) { y = Loop(count, , x)<
    body = b (int64 i, bool go, float[n,3] v) => (bool keep, float[m,3] w) {
        keep = Identity(go) w = Concat<axis=0>(v, x) }> }"""
_OPEN_RESULT = """g (float[2,3] x, int64 n) => (float[2,3] y, float[m,2,3] z) { y, z = Loop(n, , x)<
    body = b (int64 i, bool go, float[2,3] v) => (bool keep, float[2,3] w, float[2,3] o) {
        keep = Identity(go) w = Add(v, x) o = Neg(w) }> }"""
_OPEN_STEPS = _SCANS["sum"].replace("7", "n")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (_GROWS, "state 'v' changes its shape, or that is not known"),
        (_OPEN_RESULT, "how much 'z' holds depends on what is computed; only a fixed size can be lowered"),
        (_OPEN_STEPS, "input 'x' has an open dimension where a size is needed"),
    ],
    ids=["grows", "open-result", "open-steps"],
)
def test_reasons(text: str, reason: str) -> None:
    assert reason in "\n".join(problem.reason for problem in find_unsupported(_model(text), builtin_rules()))


def test_nothing_is_kept_between_two_runs() -> None:
    from ai_edge_litert.interpreter import Interpreter

    model = _model(_LOOPS["slices"])
    run = Interpreter(model_content=bytes(write(lowered(model)))).get_signature_runner("serving_default")
    first = run(**_feeds(model, 1))
    run(**_feeds(model, 2))
    again = run(**_feeds(model, 1))
    for name, values in first.items():
        np.testing.assert_array_equal(again[name], values)
