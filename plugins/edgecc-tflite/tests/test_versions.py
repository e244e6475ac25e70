from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from edgecc_tflite import runtimes, schema, version_rules, versions
from edgecc_tflite.ir import Graph, Operator, Quantization, Tensor
from edgecc_tflite.reader import read
from edgecc_tflite.writer import write


def t(dtype, *shape, scale=None):
    """A tensor of that type and shape; (2, 2) unless said."""
    dtype = np.dtype(getattr(ml_dtypes, dtype, dtype))
    quantization = None
    if scale is not None:
        scale = np.atleast_1d(np.float32(scale))
        quantization = Quantization(scale, np.zeros(scale.size, np.int64))
    return Tensor("t", shape or (2, 2), dtype, None, quantization)


IMAGE = (1, 4, 4, 2)
FILTERS = (3, 1, 1, 2)
GROUPED = (2, 1, 1, 1)

#: Operator, inputs, output, options, version.
CASES = [
    ("RELU", [t("float32")], t("float32"), {}, 1),
    ("RELU", [t("int8")], t("int8"), {}, 2),
    ("SOFTMAX", [t("int16")], t("int16"), {}, 3),
    ("CEIL", [t("float32")], t("float32"), {}, 1),
    ("ADD", [t("float32"), t("float32")], t("float32"), {}, 1),
    ("ADD", [t("int8", scale=1), t("int8", scale=1)], t("int8", scale=1), {}, 2),
    ("ADD", [t("int16", scale=1), t("int16", scale=1)], t("int16", scale=1), {}, 1),
    ("ADD", [t("int16", scale=1), t("int16", scale=1)], t("int16", scale=1), {"potScaleInt16": False}, 3),
    ("ADD", [t("int64"), t("int64")], t("int64"), {}, 4),
    ("ADD", [t("int16"), t("int16")], t("int16"), {}, 5),
    ("ADD", [t("float16"), t("float16")], t("float16"), {}, 6),
    ("SUB", [t("float32", 1, 1, 1, 1, 2), t("float32", 2)], t("float32"), {}, 3),
    ("SUB", [t("float32", 1, 1, 1, 1, 2), t("float32", 1, 1, 1, 1, 2)], t("float32"), {}, 1),
    ("SUB", [t("int16", scale=1), t("int16", scale=1)], t("int16", scale=1), {"potScaleInt16": False}, 5),
    ("SUB", [t("int64"), t("int64")], t("int64"), {}, 4),
    ("SUB", [t("int8", scale=1), t("int8", scale=1)], t("int8", scale=1), {}, 2),
    ("DIV", [t("float32", 1, 1, 1, 1, 2), t("float32", 2)], t("float32"), {}, 2),
    ("MUL", [t("int8", scale=0.5), t("int8", scale=0.5)], t("int8", scale=0.5), {}, 2),
    ("MUL", [t("int8", scale=0.5), t("int8", scale=0.5)], t("int8", scale=0.25), {}, 3),
    ("MUL", [t("int16", scale=1), t("int16", scale=1)], t("int16", scale=1), {}, 4),
    ("MUL", [t("int64"), t("int64")], t("int64"), {}, 5),
    ("MUL", [t("complex64"), t("complex64")], t("complex64"), {}, 6),
    ("MUL", [t("int16"), t("int16")], t("int16"), {}, 7),
    ("MUL", [t("float16"), t("float16")], t("float16"), {}, 8),
    ("MAXIMUM", [t("float32", 1, 1, 1, 1, 2), t("float32", 2)], t("float32"), {}, 3),
    ("MINIMUM", [t("int16"), t("int16")], t("int16"), {}, 4),
    ("MAXIMUM", [t("int8"), t("int8")], t("int8"), {}, 2),
    ("ABS", [t("int16", scale=1)], t("int16", scale=1), {}, 3),
    ("ABS", [t("int16")], t("int16"), {}, 4),
    ("ABS", [t("int32")], t("int32"), {}, 5),
    ("CONV_2D", [t("float32", *IMAGE), t("float32", *FILTERS)], t("float32"), {}, 1),
    ("CONV_2D", [t("float32", *IMAGE), t("int8", *FILTERS, scale=1)], t("float32"), {}, 2),
    ("CONV_2D", [t("int8", *IMAGE), t("int8", *FILTERS)], t("int8"), {}, 3),
    ("CONV_2D", [t("int16", *IMAGE), t("int8", *FILTERS)], t("int16"), {}, 4),
    ("CONV_2D", [t("float32", *IMAGE), t("int8", *FILTERS, scale=[1, 2, 3])], t("float32"), {}, 5),
    ("CONV_2D", [t("float32", *IMAGE), t("float32", *GROUPED)], t("float32"), {}, 6),
    ("CONV_2D", [t("int8", *IMAGE), t("int4", *FILTERS)], t("int8"), {}, 7),
    ("CONV_2D", [t("int16", *IMAGE), t("int8", *FILTERS)], t("int16"), {"quantizedBiasType": 2}, 8),
    ("DEPTHWISE_CONV_2D", [t("float32", *IMAGE), t("float32", 1, 1, 1, 2)], t("float32"), {}, 1),
    ("DEPTHWISE_CONV_2D", [t("float32", *IMAGE), t("float32", 1, 1, 1, 2)], t("float32"), {"dilationWFactor": 2}, 2),
    ("DEPTHWISE_CONV_2D", [t("int8", *IMAGE), t("int8", 1, 1, 1, 2)], t("int8"), {"dilationHFactor": 2}, 3),
    ("DEPTHWISE_CONV_2D", [t("float32", *IMAGE), t("int8", 1, 1, 1, 2, scale=1)], t("float32"), {}, 4),
    ("DEPTHWISE_CONV_2D", [t("int16", *IMAGE), t("int8", 1, 1, 1, 2)], t("int16"), {}, 5),
    ("DEPTHWISE_CONV_2D", [t("float32", *IMAGE), t("int8", 1, 1, 1, 2, scale=[1, 2])], t("float32"), {}, 6),
    ("DEPTHWISE_CONV_2D", [t("int8", *IMAGE), t("int4", 1, 1, 1, 2)], t("int8"), {}, 7),
    ("FULLY_CONNECTED", [t("float32"), t("float32"), t("float32", 2)], t("float32"), {}, 1),
    ("FULLY_CONNECTED", [t("float32"), t("int8", scale=1), t("float32", 2)], t("float32"), {}, 3),
    ("FULLY_CONNECTED", [t("int8"), t("int8"), t("int32", 2)], t("int8"), {}, 4),
    ("FULLY_CONNECTED", [t("float32"), t("float32"), t("float32", 2)], t("float32"), {"keepNumDims": True}, 5),
    ("FULLY_CONNECTED", [t("float32"), t("float32"), None], t("float32"), {}, 6),
    ("FULLY_CONNECTED", [t("float32"), t("float32")], t("float32"), {}, 6),
    ("FULLY_CONNECTED", [t("int16"), t("int8"), t("int64", 2)], t("int16"), {}, 7),
    (
        "FULLY_CONNECTED",
        [t("float32"), t("int8", scale=1), t("float32", 2)],
        t("float32"),
        {"asymmetricQuantizeInputs": True},
        9,
    ),
    ("FULLY_CONNECTED", [t("int8"), t("int4"), t("int32", 2)], t("int8"), {}, 10),
    ("FULLY_CONNECTED", [t("int16"), t("int8"), t("int32", 2)], t("int16"), {"quantizedBiasType": 2}, 11),
    ("FULLY_CONNECTED", [t("float32"), t("int8", scale=[1, 2]), t("float32", 2)], t("float32"), {}, 12),
    ("FULLY_CONNECTED", [t("int16"), t("int4"), t("int32", 2)], t("int16"), {}, 13),
    ("FULLY_CONNECTED", [t("int8"), t("int2"), t("int32", 2)], t("int8"), {}, 14),
    ("TRANSPOSE_CONV", [t("int32", 4), t("float32", *FILTERS), t("float32", *IMAGE)], t("float32"), {}, 1),
    ("TRANSPOSE_CONV", [t("int32", 4), t("int8", *FILTERS), t("int8", *IMAGE)], t("int8"), {}, 2),
    (
        "TRANSPOSE_CONV",
        [t("int32", 4), t("float32", *FILTERS), t("float32", *IMAGE), t("float32", 3)],
        t("float32"),
        {},
        3,
    ),
    (
        "TRANSPOSE_CONV",
        [t("int32", 4), t("float32", *FILTERS), t("float32", *IMAGE)],
        t("float32"),
        {"fusedActivationFunction": 1},
        4,
    ),
    (
        "TRANSPOSE_CONV",
        [t("int32", 4), t("int8", *FILTERS), t("int16", *IMAGE)],
        t("int16"),
        {"quantizedBiasType": 2},
        5,
    ),
    ("BATCH_MATMUL", [t("float32"), t("float32")], t("float32"), {}, 1),
    ("BATCH_MATMUL", [t("int8"), t("int8")], t("int8"), {}, 2),
    ("BATCH_MATMUL", [t("float32"), t("int8")], t("float32"), {"asymmetricQuantizeInputs": True}, 4),
    ("GATHER", [t("float32"), t("int32", 2)], t("float32"), {}, 1),
    ("GATHER", [t("float32"), t("int32", 2)], t("float32"), {"batchDims": 1}, 5),
    ("GATHER", [t("float32"), t("int16", 2)], t("float32"), {}, 6),
    ("GATHER", [t("int4"), t("int32", 2)], t("int4"), {}, 7),
    ("GATHER", [t("bool"), t("int32", 2)], t("bool"), {}, 3),
    ("GATHER_ND", [t("bool"), t("int32", 2)], t("bool"), {}, 5),
    ("GATHER_ND", [t("float32"), t("int16", 2)], t("float32"), {}, 4),
    ("GATHER_ND", [t("int16"), t("int32", 2)], t("int16"), {}, 3),
    ("TRANSPOSE", [t("float32"), t("int32", 2)], t("float32"), {}, 1),
    ("TRANSPOSE", [t("int8"), t("int32", 2)], t("int8"), {}, 2),
    ("TRANSPOSE", [t("bool"), t("int32", 2)], t("bool"), {}, 3),
    ("TRANSPOSE", [t("int8", 1, 1, 1, 1, 2), t("int32", 5)], t("int8"), {}, 4),
    ("TRANSPOSE", [t("int16"), t("int32", 2)], t("int16"), {}, 5),
    ("TRANSPOSE", [t("float32", 1, 1, 1, 1, 1, 2), t("int32", 6)], t("float32"), {}, 6),
    ("TRANSPOSE", [t("int4"), t("int32", 2)], t("int4"), {}, 7),
    ("TRANSPOSE", [t("float32", 1, 1, 1, 1, 1, 1, 2), t("int32", 7)], t("float32"), {}, 8),
    ("TRANSPOSE", [t("float16"), t("int32", 2)], t("float16"), {}, 9),
    ("SLICE", [t("int8", 1, 1, 1, 1, 2), t("int32", 5), t("int32", 5)], t("int8"), {}, 5),
    ("SLICE", [t("int16"), t("int32", 2), t("int32", 2)], t("int16"), {}, 4),
    ("SLICE", [t("float16"), t("int32", 2), t("int32", 2)], t("float16"), {}, 8),
    ("STRIDED_SLICE", [t("float32"), *[t("int32", 2)] * 3], t("float32"), {}, 1),
    ("STRIDED_SLICE", [t("int8"), *[t("int32", 2)] * 3], t("int8"), {}, 2),
    ("STRIDED_SLICE", [t("float32", 1, 1, 1, 1, 2), *[t("int32", 5)] * 3], t("float32"), {}, 4),
    ("STRIDED_SLICE", [t("float32"), *[t("int32", 2)] * 3], t("float32"), {"newAxisMask": 1}, 6),
    ("STRIDED_SLICE", [t("uint32"), *[t("int32", 2)] * 3], t("uint32"), {}, 7),
    ("STRIDED_SLICE", [t("float32"), *[t("int32", 2)] * 3], t("float32"), {"offset": True}, 8),
    ("PAD", [t("float32", 1, 1, 1, 1, 2), t("int32", 5, 2)], t("float32"), {}, 4),
    ("PADV2", [t("int8"), t("int32", 2, 2), t("int8", 1)], t("int8"), {}, 2),
    ("PAD", [t("bool"), t("int32", 2, 2)], t("bool"), {}, 5),
    ("SPACE_TO_BATCH_ND", [t("int8", *IMAGE), t("int32", 2), t("int32", 2, 2)], t("int8"), {}, 2),
    ("SPACE_TO_BATCH_ND", [t("int8", 1, 2, 2), t("int32", 1), t("int32", 1, 2)], t("int8"), {}, 3),
    ("BATCH_TO_SPACE_ND", [t("int16", *IMAGE), t("int32", 2), t("int32", 2, 2)], t("int16"), {}, 4),
    ("SPLIT", [t("int32"), t("float32")], t("float32"), {}, 1),
    ("SPLIT", [t("int32"), t("int8")], t("int8"), {}, 2),
    ("SPLIT", [t("int32"), t("int16")], t("int16"), {}, 4),
    ("RESIZE_BILINEAR", [t("float32", *IMAGE), t("int32", 2)], t("float32"), {}, 1),
    ("RESIZE_BILINEAR", [t("float32", *IMAGE), t("int32", 2)], t("float32"), {"halfPixelCenters": True}, 3),
    ("RESIZE_BILINEAR", [t("int8", *IMAGE), t("int32", 2)], t("int8"), {"alignCorners": True}, 2),
    ("RESIZE_BILINEAR", [t("int16", *IMAGE), t("int32", 2)], t("int16"), {}, 4),
    ("RESIZE_NEAREST_NEIGHBOR", [t("int8", *IMAGE), t("int32", 2)], t("int8"), {"alignCorners": True}, 3),
    ("QUANTIZE", [t("float32")], t("int8", scale=1), {}, 1),
    ("QUANTIZE", [t("float32")], t("int16", scale=1), {}, 2),
    ("QUANTIZE", [t("float32")], t("int8", scale=[1, 2]), {}, 3),
    ("QUANTIZE", [t("float32")], t("int4", scale=1), {}, 4),
    ("QUANTIZE", [t("float32")], t("uint4", scale=1), {}, 5),
    ("DEQUANTIZE", [t("int8", scale=1)], t("float32"), {}, 2),
    ("DEQUANTIZE", [t("float16")], t("float32"), {}, 3),
    ("DEQUANTIZE", [t("int8", scale=[1, 2])], t("float32"), {}, 5),
    ("DEQUANTIZE", [t("int4", scale=1)], t("float32"), {}, 6),
    ("CAST", [t("int32")], t("float32"), {}, 1),
    ("CAST", [t("float32")], t("int8"), {}, 3),
    ("CAST", [t("float16")], t("float32"), {}, 5),
    ("CAST", [t("int4")], t("float32"), {}, 6),
    ("CAST", [t("float32")], t("bfloat16"), {}, 7),
    ("SELECT", [t("bool", 1, 1, 1, 1, 2), *[t("float32", 1, 1, 1, 1, 2)] * 2], t("float32"), {}, 3),
    ("SELECT_V2", [t("bool"), t("float32"), t("float32")], t("float32"), {}, 1),
    ("FILL", [t("int32"), t("float32", 1)], t("float32"), {}, 1),
    ("FILL", [t("int32"), t("bool", 1)], t("bool"), {}, 2),
    ("FILL", [t("int32"), t("int8", 1)], t("int8"), {}, 3),
    ("WHERE", [t("bool")], t("int64"), {}, 1),
    ("WHERE", [t("float32")], t("int64"), {}, 2),
    ("BROADCAST_TO", [t("float32"), t("int32")], t("float32"), {}, 2),
    ("BROADCAST_TO", [t("int8"), t("int32")], t("int8"), {}, 3),
    ("DYNAMIC_UPDATE_SLICE", [t("float32"), t("float32"), t("int32", 2)], t("float32"), {}, 1),
    ("DYNAMIC_UPDATE_SLICE", [t("float32"), t("float32"), t("int64", 2)], t("float32"), {}, 2),
    ("DYNAMIC_UPDATE_SLICE", [t("float16"), t("float16"), t("int64", 2)], t("float16"), {}, 3),
    ("SPARSE_TO_DENSE", [t("int32"), t("int32"), t("int64"), t("int64")], t("int64"), {}, 2),
    ("EMBEDDING_LOOKUP", [t("int32"), t("int4")], t("float32"), {}, 4),
    ("EMBEDDING_LOOKUP", [t("int32"), t("float32")], t("float32"), {}, 1),
    ("FAKE_QUANT", [t("float32")], t("float32"), {"narrowRange": True}, 2),
    ("UNIDIRECTIONAL_SEQUENCE_LSTM", [t("float32"), t("int8"), t("int8")], t("float32"), {}, 2),
    ("UNIDIRECTIONAL_SEQUENCE_LSTM", [t("float32")] * 3, t("float32"), {"diagonalRecurrentTensors": True}, 4),
    ("UNIDIRECTIONAL_SEQUENCE_RNN", [t("float32"), t("int8")], t("float32"), {}, 2),
    ("LSTM", [t("float32")] * 3, t("float32"), {"kernelType": 1}, 2),
    ("LSTM", [t("float32"), t("float32"), t("int8")], t("float32"), {"asymmetricQuantizeInputs": True}, 4),
]


