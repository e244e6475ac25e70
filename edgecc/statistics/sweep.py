"""One sweep over the data for everything that is asked."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from edgecc.statistics.accumulators import (
    Accumulator,
    HistogramAccumulator,
    MovingRangeAccumulator,
    RangeAccumulator,
    accumulator_for,
)
from edgecc.statistics.checks import check_requests
from edgecc.statistics.grouping import MEMORY, grouped, sizes_of
from edgecc.statistics.observation import Observation, Observed, Reduced, Reduction
from edgecc.statistics.requests import ChannelAbsMax, MovingRange, Range, Request
from edgecc.statistics.samples import MASK, look_at
from edgecc.statistics.table import DataIdentity, StatisticTable

if TYPE_CHECKING:
    from edgecc.data.calibration import CalibrationData
    from edgecc.data.feeds import Feeds
    from edgecc.model import Model, Tensor
    from edgecc.passes.base import WorkProgress

#: Types that ONNX Runtime reduces.
_REDUCIBLE = ("float32", "float64")
_Watched: TypeAlias = "dict[str, dict[Request, Accumulator]]"


def sweep(
    model: Model,
    requests: Iterable[Request],
    data: CalibrationData,
    *,
    known: StatisticTable | None = None,
    memory: int = MEMORY,
    progress: WorkProgress = lambda text, done, total: None,
) -> StatisticTable:
    """Run the model on every sample and answer the requests.

    Samples go through the model one call at a time and nothing is kept of them but the statistics. What is asked of a
    tensor that only reorders another one's values is measured there. What does not fit into the memory at once, and of
    which numbers suffice (Range, MovingRange, ChannelAbsMax), is reduced in the graph; what fits is fetched, which is
    faster: ONNX Runtime's reductions take longer than numpy's. Two things need a second sweep, of the few tensors
    concerned: values that are not finite where they were reduced, and logarithmic bins for histograms that outliers
    made too coarse.

    Args:
        model: not changed.
        requests: of one pass or several.
        data: read once for each group of tensors that the memory allows for.
        known: earlier answers, which are kept, and not measured again where they still hold.
        memory: most bytes of tensors fetched from one run; a larger tensor is fetched alone.
        progress: called after each sample.

    Raises:
        DataError: the data does not fit, or a tensor is NaN.
        PassContractError: a request is about no tensor that can be measured.
    """
    asked = list(requests)
    check_requests(asked, model)
    table = (known or StatisticTable()).seen_from(model)
    todo = table.unanswered(asked)
    if not todo:
        return table
    work = _Work(model, data, memory, progress)
    watched = work.run(todo, again=False)
    second = [request for request in todo if _is_unfinished(request, watched, work.suspicious)]
    if second:
        for tensor, accumulators in work.run(second, again=True).items():
            watched[tensor] |= accumulators
    answers = {request: found.answer() for accumulators in watched.values() for request, found in accumulators.items()}
    return table.extended(answers, work.identity())


def _is_unfinished(request: Request, watched: _Watched, suspicious: set[str]) -> bool:
    found = watched[request.tensor][request]
    return request.tensor in suspicious or (isinstance(found, HistogramAccumulator) and found.needs_logarithm())


@dataclass
class _Work:
    """A model on its way through the data.

    Attributes:
        model: the model.
        data: the data.
        memory: as of `sweep`.
        progress: as of `sweep`.
        suspicious: tensors that were reduced in the graph and hold values that are not finite.
    """

    model: Model
    data: CalibrationData
    memory: int
    progress: WorkProgress
    suspicious: set[str] = field(default_factory=set)
    _samples: int = 0
    _digest: int = 0

    def run(self, requests: Sequence[Request], *, again: bool) -> _Watched:
        """Every sample, once for each group of tensors.

        Args:
            requests: of tensors of the model.
            again: whether it is the second sweep: everything is fetched, and histograms get logarithmic bins.
        """
        watched: _Watched = {}
        total = self.data.total
        for request in requests:
            found = accumulator_for(request, logarithmic=again, samples=total)
            watched.setdefault(request.tensor, {})[request] = found
        tensors = {tensor.name: tensor for tensor in self.model.tensors()}
        inputs = {tensor.name for tensor in self.model.inputs}
        sizes = sizes_of([tensor for name, tensor in tensors.items() if name in watched], self.model, self.data)
        fits = sum(sizes.values()) <= self.memory
        reductions = [] if again or fits else _reductions(watched, tensors, inputs)
        reduced = {item.tensor for item in reductions}
        groups = grouped({name: size for name, size in sizes.items() if name not in reduced}, self.memory)
        for index, group in enumerate(groups):
            observation = Observation(self.model, group, () if index else reductions)
            self._sweep_group(observation, watched, () if index else reductions, index, len(groups), again)
        return watched

    def _sweep_group(
        self,
        observation: Observation,
        watched: _Watched,
        reductions: Sequence[Reduction],
        index: int,
        groups: int,
        again: bool,
    ) -> None:
        total = self.data.total
        what = "calibrating" if not again else "calibrating, tensors with outliers"
        noted = not index and not again
        for number, (where, (values, numbers)) in enumerate(self._observed(observation, noted)):
            for name, array in values.items():
                sample = look_at(array, name, where)
                for accumulator in watched[name].values():
                    accumulator.add(sample)
            for reduction, three in zip(reductions, numbers, strict=True):
                self._take(reduction, three, watched)
            self.progress(what, index * total + number + 1, groups * total)

    def _observed(self, observation: Observation, noted: bool) -> Iterator[tuple[str, Observed]]:
        """Where each sample comes from, and what is watched of it.

        The model runs on a sample in a thread while whoever asks looks at the one before. The next sample is asked for
        only when it is done: who yields them may use the same memory again.
        """
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(max_workers=1) as pool:
            before: tuple[str, Observed] | None = None
            for number, feeds in enumerate(self.data.samples()):
                if noted:
                    self._note(feeds)
                where = f"{self.data.source}, sample {number}"
                running = pool.submit(observation.run, feeds, where)
                if before is not None:
                    yield before
                before = where, running.result()
            if before is not None:
                yield before

    def _take(self, reduction: Reduction, found: Reduced, watched: _Watched) -> None:
        extremes = max(-float(found.low.min(initial=0)), float(found.high.max(initial=0)))
        if not np.isfinite(found.total) or not extremes < MASK:
            self.suspicious.add(reduction.tensor)
            return
        for request, accumulator in watched[reduction.tensor].items():
            if _axis_of(request) == reduction.axis:
                assert isinstance(accumulator, RangeAccumulator | MovingRangeAccumulator), "the others need all values"
                accumulator.add_bounds(found.low, found.high)

    def _note(self, feeds: Feeds) -> None:
        """Count the sample and add its digest to those of the others, whose order does not matter."""
        digest = hashlib.sha256()
        for name in sorted(feeds):
            values = np.ascontiguousarray(feeds[name])
            digest.update(f"{name} {values.dtype} {values.shape} ".encode())
            digest.update(values.tobytes() if values.dtype == object else values.data.cast("B"))
        self._digest = (self._digest + int.from_bytes(digest.digest())) % (1 << 256)
        self._samples += self.data.per_call

    def identity(self) -> DataIdentity:
        return DataIdentity(self.data.source, f"{self._digest:064x}", self._samples)


def _reductions(watched: _Watched, tensors: Mapping[str, Tensor], inputs: set[str]) -> list[Reduction]:
    """What need not be fetched: tensors of which only smallest and largest values are asked."""
    found = []
    for name, requests in watched.items():
        tensor = tensors[name]
        if name in inputs or tensor.shape is None or np.dtype(tensor.dtype).name not in _REDUCIBLE:
            continue
        if all(isinstance(request, Range | MovingRange | ChannelAbsMax) for request in requests):
            axes = dict.fromkeys(_axis_of(request) for request in requests)
            found += [Reduction(name, len(tensor.shape), axis) for axis in axes]
    return found


def _axis_of(request: Request) -> int | None:
    return request.axis if isinstance(request, Range | ChannelAbsMax) else None
