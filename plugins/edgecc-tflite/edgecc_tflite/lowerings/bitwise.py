"""Bits of integers. TFLite has an "and" for all integers; the rest is arithmetic that wraps around."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from edgecc_tflite.ir import Tensor
from edgecc_tflite.lowerings.base import Constraint, LoweringRule
from edgecc_tflite.lowerings.constraints import typed
from edgecc_tflite.lowerings.detours import MODULAR_INTS, by_bits, detoured

if TYPE_CHECKING:
    from edgecc_tflite.lowerings.context import Lowering
    from edgecc_tflite.lowerings.node_view import NodeView

_INTS = frozenset({"int32", "int64"})
_TYPED = typed(_INTS)
#: A narrow integer's bits are those of the wider one that holds its value; the widest ones keep theirs.
_BITS = MODULAR_INTS | {"uint32": by_bits("int32")}


def _and_of(c: Lowering, a: Tensor, b: Tensor, out: Tensor | None = None) -> Tensor:
    """STABLEHLO_AND, which does not broadcast."""
    a, b = c.broadcast_all([a, b])
    return c.emit("STABLEHLO_AND", [a, b], out)


def _and(c: Lowering) -> None:
    _and_of(c, c.x(0), c.x(1), c.out())


def _or(c: Lowering) -> None:
    """What both have is counted once."""
    a, b = c.x(0), c.x(1)
    c.binary("SUB", c.binary("ADD", a, b), _and_of(c, a, b), c.out())


def _xor(c: Lowering) -> None:
    """What both have is not counted."""
    a, b = c.x(0), c.x(1)
    if a.dtype == np.int32:
        c.binary("BITWISE_XOR", a, b, c.out())
        return
    both = _and_of(c, a, b)
    c.binary("SUB", c.binary("ADD", a, b), c.binary("ADD", both, both), c.out())


def _not(c: Lowering) -> None:
    c.binary("SUB", c.scalar(-1), c.x(), c.out())


def _bit_shift(c: Lowering) -> None:
    """To the left it is a product with a power of two; by the whole width and more, nothing is left."""
    x, shift = c.x(0), c.x(1)
    if c.node.text("direction", "") == "RIGHT":
        c.binary("RIGHT_SHIFT", x, shift, c.out())
        return
    width = x.dtype.itemsize * 8
    powers = np.append(np.left_shift(np.ones(width, x.dtype), np.arange(width, dtype=x.dtype)), x.dtype.type(0))
    places = c.cast(c.binary("MINIMUM", c.cast(shift, np.int64), c.scalar(width, np.dtype(np.int64))), np.int32)
    c.binary("MUL", x, c.emit("GATHER", [c.constant(powers, "powers"), places], shape=places.shape, axis=0), c.out())


def _shiftable(node: NodeView) -> str | None:
    """RIGHT_SHIFT fills up with the sign, or with zeros for uint32."""
    right, kind = node.text("direction", "") == "RIGHT", node.dtype().name
    if kind in ({"int32", "uint32"} if right else _INTS):
        return None
    return f"{kind} shifted to the {'right' if right else 'left'}; TFLite shifts up to 32 bits to the right"


def _rule(op: str, lower: Callable[[Lowering], None], emits: str, constraint: Constraint = _TYPED) -> LoweringRule:
    return detoured(LoweringRule(op, lower, tuple(emits.split()), (constraint,), since=11), _BITS)


RULES = (
    _rule("BitwiseAnd", _and, "STABLEHLO_AND BROADCAST_TO"),
    _rule("BitwiseOr", _or, "STABLEHLO_AND BROADCAST_TO ADD SUB"),
    _rule("BitwiseXor", _xor, "BITWISE_XOR STABLEHLO_AND BROADCAST_TO ADD SUB"),
    _rule("BitwiseNot", _not, "SUB"),
    _rule("BitShift", _bit_shift, "RIGHT_SHIFT MINIMUM CAST GATHER MUL", _shiftable),
)
