from __future__ import annotations

import subprocess
import sys
import tracemalloc
from itertools import pairwise
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from edgecc_tflite.ir import Graph, Operator, Quantization, Tensor
from edgecc_tflite.reader import read
from edgecc_tflite.schema import IllFormedGraphError, generated, options_table
from edgecc_tflite.writer import write

FLOAT = np.dtype(np.float32)
INT8 = np.dtype(np.int8)


def tensor(name, shape, dtype=FLOAT, data=None, quantization=None, source=""):
    return Tensor(name, tuple(shape), np.dtype(dtype), data, quantization, source)


def constant(name, data, quantization=None):
    return Tensor(name, data.shape, data.dtype, data, quantization)


def scales(scale, zero_point=0, axis=0):
    scale = np.atleast_1d(np.asarray(scale, np.float32))
    return Quantization(scale, np.broadcast_to(np.int64(zero_point), scale.shape).copy(), axis)


def constants_only(*arrays):
    """A graph that holds these constants; made to be read back, not to be run."""
    outputs = [tensor(f"y{i}", array.shape, array.dtype) for i, array in enumerate(arrays)]
    operators = [
        Operator("RESHAPE", [constant(f"c{i}", array)], [output])
        for i, (array, output) in enumerate(zip(arrays, outputs, strict=True))
    ]
    return Graph("main", [], outputs, operators)


def stored(file, info):
    return bytes(file[info.data_start : info.data_start + info.nbytes])


def test_a_chain_computes_what_it_says(chain, run):
    x = np.float32([[1, 2, 3, 4]])
    np.testing.assert_array_equal(run(write(chain(4)), x=x)["y"], (x * 1 + 2) * 3 + 4)


def test_every_constant_is_aligned_and_intact():
    arrays = [np.arange(n, dtype=np.uint8) for n in (1, 3, 16, 17, 250, 5, 64)]
    file = write(constants_only(*arrays))
    infos = [info for info in read(file).tensors if info.data_start is not None]
    assert [info.data_start % 16 for info in infos] == [0] * len(arrays)
    assert [stored(file, info) for info in infos] == [array.tobytes() for array in arrays]


def test_the_schema_module_reads_the_constants_too():
    file = write(constants_only(np.float32([1, 2, 3])))
    model = generated().ModelT.InitFromPackedBuf(file, 0)
    number = model.subgraphs[0].tensors[0].buffer
    assert model.buffers[number].data.tobytes() == np.float32([1, 2, 3]).tobytes()
    assert model.buffers[0].data is None


def test_equal_constants_are_stored_once():
    big = np.random.default_rng(0).random((500, 100), np.float32)
    once, thrice = write(constants_only(big)), write(constants_only(big, big, big.copy()))
    assert {info.buffer for info in read(thrice).tensors if info.buffer} == {1}
    assert len(thrice) - len(once) < 1000


def test_constants_that_are_only_alike_are_kept_apart():
    zeros = np.zeros(10_000, np.float32)
    middle, negative = zeros.copy(), -zeros
    middle[5000] = 1
    file = write(constants_only(zeros, middle, negative))
    infos = [info for info in read(file).tensors if info.buffer]
    assert [stored(file, info) for info in infos] == [zeros.tobytes(), middle.tobytes(), negative.tobytes()]


def test_constants_equal_up_to_nan_are_stored_once():
    values = np.full(100, np.nan, np.float32)
    assert len({info.buffer for info in read(write(constants_only(values, values.copy()))).tensors if info.buffer}) == 1


def test_constants_that_are_views_are_stored_in_row_major_order():
    base = np.arange(12, dtype=np.float32).reshape(3, 4)
    file = write(constants_only(base.T, base[:, ::2], base.astype(">f4")))
    found = [stored(file, info) for info in read(file).tensors if info.buffer]
    assert found == [base.T.copy().tobytes(), base[:, ::2].copy().tobytes(), base.tobytes()]


