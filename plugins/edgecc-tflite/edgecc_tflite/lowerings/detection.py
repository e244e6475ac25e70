"""Operators of object detectors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgecc_tflite.ir import Tensor
from edgecc_tflite.lowerings.base import LoweringRule
from edgecc_tflite.lowerings.constraints import FLOAT, static, typed

if TYPE_CHECKING:
    from edgecc_tflite.lowerings.context import Lowering
    from edgecc_tflite.lowerings.node_view import NodeView

_INT32, _INT64, _FLOAT32 = np.dtype(np.int32), np.dtype(np.int64), np.dtype(np.float32)
#: Every class of every sample is an operator of its own.
_MOST_CLASSES = 256


def _non_max_suppression(c: Lowering) -> None:
    """NON_MAX_SUPPRESSION_V4 per sample and class; it pads to the largest number, and WHERE finds what is real."""
    samples, anchors, _ = c.x(0).shape
    classes = c.x(1).shape[1]
    number = samples * classes
    boxes = _unpacked(c, _corners(c))
    scores = _unpacked(c, c.reshape(c.x(1), (number, anchors)))
    limits = [_limit(c, anchors), _overlap(c), _least_score(c)]
    most = -1 if limits[0].data is None else int(limits[0].data)
    chosen, counts = [], []
    for row, score in enumerate(scores):
        outs = [c.temporary((most,), _INT32, f"chosen_{row}"), c.temporary((), _INT32, f"count_{row}")]
        c.emit_many("NON_MAX_SUPPRESSION_V4", [boxes[row // classes], score, *limits], outs)
        chosen.append(outs[0])
        counts.append(c.reshape(outs[1], (1,)))
    rows = c.reshape(_joined(c, chosen, -1 if most < 0 else most * number), (number, most))
    places = c.emit("RANGE", [c.ints(0), limits[0], c.ints(1)], shape=(most,), dtype=_INT32)
    real = c.binary(
        "LESS", c.reshape(places, (1, most)), c.reshape(_joined(c, counts, number), (number, 1)), dtype=bool
    )
    where = c.emit("WHERE", [real], shape=(-1, 2), dtype=_INT64)
    row_of = c.emit("GATHER", [where, c.ints(0)], shape=(-1,), axis=1)
    names = np.stack(np.unravel_index(np.arange(number), (samples, classes)), axis=1).astype(np.int64)
    named = c.emit("GATHER", [c.constant(names, "names"), row_of], shape=(-1, 2), axis=0)
    index = c.cast(c.emit("GATHER_ND", [rows, where], shape=(-1,), dtype=_INT32), np.int64)
    c.emit("CONCATENATION", [named, c.reshape(index, (-1, 1))], c.out(), axis=1, fusedActivationFunction=0)


def _joined(c: Lowering, parts: list[Tensor], size: int) -> Tensor:
    if len(parts) == 1:
        return parts[0]
    return c.emit("CONCATENATION", parts, shape=(size,), axis=0, fusedActivationFunction=0)


def _unpacked(c: Lowering, x: Tensor) -> list[Tensor]:
    if x.shape[0] == 1:
        return [c.reshape(x, x.shape[1:])]
    outs = [c.temporary(x.shape[1:], x.dtype, f"row_{n}") for n in range(x.shape[0])]
    c.emit_many("UNPACK", [x], outs, num=len(outs), axis=0)
    return outs


def _corners(c: Lowering) -> Tensor:
    """Boxes as (y, x) of two opposite corners; a center and a size are turned into them."""
    boxes = c.x(0)
    if not c.node.integer("center_point_box", 0):
        return boxes
    half = (*boxes.shape[:-1], 2)
    center, size = (c.emit("GATHER", [boxes, c.ints(part)], shape=half, axis=2) for part in ([1, 0], [3, 2]))
    reach = c.binary("MUL", size, c.scalar(0.5))
    corners = [c.binary("SUB", center, reach), c.binary("ADD", center, reach)]
    return c.emit("CONCATENATION", corners, shape=boxes.shape, axis=2, fusedActivationFunction=0)


def _limit(c: Lowering, anchors: int) -> Tensor:
    """At most as many as there are boxes, so that a "no limit" fits into int32."""
    value = c.node.value(2)
    if value is not None:
        return c.ints(min(int(value.item()), anchors), "limit")
    least = c.binary("MINIMUM", c.reshape(c.x(2), ()), c.scalar(anchors, _INT64))
    return c.cast(least, np.int32)


def _overlap(c: Lowering) -> Tensor:
    """TFLite suppresses from the threshold on, ONNX only above it: the next float32 is what both mean."""
    if not c.node.has(3):
        return c.scalar(np.nextafter(np.float32(0), np.float32(1)), _FLOAT32)
    value = c.node.value(3)
    if value is not None:
        return c.scalar(np.nextafter(np.float32(value.item()), np.float32(2)), _FLOAT32)
    bits = c.emit("BITCAST", [c.reshape(c.x(3), ())], dtype=_INT32)
    return c.emit("BITCAST", [c.binary("ADD", bits, c.ints(1))], dtype=_FLOAT32)


def _least_score(c: Lowering) -> Tensor:
    """A score must be above the threshold, in both."""
    if not c.node.has(4):
        return c.scalar(float(np.finfo(np.float32).min), _FLOAT32)
    return c.reshape(c.x(4), ())


def _limited(node: NodeView) -> str | None:
    limit = node.value(2)
    if not node.has(2) or (limit is not None and limit.item() <= 0):
        return "max_output_boxes_per_class is 0, so that nothing is selected"
    shape = node.shape(1)
    if shape is not None and -1 not in shape and shape[0] * shape[1] > _MOST_CLASSES:
        return f"{shape[0] * shape[1]} classes; up to {_MOST_CLASSES} can be lowered, as an operator each"
    return None


RULES = (
    LoweringRule(
        "NonMaxSuppression",
        _non_max_suppression,
        ("NON_MAX_SUPPRESSION_V4", "UNPACK", "RANGE", "LESS", "WHERE", "GATHER", "GATHER_ND", "CONCATENATION", "CAST"),
        (typed(FLOAT), static(0), static(1), _limited),
        since=10,
        note="One operator per class.",
    ),
)
