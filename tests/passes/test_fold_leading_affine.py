from __future__ import annotations

import numpy as np
import pytest

from edgecc.model import Model, origins, value_of
from edgecc.passes.fold_leading_affine import FoldLeadingAffine
from edgecc.testing import assert_skipped, check_pass

#: Float32 sums of a few dozen products.
ROUNDING = 1e-5
N = "BatchNormalization"


def numbers(count: int, start: float = 0.3) -> str:
    """Values that repeat nowhere, of both signs."""
    return ", ".join(f"{start + (-1) ** i * (0.2 + 0.07 * i):.4f}" for i in range(count))


def batchnorm(channels: int) -> str:
    """Constants s, o, m, v of a normalization."""
    positive = ", ".join(f"{0.5 + 0.25 * i}" for i in range(channels))
    parts = [("s", numbers(channels)), ("o", numbers(channels, -0.4)), ("m", numbers(channels, 0.9)), ("v", positive)]
    return ", ".join(f"float[{channels}] {name} = {{{values}}}" for name, values in parts)


def model_of(inputs: str, outputs: str, constants: str, body: str) -> str:
    return f"g ({inputs}) => ({outputs}) <{constants}> {{ {body} }}"


# ------------------------------------------------------------------------------------------------------------ it folds


@pytest.mark.parametrize(
    ("node", "weights", "count", "channels", "outs", "inputs", "outputs"),
    [
        ("Conv", "3,2,3,3", 54, 2, 3, "2,2,6,6", "2,3,4,4"),
        ("Conv<group=2>", "4,2,3,3", 72, 4, 4, "1,4,6,6", "1,4,4,4"),
        ("Conv<group=3>", "6,1,3,3", 54, 3, 6, "1,3,6,6", "1,6,4,4"),
        ("Conv<dilations=[2, 2], strides=[2, 1]>", "3,2,2,2", 24, 2, 3, "1,2,6,6", "1,3,2,4"),
        ('Conv<auto_pad="SAME_UPPER", strides=[2, 2]>', "3,2,1,1", 6, 2, 3, "1,2,5,5", "1,3,3,3"),
        ("Conv", "3,2,3", 18, 2, 3, "1,2,6", "1,3,4"),
        ("ConvTranspose", "2,3,1,1", 6, 2, 3, "1,2,3,3", "1,3,3,3"),
        ("ConvTranspose<group=2>", "4,3,1,1", 12, 4, 6, "1,4,3,3", "1,6,3,3"),
        ("Gemm", "4,3", 12, 4, 3, "2,4", "2,3"),
        ("Gemm<transB=1, alpha=0.5>", "3,4", 12, 4, 3, "2,4", "2,3"),
    ],
)
@pytest.mark.parametrize("bias", [True, False])
def test_every_linear_operator(
    node: str, weights: str, count: int, channels: int, outs: int, inputs: str, outputs: str, bias: bool
) -> None:
    constants = f"float[{weights}] w = {{{numbers(count)}}}, float[{outs}] b = {{{numbers(outs)}}}"
    arguments = "n, w, b" if bias else "n, w"
    check_pass(
        FoldLeadingAffine(),
        model_of(
            f"float[{inputs}] x",
            f"float[{outputs}] y",
            f"{constants}, {batchnorm(channels)}",
            f"n = BatchNormalization<epsilon=0.01>(x, s, o, m, v) y = {node}({arguments})",
        ),
        model_of(f"float[{inputs}] x", f"float[{outputs}] y", constants, f"y = {node}(x, w, b)"),
        tolerance=ROUNDING,
    )


@pytest.mark.parametrize(
    ("body", "fused"),
    [
        ("a = Mul(x, k) y = Conv<pads=[1, 1, 1, 1]>(a, w)", "y = Conv<pads=[1, 1, 1, 1]>(x, w)"),
        ("a = Mul(f, x) y = Conv(a, w)", "y = Conv(x, w)"),
        ("a = Div(x, k) c = Sub(a, k) y = Conv(c, w)", "y = Conv(x, w, b)"),
        ("a = Sub(k, x) y = Conv(a, w)", "y = Conv(x, w, b)"),
        ("a = Add(k, x) c = Mul(a, f) y = Conv(c, w, b)", "y = Conv(x, w, b)"),
        ("a = Mul(x, k) y = ConvTranspose<strides=[2, 2]>(a, u)", "y = ConvTranspose<strides=[2, 2]>(x, u)"),
    ],
)
def test_arithmetic(body: str, fused: str) -> None:
    constants = f"""float[3,2,3,3] w = {{{numbers(54)}}}, float[2,3,2,2] u = {{{numbers(24)}}}, float f = {{0.7}},
        float[3] b = {{{numbers(3)}}}, float[2,1,1] k = {{{numbers(2)}}}"""
    check_pass(
        FoldLeadingAffine(),
        model_of("float[N,2,H,W] x", "float[N,3,P,Q] y", constants, body),
        model_of("float[N,2,H,W] x", "float[N,3,P,Q] y", constants, fused),
        tolerance=ROUNDING,
    )


