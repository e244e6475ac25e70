"""Patterns of what normalizations have in common: a mean, a variance, the difference divided by the deviation.

Exporters write (x - mean) / sqrt(variance + epsilon) in many ways; here each is written once, for every pass that wants
it. A pattern stands for a place in one match, so that passes can share these objects.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgecc.rewriting.absorption import last_dims, over_channels, over_last_axes
from edgecc.rewriting.matching import Match
from edgecc.rewriting.patterns import AnyOf, Op, Pattern, Value, Weight
from edgecc.rewriting.reading import integers, is_op, rank, same_shape, scalar

if TYPE_CHECKING:
    from edgecc.model import Model, Node, Tensor

#: What is normalized.
X = Value()
EPSILON = Weight()
#: Constants that some spellings multiply and add on the way, before they meet x.
SCALE, BIAS = Weight(), Weight()

#: Constants by which jax makes a mean of a sum: divisors and factors.
_DIVISORS: list[Weight] = []
_FACTORS: list[Weight] = []


def mean_of(pattern: Pattern) -> Pattern:
    """The mean over constant axes, which `common_axes` reads; jax sums and divides."""
    divisor, factor = Weight(), Weight()
    _DIVISORS.append(divisor)
    _FACTORS.append(factor)
    total = _kept(Op("ReduceSum", pattern, Weight()))
    return _kept(AnyOf(Op("ReduceMean", pattern, Weight()), Op("Div", total, divisor), Op("Mul", total, factor)))


def _kept(pattern: Pattern) -> Pattern:
    """The pattern, or with the axes put back that it reduced."""
    return AnyOf(pattern, Op("Unsqueeze", pattern, Weight()), Op("Reshape", pattern, Weight()))


def square_of(pattern: Pattern) -> Pattern:
    return AnyOf(Op("Pow", pattern, 2), Op("Mul", pattern, pattern))


def inverse_root_of(pattern: Pattern) -> Pattern:
    """1 / sqrt(pattern), as a factor."""
    root = Op("Sqrt", pattern)
    return AnyOf(
        Op("Reciprocal", root),
        Op("Div", 1, root),
        Op("Pow", pattern, -0.5),
        Op("Sqrt", Op("Reciprocal", pattern)),
    )


def normalized(centred: Pattern, shifted: Pattern) -> Pattern:
    """The quotient of centred and sqrt(shifted), times SCALE if that is multiplied to the deviation first."""
    inverse = inverse_root_of(shifted)
    return AnyOf(
        Op("Div", centred, AnyOf(Op("Sqrt", shifted), Op("Pow", shifted, 0.5))),
        Op("Mul", centred, AnyOf(inverse, Op("Mul", inverse, SCALE))),
    )


_MEAN = mean_of(X)
#: flax computes E[x^2] - E[x]^2, which is the same number, with more rounding.
_FAST = Op("Sub", mean_of(square_of(X)), square_of(mean_of(X)))
VARIANCE = AnyOf(mean_of(square_of(Op("Sub", X, mean_of(X)))), _FAST, Op("Max", _FAST, 0), Op("Relu", _FAST))
_SHIFTED = Op("Add", VARIANCE, EPSILON)

_INVERSE = inverse_root_of(_SHIFTED)
_FACTOR = AnyOf(_INVERSE, Op("Mul", _INVERSE, SCALE))
_MOVED = Op("Mul", _MEAN, _FACTOR)
_MOVED_BACK = AnyOf(Op("Mul", Op("Neg", _MEAN), _FACTOR), Op("Neg", _MOVED))
_SCALED = Op("Mul", X, _FACTOR)

#: (x - mean) / sqrt(variance + epsilon), and TensorFlow's x * factor + (bias - mean * factor).
STANDARDIZED = AnyOf(
    normalized(Op("Sub", X, _MEAN), _SHIFTED),
    Op("Add", _SCALED, AnyOf(Op("Sub", BIAS, _MOVED), Op("Add", BIAS, _MOVED_BACK), _MOVED_BACK)),
    Op("Sub", _SCALED, _MOVED),
)


def common_axes(found: Match) -> tuple[int, ...] | str:
    """The axes that every reduction of the match takes, sorted; or why they are not what a normalization needs.

    Each result must keep the axes, by itself or through a Reshape, to be subtracted from x.
    """
    x = found.tensor(X)
    count = rank(x)
    if count is None or x.shape is None:
        return f"the rank of {x.name!r} is not known"
    axes: tuple[int, ...] | None = None
    for node in found.nodes:
        if node.op not in ("ReduceMean", "ReduceSum"):
            continue
        taken = _axes_of(node, count)
        if taken is None or (axes is not None and taken != axes):
            return f"{node.name} does not reduce the axes that the other reductions do"
        if not _keeps_axes(node, x, taken):
            return f"the result of {node.name} does not keep the axes that it reduces"
        axes = taken
    assert axes is not None, "the pattern has a mean"
    for node in found.nodes:
        # Behind a result that keeps its axes, too: in another order, it is subtracted from other rows.
        if node.op in ("Reshape", "Unsqueeze") and not _has_shape(node.outputs[0], _reduced(x, axes)):
            return f"{node.name} does not put back the axes that were reduced"
    return axes if _counts_are_right(found, x, axes) else "its sums are not divided by the number of elements"


def _axes_of(node: Node, count: int) -> tuple[int, ...] | None:
    axes = integers(node, 1)
    return None if not axes else tuple(sorted({axis % count for axis in axes}))


def _keeps_axes(node: Node, x: Tensor, axes: tuple[int, ...]) -> bool:
    if node.attrs.get("keepdims", 1):
        return True
    wanted, result = _reduced(x, axes), node.outputs[0]
    # The division by the count may lie between.
    for _ in range(3):
        if _has_shape(result, wanted):
            return True
        if len(result.outputs) != 1 or result.outputs[0].op not in ("Mul", "Div", "Unsqueeze", "Reshape"):
            return False
        result = result.outputs[0].outputs[0]
    return False


def _reduced(x: Tensor, axes: tuple[int, ...]) -> list[int | str]:
    """The shape of a mean that keeps its axes."""
    assert x.shape is not None, "common_axes() has seen to it"
    return [1 if axis in axes else dim for axis, dim in enumerate(x.shape)]


def _has_shape(tensor: Tensor, wanted: list[int | str]) -> bool:
    return tensor.shape is not None and list(tensor.shape) == wanted


def _counts_are_right(found: Match, x: Tensor, axes: tuple[int, ...]) -> bool:
    """Whether every sum is divided by the number of its elements."""
    divisors = [scalar(found.tensor(count)) for count in _DIVISORS if found.has(count)]
    factors = [scalar(found.tensor(count)) for count in _FACTORS if found.has(count)]
    if not divisors and not factors:
        return True
    number = elements(x, axes)
    if number is None:
        return False
    return all(_is_close(d, number) for d in divisors) and all(_is_close(f, 1 / number) for f in factors)


def elements(x: Tensor, axes: tuple[int, ...]) -> int | None:
    """How many elements these axes have, if that is known."""
    if x.shape is None or not all(isinstance(x.shape[axis], int) for axis in axes):
        return None
    return math.prod(int(x.shape[axis]) for axis in axes)


def _is_close(value: float | None, wanted: float) -> bool:
    return value is not None and abs(value - wanted) <= 1e-6 * wanted


@dataclass(frozen=True)
class Parts:
    """What a normalization is made of.

    Attributes:
        axis: the first that is normalized, not negative.
        epsilon: added to the variance.
        scale: in x's type; ones if nothing is multiplied.
        bias: likewise; None if nothing is added.
    """

    axis: int
    epsilon: float
    scale: np.ndarray
    bias: np.ndarray | None


def first_axis(found: Match) -> int | str:
    """The first of the last axes that the match normalizes; or why it does not normalize last axes."""
    x = found.tensor(X)
    axes = common_axes(found)
    if isinstance(axes, str):
        return axes
    if axes != tuple(range(axes[0], rank(x) or 0)):
        return f"it normalizes the axes {list(axes)}, which are not the last ones of {x.name!r}"
    if not same_shape(x, found.output):
        return f"a constant broadcasts {x.name!r} to another shape"
    return axes[0]


def layer_parts(found: Match, axis: int) -> Parts | str:
    """Read a normalization over the axes from `axis` on, with a scale over these; or why it is none."""
    x = found.tensor(X)
    dims = last_dims(x, axis)
    if dims is None:
        return f"the sizes of the normalized axes of {x.name!r} are not known, or too large for a scale"
    return _parts(found, axis, dims, lambda values: over_last_axes(values, x, axis))


def channel_parts(found: Match) -> Parts | str:
    """Read a normalization over the axes from 2 on, with a scale over axis 1; or why it is none."""
    x = found.tensor(X)
    if x.shape is None or not isinstance(x.shape[1], int):
        return f"the number of channels of {x.name!r} is not known"
    return _parts(found, 2, (x.shape[1],), lambda values: over_channels(values, x))


def _parts(
    found: Match, axis: int, shape: tuple[int, ...], spread: Callable[[np.ndarray], np.ndarray | None]
) -> Parts | str:
    epsilon = scalar(found.tensor(EPSILON))
    if epsilon is None or not epsilon >= 0:
        return f"the epsilon {found.tensor(EPSILON).name!r} is not one positive number"
    # Copies: a constant of the model must not share its array with another one.
    scale = spread(found.constant(SCALE)) if found.has(SCALE) else np.ones(shape, found.tensor(X).dtype)
    bias = spread(found.constant(BIAS)) if found.has(BIAS) else None
    if scale is None or (found.has(BIAS) and bias is None):
        return "its scale or bias does not differ along the axes that a scale has"
    return Parts(axis, epsilon, np.array(scale), None if bias is None else np.array(bias))


def prefers_channels(found: Match, axis: int, model: Model) -> bool:
    """Whether a normalization from `axis` on is one of each channel's space, which InstanceNormalization says.

    Mean and variance do not tell when axis is 2: the constants behind them do. Without any, it is one of channels if
    more than one axis is normalized, or Reshapes around it merged some: (batch, tokens, features) is what transformers
    have, (batch, groups, rest) what a normalization of groups is written with.
    """
    x = found.tensor(X)
    if axis != 2 or x.shape is None or not isinstance(x.shape[1], int):
        return False
    constants = [found.constant(part) for part in (SCALE, BIAS) if found.has(part)] + _constant_behind(found, model)
    for values in constants:
        layer, channel = over_last_axes(values, x, axis) is not None, over_channels(values, x) is not None
        if layer != channel:
            return channel
    return len(x.shape) > 3 or _is_between_reshapes(found, model)


def _is_between_reshapes(found: Match, model: Model) -> bool:
    before, behind = model.producer(found.tensor(X)), model.single_consumer(found.output)
    return is_op(before, "Reshape") and is_op(behind, "Reshape")


def _constant_behind(found: Match, model: Model) -> list[np.ndarray]:
    """The constant that the next node multiplies or adds."""
    from edgecc.model import value_of

    reader = model.single_consumer(found.output)
    if reader is None or not is_op(reader, "Mul", "Add"):
        return []
    return [values for values in map(value_of, reader.inputs) if values is not None]
