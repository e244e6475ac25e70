"""Padding, strides and dilations of convolutions and pools."""

from __future__ import annotations

from typing import Any

from edgecc_tflite.enums import Padding
from edgecc_tflite.importing.base import Refusal
from edgecc_tflite.importing.context import Import

_LARGEST = 1 << 20


def strides(c: Import, count: int = 2) -> list[int]:
    """Steps between windows, along each spatial axis."""
    return _steps(c, [f"stride{axis}" for axis in "DHW"[3 - count :]])


def dilations(c: Import, count: int = 2) -> list[int]:
    """Steps between the elements of a window; files from before there were any say 0."""
    options = c.operator.options
    names = [f"dilation{axis}Factor" for axis in "DHW"[3 - count :]]
    return [max(int(options.get(name, 1)), 1) for name in names]


def _steps(c: Import, names: list[str]) -> list[int]:
    steps = [int(c.option(name)) for name in names]
    if any(not 0 < step <= _LARGEST for step in steps):
        raise Refusal(f"its steps are {steps}, and must be positive")
    return steps


def window(c: Import) -> list[int]:
    """A pool's window."""
    return _steps(c, ["filterHeight", "filterWidth"])


def padding(
    c: Import, sizes: tuple[int, ...], kernel: list[int], steps: list[int], spread: list[int]
) -> dict[str, Any]:
    """Attributes of an ONNX operator that pad as the file says.

    TFLite's SAME puts one more element behind than in front, as ONNX's SAME_UPPER does. Where the sizes are known
    the numbers are written out, which everything understands.

    Args:
        c: the operator.
        sizes: of the spatial axes, -1 for an open one.
        kernel: length of a window along each.
        steps: between windows.
        spread: between the elements of a window.
    """
    if c.option("padding") == Padding.VALID:
        return {}
    if any(size < 0 for size in sizes):
        return {"auto_pad": "SAME_UPPER"}
    before, behind = [], []
    for size, length, step, gap in zip(sizes, kernel, steps, spread, strict=True):
        total = max((-(-size // step) - 1) * step + (length - 1) * gap + 1 - size, 0)
        before.append(total // 2)
        behind.append(total - total // 2)
    return {"pads": [*before, *behind]} if any(before) or any(behind) else {}
