from __future__ import annotations

import numpy as np
import pytest

from edgecc.model import Model
from edgecc.opset import INTERNAL_OPSET
from edgecc.passes.expand_qoperators import ExpandQOperators
from edgecc.testing import assert_skipped, check_pass

#: Where operators on integers round one way, float ones between Q/DQ may round the other: one step of ten and more.
ONE_STEP = 0.1
#: Float32 sums of a few dozen products.
ROUNDING = 1e-5
HEADER = f'<ir_version: 10, opset_import: ["" : {INTERNAL_OPSET}, "com.microsoft" : 1]>\n'

SCALES = "float s = {0.02}, float t = {0.03}, float u = {0.05}, uint8 z = {120}, uint8 k = {131}, uint8 m = {99}"
X = "uint8[1,2,6,6] x"


def graph(inputs: str, outputs: str, body: str, constants: str = SCALES) -> str:
    return f"{HEADER}g ({inputs}) => ({outputs}) <{constants}> {{ {body} }}"


def with_weights(text: str, **weights: np.ndarray) -> Model:
    return Model.from_text(text, weights)


def stored(*shape: int, dtype: type = np.int8) -> np.ndarray:
    limits = np.iinfo(dtype)
    return np.random.default_rng(3).integers(max(limits.min, -127), min(limits.max, 256), shape).astype(dtype)


# ------------------------------------------------------------------------------------------------ of com.microsoft


@pytest.mark.parametrize(
    ("node", "op", "out"),
    [
        ("QLinearSigmoid(x, s, z, t, m)", "Sigmoid(a)", "1,2,6,6"),
        ("QLinearLeakyRelu<alpha=0.2>(x, s, z, t, m)", "LeakyRelu<alpha=0.2>(a)", "1,2,6,6"),
        ("QLinearGlobalAveragePool<channels_last=0>(x, s, z, t, m)", "GlobalAveragePool(a)", "1,2,1,1"),
        (
            "QLinearAveragePool<kernel_shape=[2, 2], strides=[2, 2]>(x, s, z, t, m)",
            "AveragePool<kernel_shape=[2, 2], strides=[2, 2]>(a)",
            "1,2,3,3",
        ),
        ("QLinearSoftmax<axis=-1, opset=13>(x, s, z, t, m)", "Softmax<axis=-1>(a)", "1,2,6,6"),
    ],
)
def test_one_operand(node: str, op: str, out: str) -> None:
    check_pass(
        ExpandQOperators(),
        graph(X, f"float[{out}] y", f"q = com.microsoft.{node} y = DequantizeLinear(q, t, m)"),
        graph(
            X,
            f"float[{out}] y",
            f"a = DequantizeLinear(x, s, z) b = {op} q = QuantizeLinear(b, t, m) y = DequantizeLinear(q, t, m)",
        ),
        tolerance=ONE_STEP,
    )


@pytest.mark.parametrize("op", ["Add", "Mul"])
def test_two_operands(op: str) -> None:
    inputs = f"{X}, uint8[1,2,1,6] w"
    check_pass(
        ExpandQOperators(),
        graph(inputs, "uint8[1,2,6,6] y", f"y = com.microsoft.QLinear{op}(x, s, z, w, t, k, u, m)"),
        graph(
            inputs,
            "uint8[1,2,6,6] y",
            f"a = DequantizeLinear(x, s, z) b = DequantizeLinear(w, t, k) c = {op}(a, b) y = QuantizeLinear(c, u, m)",
        ),
        tolerance=ONE_STEP,
    )


def test_concat() -> None:
    inputs = f"{X}, uint8[1,1,6,6] w"
    check_pass(
        ExpandQOperators(),
        graph(inputs, "uint8[1,3,6,6] y", "y = com.microsoft.QLinearConcat<axis=1>(u, m, x, s, z, w, t, k)"),
        graph(
            inputs,
            "uint8[1,3,6,6] y",
            "a = DequantizeLinear(x, s, z) b = DequantizeLinear(w, t, k) c = Concat<axis=1>(a, b)"
            " y = QuantizeLinear(c, u, m)",
        ),
        tolerance=ONE_STEP,
    )


@pytest.mark.parametrize("quantized", [True, False])
def test_gemm(quantized: bool) -> None:
    constants = f"{SCALES}, float[4] ws = {{0.01, 0.02, 0.03, 0.04}}, int8[4] wz = {{0, 0, 0, 0}}"
    out = "uint8[3,4] y" if quantized else "float[3,4] y"
    tail = ", u, m" if quantized else ""
    text = graph("uint8[3,8] x", out, f"y = com.microsoft.QGemm<transB=1>(x, s, z, w, ws, wz, c{tail})", constants)
    model = with_weights(text, w=stored(4, 8), c=stored(4, dtype=np.int32))
    result = check_pass(ExpandQOperators(), model, tolerance=ONE_STEP)
    assert [n.op for n in result.nodes() if n.op != "DequantizeLinear"] == ["Gemm", *["QuantizeLinear"] * quantized]


