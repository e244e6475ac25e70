"""Operators that change a tensor's shape or type, or speak about it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from edgecc_tflite.enums import TensorType
from edgecc_tflite.ir import Shape, Tensor
from edgecc_tflite.lowerings.base import LoweringRule
from edgecc_tflite.lowerings.constraints import ANY_TYPE, NUMERIC, OPEN_DIMENSION, known_rank, typed
from edgecc_tflite.lowerings.detours import MOVED, MOVED_AS_INTS, detoured

if TYPE_CHECKING:
    from edgecc_tflite.lowerings.context import Lowering
    from edgecc_tflite.lowerings.node_view import NodeView

_INT32 = np.dtype(np.int32)


def _reshape(c: Lowering) -> None:
    x, out = c.x(), c.out()
    if out.shape.count(-1) <= 1:
        c.reshape(x, out.shape, out)
        return
    target = c.node.value(1)
    shape = _with_copied_dims_late(c, x, out.rank) if target is None else _with_copied_dims(c, x, target)
    c.emit("RESHAPE", [x, shape], out)


def _with_copied_dims(c: Lowering, x: Tensor, target: np.ndarray) -> Tensor:
    """A target shape whose zeros mean "as the input has it"."""
    if np.all(target != 0) or c.node.integer("allowzero", 0):
        return c.ints(target, "shape")
    sizes = sizes_of(c, x)
    parts = [_size(c, sizes, axis) if dim == 0 else c.ints([int(dim)], "dim") for axis, dim in enumerate(target)]
    return c.emit("CONCATENATION", parts, shape=(len(parts),), dtype=_INT32, axis=0)


def _with_copied_dims_late(c: Lowering, x: Tensor, rank: int) -> Tensor:
    """The same for a target shape that is computed at run time."""
    target = c.cast(c.x(1), np.int32)
    if c.node.integer("allowzero", 0):
        return target
    sizes = sizes_of(c, x)
    if rank > x.rank:
        parts = [sizes, c.ints([1] * (rank - x.rank))]
        sizes = c.emit("CONCATENATION", parts, shape=(rank,), axis=0, fusedActivationFunction=0)
    elif rank < x.rank:
        sizes = c.emit("SLICE", [sizes, c.ints([0]), c.ints([rank])], shape=(rank,))
    is_zero = c.binary("EQUAL", target, c.ints([0]), dtype=bool)
    return c.emit("SELECT_V2", [is_zero, sizes, target], shape=(rank,), dtype=_INT32)


def sizes_of(c: Lowering, x: Tensor) -> Tensor:
    """The dimensions of x at run time."""
    return c.emit("SHAPE", [x], shape=(x.rank,), dtype=_INT32, outType=TensorType.INT32)


def _size(c: Lowering, sizes: Tensor, axis: int) -> Tensor:
    return c.emit("GATHER", [sizes, c.ints([axis], "axis")], shape=(1,), dtype=_INT32, axis=0)


def _flatten(c: Lowering) -> None:
    """The product of the sizes in front of the axis, and what is left."""
    x, out, axis = c.x(), c.out(), c.node.axis(1)
    if out.shape.count(-1) <= 1:
        c.reshape(x, out.shape, out)
        return
    front = c.emit("SLICE", [sizes_of(c, x), c.ints([0]), c.ints([axis])], shape=(axis,))
    rows = c.emit("REDUCE_PROD", [front, c.ints([0])], shape=(1,), keepDims=True)
    target = c.emit("CONCATENATION", [rows, c.ints([-1])], shape=(2,), axis=0, fusedActivationFunction=0)
    c.emit("RESHAPE", [x, target], out)


def _squeeze(c: Lowering) -> None:
    x, out, axes = c.x(), c.out(), c.node.listed(1, "axes")
    if out.shape.count(-1) <= 1 or axes is None:
        c.reshape(x, out.shape, out)
        return
    gone = {axis % x.rank for axis in axes}
    kept = c.ints([axis for axis in range(x.rank) if axis not in gone])
    c.emit("RESHAPE", [x, c.emit("GATHER", [sizes_of(c, x), kept], shape=(out.rank,), axis=0)], out)


def _known_squeeze(node: NodeView) -> str | None:
    """Without axes, or with computed ones, the inferred shape has to tell which are left."""
    out = node.out_shape()
    if node.listed(1, "axes") is not None or out is None or out.count(-1) <= 1:
        return None
    return f"the squeezed axes are not known and the result has more than one {OPEN_DIMENSION}"


def _unsqueeze(c: Lowering) -> None:
    """The inferred shape says it all: open dimensions stay in order."""
    c.reshape(c.x(), c.out().shape, c.out())


def _known_unsqueeze(node: NodeView) -> str | None:
    before, out = node.shape(), node.out_shape()
    if node.listed(1, "axes") is not None or before is None or out is None:
        return None
    # An inserted axis whose place is not known is inferred as open too.
    return None if out.count(-1) <= 1 else f"the places of the new axes are computed beside an {OPEN_DIMENSION}"


def _transpose(c: Lowering) -> None:
    perm = c.node.ints("perm", range(c.x().rank)[::-1])
    c.transpose(c.x(), perm, c.out())


def _concat(c: Lowering) -> None:
    if len(c.inputs) == 1:
        c.copy(c.x(), c.out())
        return
    c.emit("CONCATENATION", c.inputs, c.out(), axis=c.node.axis(0), fusedActivationFunction=0)


def _split(c: Lowering) -> None:
    x, axis = c.x(), c.node.axis(0)
    outs = [c.out(i) for i in range(len(c.node.outputs))]
    sizes = [out.shape[axis] for out in outs]
    if len(outs) == 1:
        c.copy(x, outs[0])
    elif -1 in sizes:
        given = c.cast(c.x(1), np.int32)
        c.emit_many("SPLIT_V", [x, given, c.ints(axis, "axis")], outs, numSplits=len(outs))
    elif len(set(sizes)) == 1:
        c.emit_many("SPLIT", [c.ints(axis, "axis"), x], outs, numSplits=len(outs))
    else:
        c.emit_many("SPLIT_V", [x, c.ints(sizes, "sizes"), c.ints(axis, "axis")], outs, numSplits=len(outs))


def _split_sizes(node: NodeView) -> str | None:
    axis = node.axis(0)
    shapes = [node.out_shape(i) for i in range(len(node.outputs))]
    if node.has(1) or all(shape is not None and shape[axis] >= 0 for shape in shapes):
        return None
    return f"equal parts of an {OPEN_DIMENSION}: the sizes of the parts are not known"


def _expand(c: Lowering) -> None:
    x, out = c.x(), c.out()
    if x.shape == out.shape and -1 not in out.shape:
        c.copy(x, out)
        return
    if -1 not in out.shape:
        x = c.same_rank([x, out])[0]
        c.emit("BROADCAST_TO", [x, c.ints(out.shape, "shape")], out)
        return
    target = c.cast(c.x(1), np.int32)
    if x.rank == 0:
        c.emit("FILL", [target, x], out)
        return
    shape = c.emit("BROADCAST_ARGS", [sizes_of(c, x), target], shape=(out.rank,), dtype=_INT32)
    c.emit("BROADCAST_TO", [x, shape], out)


def _tile(c: Lowering) -> None:
    repeats = c.node.value(1)
    counts = c.x(1) if repeats is None else c.ints(repeats, "multiples")
    c.emit("TILE", [c.x(), counts], c.out())


def _cast(c: Lowering) -> None:
    x, out = c.x(), c.out()
    if x.dtype == out.dtype:
        c.copy(x, out)
        return
    c.emit("CAST", [x], out)


def _castable(node: NodeView) -> str | None:
    tensor = node.outputs[0]
    name = np.dtype(tensor.dtype).name if tensor is not None else ""
    return None if name in ANY_TYPE | {"float64"} else f"to {name}, which the TFLite kernel does not know"


def _shape(c: Lowering) -> None:
    """What is known now becomes a constant."""
    x = c.x()
    start, end, _ = slice(c.node.integer("start", 0), c.node.attribute("end")).indices(x.rank)
    dims = x.shape[start : max(start, end)]
    if -1 not in dims:
        c.define(0, np.array(dims, np.int64))
        return
    whole = c.out() if len(dims) == x.rank else None
    sizes = c.emit("SHAPE", [x], whole, shape=(x.rank,), dtype=np.dtype(np.int64), outType=TensorType.INT64)
    if whole is None:
        c.emit("SLICE", [sizes, c.ints([start], "begin"), c.ints([len(dims)], "size")], c.out())


def _size_of(c: Lowering) -> None:
    x = c.x()
    if -1 not in x.shape:
        c.define(0, np.array(np.prod(x.shape, dtype=np.int64), np.int64))
        return
    sizes = c.emit("SHAPE", [x], shape=(x.rank,), dtype=np.dtype(np.int64), outType=TensorType.INT64)
    c.emit("REDUCE_PROD", [sizes, c.ints([0], "axes")], c.out(), keepDims=False)


#: One value that fills more bytes than this is repeated at run time, not in the file.
_LARGEST_FILLED = 1 << 20


def _constant_of_shape(c: Lowering) -> None:
    value = c.node.attribute("value")
    filler = np.zeros((), np.float32) if value is None else np.asarray(getattr(value, "values", value)).reshape(())
    dims = c.node.value(0)
    if dims is not None and math.prod(map(int, dims)) * filler.nbytes <= _LARGEST_FILLED:
        c.define(0, np.broadcast_to(filler, tuple(int(d) for d in dims)))
        return
    c.emit("FILL", [c.x(), c.constant(filler, "value")], c.out())


def _range(c: Lowering) -> None:
    # ONNX's own body of AffineGrid gives tensors of one element where scalars are due.
    c.emit("RANGE", [c.reshape(c.x(index), ()) for index in range(3)], c.out())


def _identity(c: Lowering) -> None:
    c.copy(c.x(), c.out())


def _dropout(c: Lowering) -> None:
    """At inference everything is kept."""
    if c.node.has_output(0):
        c.copy(c.x(), c.out())
    if not c.node.has_output(1):
        return
    if -1 not in c.x().shape:
        c.define(1, np.ones(c.x().shape, np.bool_))
        return
    c.emit("FILL", [sizes_of(c, c.x()), c.constant(np.array(True), "kept")], c.out(1))


def _for_inference(node: NodeView) -> str | None:
    training = node.value(2)
    if not node.has(2) or (training is not None and not training.any()):
        return None
    if training is None:
        return f"training_mode {node.input(2).name!r} is computed at run time; export the model for inference"
    return "training_mode is set: what it drops is random; export the model for inference"


def _depth_to_space(c: Lowering) -> None:
    """TFLite splits channels into (row, column, depth), as DCR does; CRD has depth first."""
    x, block = c.to_last(c.x()), c.node.integer("blocksize", 1)
    if c.node.text("mode", "DCR") == "CRD":
        order = np.arange(x.shape[3], dtype=np.int32).reshape(-1, block * block).T.reshape(-1)
        x = c.emit("GATHER", [x, c.constant(order, "order")], axis=3)
    shape = (x.shape[0], *_scaled(x.shape[1:3], block), x.shape[3] // block**2)
    c.to_first(c.emit("DEPTH_TO_SPACE", [x], shape=shape, blockSize=block), c.out())


def _space_to_depth(c: Lowering) -> None:
    x, block = c.to_last(c.x()), c.node.integer("blocksize", 1)
    shape = (x.shape[0], *(d if d < 0 else d // block for d in x.shape[1:3]), x.shape[3] * block**2)
    c.to_first(c.emit("SPACE_TO_DEPTH", [x], shape=shape, blockSize=block), c.out())


def _scaled(dims: Shape, factor: int) -> Shape:
    return tuple(d if d < 0 else d * factor for d in dims)


_MOVABLE = (typed(ANY_TYPE | {"float64", "uint64"}), known_rank())
#: What the kernels of CONCATENATION take, and those of SPLIT and SPLIT_V.
_JOINED = ANY_TYPE - {"uint16"}
_PARTED = ANY_TYPE - {"bool", "float16", "uint16", "uint32"}

RULES = (
    LoweringRule("Reshape", _reshape, ("RESHAPE", "SHAPE", "GATHER", "CONCATENATION"), _MOVABLE, since=5),
    LoweringRule("Flatten", _flatten, ("RESHAPE", "SHAPE", "SLICE", "REDUCE_PROD", "CONCATENATION"), _MOVABLE),
    LoweringRule("Squeeze", _squeeze, ("RESHAPE", "SHAPE", "GATHER"), (*_MOVABLE, _known_squeeze)),
    LoweringRule("Unsqueeze", _unsqueeze, ("RESHAPE",), (*_MOVABLE, _known_unsqueeze)),
    LoweringRule("Transpose", _transpose, ("TRANSPOSE",), _MOVABLE),
    detoured(LoweringRule("Concat", _concat, ("CONCATENATION",), (typed(_JOINED), known_rank()), since=4), MOVED),
    detoured(
        LoweringRule("Split", _split, ("SPLIT", "SPLIT_V"), (typed(_PARTED), known_rank(), _split_sizes), since=2),
        MOVED_AS_INTS,
    ),
    LoweringRule("Expand", _expand, ("BROADCAST_TO", "BROADCAST_ARGS", "FILL", "SHAPE"), _MOVABLE, since=8),
    LoweringRule("Tile", _tile, ("TILE",), _MOVABLE, since=6),
    LoweringRule("Cast", _cast, ("CAST",), (typed(ANY_TYPE | {"float64"}), _castable), since=6),
    LoweringRule("CastLike", _cast, ("CAST",), (typed(ANY_TYPE | {"float64"}), _castable), since=15, takes_empty=True),
    LoweringRule("Shape", _shape, ("SHAPE", "SLICE"), (known_rank(),), note="A constant where it is known."),
    LoweringRule("Size", _size_of, ("SHAPE", "REDUCE_PROD"), (known_rank(),)),
    LoweringRule("ConstantOfShape", _constant_of_shape, ("FILL",), since=9),
    LoweringRule("Range", _range, ("RANGE",), (typed(NUMERIC),), since=11),
    LoweringRule("Identity", _identity, ()),
    LoweringRule("Dropout", _dropout, ("FILL", "SHAPE"), (_for_inference,), since=7),
    LoweringRule(
        "DepthToSpace", _depth_to_space, ("DEPTH_TO_SPACE", "GATHER", "TRANSPOSE"), (*_MOVABLE, typed({"float32"}))
    ),
    LoweringRule("SpaceToDepth", _space_to_depth, ("SPACE_TO_DEPTH", "TRANSPOSE"), (*_MOVABLE, typed({"float32"}))),
)
