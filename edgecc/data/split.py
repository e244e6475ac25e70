"""Parts of calibration data: what passes see, what their result is measured on, and a few of the samples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import numpy as np

    from edgecc.data.calibration import CalibrationData
    from edgecc.data.feeds import Feeds

T = TypeVar("T")

#: One call in so many is held out.
EVERY = 8


@dataclass(frozen=True)
class _Some:
    """What some of the calls of calibration data have in common with all of them."""

    data: CalibrationData

    @property
    def source(self) -> str:
        return self.data.source

    @property
    def notes(self) -> tuple[str, ...]:
        return self.data.notes

    @property
    def per_call(self) -> int:
        return self.data.per_call


@dataclass(frozen=True)
class Part(_Some):
    """Every eighth call of calibration data, or all the others.

    Attributes:
        data: all of it.
        held_out: which of the two.
    """

    held_out: bool

    @property
    def total(self) -> int:
        held_out = self.data.total // EVERY
        return held_out if self.held_out else self.data.total - held_out

    def samples(self) -> Iterator[Feeds]:
        return self._part(self.data.samples())

    def labelled(self) -> Iterator[tuple[Feeds, np.ndarray]] | None:
        """This part's calls with their labels; None if the data has none."""
        from edgecc.data.calibration import labelled

        pairs = labelled(self.data)
        return None if pairs is None else self._part(pairs)

    def _part(self, calls: Iterable[T]) -> Iterator[T]:
        for index, call in enumerate(calls):
            if (index % EVERY == EVERY - 1) == self.held_out:
                yield call


@dataclass(frozen=True)
class FirstSamples(_Some):
    """The first calls of calibration data.

    Attributes:
        data: all of it.
        most: calls at most.
    """

    most: int

    @property
    def total(self) -> int:
        return min(self.most, self.data.total) if self.data.total else self.most

    def samples(self) -> Iterator[Feeds]:
        return islice(self.data.samples(), self.most)


@dataclass(frozen=True)
class SpreadSamples(_Some):
    """Some calls of calibration data, evenly spread, since neighbours may be alike.

    Attributes:
        data: all of it.
        most: calls at most.
    """

    most: int

    @property
    def total(self) -> int:
        return min(self.most, self.data.total) if self.data.total else 0

    def samples(self) -> Iterator[Feeds]:
        count = self.data.total or sum(1 for _ in self.data.samples())
        most = min(self.most, count)
        for index, call in enumerate(self.data.samples()):
            if (index + 1) * most // count > index * most // count:
                yield call


@dataclass(frozen=True)
class ChosenSamples(_Some):
    """Some calls of calibration data, by their numbers.

    Attributes:
        data: all of it.
        numbers: of the calls.
    """

    numbers: frozenset[int]

    @property
    def total(self) -> int:
        return len(self.numbers)

    def samples(self) -> Iterator[Feeds]:
        last = max(self.numbers, default=-1)
        for number, call in enumerate(islice(self.data.samples(), last + 1)):
            if number in self.numbers:
                yield call
