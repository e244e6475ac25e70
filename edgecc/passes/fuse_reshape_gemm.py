"""Pass fuse-reshape-gemm."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from edgecc.passes.base import Loss, NodePass, PassContext
from edgecc.rewriting.reading import constant, describe, has_operand, is_scaled_gemm, rank

if TYPE_CHECKING:
    from edgecc.model import Model, Node, Tensor


class FuseReshapeGemm(NodePass):
    """Multiply the last axis of a tensor without making a matrix of it first.

    Before: r = Reshape(x, {-1, 64})   p = Gemm(r, w, b)   y = Reshape(p, {2, 5, 32})
    After:  p = MatMul(x, w)   y = Add(p, b)

    for x of shape [2, 5, 64]; without a bias, or with a MatMul instead of the Gemm, the MatMul alone is left. Only
    where that is fewer nodes. Weights that lie transposed are transposed once.

    Attributes:
        ignore: patterns of node names (of the Gemm or MatMul) to leave alone.
    """

    name = "fuse-reshape-gemm"
    loss = Loss.ROUNDING
    keeps_types = True

    def candidates(self, model: Model) -> list[Node]:
        return model.nodes("Gemm", "MatMul", ignore=self.ignore)

    def visit(self, node: Node, model: Model, ctx: PassContext) -> bool:
        first = model.producer(node.inputs[0])
        last = next((reader for reader in model.consumers(node.outputs[0]) if reader.op == "Reshape"), None)
        if first is None or first.op != "Reshape" or last is None or rank(node.outputs[0]) != 2:
            return False
        plan = _plan(node, first, last, model)
        if isinstance(plan, str):
            ctx.skip(node, plan)
            return False
        ctx.done(
            node, f"Reshape + {node.op} + Reshape became MatMul{' + Add' if plan.bias else ''}", [last, node, first]
        )
        _apply(plan, node, model)
        return True


class _Plan(NamedTuple):
    """The two Reshapes, the matrix that the last axis is multiplied by, and what is added."""

    first: Node
    last: Node
    weights: np.ndarray
    bias: Tensor | None


def _plan(node: Node, first: Node, last: Node, model: Model) -> _Plan | str:
    from edgecc.model import is_standard

    weights = constant(node, 1)
    if weights is None or weights.ndim != 2:
        return "its weights are not a constant matrix"
    if node.attrs.get("transA", 0) or is_scaled_gemm(node):
        return "it has transA, alpha or beta"
    if node.op == "Gemm" and node.attrs.get("transB", 0):
        weights = weights.T
    product, source = node.outputs[0], first.inputs[0]
    if model.is_output(product) or len(product.outputs) != 1 or model.is_inner(last):
        return f"its output {product.name!r} is not read by {describe(last)} alone"
    if not is_standard(first) or not is_standard(last) or last.inputs[0] is not product:
        return f"{describe(last)} does not reshape it"
    reason = _shapes_refused(source, last.outputs[0], *weights.shape)
    if reason is not None:
        return reason
    bias = node.inputs[2] if has_operand(node, 2) else None
    if bias is None:
        return _Plan(first, last, weights, None)
    if bias.shape is None or list(bias.shape) not in ([], [1], [1, 1], [weights.shape[1]], [1, weights.shape[1]]):
        return f"its addend {bias.name!r} is not one value per column"
    if len(first.outputs[0].outputs) != 1 or model.is_output(first.outputs[0]):
        return f"MatMul and Add are no fewer nodes, as {first.outputs[0].name!r} is read elsewhere too"
    return _Plan(first, last, weights, bias)


def _shapes_refused(source: Tensor, result: Tensor, rows: int, columns: int) -> str | None:
    """Why the Reshapes do more than to make a matrix of all axes but the last one, and back; None if they do not."""
    before, after = source.shape, result.shape
    if before is None or after is None:
        return f"the shapes of {source.name!r} and {result.name!r} are not known"
    if len(before) < 3 or before[-1] != rows:
        return f"{source.name!r} has no last axis of {rows} with two or more in front of it"
    if len(after) != len(before) or after[-1] != columns:
        return f"{result.name!r} is not {source.name!r} with another last axis"
    different = [wanted for dim, wanted in zip(before[:-1], after[:-1], strict=True) if dim != wanted or not dim]
    # As many elements before and after: one open dimension follows from the others.
    if different and (len(different) > 1 or isinstance(different[0], int) or 0 in before):
        return f"{result.name!r} is not known to have the leading axes of {source.name!r}"
    return None


def _apply(plan: _Plan, node: Node, model: Model) -> None:
    from edgecc.model import merged_origins

    source, result = plan.first.inputs[0], plan.last.outputs[0]
    right = node.inputs[1]
    if node.op == "Gemm" and node.attrs.get("transB", 0):
        right = model.constant(right.name, np.ascontiguousarray(plan.weights))
    shape = None if source.shape is None else [*source.shape[:-1], plan.weights.shape[1]]
    if not model.is_output(result):
        result.shape = shape
    origins = merged_origins((node, plan.last))
    if plan.bias is None:
        model.replace(plan.last, "MatMul", [source, right], origins=origins)
        model.remove(node)
    else:
        product = model.variable(node.outputs[0].name, result.dtype, shape)
        model.replace(plan.last, "Add", [product, plan.bias], origins=origins)
        model.replace(node, "MatMul", [source, right])
        model.set_output(node, 0, product)
    if not plan.first.outputs[0].outputs and not model.is_output(plan.first.outputs[0]):
        model.remove(plan.first)
