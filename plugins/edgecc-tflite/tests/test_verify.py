"""One test or more per rule: a graph that keeps the rule passes all of them, one that breaks it breaks that one."""

from __future__ import annotations

import re
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from edgecc_tflite.ir import Blocks, Graph, Operator, Quantization, Tensor
from edgecc_tflite.verify import RULES, verify

FLOAT = "float32"


def scales(scale, zero_point=0, axis=0):
    scale = np.atleast_1d(np.float32(scale))
    return Quantization(scale, np.full(scale.size, zero_point, np.int64), axis)


def data(name, shape=(1, 4), dtype=FLOAT, quantization=None, source=""):
    return Tensor(name, tuple(shape), np.dtype(dtype), None, quantization, source)


def constant(name, shape, dtype=FLOAT, quantization=None):
    return Tensor(name, tuple(shape), np.dtype(dtype), np.ones(shape, dtype), quantization)


def one_operator(builtin, inputs, *outputs, options=None):
    """A graph of one operator that reads its inputs from outside."""
    given = [tensor for tensor in inputs if tensor is not None and tensor.data is None]
    operator = Operator(builtin, list(inputs), list(outputs), options or {}, origins=("node_1",))
    return Graph("main", list(dict.fromkeys(given)), list(outputs), [operator])


def broken(graph):
    """The rules that a graph breaks, and the text."""
    found = verify(graph)
    return {violation.rule for violation in found}, "\n".join(map(str, found))


def convolution(*, axis=0, zero_point=0, bias_scale=None, bias_type="int32", data_scale=0.5, builtin="CONV_2D"):
    """An int8 convolution of two channels that keeps all rules unless told otherwise."""
    weight_scale = np.float32([0.1, 0.2])
    shape = (1, 2, 2, 2) if builtin == "DEPTHWISE_CONV_2D" else (2, 2, 2, 2)
    bias_scale = np.float32(data_scale) * weight_scale if bias_scale is None else bias_scale
    return one_operator(
        builtin,
        [
            data("x", (1, 4, 4, 2), "int8", scales(data_scale, 3)),
            constant("w", shape, "int8", scales(weight_scale, zero_point, axis)),
            constant("b", (2,), bias_type, scales(bias_scale)),
        ],
        data("y", (1, 3, 3, 2), "int8", scales(0.3)),
    )


def test_a_right_graph_breaks_no_rule():
    x, t, y = data("x", source="x"), data("t"), data("y", source="y")
    operators = [Operator("ADD", [x, constant("c", (4,))], [t]), Operator("RELU", [t], [y])]
    assert verify(Graph("main", [x], [y], operators)) == []
    assert verify(convolution()) == []
    assert verify(convolution(builtin="DEPTHWISE_CONV_2D", axis=3)) == []


@pytest.mark.shared_data
@pytest.mark.parametrize(
    "name",
    [
        "kws_ref_model.tflite",
        "kws_ref_model_float32.tflite",
        "vww_96_int8.tflite",
        "vww_96_float.tflite",
        "pretrainedResnet_quant.tflite",
        "pretrainedResnet_large_int8.tflite",
        "str_ww_ref_model.tflite",
        "ad01_int8.tflite",
        "ad01_fp32.tflite",
    ],
)
def test_models_of_the_official_converter_break_no_rule(name, reference_model, graph_of):
    assert [str(violation) for violation in verify(graph_of(reference_model(name)))] == []


def test_written_before_read():
    x, t, y = data("x"), data("t"), data("y")
    late = [Operator("RELU", [t], [y]), Operator("NEG", [x], [t])]
    rules, text = broken(Graph("main", [x], [y], late))
    assert rules == {"written-before-read"}
    assert "RELU -> y: reads 't', which nothing has written" in text


def test_written_before_read_refuses_a_second_writer():
    x, y = data("x"), data("y")
    rules, text = broken(Graph("main", [x], [y], [Operator("NEG", [x], [y]), Operator("ABS", [x], [y])]))
    assert rules == {"written-before-read"}
    assert "ABS -> y: writes 'y', which already has a value" in text


def test_written_before_read_refuses_an_output_without_writer():
    rules, text = broken(Graph("main", [], [data("y")], []))
    assert rules == {"written-before-read"}
    assert "nothing writes this output" in text


def test_signature_names():
    first, second = data("a", source="same"), data("b", source="same")
    rules, text = broken(Graph("main", [first, second], [first], []))
    assert rules == {"signature-names"}
    assert "several inputs of the graph are called 'same'" in text


