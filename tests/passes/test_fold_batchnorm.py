from __future__ import annotations

import pytest

from edgecc.model import Model, origins, value_of
from edgecc.passes.fold_batchnorm import FoldBatchNorm, foldable
from edgecc.testing import assert_skipped, check_pass

#: Float32 sums of a few dozen products.
ROUNDING = 1e-5


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


@pytest.mark.parametrize("bias", [True, False])
def test_conv(bias: bool) -> None:
    constants = f"float[3,2,3,3] w = {{{numbers(54)}}}, float[3] b = {{{numbers(3)}}}, {batchnorm(3)}"
    arguments = "x, w, b" if bias else "x, w"
    check_pass(
        FoldBatchNorm(),
        model_of(
            "float[2,2,6,6] x",
            "float[2,3,4,4] y",
            constants,
            f"c = Conv({arguments}) y = BatchNormalization<epsilon=0.01>(c, s, o, m, v)",
        ),
        model_of("float[2,2,6,6] x", "float[2,3,4,4] y", constants, "y = Conv(x, w, b)"),
        tolerance=ROUNDING,
    )


@pytest.mark.parametrize(
    ("node", "weights", "count", "channels", "inputs", "outputs"),
    [
        ("Conv<group=2>", "4,1,3,3", 36, 4, "1,2,6,6", "1,4,4,4"),
        ("Conv<group=3>", "3,1,3,3", 27, 3, "1,3,6,6", "1,3,4,4"),
        ("Conv", "3,2,3", 18, 3, "1,2,6", "1,3,4"),
        ("Conv", "2,2,2,2,2", 32, 2, "1,2,3,3,3", "1,2,2,2,2"),
        ("Conv<dilations=[2, 2], pads=[1, 0, 1, 2], strides=[2, 1]>", "3,2,3,3", 54, 3, "1,2,6,6", "1,3,2,4"),
        ("ConvTranspose", "2,3,2,2", 24, 3, "1,2,3,3", "1,3,4,4"),
        ("ConvTranspose<group=2>", "4,3,2,2", 48, 6, "1,4,3,3", "1,6,4,4"),
        ("ConvTranspose<group=4, strides=[2, 2]>", "4,1,2,2", 16, 4, "1,4,3,3", "1,4,6,6"),
        ("Gemm", "4,3", 12, 3, "2,4", "2,3"),
        ("Gemm<transB=1>", "3,4", 12, 3, "2,4", "2,3"),
        ("Gemm<transA=1, alpha=0.5>", "4,3", 12, 3, "4,2", "2,3"),
    ],
)
def test_every_linear_operator(node: str, weights: str, count: int, channels: int, inputs: str, outputs: str) -> None:
    constants = f"float[{weights}] w = {{{numbers(count)}}}, float[{channels}] b = {{{numbers(channels)}}}"
    check_pass(
        FoldBatchNorm(),
        model_of(
            f"float[{inputs}] x",
            f"float[{outputs}] y",
            f"{constants}, {batchnorm(channels)}",
            f"c = {node}(x, w) y = BatchNormalization(c, s, o, m, v)",
        ),
        model_of(f"float[{inputs}] x", f"float[{outputs}] y", constants, f"y = {node}(x, w, b)"),
        tolerance=ROUNDING,
    )


@pytest.mark.parametrize("bias", ["float b = {0.7}", "float[3] b = {1, 2, 3}", "float[2,1] b = {1, 2}"])
def test_gemm_whose_bias_is_scaled_and_broadcast(bias: str) -> None:
    model = check_pass(
        FoldBatchNorm(),
        model_of(
            "float[2,4] x",
            "float[2,3] y",
            f"float[4,3] w = {{{numbers(12)}}}, {bias}, {batchnorm(3)}",
            "c = Gemm<alpha=2.0, beta=0.5>(x, w, b) y = BatchNormalization(c, s, o, m, v)",
        ),
        tolerance=ROUNDING,
    )
    assert [node.op for node in model.nodes()] == ["Gemm"]


