"""What passes may ask of calibration data, and the sweep that answers all of them at once."""

from __future__ import annotations

from edgecc.statistics.requests import (
    ChannelAbsMax,
    Gram,
    Histogram,
    Moments,
    MovingRange,
    Patches,
    Range,
    Request,
    Rows,
)

__all__ = ["ChannelAbsMax", "Gram", "Histogram", "Moments", "MovingRange", "Patches", "Range", "Request", "Rows"]
