"""Writing a ModelProto: one file, or past 2 GB two."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx

from edgecc.artifact import write_files
from edgecc.importers.proto_graphs import every_graph

#: Past this many bytes protobuf cannot serialize a message; some room is left for the rest of the model.
MAX_INLINE_BYTES = (1 << 31) - (1 << 24)
#: Tensors up to this size stay in the model file: readers infer shapes from their values.
_SMALL_BYTES = 1024
#: Offsets are multiples of this, so that runtimes can map the file into memory.
_ALIGNMENT = 4096


def save_proto(proto: onnx.ModelProto, path: Path) -> None:
    """Write a model completely or not at all; past 2 GB its weights go to `PATH.data` beside it.

    Args:
        proto: the model; past 2 GB its large tensors are emptied.
        path: of the file.

    Raises:
        OutputError: the place cannot be written; an older file there is untouched.
    """
    tensors = [t for graph in every_graph(proto.graph) for t in graph.initializer if len(t.raw_data) > _SMALL_BYTES]
    if sum(len(t.raw_data) for t in tensors) + 2 * _SMALL_BYTES <= MAX_INLINE_BYTES:
        write_files({path: proto.SerializeToString(deterministic=True)})
        return
    data = path.with_name(path.name + ".data")
    # The data is written before the model asks for its own bytes: by then every tensor knows its place.
    write_files({data: _externalize(tensors, data.name), path: _serialized(proto)})


def _serialized(proto: onnx.ModelProto) -> Iterator[bytes]:
    yield proto.SerializeToString(deterministic=True)


def _externalize(tensors: list[onnx.TensorProto], location: str) -> Iterator[bytes]:
    offset = 0
    for tensor in tensors:
        padding = -offset % _ALIGNMENT
        contents = tensor.raw_data
        yield bytes(padding)
        yield contents
        offset += padding
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", location), ("offset", str(offset)), ("length", str(len(contents)))):
            tensor.external_data.add(key=key, value=value)
        offset += len(contents)
