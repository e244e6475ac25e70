"""Arithmetic, comparison and logic of equal or broadcast tensors, one value at a time."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from edgecc_tflite.ir import Tensor
from edgecc_tflite.lowerings.base import Constraint, LoweringRule
from edgecc_tflite.lowerings.constraints import ANY_TYPE, FLOAT, NUMERIC, typed
from edgecc_tflite.lowerings.context import broadcast
from edgecc_tflite.lowerings.detours import MODULAR_INTS, ORDERED_INTS, SMALL_INTS, Detour, detoured

if TYPE_CHECKING:
    from edgecc_tflite.lowerings.context import Lowering
    from edgecc_tflite.lowerings.node_view import NodeView

_SMALL_INTS = frozenset({"int8", "uint8", "int16"})
_BOOL = frozenset({"bool"})


def unary(op: str, builtin: str, types: Iterable[str] = FLOAT, since: int = 1) -> LoweringRule:
    """An operator of one tensor that TFLite has."""

    def lower(c: Lowering) -> None:
        c.emit(builtin, [c.x()], c.out())

    return LoweringRule(op, lower, (builtin,), (typed(types),), since=since)


def binary(
    op: str, builtin: str, types: Iterable[str] = NUMERIC, detours: Mapping[str, Detour] = SMALL_INTS, since: int = 7
) -> LoweringRule:
    """An operator of two broadcast tensors that TFLite has."""

    def lower(c: Lowering) -> None:
        c.binary(builtin, c.x(0), c.x(1), c.out())

    return detoured(LoweringRule(op, lower, (builtin,), (typed(types),), since=since), detours)


def variadic(
    op: str, builtin: str, types: Iterable[str] = NUMERIC, detours: Mapping[str, Detour] = SMALL_INTS
) -> LoweringRule:
    """An operator of any number of broadcast tensors, as a chain of binary ones."""

    def lower(c: Lowering) -> None:
        _chain(c, builtin, c.inputs, c.out())

    return detoured(LoweringRule(op, lower, (builtin,), (typed(types),), since=8), detours)


def composed(
    op: str,
    lower: Callable[[Lowering], None],
    emits: str,
    *constraints: Constraint,
    detours: Mapping[str, Detour] | None = None,
    since: int = 1,
    note: str = "",
) -> LoweringRule:
    """An operator made of several, on floats unless the constraints say otherwise."""
    rule = LoweringRule(op, lower, tuple(emits.split()), constraints or (typed(FLOAT),), since=since, note=note)
    return rule if detours is None else detoured(rule, detours)


def _chain(c: Lowering, builtin: str, tensors: list[Tensor], out: Tensor) -> None:
    if len(tensors) == 1:
        c.copy(tensors[0], out)
        return
    if out.dtype == np.float64:
        # Only these kernels have float64, and they do not broadcast.
        builtin, tensors = f"STABLEHLO_{builtin}", c.broadcast_all(tensors)
    result = functools.reduce(lambda a, b: c.binary(builtin, a, b), tensors[:-1])
    c.binary(builtin, result, tensors[-1], out)


def _add(c: Lowering) -> None:
    if not _add_to_bias(c):
        c.binary("ADD", c.x(0), c.x(1), c.out())


def _add_to_bias(c: Lowering) -> bool:
    """A constant per output feature is the bias of the matrix product in front, if that has none yet."""
    for data, other in ((0, 1), (1, 0)):
        values = c.node.value(other)
        product = c.sole_producer(data)
        if values is None or product is None or product.builtin != "FULLY_CONNECTED" or product.inputs[2] is not None:
            continue
        features = product.outputs[0].shape[-1]
        if values.size == features == values.shape[-1] and len(c.out().shape) == product.outputs[0].rank:
            product.inputs[2] = c.constant(values.reshape(-1), "bias")
            c.take_over(product)
            return True
    return False


def _mean(c: Lowering) -> None:
    if len(c.inputs) == 1:
        c.copy(c.x(), c.out())
        return
    total = functools.reduce(lambda a, b: c.binary("ADD", a, b), c.inputs)
    c.binary("MUL", total, c.scalar(1.0 / len(c.inputs)), c.out())


def _reciprocal(c: Lowering) -> None:
    c.emit("DIV", [c.scalar(1.0), c.x()], c.out())


def _div(c: Lowering) -> None:
    """ONNX truncates integers as C does, and so does DIV."""
    divisor = c.x(1)
    if divisor.dtype == np.int64:
        _div_int64(c, c.x(), divisor)
        return
    if divisor.data is not None and divisor.dtype == np.float32 and _has_exact_inverses(divisor.data):
        c.binary("MUL", c.x(), c.constant(1 / divisor.data, "inverse"), c.out())
        return
    c.binary("DIV", c.x(), divisor, c.out())


def _div_int64(c: Lowering, x: Tensor, y: Tensor) -> None:
    """No kernel divides int64. Without its remainder x is a multiple of y, and float32 finds 22 bits of the quotient at
    a time, so the third step ends below one half and is exact.
    """
    rest = c.binary("SUB", x, _truncated_mod(c, x, y))
    divisor, quotient = c.cast(y, np.float32), None
    for step in range(3):
        ratio = c.unary("ROUND", c.binary("DIV", c.cast(rest, np.float32), divisor))
        part = c.cast(ratio, np.int64)
        quotient = part if quotient is None else c.binary("ADD", quotient, part, c.out() if step == 2 else None)
        if step < 2:
            rest = c.binary("SUB", rest, c.binary("MUL", part, y))


def _truncated_mod(c: Lowering, x: Tensor, y: Tensor, out: Tensor | None = None) -> Tensor:
    """The remainder that has the dividend's sign."""
    size = c.binary("FLOOR_MOD", _absolute(c, x), _absolute(c, y))
    return c.binary("MUL", size, _sign_of(c, x), out)


