"""Weights of which many are 0, stored without the zeros.

The schema's sparse tensors: along the last axis only what is not 0 is stored, with its place (compressed sparse rows).
DENSIFY makes a dense tensor of one, once: XNNPACK and the built-in kernels unpack it when the model is prepared.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from edgecc_tflite import schema
from edgecc_tflite.constants import Constants
from edgecc_tflite.ir import Graph, Operator, Tensor

#: Operators whose second input are weights that may come from DENSIFY.
_READERS = frozenset({"CONV_2D", "FULLY_CONNECTED"})
#: Weights below this many bytes are left: two tables and an operator take some hundred.
_FEWEST_BYTES = 4096
#: Of the dense bytes, what sparse weights take at most.
_WORTHWHILE = 0.9


def store_sparse(graph: Graph) -> None:
    """Let weights in float32 become sparse where that makes the file smaller; subgraphs too."""
    buffers = Constants()
    copies = _copies(graph, buffers)
    for part in graph.nested():
        dense: dict[tuple[int, tuple[int, ...]], Tensor] = {}
        operators: list[Operator] = []
        for operator in part.operators:
            weights = operator.inputs[1] if operator.builtin in _READERS else None
            if weights is not None and weights.data is not None:
                # Several tensors may share one buffer.
                key = buffers.add(weights.data), weights.shape
                if key not in dense and _is_worthwhile(weights, copies.get(key[0], 0)):
                    source, dense[key] = _taken_apart(weights)
                    operators.append(Operator("DENSIFY", [source], [dense[key]], origins=operator.origins))
                operator.inputs[1] = dense.get(key, weights)
            operators.append(operator)
        part.operators = operators


def _copies(graph: Graph, buffers: Constants) -> dict[int, int]:
    """In how many sparse tensors each buffer would be stored; those that anything else reads are left out.

    They have to be in the file with their zeros anyway, and are stored once.
    """
    sparse: dict[int, set[tuple[int, tuple[int, ...]]]] = {}
    others: set[int] = set()
    for number, part in enumerate(graph.nested()):
        others |= {buffers.add(tensor.data) for tensor in part.outputs if tensor.data is not None}
        for operator in part.operators:
            for place, tensor in enumerate(operator.inputs):
                if tensor is None or tensor.data is None:
                    continue
                buffer = buffers.add(tensor.data)
                if place == 1 and operator.builtin in _READERS:
                    sparse.setdefault(buffer, set()).add((number, tensor.shape))
                else:
                    others.add(buffer)
    return {buffer: len(found) for buffer, found in sparse.items() if buffer not in others}


def _taken_apart(weights: Tensor) -> tuple[Tensor, Tensor]:
    source = Tensor(f"{weights.name}/sparse", weights.shape, weights.dtype, weights.data, sparse=True)
    return source, Tensor(weights.name, weights.shape, weights.dtype)


def _is_worthwhile(weights: Tensor, copies: int) -> bool:
    """Whether so many sparse tensors, which share their values but not where these are, take less than one dense."""
    data = weights.data
    if not copies or data is None or data.dtype != np.float32 or data.ndim < 2 or data.nbytes < _FEWEST_BYTES:
        return False
    rows, count = math.prod(data.shape[:-1]), int(np.count_nonzero(data))
    index, segment = (np.dtype(_index_type(largest)).itemsize for largest in (data.shape[-1], count))
    tables = copies * (count * index + (rows + 1) * segment)
    # Of nothing but zeros nothing would be stored, which DENSIFY does not take for a constant.
    return count > 0 and count * data.itemsize + tables <= _WORTHWHILE * data.nbytes


def _index_type(largest: int) -> type[np.generic]:
    """The smallest type of the schema's index vectors that holds every number up to this one."""
    return np.uint8 if largest < 1 << 8 else np.uint16 if largest < 1 << 16 else np.int32


def nonzero_values(tensor: Tensor) -> np.ndarray:
    """What of a sparse tensor is stored, in the order of its rows."""
    assert tensor.data is not None, "it is a constant"
    values: np.ndarray = tensor.data[tensor.data != 0]
    return values


def sparsity_table(tensor: Tensor) -> Any:
    """The schema's `SparsityParameters`: all axes dense but the last."""
    assert tensor.data is not None, "it is a constant"
    generated = schema.generated()
    kept = (tensor.data != 0).reshape(-1, tensor.shape[-1])
    ends = np.concatenate([[0], np.cumsum(kept.sum(axis=1))])
    last = generated.DimensionMetadataT()
    last.format = generated.DimensionType.SPARSE_CSR
    last.arraySegmentsType, last.arraySegments = _vector(ends, int(ends[-1]))
    last.arrayIndicesType, last.arrayIndices = _vector(np.nonzero(kept)[1], tensor.shape[-1])
    table = generated.SparsityParametersT()
    table.traversalOrder = np.arange(tensor.rank, dtype=np.int32)
    table.dimMetadata = [*(_dense_axis(size) for size in tensor.shape[:-1]), last]
    return table


def _dense_axis(size: int) -> Any:
    generated = schema.generated()
    axis = generated.DimensionMetadataT()
    axis.format, axis.denseSize = generated.DimensionType.DENSE, size
    return axis


def _vector(values: np.ndarray, largest: int) -> tuple[int, Any]:
    """Its number in the union of index vectors, and the table."""
    generated = schema.generated()
    dtype = np.dtype(_index_type(largest))
    name = {"uint8": "Uint8Vector", "uint16": "Uint16Vector", "int32": "Int32Vector"}[dtype.name]
    table = getattr(generated, f"{name}T")()
    table.values = values.astype(dtype)
    return int(getattr(generated.SparseIndexVector, name)), table