def case_id(case):
    builtin, inputs, _, options, version = case
    kinds = "-".join("none" if i is None else f"{i.dtype.name}{i.rank}" for i in inputs)
    return f"{builtin}-{kinds}-{'-'.join(options)}-v{version}"


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_version(case):
    builtin, inputs, output, options, version = case
    assert versions.operator_version(Operator(builtin, inputs, [output], options)) == version


def test_topk_looks_at_its_indices():
    values, small = t("float32"), t("int16", 2)
    operator = Operator("TOPK_V2", [values, t("int32", 1)], [values, small])
    assert versions.operator_version(operator) == 3


def test_every_rule_is_of_an_operator_of_the_schema_and_has_a_case():
    rules = {*versions._BY_TYPE, *version_rules.SPECIAL}
    builtins = vars(schema.generated().BuiltinOperator)
    assert {name for name in {*rules, *runtimes._RELEASES} if name not in builtins} == set()
    special = {*version_rules.SPECIAL} - {"TOPK_V2", "RNN", "BIDIRECTIONAL_SEQUENCE_LSTM"}
    assert special - {case[0] for case in CASES} == set()


def test_options_that_rules_look_at_exist():
    for builtin, _, _, options, _ in CASES:
        table = schema.options_table(builtin)
        assert set(options) <= (set() if table is None else table.attributes), builtin


