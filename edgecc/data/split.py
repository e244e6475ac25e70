"""Calibration data in two parts: what passes see, and what their result is measured on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgecc.data.calibration import CalibrationData
    from edgecc.data.feeds import Feeds

#: One call in so many is held out.
EVERY = 8


@dataclass(frozen=True)
class Part:
    """Every eighth call of calibration data, or all the others.

    Attributes:
        data: all of it.
        held_out: which of the two.
    """

    data: CalibrationData
    held_out: bool

    @property
    def source(self) -> str:
        return self.data.source

    @property
    def notes(self) -> tuple[str, ...]:
        return self.data.notes

    @property
    def total(self) -> int:
        held_out = self.data.total // EVERY
        return held_out if self.held_out else self.data.total - held_out

    @property
    def per_call(self) -> int:
        return self.data.per_call

    def samples(self) -> Iterator[Feeds]:
        for index, feeds in enumerate(self.data.samples()):
            if (index % EVERY == EVERY - 1) == self.held_out:
                yield feeds