def test_signature_names_refuses_data_in_an_input():
    x = constant("x", (1, 4))
    rules, text = broken(Graph("main", [x], [x], []))
    assert rules == {"signature-names"}
    assert "an input of the graph holds data" in text


def test_source_names():
    x, t, y = data("t", source="x"), data("t", source="y"), data("z")
    rules, _ = broken(Graph("main", [x], [y], [Operator("NEG", [x], [t]), Operator("NEG", [t], [y])]))
    assert rules == {"source-names"}
    t.source = ""
    assert verify(Graph("main", [x], [y], [Operator("NEG", [x], [t]), Operator("NEG", [t], [y])])) == []


@pytest.mark.parametrize("shape", [(1, 0), (1, -2)])
def test_shapes(shape):
    x, y = data("x", shape), data("y", (1, -1))
    rules, text = broken(one_operator("NEG", [x], y))
    assert rules == {"shapes"}
    assert "without elements" in text


def test_shapes_refuses_a_constant_that_is_not_what_it_says():
    wrong = constant("c", (1, 4))
    wrong.shape = (4,)
    rules, text = broken(one_operator("ADD", [data("x"), wrong], data("y")))
    assert rules == {"shapes"}
    assert "is declared as float32[4] and holds float32[1, 4]" in text


@pytest.mark.parametrize(
    ("builtin", "rank", "inputs", "wanted"),
    [
        ("MAX_POOL_2D", 3, 1, "rank 4"),
        ("PAD", 6, 2, "rank 0 to 5"),
        ("SOFTMAX", 7, 1, "rank 0 to 6"),
        ("NEG", 9, 1, "rank 0 to 8"),
        ("SPLIT", 7, 2, "rank 0 to 6"),
    ],
)
def test_ranks(builtin, rank, inputs, wanted):
    x, y = data("x", (1,) * rank), data("y", (1,) * rank)
    index = constant("i", (rank, 2), "int32")
    operands = [index, x] if builtin == "SPLIT" else [x, index][:inputs]
    rules, text = broken(one_operator(builtin, operands, y))
    assert rules == {"ranks"}
    assert f"takes {wanted} and reads 'x' of rank {rank}" in text


def test_types():
    rules, text = broken(one_operator("ADD", [data("x"), data("i", dtype="int32")], data("y")))
    assert rules == {"types"}
    assert "wants one type and has 'x' float32, 'i' int32, 'y' float32" in text


def test_types_of_comparisons():
    assert verify(one_operator("LESS", [data("x"), data("z")], data("y", dtype="bool"))) == []
    rules, text = broken(one_operator("LESS", [data("x"), data("z")], data("y")))
    assert rules == {"types"}
    assert "writes bool, not float32" in text


def test_types_of_indices():
    rules, text = broken(one_operator("TRANSPOSE", [data("x"), constant("p", (2,))], data("y")))
    assert rules == {"types"}
    assert "wants integers in 'p', which is float32" in text


def test_types_of_concatenation_look_at_every_input():
    wrong = one_operator("CONCATENATION", [data("a"), data("b"), data("c", dtype="int32")], data("y", (1, 12)))
    assert broken(wrong)[0] == {"types"}


def test_broadcasting():
    assert verify(one_operator("ATAN2", [data("x"), data("z")], data("y"))) == []
    rules, text = broken(one_operator("ATAN2", [data("x"), data("z", (1, 1))], data("y")))
    assert rules == {"broadcasting"}
    assert "does not broadcast and gets [1, 4] and [1, 1]" in text


@pytest.mark.parametrize("builtin", ["CONV_2D", "DEPTHWISE_CONV_2D"])
@pytest.mark.parametrize("rest", [[], [None]])
def test_convolution_bias(builtin, rest):
    filters = constant("w", (1, 1, 1, 1))
    rules, text = broken(one_operator(builtin, [data("x", (1, 2, 2, 1)), filters, *rest], data("y", (1, 2, 2, 1))))
    assert rules == {"convolution-bias"}
    assert "needs a bias" in text
    assert "from node_1" in text


@pytest.mark.parametrize(
    ("quantization", "dtype", "message"),
    [
        (Quantization(np.float32([1, 2]), np.int64([0])), "int8", "has 2 scales and 1 zero points"),
        (scales(0.0), "int8", "not a positive number"),
        (scales(np.nan), "int8", "not a positive number"),
        (scales([1, 2, 3], axis=1), "int8", "has 3 scales along axis 1 of shape [1, 4]"),
        (scales(1.0, 200), "int8", "has zero point 200, which is no int8"),
        (scales(1.0, -1), "uint8", "has zero point -1, which is no uint8"),
        (scales(1.0, 5), "int16", "int16 with a zero point"),
    ],
)
def test_scale_values(quantization, dtype, message):
    rules, text = broken(one_operator("DEQUANTIZE", [data("x", dtype=dtype, quantization=quantization)], data("y")))
    assert rules == {"scale-values"}
    assert message in text