def _absolute(c: Lowering, x: Tensor, out: Tensor | None = None) -> Tensor:
    """ABS has no int64."""
    if x.dtype != np.int64:
        return c.emit("ABS", [x], out)
    return c.binary("MAXIMUM", x, c.unary("NEG", x), out)


def _sign_of(c: Lowering, x: Tensor, out: Tensor | None = None) -> Tensor:
    """SIGN has no int64."""
    if x.dtype != np.int64:
        return c.emit("SIGN", [x], out)
    one, minus_one = c.scalar(1, x.dtype), c.scalar(-1, x.dtype)
    return c.binary("MAXIMUM", c.binary("MINIMUM", x, one), minus_one, out)


def _abs(c: Lowering) -> None:
    _absolute(c, c.x(), c.out())


def _sign(c: Lowering) -> None:
    _sign_of(c, c.x(), c.out())


def _has_exact_inverses(values: np.ndarray) -> bool:
    """Powers of two: multiplying by the inverse gives the same bits and is faster."""
    return bool(np.all(np.abs(np.frexp(values)[0]) == 0.5) and np.all(np.isfinite(values)))


def _pow(c: Lowering) -> None:
    """Common constant exponents have operators that are faster than POW, and kernels that are delegated."""
    exponent = c.node.value(1)
    x, out = c.x(), c.out()
    if exponent is not None and exponent.size == 1 and x.shape == out.shape and x.dtype == np.float32:
        builtin = {2.0: "SQUARE", 0.5: "SQRT", -0.5: "RSQRT"}.get(float(exponent.reshape(())))
        if builtin is not None:
            c.emit(builtin, [x], out)
            return
    power = c.x(1)
    if x.dtype == np.int64:
        _pow_int64(c, x, c.cast(power, np.int64))
    elif x.dtype == np.int32 and power.dtype.kind == "f":
        c.cast(c.binary("POW", c.cast(x, np.float32), power), np.int32, out)
    else:
        c.binary("POW", x, c.cast(power, x.dtype), out)


def _pow_int64(c: Lowering, x: Tensor, exponent: Tensor) -> None:
    """No kernel has int64: the product of x^1, x^2, x^4 ... where the exponent has that bit.

    An exponent of 64 and more leaves 0, 1 or -1, or overflows; only whether it is even counts then.
    """
    two, one = c.scalar(2, exponent.dtype), c.scalar(1, x.dtype)
    odd = c.binary("FLOOR_MOD", exponent, two)
    rest = c.cast(c.binary("MINIMUM", exponent, c.binary("ADD", odd, c.scalar(62, exponent.dtype))), np.int32)
    factors: list[Tensor] = []
    for _ in range(6):
        bit = c.binary("FLOOR_MOD", rest, c.ints(2))
        is_set = c.binary("EQUAL", bit, c.ints(1), dtype=np.bool_)
        factors.append(_select(c, is_set, x, one))
        rest = c.binary("FLOOR_DIV", rest, c.ints(2))
        x = c.binary("MUL", x, x)
    result = functools.reduce(lambda a, b: c.binary("MUL", a, b), factors[:-1])
    c.binary("MUL", result, factors[-1], c.out())


def _select(c: Lowering, condition: Tensor, x: Tensor, y: Tensor, out: Tensor | None = None) -> Tensor:
    """SELECT_V2 of broadcast tensors."""
    condition, x, y = c.same_rank([condition, x, y])
    shape = broadcast(condition.shape, broadcast(x.shape, y.shape))
    return c.emit("SELECT_V2", [condition, x, y], out, shape=shape, dtype=x.dtype)


def _mod(c: Lowering) -> None:
    """FLOOR_MOD has Python's sign rule, which is ONNX's for fmod=0; fmod=1 takes the dividend's sign."""
    x, y = c.x(0), c.x(1)
    if not c.node.integer("fmod", 0):
        c.binary("FLOOR_MOD", x, y, c.out())
        return
    _truncated_mod(c, x, y, c.out())


def _where(c: Lowering) -> None:
    _select(c, c.x(0), c.x(1), c.x(2), c.out())


def _xor(c: Lowering) -> None:
    c.binary("NOT_EQUAL", c.x(0), c.x(1), c.out())


