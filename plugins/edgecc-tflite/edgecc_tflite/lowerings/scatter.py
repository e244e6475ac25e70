"""Operators that write values at places which a tensor of indices names.

All come down to places in a tensor with some axes flattened, where SCATTER_ND and the UNSORTED_SEGMENT operators write.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgecc_tflite.ir import Shape, Tensor
from edgecc_tflite.lowerings.base import LoweringRule
from edgecc_tflite.lowerings.constraints import OPEN_DIMENSION, constant, known_rank, one_of, static, typed
from edgecc_tflite.lowerings.detours import MODULAR_INTS, detoured
from edgecc_tflite.lowerings.index import places_in, strides_of, wrapped

if TYPE_CHECKING:
    from edgecc_tflite.lowerings.context import Lowering
    from edgecc_tflite.lowerings.node_view import NodeView

_INT32 = np.dtype(np.int32)
_SCATTERED = frozenset({"float32", "int8", "int32", "int64", "uint8", "bool"})
_REDUCTIONS = {"mul": "MUL", "max": "MAXIMUM", "min": "MINIMUM"}
_SEGMENTS = {"mul": "UNSORTED_SEGMENT_PROD", "max": "UNSORTED_SEGMENT_MAX", "min": "UNSORTED_SEGMENT_MIN"}


def _scatter_nd(c: Lowering) -> None:
    x, updates = c.x(0), c.x(2)
    depth = c.x(1).shape[-1]
    outer, inner = x.shape[:depth], x.shape[depth:]
    indices = wrapped(c, c.x(1), list(outer))
    strides = c.ints(strides_of(outer), "strides")
    places = c.emit("SUM", [c.binary("MUL", indices, strides), c.ints([-1])], shape=indices.shape[:-1], keepDims=False)
    _scatter(c, x, places, updates, (int(np.prod(outer)), *inner))


def _scatter_elements(c: Lowering) -> None:
    x = c.x(0)
    places = places_in(c, x, c.x(1), c.node.axis(0))
    _scatter(c, x, places, c.x(2), (int(np.prod(x.shape)),))


def _scatter(c: Lowering, x: Tensor, places: Tensor, updates: Tensor, shape: Shape) -> None:
    """Combine x, in this shape, with updates at places along its first axis."""
    reduction, count = c.node.text("reduction", "none"), int(np.prod(places.shape))
    flat, rows = c.reshape(x, shape), c.reshape(updates, (count, *shape[1:]))
    places = c.reshape(places, (count,))
    if reduction in _SEGMENTS:
        size = c.ints(shape[0], "size")
        change = c.emit(_SEGMENTS[reduction], [rows, places, size], shape=shape)
        result = c.binary(_REDUCTIONS[reduction], flat, change)
    else:
        column, size = c.reshape(places, (count, 1)), c.ints(shape, "size")
        change = c.emit("SCATTER_ND", [column, rows, size], shape=shape, dtype=x.dtype)
        result = c.binary("ADD", flat, change) if reduction == "add" else _replaced(c, flat, change, column)
    c.reshape(result, x.shape, c.out())


def _replaced(c: Lowering, flat: Tensor, change: Tensor, column: Tensor) -> Tensor:
    """The change where there is one."""
    count, size = column.shape[0], flat.shape[:1]
    marks = c.constant(np.ones(count, np.int32), "marks")
    hits = c.emit("SCATTER_ND", [column, marks, c.ints(size, "size")], shape=size, dtype=_INT32)
    is_hit = c.binary("GREATER", hits, c.ints(0), dtype=np.bool_)
    is_hit = c.reshape(is_hit, (*size, *(1 for _ in flat.shape[1:])))
    return c.emit("SELECT_V2", [is_hit, change, flat], shape=flat.shape, dtype=flat.dtype)


def _reducible(node: NodeView) -> str | None:
    reduction, kind = node.text("reduction", "none"), node.dtype().name
    if reduction == "none" or (reduction == "add" and kind in {"float32", "int32", "int64"}):
        return None
    if reduction in _SEGMENTS and kind in {"float32", "int32"}:
        return None
    return f"reduction={reduction!r} of {kind}; TFLite reduces float32 and int32"


def _unique_places(node: NodeView) -> str | None:
    """Which one of several updates wins is undefined; here it would be their sum."""
    indices = node.value(1)
    if indices is None or node.text("reduction", "none") != "none" or node.op != "ScatterND":
        return None
    rows = indices.reshape(-1, indices.shape[-1])
    return None if len(np.unique(rows, axis=0)) == len(rows) else "several updates of one place without a reduction"


def _max_unpool(c: Lowering) -> None:
    """The indices are places in the flattened output."""
    x, shape = c.x(0), c.out().shape
    count = int(np.prod(x.shape))
    column = c.reshape(c.cast(c.x(1), np.int32), (count, 1))
    size = (int(np.prod(shape)),)
    flat = c.emit("SCATTER_ND", [column, c.reshape(x, (count,)), c.ints(size, "size")], shape=size, dtype=x.dtype)
    c.reshape(flat, shape, c.out())


def _inferred_output(node: NodeView) -> str | None:
    """Whether the indices mean the output as given or as inferred, ONNX and its runtimes disagree."""
    x, out = node.shape(), node.out_shape()
    if x is None or out is None or -1 in out:
        return f"an {OPEN_DIMENSION} of the output"
    kernel = node.ints("kernel_shape")
    strides, pads = node.ints("strides", (1,) * len(kernel)), node.ints("pads", (0,) * 2 * len(kernel))
    cut = [a + b for a, b in zip(pads[: len(kernel)], pads[len(kernel) :], strict=True)]
    inferred = [(d - 1) * s - p + k for d, k, s, p in zip(x[2:], kernel, strides, cut, strict=True)]
    return None if list(out[2:]) == inferred else "output_shape is another than the one that kernel and strides give"


def _col2im(c: Lowering) -> None:
    """Every column's value is added to its pixel; the columns know theirs in advance."""
    x, image, block = c.x(0), c.values(1).ravel(), c.values(2).ravel()
    rank, positions, columns = len(image), int(np.prod(block)), c.x(0).shape[2]
    pads = np.array(c.node.ints("pads", (0,) * 2 * rank)).reshape(2, rank)
    dilations, strides = c.node.ints("dilations", (1,) * rank), c.node.ints("strides", (1,) * rank)
    padded = tuple(int(d) for d in image + pads.sum(axis=0))
    places = np.zeros([1] * 2 * rank, np.int32)
    for axis, (size, kernel, dilation, stride) in enumerate(zip(padded, block, dilations, strides, strict=True)):
        starts = np.arange(0, size - dilation * (kernel - 1), stride)
        along = (np.arange(kernel) * dilation)[:, None] + starts
        shape = [1] * 2 * rank
        shape[axis], shape[rank + axis] = along.shape
        places = places + along.reshape(shape) * strides_of(padded)[axis]
    rows = c.transpose(c.reshape(x, (x.shape[0] * x.shape[1] // positions, positions * columns)), (1, 0))
    pixels = int(np.prod(padded))
    ids, count = c.ints(places.reshape(-1), "places"), c.ints(pixels, "size")
    summed = c.emit("UNSORTED_SEGMENT_SUM", [rows, ids, count], shape=(pixels, rows.shape[1]))
    result = c.reshape(c.transpose(summed, (1, 0)), (rows.shape[1], *padded))
    if pads.any():
        begin, kept = c.ints([0, *pads[0]], "begin"), (rows.shape[1], *(int(d) for d in image))
        result = c.emit("SLICE", [result, begin, c.ints(kept, "size")], shape=kept)
    c.reshape(result, c.out().shape, c.out())


_STATIC = (known_rank(), static(0), static(1))

RULES = (
    *(
        detoured(
            LoweringRule(
                op,
                lower,
                ("SCATTER_ND", "SELECT_V2", "GREATER", "ADD", *_SEGMENTS.values(), *_REDUCTIONS.values(), "CAST"),
                (
                    typed(_SCATTERED),
                    *_STATIC,
                    one_of("reduction", ("none", "add", *_REDUCTIONS), "none"),
                    _reducible,
                    _unique_places,
                ),
                since=11,
            ),
            MODULAR_INTS,
        )
        for op, lower in (("ScatterElements", _scatter_elements), ("ScatterND", _scatter_nd))
    ),
    LoweringRule(
        "MaxUnpool",
        _max_unpool,
        ("SCATTER_ND", "RESHAPE", "CAST"),
        (typed(_SCATTERED), *_STATIC, _inferred_output),
        since=9,
    ),
    LoweringRule(
        "Col2Im",
        _col2im,
        ("RESHAPE", "TRANSPOSE", "UNSORTED_SEGMENT_SUM", "SLICE"),
        (typed({"float32", "int32"}), static(0), constant(1, "image shape"), constant(2, "block shape")),
        since=18,
    ),
)
