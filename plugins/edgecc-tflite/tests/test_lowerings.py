"""Every lowering rule against ONNX Runtime: one row per case."""

from __future__ import annotations

import runpy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, numpy_helper

from edgecc_tflite.lowerings import builtin_rules
from edgecc_tflite.testing import Case, check, f32, ints, scalar, weights

_IMAGE = "f:1,3,8,8"
_POSITIVE = (0.1, 3.0)


def _unary(*ops: str, **options: Any) -> list[Case]:
    return [Case(op, ("f:2,3,4",), **options) for op in ops]


def _binary(*ops: str, kind: str = "f", **options: Any) -> list[Case]:
    return [
        case
        for op in ops
        for case in (
            Case(op, (f"{kind}:2,3,4", f"{kind}:2,3,4"), label=kind, **options),
            Case(op, (f"{kind}:2,3,4,5", f"{kind}:4,1"), label=f"{kind}-broadcast", **options),
        )
    ]


ELEMENTWISE = [
    *_unary("Abs", "Neg", "Exp", "Floor", "Ceil", "Round", "Sin", "Cos", "Sign", "Identity"),
    *_unary("Sqrt", "Log", "Reciprocal", span=_POSITIVE),
    *_unary("Erf", "Sinh", "Cosh", "IsNaN", "IsInf"),
    *_unary("Tan", span=(-1.4, 1.4)),
    Case("IsInf", ("f:2,3",), {"detect_negative": 0}, label="positive"),
    *_binary("Add", "Sub", "Mul", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"),
    *_binary("Add", "Sub", "Mul", "Less", "Equal", kind="i64"),
    *_binary("Equal", kind="i32"),
    *_binary("And", "Or", "Xor", kind="b"),
    Case("Not", ("b:2,3",)),
    *_binary("Div", span=_POSITIVE),
    Case("Div", ("f:2,3", f32(2, 4, 0.5)), label="powers-of-two"),
    *_binary("Pow", span=_POSITIVE),
    *[Case("Pow", ("f:2,3", scalar(e)), label=str(e), span=_POSITIVE) for e in (2.0, 0.5, -0.5, 3.0)],
    Case("Mod", ("f:2,3,4", "f:2,3,4"), {"fmod": 1}, span=_POSITIVE),
    Case("Mod", ("i32:2,30", np.array(3, np.int32)), label="int32", span=(-9, 9)),
    Case("Min", ("f:2,3", "f:2,3", "f:1,3")),
    Case("Max", ("f:2,3", "f:2,3", "f:1,3")),
    Case("Max", ("f:2,3",), label="one"),
    Case("Sum", ("f:2,3", "f:2,3", "f:1,3")),
    Case("Mean", ("f:2,3", "f:2,3", "f:1,3")),
    Case("Where", ("b:2,3,1", "f:2,3,4", "f:4")),
    Case("Dropout", ("f:2,3",)),
]

ACTIVATION = [
    *_unary("Relu", "Sigmoid", "Tanh", "HardSwish", "LeakyRelu", "Elu", "Celu", "Selu", "HardSigmoid", "Softplus"),
    *_unary("Mish", "Softsign", "Gelu", "ThresholdedRelu", "Shrink"),
    Case("HardSigmoid", ("f:2,3",), {"alpha": 1 / 6, "beta": 0.5}, label="sixth", span=(-5, 5)),
    Case("Softplus", ("f:2,30",), label="large", span=(-90, 90)),
    Case("Gelu", ("f:2,3",), {"approximate": "tanh"}, label="tanh"),
    Case("Elu", ("f:2,3",), {"alpha": 0.5}, label="alpha"),
    Case("Celu", ("f:2,3",), {"alpha": 0.5}, label="alpha"),
    Case("PRelu", ("f:1,3,4,4", weights(3, 1, 1))),
    Case("PRelu", ("f:1,3,4,4", "f:3,1,1"), label="computed"),
    *[
        Case("Clip", ("f:2,9", low, high), label=label, span=(-9, 9))
        for label, low, high in (
            ("relu6", scalar(0), scalar(6)),
            ("unit", scalar(-1), scalar(1)),
            ("low", scalar(0.5), None),
            ("high", None, scalar(0.5)),
            ("both", scalar(-0.5), scalar(2)),
            ("none", None, None),
            ("computed", "f:", scalar(2)),
        )
    ],
    *[Case("Softmax", ("f:2,3,4,5",), {"axis": axis}, label=f"axis{axis}") for axis in (-1, 0, 1, 2)],
    Case("LogSoftmax", ("f:2,3,4",), {"axis": 1}),
]

CONV = [
    Case("Conv", (_IMAGE, weights(4, 3, 3, 3), weights(4)), {"pads": [1, 1, 1, 1]}, label="same"),
    Case("Conv", (_IMAGE, weights(4, 3, 3, 3)), label="valid"),
    Case("Conv", (_IMAGE, weights(4, 3, 3, 3), weights(4)), {"pads": [1, 1, 1, 1], "strides": [2, 2]}, label="strided"),
    Case("Conv", (_IMAGE, weights(4, 3, 3, 3)), {"pads": [0, 1, 2, 1]}, label="asymmetric"),
    Case("Conv", (_IMAGE, weights(4, 3, 3, 3)), {"pads": [2, 2, 2, 2], "dilations": [2, 2]}, label="dilated"),
    Case("Conv", (_IMAGE, weights(4, 3, 2, 3)), {"auto_pad": "SAME_UPPER", "strides": [2, 1]}, label="upper"),
    Case("Conv", (_IMAGE, weights(4, 3, 2, 2)), {"auto_pad": "SAME_LOWER"}, label="lower"),
    Case("Conv", ("f:2,4,8,8", weights(6, 2, 3, 3), weights(6)), {"group": 2}, label="grouped"),
    Case("Conv", ("f:2,4,8,8", weights(4, 1, 3, 3), weights(4)), {"group": 4, "pads": [1] * 4}, label="depthwise"),
    Case("Conv", ("f:2,4,8,8", weights(8, 1, 3, 3)), {"group": 4, "strides": [2, 2]}, label="multiplier"),
    Case("Conv", ("f:2,4,9,9", weights(4, 1, 3, 3)), {"group": 4, "dilations": [2, 2]}, label="depthwise-dilated"),
    Case("Conv", ("f:2,3,16", weights(4, 3, 3), weights(4)), {"pads": [1, 1], "strides": [2]}, label="1d"),
    Case("Conv", ("f:2,4,16", weights(4, 1, 5)), {"group": 4, "pads": [4, 0], "dilations": [1]}, label="1d-causal"),
    Case("ConvTranspose", ("f:1,3,5,5", weights(3, 4, 3, 3), weights(4)), label="valid"),
    *[
        Case("ConvTranspose", ("f:2,4,5,6", weights(4, 3, 3, 3), weights(3)), attributes, label=label)
        for label, attributes in (
            ("strided", {"strides": [2, 2]}),
            ("pads", {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
            ("double", {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]}),
            ("extra", {"strides": [3, 3], "output_padding": [2, 1]}),
            ("upper", {"strides": [2, 2], "auto_pad": "SAME_UPPER"}),
            ("lower", {"strides": [2, 2], "auto_pad": "SAME_LOWER"}),
            ("shape", {"strides": [2, 2], "output_shape": [10, 13]}),
            ("dilated", {"strides": [2, 1], "dilations": [2, 2], "pads": [1, 0, 0, 2]}),
        )
    ],
    Case("ConvTranspose", ("f:1,4,5,5", weights(4, 2, 4, 4)), {"strides": [2, 2], "pads": [1] * 4}, label="k4"),
    Case("ConvTranspose", ("f:1,4,5,5", weights(4, 2, 2, 2)), {"strides": [2, 2]}, label="k2"),
    Case(
        "ConvTranspose",
        ("f:1,4,5,5", weights(4, 3, 3, 3), weights(6)),
        {"strides": [2, 2], "group": 2, "pads": [1, 1, 1, 1], "output_padding": [1, 1]},
        label="grouped",
    ),
    Case("ConvTranspose", ("f:1,4,5,5", weights(4, 1, 4, 4)), {"strides": [2, 2], "group": 4}, label="depthwise"),
    Case("ConvTranspose", ("f:1,3,9", weights(3, 2, 4), weights(2)), {"strides": [2], "pads": [1, 1]}, label="1d"),
]

POOL = [
    *[
        Case(op, ("f:1,3,9,10",), {"kernel_shape": [3, 2], **attributes}, label=label)
        for op in ("MaxPool", "AveragePool")
        for label, attributes in (
            ("valid", {}),
            ("strided", {"strides": [2, 2]}),
            ("pads", {"strides": [2, 2], "pads": [1, 1, 1, 0]}),
            ("asymmetric", {"pads": [0, 1, 2, 0]}),
            ("ceil", {"strides": [2, 3], "ceil_mode": 1}),
            ("ceil-pads", {"strides": [2, 3], "ceil_mode": 1, "pads": [1, 1, 1, 1]}),
            ("upper", {"strides": [2, 2], "auto_pad": "SAME_UPPER"}),
        )
    ],
    Case("MaxPool", ("f:1,3,9",), {"kernel_shape": [3], "strides": [2]}, label="1d"),
    Case("AveragePool", ("f:1,3,9",), {"kernel_shape": [3], "pads": [1, 1]}, label="1d"),
    *[
        Case("AveragePool", ("f:1,3,9,9",), {"kernel_shape": [3, 3], "count_include_pad": 1, **attributes}, label=label)
        for label, attributes in (
            ("counted", {"pads": [1, 1, 1, 1]}),
            ("counted-strided", {"pads": [1, 1, 1, 1], "strides": [2, 2]}),
            ("counted-ceil", {"pads": [1, 0, 1, 1], "strides": [2, 3], "ceil_mode": 1}),
        )
    ],
    Case("GlobalAveragePool", ("f:2,3,4,5",)),
    Case("GlobalAveragePool", ("f:2,3,9",), label="1d"),
    Case("GlobalMaxPool", ("f:2,3,4,5",)),
]

_REDUCTIONS = ("Mean", "Sum", "Max", "Min", "Prod", "L1", "L2", "SumSquare", "LogSumExp")

REDUCE = [
    *[Case(f"Reduce{name}", ("f:2,3,4", ints(1))) for name in _REDUCTIONS],
    *[Case(f"Reduce{name}", ("f:2,3,4", ints(-1, 0)), {"keepdims": 0}, label="drop") for name in _REDUCTIONS],
    *[Case(f"Reduce{name}", ("f:2,3,4",), label="all") for name in ("Mean", "Sum", "LogSumExp")],
    Case("ReduceLogSum", ("f:2,3,4", ints(1)), span=_POSITIVE),
    Case("ReduceSum", ("f:2,3",), {"noop_with_empty_axes": 1}, label="noop"),
    Case("ReduceMax", ("i64:2,3,4", ints(1)), label="int64", span=(-9, 9)),
    Case("ArgMax", ("f:2,3,4",), {"axis": 1, "keepdims": 0}),
    Case("ArgMax", ("f:2,3,4",), {"axis": -1}, label="keep"),
    Case("ArgMin", ("f:2,3,4",), {"axis": 1, "keepdims": 0}),
    Case("CumSum", ("f:2,3,4", np.array(1, np.int64))),
    Case("CumSum", ("f:2,3,4", np.array(-1, np.int64)), {"reverse": 1, "exclusive": 1}, label="reverse"),
]

MATMUL = [
    *[
        Case("MatMul", (f"f:{a}", f"f:{b}"), label=f"{a}@{b}")
        for a, b in (("3,4", "4,5"), ("2,3,4", "2,4,5"), ("2,1,3,4", "5,4,3"), ("4", "4,5"), ("2,3,4", "4"), ("4", "4"))
    ],
    Case("MatMul", ("f:3,4", weights(4, 5)), label="constant"),
    Case("MatMul", ("f:2,3,4", weights(4, 5)), label="constant-3d"),
    Case("MatMul", ("f:2,3,4", weights(2, 4, 5)), label="constant-batch"),
    Case("MatMul", (weights(3, 4), "f:2,4,5"), label="constant-left"),
    Case("Gemm", ("f:3,4", weights(5, 4), weights(5)), {"transB": 1}, label="linear"),
    Case("Gemm", ("f:3,4", weights(4, 5), weights(3, 5)), {"alpha": 0.5, "beta": 2.0}, label="scaled"),
    Case("Gemm", ("f:4,3", weights(4, 5)), {"transA": 1}, label="transA"),
    Case("Gemm", ("f:4,3", "f:5,4", "f:5"), {"transA": 1, "transB": 1, "alpha": 0.5, "beta": 2.0}, label="computed"),
    Case("Gemm", ("f:3,4", "f:4,5", "f:3,1"), label="column"),
]

NORMALIZATION = [
    Case("BatchNormalization", ("f:2,3,4,5", weights(3), weights(3), weights(3), f32(0.5, 1, 2))),
    Case("BatchNormalization", ("f:2,3", weights(3), weights(3), weights(3), f32(0.5, 1, 2)), label="2d"),
    Case("InstanceNormalization", ("f:2,3,4,5", weights(3), weights(3)), tolerance=1e-5),
    Case("GroupNormalization", ("f:2,6,4,5", weights(6), weights(6)), {"num_groups": 3}, tolerance=1e-5),
    Case("LayerNormalization", ("f:2,3,8", weights(8), weights(8)), tolerance=1e-5),
    Case("LayerNormalization", ("f:2,3,8", weights(3, 8)), {"axis": 1}, label="axis1", tolerance=1e-5),
    Case("RMSNormalization", ("f:2,3,8", weights(8)), tolerance=1e-5),
    Case("LpNormalization", ("f:2,3,8",), {"axis": 1}),
    Case("LpNormalization", ("f:2,3,8",), {"p": 1}, label="p1"),
    Case("MeanVarianceNormalization", ("f:2,3,4,5",), tolerance=1e-5),
    Case("LRN", ("f:1,8,4,5",), {"size": 5, "alpha": 0.1}, tolerance=1e-5),
]

SHAPE = [
    Case("Reshape", ("f:2,3,4", ints(4, -1))),
    Case("Reshape", ("f:2,3,4", ints(0, -1)), label="zero"),
    Case("Flatten", ("f:2,3,4",)),
    Case("Flatten", ("f:2,3,4",), {"axis": 2}, label="axis2"),
    Case("Squeeze", ("f:2,1,4", ints(1))),
    Case("Unsqueeze", ("f:2,4", ints(0, 2))),
    Case("Transpose", ("f:2,3,4,5",), {"perm": [2, 0, 3, 1]}),
    Case("Transpose", ("f:2,3,4",), label="default"),
    Case("Concat", ("f:2,3", "f:2,1", "f:2,2"), {"axis": -1}),
    Case("Split", ("f:2,6",), {"axis": 1, "num_outputs": 3}, outputs=3),
    Case("Split", ("f:2,6", ints(1, 2, 3)), {"axis": 1}, outputs=3, label="uneven"),
    Case("Expand", ("f:3,1", ints(2, 1, 4))),
    Case("Tile", ("f:2,3", ints(2, 3))),
    Case("CastLike", ("f:2,3", "i32:1"), span=(-9, 9)),
    Case("Cast", ("f:2,3",), {"to": TensorProto.INT32}),
    Case("Cast", ("i64:2,3",), {"to": TensorProto.FLOAT}, label="from-int64", span=(-9, 9)),
    Case("Cast", ("b:2,3",), {"to": TensorProto.FLOAT}, label="from-bool"),
    Case("Shape", ("f:2,3",)),
    Case("Shape", ("f:2,3,4",), {"start": 1, "end": -1}, label="part"),
    Case("Size", ("f:2,3",)),
    Case("ConstantOfShape", (ints(2, 3),), {"value": numpy_helper.from_array(f32(1.5))}),
    Case("Range", (np.array(1, np.int64), np.array(9, np.int64), np.array(2, np.int64))),
    Case("DepthToSpace", ("f:1,12,3,4",), {"blocksize": 2}),
    Case("DepthToSpace", ("f:1,12,3,4",), {"blocksize": 2, "mode": "CRD"}, label="crd"),
    Case("SpaceToDepth", ("f:1,3,4,6",), {"blocksize": 2}),
]

INDEX = [
    Case("Slice", ("f:4,5,6", ints(1, 0), ints(3, 4), ints(0, 2))),
    Case("Slice", ("f:4,5,6", ints(-1), ints(-9), ints(1), ints(-2)), label="backwards"),
    Case("Slice", ("f:4,5,6", ints(1), ints(2**63 - 1), ints(-1), ints(2)), label="steps"),
    Case("Gather", ("f:4,5", ints(3, -1, 0)), {"axis": 1}),
    Case("Gather", ("f:4,5", np.array(1, np.int64)), label="scalar"),
    Case("Gather", ("f:4,5", "i64:2,3"), label="computed", span=(-4, 3.9)),
    Case("GatherND", ("f:3,4,5", np.array([[0, 1], [2, -1]]))),
    Case("Pad", ("f:2,3", ints(1, 0, 0, 2))),
    Case("Pad", ("f:2,3", ints(1, 0, 0, 2), scalar(1.5)), label="value"),
    Case("Pad", ("f:4,5", ints(-1, 1, 1, -2)), label="negative"),
    Case("Pad", ("f:4,5,6", ints(1, 2), None, ints(1)), label="axes"),
    *[
        Case("Pad", ("f:1,2,4,5", ints(0, 0, 1, a, 0, 0, b, 1)), {"mode": mode}, label=f"{mode}{a}{b}")
        for mode in ("reflect", "edge", "wrap")
        for a, b in ((1, 1), (2, 3))
    ],
]


def _resize(label: str, inputs: str = "f:1,2,4,6", scales: Sequence[float] = (1, 1, 2, 2), **attributes: Any) -> Case:
    return Case("Resize", (inputs, None, f32(*scales)), attributes, label=label)


RESIZE = [
    _resize("nearest"),
    _resize("floor", coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
    _resize("shrink", scales=(1, 1, 0.5, 0.5)),
    _resize("odd", scales=(1, 1, 1.7, 1.3)),
    _resize("nearest-1d", inputs="f:1,2,5", scales=(1, 1, 2)),
    _resize("half-pixel", mode="linear"),
    _resize("pytorch", mode="linear", coordinate_transformation_mode="pytorch_half_pixel"),
    _resize("align-corners", mode="linear", coordinate_transformation_mode="align_corners"),
    _resize("asymmetric", mode="linear", coordinate_transformation_mode="asymmetric"),
    _resize("linear-1d", inputs="f:1,2,5", scales=(1, 1, 2), mode="linear"),
    Case("Resize", ("f:1,2,4,6", None, None, ints(1, 2, 7, 9)), {"mode": "linear"}, label="sizes"),
]

CASES = [*ELEMENTWISE, *ACTIVATION, *CONV, *POOL, *REDUCE, *MATMUL, *NORMALIZATION, *SHAPE, *INDEX, *RESIZE]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_equals_onnxruntime(case: Case) -> None:
    check(case)


def test_every_rule_has_a_case() -> None:
    """Here or in the table of a family's own file."""
    tables = (runpy.run_path(str(path)).get("CASES", ()) for path in Path(__file__).parent.glob("test_*.py"))
    assert {rule.op for rule in builtin_rules()} <= {
        case.op for table in tables for case in table if isinstance(case, Case)
    }