@pytest.mark.parametrize("batch", ["2", "N"])
def test_matmul_becomes_gemm(batch: str) -> None:
    constants = f"float[4,3] w = {{{numbers(12)}}}, float[3] b = {{0, 0, 0}}"
    check_pass(
        FoldBatchNorm(),
        model_of(
            f"float[{batch},4] x",
            f"float[{batch},3] y",
            f"{constants}, {batchnorm(3)}",
            "c = MatMul(x, w) y = BatchNormalization(c, s, o, m, v)",
        ),
        model_of(f"float[{batch},4] x", f"float[{batch},3] y", constants, "y = Gemm(x, w, b)"),
        tolerance=ROUNDING,
    )


def test_matmul_with_more_axes_takes_a_scale() -> None:
    constants = f"float[4,3] w = {{{numbers(12)}}}, float[3] k = {{{numbers(3)}}}"
    check_pass(
        FoldBatchNorm(),
        model_of("float[2,5,4] x", "float[2,5,3] y", constants, "c = MatMul(x, w) y = Mul(c, k)"),
        model_of("float[2,5,4] x", "float[2,5,3] y", constants, "y = MatMul(x, w)"),
        tolerance=ROUNDING,
    )


@pytest.mark.parametrize(
    "body",
    [
        "a = Mul(c, k) y = Add(a, t)",
        "a = Mul(k, c) y = Add(t, a)",
        "a = Sub(c, t) y = Div(a, k)",
        "a = Sub(t, c) y = Mul(a, k)",
        "u = Unsqueeze(f, i) a = Mul(c, u) y = Add(a, n)",
    ],
)
def test_normalization_exported_as_arithmetic(body: str) -> None:
    constants = f"""float[3,2,3,3] w = {{{numbers(54)}}}, float[3,1,1] k = {{{numbers(3)}}},
        float[1,3,1,1] t = {{{numbers(3, 0.6)}}}, float[3] f = {{2, 3, 4}}, int64[2] i = {{1, 2}}, float n = {{0.5}}"""
    check_pass(
        FoldBatchNorm(),
        model_of("float[1,2,6,6] x", "float[1,3,4,4] y", constants, f"c = Conv(x, w) {body}"),
        model_of(
            "float[1,2,6,6] x",
            "float[1,3,4,4] y",
            f"float[3,2,3,3] w = {{{numbers(54)}}}, float[3] b = {{0, 0, 0}}",
            "y = Conv(x, w, b)",
        ),
        tolerance=ROUNDING,
    )


def test_normalization_followed_by_another() -> None:
    constants = f"float[3,2,1,1] w = {{{numbers(6)}}}, float[3] b = {{{numbers(3)}}}, {batchnorm(3)}"
    check_pass(
        FoldBatchNorm(),
        model_of(
            "float[1,2,4,4] x",
            "float[1,3,4,4] y",
            constants,
            """c = Conv(x, w)
            a = BatchNormalization(c, s, o, m, v)
            d = BatchNormalization(a, s, o, m, v)
            y = Relu(d)""",
        ),
        model_of("float[1,2,4,4] x", "float[1,3,4,4] y", constants, "c = Conv(x, w, b) y = Relu(c)"),
        tolerance=ROUNDING,
    )


@pytest.mark.parametrize(("dtype", "code", "tolerance"), [("double", 11, 1e-13), ("float16", 10, 5e-3)])
def test_other_float_types(dtype: str, code: int, tolerance: float) -> None:
    # onnx's text has no float16 numbers: cleanup folds these Casts.
    casts = " ".join(f"{name}_ = Cast<to={code}>({name})" for name in "wsomv")
    model = check_pass(
        FoldBatchNorm(),
        model_of(
            f"{dtype}[2,4] x",
            f"{dtype}[2,3] y",
            f"float[4,3] w = {{{numbers(12)}}}, {batchnorm(3)}",
            f"{casts} c = Gemm(x, w_) y = BatchNormalization(c, s_, o_, m_, v_)",
        ),
        tolerance=tolerance,
    )
    assert [node.op for node in model.nodes()] == ["Gemm"]
    assert {str(value_of(tensor).dtype) for tensor in model.nodes()[0].inputs[1:]} == {
        dtype.replace("double", "float64")
    }


