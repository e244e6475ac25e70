"""Convolutions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch.nn import functional

from edgecc_torch.rules.base import NodeView, RefusalError, Rule
from edgecc_torch.rules.windows import padded, window_of

if TYPE_CHECKING:
    from torch.fx import Proxy

_CONVOLUTIONS: dict[int, Any] = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
_TRANSPOSED: dict[int, Any] = {
    1: functional.conv_transpose1d,
    2: functional.conv_transpose2d,
    3: functional.conv_transpose3d,
}


def _kernel(n: NodeView) -> list[int]:
    sizes = n.attribute("kernel_shape") or n.shape(1)[2:]
    if any(isinstance(size, str) for size in sizes):
        raise RefusalError("the size of its weights is not known")
    return [int(size) for size in sizes]


def _conv(n: NodeView) -> Proxy:
    window = window_of(n, _kernel(n))
    x, padding = n[0], window.before
    if not window.is_symmetric:
        x, padding = padded(x, window), [0] * window.rank
    function = _CONVOLUTIONS[window.rank]
    return function(x, n[1], n.optional(2), window.stride, padding, window.dilation, n.attribute("group", 1))


def _conv_transpose(n: NodeView) -> Proxy:
    """Padding that differs between the sides is cut off afterwards."""
    if n.attribute("output_shape") or str(n.attribute("auto_pad", "NOTSET")) not in ("NOTSET", "VALID"):
        raise RefusalError("its padding follows from the size that is asked for")
    window = window_of(n, _kernel(n))
    extra = list(n.attribute("output_padding") or [0] * window.rank)
    function, group = _TRANSPOSED[window.rank], n.attribute("group", 1)
    if window.is_symmetric and all(
        0 <= e < max(s, d) for e, s, d in zip(extra, window.stride, window.dilation, strict=True)
    ):
        return function(n[0], n[1], n.optional(2), window.stride, window.before, extra, group, window.dilation)
    whole = function(n[0], n[1], n.optional(2), window.stride, 0, 0, group, window.dilation)
    ends = [after - e for after, e in zip(window.after, extra, strict=True)]
    cut = [-size for pair in zip(reversed(window.before), reversed(ends), strict=True) for size in pair]
    if any(size > 0 for size in cut) and n.has(2):
        raise RefusalError("its output is larger than what its weights reach, and has a bias")
    return functional.pad(whole, cut)


RULES: dict[str, Rule] = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
}
