"""Operators that pick values by index."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgecc_tflite.ir import Shape, Tensor
from edgecc_tflite.lowerings.base import LoweringRule
from edgecc_tflite.lowerings.constraints import ANY_TYPE, OPEN_DIMENSION, known_rank, typed
from edgecc_tflite.lowerings.detours import MOVED, SMALL_INTS, detoured
from edgecc_tflite.lowerings.shape import sizes_of

if TYPE_CHECKING:
    from edgecc_tflite.lowerings.context import Lowering
    from edgecc_tflite.lowerings.node_view import NodeView

_INT32 = np.dtype(np.int32)


def _gather(c: Lowering) -> None:
    x, axis = c.x(), c.node.axis(0)
    c.emit("GATHER", [x, wrapped(c, c.x(1), _size_along(c, x, axis))], c.out(), axis=axis)


def _size_along(c: Lowering, x: Tensor, axis: int) -> int | Tensor:
    if x.shape[axis] >= 0:
        return x.shape[axis]
    return c.emit("GATHER", [sizes_of(c, x), c.ints(axis)], shape=(), dtype=_INT32, axis=0)


def _known_if_negative(node: NodeView) -> str | None:
    indices, shape = node.value(1), node.shape()
    if indices is None or shape is None or not np.any(indices < 0) or shape[node.axis(0)] >= 0:
        return None
    return f"a negative index into an {OPEN_DIMENSION}"


def wrapped(c: Lowering, indices: Tensor, sizes: int | list[int] | Tensor) -> Tensor:
    """Indices as int32 with negative ones, which count from the end, made positive."""
    indices = c.cast(indices, np.int32)
    if indices.data is not None and not np.any(indices.data < 0):
        return indices
    bound = sizes if isinstance(sizes, Tensor) else c.ints(sizes, "sizes")
    if indices.data is not None and bound.data is not None:
        return c.ints(np.where(indices.data < 0, indices.data + bound.data, indices.data))
    return c.binary("FLOOR_MOD", indices, bound)


def strides_of(shape: Shape) -> list[int]:
    return [int(np.prod(shape[axis + 1 :], dtype=np.int64)) for axis in range(len(shape))]


def places_in(c: Lowering, x: Tensor, indices: Tensor, axis: int, *, first: int = 0) -> Tensor:
    """Places in x, flattened from axis `first` on; an element is at its index's own place but for one axis."""
    strides = strides_of(x.shape)
    own = np.zeros([1] * indices.rank, np.int32)
    for other in range(first, indices.rank):
        if other != axis:
            steps = np.arange(indices.shape[other], dtype=np.int32) * strides[other]
            own = own + steps.reshape([-1 if a == other else 1 for a in range(indices.rank)])
    scaled = c.binary("MUL", wrapped(c, indices, x.shape[axis]), c.ints(strides[axis], "stride"))
    return c.binary("ADD", scaled, c.ints(own, "own"))


def _gather_elements(c: Lowering) -> None:
    x, indices, axis = c.x(0), c.x(1), c.node.axis(0)
    if x.shape[0] >= 0:
        flat = c.reshape(x, (int(np.prod(x.shape)),))
        c.emit("GATHER", [flat, places_in(c, x, indices, axis)], c.out(), axis=0)
        return
    # Every sample has its own indices.
    places = c.reshape(places_in(c, x, indices, axis, first=1), (-1, int(np.prod(indices.shape[1:]))))
    flat = c.reshape(x, (-1, int(np.prod(x.shape[1:]))))
    c.reshape(c.emit("GATHER", [flat, places], shape=places.shape, axis=1, batchDims=1), c.out().shape, c.out())


def _static_or_batched(node: NodeView) -> str | None:
    x, indices = node.shape(0), node.shape(1)
    if x is None or indices is None or (-1 not in x and -1 not in indices):
        return None
    if node.axis(0) > 0 and x[0] < 0 and indices[0] < 0 and -1 not in (*x[1:], *indices[1:]):
        return None
    return f"an {OPEN_DIMENSION} that is not the batch of both inputs"


def _gather_nd(c: Lowering) -> None:
    x, batch = c.x(0), c.node.integer("batch_dims", 0)
    depth = c.x(1).shape[-1]
    dims = x.shape[batch : batch + depth]
    if -1 in dims:
        sizes: Tensor | list[int] = c.emit(
            "SLICE", [sizes_of(c, x), c.ints([batch], "begin"), c.ints([depth], "size")], shape=(depth,), dtype=_INT32
        )
    else:
        sizes = list(dims)
    indices = wrapped(c, c.x(1), sizes)
    if batch:
        grid = np.indices(indices.shape[:-1], np.int32)[:batch]
        samples = c.ints(np.moveaxis(grid, 0, -1), "samples")
        shape = (*indices.shape[:-1], batch + depth)
        axis = len(shape) - 1
        indices = c.emit("CONCATENATION", [samples, indices], shape=shape, axis=axis, fusedActivationFunction=0)
    c.emit("GATHER_ND", [x, indices], c.out())


def _known_samples(node: NodeView) -> str | None:
    shape = node.shape(1)
    if not node.integer("batch_dims", 0) or shape is None or -1 not in shape:
        return None
    return f"batch_dims with an {OPEN_DIMENSION} in {node.input(1).name!r}"


def _reverse_sequence(c: Lowering) -> None:
    """Each sample up to its own length."""
    time, batch = c.node.integer("time_axis", 0), c.node.integer("batch_axis", 1)
    c.emit("REVERSE_SEQUENCE", [c.x(0), c.x(1)], c.out(), seqDim=time, batchDim=batch)


#: What the kernels of GATHER and GATHER_ND move.
_GATHERED = ANY_TYPE - {"uint16", "uint32"}

RULES = (
    detoured(
        LoweringRule(
            "Gather",
            _gather,
            ("GATHER", "FLOOR_MOD", "SHAPE"),
            (typed(_GATHERED), known_rank(), _known_if_negative),
        ),
        MOVED,
    ),
    detoured(
        LoweringRule(
            "GatherElements",
            _gather_elements,
            ("FLOOR_MOD", "MUL", "ADD", "GATHER", "RESHAPE", "CAST"),
            (typed(_GATHERED), known_rank(), _static_or_batched),
            since=11,
        ),
        MOVED,
    ),
    detoured(
        LoweringRule(
            "GatherND",
            _gather_nd,
            ("FLOOR_MOD", "GATHER_ND", "CONCATENATION", "CAST"),
            (typed(_GATHERED), known_rank(), _known_samples),
            since=11,
        ),
        MOVED,
    ),
    detoured(
        LoweringRule(
            "ReverseSequence",
            _reverse_sequence,
            ("REVERSE_SEQUENCE",),
            (typed({"float32", "int16", "int32", "int64", "uint8"}), known_rank()),
            since=10,
        ),
        MOVED | SMALL_INTS,
    ),
)