def test_shared_weights_stay_as_they_are() -> None:
    constants = f"float[2,2,1,1] w = {{{numbers(4)}}}, float[2] b = {{1, 2}}, {batchnorm(2)}"
    text = model_of(
        "float[1,2,4,4] x",
        "float[1,2,4,4] y, float[1,2,4,4] z",
        constants,
        "c = Conv(x, w, b) y = BatchNormalization(c, s, o, m, v) z = Conv(x, w, b)",
    )
    model = check_pass(
        FoldBatchNorm(),
        text,
        model_of(
            "float[1,2,4,4] x", "float[1,2,4,4] y, float[1,2,4,4] z", constants, "y = Conv(x, w, b) z = Conv(x, w, b)"
        ),
        tolerance=ROUNDING,
    )
    plain = next(node for node in model.nodes() if node.outputs[0].name == "z")
    assert plain.inputs[1].name == "w"
    assert value_of(plain.inputs[1]).tolist() == value_of(Model.from_text(text).nodes("Conv")[1].inputs[1]).tolist()


def test_normalization_shared_by_two_convolutions() -> None:
    constants = f"float[2,2,1,1] w = {{{numbers(4)}}}, float[2] b = {{1, 2}}, {batchnorm(2)}"
    check_pass(
        FoldBatchNorm(),
        model_of(
            "float[1,2,4,4] x",
            "float[1,2,4,4] y, float[1,2,4,4] z",
            constants,
            """c = Conv(x, w) y = BatchNormalization(c, s, o, m, v)
            d = Conv(y, w) z = BatchNormalization(d, s, o, m, v)""",
        ),
        model_of(
            "float[1,2,4,4] x", "float[1,2,4,4] y, float[1,2,4,4] z", constants, "y = Conv(x, w, b) z = Conv(y, w, b)"
        ),
        tolerance=ROUNDING,
    )


def test_open_dimensions() -> None:
    constants = f"float[3,2,3,3] w = {{{numbers(54)}}}, float[3] b = {{0, 0, 0}}, {batchnorm(3)}"
    check_pass(
        FoldBatchNorm(),
        model_of(
            "float[N,2,H,W] x",
            "float[N,3,P,Q] y",
            constants,
            "c = Conv(x, w) n = BatchNormalization(c, s, o, m, v) y = Relu(n)",
        ),
        model_of("float[N,2,H,W] x", "float[N,3,P,Q] y", constants, "c = Conv(x, w, b) y = Relu(c)"),
        tolerance=ROUNDING,
    )


def test_result_read_in_a_subgraph() -> None:
    constants = f"float[2,2,1,1] w = {{{numbers(4)}}}, {batchnorm(2)}"
    model = check_pass(
        FoldBatchNorm(),
        f"""g (float[1,2,4,4] x, bool k) => (float[1,2,4,4] y) <{constants}> {{
            c = Conv(x, w)
            n = BatchNormalization(c, s, o, m, v)
            y = If (k) <then_branch = t () => (float[1,2,4,4] p) {{ p = Relu(n) }},
                        else_branch = e () => (float[1,2,4,4] q) {{ q = Neg(n) }}>
        }}""",
        tolerance=ROUNDING,
    )
    assert [node.op for node in model.nodes()] == ["Conv", "If"]


def test_the_linear_node_remembers_both() -> None:
    constants = f"float[2,2,1,1] w = {{{numbers(4)}}}, {batchnorm(2)}"
    model = check_pass(
        FoldBatchNorm(),
        model_of(
            "float[1,2,4,4] x", "float[1,2,4,4] y", constants, "c = Conv(x, w) y = BatchNormalization(c, s, o, m, v)"
        ),
        tolerance=ROUNDING,
    )
    assert origins(model.nodes()[0]) == ("Conv_0", "BatchNormalization_1")


