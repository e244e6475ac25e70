"""Calibration data: what a model is fed one sample at a time while passes watch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from edgecc.data.feeds import Feeds


class CalibrationData(Protocol):
    """Samples that can be read again and again, streamed: at most a few are in memory at any time.

    Attributes:
        source: where they come from, as users call it.
        notes: sentences that users should read.
    """

    @property
    def source(self) -> str: ...

    @property
    def notes(self) -> tuple[str, ...]: ...

    @property
    def total(self) -> int:
        """How many calls `samples` gives; 0 if that is not known before they are read."""
        ...

    def samples(self) -> Iterator[Feeds]:
        """Feeds of one call each: a single sample, or as many as the model's batch is fixed to."""
        ...
