"""A part of a model alone computes what it computes within the model."""

from __future__ import annotations

import numpy as np
import pytest

from edgecc.model import Model
from edgecc.reference_session import reference_session
from edgecc.rewriting.extraction import extract

TEXT = """g (float[2,4] x, float[2,4] z) => (float[2,4] y, float[2,4] u) <float[4] w = {1, -2, 3, -4}> {
    a = Mul(x, w)  b = Relu(a)  c = Add(b, z)  y = Sqrt(b)  u = Neg(c) }"""
X = np.random.default_rng(0).standard_normal((2, 4)).astype(np.float32)


def run(model: Model, outputs: list[str], feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    model.verify()
    return list(reference_session(model.to_proto()).run(outputs, feeds))


def test_between_two_tensors() -> None:
    part = extract(Model.from_text(TEXT), ["a"], ["b"])
    assert [node.op for node in part.nodes()] == ["Relu"]
    np.testing.assert_array_equal(run(part, ["b"], {"a": X})[0], np.maximum(X, 0))


def test_the_models_own_inputs_are_fed_where_they_are_needed() -> None:
    part = extract(Model.from_text(TEXT), ["b"], ["u"])
    assert [spec.name for spec in part.signature.inputs] == ["b", "z"]
    np.testing.assert_array_equal(run(part, ["u"], {"b": X, "z": X})[0], -(X + X))


def test_constants_come_along_and_the_model_stays() -> None:
    model = Model.from_text(TEXT)
    digest = model.digest()
    part = extract(model, [], ["a"])
    np.testing.assert_array_equal(run(part, ["a"], {"x": X})[0], X * np.array([1, -2, 3, -4], np.float32))
    assert model.digest() == digest


def test_a_node_with_a_fed_and_another_output() -> None:
    text = "g (float[4] x) => (float[2] y) <int64[2] s = {2, 2}> { a, b = Split<axis=0>(x, s)  y = Sub(a, b) }"
    part = extract(Model.from_text(text), ["a"], ["y"])
    assert [spec.name for spec in part.signature.inputs] == ["a", "x"]
    found = run(part, ["y"], {"a": np.zeros(2, np.float32), "x": np.arange(4, dtype=np.float32)})[0]
    np.testing.assert_array_equal(found, [-2, -3])


def test_unknown_names() -> None:
    with pytest.raises(KeyError):
        extract(Model.from_text(TEXT), ["nothing"], ["y"])
