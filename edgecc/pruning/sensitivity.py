"""What the model's outputs lose when layers get other weights, measured on samples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from edgecc.data.split import SpreadSamples
from edgecc.inspection import total_macs
from edgecc.pruning.batched import is_batched
from edgecc.pruning.features import Linear, Matrix, arrays_of, linear_of, set_linear
from edgecc.pruning.output_errors import OutputErrors, Outputs, score_names
from edgecc.pruning.rows import batches
from edgecc.statistics.observation import Observation

if TYPE_CHECKING:
    from edgecc.data.calibration import CalibrationData
    from edgecc.model import Constant, Model
    from edgecc.passes.base import WorkProgress
    from edgecc.pruning.groups import Place

#: Most multiply-accumulates of all trials together, and of those of single units.
_WORK, _UNIT_WORK = 6e11, 2e11
#: Samples of one trial, and how often at most a group is looked at.
_SAMPLES = (8, 512)
_STOPS = 5
#: Samples with which each unit is tried alone, at most: with half as many, which ones they are shows in the result.
_UNIT_SAMPLES = 128


@dataclass
class Trials:
    """Puts other weights into a model and compares what comes out.

    Args:
        model: not changed.
        data: samples, of which evenly spread ones are looked at.
        groups: how many groups there are to be looked at.
        progress: called after each run.
        silent: constants of which parts are to be zero in trials.
        units: how many units are to be tried alone.
    """

    model: Model
    data: CalibrationData
    groups: int
    progress: WorkProgress
    silent: Sequence[Constant] = ()
    units: int = 0
    _expected: list[Outputs] = field(default_factory=list, init=False)
    _fed: dict[str, np.ndarray] = field(default_factory=dict, init=False)
    _places: dict[str, list[str]] = field(default_factory=dict, init=False)
    _inputs: dict[str, list[str]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self._names = score_names(self.model)
        least, most = _SAMPLES
        per_sample = max(1, total_macs(self.model.nodes())) / self.data.per_call
        affordable = _WORK / per_sample / max(1, self.groups)
        # Half of the samples with another point each are worth more than all of them with fewer points.
        self.stops = max(1, min(_STOPS, int(2 * affordable / most)))
        samples = max(least, min(most, int(affordable / self.stops)))
        self._runs = -(-samples // self.data.per_call)
        self._several = is_batched(self.model)
        self._open()
        seen = 0
        for feeds, where, count in self._feeds():
            self._expected.append(self._run(feeds, where, {}))
            seen += count * self.data.per_call
        alone = min(_UNIT_SAMPLES, int(_UNIT_WORK / per_sample / max(1, self.units)))
        self._every = -(-seen // alone) if alone >= least else 0
        self._errors = OutputErrors(self.model, self._expected)
        self._alone = OutputErrors(self.model, self._expected[:: self._every] if self._every else [])

    @property
    def can_try_units(self) -> bool:
        """Whether there is time to try each unit alone."""
        return self._every > 0

    def counts(self, most: int) -> list[int]:
        """After how many units of a group its readers are tried, growing towards all that may go."""
        parts = np.linspace(0, 1, self.stops + 1)[1:] ** 1.5
        return sorted({max(1, round(most * float(part))) for part in parts}) if most else []

    def error(self, layers: Sequence[tuple[Linear, Matrix]], silent: Iterable[Place] = ()) -> float:
        """Of the outputs, summed over them, when layers have other weights.

        Args:
            layers: of the model, with weights [outputs, features + 1].
            silent: parts of constants that are zero.

        Returns:
            As `OutputErrors.total`.
        """
        changed: dict[str, np.ndarray] = {}
        for linear, weights in layers:
            arrays = arrays_of(linear.node, weights)
            changed |= dict(zip(self._places[linear.node.name], arrays, strict=True))
        given = self._silenced(silent, changed)
        found = (self._run(feeds, where, given) for feeds, where, _ in self._feeds())
        return self._errors.total(found)

    def unit_errors(self, units: Sequence[Sequence[Place]]) -> Matrix:
        """Errors of the outputs with each unit alone gone, on fewer samples than `error` looks at.

        Args:
            units: parts of constants that are zero without the unit.
        """
        lost = np.zeros((len(units), len(self._names)))
        for number, (feeds, where, _) in enumerate(self._feeds()):
            if number % self._every:
                continue  # evenly spread ones of those that are looked at
            for unit, places in enumerate(units):
                found = self._run(feeds, where, self._silenced(places, {}))
                lost[unit] += self._alone.lost(number // self._every, found)
        return self._alone.relative(lost)

    def _silenced(self, places: Iterable[Place], changed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The changes, with zeros at these places."""
        found, own = dict(changed), set[str]()
        for place in places:
            # From the end: of a bias for rows, the session has the last axis alone.
            axis = place.axis - place.constant.values.ndim
            for name in self._inputs[place.constant.name]:
                if name not in own:
                    found[name] = np.array(found.get(name, self._fed[name]))
                    own.add(name)
                np.moveaxis(found[name], axis, 0)[place.indices] = 0
        return found

    def _open(self) -> None:
        """One session for all trials: the weights are inputs of it."""
        copy = self.model.clone()
        for node in copy.nodes("Conv", "Gemm", "MatMul"):
            linear = linear_of(node)
            if linear is None:
                continue
            constants = [tensor.name for tensor in node.inputs[1:]]
            set_linear(copy, node, linear.weights)
            arrays = arrays_of(node, linear.weights)
            fed = [copy.variable(f"{node.name}/tried", values.dtype, values.shape) for values in arrays]
            for index, tensor in enumerate(fed, start=1):
                copy.set_input(node, index, tensor)
            copy.graph.inputs.extend(fed)
            self._places[node.name] = [tensor.name for tensor in fed]
            self._fed |= dict(zip(self._places[node.name], arrays, strict=True))
            for constant, tensor in zip(constants, fed, strict=False):
                self._inputs.setdefault(constant, []).append(tensor.name)
        self._open_silent(copy)
        self._observation = Observation(copy, self._names)

    def _open_silent(self, copy: Model) -> None:
        """The constants that other nodes read are inputs too."""
        wanted = {tensor.name for tensor in self.silent}
        for constant in copy.constants():
            if constant.name not in wanted or not constant.outputs:
                continue
            fed = copy.variable(f"{constant.name}/tried", constant.values.dtype, constant.values.shape)
            for node in list(constant.outputs):
                for index in [place for place, tensor in enumerate(node.inputs) if tensor is constant]:
                    copy.set_input(node, index, fed)
            copy.graph.inputs.append(fed)
            self._fed[fed.name] = constant.values
            self._inputs.setdefault(constant.name, []).append(fed.name)

    def _run(self, feeds: Mapping[str, np.ndarray], where: str, changed: Mapping[str, np.ndarray]) -> Outputs:
        return self._observation.run({**feeds, **self._fed, **changed}, where)[0]

    def _feeds(self) -> Iterator[tuple[Mapping[str, np.ndarray], str, int]]:
        """See `batches`."""
        done = 0
        for feeds, where, count in batches(SpreadSamples(self.data, self._runs), self._several):
            yield feeds, where, count
            done += count
            self.progress("measuring what outputs lose", min(done, self._runs), self._runs)