def test_gemm_of_a_transposed_operand_and_a_scaled_bias() -> None:
    constants = f"float[4,3] w = {{{numbers(12)}}}, float[2,1] b = {{1, 2}}, float[4,1] k = {{{numbers(4)}}}"
    model = check_pass(
        FoldLeadingAffine(),
        model_of(
            "float[4,2] x",
            "float[2,3] y",
            constants,
            "a = Mul(x, k) c = Add(a, k) y = Gemm<transA=1, alpha=0.5, beta=3.0>(c, w, b)",
        ),
        tolerance=ROUNDING,
    )
    assert [node.op for node in model.nodes()] == ["Gemm"]


def test_matmul() -> None:
    constants = f"float[4,3] w = {{{numbers(12)}}}, float[3] b = {{{numbers(3)}}}, float[4] k = {{{numbers(4)}}}"
    wide = ("float[2,5,4] x", "float[2,5,3] y", constants)
    flat = ("float[N,4] x", "float[N,3] y", constants)
    for before, after, sizes in [
        ("a = Mul(x, k) y = MatMul(a, w)", "y = MatMul(x, w)", wide),
        ("a = Add(x, k) p = MatMul(a, w) y = Add(b, p)", "p = MatMul(x, w) y = Add(b, p)", wide),
        ("a = Mul(x, k) y = MatMul(a, w)", "y = MatMul(x, w)", flat),
        ("a = Sub(x, k) y = MatMul(a, w)", "y = Gemm(x, w, b)", flat),
    ]:
        check_pass(FoldLeadingAffine(), model_of(*sizes, before), model_of(*sizes, after), tolerance=ROUNDING)


def test_every_reader_takes_it_and_shared_weights_are_copied() -> None:
    constants = f"float[3,2,1,1] w = {{{numbers(6)}}}, float[2,1,1] k = {{{numbers(2)}}}"
    out = "float[1,3,4,4] y, float[1,3,4,4] z, float[1,3,4,4] u"
    text = model_of("float[1,2,4,4] x", out, constants, "a = Mul(x, k) y = Conv(a, w) z = Conv(a, w) u = Conv(x, w)")
    model = check_pass(
        FoldLeadingAffine(),
        text,
        model_of("float[1,2,4,4] x", out, constants, "y = Conv(x, w) z = Conv(x, w) u = Conv(x, w)"),
        tolerance=ROUNDING,
    )
    assert [origins(node) for node in model.nodes()] == [("Mul_0", "Conv_1"), ("Mul_0", "Conv_2"), ("Conv_3",)]
    plain = model.nodes()[2].inputs[1]
    assert plain.name == "w"
    assert value_of(plain).tolist() == value_of(Model.from_text(text).nodes("Conv")[0].inputs[1]).tolist()


@pytest.mark.parametrize(("dtype", "code", "tolerance"), [("double", 11, 1e-13), ("float16", 10, 5e-3)])
def test_other_float_types(dtype: str, code: int, tolerance: float) -> None:
    # onnx's text has no float16 numbers: cleanup folds these Casts.
    casts = " ".join(f"{name}_ = Cast<to={code}>({name})" for name in "wk")
    model = check_pass(
        FoldLeadingAffine(),
        model_of(
            f"{dtype}[2,4] x",
            f"{dtype}[2,3] y",
            f"float[4,3] w = {{{numbers(12)}}}, float[4] k = {{{numbers(4)}}}",
            f"{casts} a = Mul(x, k_) c = Add(a, k_) y = Gemm(c, w_)",
        ),
        tolerance=tolerance,
    )
    assert [node.op for node in model.nodes()] == ["Gemm"]
    wanted = dtype.replace("double", "float64")
    assert {str(value_of(tensor).dtype) for tensor in model.nodes()[0].inputs[1:]} == {wanted}


# ------------------------------------------------------------------------------------------ it does not, and says why

W = f"float[2,2,3,3] w = {{{numbers(36)}}}, float[2,1,1] k = {{1, 2}}"
IN, OUT = "float[1,2,4,4] x", "float[A,B,C,D] y"


