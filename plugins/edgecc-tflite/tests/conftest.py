"""Graphs and interpreters that several test files use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgecc_tflite import schema
from edgecc_tflite.ir import Graph, Operator, Quantization, Tensor

_MODELS = Path(__file__).parents[4] / "shared" / "data" / "mlperf_tiny"


def _run(file: bytes | bytearray, feeds: dict[str, np.ndarray], *, xnnpack: bool) -> dict[str, np.ndarray]:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    kind = OpResolverType.AUTO if xnnpack else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(model_content=bytes(file), experimental_op_resolver_type=kind)
    return dict(interpreter.get_signature_runner("serving_default")(**feeds))


@pytest.fixture(params=[True, False], ids=["xnnpack", "builtin"])
def run(request: pytest.FixtureRequest) -> Callable[..., dict[str, np.ndarray]]:
    """Run a file's signature with each of the runtime's two kernel sets."""
    return lambda file, **feeds: _run(file, feeds, xnnpack=request.param)


@pytest.fixture
def chain() -> Callable[[int], Graph]:
    """A graph of alternating MUL and ADD with a constant of its own for each."""

    def build(length: int) -> Graph:
        value = Tensor("x", (1, 4), np.dtype(np.float32), source="x")
        graph = Graph("main", [value])
        for number in range(length):
            constant = np.full((1, 4), number + 1, np.float32)
            other = Tensor(f"c{number}", (1, 4), constant.dtype, constant)
            result = Tensor(f"t{number}", (1, 4), constant.dtype)
            graph.operators.append(Operator("ADD" if number % 2 else "MUL", [value, other], [result]))
            value = result
        value.source = "y"
        graph.outputs = [value]
        return graph

    return build


@pytest.fixture
def reference_model() -> Callable[[str], bytes]:
    """A model that Google's converter made, by file name."""

    def load(name: str) -> bytes:
        path = _MODELS / name
        if not path.exists():
            pytest.skip(f"{path} is not here")
        return path.read_bytes()

    return load


@pytest.fixture
def graph_of() -> Callable[[bytes], Graph]:
    """The IR of a `.tflite` file, through the schema's object API."""
    return _graph_of


def _graph_of(file: bytes) -> Graph:
    model = schema.generated().ModelT.InitFromPackedBuf(file, 0)
    subgraph = model.subgraphs[0]
    tensors = [_tensor_of(table, model.buffers[table.buffer].data) for table in subgraph.tensors]
    graph = Graph("main", [tensors[i] for i in subgraph.inputs], [tensors[i] for i in subgraph.outputs])
    for table in subgraph.operators:
        code = model.operatorCodes[table.opcodeIndex]
        builtin = schema.builtin_name(max(code.builtinCode, code.deprecatedBuiltinCode))
        inputs = [None if i < 0 else tensors[i] for i in table.inputs]
        options = {} if table.builtinOptions is None else dict(vars(table.builtinOptions))
        graph.operators.append(Operator(builtin, inputs, [tensors[i] for i in table.outputs], options))
    return graph


def _tensor_of(table: Any, data: np.ndarray | None) -> Tensor:
    shape = tuple(int(dim) for dim in (table.shape if table.shapeSignature is None else table.shapeSignature))
    dtype = schema.numpy_dtype(table.type)
    tensor = Tensor(table.name.decode(), shape, dtype)
    if data is not None:
        tensor.data = np.frombuffer(data.tobytes(), dtype).reshape(shape)
    quantization = table.quantization
    if quantization is not None and quantization.scale is not None:
        tensor.quantization = Quantization(quantization.scale, quantization.zeroPoint, quantization.quantizedDimension)
    return tensor