def test_other_domain() -> None:
    check_pass(
        ExpandQOperators(),
        graph(
            X,
            X.replace("x", "y"),
            "f = com.microsoft.DequantizeLinear(x, s, z) r = Relu(f) y = com.microsoft.QuantizeLinear(r, s, z)",
        ),
        graph(X, X.replace("x", "y"), "f = DequantizeLinear(x, s, z) r = Relu(f) y = QuantizeLinear(r, s, z)"),
        tolerance=0.0,
    )


# ------------------------------------------------------------------------------------------------- of ONNX itself


def test_conv() -> None:
    constants = f"{SCALES}, float[3] ws = {{0.01, 0.02, 0.03}}, int8[3] wz = {{0, 0, 0}}"
    text = graph(X, "uint8[1,3,4,4] y", "y = QLinearConv(x, s, z, w, ws, wz, u, m, b)", constants)
    model = with_weights(text, w=stored(3, 2, 3, 3), b=stored(3, dtype=np.int32))
    result = check_pass(ExpandQOperators(), model, tolerance=ONE_STEP)
    assert sorted(n.op for n in result.nodes()) == ["Conv", *["DequantizeLinear"] * 3, "QuantizeLinear"]
    bias = result.producer(result.nodes("Conv")[0].inputs[2])
    assert bias is not None
    np.testing.assert_allclose(bias.inputs[1].values, np.float32([0.01, 0.02, 0.03]) * np.float32(0.02))


@pytest.mark.parametrize("per_column", [True, False])
def test_matmul(per_column: bool) -> None:
    scales = (
        "float[4] ws = {0.01, 0.02, 0.03, 0.04}, int8[4] wz = {0, 0, 0, 0}"
        if per_column
        else ("float ws = {0.01}, int8 wz = {3}")
    )
    text = graph("uint8[3,8] x", "uint8[3,4] y", "y = QLinearMatMul(x, s, z, w, ws, wz, u, m)", f"{SCALES}, {scales}")
    result = check_pass(ExpandQOperators(), with_weights(text, w=stored(8, 4)), tolerance=ONE_STEP)
    assert sorted(n.op for n in result.nodes()) == ["DequantizeLinear", "DequantizeLinear", "MatMul", "QuantizeLinear"]


@pytest.mark.parametrize("zero_points", ["", ", z", ", z, v"])
def test_integer_products(zero_points: str) -> None:
    constants = f"{SCALES}, int8 v = {{3}}"
    matmul = graph("uint8[3,8] x", "int32[3,4] y", f"y = MatMulInteger(x, w{zero_points})", constants)
    check_pass(ExpandQOperators(), with_weights(matmul, w=stored(8, 4)), tolerance=0.0)
    conv = graph(X, "int32[1,3,4,4] y", f"y = ConvInteger(x, w{zero_points})", constants)
    check_pass(ExpandQOperators(), with_weights(conv, w=stored(3, 2, 3, 3)), tolerance=0.0)


def test_dynamic() -> None:
    text = graph(
        "float[3,8] x", "uint8[3,8] y, float s, uint8 z", "y, s, z = DynamicQuantizeLinear(x)", "float unused = {0}"
    )
    check_pass(ExpandQOperators(), text, tolerance=ROUNDING)
    check_pass(ExpandQOperators(), text, tolerance=ROUNDING, feeds={"x": np.zeros((3, 8), np.float32)})


def test_movers_of_quantized_values() -> None:
    before = (
        "q = QuantizeLinear(x, s, z) p = MaxPool<kernel_shape=[2, 2]>(q) c = Transpose<perm=[0, 2, 3, 1]>(p)"
        " y = DequantizeLinear(c, s, z)"
    )
    after = (
        "q = QuantizeLinear(x, s, z) a = DequantizeLinear(q, s, z) p = MaxPool<kernel_shape=[2, 2]>(a)"
        " pq = QuantizeLinear(p, s, z) b = DequantizeLinear(pq, s, z) c = Transpose<perm=[0, 2, 3, 1]>(b)"
        " cq = QuantizeLinear(c, s, z) y = DequantizeLinear(cq, s, z)"
    )
    io = ("float[1,2,6,6] x", "float[1,5,5,2] y")
    check_pass(ExpandQOperators(), graph(*io, before), graph(*io, after), tolerance=0.0)


# ------------------------------------------------------------------------------------------------------ left alone


@pytest.mark.parametrize(
    ("node", "reason"),
    [
        ("QLinearGlobalAveragePool<channels_last=1>(x, s, z, t, m)", "channels-last"),
        ("QLinearSoftmax<axis=1, opset=11>(x, s, z, t, m)", "its axis is not the last one"),
    ],
)
def test_skips(node: str, reason: str) -> None:
    out = "1,1,1,6" if "Pool" in node else "1,2,6,6"
    assert_skipped(ExpandQOperators(), graph(X, f"uint8[{out}] y", f"y = com.microsoft.{node}"), reason)
