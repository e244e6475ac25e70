"""Weights that stay in the model's file until they are read into arrays, as if they lay beside it.

Parsing a ModelProto copies its weights, and taking them out of it copies them again.
"""

from __future__ import annotations

import mmap

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from edgecc.importers.external_data import nbytes_of
from edgecc.importers.wire import LENGTH_DELIMITED, VARINT, Field, fields, length_delimited

#: Smaller tensors are parsed: to open the file for one takes as long as to copy it.
_LEAST_BYTES = 1 << 15
_GRAPH = onnx.ModelProto.GRAPH_FIELD_NUMBER
_INITIALIZER = onnx.GraphProto.INITIALIZER_FIELD_NUMBER
_RAW_DATA = onnx.TensorProto.RAW_DATA_FIELD_NUMBER
_WITHOUT_SIZE = (onnx.TensorProto.STRING, onnx.TensorProto.UNDEFINED)


def without_weights(contents: mmap.mmap, name: str) -> bytes | None:
    """The serialized model, in which large initializers are external data that lies in the file itself.

    Args:
        contents: of the file, a serialized ModelProto.
        name: of the file, in its folder.

    Returns:
        None if there is nothing to gain, or the message is not written the way that every serializer writes it: then
        protobuf says what it holds, or what is wrong with it.
    """
    if len(contents) < _LEAST_BYTES or not _is_text(name):
        return None
    model = _fields_of(contents, 0, len(contents))
    graphs = [field for field in model or () if field.number == _GRAPH]
    if len(graphs) != 1 or graphs[0].wire != LENGTH_DELIMITED:
        return None
    graph = graphs[0]
    parts = _fields_of(contents, graph.start, graph.end)
    if parts is None:
        return None
    pieces, copied = [], graph.start
    for part in parts:
        if part.number != _INITIALIZER or part.end - part.start < _LEAST_BYTES:
            continue
        tensor = _without_data(contents, part, name)
        if tensor is not None:
            pieces += [contents[copied : part.begin], length_delimited(_INITIALIZER, tensor)]
            copied = part.end
    if not pieces:
        return None
    pieces.append(contents[copied : graph.end])
    return contents[: graph.begin] + length_delimited(_GRAPH, b"".join(pieces)) + contents[graph.end :]


def _without_data(contents: mmap.mmap, field: Field, name: str) -> bytes | None:
    """A serialized tensor that refers to its data; None if its data is not in one piece of the right size."""
    parts = _fields_of(contents, field.start, field.end)
    data = [part for part in parts or () if part.number == _RAW_DATA]
    if len(data) != 1 or data[0].wire != LENGTH_DELIMITED:
        return None
    offset, length = data[0].start, data[0].end - data[0].start
    tensor = onnx.TensorProto()
    try:
        tensor.ParseFromString(contents[field.start : data[0].begin] + contents[data[0].end : field.end])
    except DecodeError:
        return None
    if tensor.data_type in _WITHOUT_SIZE or tensor.data_location == onnx.TensorProto.EXTERNAL:
        return None
    if min(tensor.dims, default=1) < 0 or nbytes_of(tensor) != length:
        return None
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", name), ("offset", str(offset)), ("length", str(length))):
        tensor.external_data.add(key=key, value=value)
    serialized: bytes = tensor.SerializeToString()
    return serialized


def _fields_of(contents: mmap.mmap, begin: int, end: int) -> list[Field] | None:
    """The fields of a message; None if it has such as ONNX has not, or does not end with the last of them."""
    found = list(fields(contents, begin, end))
    if not found or found[-1].end != end:
        return None
    return found if all(field.wire in (VARINT, LENGTH_DELIMITED) for field in found) else None


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:  # bytes that are no UTF-8, which no proto holds
        return False
    return True
