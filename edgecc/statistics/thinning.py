"""Which values of a large tensor are counted: evenly spread ones, enough of them in all."""

from __future__ import annotations

import math
from functools import cache

#: Values of a tensor over all samples from which on a histogram has no use for more: then one in 10,000 is seen some 50
#: times.
ENOUGH = 1 << 19
#: Values of one sample that are always counted, if it has so many.
LEAST = 1 << 11


def quota(samples: int) -> int | None:
    """How many values of each sample are counted, about; None for all.

    Args:
        samples: that there are; 0 if that is not known.
    """
    return max(LEAST, ENOUGH // samples) if samples else None


@cache
def stride(shape: tuple[int, ...], wanted: int) -> int:
    """Every so many values of a tensor are counted, in memory's order.

    It has no factor in common with any axis, so that over the tensor each place along each axis (each channel, wherever
    channels are) comes up as often as any other.

    Args:
        shape: of the tensor.
        wanted: values.
    """
    size = math.prod(shape)
    found = max(1, size // max(1, wanted))
    while math.gcd(found, size) > 1:
        found += 1
    return found if found < size else 1
