"""What a `.tflite` file holds, for tests, `edgecc inspect` and reports. Reads any file, not only ours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from edgecc_tflite import schema


@dataclass(frozen=True)
class TensorInfo:
    """A tensor as the file describes it.

    Attributes:
        shape: -1 where the file leaves a dimension open.
        buffer: number of its buffer; 0 for none.
        data_start: where in the file its constant's bytes begin; None for a tensor that is computed.
        nbytes: bytes of that constant.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    buffer: int
    data_start: int | None
    nbytes: int
    scale: np.ndarray | None
    zero_point: np.ndarray | None
    axis: int


@dataclass(frozen=True)
class OperatorInfo:
    """An operator; inputs and outputs are tensor numbers, -1 for an omitted input."""

    builtin: str
    version: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True)
class FileInfo:
    """The first subgraph of a file, and what belongs to the model as a whole.

    Attributes:
        signatures: for each signature, its inputs' and outputs' tensor numbers by name.
    """

    description: str
    tensors: tuple[TensorInfo, ...]
    operators: tuple[OperatorInfo, ...]
    signatures: dict[str, tuple[dict[str, int], dict[str, int]]]
    metadata: dict[str, bytes]

    def count(self, builtin: str) -> int:
        """How many operators of a kind there are."""
        return sum(operator.builtin == builtin for operator in self.operators)

    def tensor(self, name: str) -> TensorInfo:
        """The tensor of that name."""
        return next(tensor for tensor in self.tensors if tensor.name == name)


def read(file: bytes | bytearray) -> FileInfo:
    """Read a file's tables; constants stay where they are."""
    model = schema.generated().Model.GetRootAs(file, 0)
    subgraph = model.Subgraphs(0)
    codes = [_kind(model.OperatorCodes(i)) for i in range(model.OperatorCodesLength())]
    return FileInfo(
        description=_text(model.Description()),
        tensors=tuple(_tensor(subgraph.Tensors(i), model) for i in range(subgraph.TensorsLength())),
        operators=tuple(_operator(subgraph.Operators(i), codes) for i in range(subgraph.OperatorsLength())),
        signatures=dict(_signature(model.SignatureDefs(i)) for i in range(model.SignatureDefsLength())),
        metadata=dict(_metadata(model.Metadata(i), model, file) for i in range(model.MetadataLength())),
    )


def _kind(code: Any) -> tuple[str, int]:
    builtin = schema.builtin_name(max(code.BuiltinCode(), code.DeprecatedBuiltinCode()))
    return (_text(code.CustomCode()) if builtin == "CUSTOM" else builtin), code.Version()


def _operator(operator: Any, codes: list[tuple[str, int]]) -> OperatorInfo:
    builtin, version = codes[operator.OpcodeIndex()]
    inputs = tuple(operator.Inputs(i) for i in range(operator.InputsLength()))
    outputs = tuple(operator.Outputs(i) for i in range(operator.OutputsLength()))
    return OperatorInfo(builtin, version, inputs, outputs)


def _tensor(tensor: Any, model: Any) -> TensorInfo:
    shape = [tensor.Shape(i) for i in range(tensor.ShapeLength())]
    if tensor.ShapeSignatureLength():
        shape = [tensor.ShapeSignature(i) for i in range(tensor.ShapeSignatureLength())]
    start, nbytes = _extent(model.Buffers(tensor.Buffer()))
    quantization = tensor.Quantization()
    quantized = quantization is not None and quantization.ScaleLength() > 0
    return TensorInfo(
        name=_text(tensor.Name()),
        shape=tuple(shape),
        dtype=schema.numpy_dtype(tensor.Type()),
        buffer=tensor.Buffer(),
        data_start=start,
        nbytes=nbytes,
        scale=quantization.ScaleAsNumpy() if quantized else None,
        zero_point=quantization.ZeroPointAsNumpy() if quantized else None,
        axis=quantization.QuantizedDimension() if quantized else 0,
    )


def _extent(buffer: Any) -> tuple[int | None, int]:
    """Start and length of a buffer's bytes in the file, wherever the file keeps them."""
    if buffer.Offset() > 1:
        return buffer.Offset(), buffer.Size()
    if buffer.DataIsNone():
        return None, 0
    # The generated accessors copy the bytes; only the table knows where they are.
    data_field = buffer._tab.Offset(4)
    return buffer._tab.Vector(data_field), buffer.DataLength()


def _signature(signature: Any) -> tuple[str, tuple[dict[str, int], dict[str, int]]]:
    inputs = [signature.Inputs(i) for i in range(signature.InputsLength())]
    outputs = [signature.Outputs(i) for i in range(signature.OutputsLength())]
    named = tuple({_text(entry.Name()): entry.TensorIndex() for entry in entries} for entries in (inputs, outputs))
    return _text(signature.SignatureKey()), (named[0], named[1])


def _metadata(metadata: Any, model: Any, file: bytes | bytearray) -> tuple[str, bytes]:
    start, nbytes = _extent(model.Buffers(metadata.Buffer()))
    return _text(metadata.Name()), b"" if start is None else bytes(file[start : start + nbytes])


def _text(value: bytes | None) -> str:
    return "" if value is None else value.decode()
