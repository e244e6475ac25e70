"""Patterns: what a part of a graph must look like, written as an expression over its last node's inputs.

    X = Value()
    ERF = Op("Erf", Product(X, scale=1 / math.sqrt(2)))
    GELU = Product(X, Total(ERF, constant=1.0), scale=0.5)

A pattern object that occurs twice stands for one and the same tensor. `Product` and `Total` stand for every way to
write a product or a sum with scalar constants: any order, any nesting, division for multiplication. They see the whole
product: write Product(X, X, X, scale=2), not Product(Product(X, X, X), scale=2).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass


@dataclass(frozen=True, eq=False)
class Pattern:
    """What a tensor must come from. Patterns are compared and keyed by identity."""


@dataclass(frozen=True, eq=False)
class Value(Pattern):
    """Any tensor."""


@dataclass(frozen=True, eq=False)
class Weight(Pattern):
    """Any constant tensor."""


@dataclass(frozen=True, eq=False)
class Scalar(Pattern):
    """A constant of one element, whatever its rank and value."""


@dataclass(frozen=True, eq=False)
class Number(Pattern):
    """A constant of one element with that value, up to the rounding of its type."""

    value: float


@dataclass(frozen=True, eq=False)
class Rest(Pattern):
    """As the last input of an Op: all the inputs that are left, none included."""


@dataclass(frozen=True, eq=False, init=False)
class Op(Pattern):
    """The first output of a node of the default domain.

    Attributes:
        op: operator type.
        inputs: one pattern per input that the node has; those of commutative operators in either order.
    """

    op: str
    inputs: tuple[Pattern, ...]

    def __init__(self, op: str, *inputs: Pattern | float) -> None:
        object.__setattr__(self, "op", op)
        object.__setattr__(self, "inputs", tuple(_as_pattern(item) for item in inputs))


@dataclass(frozen=True, eq=False, init=False)
class AnyOf(Pattern):
    """One of several ways to write the same thing; the first that matches is taken."""

    options: tuple[Pattern, ...]

    def __init__(self, *options: Pattern) -> None:
        object.__setattr__(self, "options", options)


@dataclass(frozen=True, eq=False, init=False)
class Product(Pattern):
    """scale * factor * factor ..., through Mul and Div by constants in any order and nesting.

    Attributes:
        factors: patterns of what is not a scalar constant, in any order.
        scale: the product of all scalar constants.
    """

    factors: tuple[Pattern, ...]
    scale: float

    def __init__(self, *factors: Pattern, scale: float = 1.0) -> None:
        object.__setattr__(self, "factors", factors)
        object.__setattr__(self, "scale", scale)


@dataclass(frozen=True, eq=False, init=False)
class Total(Pattern):
    """constant + term + term ..., through Add, Sum and Sub of constants in any order and nesting.

    Attributes:
        terms: patterns of what is not a scalar constant, in any order.
        constant: the sum of all scalar constants.
    """

    terms: tuple[Pattern, ...]
    constant: float

    def __init__(self, *terms: Pattern, constant: float = 0.0) -> None:
        object.__setattr__(self, "terms", terms)
        object.__setattr__(self, "constant", constant)


#: Operators whose two inputs may change places.
COMMUTATIVE = frozenset({"Add", "Mul", "Max", "Min", "Equal", "And", "Or", "Xor"})


@functools.cache
def root_ops(pattern: Pattern) -> frozenset[str]:
    """Operators that the last node of the pattern can be."""
    match pattern:
        case Op():
            return frozenset({pattern.op})
        case AnyOf():
            return frozenset().union(*(root_ops(option) for option in pattern.options))
        case Product():
            return frozenset({"Mul", "Div"})
        case Total():
            return frozenset({"Add", "Sub", "Sum"})
    raise TypeError(f"a pattern cannot end in {type(pattern).__name__}: it would match every tensor")


@functools.cache
def distance(pattern: Pattern, op: str) -> int:
    """From the pattern's last node to a node of that type, along the longest way; -1 where it has none.

    A pattern is a graph whose parts occur in many places: without the cache, every way through it would be walked.
    """
    inner: tuple[Pattern, ...]
    match pattern:
        case AnyOf():
            return max((distance(option, op) for option in pattern.options), default=-1)
        case Op():
            inner, own, levels = pattern.inputs, frozenset({pattern.op}), 1
        case Product():
            inner, own, levels = pattern.factors, frozenset({"Mul", "Div"}), len(pattern.factors) + 1
        case Total():
            inner, own, levels = pattern.terms, frozenset({"Add", "Sub", "Sum"}), len(pattern.terms) + 1
        case _:
            return -1
    furthest = max((distance(part, op) for part in inner), default=-1)
    if furthest >= 0:
        return levels + furthest
    return levels - 1 if op in own else -1


def _as_pattern(item: Pattern | float) -> Pattern:
    return item if isinstance(item, Pattern) else Number(float(item))
