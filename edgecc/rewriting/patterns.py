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


class Pattern:
    """What a tensor must come from. Patterns are compared and keyed by identity."""


class Value(Pattern):
    """Any tensor."""


class Weight(Pattern):
    """Any constant tensor."""


class Scalar(Pattern):
    """A constant of one element, whatever its rank and value."""


class Number(Pattern):
    """A constant of one element with that value, up to the rounding of its type."""

    def __init__(self, value: float) -> None:
        self.value = value


class Rest(Pattern):
    """As the last input of an Op: all the inputs that are left, none included."""


class Op(Pattern):
    """The first output of a node of the default domain.

    Attributes:
        op: operator type.
        inputs: one pattern per input that the node has; those of commutative operators in either order.
    """

    def __init__(self, op: str, *inputs: Pattern | float) -> None:
        self.op = op
        self.inputs = tuple(_as_pattern(item) for item in inputs)


class AnyOf(Pattern):
    """One of several ways to write the same thing; the first that matches is taken."""

    def __init__(self, *options: Pattern) -> None:
        self.options = options


class Product(Pattern):
    """scale * factor * factor ..., through Mul and Div by constants in any order and nesting.

    Attributes:
        factors: patterns of what is not a scalar constant, in any order.
        scale: the product of all scalar constants.
    """

    def __init__(self, *factors: Pattern, scale: float = 1.0) -> None:
        self.factors = factors
        self.scale = scale


class Total(Pattern):
    """constant + term + term ..., through Add, Sum and Sub of constants in any order and nesting.

    Attributes:
        terms: patterns of what is not a scalar constant, in any order.
        constant: the sum of all scalar constants.
    """

    def __init__(self, *terms: Pattern, constant: float = 0.0) -> None:
        self.terms = terms
        self.constant = constant


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
