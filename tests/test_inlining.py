"""An If whose condition is constant becomes the branch that is taken."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest

from edgecc.model import Model

_YES, _NO = np.array(True), np.array([False])
_X = np.random.default_rng(0).standard_normal((2, 1, 3)).astype(np.float32)


def _run(model: Model, **feeds: np.ndarray) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    # ONNX Runtime inlines such branches, too, and loses the second output (1.31).
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    proto = model.to_proto().SerializeToString()
    session = onnxruntime.InferenceSession(proto, options, providers=["CPUExecutionProvider"])
    return list(session.run(None, {"x": _X, **feeds}))


def _cleaned(text: str, **constants: np.ndarray) -> tuple[Model, Model]:
    """The model as written and behind cleanup."""
    model = Model.from_text(text, {"yes": _YES, "no": _NO, "axes": np.array([1]), **constants})
    for node in model.all_nodes():
        node.name = node.name or model.fresh_name(str(node.op))
    before = model.clone()
    model.cleanup()
    model.verify()
    return before, model


_SQUEEZE = """g (float[2,1,3] x) => (float[a,b] y) {
    s = Shape(x) one = Constant<value_ints=[1]>() d = Gather<axis=0>(s, one) c = Equal(d, one)
    t = If(c)<then_branch = p () => (float r) { r = Squeeze(x, axes) },
              else_branch = q () => (float e) { e = Identity(x) }>
    y = Relu(t) }"""
_OUTER = """g (float[2,1,3] x) => (float[2,1,3] y, float[2,1,3] z) { t = Neg(x) y, z = If(no)<
    then_branch = p () => (float[2,1,3] r, float[2,1,3] m) { r = Abs(x) m = Exp(x) },
    else_branch = q () => (float[2,1,3] e, float[2,1,3] f) { e = Identity(t) f = Relu(t) }> }"""
_TWICE = """g (float[2,1,3] x) => (float[2,1,3] y, float[2,1,3] z) { y, z = If(yes)<
    then_branch = p () => (float[2,1,3] r, float[2,1,3] r) { r = Abs(x) },
    else_branch = q () => (float[2,1,3] e, float[2,1,3] f) { e = Neg(x) f = Relu(x) }> }"""
_SAME_NAMES = """g (float[2,1,3] x) => (float[2,1,3] y) {
    a = If(yes)<then_branch = p () => (float[2,1,3] r) { [n] t = Abs(x) [m] r = Neg(t) },
                else_branch = q () => (float[2,1,3] e) { [n] e = Exp(x) }>
    b = If(no)<then_branch = p () => (float[2,1,3] r) { [n] r = Exp(x) },
               else_branch = q () => (float[2,1,3] r) { [n] t = Sqrt(x) [m] r = Neg(t) }>
    y = Add(a, b) }"""
_NESTED = """g (bool o, float[2,1,3] x) => (float[2,1,3] y) { y = If(o)<
    then_branch = p () => (float[2,1,3] r) { u = Relu(x) r = If(yes)<
        then_branch = p2 () => (float[2,1,3] k) { k = Abs(u) },
        else_branch = q2 () => (float[2,1,3] l) { l = Exp(u) }> },
    else_branch = q () => (float[2,1,3] e) { e = If(no)<
        then_branch = p3 () => (float[2,1,3] k) { k = Abs(x) },
        else_branch = q3 () => (float[2,1,3] l) { l = Exp(x) }> }> }"""
_WITHIN = """g (bool o, float[2,1,3] x) => (float[2,1,3] y) { y = If(yes)<
    then_branch = p () => (float[2,1,3] r) { w = Neg(x) r = If(o)<
        then_branch = p2 () => (float[2,1,3] k) { k = Abs(w) },
        else_branch = q2 () => (float[2,1,3] l) { l = Exp(w) }> },
    else_branch = q () => (float[2,1,3] e) { e = Sqrt(x) }> }"""


@pytest.mark.parametrize(
    ("text", "ops"),
    [
        (_SQUEEZE, ["Squeeze", "Relu"]),
        (_OUTER, ["Neg", "Relu", "Identity"]),
        (_SAME_NAMES, ["Abs", "Neg", "Sqrt", "Neg", "Add"]),
        (_NESTED, ["If", "Relu", "Abs", "Exp"]),
        (_WITHIN, ["Neg", "If", "Abs", "Exp"]),
    ],
    ids=["squeeze", "outer", "same-names", "nested", "within"],
)
def test_a_branch_is_inlined(text: str, ops: list[str]) -> None:
    before, model = _cleaned(text)
    assert sorted(node.op for node in model.all_nodes()) == sorted(ops)
    names = [node.name for node in model.all_nodes()]
    assert len(set(names)) == len(names)
    feeds = {"o": np.array(True)} if "bool o" in text else {}
    for found, wanted in zip(_run(model, **feeds), _run(before, **feeds), strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_what_follows_knows_its_shape() -> None:
    _, model = _cleaned(_SQUEEZE)
    assert model.signature.outputs[0].shape == (2, 3)


def test_an_output_that_is_given_twice_is_copied() -> None:
    _, model = _cleaned(_TWICE)
    assert sorted(node.op for node in model.nodes()) == ["Abs", "Identity"]
    for found in _run(model):
        np.testing.assert_array_equal(found, np.abs(_X))


def test_readers_of_the_other_branch_are_gone() -> None:
    _, model = _cleaned(_OUTER)
    assert [node.op for node in model.consumers(model.inputs[0])] == ["Neg"]


def test_a_computed_condition_stays() -> None:
    _, model = _cleaned(_NESTED.replace("If(yes)", "If(o)").replace("If(no)", "If(o)"))
    assert [node.op for node in model.all_nodes()].count("If") == 3