def test_scales_present():
    quantized, bare = data("x", dtype="int8", quantization=scales(0.1)), data("z", dtype="int8")
    rules, text = broken(one_operator("MUL", [quantized, bare], data("y", dtype="int8", quantization=scales(0.1))))
    assert rules == {"scales-present"}
    assert "'z' has no scale" in text


def test_scales_present_leaves_plain_integers_alone():
    assert (
        verify(one_operator("MUL", [data("x", dtype="int16"), data("z", dtype="int16")], data("y", dtype="int16")))
        == []
    )


@pytest.mark.parametrize(("builtin", "kind"), [("ADD", "int8"), ("EQUAL", "uint8"), ("SUB", "int16")])
def test_scales_needed(builtin, kind):
    out = data("y", dtype="bool" if builtin == "EQUAL" else kind)
    rules, text = broken(one_operator(builtin, [data("x", dtype=kind), data("z", dtype=kind)], out))
    assert rules == {"scales-needed"}
    assert f"no kernel for plain {kind}, which 'x' is" in text


@pytest.mark.parametrize("builtin", ["RESHAPE", "TRANSPOSE", "SQUEEZE", "REVERSE_V2", "MAXIMUM", "CONCATENATION"])
@pytest.mark.parametrize("other", [scales(0.2), scales(0.1, 1)])
def test_same_scale(builtin, other):
    x = data("x", dtype="int8", quantization=scales(0.1))
    inputs = {
        "MAXIMUM": [x, x],
        "CONCATENATION": [x, x],
        "SQUEEZE": [x],
    }.get(builtin, [x, constant("i", (2,), "int32")])
    assert verify(one_operator(builtin, inputs, data("y", dtype="int8", quantization=scales(0.1)))) == []
    rules, text = broken(one_operator(builtin, inputs, data("y", dtype="int8", quantization=other)))
    assert rules == {"same-scale"}
    assert "does not rescale: 'x' (0.1, 0) and 'y'" in text


@pytest.mark.parametrize(
    ("builtin", "dtype", "scale", "zero_point"),
    [
        ("SOFTMAX", "int8", 1 / 256, -128),
        ("SOFTMAX", "uint8", 1 / 256, 0),
        ("SOFTMAX", "int16", 1 / 32768, 0),
        ("LOGISTIC", "int8", 1 / 256, -128),
        ("LOGISTIC", "int16", 1 / 32768, 0),
        ("TANH", "int16", 1 / 32768, 0),
        ("LOG_SOFTMAX", "int8", 16 / 256, 127),
        ("L2_NORMALIZATION", "int8", 1 / 128, 0),
    ],
)
def test_fixed_scale(builtin, dtype, scale, zero_point):
    x = data("x", dtype=dtype, quantization=scales(0.1))
    assert verify(one_operator(builtin, [x], data("y", dtype=dtype, quantization=scales(scale, zero_point)))) == []
    rules, _ = broken(one_operator(builtin, [x], data("y", dtype=dtype, quantization=scales(scale * 1.01, zero_point))))
    assert rules == {"fixed-scale"}
    if dtype != "int16":
        moved = one_operator(builtin, [x], data("y", dtype=dtype, quantization=scales(scale, zero_point or 1)))
        assert broken(moved)[0] == (set() if zero_point else {"fixed-scale"})


def test_fixed_scale_leaves_tanh_on_eight_bits_alone():
    x, y = (data(name, dtype="int8", quantization=scales(0.02)) for name in "xy")
    assert verify(one_operator("TANH", [x], y)) == []


@pytest.mark.parametrize(("builtin", "wrong"), [("CONV_2D", 3), ("DEPTHWISE_CONV_2D", 1)])
def test_weight_axis(builtin, wrong):
    rules, text = broken(convolution(builtin=builtin, axis=wrong))
    assert rules == {"weight-axis"}
    assert f"not {wrong}, of 'w'" in text


def test_weight_zero_point():
    rules, text = broken(convolution(zero_point=1))
    assert rules == {"weight-zero-point"}
    assert "'w' has another zero point" in text


