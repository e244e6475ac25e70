"""Operators on the last two axes as a matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgecc_tflite.ir import Tensor
from edgecc_tflite.lowerings.base import LoweringRule
from edgecc_tflite.lowerings.constraints import ANY_TYPE, FLOAT, OPEN_DIMENSION, typed

if TYPE_CHECKING:
    from edgecc_tflite.lowerings.context import Lowering
    from edgecc_tflite.lowerings.node_view import NodeView

#: A determinant by minors is as exact as one by elimination, and costs the factorial of this.
_MINORS = 4


def _trilu(c: Lowering) -> None:
    """A column less its row is the diagonal's number."""
    x, upper = c.x(0), bool(c.node.integer("upper", 1))
    rows, columns = x.shape[-2:]
    diagonals = np.arange(columns) - np.arange(rows)[:, None]
    k = c.node.value(1) if c.node.has(1) else np.zeros((), np.int64)
    if k is not None:
        kept = c.constant(diagonals >= k.item() if upper else diagonals <= k.item(), "kept")
    else:
        builtin = "GREATER_EQUAL" if upper else "LESS_EQUAL"
        bound = c.reshape(c.x(1), ())
        kept = c.emit(builtin, [c.constant(diagonals, "diagonals"), bound], dtype=np.dtype(np.bool_))
    kept = c.reshape(kept, (*(1 for _ in x.shape[:-2]), rows, columns))
    c.emit("SELECT_V2", [kept, x, c.scalar(0, x.dtype)], c.out())


def _known_matrix(node: NodeView) -> str | None:
    shape = node.shape()
    if shape is None or -1 not in shape[-2:]:
        return None
    return f"an {OPEN_DIMENSION} in the last two axes of {node.input(0).name!r}"


def _eye_like(c: Lowering) -> None:
    """Known now."""
    rows, columns = c.out().shape
    c.define(0, np.eye(rows, columns, k=c.node.integer("k", 0)).astype(c.out().dtype))


def _det(c: Lowering) -> None:
    x = c.x()
    size = x.shape[-1]
    flat = c.reshape(x, (-1 if -1 in x.shape else int(np.prod(x.shape[:-2])), size, size))
    result = _by_minors(c, flat, tuple(range(size)), tuple(range(size)))
    c.reshape(result, c.out().shape, c.out())


def _by_minors(c: Lowering, x: Tensor, rows: tuple[int, ...], columns: tuple[int, ...]) -> Tensor:
    """Expand along the first row: a determinant per sample, of some rows and columns."""
    terms: list[Tensor] = []
    for column in columns:
        begin, shape = c.ints([0, rows[0], column], "begin"), (x.shape[0], 1, 1)
        entry = c.emit("SLICE", [x, begin, c.ints(shape, "size")], shape=shape)
        if len(rows) > 1:
            entry = c.binary("MUL", entry, _by_minors(c, x, rows[1:], tuple(k for k in columns if k != column)))
        terms.append(entry)
    total = terms[0]
    for number, term in enumerate(terms[1:]):
        total = c.binary("ADD" if number % 2 else "SUB", total, term)
    return total


def _small(node: NodeView) -> str | None:
    shape = node.shape()
    if shape is None or len(shape) < 2 or (0 < shape[-1] <= _MINORS and shape.count(-1) <= 1):
        return None
    return f"a determinant of {shape[-1]} rows; up to {_MINORS} can be lowered"


RULES = (
    LoweringRule(
        "Trilu",
        _trilu,
        ("SELECT_V2", "GREATER_EQUAL", "LESS_EQUAL"),
        (typed(ANY_TYPE | {"float64", "uint64"}), _known_matrix),
        since=14,
    ),
    LoweringRule("EyeLike", _eye_like, (), (_known_matrix,), since=9),
    LoweringRule("Det", _det, ("SLICE", "MUL", "SUB", "ADD"), (typed(FLOAT), _small), since=11),
)
