"""What a layer could become, what that costs and loses, and which layers become what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from edgecc.low_rank.factors import Basis
from edgecc.low_rank.ranks import evbmf_rank
from edgecc.low_rank.splits import TUCKER, Split
from edgecc.statistics.answers import Array

#: What a budget counts.
Measure: TypeAlias = Literal["macs", "params", "bytes"]
#: Ranks between the first two layers that are tried where there is a third one.
_RANKS = 24


@dataclass(frozen=True)
class Option:
    """A layer as two or three.

    Attributes:
        split: where; None for the layer as it is.
        rank, inner: channels between them; inner is 0 where there are two.
        macs, params: of all of them.
        itemsize: bytes of a weight.
        error: share of the output's variance that is lost.
    """

    split: Split | None
    rank: int
    inner: int
    macs: int
    params: int
    itemsize: int
    error: float

    def describe(self) -> str:
        """What becomes of a layer, in a few words."""
        if self.split is None:
            return "it stays"
        ranks = f"ranks {self.rank} and {self.inner}" if self.inner else f"rank {self.rank}"
        left = self.macs / max(1, self.split.full_macs())
        return f"{self.split.kind} factors of {ranks}: {left:.2f} of its work, {self.error:.2g} of the variance lost"

    def cost(self, measure: Measure) -> int:
        if measure == "macs":
            return self.macs
        return self.params if measure == "params" else self.params * self.itemsize


def unchanged(split: Split) -> Option:
    """The layer as it is."""
    return Option(None, 0, 0, split.full_macs(), split.full_params(), split.itemsize, 0.0)


def options_of(basis: Basis, multiple: int) -> list[Option]:
    """Everything at this split that saves multiply-accumulates and adds no weights.

    Args:
        basis: with what is lost.
        multiple: what ranks are divided by.
    """
    split = basis.split
    errors = basis.errors()
    ranks = range(multiple, len(errors), multiple)
    found = [_option(split, rank, 0, float(errors[rank])) for rank in ranks]
    if split.kind == TUCKER:
        for rank in _spread(ranks):
            inner = basis.inner_errors(rank)
            counts = range(multiple, min(len(inner), split.outputs), multiple)
            found += [_option(split, rank, count, float(inner[count])) for count in counts]
    return [option for option in found if saves(option)]


def evbmf_option(basis: Basis, weights: Array, multiple: int) -> list[Option]:
    """The one at the ranks that the weights have without noise, as they are unfolded at this split; none if that saves
    nothing.

    Args:
        basis: with what is lost.
        weights: [outputs, features].
        multiple: what ranks are divided by; they are rounded up.
    """
    split = basis.split
    errors = basis.errors()
    unfolded = np.concatenate([weights[:, taps] for taps in split.taps])
    rank = _rounded(evbmf_rank(unfolded), multiple)
    if rank >= len(errors):
        return []
    inner = _rounded(evbmf_rank(weights), multiple) if split.kind == TUCKER else 0
    if not 0 < inner < split.outputs:
        option = _option(split, rank, 0, float(errors[rank]))
    else:
        option = _option(split, rank, inner, float(basis.inner_errors(rank)[inner]))
    return [option] if saves(option) else []


def _rounded(rank: int, multiple: int) -> int:
    return max(multiple, -(-rank // multiple) * multiple)


def _spread(ranks: Sequence[int]) -> list[int]:
    """At most so many of them, evenly."""
    if not ranks:
        return []
    places = np.unique(np.linspace(0, len(ranks) - 1, min(len(ranks), _RANKS)).astype(int))
    return [ranks[int(place)] for place in places]


def _option(split: Split, rank: int, inner: int, error: float) -> Option:
    return Option(split, rank, inner, split.macs(rank, inner), split.params(rank, inner), split.itemsize, error)


def saves(option: Option) -> bool:
    """Whether there is less to do, and no more to store."""
    split = option.split
    return split is not None and option.macs < split.full_macs() and option.params <= split.full_params()


def by_energy(options: Sequence[Option], energy: float) -> Option | None:
    """The cheapest that keeps a share of the variance; None if none does."""
    able = [option for option in options if option.error <= 1 - energy]
    return min(able, key=lambda option: (option.macs, option.error), default=None)


def best_value(options: Sequence[Option]) -> Option | None:
    """The one with the least error for what it saves; None if there are none."""
    return min(options, key=_price, default=None)


def _price(option: Option) -> float:
    assert option.split is not None
    return option.error / (option.split.full_macs() - option.macs)


def frontier(options: Sequence[Option], measure: Measure) -> list[Option]:
    """Those that no mixture of two others beats, from the dearest to the cheapest."""
    hull: list[Option] = []
    for option in sorted(options, key=lambda o: (-o.cost(measure), o.error)):
        if hull and option.cost(measure) == hull[-1].cost(measure):
            continue
        while hull and option.error <= hull[-1].error:
            hull.pop()
        while len(hull) > 1 and _slope(hull[-2], option, measure) <= _slope(hull[-2], hull[-1], measure):
            hull.pop()
        hull.append(option)
    return hull


def _slope(dear: Option, cheap: Option, measure: Measure) -> float:
    return (cheap.error - dear.error) / max(1, dear.cost(measure) - cheap.cost(measure))


def to_budget(layers: Sequence[Sequence[Option]], measure: Measure, budget: float) -> list[Option]:
    """Choose for each layer, so that all of them together cost at most so much at the least sum of errors.

    Greedily along the lower convex hulls, which is optimal up to the last step (Everett 1963); for that one all layers
    are looked at.

    Args:
        layers: of each the options, the unchanged layer first.
        measure: what is counted.
        budget: the most that may be left.

    Returns:
        One for each layer; if the budget cannot be met, the cheapest.
    """
    hulls = [frontier(options, measure) for options in layers]
    chosen = [hull[0] for hull in hulls]
    left = sum(option.cost(measure) for option in chosen)
    for layer, step in _steps(hulls, measure):
        if left <= budget:
            break
        if left + step.cost(measure) - chosen[layer].cost(measure) <= budget:
            layer, step = _last_step(layers, chosen, measure, left - budget) or (layer, step)
        left += step.cost(measure) - chosen[layer].cost(measure)
        chosen[layer] = step
    return chosen


def to_floor(layers: Sequence[Sequence[Option]], measure: Measure, most: float, dearest: float) -> list[Option]:
    """How far it is sensible to go where a budget cannot be met: the same steps, the cheapest first.

    They end where the next one would take a layer beyond an error. All that come after it cost even more for what they
    save: going on until no layer may lose more takes the model apart. Layers of which all options are beyond stay.

    Args:
        layers: of each the options, the unchanged layer first.
        measure: what is counted.
        most: error of one layer.
        dearest: error for one of what is saved.

    Returns:
        One for each layer.
    """
    hulls = [frontier(options, measure) for options in layers]
    chosen = [hull[0] for hull in hulls]
    for layer, step in _steps(hulls, measure):
        if _slope(chosen[layer], step, measure) > dearest:
            break
        if step.error <= most:
            chosen[layer] = step
        elif len(hulls[layer]) > 1 and hulls[layer][1].error <= most:
            break
    return chosen


def cost_of(chosen: Sequence[Option], measure: Measure) -> int:
    """What the layers cost together."""
    return sum(option.cost(measure) for option in chosen)


def _steps(hulls: Sequence[Sequence[Option]], measure: Measure) -> list[tuple[int, Option]]:
    """Layers and what they become next, along all hulls, the cheapest for what it saves first."""
    steps = sorted(
        (_slope(hull[i], hull[i + 1], measure), layer, i + 1)
        for layer, hull in enumerate(hulls)
        for i in range(len(hull) - 1)
    )
    return [(layer, hulls[layer][place]) for _, layer, place in steps]


def _last_step(
    layers: Sequence[Sequence[Option]], chosen: Sequence[Option], measure: Measure, missing: float
) -> tuple[int, Option] | None:
    """The layer, and what it becomes, that saves at least so much at the least error; None if none alone does."""
    able = [
        (option.error - now.error, layer, option)
        for layer, (options, now) in enumerate(zip(layers, chosen, strict=True))
        for option in options
        if now.cost(measure) - option.cost(measure) >= missing
    ]
    best = min(able, key=lambda item: (item[0], item[2].cost(measure)), default=None)
    return None if best is None else best[1:]
