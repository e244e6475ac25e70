"""Operators that the backend does not write, or not so: the importer against LiteRT."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgecc.errors import UnsupportedError
from edgecc_tflite.enums import Activation, MirrorPadMode, Padding
from edgecc_tflite.ir import Graph, Operator, Tensor
from edgecc_tflite.testing.operator_file import In, OpCase, imported, patched, run_litert
from edgecc_tflite.testing.running import assert_close, run_onnx
from edgecc_tflite.writer import write

GENERATOR = np.random.default_rng(11)


def f(*shape: int) -> In:
    return In(GENERATOR.uniform(-2, 2, shape).astype(np.float32))


def w(*shape: int) -> np.ndarray:
    return GENERATOR.uniform(-0.5, 0.5, shape).astype(np.float32)


def i(*values: Any) -> np.ndarray:
    return np.array(values, np.int32)


def pool(**options: Any) -> dict[str, Any]:
    size = {"filterHeight": 2, "filterWidth": 2, "strideH": 2, "strideW": 2, "padding": Padding.SAME}
    return size | options


def conv(**options: Any) -> dict[str, Any]:
    base = {"strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1, "padding": Padding.SAME}
    return base | options


def strided(**masks: int) -> dict[str, Any]:
    names = ("begin", "end", "ellipsis", "newAxis", "shrinkAxis")
    return {f"{name}Mask": masks.get(name, 0) for name in names}


ELEMENTWISE = [
    OpCase("ADD", (f(2, 3), f(3)), (("float32", (2, 3)),), {"fusedActivationFunction": Activation.RELU6}),
    OpCase("SUB", (f(2, 3), f(2, 3)), (("float32", (2, 3)),), {"fusedActivationFunction": Activation.RELU}),
    OpCase("MUL", (f(2, 3), f(2, 1)), (("float32", (2, 3)),), {"fusedActivationFunction": Activation.RELU_N1_TO_1}),
    OpCase("ADD_N", (f(2, 3), f(2, 3), f(2, 3)), (("float32", (2, 3)),)),
    OpCase("SQUARED_DIFFERENCE", (f(2, 3), f(3)), (("float32", (2, 3)),)),
    OpCase("RELU_0_TO_1", (f(2, 5),), (("float32", (2, 5)),)),
    OpCase("L2_NORMALIZATION", (f(2, 5),), (("float32", (2, 5)),)),
    OpCase("SOFTMAX", (f(2, 5),), (("float32", (2, 5)),), {"beta": 0.5}),
    OpCase("FAKE_QUANT", (f(2, 9),), (("float32", (2, 9)),), {"min": -1.5, "max": 1.2, "numBits": 8}),
    OpCase("FAKE_QUANT", (f(2, 9),), (("float32", (2, 9)),), {"min": 0.0, "max": 1.0, "numBits": 4}, "4 bits"),
    OpCase("SELECT", (In(np.array([True, False])), f(2, 3), f(2, 3)), (("float32", (2, 3)),), {}, "rows"),
    OpCase("PRELU", (f(1, 4, 4, 3), w(1, 1, 3)), (("float32", (1, 4, 4, 3)),)),
    OpCase("ATAN2", (f(2, 9), f(2, 9)), (("float32", (2, 9)),)),
    OpCase("FLOOR_MOD", (f(2, 9), f(2, 9)), (("float32", (2, 9)),)),
    OpCase("FLOOR_DIV", (In(i(-7, 7, -8)), In(i(2, -2, 4))), (("int32", (3,)),)),
]

SHAPES = [
    OpCase("SQUEEZE", (f(1, 3, 1, 2),), (("float32", (3, 1, 2)),), {"squeezeDims": [0]}),
    OpCase("SQUEEZE", (f(1, 3, 1, 2),), (("float32", (3, 2)),), {}, "all"),
    OpCase("EXPAND_DIMS", (f(2, 3), np.array(-1, np.int32)), (("float32", (2, 3, 1)),)),
    OpCase("RANK", (f(2, 3, 4),), (("int32", ()),)),
    OpCase("RESHAPE", (f(2, 6),), (("float32", (3, 4)),), {"newShape": [3, -1]}, "by option"),
    OpCase("SPACE_TO_BATCH_ND", (f(1, 5, 4, 2), i(2, 2), i([1, 0], [0, 0])), (("float32", (4, 3, 2, 2)),)),
    OpCase("BATCH_TO_SPACE_ND", (f(4, 3, 2, 2), i(2, 2), i([1, 0], [0, 1])), (("float32", (1, 5, 3, 2)),)),
    OpCase("BATCH_TO_SPACE_ND", (f(4, 3, 2), i(2), i([0, 1])), (("float32", (2, 5, 2)),), {}, "one axis"),
    OpCase("GATHER", (f(2, 3, 4), i([0, 2], [1, 1])), (("float32", (2, 2, 4)),), {"axis": 1, "batchDims": 1}, "batch"),
    OpCase("GATHER", (f(2, 3, 4), i([0, 2], [1, 1])), (("float32", (2, 3, 2)),), {"axis": 2, "batchDims": 1}, "behind"),
    OpCase("EMBEDDING_LOOKUP", (In(i(2, 0)), w(3, 4)), (("float32", (2, 4)),)),
    OpCase(
        "MIRROR_PAD",
        (f(1, 4, 3), i([0, 0], [2, 1], [0, 3])),
        (("float32", (1, 7, 6)),),
        {"mode": MirrorPadMode.SYMMETRIC},
    ),
    OpCase(
        "MIRROR_PAD",
        (f(1, 4, 3), i([0, 0], [2, 1], [0, 2])),
        (("float32", (1, 7, 5)),),
        {"mode": MirrorPadMode.REFLECT},
        "reflect",
    ),
    OpCase("PAD", (f(1, 4, 3, 2), i([0, 0], [2, 1], [0, 2], [0, 0])), (("float32", (1, 7, 5, 2)),), {}, "image"),
    OpCase("MATRIX_DIAG", (f(2, 3),), (("float32", (2, 3, 3)),)),
    OpCase("MATRIX_SET_DIAG", (f(2, 3, 4), f(2, 3)), (("float32", (2, 3, 4)),)),
    OpCase("MATRIX_SET_DIAG", (f(2, 4, 3), f(2, 3)), (("float32", (2, 4, 3)),), {}, "tall"),
    OpCase(
        "SPARSE_TO_DENSE",
        (In(i([0, 1], [2, 0])), i(3, 2), f(2), np.array(-1, np.float32)),
        (("float32", (3, 2)),),
    ),
    OpCase(
        "SPARSE_TO_DENSE",
        (In(i(0, 3)), i(5), np.array(7, np.float32), np.array(-1, np.float32)),
        (("float32", (5,)),),
        {},
        "one value",
    ),
    OpCase("DILATE", (f(2, 3), i(2, 3), np.array(-1, np.float32)), (("float32", (3, 7)),)),
    OpCase("SEGMENT_SUM", (f(4, 3), i(0, 0, 1, 2)), (("float32", (3, 3)),)),
    OpCase("BUCKETIZE", (f(2, 5),), (("int32", (2, 5)),), {"boundaries": [-1.0, 0.0, 0.5]}),
    OpCase("REVERSE_SEQUENCE", (f(2, 3, 4), i(3, 1, 2)), (("float32", (2, 3, 4)),), {"seqDim": 2, "batchDim": 1}),
    OpCase(
        "ONE_HOT",
        (In(i(1, -1, 3)), np.array(3, np.int32), np.array(5, np.float32), np.array(-1, np.float32)),
        (("float32", (3, 3)),),
        {"axis": -1},
    ),
]

SLICES = [
    OpCase("STRIDED_SLICE", (f(4, 5, 6), i(1), i(0), i(1)), (("float32", (5, 6)),), strided(shrinkAxis=1), "index"),
    OpCase("STRIDED_SLICE", (f(4, 5, 6), i(-1), i(0), i(1)), (("float32", (5, 6)),), strided(shrinkAxis=1), "last"),
    OpCase(
        "STRIDED_SLICE",
        (f(4, 5, 6), i(0, 2), i(0, 4), i(1, 1)),
        (("float32", (4, 5, 2)),),
        strided(ellipsis=1),
        "ellipsis",
    ),
    OpCase(
        "STRIDED_SLICE", (f(4, 5), i(0, 1), i(0, 3), i(1, 1)), (("float32", (1, 2, 5)),), strided(newAxis=1), "new axis"
    ),
    OpCase(
        "STRIDED_SLICE", (f(4, 5), i(0, 0), i(0, 0), i(-1, 2)), (("float32", (4, 3)),), strided(begin=3, end=3), "open"
    ),
    OpCase("STRIDED_SLICE", (f(4, 5), In(i(1)), In(i(3)), i(1)), (("float32", (2, 5)),), strided(), "computed"),
    OpCase(
        "STRIDED_SLICE",
        (f(4, 5), In(i(-1)), In(i(9)), i(1)),
        (("float32", (5,)),),
        strided(shrinkAxis=1),
        "computed index",
    ),
]

IMAGES = [
    OpCase("L2_POOL_2D", (f(1, 5, 4, 3),), (("float32", (1, 3, 2, 3)),), pool()),
    OpCase(
        "AVERAGE_POOL_2D", (f(1, 5, 4, 3),), (("float32", (1, 3, 2, 3)),), pool(fusedActivationFunction=Activation.RELU)
    ),
    OpCase("MAX_POOL_2D", (f(1, 5, 4, 3),), (("float32", (1, 3, 2, 3)),), pool()),
    OpCase(
        "CONV_2D",
        (f(1, 6, 5, 4), w(6, 3, 3, 4), w(6)),
        (("float32", (1, 3, 3, 6)),),
        conv(strideH=2, strideW=2, fusedActivationFunction=Activation.RELU6),
    ),
    OpCase("CONV_2D", (f(1, 6, 5, 4), w(6, 3, 3, 2), w(6)), (("float32", (1, 6, 5, 6)),), conv(), "groups"),
    OpCase(
        "CONV_2D",
        (f(1, 7, 7, 2), w(3, 3, 3, 2), w(3)),
        (("float32", (1, 7, 7, 3)),),
        conv(dilationHFactor=2, dilationWFactor=2),
        "dilated",
    ),
    OpCase(
        "DEPTHWISE_CONV_2D",
        (f(1, 6, 5, 3), w(1, 3, 3, 6), w(6)),
        (("float32", (1, 3, 3, 6)),),
        conv(strideH=2, strideW=2, depthMultiplier=2),
    ),
    OpCase(
        "TRANSPOSE_CONV",
        (i(1, 8, 6, 3), w(3, 3, 3, 2), f(1, 4, 3, 2)),
        (("float32", (1, 8, 6, 3)),),
        {"strideH": 2, "strideW": 2, "padding": Padding.SAME},
    ),
    OpCase(
        "TRANSPOSE_CONV",
        (i(1, 9, 7, 3), w(3, 3, 3, 2), f(1, 4, 3, 2), w(3)),
        (("float32", (1, 9, 7, 3)),),
        {"strideH": 2, "strideW": 2, "padding": Padding.VALID},
        "valid",
    ),
    OpCase(
        "LOCAL_RESPONSE_NORMALIZATION",
        (f(1, 3, 3, 8),),
        (("float32", (1, 3, 3, 8)),),
        {"radius": 2, "bias": 1.0, "alpha": 0.5, "beta": 0.75},
    ),
    *(
        OpCase(
            builtin,
            (f(1, 4, 5, 2), i(7, 9)),
            (("float32", (1, 7, 9, 2)),),
            {"alignCorners": corners, "halfPixelCenters": half},
            f"{corners:d}{half:d}",
        )
        for builtin in ("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR")
        for corners, half in ((False, False), (True, False), (False, True))
    ),
]

MATRICES = [
    OpCase(
        "FULLY_CONNECTED",
        (f(2, 3, 4), w(5, 4), w(5)),
        (("float32", (6, 5)),),
        {"fusedActivationFunction": Activation.RELU},
        "flat",
    ),
    OpCase("FULLY_CONNECTED", (f(2, 3, 4), w(5, 4), None), (("float32", (2, 3, 5)),), {"keepNumDims": True}, "kept"),
    OpCase("BATCH_MATMUL", (f(2, 4, 3), f(2, 5, 4)), (("float32", (2, 3, 5)),), {"adjX": True, "adjY": True}),
]


def lstm(units: int, size: int, *, peepholes: bool = False, has_input_gate: bool = True) -> tuple[Any, ...]:
    """The 24 inputs of UNIDIRECTIONAL_SEQUENCE_LSTM on (batch 2, 3 steps)."""
    gates: list[Any] = [w(units, size) for _ in range(4)] + [w(units, units) for _ in range(4)]
    cell: list[Any] = [w(units) if peepholes else None for _ in range(3)]
    biases: list[Any] = [w(units) for _ in range(4)]
    if not has_input_gate:
        gates[0] = gates[4] = cell[0] = biases[0] = None
    state = np.zeros((2, units), np.float32)
    return (f(2, 3, size), *gates, *cell, *biases, None, None, state, state.copy(), None, None, None, None)


def rnn(units: int, size: int) -> tuple[Any, ...]:
    return (f(2, 3, size), w(units, size), w(units, units), w(units), np.zeros((2, units), np.float32))


_LSTM = {"fusedActivationFunction": 4, "cellClip": 10.0, "timeMajor": False}
RECURRENT = [
    OpCase("UNIDIRECTIONAL_SEQUENCE_LSTM", lstm(4, 5), (("float32", (2, 3, 4)),), _LSTM, variables=(18, 19)),
    OpCase(
        "UNIDIRECTIONAL_SEQUENCE_LSTM",
        lstm(4, 5, peepholes=True),
        (("float32", (2, 3, 4)),),
        _LSTM,
        "peepholes",
        variables=(18, 19),
    ),
    OpCase(
        "UNIDIRECTIONAL_SEQUENCE_LSTM",
        lstm(4, 5, has_input_gate=False),
        (("float32", (2, 3, 4)),),
        _LSTM,
        "coupled",
        variables=(18, 19),
    ),
    OpCase(
        "UNIDIRECTIONAL_SEQUENCE_RNN",
        rnn(4, 5),
        (("float32", (2, 3, 4)),),
        {"fusedActivationFunction": 4},
        variables=(4,),
    ),
    OpCase(
        "UNIDIRECTIONAL_SEQUENCE_RNN",
        rnn(4, 5),
        (("float32", (2, 3, 4)),),
        {"fusedActivationFunction": 1},
        "relu",
        variables=(4,),
    ),
    OpCase(
        "BIDIRECTIONAL_SEQUENCE_RNN",
        (*rnn(4, 5), *rnn(4, 5)[1:], None, None, None),
        (("float32", (2, 3, 8)),),
        {"fusedActivationFunction": 4, "mergeOutputs": True},
        variables=(4, 8),
    ),
    OpCase(
        "BIDIRECTIONAL_SEQUENCE_LSTM",
        (*lstm(4, 5)[:18], *lstm(4, 5)[1:18], *[np.zeros((2, 4), np.float32) for _ in range(4)], *[None] * 9),
        (("float32", (2, 3, 4)), ("float32", (2, 3, 4))),
        {"fusedActivationFunction": 4, "mergeOutputs": False, "timeMajor": False},
        variables=(35, 36, 37, 38),
    ),
]

CASES = [*ELEMENTWISE, *SHAPES, *SLICES, *IMAGES, *MATRICES, *RECURRENT]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_equals_litert(case: OpCase) -> None:
    contents = case.contents()
    expected = run_litert(contents, case.feeds())
    assert_close(run_onnx(imported(contents), case.feeds()), expected, case.tolerance)


def behind_open_batch(sizes: tuple[int, ...], wanted: tuple[int | None, ...], padding: int) -> bytes:
    """A transposed convolution of stride 2 as TFLiteConverter writes it: its shape is PACK of the batch and numbers.

    Args:
        sizes: of the data, without the batch.
        wanted: sizes of the result; None where one is computed, too.
        padding: of the schema.
    """

    def number(value: int) -> Tensor:
        return Tensor(f"n{value}", (), np.dtype(np.int32), np.array(value, np.int32))

    def row(name: str, *values: int) -> Tensor:
        return Tensor(name, (len(values),), np.dtype(np.int32), np.array(values, np.int32))

    rank, has_depth = len(sizes) + 1, len(sizes) == 4
    x = Tensor("x", (-1, *sizes), np.dtype(np.float32), source="x")
    y = Tensor("y", (-1, *(size or -1 for size in wanted)), np.dtype(np.float32), source="y")
    shape = Tensor("shape", (rank,), np.dtype(np.int32))
    batch, size = (Tensor(name, (), np.dtype(np.int32)) for name in ("batch", "size"))
    packed = Tensor("packed", (rank,), np.dtype(np.int32))
    parts = [batch, *(size if value is None else number(value) for value in wanted)]
    filters = w(3, 3, 3, 3, 2) if has_depth else w(3, 3, 3, 2)
    weights = Tensor("w", filters.shape, filters.dtype, filters)
    steps = {"strideH": 2, "strideW": 2, "padding": padding}
    steps |= {"strideD": 2, "dilationDFactor": 1, "dilationHFactor": 1, "dilationWFactor": 1} if has_depth else {}
    builtin = "CONV_3D_TRANSPOSE" if has_depth else "TRANSPOSE_CONV"
    graph = Graph("main", [x], [y])
    graph.operators = [
        Operator("SHAPE", [x], [shape], {"outType": 2}),
        Operator("STRIDED_SLICE", [shape, row("b", 0), row("e", 1), row("s", 1)], [batch], strided(shrinkAxis=1)),
        Operator("ADD", [batch, number(5)], [size], {"fusedActivationFunction": Activation.NONE}),
        Operator("PACK", [*parts], [packed], {"valuesCount": rank, "axis": 0}),
        Operator(builtin, [packed, weights, x], [y], steps),
    ]
    return bytes(write(graph))


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(
    ("sizes", "wanted", "padding"),
    [
        ((4, 3, 2), (8, 6, 3), Padding.SAME),
        ((4, 3, 2), (7, 5, 3), Padding.SAME),
        ((4, 3, 2), (9, 7, 3), Padding.VALID),
        ((2, 4, 3, 2), (4, 8, 6, 3), Padding.SAME),
    ],
    ids=str,
)
def test_transposed_convolution_behind_an_open_batch(
    sizes: tuple[int, ...], wanted: tuple[int, ...], padding: int, batch: int
) -> None:
    contents = behind_open_batch(sizes, wanted, padding)
    feeds = {"x": f(batch, *sizes).values}
    model = imported(contents)
    assert [node.op for node in model.nodes()] == ["Transpose", "ConvTranspose", "Transpose"]
    assert_close(run_onnx(model, feeds), run_litert(contents, feeds), 2e-6)


def test_transposed_convolution_to_a_computed_size() -> None:
    with pytest.raises(UnsupportedError, match="its output's size is computed"):
        imported(behind_open_batch((4, 3, 2), (None, 6, 3), Padding.SAME))


def test_transposed_convolution_to_a_shape_of_another_rank() -> None:
    sizes = (i(1, 8, 6), w(3, 3, 3, 2), f(1, 4, 3, 2))
    case = OpCase("TRANSPOSE_CONV", sizes, (("float32", (1, 8, 6, 3)),), {"strideH": 2, "strideW": 2})
    with pytest.raises(UnsupportedError, match="its output's shape has 3 sizes, not 4"):
        imported(case.contents())


BOXES = np.array([[0, 0, 1, 1], [0, 0.1, 1, 1.1], [0, 2, 1, 3], [0, 4, 1, 5]], np.float32)


@pytest.mark.parametrize("builtin", ["NON_MAX_SUPPRESSION_V4", "NON_MAX_SUPPRESSION_V5"])
def test_suppression(builtin: str) -> None:
    scores = In(np.array([0.9, 0.75, 0.6, 0.1], np.float32))
    limits: tuple[Any, ...] = (np.array(3, np.int32), np.array(0.5, np.float32), np.array(0.2, np.float32))
    outs: tuple[Any, ...] = (("int32", (3,)), ("int32", ()))
    if builtin.endswith("V5"):
        limits, outs = (*limits, np.array(0, np.float32)), (outs[0], ("float32", (3,)), outs[1])
    case = OpCase(builtin, (In(BOXES), scores, *limits), outs)
    contents = case.contents()
    found, expected = run_onnx(imported(contents), case.feeds()), run_litert(contents, case.feeds())
    count = int(expected[f"y{len(outs) - 1}"])
    assert count == 2
    assert_close(found, expected, 0.0)


def _detection(by_class: bool) -> tuple[bytes, dict[str, np.ndarray]]:
    """SSD's post-processing of 30 boxes and 4 classes beside the background."""
    generator = np.random.default_rng(4)
    centres = generator.uniform(0, 1, (30, 2))
    anchors = np.concatenate([centres, np.full((30, 2), 0.3)], 1).astype(np.float32)
    code = In(generator.normal(0, 0.8, (1, 30, 4)).astype(np.float32))
    scores = In(generator.uniform(0, 1, (1, 30, 5)).astype(np.float32))
    outs = (("float32", (1, 10, 4)), ("float32", (1, 10)), ("float32", (1, 10)), ("float32", (1,)))
    case = OpCase("CUSTOM", (code, scores, anchors), outs)
    from flatbuffers import flexbuffers

    settings = {"max_detections": 10, "max_classes_per_detection": 1, "num_classes": 4, "detections_per_class": 10}
    settings |= {"nms_score_threshold": 0.4, "nms_iou_threshold": 0.5, "use_regular_nms": by_class}
    settings |= {"y_scale": 10.0, "x_scale": 10.0, "h_scale": 5.0, "w_scale": 5.0}
    options = bytes(flexbuffers.Dumps(settings))

    def name(model: Any) -> None:
        model.operatorCodes[0].customCode = "TFLite_Detection_PostProcess"
        model.subgraphs[0].operators[0].customOptions = np.frombuffer(options, np.uint8)

    return patched(case.contents(), name), case.feeds()


@pytest.mark.parametrize("by_class", [False, True], ids=["boxes", "classes"])
def test_detection(by_class: bool) -> None:
    contents, feeds = _detection(by_class)
    expected = run_litert(contents, feeds)
    assert expected["y3"][0] > 3
    found = run_onnx(imported(contents), feeds)
    count = int(expected["y3"][0])
    # What LiteRT leaves behind the last detection is not defined.
    for values in (found, expected):
        values.update({name: values[name][:, :count] for name in ("y0", "y1", "y2")})
    assert_close(found, expected, 2e-6)


@pytest.mark.parametrize("builtin", ["RANDOM_UNIFORM", "RANDOM_STANDARD_NORMAL"])
def test_random_numbers_stay_random(builtin: str) -> None:
    """ONNX Runtime has no kernels for them in the internal opset."""
    case = OpCase(builtin, (i(40, 50),), (("float32", (40, 50)),), {"seed": 3})
    model = imported(case.contents())
    assert [node.op for node in model.nodes()] in (["RandomUniformLike"], ["RandomNormalLike"])
    assert model.outputs[0].shape == [40, 50]
