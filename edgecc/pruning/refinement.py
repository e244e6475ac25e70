"""All layers fitted together, in small steps, once each has been fitted by itself.

Fitted one after another, a layer does not know what those behind it make of its errors. Here the errors of all of them
count at once (as in the reconstruction of blocks, BRECQ, arXiv 2102.05426), each relative to the variance of what it
should compute, and Adam follows their gradient. There are no labels: what the original computes on
the samples is all that is aimed at.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgecc.inspection import total_macs
from edgecc.pruning.error_gradients import Aim, ErrorGradients, aims_of
from edgecc.pruning.rows import RowTable, Seen, observed
from edgecc.pruning.spread import Spread
from edgecc.pruning.step_length import at_length, best_length

if TYPE_CHECKING:
    from edgecc.data.calibration import CalibrationData
    from edgecc.model import Model
    from edgecc.passes.base import WorkProgress
    from edgecc.pruning.repair import Site

#: Samples of one step, those that are run at once, and runs side by side: each has all gradients in memory.
_BATCH, _AT_ONCE, _WORKERS = 8, 4, 2
#: Of the first step, relative to the root mean square of the weights; what it is multiplied by where the first run
#: over the data gains nothing, and how often that is tried.
_RATE, _SLOWER, _TRIES = 3e-3, 0.2, 3
_DECAYS = (0.9, 0.999)
#: One of so many batches tells how large the error is. None is set apart: single layers were fitted to all samples
#: before, so that any part of them is biased towards that start and stops the fit while other samples still gain.
_CHECKED = 8
#: Fewer steps than these gain nothing worth their time.
_STEPS = 50
#: Samples that are too few for so many weights.
_FEWEST = 64
#: Most multiply-accumulates, those of the gradients counted twice.
_WORK = 2.4e12
#: Bytes of weights beside which there is no room for their moments.
_LARGEST = 1 << 30
#: What the original computes is kept if it takes at most so many bytes.
_MEMORY = 512 << 20


def refine(
    original: Model,
    model: Model,
    sites: Sequence[Site],
    data: CalibrationData,
    epochs: int,
    progress: WorkProgress,
    kept: Collection[str] = (),
) -> float:
    """Fit the weights of all layers together.

    Args:
        original: not changed.
        model: changed: its weights.
        sites: layers whose results are compared.
        data: samples.
        epochs: how often they are looked at; fewer of them if that would take too much work.
        progress: called after each run.
        kept: names of layers whose weights stay as they are.

    Returns:
        By which share the error of the layers fell on some of these samples, more than on others; 0 if nothing was
        changed.
    """
    total = data.total * data.per_call
    work = 3 * total_macs(model.nodes()) + total_macs(original.nodes())
    epochs = min(epochs, int(_WORK / max(1, work * data.total)))
    aims = aims_of(sites, model)
    if not aims or total < _FEWEST or epochs * total < _STEPS * _BATCH:
        return 0.0
    if sum(tensor.values.nbytes for tensor in model.constants()) > _LARGEST:
        return 0.0
    gradients = ErrorGradients(model, aims, kept)
    if not gradients.values:
        return 0.0
    with ThreadPoolExecutor(_WORKERS) as workers:
        gain = _Fitting(original, model, gradients, aims, data, workers, progress).run(epochs)
    if not gain > 0:
        return 0.0
    for tensor in model.constants():
        if tensor.name in gradients.values:
            tensor.values = gradients.values[tensor.name]
    return gain


class _Adam:
    """Steps of Adam (arXiv 1412.6980), in units of each tensor's own size.

    Args:
        weights: by name; changed.
        rate: of the first step; it falls to 0 as a cosine does.
        steps: how many there will be.
    """

    def __init__(self, weights: dict[str, RowTable], rate: float, steps: int) -> None:
        self._weights, self._rate, self._steps = weights, rate, steps
        self._sizes = {name: float(np.sqrt(np.mean(np.square(values)))) for name, values in weights.items()}
        self._moments = {name: np.zeros((2, *values.shape), np.float32) for name, values in weights.items()}
        self._done = 0

    def step(self, gradients: Mapping[str, RowTable]) -> None:
        """Move against the gradients."""
        rate = self._rate * (1 + math.cos(math.pi * min(1.0, self._done / self._steps))) / 2
        self._done += 1
        first, second = (1 - decay**self._done for decay in _DECAYS)
        for name, gradient in gradients.items():
            mean, square = self._moments[name]
            mean += (1 - _DECAYS[0]) * (gradient - mean)
            square += (1 - _DECAYS[1]) * (gradient**2 - square)
            change = (mean / first) / (np.sqrt(square / second) + 1e-12)
            self._weights[name] = self._weights[name] - np.float32(rate * self._sizes[name]) * change


@dataclass(frozen=True)
class _Batch:
    """Samples that are run at once.

    Attributes:
        feeds: inputs, and what the original computes.
        count: how many samples they are; several of one call where the model's batch is fixed.
        checked: whether they tell how large the error is.
    """

    feeds: Mapping[str, np.ndarray]
    count: int
    checked: bool

    def nbytes(self) -> int:
        return sum(values.nbytes for values in self.feeds.values())


class _Fitting:
    """Adam over the weights of a model.

    Args:
        original: what it computes is aimed at.
        model: not changed.
        gradients: of the model; its weights are changed.
        aims: where errors are measured.
        data: samples.
        workers: run the gradients.
        progress: called after each run.
    """

    def __init__(
        self,
        original: Model,
        model: Model,
        gradients: ErrorGradients,
        aims: Sequence[Aim],
        data: CalibrationData,
        workers: ThreadPoolExecutor,
        progress: WorkProgress,
    ) -> None:
        self._original, self._model, self._gradients, self._aims = original, model, gradients, aims
        self._data, self._progress = data, progress
        self._workers = workers
        self._scales: dict[str, np.ndarray] = {}
        self._known: list[_Batch] | None = None

    def error(self) -> float:
        """On some of the samples."""
        checked = (batch.feeds for batch in self._batches("measuring errors") if batch.checked)
        return sum(self._gradients.error(self._scaled(feeds)) for feeds in checked)

    def run(self, epochs: int) -> float:
        """Change the weights.

        Returns:
            By which share the error fell; 0 if it did not.
        """
        self._measure_scales()
        weights = self._gradients.values
        start, before, rate = dict(weights), self.error(), _RATE
        if not before > 0:
            return 0.0
        of_step = self._data.per_call * -(-_BATCH // self._data.per_call)
        steps = epochs * -(-self._data.total * self._data.per_call // of_step)
        for _ in range(_TRIES):
            adam = _Adam(weights, rate, steps)
            self._epoch(adam)
            if self.error() < before:
                break
            weights.update(start)
            rate *= _SLOWER
        else:
            return 0.0
        for _ in range(epochs - 1):
            self._epoch(adam)
        end = dict(weights)
        length = best_length(self._original, self._model, start, end, self._data, self._progress)
        # Outputs and layers may not agree on how far is too far.
        for found in (at_length(start, end, length), end) if length else ():
            weights.update(found)
            error = self.error()
            if error < before:
                return 1 - error / before
        return 0.0

    def _epoch(self, adam: _Adam) -> None:
        sums: dict[str, RowTable] = {}
        waiting: list[_Batch] = []
        count = 0
        for batch in self._batches("fitting all layers"):
            waiting.append(batch)
            count += batch.count
            if len(waiting) < _WORKERS and count < _BATCH:
                continue
            self._add(sums, waiting)
            waiting = []
            if count >= _BATCH:
                self._step(adam, sums, count)
                sums, count = {}, 0
        self._add(sums, waiting)
        if count:
            self._step(adam, sums, count)

    def _add(self, sums: dict[str, RowTable], waiting: Sequence[_Batch]) -> None:
        for part in self._workers.map(self._gradients.run, [self._scaled(one.feeds) for one in waiting]):
            for name, gradient in part.items():
                sums[name] = sums[name] + gradient if name in sums else gradient

    @staticmethod
    def _step(adam: _Adam, sums: Mapping[str, RowTable], count: int) -> None:
        adam.step({name: gradient / np.float32(count) for name, gradient in sums.items()})

    def _batches(self, what: str) -> Iterator[_Batch]:
        """What the original computes, again and again: from memory where all of it fits there."""
        if self._known is not None:
            for done, batch in enumerate(self._known):
                yield batch
                self._progress(what, done + 1, len(self._known))
            return
        names = {aim.tensor for aim in self._aims} | {tensor.name for tensor in self._original.inputs}
        known: list[_Batch] | None = []
        run = observed(self._original, names, self._data, what, self._progress, at_once=_AT_ONCE)
        for number, seen in enumerate(run):
            count = seen.count * self._data.per_call
            batch = _Batch(self._feeds(seen), count, number % _CHECKED == 0)
            if known is not None and batch.nbytes() * seen.total > _MEMORY * seen.count:
                known = None
            if known is not None:
                known.append(batch)
            yield batch
        self._known = known

    def _feeds(self, seen: Seen) -> dict[str, np.ndarray]:
        wanted = {self._gradients.targets[aim.tensor]: aim.wanted(seen.tensors[aim.tensor]) for aim in self._aims}
        return {**seen.tensors, **wanted}

    def _measure_scales(self) -> None:
        """What errors of each tensor are multiplied by, from all samples."""
        spreads = {aim.tensor: Spread() for aim in self._aims}
        for batch in self._batches("measuring what layers compute"):
            for aim in self._aims:
                spreads[aim.tensor].add(batch.feeds[self._gradients.targets[aim.tensor]], batch.count)
        for aim in self._aims:
            scale = aim.scale(spreads[aim.tensor])
            self._scales[self._gradients.scales[aim.tensor]] = np.array(scale, np.float32)

    def _scaled(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {**feeds, **self._scales}
