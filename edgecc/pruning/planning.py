"""What each group of a model loses with its first, second ... unit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

import numpy as np

from edgecc.pruning.features import Linear, Matrix, by_channels, columns_of, linear_of, whole
from edgecc.pruning.output_errors import score_names
from edgecc.pruning.rows import ProductTable, affordable, bytes_of_products, products_of
from edgecc.pruning.saliency import Curve, Reader, rescaled, static_curve, surgeon_curve
from edgecc.pruning.sensitivity import Trials
from edgecc.pruning.unfitted import Product, products_in, shares_of, silent_places, strengths, unfitted_readers
from edgecc.statistics.grouping import grouped

if TYPE_CHECKING:
    from edgecc.data.calibration import CalibrationData
    from edgecc.model import Model, Node
    from edgecc.passes.base import WorkProgress
    from edgecc.pruning.groups import Coupling, Group, Unit
    from edgecc.pruning.ties import Labels
    from edgecc.pruning.tracking import Layer

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
        priced: whether groups are compared; otherwise the order within each is all that is asked for.
    """

    model: Model
    coupling: Coupling
    criterion: Criterion
    keep: float
    progress: WorkProgress
    measured: bool = False
    priced: bool = True

    def curves(self, groups: Sequence[Group], data: CalibrationData | None) -> list[Curve]:
        """One for each group, all of one scale: shares of what the layers that read it compute, or errors of outputs.

        Of a group that no layer reads (both factors of a product), units are ordered by magnitude.

        Args:
            groups: of the coupling.
            data: samples; None only for criterion magnitude.
        """
        if self.criterion == "magnitude" or data is None:
            return [static_curve(self._magnitudes(group), self._most(group)) for group in groups]
        found: list[Curve] = []
        readings = [_reading(group) for group in groups]
        trials = self._trials(readings, data)
        sizes = {index: sum(map(bytes_of_products, reading.asked())) for index, reading in enumerate(readings)}
        few = affordable(self.model, data, _WORK)
        for chunk in grouped(sizes, _MEMORY):
            asked = {_key(linear): linear for index in chunk for linear in readings[index].asked()}
            sums = products_of(self.model, list(asked.values()), few, "measuring channels", self.progress)
            tables = dict(zip(asked, sums, strict=True))
            found += [self._by_data(readings[index], tables, trials) for index in chunk]
        return found

    def _trials(self, readings: Sequence[_Reading], data: CalibrationData) -> Trials | None:
        """None if nothing is measured on the model's outputs."""
        if not self.measured or self.criterion != "obs" or not score_names(self.model):
            return None
        others = [reading for reading in readings if not reading.is_fitted]
        if not self.priced and not others:
            return None
        places = [place for reading in others for place in silent_places(reading.layers, reading.group.units)]
        silent = {id(place.constant): place.constant for place in places}
        units = sum(len(reading.group.units) for reading in others)
        return Trials(self.model, data, len(readings), self.progress, tuple(silent.values()), units)

    def _most(self, group: Group) -> int:
        return len(group.units) - max(1, int(np.ceil(self.keep * len(group.units))))

    def _magnitudes(self, group: Group) -> Matrix:
        return np.array([magnitude(unit) for unit in group.units])

    def _by_data(self, reading: _Reading, tables: Mapping[_Key, ProductTable], trials: Trials | None) -> Curve:
        group, read = reading.group, [(linear, tables[_key(linear)]) for linear in reading.linears]
        roots = np.array([unit.root for unit in group.units])
        layers = {id(layer.node): layer for layer in group.readers}
        columns = [columns_of(layers[id(linear.node)], self.coupling, roots, linear.taps) for linear, _ in read]
        scores = self._unfitted(reading, roots, tables, trials)
        if self.criterion == "obs":
            readers = [Reader(linear.weights, sums, found) for (linear, sums), found in zip(read, columns, strict=True)]
            return self._by_surgeon(reading, readers, scores, trials)
        for (linear, sums), found in zip(read, columns, strict=True):
            scores += _shares(linear.weights, sums, found)
        return static_curve(scores, self._most(group))

    def _unfitted(
        self, reading: _Reading, roots: Labels, tables: Mapping[_Key, ProductTable], trials: Trials | None
    ) -> Matrix:
        """What each unit costs beside what the layers that are fitted lose."""
        scores = np.zeros(len(roots))
        if reading.is_fitted:
            return scores
        for products in reading.products:
            measured = [(product, tables[_key(product.linear)]) for product in products]
            scores += shares_of(measured, self.coupling, roots)
        if not reading.layers:
            scores = _normalized(self._magnitudes(reading.group))
        if trials is None or not trials.can_try_units:
            return scores
        # What outputs lose does not show what layers behind could make up for, and what layers lose not whether it
        # matters: both together order units better than either.
        alone = trials.unit_errors([silent_places(reading.layers, [unit]) for unit in reading.group.units])
        return _normalized(scores) + _normalized(alone)

    def _by_surgeon(self, reading: _Reading, readers: Sequence[Reader], scores: Matrix, trials: Trials | None) -> Curve:
        units = reading.group.units
        most = self._most(reading.group)
        if trials is None or not self.priced:
            return surgeon_curve(readers, len(units), most, others=scores)
        counts, errors = trials.counts(most), []

        def watch(gone: Labels) -> None:
            pairs = zip(reading.linears, readers, strict=True)
            fitted = [(linear, whole(reader.weights, linear)) for linear, reader in pairs]
            silent = [] if reading.is_fitted else silent_places(reading.unfitted, [units[unit] for unit in gone])
            errors.append(trials.error(fitted, silent))

        return rescaled(surgeon_curve(readers, len(units), most, counts, watch, scores), counts, errors)


