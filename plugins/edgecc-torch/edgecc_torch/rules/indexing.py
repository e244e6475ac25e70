"""Operators that read or write where indices say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from edgecc_torch.rules.base import NodeView, RefusalError, Rule

if TYPE_CHECKING:
    from torch.fx import Proxy


def _gather(n: NodeView) -> Proxy:
    """Rows of a constant table are an embedding, one constant index is a plain number."""
    axis = n.axis()
    if n.is_constant(1) and n.value(1).size == 1:
        index = n.numbers(1)[0]
        if n.value(1).ndim == 0:
            return torch.select(n[0], axis, index)
        if n.value(1).ndim == 1:
            return n[0][(*[slice(None)] * axis, slice(index, index + 1 or None))]
    if n.is_constant(0) and axis == 0 and n.rank() == 2 and n.dtype().kind == "f" and not n.is_constant(1):
        return functional.embedding(n[1], n[0])
    return n[0][(*[slice(None)] * axis, n.buffer(1))]


def _positive(n: NodeView, index: int, axis: int) -> Proxy:
    """Indices along an axis, which ONNX counts from the end too."""
    indices = n.buffer(index)
    if n.is_constant(index) and n.value(index).min(initial=0) >= 0:
        return indices.to(torch.int64) if n.dtype(index) != "int64" else indices
    return torch.where(indices < 0, indices + n[0].size(axis), indices).to(torch.int64)


def _gather_elements(n: NodeView) -> Proxy:
    axis = n.axis()
    return torch.gather(n[0], axis, _positive(n, 1, axis))


def _index_tuple(n: NodeView) -> tuple[Proxy, ...]:
    """The last axis of the indices, one tensor for each of its places."""
    depth = n.shape(1)[-1]
    if isinstance(depth, str):
        raise RefusalError("it is not known how many axes its indices address")
    indices = n.buffer(1)
    return tuple(torch.select(indices, -1, place) for place in range(depth))


def _gather_nd(n: NodeView) -> Proxy:
    if n.attribute("batch_dims", 0):
        raise RefusalError("its indices have batch axes")
    return n[0][_index_tuple(n)]


def _scatter_elements(n: NodeView) -> Proxy:
    axis = n.axis()
    mode = {"none": "", "add": "sum", "mul": "prod", "max": "amax", "min": "amin"}[
        str(n.attribute("reduction", "none"))
    ]
    indices = _positive(n, 1, axis)
    if not mode:
        return torch.scatter(n[0], axis, indices, n[2])
    return torch.scatter_reduce(n[0], axis, indices, n[2], mode)


def _scatter_nd(n: NodeView) -> Proxy:
    mode = str(n.attribute("reduction", "none"))
    if mode not in ("none", "add"):
        raise RefusalError(f"PyTorch writes with no reduction {mode!r} there")
    return torch.index_put(n[0], _index_tuple(n), n[2], accumulate=mode == "add")


def _triangle(n: NodeView) -> Proxy:
    function: Any = torch.triu if n.attribute("upper", 1) else torch.tril
    return function(n[0], n.numbers(1)[0] if n.has(1) else 0)


RULES: dict[str, Rule] = {
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "ScatterElements": _scatter_elements,
    "ScatterND": _scatter_nd,
    "Trilu": _triangle,
}
