"""Layers whose weights sparse tensor cores can multiply."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgecc.pruning.sparsity import Pattern
from edgecc.rewriting.reading import constant, is_op

if TYPE_CHECKING:
    from edgecc.model import Model, Node

#: Two of each four along the axis that is summed over: of a Conv the input channels, at each place of the kernel
#: (TensorRT's documentation, "Structured Sparsity").
PATTERN = Pattern(2, 4)


def sparse_layers(model: Model) -> list[Node]:
    """Conv, Gemm and MatMul, quantized or not, whose weights have the pattern."""
    return [node for node in model.nodes("Conv", "Gemm", "MatMul") if _is_sparse(node, model)]


def _is_sparse(node: Node, model: Model) -> bool:
    weights = _weights(node, model)
    if weights is None or weights.ndim < 2 or int(node.attrs.get("group", 1)) != 1:
        return False
    if node.op == "Conv":
        return PATTERN.holds(weights.reshape(len(weights), -1), int(np.prod(weights.shape[2:], dtype=np.int64)))
    rows = weights if node.op == "Gemm" and node.attrs.get("transB", 0) else np.swapaxes(weights, -1, -2)
    return PATTERN.holds(rows.reshape(-1, rows.shape[-1]), 1)


def _weights(node: Node, model: Model) -> np.ndarray | None:
    """Values that are 0 where the weights are."""
    found = constant(node, 1)
    if found is not None:
        return found
    source = model.producer(node.inputs[1])
    if source is not None and is_op(source, "Cast"):
        source = model.producer(source.inputs[0])
    if source is None or not is_op(source, "DequantizeLinear"):
        return None
    stored, zero = constant(source, 0), constant(source, 2)
    # TensorRT's weights are symmetric: integers are 0 where weights are.
    return stored if stored is not None and (zero is None or not np.any(zero)) else None
