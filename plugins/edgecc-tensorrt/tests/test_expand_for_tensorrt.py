"""Quantization that TensorRT does not have, written as arithmetic: the same values, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

from edgecc.model import Model
from edgecc.passes.base import PassContext
from edgecc.testing import check_pass
from edgecc_tensorrt.backend import TensorRTBackend
from edgecc_tensorrt.expand_for_tensorrt import ExpandForTensorRT
from edgecc_tensorrt.target import TensorRTTarget

EXPAND = ExpandForTensorRT()
CONSTANTS = "<float s = {0.03}, int8 z = {-5}, int8 n = {0}, uint8 u = {7}, int16 w = {0}>"


def graph(body: str, signature: str = "(float[2,3] x) => (float[2,3] y)") -> str:
    return f"g {signature} {CONSTANTS} {{ {body} }}"


def ops(model: Model) -> list[str]:
    return sorted(node.op for node in model.nodes())


@pytest.mark.parametrize("zero_point", ["z", "u", "w"])
def test_a_pair_becomes_arithmetic_in_float(zero_point: str) -> None:
    pair = f"q = QuantizeLinear(x, s, {zero_point}) y = DequantizeLinear(q, s, {zero_point})"
    shifts = [] if zero_point == "w" else ["Add", "Sub"]
    assert ops(check_pass(EXPAND, graph(pair))) == sorted(["Div", "Round", "Clip", "Mul", *shifts])


def test_inputs_and_outputs_stay_integers() -> None:
    signature = "(int8[2,3] a) => (int8[2,3] b)"
    model = check_pass(
        EXPAND, graph("x = DequantizeLinear(a, s, z) r = Relu(x) b = QuantizeLinear(r, s, z)", signature)
    )
    edges = model.nodes("QuantizeLinear", "DequantizeLinear")
    assert len(edges) == 2
    assert all(node.inputs[1].values == 1 and not node.inputs[2].values.any() for node in edges)


def test_integers_that_are_moved_in_between() -> None:
    body = "q = QuantizeLinear(x, s, z) t = Transpose(q) y = DequantizeLinear(t, s, z)"
    model = check_pass(EXPAND, graph(body, "(float[2,3] x) => (float[3,2] y)"))
    assert ops(model).count("QuantizeLinear") == 1


def test_stored_values_become_float() -> None:
    rng = np.random.default_rng(0)
    constants = {
        "k": rng.integers(-9, 9, (4, 3)).astype(np.int8),
        "per": np.array([0.1, 0.2, 0.3, 0.4], np.float32),
        "zeros": np.array([1, 0, -2, 3], np.int8),
        "b": rng.integers(-999, 999, 4).astype(np.int32),
    }
    text = """g (float[2,3] x) => (float[2,4] y) {
        kf = DequantizeLinear<axis = 0>(k, per, zeros) bf = DequantizeLinear<axis = 0>(b, per)
        y = Gemm<transB = 1>(x, kf, bf) }"""
    assert ops(check_pass(EXPAND, Model.from_text(text, constants))) == ["Gemm"]


def test_what_tensorrt_has_stays() -> None:
    text = graph("q = QuantizeLinear(x, s, n) y = DequantizeLinear(q, s, n)")
    model = Model.from_text(text)
    assert not EXPAND.run(model, PassContext(None, np.random.default_rng(0)))


@pytest.mark.usefixtures("sdk_installed")
def test_the_parser_takes_what_comes_of_it() -> None:
    body = "x = DequantizeLinear(a, s, z) r = Relu(x) b = QuantizeLinear(r, s, z) y = DequantizeLinear(b, s, z)"
    model = Model.from_text(graph(body, "(int8[2,3] a) => (float[2,3] y)"))
    backend, target = TensorRTBackend(), TensorRTTarget()
    assert backend.find_unsupported(model, target)
    for step in backend.passes(target):
        step.run(model, PassContext(target, np.random.default_rng(0)))
        model.cleanup()
    assert not backend.find_unsupported(model, target)
