"""Einsum, two operands at a time: diagonals and sums first, then one matrix product or one elementwise product."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgecc_tflite.ir import Shape, Tensor
from edgecc_tflite.lowerings.base import LoweringRule
from edgecc_tflite.lowerings.constraints import NUMERIC, OPEN_DIMENSION, typed
from edgecc_tflite.lowerings.detours import DOUBLE, SMALL_INTS, detoured
from edgecc_tflite.lowerings.matmul import fully_connected

if TYPE_CHECKING:
    from edgecc_tflite.lowerings.context import Lowering
    from edgecc_tflite.lowerings.node_view import NodeView

#: One character per axis; the axes of an ellipsis are called 0, 1, 2 ... from the last one.
Labels = str


def parse_equation(equation: str, ranks: list[int]) -> tuple[list[Labels], Labels]:
    """Labels of the operands and of the result, without ellipses."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    hidden = [rank - len(term.replace("...", "")) for term, rank in zip(terms, ranks, strict=True)]
    written = [_spelled(term, count) for term, count in zip(terms, hidden, strict=True)]
    if not arrow:
        # What is there once, in alphabetical order, behind the ellipsis.
        letters = sorted(set(left) - set(".,"))
        right = "..." + "".join(letter for letter in letters if left.count(letter) == 1)
    shown = max((count for term, count in zip(terms, hidden, strict=True) if "..." in term), default=0)
    return written, _spelled(right, shown)


def _spelled(term: str, count: int) -> Labels:
    return term.replace("...", "9876543210"[10 - count :])


def _einsum(c: Lowering) -> None:
    terms, result = parse_equation(c.node.text("equation", ""), [t.rank for t in c.inputs])
    tensors = [_diagonal(c, x, labels) for x, labels in zip(c.inputs, terms, strict=True)]
    (x, labels), *others = tensors
    for place, (y, other) in enumerate(others):
        wanted = set(result).union(*(rest for _, rest in others[place + 1 :]))
        x, labels = _product(
            c, _summed(c, x, labels, wanted | set(other)), _summed(c, y, other, wanted | set(labels)), wanted
        )
    x, labels = _summed(c, x, labels, set(result))
    if result:
        c.transpose(x, [labels.index(label) for label in result], c.out())
    else:
        c.reshape(x, (), c.out())


def _diagonal(c: Lowering, x: Tensor, labels: Labels) -> tuple[Tensor, Labels]:
    """Every label once: of two axes with one label, both indices are the same."""
    for label in dict.fromkeys(labels):
        while labels.count(label) > 1:
            first, second = labels.index(label), labels.rindex(label)
            rest = [axis for axis in range(x.rank) if axis not in (first, second)]
            size = x.shape[first]
            x = c.transpose(x, [first, second, *rest])
            x = c.reshape(x, (size * size, *x.shape[2:]))
            places = c.ints(np.arange(size) * (size + 1), "diagonal")
            x = c.emit("GATHER", [x, places], shape=(size, *x.shape[1:]), axis=0)
            labels = label + "".join(labels[axis] for axis in rest)
    return x, labels


def _summed(c: Lowering, x: Tensor, labels: Labels, wanted: set[str]) -> tuple[Tensor, Labels]:
    """Axes that nobody else has are summed."""
    gone = [axis for axis, label in enumerate(labels) if label not in wanted]
    if not gone:
        return x, labels
    shape = tuple(d for axis, d in enumerate(x.shape) if axis not in gone)
    x = c.emit("SUM", [x, c.ints(gone, "axes")], shape=shape, keepDims=False)
    return x, "".join(label for label in labels if label in wanted)


def _product(
    c: Lowering, left: tuple[Tensor, Labels], right: tuple[Tensor, Labels], wanted: set[str]
) -> tuple[Tensor, Labels]:
    """Of two operands: labels of both are summed if they are not wanted any more."""
    (x, a), (y, b) = left, right
    sizes = dict(zip(b, y.shape, strict=True)) | {k: d for k, d in zip(a, x.shape, strict=True) if d != 1 or k not in b}
    # An axis of size 1 in one of them is repeated, which a matrix product does not do.
    repeated = any(x.shape[a.index(k)] != y.shape[b.index(k)] for k in a if k in b)
    summed = "".join(k for k in a if k in b and k not in wanted)
    batch = "".join(k for k in a if k in b and k in wanted)
    rows, columns = "".join(k for k in a if k not in b), "".join(k for k in b if k not in a)
    if not summed or repeated or x.dtype != np.float32:
        labels = batch + rows + columns + summed
        return _summed(c, c.binary("MUL", _aligned(c, x, a, labels), _aligned(c, y, b, labels)), labels, wanted)
    shape = tuple(sizes[k] for k in batch + rows + columns)
    groups = [[_merged([sizes[k] for k in part])] for part in (batch, rows, columns, summed)]
    lot, m, n, k = (group if part else [] for group, part in zip(groups, (batch, rows, columns, summed), strict=True))
    m, n = m or [1], n or [1]
    x = c.reshape(_ordered(c, x, a, batch + rows + summed), (*lot, *m, *k))
    if y.data is not None and not lot:
        weights = _ordered(c, y, b, columns + summed)
        assert weights.data is not None
        product = fully_connected(c, x, weights.data.reshape(*n, *k), None)
    else:
        y = c.reshape(_ordered(c, y, b, batch + summed + columns), (*lot, *k, *n))
        product = c.emit("BATCH_MATMUL", [x, y], shape=(*lot, *m, *n), adjX=False, adjY=False)
    return c.reshape(product, shape), batch + rows + columns


def _ordered(c: Lowering, x: Tensor, labels: Labels, wanted: Labels) -> Tensor:
    return c.transpose(x, [labels.index(label) for label in wanted])


def _aligned(c: Lowering, x: Tensor, labels: Labels, wanted: Labels) -> Tensor:
    """Axes in the wanted order, with size 1 for those that x does not have."""
    x = _ordered(c, x, labels, "".join(label for label in wanted if label in labels))
    sizes = iter(x.shape)
    return c.reshape(x, tuple(next(sizes) if label in labels else 1 for label in wanted))


def _merged(sizes: list[int]) -> int:
    return -1 if -1 in sizes else int(np.prod(sizes))


def _readable(node: NodeView) -> str | None:
    shapes: list[Shape | None] = [node.shape(i) for i in range(len(node.inputs))]
    ranks = [0 if shape is None else len(shape) for shape in shapes]
    terms, result = parse_equation(node.text("equation", ""), ranks)
    if len(result) > 5 or any(len(term) > 6 for term in terms):
        return f"equation {node.text('equation', '')!r} has more axes than TFLite's kernels take"
    opened = {k for s, t in zip(shapes, terms, strict=True) if s for k, d in zip(t, s, strict=True) if d < 0}
    doubled = {k for term in terms for k in term if term.count(k) > 1}
    if len(opened) > 1 or opened & doubled:
        return f"an {OPEN_DIMENSION} in several axes of the operands"
    return None


RULES = (
    detoured(
        LoweringRule(
            "Einsum",
            _einsum,
            ("TRANSPOSE", "RESHAPE", "GATHER", "SUM", "MUL", "BATCH_MATMUL", "FULLY_CONNECTED"),
            (typed(NUMERIC), _readable),
            since=12,
            note="float64 is computed in float32.",
        ),
        SMALL_INTS | DOUBLE,
    ),
)
