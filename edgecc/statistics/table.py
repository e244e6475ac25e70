"""StatisticTable: answers to what passes asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

from edgecc.errors import PassContractError
from edgecc.statistics.answers import (
    Answer,
    Array,
    GramStatistic,
    HistogramStatistic,
    MomentsStatistic,
    RangeStatistic,
)
from edgecc.statistics.requests import ChannelAbsMax, Gram, Histogram, Moments, MovingRange, Range, Request

if TYPE_CHECKING:
    from pathlib import Path

    from edgecc.model import Model

Kind = TypeVar("Kind", RangeStatistic, HistogramStatistic, MomentsStatistic, GramStatistic)


@dataclass(frozen=True)
class DataIdentity:
    """Which data was swept.

    Attributes:
        source: where it came from: a file's name, a function, "random".
        digest: SHA-256 over every array fed, in any order of the samples; "" if none was.
        samples: number of samples.
    """

    source: str = ""
    digest: str = ""
    samples: int = 0


@dataclass(frozen=True)
class StatisticTable:
    """Answers for one model, and those for other models that may turn up again.

    An answer belongs to a *cone*: a digest of everything that a tensor is computed from (operators, attributes,
    weights, names of the model's inputs; not the names of inner tensors). An edit of the graph changes the cones of
    what lies behind it, and their answers are gone; others stay. Names are those of the model that the table was made
    for: after an edit, a pass still reads what held before.

    Attributes:
        answers: by cone and by request without its tensor's name.
        cones: by tensor name, of the model that the table is for.
        names: of each cone's tensor when it was measured, for people.
        data: which was swept.
    """

    answers: Mapping[tuple[str, Request], Answer] = field(default_factory=dict, repr=False)
    cones: Mapping[str, str] = field(default_factory=dict, repr=False)
    names: Mapping[str, str] = field(default_factory=dict, repr=False)
    data: DataIdentity = DataIdentity()

    def range(self, tensor: str, axis: int | None = None) -> RangeStatistic:
        """Smallest and largest value; asked for with `Range` (of a whole tensor, `Histogram` answers it too)."""
        raise NotImplementedError

    def moving_range(self, tensor: str, momentum: float = 0.9) -> RangeStatistic:
        """Moving average of each sample's range; asked for with `MovingRange`."""
        raise NotImplementedError

    def histogram(self, tensor: str) -> HistogramStatistic:
        """Asked for with `Histogram`."""
        raise NotImplementedError

    def moments(self, tensor: str, axis: int | None = None) -> MomentsStatistic:
        """Asked for with `Moments`."""
        raise NotImplementedError

    def channel_abs_max(self, tensor: str, axis: int) -> Array:
        """Float64 [channels]; asked for with `ChannelAbsMax`."""
        raise NotImplementedError

    def gram(self, request: Gram) -> GramStatistic:
        """Asked for with the same request."""
        raise NotImplementedError

    def __contains__(self, request: Request) -> bool:
        """Whether there is an answer."""
        raise NotImplementedError

    def save(self, path: Path) -> None:
        """Write it as JSON that people can read; Grams are left out."""
        raise NotImplementedError

    @staticmethod
    def load(path: Path) -> StatisticTable:
        """Read what `save` wrote.

        Raises:
            DataError: it is not such a file.
        """
        raise NotImplementedError