class _Reading(NamedTuple):
    """What reads a group.

    Attributes:
        group: of the coupling.
        linears: layers that are fitted.
        unfitted: the others.
        products: what each of these sums over.
    """

    group: Group
    linears: list[Linear]
    unfitted: list[Layer]
    products: list[list[Product]]

    @property
    def is_fitted(self) -> bool:
        """Whether all that reads it is; something does."""
        return bool(self.linears) and not self.unfitted

    @property
    def layers(self) -> list[Layer]:
        """All of them."""
        known = {id(linear.node) for linear in self.linears}
        return [*(layer for layer in self.group.readers if id(layer.node) in known), *self.unfitted]

    def asked(self) -> list[Linear]:
        """What must be measured."""
        return [*self.linears, *(product.linear for products in self.products for product in products)]


def _reading(group: Group) -> _Reading:
    linears = [one for layer in group.readers if (one := _narrow(layer.node)) is not None]
    unfitted = unfitted_readers(group)
    return _Reading(group, linears, unfitted, [products_in(layer) for layer in unfitted])


def _normalized(scores: Matrix) -> Matrix:
    found: Matrix = scores / max(float(scores.sum()), float(np.finfo(np.float32).tiny))
    return found


#: By what a layer's products are found again: a recurrent layer has several.
_Key: TypeAlias = tuple[int, str]


def _key(linear: Linear) -> _Key:
    return id(linear.node), linear.request.tensor


def _narrow(node: Node) -> Linear | None:
    """A layer as it is measured: by channels where it has too many features."""
    linear = linear_of(node)
    if linear is None or linear.weights.shape[1] - 1 <= _FEATURES:
        return linear
    return by_channels(linear)


def _shares(weights: Matrix, sums: ProductTable, columns: Iterable[np.ndarray]) -> Matrix:
    """Squared weights times the power of what they multiply, of each unit, as shares of the layer's sum."""
    strength = strengths(weights, sums)
    total = max(float(strength.sum()), float(np.finfo(np.float32).tiny))
    return np.array([strength[found].sum() for found in columns]) / total


def magnitude(unit: Unit) -> float:
    """Sum of its absolute weights."""
    total = 0.0
    for place in unit.places:
        taken = np.take(place.constant.values, place.indices, axis=place.axis)
        total += float(np.abs(taken.astype(np.float64)).sum())
    return total