def test_data_per_tensor():
    x = data("x", (1, 2), "int8", scales([0.1, 0.2], axis=1))
    y = data("y", (1, 2), "int8", scales(0.1))
    rules, text = broken(one_operator("RELU", [x], y))
    assert rules == {"data-per-tensor"}
    assert "takes data with one scale; 'x' has 2" in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bias_scale": np.float32([0.05, 0.2])}, "the scale of the data times that of the weights"),
        ({"bias_scale": 0.05}, "the scale of the data times that of the weights"),
        ({"bias_type": "int16"}, "takes an integer bias, not int16"),
    ],
)
def test_bias_scale(change, message):
    rules, text = broken(convolution(**change))
    assert rules == {"bias-scale"}
    assert message in text


def test_bias_scale_wants_a_scale_and_no_zero_point():
    graph = convolution()
    bias = graph.operators[0].inputs[2]
    assert bias is not None
    bias.quantization = None
    assert "bias 'b' has no scale" in broken(graph)[1]
    bias.quantization = scales(np.float32(0.5) * np.float32([0.1, 0.2]), 1)
    assert "bias 'b' must have zero point 0" in broken(graph)[1]


@pytest.mark.parametrize("builtin", ["ADD", "SUB"])
def test_int16_scales(builtin):
    x, z, y = (data(name, dtype="int16", quantization=scales(0.1)) for name in "xzy")
    assert broken(one_operator(builtin, [x, z], y))[0] == {"int16-scales"}
    assert verify(one_operator(builtin, [x, z], y, options={"potScaleInt16": False})) == []


@pytest.mark.parametrize(("builtin", "most"), [("MUL", 2), ("ADD", 128), ("BATCH_MATMUL", 256)])
def test_rescaling(builtin, most):
    x, z = (data(name, dtype="int8", quantization=scales(1.0)) for name in "xz")
    fine, coarse = (data("y", dtype="int8", quantization=scales(s / most)) for s in (0.99, 1.01))
    assert broken(one_operator(builtin, [x, z], fine))[0] == {"rescaling"}
    assert verify(one_operator(builtin, [x, z], coarse)) == []


def test_rescaling_by_weights():
    graph = convolution()
    graph.operators[0].outputs[0].quantization = scales(1e-6)
    assert broken(graph)[0] == {"rescaling"}


def test_rescaling_in_16_bits():
    inputs = [data("x", (3, 16), "int16", scales(1.0)), constant("w", (5, 16), "int8", scales(1.0)), None]
    fine, coarse = (data("y", (3, 5), "int16", scales(scale)) for scale in (1 / 33, 1 / 31))
    assert broken(one_operator("FULLY_CONNECTED", inputs, fine))[0] == {"rescaling"}
    assert verify(one_operator("FULLY_CONNECTED", inputs, coarse)) == []


def in_blocks(*, size=32, scale=0.5, scale_type="float16", builtin="FULLY_CONNECTED", rows=4):
    """An operator with int4 weights that keeps the rule unless told otherwise."""
    weights = constant("w", (4, 64), ml_dtypes.int4)
    runs = Tensor("s", (rows, 2), np.dtype(scale_type), np.full((rows, 2), scale, scale_type))
    weights.blocks = Blocks(runs, size)
    return one_operator(builtin, [data("x", (1, 64)), weights, None], data("y"))


def test_block_scales():
    assert verify(in_blocks()) == []
    for wrong in (
        in_blocks(size=64),
        in_blocks(size=16),
        in_blocks(rows=3),
        in_blocks(scale=0.0),
        in_blocks(scale_type="float32"),
        in_blocks(builtin="BATCH_MATMUL"),
    ):
        assert broken(wrong)[0] == {"block-scales"}


def test_sparse_constants():
    sparse = Tensor("w", (4, 4), np.dtype(FLOAT), np.eye(4, dtype=FLOAT), sparse=True)
    assert verify(one_operator("DENSIFY", [sparse], data("y", (4, 4)))) == []
    for builtin, inputs, output in (
        ("ADD", [data("x", (4, 4)), sparse], data("y", (4, 4))),
        ("DENSIFY", [constant("d", (4, 4))], data("y", (4, 4))),
        ("DENSIFY", [sparse], data("y", (2, 8))),
    ):
        assert broken(one_operator(builtin, inputs, output))[0] == {"sparse-constants"}


def test_every_rule_has_a_test_and_names_itself():
    text = Path(__file__).read_text()
    for rule in RULES:
        name = rule.__name__
        assert re.search(rf"^def test_{name}\b", text, re.MULTILINE), name
        assert f'"{name.replace("_", "-")}"' in text, name
