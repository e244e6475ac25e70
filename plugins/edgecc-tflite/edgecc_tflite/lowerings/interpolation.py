"""Where a Resize reads along one axis, and with which weights: formulas of the ONNX specification."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgecc_tflite.lowerings.late import Late, count_up, now

if TYPE_CHECKING:
    from edgecc_tflite.lowerings.context import Lowering


#: Float32 error of a position, in input elements.
_CLOSE = 1e-5


@dataclass(frozen=True)
class Axis:
    """One resized axis.

    Attributes:
        size: elements of the input.
        count: elements of the output.
        scale: output size over input size as the model means it: a given one is not rounded to whole sizes.
        begin, end: the part of the input that is read, from 0 to 1 (`tf_crop_and_resize`).
    """

    size: Late
    count: Late
    scale: Late
    begin: Late
    end: Late


@dataclass(frozen=True)
class Kernel:
    """How values between elements come about.

    Attributes:
        cubic: cubic convolution; linear otherwise.
        coefficient: `cubic_coeff_a`.
        antialias: the kernel grows where the input shrinks.
        exclude_outside: elements outside of the input have no weight; otherwise the edge is repeated.
    """

    cubic: bool
    coefficient: float
    antialias: bool
    exclude_outside: bool

    @property
    def radius(self) -> int:
        return 2 if self.cubic else 1


def positions(c: Lowering, axis: Axis, mode: str) -> Late:
    """Where each output element reads, in input elements; shape (count,)."""
    at, size, scale = count_up(c, axis.count), axis.size, axis.scale
    match mode:
        case "align_corners":
            return at * ((size - 1) / _but_zero(size * scale - 1))
        case "asymmetric":
            return at / scale
        case "half_pixel_symmetric":
            return (at + 0.5) / scale + (size / 2 * (1 - axis.count / (size * scale)) - 0.5)
        case "pytorch_half_pixel":
            # A single element reads the first one.
            return ((at + 0.5) / scale - 0.5) * (axis.count - 1).minimum(1.0)
        case "tf_crop_and_resize":
            last, span = size - 1, axis.end - axis.begin
            if axis.count.is_known and axis.count.known == 1:
                return (axis.begin + axis.end) * last * 0.5 + at
            return axis.begin * last + at * (span * last / (size * scale - 1))
        case _:
            return (at + 0.5) / scale - 0.5


def _but_zero(value: Late) -> Late:
    """1 where the value is 0, which is where a single element is asked for: it reads the first one anyway."""
    return value + (1 - (abs(value) * 1e6).minimum(1.0))


def nearest(at: Late, size: Late, mode: str) -> Late:
    """The element that each position takes."""
    if at.is_known:
        # Positions that float error moves off a half or whole number are put back, as ONNX Runtime has them.
        at = now(at.c, np.round(at.known, 5))
    match mode:
        case "round_prefer_ceil":
            index = (at + 0.5).floor()
        case "floor":
            index = at.floor()
        case "ceil":
            index = at.ceil()
        case _:
            index = (at - 0.5).ceil()
    return index.clip(0, size - 1)


def weights(c: Lowering, axis: Axis, at: Late, kernel: Kernel) -> Late:
    """The matrix (count, size) whose rows are the weights of the input's elements.

    Args:
        c: emits.
        axis: of known size and count; the scale may be computed.
        at: from `positions`.
        kernel: what weighs.
    """
    size, count = int(axis.size.known), int(axis.count.known)
    stretch = axis.scale.minimum(1.0) if kernel.antialias else now(c, 1.0)
    if at.is_known and stretch.is_known:
        reach = kernel.radius / float(stretch.known)
        low, high = math.floor(at.known.min() - reach), math.ceil(at.known.max() + reach)
    else:
        # A scale gives its output size by rounding down, so that it is at least this.
        reach = kernel.radius * (max(1.0, size / count) if kernel.antialias else 1.0)
        low, high = math.floor(-reach - 1), math.ceil(size + reach + 1)
    taps = np.arange(min(low, 0), max(high + 1, size))
    distance = abs(at.reshape(-1, 1) - now(c, taps.reshape(1, -1))) * stretch
    rows = _cubic(distance, kernel.coefficient) if kernel.cubic else (1 - distance).maximum(0.0)
    if kernel.antialias:
        rows = rows / rows.sum_rows()
    fold = np.zeros((len(taps), size))
    inside = (taps >= 0) & (taps < size)
    if kernel.exclude_outside:
        fold[inside, taps[inside]] = 1
        kept = rows.times(fold)
        return kept / kept.sum_rows()
    fold[np.arange(len(taps)), np.clip(taps, 0, size - 1)] = 1
    return rows.times(fold)


def _cubic(distance: Late, a: float) -> Late:
    """Cubic convolution: one polynomial up to distance 1 and one up to 2, both 0 where they end.

    Keys, "Cubic convolution interpolation for digital image processing", 1981.
    """
    near, far = distance.minimum(1.0), distance.clip(1.0, 2.0)
    inner = (near * (a + 2) - (a + 3)) * near * near + 1
    outer = ((far * a - 5 * a) * far + 8 * a) * far - 4 * a
    return inner + outer


def inside(at: Late, size: Late) -> Late:
    """1 where a position lies within the input, 0 elsewhere."""
    away = (0 - at).maximum(at - (size - 1)) - _CLOSE
    return 1 - (away.maximum(0.0) * 1e30).minimum(1.0)
