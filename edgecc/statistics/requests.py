"""What a pass may ask of calibration data; it yields these from `Pass.statistics(model)`.

Requests are plain values: two passes that ask for the same are answered once. Tensors are named as they are in the
model that `statistics` was given: inputs, or what a node of the main graph computes, of a floating point type.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True)
class Range:
    """Smallest and largest value of a tensor: `RangeStatistic`.

    Attributes:
        tensor: its name.
        axis: one range for each index of this axis (negative from the end); None for one of the whole tensor.
    """

    tensor: str
    axis: int | None = None


@dataclass(frozen=True)
class MovingRange:
    """Exponential moving average of each sample's smallest and largest value: `RangeStatistic`.

    The first sample counts in full; each later one moves the average by 1 - momentum. The only statistic that depends
    on the order of the samples.

    Attributes:
        tensor: its name.
        momentum: how much of the former average stays; at least 0, less than 1.
    """

    tensor: str
    momentum: float = 0.9

    def __post_init__(self) -> None:
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must be at least 0 and less than 1, got {self.momentum}")


@dataclass(frozen=True)
class Histogram:
    """Distribution of a tensor's values: `HistogramStatistic`, from which `edgecc.quantization.ranges` choose."""

    tensor: str


@dataclass(frozen=True)
class Moments:
    """Count, mean and variance of a tensor's values: `MomentsStatistic`.

    Attributes:
        tensor: its name.
        axis: for each index of this axis (negative from the end); None for the whole tensor.
    """

    tensor: str
    axis: int | None = None


@dataclass(frozen=True)
class ChannelAbsMax:
    """Largest absolute value for each index of an axis: an array of float64.

    Attributes:
        tensor: its name.
        axis: negative from the end.
    """

    tensor: str
    axis: int


@dataclass(frozen=True)
class Rows:
    """A layer's input as MatMul and Gemm see it: one row per index of all axes but one.

    Attributes:
        axis: of the features: -1 for MatMul and Gemm, 0 for a Gemm with transA.
    """

    axis: int = -1


@dataclass(frozen=True)
class Patches:
    """A layer's input as Conv sees it: one row per output position, im2col.

    Features are in the order of the weight's: channel of the group, then kernel position, row-major, so that
    `weight.reshape(outputs, -1) @ row` is the convolution. One list per kind of number, one entry per spatial axis.

    Attributes:
        kernel: sizes.
        strides: per spatial axis.
        dilations: per spatial axis.
        pads: zeros at the begins of all spatial axes, then at their ends; replaced by those of `auto_pad` unless that
            is NOTSET.
        auto_pad: NOTSET, VALID, SAME_UPPER or SAME_LOWER.
        group: number of groups; each has a matrix of its own.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[int, ...]
    auto_pad: str = "NOTSET"
    group: int = 1


@dataclass(frozen=True)
class Gram:
    """Sum of x xᵀ over the rows x that a layer reads, each with a one appended: `GramStatistic`.

    `edgecc.statistics.layers.gram_of(node)` makes it for a node.

    Attributes:
        tensor: the layer's input.
        layout: how the layer reads it.
        rows: at most so many rows of each sample and group are used, spread evenly and the same ones in every sample.
    """

    tensor: str
    layout: Rows | Patches = Rows()
    rows: int = 256

    def __post_init__(self) -> None:
        if self.rows < 1:
            raise ValueError(f"rows must be at least 1, got {self.rows}")


Request: TypeAlias = Range | MovingRange | Histogram | Moments | ChannelAbsMax | Gram
Requests: TypeAlias = Iterable[Request]