@pytest.mark.parametrize("length", [4, 5])
def test_int4_is_packed_two_to_a_byte_the_first_one_low(length):
    values = np.array([1, -2, 7, -8, 3][:length], ml_dtypes.int4)
    file = write(constants_only(values))
    expected = bytes([0xE1, 0x87, 0x03][: (length + 1) // 2])
    assert stored(file, read(file).tensors[0]) == expected


@pytest.mark.parametrize(
    "dtype",
    [
        *("float16", "bfloat16", "float32", "float64", "int8", "int16", "int32", "int64"),
        *("uint8", "uint16", "uint32", "uint64", "bool", "complex64"),
    ],
)
def test_types_survive(dtype):
    values = np.array([0, 1, 1, 0]).astype(getattr(ml_dtypes, dtype, dtype))
    file = write(constants_only(values))
    info = read(file).tensors[0]
    assert info.dtype == values.dtype
    assert stored(file, info) == values.tobytes()


def test_a_type_that_tflite_lacks_is_refused():
    with pytest.raises(IllFormedGraphError, match="no tensor type for datetime64"):
        write(constants_only(np.zeros(2, "datetime64[s]")))


def test_float16_weights_run(run):
    x, y = tensor("x", (1, 4)), tensor("y", (1, 4))
    weights = constant("w", np.float16([[1, 2, 3, 4]]))
    wide = tensor("wide", (1, 4))
    operators = [Operator("DEQUANTIZE", [weights], [wide]), Operator("ADD", [x, wide], [y])]
    result = run(write(Graph("main", [x], [y], operators)), x=np.ones((1, 4), np.float32))
    np.testing.assert_array_equal(result["y"], [[2, 3, 4, 5]])


def test_same_graph_same_bytes(chain):
    assert write(chain(20)) == write(chain(20))


def test_bytes_do_not_depend_on_the_process():
    program = (
        "import hashlib, numpy as np\n"
        "from edgecc_tflite.ir import *\n"
        "from edgecc_tflite.writer import write\n"
        "x, f = Tensor('x', (1, 4), np.dtype('f4')), np.dtype('f4')\n"
        "ys = [Tensor(f'y{i}', (1, 4), f) for i in range(9)]\n"
        "ops = [Operator('MUL', [x, Tensor('c', (4,), f, np.full(4, i % 3, f))], [y]) for i, y in enumerate(ys)]\n"
        "print(hashlib.sha256(write(Graph('g', [x], ys, ops), metadata={'a': b'1'})).hexdigest())\n"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(filter(None, sys.path))},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1


def test_signature_has_the_source_names_in_order(chain):
    graph = chain(2)
    graph.inputs.append(tensor("transposed", (2, 3), source="second"))
    signature = read(write(graph)).signatures
    assert list(signature) == ["serving_default"]
    inputs, outputs = signature["serving_default"]
    assert list(inputs) == ["x", "second"]
    assert list(outputs) == ["y"]


def test_helpers_make_way_for_source_tensors():
    x = tensor("x", (2,), source="x")
    helpers = [tensor("h", (2,)) for _ in range(3)]
    y = tensor("h", (2,), source="h")
    chain = [x, *helpers, y]
    operators = [Operator("NEG", [a], [b]) for a, b in pairwise(chain)]
    names = [info.name for info in read(write(Graph("main", [x], [y], operators))).tensors]
    assert names == ["x", "h_1", "h_2", "h_3", "h"]


def test_open_dimensions_are_resized(run):
    x, y = tensor("x", (-1, 3)), tensor("y", (-1, 3))
    file = write(Graph("main", [x], [y], [Operator("NEG", [x], [y])]))
    assert read(file).tensor("x").shape == (-1, 3)
    table = generated().ModelT.InitFromPackedBuf(file, 0).subgraphs[0].tensors[0]
    assert table.shape.tolist() == [1, 3]
    for rows in (1, 5):
        value = np.ones((rows, 3), np.float32)
        np.testing.assert_array_equal(run(file, x=value)["y"], -value)


def test_scalars_have_a_rank():
    table = generated().ModelT.InitFromPackedBuf(write(constants_only(np.array(3.0, FLOAT))), 0).subgraphs[0].tensors[0]
    assert table.hasRank
    assert table.shapeSignature is None


def test_operator_codes_are_shared_and_readable_by_old_readers():
    x = tensor("x", (1, 2, 2, 1))
    y, z, g = (tensor(name, (1, 2, 2, 1)) for name in "yzg")
    operators = [Operator("NEG", [x], [y]), Operator("NEG", [y], [z]), Operator("GELU", [z], [g])]
    model = generated().ModelT.InitFromPackedBuf(write(Graph("main", [x], [g], operators)), 0)
    codes = [(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes]
    assert codes == [(59, 59), (150, 127)]


def test_metadata_and_minimum_runtime(chain):
    info = read(write(chain(1), description="mine", metadata={"note": b"abc"}))
    assert info.description == "mine"
    assert info.metadata == {"min_runtime_version": b"1.5.0".ljust(16, b"\0"), "note": b"abc"}


def test_constants_behind_the_flatbuffer(chain, run):
    x = np.float32([[1, 2, 3, 4]])
    inline, behind = write(chain(4)), write(chain(4), flatbuffer_limit=0)
    model = generated().ModelT.InitFromPackedBuf(behind, 0)
    assert all(buffer.data is None and buffer.offset % 16 == 0 for buffer in model.buffers)
    assert model.buffers[1].size == 16
    np.testing.assert_array_equal(run(behind, x=x)["y"], run(inline, x=x)["y"])


@pytest.mark.parametrize("options", [{"strides": 1}, {"padding": 0, "stride_w": 1}])
def test_an_unknown_option_names_the_operator_and_what_there_is(options):
    x, y = tensor("x", (1, 2, 2, 1)), tensor("y", (1, 2, 2, 1))
    graph = Graph("main", [x], [y], [Operator("MAX_POOL_2D", [x], [y], options, origins=("pool_1",))])
    with pytest.raises(IllFormedGraphError) as caught:
        write(graph)
    text = str(caught.value)
    assert f"MAX_POOL_2D has no option '{list(options)[-1]}'" in text
    assert "pool_1" in text
    assert "filterHeight, filterWidth" in text


def test_an_option_of_an_operator_without_options_is_refused():
    x, y = tensor("x", (2,)), tensor("y", (2,))
    with pytest.raises(IllFormedGraphError, match="RELU has no option 'alpha'"):
        write(Graph("main", [x], [y], [Operator("RELU", [x], [y], {"alpha": 1.0})]))


def test_an_unknown_operator_is_refused():
    x, y = tensor("x", (2,)), tensor("y", (2,))
    with pytest.raises(IllFormedGraphError, match="no builtin operator 'CONV2D'"):
        write(Graph("main", [x], [y], [Operator("CONV2D", [x], [y])]))


def test_every_options_table_of_the_schema_belongs_to_an_operator():
    schema = generated()
    tables = {f"{name}T" for union in (schema.BuiltinOptions, schema.BuiltinOptions2) for name in vars(union)}
    builtins = [name for name in vars(schema.BuiltinOperator) if name.isupper()]
    used = {table.table.__name__ for table in map(options_table, builtins) if table is not None}
    assert {name for name in tables if name.endswith("OptionsT")} == used


def test_options_arrive():
    x, y = tensor("x", (1, 4, 4, 1)), tensor("y", (1, 2, 2, 1))
    options = {"filterHeight": 2, "filterWidth": 3, "strideH": 2, "strideW": 1, "padding": 1}
    file = write(Graph("main", [x], [y], [Operator("MAX_POOL_2D", [x], [y], options)]))
    table = generated().ModelT.InitFromPackedBuf(file, 0).subgraphs[0].operators[0].builtinOptions
    assert {name: getattr(table, name) for name in options} == options


def test_operators_with_equal_options_share_them_and_others_do_not():
    x = tensor("x", (1, 4, 4, 1))
    strides, operators = [1, 2, 1, 3], []
    for number, stride in enumerate(strides):
        y = tensor(f"y{number}", (1, 4 // stride, 4 // stride, 1))
        operators.append(Operator("MAX_POOL_2D", [x], [y], {"strideH": stride, "strideW": stride}))
    shapes = [constant(f"s{n}", np.int32([4, 4])) for n in range(2)]
    for number, (shape, new) in enumerate(zip(shapes, ([4, 4], np.int32([16])), strict=True)):
        operators.append(Operator("RESHAPE", [x, shape], [tensor(f"r{number}", (4, 4))], {"newShape": new}))
    subgraph = generated().ModelT.InitFromPackedBuf(write(Graph("main", [x], [], operators)), 0).subgraphs[0]
    assert [operator.builtinOptions.strideH for operator in subgraph.operators[:4]] == strides
    assert [operator.builtinOptions.newShape.tolist() for operator in subgraph.operators[4:]] == [[4, 4], [16]]


def test_quantizations_that_differ_only_in_the_axis_are_kept_apart():
    first, second = (constant(f"w{axis}", np.ones((2, 2), np.int8), scales([1, 2], 0, axis)) for axis in (0, 1))
    outputs = [tensor(name, (2, 2)) for name in "yz"]
    operators = [Operator("DEQUANTIZE", [w], [y]) for w, y in zip((first, second), outputs, strict=True)]
    info = read(write(Graph("main", [], outputs, operators)))
    assert [info.tensor("w0").axis, info.tensor("w1").axis] == [0, 1]


def test_options_of_the_second_union_arrive(run):
    x = tensor("x", (2, 2))
    y = tensor("y", (3, 2))
    operator = Operator("DILATE", [x, constant("d", np.int32([2, 1])), constant("p", np.float32(0))], [y])
    file = write(Graph("main", [x], [y], [operator]))
    table = generated().ModelT.InitFromPackedBuf(file, 0).subgraphs[0].operators[0]
    assert type(table.builtinOptions2).__name__ == "DilateOptionsT"
    result = run(file, x=np.float32([[1, 2], [3, 4]]))["y"]
    np.testing.assert_array_equal(result, [[1, 2], [0, 0], [3, 4]])


def test_quantized_convolution_has_the_right_numbers(run):
    """A per-channel int8 convolution against the same thing in float64, to one step of the output."""
    rng = np.random.default_rng(3)
    in_scale, out_scale, weight_scale = 0.02, 0.05, np.float32([0.01, 0.02, 0.005, 0.03])
    x_stored = rng.integers(-128, 128, (1, 5, 5, 3)).astype(np.int8)
    w_stored = rng.integers(-127, 128, (4, 1, 1, 3)).astype(np.int8)
    b_stored = rng.integers(-900, 900, 4).astype(np.int32)
    x = tensor("x", x_stored.shape, INT8, quantization=scales(in_scale, 7))
    w = constant("w", w_stored, scales(weight_scale, 0, axis=0))
    b = constant("b", b_stored, scales(np.float32(in_scale) * weight_scale))
    y = tensor("y", (1, 5, 5, 4), INT8, quantization=scales(out_scale, -5))
    operator = Operator("CONV_2D", [x, w, b], [y], {"strideH": 1, "strideW": 1, "padding": 1})
    real = (x_stored.astype(float) - 7) * in_scale @ (w_stored[:, 0, 0].T * weight_scale.astype(float))
    real += b_stored * (in_scale * weight_scale.astype(float))
    expected = np.clip(np.round(real / out_scale) - 5, -128, 127)
    result = run(write(Graph("main", [x], [y], [operator])), x=x_stored)["y"]
    assert np.abs(result - expected).max() <= 1
    assert np.mean(result == expected) > 0.95


def test_quantization_arrives():
    quantization = Quantization(np.float32([0.5, 0.25]), np.int64([3, -4]), 1)
    data = constant("w", np.ones((3, 2), np.int8), quantization)
    graph = Graph("main", [], [tensor("y", (3, 2))], [])
    graph.operators = [Operator("DEQUANTIZE", [data], graph.outputs)]
    info = read(write(graph)).tensor("w")
    assert (info.scale.tolist(), info.zero_point.tolist(), info.axis) == ([0.5, 0.25], [3, -4], 1)


@pytest.mark.shared_data
@pytest.mark.parametrize(
    "name", ["kws_ref_model.tflite", "vww_96_float.tflite", "pretrainedResnet_quant.tflite", "ad01_int8.tflite"]
)
def test_a_real_model_written_again_is_the_same_model(name, reference_model, graph_of):
    from ai_edge_litert.interpreter import Interpreter

    original = reference_model(name)
    written = write(graph_of(original))
    results = []
    for file in (original, bytes(written)):
        interpreter = Interpreter(model_content=file)
        interpreter.allocate_tensors()
        detail = interpreter.get_input_details()[0]
        value = np.random.default_rng(0).integers(-100, 100, detail["shape"]).astype(detail["dtype"])
        interpreter.set_tensor(detail["index"], value)
        interpreter.invoke()
        results.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))
    np.testing.assert_array_equal(results[0], results[1])
    assert len(written) <= len(original) + 2048


def test_weights_are_copied_once():
    weights = np.random.default_rng(0).random((2000, 2000), np.float32)
    graph = constants_only(weights, weights.T[:1000])
    write(constants_only(weights[:1]))  # what is imported and cached by a first call is not counted
    tracemalloc.start()
    file = write(graph)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(file) > 24_000_000
    assert peak < 1.1 * len(file)


def test_importing_the_writer_imports_no_schema():
    program = "import sys, edgecc_tflite.writer; sys.exit('ai_edge_litert' in sys.modules)"
    environment = {"PYTHONPATH": ":".join(filter(None, sys.path))}
    assert subprocess.run([sys.executable, "-c", program], env=environment, check=False).returncode == 0


def test_a_file_on_disk_loads(chain, tmp_path: Path):
    from ai_edge_litert.interpreter import Interpreter

    path = tmp_path / "m.tflite"
    path.write_bytes(write(chain(3), flatbuffer_limit=0))
    result = Interpreter(model_path=str(path)).get_signature_runner()(x=np.ones((1, 4), np.float32))
    np.testing.assert_array_equal(result["y"], [[9, 9, 9, 9]])
