"""Factors on channels between linear nodes, from how large weights and data are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecc.rewriting.linear import Linear

if TYPE_CHECKING:
    from edgecc.rewriting.channel_regions import Region
    from edgecc.statistics.answers import Array

#: Rounds over all regions: depthwise convolutions in a row pass factors on from one to the next.
_MOST_ROUNDS = 200
#: Factors closer to 1 than this have converged, and larger ones than the second are worth an edit.
_CONVERGED, _WORTHWHILE = 1e-6, 1e-3
#: Channels that would need a larger factor, or one below its inverse, are dead or nearly so, and keep their scale.
LARGEST_FACTOR = 1000.0


class Peaks:
    """Largest magnitudes of a linear node's weights from each input channel to each output channel.

    Kept as [groups, outputs per group, inputs per group], so that factors are tried without touching the weights.
    """

    def __init__(self, linear: Linear) -> None:
        weights, groups = linear.weights, linear.groups
        largest = np.abs(weights).max(axis=tuple(range(2, weights.ndim))) if weights.ndim > 2 else np.abs(weights)
        rows_first = linear.node.op == "Conv" or linear.transposed
        self._values = largest.astype(np.float64).reshape(groups, -1, largest.shape[1])
        if not rows_first:
            self._values = np.ascontiguousarray(self._values.transpose(0, 2, 1))

    def rows(self) -> Array:
        """Largest weight of each output channel."""
        found: Array = self._values.max(axis=2).reshape(-1)
        return found

    def columns(self) -> Array:
        """Largest weight that each input channel meets."""
        found: Array = self._values.max(axis=1).reshape(-1)
        return found

    def scale(self, rows: Array | None = None, columns: Array | None = None) -> None:
        """Multiply by a factor for each output or input channel."""
        groups, outputs, inputs = self._values.shape
        if rows is not None:
            self._values *= rows.reshape(groups, outputs, 1)
        if columns is not None:
            self._values *= columns.reshape(groups, 1, inputs)


@dataclass(eq=False)
class Division:
    """What the channels of a region are divided by.

    Attributes:
        region: that they belong to.
        factors: float64 [channels], positive.
    """

    region: Region
    factors: Array

    @property
    def is_worthwhile(self) -> bool:
        """Whether any channel changes by more than rounding."""
        return bool(np.abs(np.log(self.factors)).max(initial=0.0) > _WORTHWHILE)


#: The factor of each channel, from the region, what its sources' channels are divided by so far, the largest weights
#: of its sources, and of its readers.
Rule = Callable[["Region", Any, Any, Any], Any]


def solve(found: Sequence[Region], rule: Rule) -> list[Division]:
    """Factors of all regions at once: what divides the outputs of a layer changes what its inputs should be.

    One factor for all channels of a region would change nothing for integers: the median is 1, and what converges is
    how channels of one tensor relate to each other.

    Args:
        found: regions to scale; in order of the graph.
        rule: see `Rule`; 1 for a channel that has none.

    Returns:
        One for each region, converged; channels whose factor would be beyond the limit have 1.
    """
    linears = {
        id(linear.node): linear
        for region in found
        for linear in (*(s for s in region.sources if isinstance(s, Linear)), *(r.linear for r in region.readers))
    }
    peaks = {key: Peaks(linear) for key, linear in linears.items()}
    divisions = [Division(region, np.ones(region.count)) for region in found]
    kept = [np.zeros(region.count, np.bool_) for region in found]
    for _ in range(_MOST_ROUNDS):
        largest = 0.0
        for division, fixed in zip(divisions, kept, strict=True):
            step = _step(division, fixed, peaks, rule)
            largest = max(largest, float(np.abs(np.log(step)).max(initial=0.0)))
            _apply(division, step, peaks)
        if largest < _CONVERGED:
            break
    return divisions


def _step(division: Division, fixed: Array, peaks: dict[int, Peaks], rule: Rule) -> Array:
    """The next factors; channels that turn out to need extreme ones get back what they had, and are fixed."""
    region = division.region
    rows, columns = np.zeros(region.count), np.zeros(region.count)
    for source in region.sources:
        if isinstance(source, Linear):
            np.maximum(rows, peaks[id(source.node)].rows(), out=rows)
    for reader in region.readers:
        np.maximum.at(columns, reader.channels.index, peaks[id(reader.linear.node)].columns())
    step = np.log(rule(region, division.factors, rows, columns))
    if fixed.all():
        return np.ones(region.count)
    step -= np.median(step[~fixed])
    fixed |= np.abs(np.log(division.factors) + step) > np.log(LARGEST_FACTOR)
    found: Array = np.where(fixed, 1 / division.factors, np.exp(step))
    return found


def _apply(division: Division, step: Array, peaks: dict[int, Peaks]) -> None:
    division.factors = division.factors * step
    for source in division.region.sources:
        if isinstance(source, Linear):
            peaks[id(source.node)].scale(rows=1 / step)
    for reader in division.region.readers:
        peaks[id(reader.linear.node)].scale(columns=step[reader.channels.index])


def balance(rows: Array, columns: Array) -> Array:
    """sqrt(r1 / r2), after which both are sqrt(r1 r2): data-free quantization, arXiv 1906.04721, section 4.1.

    A channel without weights on either side keeps its scale.
    """
    there = (rows > 0) & (columns > 0)
    return np.sqrt(np.divide(rows, columns, out=np.ones_like(rows), where=there))
