"""What each group of a model loses with its first, second ... unit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from edgecc.pruning.features import Linear, Matrix, by_channels, columns_of, linear_of, whole
from edgecc.pruning.rows import ProductTable, affordable, bytes_of_products, products_of
from edgecc.pruning.saliency import Curve, Reader, rescaled, static_curve, surgeon_curve
from edgecc.pruning.sensitivity import Trials, has_scores
from edgecc.statistics.grouping import grouped

if TYPE_CHECKING:
    from edgecc.data.calibration import CalibrationData
    from edgecc.model import Model, Node
    from edgecc.passes.base import WorkProgress
    from edgecc.pruning.groups import Coupling, Group, Unit

#: obs: optimal brain surgeon on what the readers read. activation: squared weights times the power of what they
#: multiply (Wanda, arXiv 2306.11695, for channels). magnitude: absolute weights, without data.
Criterion: TypeAlias = Literal["obs", "activation", "magnitude"]

#: Products of so many bytes are kept at a time.
_MEMORY = 512 << 20
#: Of layers of more features, channels alone are looked at: the inverse takes work that grows with the third power.
_FEATURES = 1152
#: Most multiply-accumulates of the model for one look at what layers read: larger models see fewer of the samples.
_WORK = 4e11


@dataclass(frozen=True)
class Planner:
    """What the curves are made from.

    Attributes:
        model: not changed.
        coupling: its groups.
        criterion: what a unit costs.
        keep: least share of a group that stays.
        progress: called after each run of the model.
        measured: whether errors of criterion obs are those of the model's outputs, not of the layers that read.
    """

    model: Model
    coupling: Coupling
    criterion: Criterion
    keep: float
    progress: WorkProgress
    measured: bool = False

    def curves(self, groups: Sequence[Group], data: CalibrationData | None) -> list[Curve]:
        """One for each group; those that no layer of known rows reads go by magnitude.

        Args:
            groups: of the coupling.
            data: samples; None only for criterion magnitude.
        """
        if self.criterion == "magnitude" or data is None:
            return [self._by_magnitude(group) for group in groups]
        found: list[Curve] = []
        trials = None
        if self.measured and self.criterion == "obs" and has_scores(self.model):
            trials = Trials(self.model, data, len(groups), self.progress)
        linears = [[one for layer in group.readers if (one := _narrow(layer.node)) is not None] for group in groups]
        sizes = {index: sum(map(bytes_of_products, several)) for index, several in enumerate(linears)}
        few = affordable(self.model, data, _WORK)
        for chunk in grouped(sizes, _MEMORY):
            asked = {id(linear.node): linear for index in chunk for linear in linears[index]}
            sums = products_of(self.model, list(asked.values()), few, "measuring channels", self.progress)
            tables = dict(zip(asked, sums, strict=True))
            for index in chunk:
                read = [(linear, tables[id(linear.node)]) for linear in linears[index]]
                found.append(self._by_data(groups[index], read, trials) if read else self._by_magnitude(groups[index]))
        return found

    def _most(self, group: Group) -> int:
        return len(group.units) - max(1, int(np.ceil(self.keep * len(group.units))))

    def _by_magnitude(self, group: Group) -> Curve:
        return static_curve(np.array([magnitude(unit) for unit in group.units]), self._most(group))

    def _by_data(self, group: Group, read: Sequence[tuple[Linear, ProductTable]], trials: Trials | None) -> Curve:
        roots = np.array([unit.root for unit in group.units])
        layers = {id(layer.node): layer for layer in group.readers}
        columns = [columns_of(layers[id(linear.node)], self.coupling, roots, linear.taps) for linear, _ in read]
        if self.criterion == "obs":
            readers = [Reader(linear.weights, sums, found) for (linear, sums), found in zip(read, columns, strict=True)]
            return self._by_surgeon([linear for linear, _ in read], readers, group, trials)
        scores = np.zeros(len(roots))
        for (linear, sums), found in zip(read, columns, strict=True):
            scores += _shares(linear.weights, sums, found)
        return static_curve(scores, self._most(group))

    def _by_surgeon(
        self, linears: Sequence[Linear], readers: Sequence[Reader], group: Group, trials: Trials | None
    ) -> Curve:
        most = self._most(group)
        if trials is None:
            return surgeon_curve(readers, len(group.units), most)
        counts, errors = trials.counts(most), []

        def watch() -> None:
            pairs = zip(linears, readers, strict=True)
            errors.append(trials.error([(linear, whole(reader.weights, linear)) for linear, reader in pairs]))

        return rescaled(surgeon_curve(readers, len(group.units), most, counts, watch), counts, errors)


def _narrow(node: Node) -> Linear | None:
    """A layer as it is measured: by channels where it has too many features."""
    linear = linear_of(node)
    if linear is None or linear.weights.shape[1] - 1 <= _FEATURES:
        return linear
    return by_channels(linear)


def _shares(weights: Matrix, sums: ProductTable, columns: Iterable[np.ndarray]) -> Matrix:
    """Squared weights times the power of what they multiply, of each unit, as shares of the layer's sum."""
    strength = (weights[:, :-1] ** 2).sum(axis=0) * np.diagonal(sums)[:-1]
    total = max(float(strength.sum()), float(np.finfo(np.float32).tiny))
    return np.array([strength[found].sum() for found in columns]) / total


def magnitude(unit: Unit) -> float:
    """Sum of its absolute weights."""
    total = 0.0
    for place in unit.places:
        taken = np.take(place.constant.values, place.indices, axis=place.axis)
        total += float(np.abs(taken.astype(np.float64)).sum())
    return total
