"""StatisticTable: answers to what passes asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

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


@dataclass(frozen=True)
class DataIdentity:
    """Which data was swept.

    Attributes:
        source: where it came from: a file's name, a function, "random".
        digest: SHA-256 over every array fed, added up over the samples: their order does not matter. "" if none was.
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
    what lies behind it, and their answers hold no more; others stay. Names are those of the model that the table was
    made for: while a pass edits that model, it reads what held before.

    Attributes:
        answers: by cone and by request without its tensor's name.
        cones: by tensor name, of the model that the table is for.
        sources: by name of a tensor that only reorders the values of another one, the name of that one.
        names: of each cone's tensor when it was measured, for people.
        data: which was swept.
    """

    answers: Mapping[tuple[str, Request], Answer] = field(default_factory=dict, repr=False)
    cones: Mapping[str, str] = field(default_factory=dict, repr=False)
    sources: Mapping[str, str] = field(default_factory=dict, repr=False)
    names: Mapping[str, str] = field(default_factory=dict, repr=False)
    data: DataIdentity = DataIdentity()

    # ---------------------------------------------------------------------------------------------- for passes

    def range(self, tensor: str, axis: int | None = None) -> RangeStatistic:
        """Smallest and largest value; asked for with `Range` (of a whole tensor, `Histogram` answers it too).

        Raises:
            PassContractError: nobody asked for it. So do all methods below.
        """
        if axis is None and Range(tensor) not in self and Histogram(tensor) in self:
            found = self.histogram(tensor)
            return RangeStatistic(np.asarray(found.low), np.asarray(found.high), found.excluded)
        answer = self._answer(Range(tensor, axis))
        assert isinstance(answer, RangeStatistic), "the answer to a Range"
        return answer

    def moving_range(self, tensor: str, momentum: float = 0.9) -> RangeStatistic:
        """Moving average of each sample's range; asked for with `MovingRange`."""
        answer = self._answer(MovingRange(tensor, momentum))
        assert isinstance(answer, RangeStatistic), "the answer to a MovingRange"
        return answer

    def histogram(self, tensor: str) -> HistogramStatistic:
        """Asked for with `Histogram`."""
        answer = self._answer(Histogram(tensor))
        assert isinstance(answer, HistogramStatistic), "the answer to a Histogram"
        return answer

    def moments(self, tensor: str, axis: int | None = None) -> MomentsStatistic:
        """Asked for with `Moments`."""
        answer = self._answer(Moments(tensor, axis))
        assert isinstance(answer, MomentsStatistic), "the answer to Moments"
        return answer

    def channel_abs_max(self, tensor: str, axis: int) -> Array:
        """Float64 [channels]; asked for with `ChannelAbsMax`."""
        answer = self._answer(ChannelAbsMax(tensor, axis))
        assert isinstance(answer, RangeStatistic), "ChannelAbsMax is kept as a range"
        return np.maximum(np.abs(answer.low), np.abs(answer.high))

    def gram(self, request: Gram) -> GramStatistic:
        """Asked for with the same request."""
        answer = self._answer(request)
        assert isinstance(answer, GramStatistic), "the answer to a Gram"
        return answer

    def __contains__(self, request: Request) -> bool:
        """Whether there is an answer."""
        return self._key(request) in self.answers

    def _answer(self, request: Request) -> Answer:
        answer = self.answers.get(self._key(request))
        if answer is None:
            raise PassContractError(
                f"there is no answer to {request}",
                why="the pass did not ask for it in statistics(model)",
                hint="yield it there; names are those of the model before the pass ran",
            )
        return answer

    # ---------------------------------------------------------------------------------------------- for the driver

    def seen_from(self, model: Model) -> StatisticTable:
        """The same answers for another model, or for this one after an edit."""
        from edgecc.statistics.cones import cones_of
        from edgecc.statistics.inheritance import sources_of

        return replace(self, cones=cones_of(model), sources=sources_of(model))

    def unanswered(self, requests: Iterable[Request]) -> list[Request]:
        """What has to be measured, each once, of the tensors that values come from."""
        return list(dict.fromkeys(self._at_source(request) for request in requests if request not in self))

    def extended(self, answers: Mapping[Request, Answer], data: DataIdentity) -> StatisticTable:
        """With further answers, about the model that the table is for."""
        more = {self._key(request): answer for request, answer in answers.items()}
        names = {self.cones[request.tensor]: request.tensor for request in answers}
        return replace(self, answers={**self.answers, **more}, names={**self.names, **names}, data=data)

    def _at_source(self, request: Request) -> Request:
        if isinstance(request, Gram | ChannelAbsMax) or getattr(request, "axis", None) is not None:
            return request
        return replace(request, tensor=self.sources.get(request.tensor, request.tensor))

    def _key(self, request: Request) -> tuple[str, Request]:
        found = self._at_source(request)
        return self.cones.get(found.tensor, ""), replace(found, tensor="")

    # ---------------------------------------------------------------------------------------------- files

    def save(self, path: Path) -> None:
        """Write it as JSON that people can read; Grams are left out, being large."""
        from edgecc.statistics.table_json import save

        save(self, path)

    @staticmethod
    def load(path: Path) -> StatisticTable:
        """Read what `save` wrote.

        Raises:
            DataError: it is not such a file.
        """
        from edgecc.statistics.table_json import load

        return load(path)
