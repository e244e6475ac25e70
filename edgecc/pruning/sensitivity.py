"""What the model's outputs lose when layers get other weights, measured on samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from edgecc.data.split import SpreadSamples
from edgecc.inspection import macs
from edgecc.pruning.features import Linear, Matrix, arrays_of, linear_of, set_linear
from edgecc.pruning.rows import batches, is_batched
from edgecc.statistics.observation import Observation

if TYPE_CHECKING:
    from edgecc.data.calibration import CalibrationData
    from edgecc.model import Model
    from edgecc.passes.base import WorkProgress

#: Most multiply-accumulates of all trials together.
_WORK = 6e11
#: Samples of one trial, and how often at most a group is looked at.
_SAMPLES = (8, 512)
_STOPS = 5
#: Error of outputs that are not finite and were: prices are differences, so that it is a number.
_WORST = 1e30


@dataclass
class Trials:
    """Puts other weights into a model and compares what comes out.

    Args:
        model: not changed.
        data: samples, of which evenly spread ones are looked at.
        groups: how many groups there are to be looked at.
        progress: called after each run.
    """

    model: Model
    data: CalibrationData
    groups: int
    progress: WorkProgress
    _expected: list[dict[str, np.ndarray]] = field(default_factory=list, init=False)
    _fed: dict[str, np.ndarray] = field(default_factory=dict, init=False)
    _places: dict[str, list[str]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        outputs = [tensor for tensor in self.model.outputs if np.dtype(tensor.dtype).kind == "f"]
        self._names = [tensor.name for tensor in outputs]
        self._classes = {
            tensor.name: int(node.attrs.get("axis", -1))
            for tensor in outputs
            if (node := self.model.producer(tensor)) is not None and node.op == "Softmax"
        }
        least, most = _SAMPLES
        affordable = (
            _WORK * self.data.per_call / max(1, self.groups * sum(macs(node) for node in self.model.all_nodes()))
        )
        # Half of the samples with another point each are worth more than all of them with fewer points.
        self.stops = max(1, min(_STOPS, int(2 * affordable / most)))
        samples = max(least, min(most, int(affordable / self.stops)))
        self._runs = -(-samples // self.data.per_call)
        self._several = is_batched(self.model)
        self._open()
        self._expected = self._outputs({})

    def counts(self, most: int) -> list[int]:
        """After how many units of a group its readers are tried, growing towards all that may go."""
        parts = np.linspace(0, 1, self.stops + 1)[1:] ** 1.5
        return sorted({max(1, round(most * float(part))) for part in parts}) if most else []

    def error(self, layers: Sequence[tuple[Linear, Matrix]]) -> float:
        """Of the outputs, summed over them, when layers have other weights.

        Args:
            layers: of the model, with weights [outputs, features + 1].

        Returns:
            Of class probabilities the mean Kullback-Leibler divergence, of other outputs the squared error relative to
            the variance.
        """
        changed: dict[str, np.ndarray] = {}
        for linear, weights in layers:
            arrays = arrays_of(linear.node, weights)
            changed |= dict(zip(self._places[linear.node.name], arrays, strict=True))
        found = self._outputs(changed)
        return sum(self._distance(name, found) for name in self._names)

    def _distance(self, name: str, found: Sequence[Mapping[str, np.ndarray]]) -> float:
        lost, scale = 0.0, float(np.finfo(np.float32).tiny)
        for expected, run in zip(self._expected, found, strict=True):
            first, second = (values[name].astype(np.float64) for values in (expected, run))
            whole = np.isfinite(first)  # scores of what is masked may be infinite
            if not np.isfinite(second[whole]).all():
                return _WORST
            if name in self._classes:
                lost += _divergence(first, second)
                scale += first.size / first.shape[self._classes[name]]
            else:
                first, second = first[whole], second[whole]
                lost += float(((second - first) ** 2).sum())
                scale += float(((first - first.mean()) ** 2).sum()) if first.size else 0.0
        return max(0.0, lost) / scale

    def _open(self) -> None:
        """One session for all trials: the weights are inputs of it."""
        copy = self.model.clone()
        for node in copy.nodes("Conv", "Gemm", "MatMul"):
            linear = linear_of(node)
            if linear is None:
                continue
            set_linear(copy, node, linear.weights)
            arrays = arrays_of(node, linear.weights)
            fed = [copy.variable(f"{node.name}/tried", values.dtype, values.shape) for values in arrays]
            for index, tensor in enumerate(fed, start=1):
                copy.set_input(node, index, tensor)
            copy.graph.inputs.extend(fed)
            self._places[node.name] = [tensor.name for tensor in fed]
            self._fed |= dict(zip(self._places[node.name], arrays, strict=True))
        self._observation = Observation(copy, self._names)

    def _outputs(self, changed: Mapping[str, np.ndarray]) -> list[dict[str, np.ndarray]]:
        found, done = [], 0
        for feeds, where, count in batches(SpreadSamples(self.data, self._runs), self._several):
            found.append(self._observation.run({**feeds, **self._fed, **changed}, where)[0])
            done += count
            self.progress("measuring what outputs lose", min(done, self._runs), self._runs)
        return found


def has_scores(model: Model) -> bool:
    """Whether there is an output whose errors have a size: indices have none."""
    return any(np.dtype(tensor.dtype).kind == "f" for tensor in model.outputs)


def _divergence(first: np.ndarray, second: np.ndarray) -> float:
    least = float(np.finfo(np.float32).eps)
    return float((first * (np.log(first + least) - np.log(second + least))).sum())
