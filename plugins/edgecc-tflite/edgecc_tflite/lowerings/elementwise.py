"""Arithmetic, comparison and logic of equal or broadcast tensors, one value at a time."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import numpy as np

from edgecc_tflite.ir import Tensor
from edgecc_tflite.lowerings.base import Constraint, LoweringRule
from edgecc_tflite.lowerings.constraints import ANY_TYPE, FLOAT, NUMERIC, typed

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


def binary(op: str, builtin: str, types: Iterable[str] = NUMERIC, since: int = 7) -> LoweringRule:
    """An operator of two broadcast tensors that TFLite has."""

    def lower(c: Lowering) -> None:
        c.binary(builtin, c.x(0), c.x(1), c.out())

    return LoweringRule(op, lower, (builtin,), (typed(types),), since=since)


def variadic(op: str, builtin: str, types: Iterable[str] = NUMERIC) -> LoweringRule:
    """An operator of any number of broadcast tensors, as a chain of binary ones."""

    def lower(c: Lowering) -> None:
        _chain(c, builtin, c.inputs, c.out())

    return LoweringRule(op, lower, (builtin,), (typed(types),), since=8)


def composed(
    op: str, lower: Callable[[Lowering], None], emits: str, *constraints: Constraint, since: int = 1, note: str = ""
) -> LoweringRule:
    """An operator made of several, on floats unless the constraints say otherwise."""
    return LoweringRule(op, lower, tuple(emits.split()), constraints or (typed(FLOAT),), since=since, note=note)


def _chain(c: Lowering, builtin: str, tensors: list[Tensor], out: Tensor) -> None:
    if len(tensors) == 1:
        c.copy(tensors[0], out)
        return
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
    if divisor.data is not None and divisor.dtype == np.float32 and _has_exact_inverses(divisor.data):
        c.binary("MUL", c.x(), c.constant(1 / divisor.data, "inverse"), c.out())
        return
    c.binary("DIV", c.x(), divisor, c.out())


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
    c.binary("POW", x, c.cast(c.x(1), x.dtype), out)


def _mod(c: Lowering) -> None:
    """FLOOR_MOD has Python's sign rule, which is ONNX's for fmod=0; fmod=1 takes the dividend's sign."""
    x, y = c.x(0), c.x(1)
    if not c.node.integer("fmod", 0):
        c.binary("FLOOR_MOD", x, y, c.out())
        return
    size = c.binary("FLOOR_MOD", c.unary("ABS", x), c.unary("ABS", y))
    c.binary("MUL", size, c.unary("SIGN", x), c.out())


def _where(c: Lowering) -> None:
    condition, x, y = c.same_rank([c.x(0), c.x(1), c.x(2)])
    c.emit("SELECT_V2", [condition, x, y], c.out())


def _xor(c: Lowering) -> None:
    c.binary("NOT_EQUAL", c.x(0), c.x(1), c.out())


def _erf(c: Lowering) -> None:
    """GELU(x) = x/2 (1 + erf(x/sqrt 2)) solved for erf; the offset keeps 0/0 away and is far below float precision."""
    limit = c.scalar(6.0)
    x = c.binary("MINIMUM", c.binary("MAXIMUM", c.x(), c.scalar(-6.0)), limit)
    scaled = c.binary("ADD", c.binary("MUL", x, c.scalar(np.sqrt(2.0))), c.scalar(1e-30))
    ratio = c.binary("DIV", c.emit("GELU", [scaled], approximate=False), scaled)
    c.binary("SUB", c.binary("MUL", ratio, c.scalar(2.0)), c.scalar(1.0), c.out())


def _tan(c: Lowering) -> None:
    c.binary("DIV", c.unary("SIN", c.x()), c.unary("COS", c.x()), c.out())


def _sinh(c: Lowering) -> None:
    """(u + u / (u + 1)) / 2 with u = e^x - 1, which ELU computes without cancellation for x < 0."""
    negative = c.unary("ELU", c.unary("NEG", c.unary("ABS", c.x())))
    ratio = c.binary("DIV", negative, c.binary("ADD", negative, c.scalar(1.0)))
    half = c.binary("MUL", c.binary("ADD", negative, ratio), c.scalar(-0.5))
    c.binary("MUL", half, c.unary("SIGN", c.x()), c.out())


def _cosh(c: Lowering) -> None:
    total = c.binary("ADD", c.unary("EXP", c.x()), c.unary("EXP", c.unary("NEG", c.x())))
    c.binary("MUL", total, c.scalar(0.5), c.out())


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


def _sign_of_dividend(node: NodeView) -> str | None:
    if node.dtype().name != "int64" or not node.integer("fmod", 0):
        return None
    return "fmod=1 on int64, of which TFLite takes no absolute value"


def _same_types(node: NodeView) -> str | None:
    if node.dtype(0) == node.dtype(1) or node.value(1) is not None:
        return None
    return f"base is {node.dtype(0).name} and exponent {node.dtype(1).name}; TFLite needs one type for both"


RULES = (
    unary("Abs", "ABS", {"float32", "int32"}),
    unary("Neg", "NEG", NUMERIC),
    unary("Sqrt", "SQRT"),
    unary("Exp", "EXP"),
    unary("Log", "LOG"),
    unary("Floor", "FLOOR"),
    unary("Ceil", "CEIL"),
    unary("Round", "ROUND"),
    unary("Sin", "SIN"),
    unary("Cos", "COS"),
    unary("Sign", "SIGN", {"float32", "int32"}),
    unary("Not", "LOGICAL_NOT", _BOOL),
    composed("Add", _add, "ADD", typed(NUMERIC), since=7, note="A matrix product's bias where it can be."),
    binary("Sub", "SUB"),
    binary("Mul", "MUL"),
    binary("Equal", "EQUAL", NUMERIC | _BOOL),
    binary("Greater", "GREATER"),
    binary("GreaterOrEqual", "GREATER_EQUAL"),
    binary("Less", "LESS"),
    binary("LessOrEqual", "LESS_EQUAL"),
    binary("And", "LOGICAL_AND", _BOOL),
    binary("Or", "LOGICAL_OR", _BOOL),
    variadic("Min", "MINIMUM", NUMERIC | _SMALL_INTS),
    variadic("Max", "MAXIMUM", NUMERIC | _SMALL_INTS),
    variadic("Sum", "ADD", FLOAT),
    composed("Mean", _mean, "ADD MUL"),
    composed("Xor", _xor, "NOT_EQUAL", typed(_BOOL)),
    composed("Div", _div, "DIV MUL", typed({"float32", "int32"}), since=7),
    composed("Mod", _mod, "FLOOR_MOD ABS SIGN MUL", typed(NUMERIC), _sign_of_dividend),
    composed("Pow", _pow, "POW SQUARE SQRT RSQRT", typed({"float32", "int32"}), _same_types, since=7),
    composed("Reciprocal", _reciprocal, "DIV"),
    composed("Where", _where, "SELECT_V2", typed(ANY_TYPE - {"float16", "uint16", "uint32"}, 1)),
    composed("Erf", _erf, "MAXIMUM MINIMUM MUL ADD GELU DIV SUB", note="From GELU, to float32 accuracy."),
    composed("Tan", _tan, "SIN COS DIV"),
    composed("Sinh", _sinh, "ABS NEG ELU ADD DIV MUL SIGN"),
    composed("Cosh", _cosh, "EXP NEG ADD MUL"),
    composed("IsNaN", _is_nan, "NOT_EQUAL"),
    composed("IsInf", _is_inf, "ABS EQUAL", typed(FLOAT), _some_infinity),
)
