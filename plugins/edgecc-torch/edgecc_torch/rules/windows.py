"""What convolutions and pooling share: windows and the padding around them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch.nn import functional

from edgecc_torch.rules.base import NodeView, RefusalError

if TYPE_CHECKING:
    from torch.fx import Proxy


@dataclass(frozen=True)
class Window:
    """Sizes of a sliding window, for each spatial axis.

    Attributes:
        kernel, stride, dilation: of the window.
        before, after: elements of padding.
    """

    kernel: list[int]
    stride: list[int]
    dilation: list[int]
    before: list[int]
    after: list[int]

    @property
    def rank(self) -> int:
        return len(self.kernel)

    @property
    def is_symmetric(self) -> bool:
        return self.before == self.after


def window_of(n: NodeView, kernel: Sequence[int]) -> Window:
    """The node's window; padding that is given by rule needs known sizes."""
    rank = len(kernel)
    if not 1 <= rank <= 3:
        raise RefusalError(f"it has {rank} spatial axes, and PyTorch's has 1 to 3")
    stride = list(n.attribute("strides") or [1] * rank)
    dilation = list(n.attribute("dilations") or [1] * rank)
    mode = str(n.attribute("auto_pad", "NOTSET"))
    if mode.startswith("SAME"):
        before, after = _same(n, list(kernel), stride, dilation, upper=mode == "SAME_UPPER")
    elif mode == "VALID":
        before, after = [0] * rank, [0] * rank
    else:
        pads = list(n.attribute("pads") or [0] * 2 * rank)
        before, after = pads[:rank], pads[rank:]
    return Window(list(kernel), stride, dilation, before, after)


def _same(
    n: NodeView, kernel: list[int], stride: list[int], dilation: list[int], *, upper: bool
) -> tuple[list[int], list[int]]:
    totals = []
    for size, k, s, d in zip(n.shape()[2:], kernel, stride, dilation, strict=True):
        reach = (k - 1) * d + 1
        if isinstance(size, str):
            if s != 1:
                raise RefusalError("its padding follows from sizes that are not known", "fix them with --shape")
            totals.append(reach - 1)
            continue
        totals.append(max(0, (-(-size // s) - 1) * s + reach - size))
    small, large = [t // 2 for t in totals], [t - t // 2 for t in totals]
    return (small, large) if upper else (large, small)


def padded(x: Proxy, window: Window, value: float = 0.0) -> Proxy:
    """The input with the window's padding around it."""
    pads = [size for pair in zip(reversed(window.before), reversed(window.after), strict=True) for size in pair]
    return functional.pad(x, pads, value=value)
