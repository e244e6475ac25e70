"""Two models run over samples side by side, from layers to layers, going on where they stopped.

Layers that are fitted in order ask for what they read by then. Running the models from their inputs for each of them
would take as many runs as there are layers; here each operator runs once on each sample. What that needs stays in
memory: the tensors at the cut between what has been computed and what has not. Where they are too large for all
samples, only some are run for as long as that is so, and the others follow later, in one run up to there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgecc.cleanup import reads
from edgecc.data.calibration import CalibrationData
from edgecc.data.split import ChosenSamples
from edgecc.model import Model, value_of
from edgecc.passes.base import WorkProgress
from edgecc.pruning.batched import is_batched
from edgecc.pruning.rows import Seen, affordable, batches
from edgecc.rewriting.extraction import extract
from edgecc.statistics.observation import Observation

#: Most bytes of tensors at the cut, of both models and all samples.
_MEMORY = 400 << 20
#: Calls that are run however large the tensors are.
_FEWEST = 16
#: More samples follow where the memory is enough for so many times those that are run.
_GROWTH = 1.25
#: Most multiply-accumulates of one run of a model over the samples.
_WORK = 3e11

_State = dict[str, np.ndarray]


@dataclass
class _Batch:
    """Samples that are run at once.

    Attributes:
        where: what to call them.
        numbers: theirs in the data.
        states: of each model, what has been computed and is still needed.
    """

    where: str
    numbers: list[int]
    states: list[_State]

    @property
    def count(self) -> int:
        return len(self.numbers)


class StagedSamples:
    """Samples on their way through two models.

    Args:
        models: the original and the one that changes; of the same inputs, with layers of the same names. What lies
            behind the layers that `at` was last called with may change in between.
        data: samples.
        progress: called after each run.
    """

    def __init__(self, models: tuple[Model, Model], data: CalibrationData, progress: WorkProgress) -> None:
        self._models, self._progress = models, progress
        self._several = is_batched(models[0])
        self._data = affordable(models[0], data, _WORK)
        total = self._data.total or sum(1 for _ in self._data.samples())
        # Any first ones of these are spread over the data, whose neighbours may be alike.
        self._order: list[int] = np.random.default_rng(0).permutation(total).tolist()
        self._cuts = [[tensor.name for tensor in model.inputs] for model in models]
        self._batches: list[_Batch] = []

    @property
    def _calls(self) -> int:
        return sum(batch.count for batch in self._batches)

    def at(
        self, layers: Collection[str], asked: Collection[str], wanted: Collection[str], what: str
    ) -> Iterator[tuple[Seen, Seen]]:
        """Run both models on, up to some layers.

        Args:
            layers: names of all nodes that are still to change; nothing that depends on them is final.
            asked: names of all tensors that will be asked for, now and later.
            wanted: names of those that are asked for now; some may lie behind `layers`.
            what: is said to be done.

        Yields:
            The tensors that are wanted in the original and in the other model, on the same samples.
        """
        self._refill()
        cuts = [cut_of(model, layers, {*asked, *wanted}) for model in self._models]
        runs = [
            _Segment(model, given, {*cut, *wanted})
            for model, given, cut in zip(self._models, self._cuts, cuts, strict=True)
        ]
        self._cuts = cuts
        done = 0
        for number, batch in enumerate(self._batches):  # the first one says how many there is room for
            found = [run.on(state, batch.where) for run, state in zip(runs, batch.states, strict=True)]
            batch.states = [{name: values[name] for name in cut} for values, cut in zip(found, cuts, strict=True)]
            if not number:
                self._drop(self._affordable())
            first, second = (Seen(values, batch.where, batch.count, self._calls) for values in found)
            yield first, second
            done += batch.count
            self._progress(what, done, self._calls)

    def _affordable(self) -> int:
        """Calls for whose tensors at the cut, of the size of the first ones, there is room."""
        if not self._batches:
            return _room_for([next(iter(self._data.samples()), {})], 1)
        return _room_for(self._batches[0].states, self._batches[0].count)

    def _drop(self, most: int) -> None:
        """Let samples go until at most so many are left, evenly spread ones, and the first batch among them."""
        if self._calls <= most:
            return
        left = max(1, most // self._batches[0].count)
        places = np.linspace(0, len(self._batches) - 1, min(left, len(self._batches))).astype(int)
        self._batches[:] = [self._batches[place] for place in places]

    def _refill(self) -> None:
        """Let further samples follow up to the cut, if there is room for them."""
        total = len(self._order)
        calls = min(total, self._affordable())
        if calls <= self._calls or (calls < total and calls < _GROWTH * self._calls):
            return
        held = {number for batch in self._batches for number in batch.numbers}
        numbers = sorted([number for number in self._order if number not in held][: calls - len(held)])
        chosen = ChosenSamples(self._data, frozenset(numbers))
        runs = [_Segment(model, (), cut) for model, cut in zip(self._models, self._cuts, strict=True)]
        for feeds, where, count in batches(chosen, self._several):
            states = [run.on(feeds, where) for run in runs]
            self._batches.append(_Batch(where, numbers[:count], states))
            del numbers[:count]


def _room_for(states: Sequence[Mapping[str, np.ndarray]], count: int) -> int:
    """Calls for whose tensors there is room, if those of some calls are as large as these; both models share some."""
    sizes = {id(values): getattr(values, "nbytes", 0) for state in states for values in state.values()}
    return max(_FEWEST, _MEMORY * count // max(1, sum(sizes.values())))


class _Segment:
    """A part of a model.

    Args:
        model: not changed.
        given: names of tensors that are known, beside the model's inputs.
        names: of tensors that are asked for; they may be given.
    """

    def __init__(self, model: Model, given: Collection[str], names: Collection[str]) -> None:
        present = {tensor.name for tensor in model.tensors()}
        known = [name for name in given if name in present]
        inputs = {tensor.name for tensor in model.inputs}
        self._names = list(names)
        computed = [name for name in self._names if name not in inputs and name not in known]
        part = extract(model, known, computed)
        for tensor in part.inputs:
            if tensor.name not in inputs:
                tensor.shape = None  # what it was inferred to be may be less general than what it is
        self._observation = Observation(part, computed)

    def on(self, state: Mapping[str, np.ndarray], where: str) -> _State:
        """What is asked for, of some samples."""
        found = self._observation.run(state, where)[0]
        return {name: found[name] if name in found else state[name] for name in self._names}


def cut_of(model: Model, layers: Collection[str], asked: Collection[str]) -> list[str]:
    """Names of the tensors between what can be computed without some layers, and what cannot.

    Args:
        model: sorted.
        layers: names of nodes.
        asked: names of all tensors that matter.
    """
    behind = names_behind(model, layers)
    needed = {name for name in asked if name not in behind}
    ahead = {name for name in asked if name in behind}
    for node in reversed(model.nodes()):
        if ahead.isdisjoint(tensor.name for tensor in node.outputs):
            continue
        for tensor in reads(node):
            if tensor.name in behind:
                ahead.add(tensor.name)
            elif value_of(tensor) is None:
                needed.add(tensor.name)
    own = {tensor.name for tensor in model.tensors()}
    return sorted(needed & own)


def names_behind(model: Model, layers: Collection[str]) -> set[str]:
    """Names of the tensors that depend on some nodes.

    Args:
        model: sorted.
        layers: names of the nodes.
    """
    found: set[str] = set()
    for node in model.nodes():
        if node.name in layers or any(tensor.name in found for tensor in reads(node)):
            found |= {tensor.name for tensor in node.outputs}
    return found
