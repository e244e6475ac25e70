"""Reductions, sums and rankings along axes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from edgecc_torch.rules.base import NodeView, RefusalError, Rule, torch_type

if TYPE_CHECKING:
    from torch.fx import Proxy


def _reduce(function: Callable[[Any, list[int], bool], Any]) -> Rule:
    """A reduction, from a function of the tensor, its axes and whether they stay with size 1."""

    def rule(n: NodeView) -> Proxy:
        rank = n.rank()
        axes = [axis % rank for axis in n.numbers(1)] if n.has(1) else []
        if not axes and n.attribute("noop_with_empty_axes", 0):
            raise RefusalError("it is given no axes, and reduces none")
        axes = sorted(axes) or list(range(rank))
        if any(n.shape()[axis] == 0 for axis in axes):
            raise RefusalError("it reduces an axis without elements")
        found: Proxy = function(n[0], axes, bool(n.attribute("keepdims", 1)))
        return _of_type(n, found)

    return rule


def _of_type(n: NodeView, total: Proxy) -> Proxy:
    """PyTorch adds small integers up in 64 bits."""
    return total.to(torch_type(n.dtype())) if n.dtype().kind in "iub" and n.dtype() != "int64" else total


def _product(x: Any, axes: list[int], keep: bool) -> Any:
    for axis in reversed(axes):
        x = torch.prod(x, axis, keepdim=keep)
    return x


def _arg(function: Callable[..., Any]) -> Rule:
    def rule(n: NodeView) -> Proxy:
        if n.attribute("select_last_index", 0):
            raise RefusalError("of equal values it takes the last, and PyTorch's takes the first")
        found: Proxy = function(n[0], n.axis(), bool(n.attribute("keepdims", 1)))
        return found

    return rule


def _cumulative(n: NodeView) -> Proxy:
    axis = n.numbers(1)[0]
    x = torch.flip(n[0], [axis]) if n.attribute("reverse", 0) else n[0]
    total = _of_type(n, torch.cumsum(x, axis))
    if n.attribute("exclusive", 0):
        total = total - x
    return torch.flip(total, [axis]) if n.attribute("reverse", 0) else total


def _top_k(n: NodeView) -> tuple[Proxy, Proxy]:
    """Sorted, since of equal values ONNX takes the first and torch.topk any."""
    axis = n.axis(-1)
    found = torch.sort(n[0], stable=True, dim=axis, descending=bool(n.attribute("largest", 1)))
    first = (*[slice(None)] * axis, slice(n.sizes(1)[0]))
    return found[0][first], found[1][first]


RULES: dict[str, Rule] = {
    "ArgMax": _arg(torch.argmax),
    "ArgMin": _arg(torch.argmin),
    "CumSum": _cumulative,
    "ReduceL1": _reduce(lambda x, axes, keep: torch.abs(x).sum(axes, keepdim=keep)),
    "ReduceL2": _reduce(lambda x, axes, keep: torch.linalg.vector_norm(x, 2, axes, keep)),
    "ReduceLogSum": _reduce(lambda x, axes, keep: torch.log(x.sum(axes, keepdim=keep))),
    "ReduceLogSumExp": _reduce(lambda x, axes, keep: torch.logsumexp(x, axes, keep)),
    "ReduceMax": _reduce(lambda x, axes, keep: torch.amax(x, axes, keep)),
    "ReduceMean": _reduce(lambda x, axes, keep: torch.mean(x, axes, keep)),
    "ReduceMin": _reduce(lambda x, axes, keep: torch.amin(x, axes, keep)),
    "ReduceProd": _reduce(_product),
    "ReduceSum": _reduce(lambda x, axes, keep: torch.sum(x, axes, keep)),
    "ReduceSumSquare": _reduce(lambda x, axes, keep: (x * x).sum(axes, keepdim=keep)),
    "TopK": _top_k,
}