@pytest.mark.parametrize(("add", "scale"), [("Add(a, b)", "Mul(k, t)"), ("Add(b, a)", "Div(t, k)")])
def test_layer_scale_behind_a_transpose_and_a_bias(add: str, scale: str) -> None:
    """As torch writes ConvNeXt: the scale goes into the weights and the bias of a MatMul with four axes."""
    constants = f"float[4,3] w = {{{numbers(12)}}}, float[3] b = {{{numbers(3)}}}, float[3,1,1] k = {{{numbers(3)}}}"
    model = check_pass(
        FoldBatchNorm(),
        model_of(
            "float[N,2,2,4] x, float[N,3,2,2] z",
            "float[N,3,2,2] y",
            constants,
            f"a = MatMul(x, w) s = {add} t = Transpose<perm=[0, 3, 1, 2]>(s) u = {scale} y = Add(u, z)",
        ),
        model_of(
            "float[N,2,2,4] x, float[N,3,2,2] z",
            "float[N,3,2,2] y",
            constants,
            "a = MatMul(x, w) s = Add(a, b) t = Transpose<perm=[0, 3, 1, 2]>(s) y = Add(t, z)".replace(
                "Add(a, b)", add
            ),
        ),
        tolerance=ROUNDING,
        skips=["MatMul_0 has no place for a bias"],
    )
    assert [node.outputs[0].name for node in model.nodes()] == ["a_scaled", "s_scaled", "u", "y"]


def test_shift_goes_into_the_bias_behind_a_matmul() -> None:
    constants = f"float[4,3] w = {{{numbers(12)}}}, float[3] b = {{{numbers(3)}}}, float[3] k = {{{numbers(3, 0.9)}}}"
    check_pass(
        FoldBatchNorm(),
        model_of("float[2,5,4] x", "float[2,5,3] y", constants, "a = MatMul(x, w) s = Add(a, b) y = Sub(k, s)"),
        model_of("float[2,5,4] x", "float[2,5,3] y", constants, "a = MatMul(x, w) y = Add(a, b)"),
        tolerance=ROUNDING,
        skips=["MatMul_0 has no place for a bias"],
    )


# ------------------------------------------------------------------------------------------ it does not, and says why

W = f"float[2,2,1,1] w = {{{numbers(4)}}}"
IN, OUT = "float[1,2,4,4] x", "float[1,2,4,4] y"
N = "BatchNormalization"


@pytest.mark.parametrize(
    ("inputs", "outputs", "constants", "body", "reason"),
    [
        (
            IN,
            OUT,
            batchnorm(2),
            f"y = {N}(x, s, o, m, v)",
            "its input comes from an input or constant, not from a Conv",
        ),
        (IN, OUT, batchnorm(2), f"c = Relu(x) y = {N}(c, s, o, m, v)", "its input comes from Relu_0 (Relu), not from"),
        (
            IN,
            OUT,
            f"{W}, {batchnorm(2)}",
            f"c = Conv(x, w) n = {N}(c, s, o, m, v) y = Add(n, c)",
            "its input 'c' is read by 2 nodes",
        ),
        (
            IN,
            f"{OUT}, float[1,2,4,4] c",
            f"{W}, {batchnorm(2)}",
            f"c = Conv(x, w) y = {N}(c, s, o, m, v)",
            "its input 'c' is an output of the model too",
        ),
        (
            f"{IN}, float[2,2,1,1] w",
            OUT,
            batchnorm(2),
            f"c = Conv(x, w) y = {N}(c, s, o, m, v)",
            "the weights of Conv_0 are not constant",
        ),
        (
            f"{IN}, float[2] b",
            OUT,
            f"{W}, {batchnorm(2)}",
            f"c = Conv(x, w, b) y = {N}(c, s, o, m, v)",
            "the weights of Conv_0 are not constant",
        ),
        (
            f"{IN}, float[2] k",
            OUT,
            f"{W}, {batchnorm(2)}",
            f"c = Conv(x, w) y = {N}(c, k, o, m, v)",
            "its scale, bias, mean and variance are not constants with one value per channel",
        ),
        (
            IN,
            OUT,
            f"{W}, float[2] s = {{1, 1}}, float[2] v = {{-1, 1}}",
            f"c = Conv(x, w) y = {N}(c, s, s, s, v)",
            "variance plus epsilon is not positive",
        ),
        (
            IN,
            OUT,
            f"{W}, float[2] s = {{1e38, 1}}, float[2] v = {{1e-30, 1}}",
            f"c = Conv(x, w) y = {N}<epsilon=0.0>(c, s, s, s, v)",
            "the new weights of Conv_0 would not be finite in float32",
        ),
        (
            IN,
            OUT,
            f"{W}, float[4] k = {{1, 2, 3, 4}}",
            "c = Conv(x, w) y = Mul(c, k)",
            "its constant 'k' is not one value per channel",
        ),
        (
            IN,
            OUT,
            f"{W}, float[2,1,1] k = {{1, 0}}",
            "c = Conv(x, w) y = Div(c, k)",
            "it divides by zero",
        ),
        (
            "float[2,5,4] x",
            "float[2,5,3] y",
            f"float[4,3] w = {{{numbers(12)}}}, float[3] k = {{1, 2, 3}}",
            "c = MatMul(x, w) y = Add(c, k)",
            "MatMul_0 has no place for a bias",
        ),
        (
            "float[2,3,4] x",
            "float[2,3,3] y",
            f"float[4,3] w = {{{numbers(12)}}}, {batchnorm(3)}",
            f"c = MatMul(x, w) y = {N}(c, s, o, m, v)",
            "it normalizes axis 1 of a tensor with 3 axes",
        ),
        (
            "float[2,5,4] x",
            "float[2,5,3] y",
            f"float[4,3] w = {{{numbers(12)}}}, float[5,1] k = {{1, 2, 3, 4, 5}}",
            "c = MatMul(x, w) a = Add(c, k) y = Mul(a, k)",
            "Add_1 (Add) between it and MatMul_0 (MatMul) does not add one value per channel",
        ),
        (
            "float[2,5,4] x",
            "float[2,3,5] y, float[2,3,5] z",
            f"float[4,3] w = {{{numbers(12)}}}, float k = {{2}}",
            "c = MatMul(x, w) t = Transpose<perm=[0, 2, 1]>(c) y = Mul(t, k) z = Relu(t)",
            "its input 't' is read by 2 nodes",
        ),
    ],
)
def test_reason(inputs: str, outputs: str, constants: str, body: str, reason: str) -> None:
    assert_skipped(FoldBatchNorm(), model_of(inputs, outputs, constants, body), reason)


