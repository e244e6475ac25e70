"""Pooling."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from edgecc_torch.rules.base import NodeView, RefusalError, Rule
from edgecc_torch.rules.windows import Window, padded, window_of

if TYPE_CHECKING:
    from torch.fx import Proxy

_MAXIMA: dict[int, Any] = {1: functional.max_pool1d, 2: functional.max_pool2d, 3: functional.max_pool3d}
_AVERAGES: dict[int, Any] = {1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d}


def _window(n: NodeView) -> Window:
    return window_of(n, [int(size) for size in n.attribute("kernel_shape")])


def _is_own(window: Window) -> bool:
    """Whether PyTorch pads that way itself: the same on both sides, at most half of the window."""
    return window.is_symmetric and all(2 * p <= k for p, k in zip(window.before, window.kernel, strict=True))


def _max_pool(n: NodeView) -> Proxy:
    n.refuse_outputs(1)
    window, ceil = _window(n), bool(n.attribute("ceil_mode", 0))
    x, padding = n[0], window.before
    if not _is_own(window):
        if n.dtype().kind != "f":
            raise RefusalError("integers are pooled with padding that differs between the sides")
        x, padding = padded(x, window, float("-inf")), [0] * window.rank
    return _MAXIMA[window.rank](x, window.kernel, window.stride, padding, window.dilation, ceil)


def _average_pool(n: NodeView) -> Proxy:
    """Where PyTorch does not pad that way, padding is counted with a tensor of ones."""
    window, ceil = _window(n), bool(n.attribute("ceil_mode", 0))
    if any(size != 1 for size in window.dilation):
        raise RefusalError("PyTorch's average pooling has no dilation")
    function, counted = _AVERAGES[window.rank], bool(n.attribute("count_include_pad", 0))
    if _is_own(window):
        return function(n[0], window.kernel, window.stride, window.before, ceil, counted)
    total = function(padded(n[0], window), window.kernel, window.stride, 0, ceil)
    if counted:
        return total
    return total / function(padded(torch.ones_like(n[0]), window), window.kernel, window.stride, 0, ceil)


def _spatial(n: NodeView) -> list[int]:
    return list(range(2, n.rank()))


RULES: dict[str, Rule] = {
    "AveragePool": _average_pool,
    "GlobalAveragePool": lambda n: n[0].mean(_spatial(n), keepdim=True),
    "GlobalMaxPool": lambda n: n[0].amax(_spatial(n), keepdim=True),
    "MaxPool": _max_pool,
}
