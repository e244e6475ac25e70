"""Every operator that has an integer kernel, between DequantizeLinear and QuantizeLinear: one row per case."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from edgecc_tflite.testing import Case, check, lowered, run_tflite, scalar
from edgecc_tflite.testing.case import to_model
from edgecc_tflite.testing.quantized import Q, QuantizedCase, check_quantized, run_exactly, steps_apart, stored
from edgecc_tflite.verify import verify

IMAGE = Q((1, 8, 9, 9))
ROWS = Q((3, 16))
SAME = ((0.02, 3),)
OTHER = ((0.015, -7),)
COARSER = ((0.03, 5),)
FINER = ((0.008, -4),)
I64 = np.int64


def ints(*values: int) -> np.ndarray:
    return np.array(values, I64)


def weights(*shape: int, channels: int = 0, axis: int = 0) -> Q:
    """Stored weights with one scale, or one per channel."""
    scale = tuple(0.004 + 0.001 * n for n in range(channels)) if channels else 0.005
    return Q(shape, scale, 0, values=stored(*shape), axis=axis)


def bias(count: int, scale: float) -> Q:
    values = stored(count, dtype="int32", low=-9000, high=9000)
    return Q((count,), scale, 0, dtype="int32", values=values)


def biases(scale: tuple[float, ...]) -> Q:
    return Q((len(scale),), scale, 0, dtype="int32", values=stored(len(scale), dtype="int32", low=-900, high=900))


C = QuantizedCase
PER_CHANNEL = tuple(0.004 + 0.001 * n for n in range(6))

WEIGHTED = [
    C("Conv", (IMAGE, weights(6, 8, 3, 3)), ((0.4, 2),), {"pads": [1] * 4}, "same", on_integers="CONV_2D"),
    C(
        "Conv",
        (IMAGE, weights(6, 8, 3, 3, channels=6), biases(tuple(0.02 * s for s in PER_CHANNEL))),
        ((0.5, 2),),
        {"strides": [2, 2]},
        "per channel",
        on_integers="CONV_2D",
    ),
    C("Conv", (IMAGE, weights(6, 8, 1, 1), bias(6, 0.02 * 0.005)), ((0.2, 2),), label="bias", on_integers="CONV_2D"),
    C(
        "Conv",
        (IMAGE, weights(6, 8, 1, 1), np.linspace(-1, 1, 6).astype(np.float32)),
        ((0.2, 2),),
        label="float bias",
        on_integers="CONV_2D",
    ),
    C(
        "Conv",
        (IMAGE, weights(8, 1, 3, 3, channels=8)),
        ((0.1, 2),),
        {"group": 8, "pads": [1, 1, 0, 0]},
        "depthwise",
        on_integers="DEPTHWISE_CONV_2D",
    ),
    C("Conv", (IMAGE, weights(6, 4, 3, 3, channels=6)), ((0.3, 2),), {"group": 2}, "groups", on_integers="CONV_2D"),
    C("Conv", (Q((1, 8, 15)), weights(6, 8, 3, channels=6)), ((0.3, 2),), label="1d", on_integers="CONV_2D"),
    C(
        "Conv",
        (
            Q((1, 8, 9, 9), 0.02, 130, "uint8"),
            Q((6, 8, 3, 3), 0.005, 121, values=stored(6, 8, 3, 3, dtype="uint8", low=0, high=255)),
        ),
        ((0.4, 120),),
        label="unsigned weights",
        on_integers="CONV_2D",
    ),
    C(
        "Conv",
        (IMAGE, np.random.default_rng(0).standard_normal((6, 8, 3, 3)).astype(np.float32)),
        ((0.4, 2),),
        label="float weights",
    ),
    C(
        "ConvTranspose",
        (IMAGE, weights(8, 6, 3, 3, channels=6, axis=1)),
        ((0.3, 2),),
        {"strides": [2, 2]},
        on_integers="TRANSPOSE_CONV",
    ),
    C(
        "ConvTranspose",
        (IMAGE, weights(8, 6, 2, 2), bias(6, 0.02 * 0.005)),
        ((0.2, 2),),
        {"strides": [2, 2]},
        "bias",
        on_integers="TRANSPOSE_CONV",
    ),
    C(
        "Gemm",
        (ROWS, weights(5, 16, channels=5), biases(tuple(0.02 * s for s in PER_CHANNEL[:5]))),
        ((0.1, 2),),
        {"transB": 1},
        on_integers="FULLY_CONNECTED",
    ),
    C("MatMul", (ROWS, weights(16, 5)), ((0.1, 2),), label="constant", on_integers="FULLY_CONNECTED"),
    C(
        "MatMul",
        (Q((2, 3, 16)), weights(16, 5, channels=5, axis=1)),
        ((0.1, 2),),
        label="rank 3",
        on_integers="FULLY_CONNECTED",
    ),
    C("MatMul", (Q((2, 3, 16)), Q((2, 16, 4), 0.01, -9)), ((0.05, 2),), label="computed", on_integers="BATCH_MATMUL"),
]

MOVING = [
    C("Transpose", (Q((2, 3, 4)),), SAME, {"perm": [2, 0, 1]}, on_integers="TRANSPOSE"),
    C("Transpose", (Q((2, 3, 4)),), OTHER, {"perm": [2, 0, 1]}, "rescaled", on_integers="TRANSPOSE MUL"),
    C("Reshape", (Q((2, 3, 4)), ints(4, 6)), SAME, on_integers="RESHAPE"),
    C("MaxPool", (IMAGE,), SAME, {"kernel_shape": [2, 2], "strides": [2, 2]}, on_integers="MAX_POOL_2D"),
    C(
        "MaxPool",
        (IMAGE,),
        OTHER,
        {"kernel_shape": [3, 3], "pads": [1] * 4, "strides": [2, 2]},
        "padded",
        on_integers="MAX_POOL_2D",
    ),
    C("GlobalMaxPool", (IMAGE,), SAME, on_integers="REDUCE_MAX"),
    C("Split", (Q((1, 8, 4)),), ((0.02, 3), (0.015, -7)), {"axis": 1, "num_outputs": 2}, on_integers="SPLIT MUL"),
    C("Slice", (Q((1, 8, 4)), ints(1), ints(5), ints(1)), SAME, on_integers="SLICE"),
    C("Gather", (Q((1, 8, 4)), ints(3, 0, 3)), SAME, {"axis": 1}, on_integers="GATHER"),
    C("Pad", (IMAGE, ints(0, 0, 1, 1, 0, 0, 1, 2)), OTHER, on_integers="PAD"),
    C("Pad", (IMAGE, ints(0, 0, 1, 1, 0, 0, 1, 2)), SAME, {"mode": "reflect"}, "reflect", on_integers="MIRROR_PAD"),
    C(
        "Resize",
        (IMAGE, None, np.array([1, 1, 2, 2], np.float32)),
        SAME,
        {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
        "nearest",
        on_integers="RESIZE_NEAREST_NEIGHBOR",
    ),
    C("DepthToSpace", (IMAGE,), SAME, {"blocksize": 2}, on_integers="DEPTH_TO_SPACE"),
    C("SpaceToDepth", (Q((1, 2, 8, 8)),), SAME, {"blocksize": 2}, on_integers="SPACE_TO_DEPTH"),
    C("Tile", (Q((2, 3)), ints(2, 2)), SAME, on_integers="TILE"),
    C("Expand", (Q((2, 1)), ints(2, 5)), SAME, on_integers="BROADCAST_TO"),
    C("ReduceMax", (IMAGE, ints(2, 3)), SAME, on_integers="REDUCE_MAX"),
    C(
        "ReduceMin",
        (
            IMAGE,
            ints(
                1,
            ),
        ),
        OTHER,
        on_integers="REDUCE_MIN",
    ),
]

CHOOSING = [
    C(
        "Concat",
        (Q((1, 2, 5)), Q((1, 3, 5), 0.03, -5)),
        ((0.03, 1),),
        {"axis": 1},
        on_integers="CONCATENATION MUL",
    ),
    C(
        "Concat",
        (Q((1, 2, 5)), Q((1, 3, 5), 0.01, 0, values=stored(1, 3, 5))),
        ((0.02, 3),),
        {"axis": 1},
        "constant",
        on_integers="CONCATENATION",
    ),
    C("Max", (ROWS, Q((3, 16), 0.03, -5)), COARSER, on_integers="MAXIMUM"),
    C("Min", (ROWS, Q((1, 16), 0.03, -5)), COARSER, label="broadcast", on_integers="MINIMUM"),
    C("Where", (np.array([[True], [False], [True]]), ROWS, Q((3, 16), 0.03, -5)), COARSER, on_integers="SELECT_V2"),
    C("Relu", (ROWS,), SAME, on_integers="RELU"),
    C("Relu", (ROWS,), ((0.012, -128),), label="by saturation", on_integers="MUL"),
    C(
        "Clip",
        (Q((3, 16), 0.1), np.zeros((), np.float32), np.full((), 6, np.float32)),
        ((0.05, -50),),
        label="six",
        on_integers="RELU6",
    ),
    C(
        "Clip",
        (ROWS, np.full((), -0.7, np.float32), np.full((), 1.1, np.float32)),
        SAME,
        label="bounds",
        on_integers="MAXIMUM MINIMUM",
    ),
]

COMPUTING = [
    C("Add", (ROWS, Q((3, 16), 0.03, -5)), ((0.05, 1),), on_integers="ADD"),
    C("Add", (ROWS, Q((16,), 0.01, -5, values=stored(16))), ((0.03, 1),), label="constant", on_integers="ADD"),
    C("Add", (ROWS, np.full((), 0.37, np.float32)), ((0.03, 1),), label="scalar", on_integers="ADD"),
    C("Add", (ROWS, np.linspace(-1, 1, 16).astype(np.float32)), ((0.03, 1),), label="float constant"),
    C("Sub", (ROWS, Q((3, 16), 0.03, -5)), ((0.05, 1),), on_integers="SUB"),
    C("Mul", (ROWS, Q((3, 16), 0.03, -5)), ((0.07, 1),), on_integers="MUL"),
    C("Mul", (IMAGE, Q((1, 8, 1, 1), 0.03, -5)), ((0.07, 1),), label="gate", on_integers="MUL"),
    C("Div", (ROWS, Q((3, 16), 0.03, -128)), ((0.07, 1),), label="computed"),
    C("GlobalAveragePool", (IMAGE,), FINER, on_integers="MEAN"),
    C("ReduceMean", (IMAGE, ints(1)), OTHER, {"keepdims": 0}, on_integers="MEAN"),
    C("ReduceSum", (IMAGE, ints(1)), ((0.1, 2),), on_integers="SUM"),
    C("LeakyRelu", (ROWS,), OTHER, {"alpha": 0.1}, on_integers="LEAKY_RELU"),
    C("PRelu", (IMAGE, Q((8, 1, 1), 0.01, 0, values=stored(8, 1, 1))), OTHER, on_integers="PRELU"),
    C("HardSwish", (Q((3, 64), 0.06),), ((0.04, -118),), on_integers="HARD_SWISH"),
    C("Gelu", (Q((3, 64), 0.04),), ((0.03, -118),), on_integers="GELU"),
    C("Elu", (Q((3, 64), 0.04),), ((0.03, -98),), on_integers="ELU"),
    C("Exp", (Q((3, 64)),), ((0.05, -128),), on_integers="EXP"),
    C("Sqrt", (Q((3, 64), 0.02, -128),), ((0.01, -128),), on_integers="SQRT"),
    C("Tanh", (Q((3, 64), 0.03),), ((1 / 127, 0),), on_integers="TANH"),
    C("Abs", (Q((3, 64), 0.03),), ((0.03, -128),), on_integers="ABS"),
]

FIXED = [
    C("Sigmoid", (Q((3, 64), 0.06),), ((1 / 256, -128),), on_integers="LOGISTIC"),
    C("Sigmoid", (Q((3, 64), 0.06, 130, "uint8"),), ((1 / 255, 0),), label="255", on_integers="LOGISTIC MUL"),
    C("Sigmoid", (Q((3, 64), 0.01),), ((0.003, -128),), label="finer"),
    C("Softmax", (Q((3, 10), 0.1),), ((1 / 256, -128),), on_integers="SOFTMAX"),
    C("Softmax", (Q((3, 10), 0.1, 130, "uint8"),), ((1 / 255, 0),), label="255", on_integers="SOFTMAX"),
    C("Softmax", (Q((3, 100), 0.01),), ((0.0001, -128),), label="finer"),
    C("LogSoftmax", (Q((3, 10), 0.1),), ((16 / 256, 127),), on_integers="LOG_SOFTMAX"),
]

AVERAGING = [
    C("AveragePool", (IMAGE,), SAME, {"kernel_shape": [3, 3], "strides": [2, 2]}, on_integers="AVERAGE_POOL_2D"),
    C(
        "AveragePool",
        (IMAGE,),
        COARSER,
        {"kernel_shape": [3, 3], "strides": [2, 2]},
        "coarser",
        on_integers="DEPTHWISE_CONV_2D",
    ),
    C(
        "AveragePool",
        (IMAGE,),
        FINER,
        {"kernel_shape": [3, 3], "strides": [2, 2]},
        "finer",
        on_integers="DEPTHWISE_CONV_2D",
    ),
    C(
        "AveragePool",
        (IMAGE,),
        SAME,
        {"kernel_shape": [3, 3], "pads": [1] * 4},
        "border",
        on_integers="AVERAGE_POOL_2D",
    ),
    C("AveragePool", (IMAGE,), FINER, {"kernel_shape": [3, 3], "pads": [1] * 4}, "finer border"),
    C(
        "Resize",
        (IMAGE, None, np.array([1, 1, 2, 2], np.float32)),
        SAME,
        {"mode": "linear"},
        "linear",
        on_integers="RESIZE_BILINEAR",
    ),
    C("Resize", (IMAGE, None, np.array([1, 1, 2, 2], np.float32)), FINER, {"mode": "linear"}, "linear, finer"),
]

ISLANDS = [
    C("Sin", (ROWS,), SAME),
    C("HardSigmoid", (ROWS,), ((1 / 256, -128),)),
    C("CumSum", (ROWS, np.array(1, I64)), COARSER),
]


#: Scales so far apart that kernels overflow, or XNNPACK refuses the model: computed in float.
EXTREMES = [
    C("Conv", (IMAGE, weights(6, 8, 1, 1)), ((1e-7, 2),), label="extreme"),
    C("MatMul", (ROWS, weights(16, 5)), ((1e-7, 2),), label="extreme"),
    C("Mul", (ROWS, Q((3, 16), 1.0, -5)), ((0.005, 1),), label="extreme"),
    C("Add", (ROWS, Q((3, 16), 1.0, -5)), ((0.005, 1),), label="extreme"),
    C("HardSwish", (Q((3, 64), 1.0),), ((0.001, 1),), label="extreme"),
    C("Transpose", (Q((3, 16), 1.0),), ((0.001, 1),), label="extreme"),
    C("AveragePool", (Q((1, 8, 9, 9), 1.0),), ((0.001, 1),), {"kernel_shape": [3, 3]}, "extreme"),
    C("LogSoftmax", (Q((3, 10), 10.0),), ((1.0, 127),), label="beyond -16"),
]


CHANNELS = np.linspace(0.01, 0.03, 16, dtype=np.float32)

#: By themselves, on both sets of kernels.
CASES = [
    Case("QuantizeLinear", ("f:3,16", scalar(0.02), np.array(3, np.int8))),
    Case("QuantizeLinear", ("f:3,16", scalar(0.02), np.array(130, np.uint8)), label="unsigned"),
    Case("QuantizeLinear", ("f:3,16", scalar(0.02)), label="without zero point"),
    Case("QuantizeLinear", ("f:3,16", scalar(0.001), np.array(0, np.int16)), label="16 bits"),
    Case("QuantizeLinear", ("f:3,16", scalar(0.001), np.array(30000, np.uint16)), label="unsigned 16 bits"),
    Case("QuantizeLinear", ("f:3,16", CHANNELS, np.full(16, 3, np.int8)), label="per channel"),
    Case("QuantizeLinear", ("f:16,3", CHANNELS, np.full(16, 3, np.int8)), {"axis": 0}, label="other axis"),
    Case(
        "QuantizeLinear",
        ("f:3,16", CHANNELS.reshape(1, 16).repeat(3, 0)[:, :4], stored(3, 4)),
        {"axis": 1, "block_size": 4},
        label="per block",
    ),
    Case(
        "DequantizeLinear",
        ("i8:4,3", CHANNELS[:6].reshape(2, 3), stored(2, 3)),
        {"axis": 0, "block_size": 2},
        label="per block",
        span=(-128, 127),
    ),
    Case("DequantizeLinear", ("i8:3,16", scalar(0.02), np.array(3, np.int8)), span=(-128, 127)),
    Case("DequantizeLinear", ("u8:3,16", scalar(0.02), np.array(130, np.uint8)), label="unsigned", span=(0, 255)),
    Case("DequantizeLinear", ("i32:3,16", scalar(0.02)), label="32 bits", span=(-9999, 9999)),
    Case("DequantizeLinear", ("i8:3,16", CHANNELS, np.full(16, 3, np.int8)), label="per channel", span=(-128, 127)),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_equals_onnxruntime(case: Case) -> None:
    check(case)


@pytest.mark.parametrize(
    "case", WEIGHTED + MOVING + CHOOSING + COMPUTING + FIXED + AVERAGING + ISLANDS + EXTREMES, ids=str
)
def test_case(case: QuantizedCase) -> None:
    check_quantized(case)


# --------------------------------------------------------------------------------------------------------- 16 bits

#: What LiteRT 2.3 has no kernel for in int16, or none that is within a step: float islands.
ISLANDS_IN_16_BITS = frozenset(
    {
        "DepthToSpace",
        "SpaceToDepth",
        "PRelu",
        "HardSwish",
        "Gelu",
        "Elu",
        "Exp",
        "Sqrt",
        "Tanh",
        "Softmax",
        "LogSoftmax",
    }
)
#: Inputs that are stored in 8 bits beside data of 16.
WITH_WEIGHTS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


def in_16_bits(case: QuantizedCase) -> QuantizedCase:
    """The case with int16 data around 0 in steps as much finer, and weights as they were."""
    inputs = tuple(
        _in_16_bits(x, is_weight=n > 0 and case.op in WITH_WEIGHTS) if isinstance(x, Q) else x
        for n, x in enumerate(case.inputs)
    )
    fixed = {"Sigmoid": 1 / 32768, "Softmax": 1 / 32768}
    outs = tuple(None if out is None else (fixed.get(case.op, out[0] / 256), 0) for out in case.outs)
    # What saturates or is rescaled differs: that is for the cases of 8 bits to say.
    on_integers = "" if case.op in ISLANDS_IN_16_BITS or not case.on_integers else case.on_integers.split()[0]
    if case.label == "by saturation":
        on_integers = "RELU"
    return replace(case, inputs=inputs, outs=outs, on_integers=on_integers)


def _in_16_bits(x: Q, *, is_weight: bool) -> Q:
    if is_weight and x.values is not None and x.dtype != "int32":
        return x
    scale = tuple(s / 256 for s in x.scale) if isinstance(x.scale, tuple) else x.scale / 256
    if x.dtype == "int32":
        return replace(x, scale=scale)
    values = None if x.values is None else x.values.astype(np.int16) * 200
    return replace(x, scale=scale, zero_point=0, dtype="int16", values=values)


@pytest.mark.parametrize(
    "case",
    [
        case
        for case in WEIGHTED + MOVING + CHOOSING + COMPUTING + FIXED + AVERAGING + ISLANDS
        if case.dtype == "int8" and not (case.op in ("Sigmoid", "Softmax") and case.label)
    ],
    ids=str,
)
def test_in_16_bits(case: QuantizedCase) -> None:
    check_quantized(in_16_bits(case))


W = Q((3, 16), 0.001, 0, "int16")


@pytest.mark.parametrize(
    "case",
    [
        C("Mul", (W, Q((3, 16), 1.0, 0, "int16")), ((0.001 / 1.9, 0),), label="within", on_integers="MUL"),
        C("Mul", (W, Q((3, 16), 1.0, 0, "int16")), ((0.001 / 2.1, 0),), label="beyond"),
        C("Add", (W, Q((3, 16), 0.1, 0, "int16")), ((0.1 / 127, 0),), label="within", on_integers="ADD"),
        C("Add", (W, Q((3, 16), 0.1, 0, "int16")), ((0.1 / 129, 0),), label="beyond"),
        # 16 products of 23 bits each must fit into 32.
        C("MatMul", (W, weights(16, 5)), ((0.001 * 0.005 / 31, 0),), label="within", on_integers="FULLY_CONNECTED"),
        C("MatMul", (W, weights(16, 5)), ((0.001 * 0.005 / 33, 0),), label="beyond"),
        C(
            "AveragePool",
            (Q((1, 8, 9, 9), 0.01, 0, "int16"),),
            ((0.01 / 63, 0),),
            {"kernel_shape": [3, 3]},
            "finer",
            on_integers="DEPTHWISE_CONV_2D",
        ),
    ],
    ids=str,
)
def test_scales_far_apart_in_16_bits(case: QuantizedCase) -> None:
    check_quantized(case)


def test_from_8_bits_to_16_and_back() -> None:
    """Where the types differ there is no kernel: the values pass through float."""
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "s8", "z8"], ["f"]),
        helper.make_node("Relu", ["f"], ["r"]),
        helper.make_node("QuantizeLinear", ["r", "s16", "z16"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s16", "z16"], ["g"]),
        helper.make_node("AveragePool", ["g"], ["a"], kernel_shape=[2, 2]),
        helper.make_node("QuantizeLinear", ["a", "s8", "z8"], ["y"]),
    ]
    constants = {
        "s8": np.array(0.02, np.float32),
        "z8": np.array(3, np.int8),
        "s16": np.array(0.0001, np.float32),
        "z16": np.array(0, np.int16),
    }
    model = to_model(
        nodes,
        [helper.make_tensor_value_info("x", onnx.TensorProto.INT8, (1, 4, 6, 6))],
        ["y"],
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )
    feeds = {"x": stored(1, 4, 6, 6)}
    graph = lowered(model)
    assert not verify(graph)
    for xnnpack in (True, False):
        assert steps_apart(run_tflite(graph, feeds, xnnpack=xnnpack), run_exactly(model, feeds)) <= 1
