"""Matrix products: FULLY_CONNECTED where the right factor is constant, BATCH_MATMUL otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgecc_tflite.enums import Activation
from edgecc_tflite.ir import Shape, Tensor
from edgecc_tflite.lowerings.base import LoweringRule
from edgecc_tflite.lowerings.constraints import FLOAT, known_rank, typed
from edgecc_tflite.lowerings.context import broadcast

if TYPE_CHECKING:
    from edgecc_tflite.lowerings.context import Lowering
    from edgecc_tflite.lowerings.node_view import NodeView


def _matmul(c: Lowering) -> None:
    right = c.node.value(1)
    if right is not None and right.ndim == 2 and not c.x(0).is_constant and c.x(0).rank >= 2:
        fully_connected(c, c.x(0), right.T, None, c.out())
        return
    a, b = c.x(0), c.x(1)
    row, column = a.rank == 1, b.rank == 1
    a = c.reshape(a, (1, a.shape[0])) if row else a
    b = c.reshape(b, (b.shape[0], 1)) if column else b
    if not row and not column:
        _batch_matmul(c, a, b, c.out())
        return
    product = _batch_matmul(c, a, b)
    c.reshape(product, c.out().shape, c.out())


def _batch_matmul(c: Lowering, a: Tensor, b: Tensor, out: Tensor | None = None) -> Tensor:
    a, b = c.same_rank([a, b])
    shape = (*broadcast(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1])
    return c.emit("BATCH_MATMUL", [a, b], out, shape=shape, adjX=False, adjY=False)


def fully_connected(
    c: Lowering, x: Tensor, weights: np.ndarray, bias: Tensor | None, out: Tensor | None = None
) -> Tensor:
    """X times the transposed weights; every axis of x but the last stays."""
    shape: Shape = (*x.shape[:-1], weights.shape[0])
    options: dict[str, Any] = {"keepNumDims": x.rank != 2, "fusedActivationFunction": Activation.NONE}
    inputs = [x, c.constant(weights, "weights"), bias]
    return c.emit("FULLY_CONNECTED", inputs, out, shape=shape, **options)


def along(c: Lowering, x: Tensor, axis: int, matrix: Tensor, out: Tensor | None = None) -> Tensor:
    """Multiply the vectors along an axis by a matrix (outputs, inputs)."""
    perm = [a for a in range(x.rank) if a != axis] + [axis]
    moved = c.transpose(x, perm)
    shape = (*moved.shape[:-1], matrix.shape[0])
    is_last = axis == x.rank - 1
    options: dict[str, Any] = {"keepNumDims": x.rank != 2}
    product = c.emit("FULLY_CONNECTED", [moved, matrix, None], out if is_last else None, shape=shape, **options)
    return product if is_last else c.transpose(product, [perm.index(a) for a in range(x.rank)], out)


def _gemm(c: Lowering) -> None:
    """Alpha A B + beta C: factors go into constants where there are any."""
    alpha, beta = c.node.number("alpha", 1.0), c.node.number("beta", 1.0)
    a = c.transpose(c.x(0), (1, 0)) if c.node.integer("transA", 0) else c.x(0)
    weights = _weights(c.node, alpha)
    bias, addend = _bias(c, beta, weights)
    if weights is not None and not a.is_constant:
        product = fully_connected(c, a, weights, bias, None if addend is not None else c.out())
    else:
        product = _scaled_product(c, a, alpha, None if addend is not None else c.out())
    if addend is not None:
        c.binary("ADD", product, addend, c.out())


def _scaled_product(c: Lowering, a: Tensor, alpha: float, out: Tensor | None) -> Tensor:
    b = c.x(1)
    transposed = bool(c.node.integer("transB", 0))
    columns = b.shape[0] if transposed else b.shape[1]
    shape = (a.shape[0], columns)
    product = c.emit("BATCH_MATMUL", [a, b], out if alpha == 1.0 else None, shape=shape, adjX=False, adjY=transposed)
    return product if alpha == 1.0 else c.binary("MUL", product, c.scalar(alpha), out)


def _weights(node: NodeView, alpha: float) -> np.ndarray | None:
    """The constant right factor as FULLY_CONNECTED wants it: one row per output."""
    right = node.value(1)
    if right is None:
        return None
    rows = right if node.integer("transB", 0) else right.T
    return rows if alpha == 1.0 else rows * np.float32(alpha)


def _bias(c: Lowering, beta: float, weights: np.ndarray | None) -> tuple[Tensor | None, Tensor | None]:
    """The addend as a bias, or as a tensor to add; at most one of them."""
    if not c.node.has(2) or beta == 0.0:
        return None, None
    values, addend = c.node.value(2), c.x(2)
    if values is None:
        return None, addend if beta == 1.0 else c.binary("MUL", addend, c.scalar(beta))
    scaled = values if beta == 1.0 else values * np.float32(beta)
    outs = None if weights is None else weights.shape[0]
    if outs is not None and scaled.size in (1, outs) and scaled.shape[-1:] in ((), (1,), (outs,)):
        return c.constant(np.broadcast_to(scaled.reshape(-1), (outs,)), "bias"), None
    return None, c.constant(scaled, "addend")


_EMITS = ("FULLY_CONNECTED", "BATCH_MATMUL")
_FLOATS = (typed(FLOAT), known_rank(0), known_rank(1))

RULES = (
    LoweringRule("MatMul", _matmul, (*_EMITS, "RESHAPE"), _FLOATS),
    LoweringRule("Gemm", _gemm, (*_EMITS, "ADD", "MUL", "TRANSPOSE"), _FLOATS, since=7),
)