@pytest.mark.shared_data
@pytest.mark.parametrize(
    "name",
    [
        "kws_ref_model.tflite",
        "vww_96_int8.tflite",
        "vww_96_float.tflite",
        "pretrainedResnet_quant.tflite",
        "str_ww_ref_model.tflite",
        "ad01_int8.tflite",
        "ad01_fp32.tflite",
    ],
)
def test_versions_are_those_of_the_official_converter(name, reference_model, graph_of):
    original = reference_model(name)
    ours, theirs = read(bytes(write(graph_of(original)))), read(original)
    assert [(o.builtin, o.version) for o in ours.operators] == [(o.builtin, o.version) for o in theirs.operators]


@pytest.mark.shared_data
@pytest.mark.parametrize("name", ["str_ww_ref_model.tflite", "vww_96_float.tflite", "ad01_fp32.tflite"])
def test_minimum_runtime_is_that_of_the_official_converter(name, reference_model, graph_of):
    # The other models were quantized after conversion, and still have the entry that the float model got.
    original = reference_model(name)
    ours, theirs = read(bytes(write(graph_of(original)))), read(original)
    assert ours.metadata["min_runtime_version"] == theirs.metadata["min_runtime_version"]


@pytest.mark.parametrize(
    ("builtin", "version", "release"),
    [
        ("CONV_2D", 1, "1.5.0"),
        ("CONV_2D", 6, "2.9.0"),
        ("BROADCAST_TO", 2, "2.5.0"),
        ("BROADCAST_TO", 1, runtimes.newest_runtime()),
        ("CONV_2D", 99, "2.23.0"),
        ("HASHTABLE", 1, "1.5.0"),
    ],
)
def test_minimum_runtime(builtin, version, release):
    assert runtimes.minimum_runtime(builtin, version) == release


@pytest.mark.parametrize(("builtin", "inputs", "output", "options", "version"), CASES)
def test_every_version_is_in_the_table(builtin, inputs, output, options, version):
    assert runtimes.first_release(builtin, version)


def test_the_newest_of_the_needed_runtimes_counts():
    x, y, z = (Tensor(name, (1, 2), np.dtype(np.float32)) for name in "xyz")
    operators = [Operator("GELU", [x], [y]), Operator("SIGN", [y], [z])]
    metadata = read(write(Graph("main", [x], [z], operators))).metadata
    assert metadata["min_runtime_version"].rstrip(b"\0") == b"2.11.0"