def _erf(c: Lowering) -> None:
    """GELU(x) = x/2 (1 + erf(x/sqrt 2)) solved for erf; the offset keeps 0/0 away and is far below float precision."""
    limit = c.scalar(6.0)
    x = c.binary("MINIMUM", c.binary("MAXIMUM", c.x(), c.scalar(-6.0)), limit)
    scaled = c.binary("ADD", c.binary("MUL", x, c.scalar(np.sqrt(2.0))), c.scalar(1e-30))
    ratio = c.binary("DIV", c.emit("GELU", [scaled], approximate=False), scaled)
    c.binary("SUB", c.binary("MUL", ratio, c.scalar(2.0)), c.scalar(1.0), c.out())


def _is_nan(c: Lowering) -> None:
    c.emit("NOT_EQUAL", [c.x(), c.x()], c.out())


def _is_inf(c: Lowering) -> None:
    x = c.x()
    positive, negative = c.node.integer("detect_positive", 1), c.node.integer("detect_negative", 1)
    if positive and negative:
        x = c.unary("ABS", x)
    c.emit("EQUAL", [x, c.scalar(np.inf if positive else -np.inf)], c.out())


def _some_infinity(node: NodeView) -> str | None:
    if node.integer("detect_positive", 1) or node.integer("detect_negative", 1):
        return None
    return "it detects neither positive nor negative infinity"


def _whole_power(node: NodeView) -> str | None:
    """Through float32 a large power of an int64 would lose digits."""
    exponent = node.dtype(1)
    if node.dtype().name == "int64" and exponent.kind == "f":
        return f"base is int64 and exponent {exponent.name}; an integer to a fractional power would lose digits"
    return None


RULES = (
    composed("Abs", _abs, "ABS MAXIMUM NEG", typed(NUMERIC), detours=SMALL_INTS),
    detoured(unary("Neg", "NEG", NUMERIC), SMALL_INTS),
    unary("Sqrt", "SQRT"),
    unary("Exp", "EXP"),
    unary("Log", "LOG"),
    unary("Floor", "FLOOR"),
    unary("Ceil", "CEIL"),
    unary("Round", "ROUND"),
    unary("Sin", "SIN"),
    unary("Cos", "COS"),
    composed("Sign", _sign, "SIGN MINIMUM MAXIMUM", typed(NUMERIC), detours=SMALL_INTS),
    unary("Not", "LOGICAL_NOT", _BOOL),
    composed(
        "Add",
        _add,
        "ADD",
        typed(NUMERIC),
        detours=MODULAR_INTS,
        since=7,
        note="A matrix product's bias where it can be.",
    ),
    binary("Sub", "SUB", detours=MODULAR_INTS),
    binary("Mul", "MUL", detours=MODULAR_INTS),
    binary("Equal", "EQUAL", NUMERIC | _BOOL, MODULAR_INTS),
    binary("Greater", "GREATER", detours=ORDERED_INTS),
    binary("GreaterOrEqual", "GREATER_EQUAL", detours=ORDERED_INTS),
    binary("Less", "LESS", detours=ORDERED_INTS),
    binary("LessOrEqual", "LESS_EQUAL", detours=ORDERED_INTS),
    binary("And", "LOGICAL_AND", _BOOL),
    binary("Or", "LOGICAL_OR", _BOOL),
    variadic("Min", "MINIMUM", NUMERIC | _SMALL_INTS | {"float64"}, ORDERED_INTS),
    variadic("Max", "MAXIMUM", NUMERIC | _SMALL_INTS | {"float64"}, ORDERED_INTS),
    variadic("Sum", "ADD", FLOAT),
    composed("Mean", _mean, "ADD MUL"),
    composed("Xor", _xor, "NOT_EQUAL", typed(_BOOL)),
    composed("Div", _div, "DIV MUL FLOOR_MOD ROUND CAST SUB", typed(NUMERIC), detours=SMALL_INTS, since=7),
    composed("Mod", _mod, "FLOOR_MOD ABS SIGN MUL MINIMUM MAXIMUM NEG", typed(NUMERIC), detours=SMALL_INTS),
    composed(
        "Pow",
        _pow,
        "POW SQUARE SQRT RSQRT CAST MUL FLOOR_MOD FLOOR_DIV EQUAL SELECT_V2",
        typed(NUMERIC),
        typed(NUMERIC, 1),
        _whole_power,
        detours=SMALL_INTS,
        since=7,
    ),
    composed("Reciprocal", _reciprocal, "DIV"),
    composed("Where", _where, "SELECT_V2", typed(ANY_TYPE | {"float64", "uint64"}, 1)),
    composed("Erf", _erf, "MAXIMUM MINIMUM MUL ADD GELU DIV SUB", note="From GELU, to float32 accuracy."),
    composed("IsNaN", _is_nan, "NOT_EQUAL"),
    composed("IsInf", _is_inf, "ABS EQUAL", typed(FLOAT), _some_infinity),
)