def test_result_of_larger_rank_stays() -> None:
    text = model_of(IN, "float[3,1,2,4,4] y", f"{W}, float[3,1,1,1,1] k = {{1, 2, 3}}", "c = Conv(x, w) y = Mul(c, k)")
    assert_skipped(FoldBatchNorm(), text, "its constant 'k' is not one value per channel")


def test_arithmetic_elsewhere_is_not_mentioned() -> None:
    text = model_of(IN, OUT, "float[2,1,1] k = {1, 2}", "c = Relu(x) a = Mul(c, k) b = Add(a, c) y = Div(k, b)")
    assert_skipped(FoldBatchNorm(), text, "")


def test_training_mode() -> None:
    text = model_of(
        IN,
        f"{OUT}, float[2] p, float[2] q",
        f"{W}, {batchnorm(2)}",
        f"c = Conv(x, w) y, p, q = {N}<training_mode=1>(c, s, o, m, v)",
    )
    assert_skipped(FoldBatchNorm(), text, "it is in training mode")


def test_ignored_node_stays_and_is_not_promised() -> None:
    body = f"c = Conv(x, w) n = {N}(c, s, o, m, v) d = Conv(n, w) y = {N}(d, s, o, m, v)"
    model = check_pass(
        FoldBatchNorm(ignore=("BatchNormalization_1",)),
        model_of(IN, OUT, f"{W}, {batchnorm(2)}", body),
        tolerance=ROUNDING,
    )
    assert [node.op for node in model.nodes()] == ["Conv", N, "Conv"]


def test_foldable_answers_without_changing() -> None:
    model = Model.from_text(
        model_of(IN, OUT, f"{W}, {batchnorm(2)}", f"c = Conv(x, w) n = {N}(c, s, o, m, v) y = {N}(n, s, o, m, v)")
    )
    digest = model.digest()
    first, second = model.nodes(N)
    assert foldable(first, model) is None
    assert "BatchNormalization_1" in (foldable(second, model) or "")
    assert model.digest() == digest
