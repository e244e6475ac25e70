"""TypedOnnx: a model as the parser and the artifact of record need it, its weights never copied on the way.

The parser gets a small proto and pointers to the model's arrays. The file is put together from the same proto and
the arrays' bytes in protobuf's wire format, as a whole serialized ModelProto would be, without protobuf holding the
weights too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx

from edgecc.importers.wire import head_of

if TYPE_CHECKING:
    from edgecc.model import Model

#: protobuf reads no message over this size.
MAX_BYTES = (1 << 31) - 1
# Field numbers of onnx.proto, each with wire type 2 (length-delimited).
_MODEL_GRAPH = 7
_GRAPH_INITIALIZER = 5
_TENSOR_RAW_DATA = 9


@dataclass
class TypedOnnx:
    """A model taken apart.

    Attributes:
        proto: everything but the large weights, which are initializers without data.
        weights: their values as bytes are stored, contiguous, by name.
    """

    proto: onnx.ModelProto
    weights: dict[str, np.ndarray]

    @classmethod
    def of(cls, model: Model) -> TypedOnnx:
        """Take a model apart; it is not changed and shares its weights."""
        proto = model.to_proto(detach=True)
        given = {spec.name for spec in model.signature.inputs}
        detached = {info.name for info in proto.graph.input} - given
        kept = [info for info in proto.graph.input if info.name in given]
        del proto.graph.input[:]
        proto.graph.input.extend(kept)
        weights: dict[str, np.ndarray] = {}
        # Constants that only a subgraph reads are detached from the main graph too.
        for tensor in model.constants():
            if tensor.name not in detached or tensor.name in weights:
                continue
            values = np.ascontiguousarray(tensor.values)
            weights[tensor.name] = _stored(values)
            dtype = onnx.helper.np_dtype_to_tensor_dtype(tensor.values.dtype)
            proto.graph.initializer.add(name=tensor.name, data_type=dtype, dims=values.shape)
        return cls(proto, weights)

    def to_bytes(self) -> bytearray | None:
        """The whole model as an ONNX file; None if it is over protobuf's 2 GB."""
        outside, graph = onnx.ModelProto(), onnx.GraphProto()
        outside.CopyFrom(self.proto)
        graph.CopyFrom(outside.graph)
        outside.ClearField("graph")
        stubs = [t for t in graph.initializer if t.name in self.weights]
        small = [t for t in graph.initializer if t.name not in self.weights]
        del graph.initializer[:]
        graph.initializer.extend(small)
        heads = [_initializer_head(stub, self.weights[stub.name].nbytes) for stub in stubs]
        body = graph.SerializeToString(deterministic=True)
        size = len(body) + sum(map(len, heads)) + sum(self.weights[stub.name].nbytes for stub in stubs)
        start = outside.SerializeToString(deterministic=True) + head_of(_MODEL_GRAPH, size)
        if len(start) + size > MAX_BYTES:
            return None
        file = bytearray(len(start) + size)
        parts: list[bytes | memoryview] = [start, body]
        for stub, head in zip(stubs, heads, strict=True):
            parts += [head, self.weights[stub.name].reshape(-1).view(np.uint8).data]
        position = 0
        for part in parts:
            file[position : position + len(part)] = part
            position += len(part)
        return file


def _stored(values: np.ndarray) -> np.ndarray:
    """The array whose bytes are the tensor's raw data: little-endian, four bits two to a byte."""
    if values.dtype.name in ("int4", "uint4"):
        return np.frombuffer(onnx.numpy_helper.from_array(values).raw_data, np.uint8)
    return values.astype(values.dtype.newbyteorder("<"), copy=False)


def _initializer_head(stub: onnx.TensorProto, nbytes: int) -> bytes:
    """Everything of an initializer before its bytes."""
    tensor = stub.SerializeToString(deterministic=True) + head_of(_TENSOR_RAW_DATA, nbytes)
    return head_of(_GRAPH_INITIALIZER, len(tensor) + nbytes) + bytes(tensor)
