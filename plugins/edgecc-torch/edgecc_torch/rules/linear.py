"""Products of matrices."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from edgecc_torch.rules.base import NodeView, Rule

if TYPE_CHECKING:
    from torch.fx import Proxy


def _gemm(n: NodeView) -> Proxy:
    """A linear layer where the weights are constant, which keeps them as PyTorch has them: outputs first."""
    alpha, beta = n.attribute("alpha", 1.0), n.attribute("beta", 1.0)
    plain = alpha == 1 and not n.attribute("transA", 0) and (beta == 1 or not n.has(2))
    if plain and n.is_constant(1) and _has_one_axis(n):
        weight = n[1] if n.attribute("transB", 0) else n.renewed(1, lambda values: np.ascontiguousarray(values.T))
        return functional.linear(n[0], weight, n.optional(2))
    left = n[0].transpose(0, 1) if n.attribute("transA", 0) else n[0]
    right = n[1].transpose(0, 1) if n.attribute("transB", 0) else n[1]
    if not n.has(2):
        product = torch.matmul(left, right)
        return product if alpha == 1 else product * alpha
    return torch.addmm(n[2], left, right, beta=beta, alpha=alpha)


def _has_one_axis(n: NodeView) -> bool:
    """Whether the bias, if there is one, is a value for each output."""
    if not n.has(2):
        return True
    width = n.shape(1)[0 if n.attribute("transB", 0) else 1]
    return n.shape(2) == [width]


def _einsum(n: NodeView) -> Proxy:
    return torch.einsum(str(n.attribute("equation")), *n.inputs)


RULES: dict[str, Rule] = {
    "Einsum": _einsum,
    "Gemm": _gemm,
    "MatMul": lambda n: torch.matmul(n[0], n[1]),
}
