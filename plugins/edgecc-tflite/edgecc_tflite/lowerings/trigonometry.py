"""Trigonometric and hyperbolic functions, from ATAN2 and LOG, to float32 accuracy everywhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from edgecc_tflite.lowerings.base import LoweringRule
from edgecc_tflite.lowerings.constraints import FLOAT, typed

if TYPE_CHECKING:
    from edgecc_tflite.ir import Tensor
    from edgecc_tflite.lowerings.context import Lowering

#: From here on x^2 + 1 is x^2 in float32.
_LARGE = 1e6
#: Up to here log(1 + y) is a series, of that many terms behind the first.
_SMALL, _TERMS = 0.5, 5


def _tan(c: Lowering) -> None:
    c.binary("DIV", c.unary("SIN", c.x()), c.unary("COS", c.x()), c.out())


def _atan(c: Lowering) -> None:
    """ATAN2 does not broadcast, so the 1 needs the shape of x."""
    ones = c.binary("ADD", c.unary("ZEROS_LIKE", c.x()), c.scalar(1.0))
    c.emit("ATAN2", [c.x(), ones], c.out())


def _asin(c: Lowering) -> None:
    c.emit("ATAN2", [c.x(), _cathetus(c, c.x())], c.out())


def _acos(c: Lowering) -> None:
    c.emit("ATAN2", [_cathetus(c, c.x()), c.x()], c.out())


def _cathetus(c: Lowering, x: Tensor) -> Tensor:
    """sqrt(1 - x^2), as a product that does not cancel near 1."""
    one = c.scalar(1.0)
    return c.unary("SQRT", c.binary("MUL", c.binary("SUB", one, x), c.binary("ADD", one, x)))


def _sinh(c: Lowering) -> None:
    """(u + u / (u + 1)) / 2 with u = e^x - 1, which ELU computes without cancellation for x < 0."""
    negative = c.unary("ELU", c.unary("NEG", c.unary("ABS", c.x())))
    ratio = c.binary("DIV", negative, c.binary("ADD", negative, c.scalar(1.0)))
    half = c.binary("MUL", c.binary("ADD", negative, ratio), c.scalar(-0.5))
    c.binary("MUL", half, c.unary("SIGN", c.x()), c.out())


def _cosh(c: Lowering) -> None:
    total = c.binary("ADD", c.unary("EXP", c.x()), c.unary("EXP", c.unary("NEG", c.x())))
    c.binary("MUL", total, c.scalar(0.5), c.out())


def _asinh(c: Lowering) -> None:
    """sign(x) log(a + sqrt(a^2 + 1)) with a = |x|, as log(1 + ...) for the small ones."""
    size = c.unary("ABS", c.x())
    a = c.binary("MINIMUM", size, c.scalar(_LARGE))
    square = c.unary("SQUARE", a)
    root = c.unary("SQRT", c.binary("ADD", square, c.scalar(1.0)))
    excess = c.binary("ADD", a, c.binary("DIV", square, c.binary("ADD", root, c.scalar(1.0))))
    _with_sign(c, _log_of_double_if_large(c, size, _log_one_plus(c, excess)))


def _acosh(c: Lowering) -> None:
    """log(x + sqrt(x^2 - 1)), as log(1 + ...) for those near 1."""
    t = c.binary("SUB", c.binary("MINIMUM", c.x(), c.scalar(_LARGE)), c.scalar(1.0))
    square = c.binary("MUL", t, c.binary("ADD", t, c.scalar(2.0)))
    small = _log_one_plus(c, c.binary("ADD", t, c.unary("SQRT", square)))
    _log_of_double_if_large(c, c.x(), small, c.out())


def _log_of_double_if_large(c: Lowering, x: Tensor, small: Tensor, out: Tensor | None = None) -> Tensor:
    logarithm = c.unary("LOG", x)
    # The built-in kernels make the largest float of an infinite sum.
    large = c.binary("MAXIMUM", c.binary("ADD", logarithm, c.scalar(np.log(2.0))), logarithm)
    is_large = c.binary("GREATER", x, c.scalar(_LARGE), dtype=np.bool_)
    return c.emit("SELECT_V2", [is_large, large, small], out, shape=x.shape, dtype=x.dtype)


def _atanh(c: Lowering) -> None:
    """log((1 + a) / (1 - a)) / 2 with a = |x|, as log(1 + ...)."""
    size = c.unary("ABS", c.x())
    excess = c.binary("DIV", c.binary("ADD", size, size), c.binary("SUB", c.scalar(1.0), size))
    half = c.binary("MUL", _log_one_plus(c, excess), c.scalar(0.5))
    is_one = c.binary("EQUAL", size, c.scalar(1.0), dtype=np.bool_)
    _with_sign(c, c.emit("SELECT_V2", [is_one, c.scalar(np.inf), half], shape=half.shape, dtype=half.dtype))


def _with_sign(c: Lowering, size: Tensor) -> None:
    """The sign of x. No product: the built-in kernels make the largest float of an infinite one."""
    is_negative = c.binary("LESS", c.x(), c.scalar(0.0), dtype=np.bool_)
    c.emit("SELECT_V2", [is_negative, c.unary("NEG", size), size], c.out())


def _log_one_plus(c: Lowering, y: Tensor) -> Tensor:
    """log(1 + y) for y >= 0, relative to its size: near 1 the delegated LOG is only exact to 1e-7 as it stands.

    For small y it is 2 artanh(s) = 2 s (1 + s^2/3 + s^4/5 ...) with s = y / (2 + y).
    """
    s = c.binary("DIV", y, c.binary("ADD", y, c.scalar(2.0)))
    square = c.unary("SQUARE", s)
    series = c.scalar(2.0 / (2 * _TERMS + 1))
    for term in reversed(range(_TERMS)):
        series = c.binary("ADD", c.binary("MUL", series, square), c.scalar(2.0 / (2 * term + 1)))
    is_small = c.binary("LESS", y, c.scalar(_SMALL), dtype=np.bool_)
    logarithm = c.unary("LOG", c.binary("ADD", y, c.scalar(1.0)))
    return c.emit("SELECT_V2", [is_small, c.binary("MUL", s, series), logarithm], shape=y.shape, dtype=y.dtype)


def _rule(op: str, lower: Callable[[Lowering], None], emits: str) -> LoweringRule:
    return LoweringRule(op, lower, tuple(emits.split()), (typed(FLOAT),), since=7)


_LOG1P = "ADD SUB EQUAL DIV SELECT_V2 LOG MUL SQUARE LESS"

RULES = (
    _rule("Tan", _tan, "SIN COS DIV"),
    _rule("Asin", _asin, "SUB ADD MUL SQRT ATAN2"),
    _rule("Acos", _acos, "SUB ADD MUL SQRT ATAN2"),
    _rule("Atan", _atan, "ZEROS_LIKE ADD ATAN2"),
    _rule("Sinh", _sinh, "ABS NEG ELU ADD DIV MUL SIGN"),
    _rule("Cosh", _cosh, "EXP NEG ADD MUL"),
    _rule("Asinh", _asinh, f"ABS MINIMUM MAXIMUM SQRT GREATER NEG {_LOG1P}"),
    _rule("Acosh", _acosh, f"MINIMUM MAXIMUM SQRT GREATER {_LOG1P}"),
    _rule("Atanh", _atanh, f"ABS NEG {_LOG1P}"),
)
