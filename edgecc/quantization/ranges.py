"""The range that a tensor's integers stand for, chosen from its statistics; pure functions.

Every range holds 0, which quantized operators need exactly (padding, Relu). A symmetric one is (-a, a).
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from edgecc.statistics.answers import HistogramStatistic, RangeStatistic
from edgecc.statistics.requests import Histogram, MovingRange, Range

RangeMethod: TypeAlias = Literal["mse", "min-max", "percentile", "entropy", "moving-average"]
Interval: TypeAlias = tuple[float, float]


def request_for(method: RangeMethod, tensor: str) -> Histogram | Range | MovingRange:
    """What a pass asks for so that `choose_range` can answer."""
    if method == "min-max":
        return Range(tensor)
    return MovingRange(tensor) if method == "moving-average" else Histogram(tensor)


def choose_range(
    method: RangeMethod,
    statistic: HistogramStatistic | RangeStatistic,
    *,
    levels: int = 256,
    symmetric: bool = False,
    percent: float = 99.99,
) -> Interval:
    """The range of a tensor, from the answer to `request_for(method, tensor)`.

    Args:
        method: how it is chosen.
        statistic: the answer.
        levels: integers that there are: 256 of int8, 65536 of int16.
        symmetric: around 0.
        percent: of the values that are kept, for "percentile".
    """
    raise NotImplementedError


def min_max_range(statistic: HistogramStatistic | RangeStatistic, *, symmetric: bool = False) -> Interval:
    """All values; also of a moving average, which depends on the order of the samples."""
    raise NotImplementedError


def percentile_range(statistic: HistogramStatistic, percent: float = 99.99, *, symmetric: bool = False) -> Interval:
    """Without the outermost values: half of the rest on each side, or the largest magnitudes if symmetric.

    Zeros do not count. Linear interpolation within a bin.
    """
    raise NotImplementedError


def mse_range(statistic: HistogramStatistic, *, levels: int = 256, symmetric: bool = False) -> Interval:
    """The range with the least mean squared error of rounding and clipping, searched coarse to fine."""
    raise NotImplementedError


def entropy_range(statistic: HistogramStatistic, *, levels: int = 128) -> Interval:
    """The threshold on |x| with the least Kullback-Leibler divergence between values and quantized values.

    NVIDIA, "8-bit Inference with TensorRT" (2017): up to 2048 bins, merged into `levels`, smoothed.
    """
    raise NotImplementedError