@pytest.mark.parametrize(
    ("inputs", "outputs", "constants", "body", "reason"),
    [
        (IN, OUT, W, "a = Add(x, k) y = Conv<pads=[0, 0, 0, 1]>(a, w)", "pads with zeros, which are not shifted"),
        (IN, OUT, W, 'a = Add(x, k) y = Conv<auto_pad="SAME_LOWER">(a, w)', "zeros (auto_pad=SAME_LOWER), which"),
        (IN, OUT, W, "a = Add(x, k) y = ConvTranspose(a, w)", "not every place of its output sees as many places"),
        (IN, f"{OUT}, {IN.replace('x', 'a')}", W, "a = Mul(x, k) y = Conv(a, w)", "'a' is an output of the model"),
        (IN, OUT, W, "a = Mul(x, k) c = Conv(a, w) d = ReduceMax(a) y = Add(c, d)", "reader ReduceMax_2 (ReduceMax)"),
        (f"{IN}, float[2,2,3,3] u", OUT, W, "a = Mul(x, k) y = Conv(a, u)", "the weights of Conv_1 are not constant"),
        (IN, OUT, f"{W}, float[4] r = {{1, 2, 3, 4}}", "a = Mul(x, r) y = Conv(a, w)", "'r' is not one value per"),
        (IN, OUT, f"{W}, float[2,1,1] r = {{1, 0}}", "a = Div(x, r) y = Conv(a, w)", "it divides by zero"),
        ("float[1,1,4,4] x", OUT, W, "a = Mul(x, k) y = Conv(a, w)", "'x' is not known to have 2 channels without it"),
        (
            "float[1,1,4,4] x",
            OUT,
            f"{W}, float[2,1,1] r = {{3, 3}}",
            "a = Mul(x, r) y = Conv(a, w)",
            "'x' is not known to have 2 channels without it",
        ),
        ("float[2,4,4] x", OUT, f"{W}, float[1,2,1,1] r = {{1, 2}}", "a = Mul(x, r) y = Conv(a, w)", "as many axes"),
        (
            IN,
            OUT,
            f"{W}, float[2,1,1] r = {{3e38, 3e38}}",
            "a = Mul(x, r) y = Conv(a, w)",
            "the new weights of Conv_1 would not be finite in float32",
        ),
        (
            "float[2,3,4] x",
            "float[2,3,3] y",
            f"float[4,3] w = {{{numbers(12)}}}, float k = {{1}}",
            "a = Add(x, k) y = MatMul(a, w)",
            "it has no place for a bias",
        ),
        (
            "float[2,4,3] x",
            "float[2,4,2] y",
            f"float[3,2] w = {{{numbers(6)}}}, {batchnorm(4)}",
            f"a = {N}(x, s, o, m, v) y = MatMul(a, w)",
            "it normalizes axis 1 of a tensor with 3 axes, and the channels are axis 2",
        ),
    ],
)
def test_reason(inputs: str, outputs: str, constants: str, body: str, reason: str) -> None:
    assert_skipped(FoldLeadingAffine(), model_of(inputs, outputs, constants, body), reason)


def test_tensor_that_is_its_own_factor() -> None:
    text = model_of("float[4,4] x", "float[4,4] y", "float k = {2}", "a = Mul(x, k) y = MatMul(a, a)")
    assert_skipped(FoldLeadingAffine(), text, "the weights of MatMul_1 are not constant")


def test_arithmetic_elsewhere_is_not_mentioned() -> None:
    text = model_of("float[2] x", "float[2] y", "float k = {2}", "a = Mul(x, k) b = Add(a, k) y = Div(k, b)")
    assert_skipped(FoldLeadingAffine(), text, "")


def test_reader_in_a_subgraph() -> None:
    constants = f"float[2,2,1,1] w = {{{numbers(4)}}}, float[2,1,1] k = {{1, 2}}"
    text = f"""g (float[1,2,4,4] x, bool c) => (float[1,2,4,4] y) <{constants}> {{
        a = Mul(x, k)
        y = If (c) <then_branch = t () => (float[1,2,4,4] p) {{ p = Conv(a, w) }},
                    else_branch = e () => (float[1,2,4,4] q) {{ q = Relu(x) }}>
    }}"""
    assert_skipped(FoldLeadingAffine(), text, "it is in a subgraph")


def test_ignored_node_stays() -> None:
    constants = f"float[2,2,1,1] w = {{{numbers(4)}}}, float[2,1,1] k = {{3, 2}}"
    model = check_pass(
        FoldLeadingAffine(ignore=("Mul_0",)),
        model_of(
            "float[1,2,4,4] x",
            "float[1,2,4,4] y",
            constants,
            "a = Mul(x, k) c = Conv(a, w) d = Mul(c, k) y = Conv(d, w)",
        ),
        tolerance=ROUNDING,
    )
    assert [node.op for node in model.nodes()] == ["Mul", "Conv", "Conv"]


def test_a_large_shift_costs_digits() -> None:
    """Behind the product the mean and what it brings near zero are subtracted as rounded sums."""
    text = """g (float[2,3] x) => (float[2,2] y) { a = Sub(x, mean) y = MatMul(a, w) }"""
    weights = {"mean": np.full(3, 1000, np.float32), "w": np.ones((3, 2), np.float32)}
    assert_skipped(FoldLeadingAffine(), Model.from_text(text, weights), reason="it shifts by up to 1e+03")
