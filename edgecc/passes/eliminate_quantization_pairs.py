"""Pass eliminate-quantization-pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgecc.passes.base import Loss, NodePass, PassContext
from edgecc.rewriting.reading import constant, has_operand

if TYPE_CHECKING:
    from edgecc.model import Model, Node


class EliminateQuantizationPairs(NodePass):
    """Do not quantize again what was just dequantized in the same way.

    Before: a = DequantizeLinear(q, s, z)   b = QuantizeLinear(a, s, z)   y = DequantizeLinear(b, s, z)
    After:  y = DequantizeLinear(q, s, z)

    Only where scale, zero point, axis and type are equal, and the scale is such that every integer comes back. A
    QuantizeLinear followed by a DequantizeLinear stays: it rounds.

    Attributes:
        ignore: patterns of node names to leave alone.
    """

    name = "eliminate-quantization-pairs"
    loss = Loss.EXACT
    keeps_types = True

    def candidates(self, model: Model) -> list[Node]:
        return model.nodes("QuantizeLinear", ignore=self.ignore)

    def visit(self, node: Node, model: Model, ctx: PassContext) -> bool:
        from edgecc.model import is_standard, matches_any

        first = model.producer(node.inputs[0])
        if first is None or first.op != "DequantizeLinear" or not is_standard(first) or matches_any(first, self.ignore):
            return False
        reason = _refuses(first, node)
        if reason is not None:
            ctx.skip(node, reason)
            return False
        source = first.inputs[0]
        ctx.done(node, f"it gives what {first.name} took", [node, first])
        if not model.redirect(node.outputs[0], source):
            model.replace(node, "Identity", [source])
        else:
            model.remove(node)
        if not first.outputs[0].outputs and not model.is_output(first.outputs[0]):
            model.remove(first)
        return True


def _refuses(first: Node, node: Node) -> str | None:
    """Why quantizing does not give back what was dequantized."""
    types = [tensor.dtype for tensor in (first.inputs[0], node.outputs[0])]
    if any(dtype is None for dtype in types) or np.dtype(types[0]) != np.dtype(types[1]):
        return f"it makes {types[1]} of what was {types[0]}"
    if np.dtype(types[0]).name not in ("int8", "uint8", "int16", "uint16"):
        return f"it quantizes to {np.dtype(types[0]).name}"
    scales = constant(first, 1), constant(node, 1)
    if scales[0] is None or scales[1] is None:
        return "a scale is not constant"
    if any(has_operand(n, 2) and constant(n, 2) is None for n in (first, node)):
        return "a zero point is not constant"
    if not _equal(scales[0], scales[1]):
        return f"its scale is not that of {first.name}"
    if not _equal(_zeros(first), _zeros(node)):
        return f"its zero point is not that of {first.name}"
    if scales[0].size > 1 and _axis(first) != _axis(node):
        return f"its axis is not that of {first.name}"
    if scales[0].dtype != np.float32 or any(
        n.attrs.get(name) for n in (first, node) for name in ("block_size", "precision")
    ):
        return "its scale is not one float32 per tensor or axis"
    sizes = np.abs(scales[0].astype(np.float64))
    if not (np.isfinite(sizes).all() and (scales[0] > 0).all() and _returns(scales[0], np.dtype(types[0]))):
        return "with its scale, not every integer comes back"
    return None


def _returns(scale: np.ndarray, dtype: np.dtype[np.generic]) -> bool:
    """Whether integer times scale, rounded to float32, divided by the scale again, is the integer: for every scale."""
    info = np.iinfo(dtype.name)
    most = np.float32(info.max - info.min)
    products = most * scale
    # Half a step is far above the error of two roundings, unless the products overflow or are subnormal.
    return bool(np.isfinite(products).all() and (scale >= np.finfo(np.float32).tiny).all())


def _equal(first: np.ndarray, second: np.ndarray) -> bool:
    if first.size == 1 == second.size:
        return bool(first.reshape(-1)[0] == second.reshape(-1)[0])
    return first.shape == second.shape and bool((first == second).all())


def _zeros(node: Node) -> np.ndarray:
    values, scale = constant(node, 2), constant(node, 1)
    assert scale is not None, "the caller has seen to it"
    return np.zeros(scale.shape, np.int64) if values is None else values.astype(np.int64)


def _axis(node: Node) -> int:
    shape = node.inputs[0].shape
    axis = int(node.attrs.get("axis", 1))
    return axis % len(shape) if shape is not None else axis
