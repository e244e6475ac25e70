"""Which integer each weight becomes, so that the layer's output changes least."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from edgecc.statistics.answers import Array

#: Columns that are rounded one after the other before the rest of the matrix learns of it.
_BLOCK = 32
#: Part of the mean diagonal that is added to the diagonal before it is factorized.
_DAMPING = 0.01
#: What is added where a layer reads nothing but zeros.
_SMALLEST = 1e-30
#: Features up to which a second start is tried: each costs as much again.
_FEW = 1024
#: Rounds of coordinate descent at most, and the part of the weights that has to move for another one.
_SWEEPS, _FEW_MOVES = 3, 1e-3


@dataclass(frozen=True)
class Choices:
    """Integers that weights may become; all arrays are float32 [groups, outputs, features] or broadcast to it.

    Attributes:
        weights: the real weights.
        scale: real weight = scale * (integer - zero), positive.
        zero: zero points.
        low: the smallest integer that each may become.
        high: the largest.
    """

    weights: Array
    scale: Array
    zero: Array
    low: Array
    high: Array

    def nearest(self) -> Array:
        """The nearest integers, float32."""
        found: Array = np.clip(np.rint(self.weights / self.scale) + self.zero, self.low, self.high)
        return found

    def beside(self) -> Choices:
        """Only the integer below the real weight and the one above, as AdaRound chooses between (arXiv 2004.10568)."""
        below = np.floor(self.weights / self.scale) + self.zero
        low = np.clip(below, self.low, self.high)
        return Choices(self.weights, self.scale, self.zero, low, np.clip(below + 1, self.low, self.high))

    def error(self, integers: Array) -> Array:
        """Real weight of the integers - real weight."""
        result: Array = (integers - self.zero) * self.scale - self.weights
        return result

    def turned(self) -> Choices:
        """With features in front of outputs, so that those of one feature lie beside each other."""
        parts = (self.weights, self.scale, self.zero, self.low, self.high)
        return Choices(*(np.ascontiguousarray(np.swapaxes(part, 1, 2)) for part in parts))


def _feature(values: Array, place: int) -> Array:
    """One feature of an array that was turned and may broadcast: [groups, outputs or 1]."""
    result: Array = values[:, place if values.shape[1] > 1 else 0]
    return result


def cost(error: Array, products: Array) -> Array:
    """Mean square of what the errors of weights do to each output: float64 [groups, outputs].

    Args:
        error: [groups, outputs, features].
        products: mean of x xᵀ over what the layer reads, [groups, features, features].
    """
    result: Array = np.einsum("gof,gof->go", error @ products, error, dtype=np.float64)
    return result


def round_weights(choices: Choices, products: Array) -> Array:
    """Integers with a small cost, never more than that of the nearest ones for any output.

    Features are rounded one after the other, each so as to make good what those before it did as far as one number can:
    the nearest plane algorithm of Babai, which is GPTQ (arXiv 2210.17323) in the other direction and needs no inverse.
    Then single integers are moved as long as that lowers the cost, which is the objective that AdaRound relaxes.

    Args:
        choices: what each weight may become.
        products: mean of x xᵀ, float32 [groups, features, features]; not changed.

    Returns:
        Float32 [groups, outputs, features], integers.
    """
    found = nearest = choices.nearest()
    least = cost(choices.error(nearest), products)
    turned = choices.turned()
    starts = [_in_order(turned, products)]
    if products.shape[-1] <= _FEW:
        starts.append(turned.nearest())
    for start in starts:
        integers = np.swapaxes(_descended(turned, start, products), 1, 2)
        reached = cost(choices.error(integers), products)
        found = np.where((reached < least)[..., np.newaxis], integers, found)
        least = np.minimum(reached, least)
    return found


def _in_order(turned: Choices, products: Array) -> Array:
    """Each feature so that, with all that were rounded before, the cost is least; the strongest features first."""
    groups, features = products.shape[0], products.shape[-1]
    order = np.argsort(np.diagonal(products, axis1=1, axis2=2).mean(axis=0), kind="stable")
    factor = np.empty_like(products)
    for group in range(groups):
        part = products[group][np.ix_(order, order)].astype(np.float64)
        diagonal = np.einsum("ii->i", part)
        diagonal += _DAMPING * max(float(diagonal.mean()), _SMALLEST)
        factor[group] = np.linalg.cholesky(part)
    integers, error = turned.nearest(), np.zeros(turned.weights.shape, np.float32)
    for end in range(features, 0, -_BLOCK):
        begin = max(0, end - _BLOCK)
        # What the features behind this block, which are rounded already, do to each column of the factor.
        behind = np.swapaxes(factor[:, end:, begin:end], 1, 2) @ error[:, end:]
        for place in range(end - 1, begin - 1, -1):
            feature = order[place]
            shift = behind[:, place - begin] / factor[:, place, place, np.newaxis]
            scale, zero = _feature(turned.scale, feature), _feature(turned.zero, feature)
            weights = turned.weights[:, feature]
            low, high = _feature(turned.low, feature), _feature(turned.high, feature)
            rounded = np.clip(np.rint((weights - shift) / scale) + zero, low, high)
            integers[:, feature] = rounded
            error[:, place] = (rounded - zero) * scale - weights
            behind[:, : place - begin] += factor[:, place, begin:place, np.newaxis] * error[:, place, np.newaxis]
    return integers


def _descended(turned: Choices, start: Array, products: Array) -> Array:
    """Coordinate descent: each integer in turn to where the cost is least, until few move."""
    integers = start.copy()
    slope = products @ turned.error(integers)
    for _ in range(_SWEEPS):
        moved = 0
        for begin in range(0, products.shape[-1], _BLOCK):
            moved += _descend_block(turned, integers, slope, products, begin)
        if moved <= _FEW_MOVES * integers.size:
            break
    return integers


def _descend_block(turned: Choices, integers: Array, slope: Array, products: Array, begin: int) -> int:
    """Move the integers of some features in place, and the slope with them; how many moved."""
    end = min(products.shape[-1], begin + _BLOCK)
    local = slope[:, begin:end].copy()
    change = np.zeros_like(local)
    for place in range(begin, end):
        curvature = products[:, place, place, np.newaxis]
        scale = _feature(turned.scale, place)
        here = local[:, place - begin]
        wanted = np.divide(-here, curvature * scale, where=curvature > 0, out=np.zeros_like(here))
        low, high = _feature(turned.low, place), _feature(turned.high, place)
        steps = np.clip(integers[:, place] + np.rint(wanted), low, high) - integers[:, place]
        if not steps.any():
            continue
        integers[:, place] += steps
        change[:, place - begin] = steps * scale
        # Features of the block that were seen before learn of it with all the others.
        after = products[:, place + 1 : end, place, np.newaxis] * change[:, place - begin, np.newaxis]
        local[:, place - begin + 1 :] += after
    count = int(np.count_nonzero(change))
    if count:
        slope += products[:, :, begin:end] @ change
    return count
