"""Arithmetic, comparison, logic and activations: one value at a time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgecc_tflite.importing.base import ImportRule, Refusal
from edgecc_tflite.importing.context import Import


def unary(builtin: str, op: str) -> ImportRule:
    """An operator of one tensor that ONNX has."""
    return ImportRule(builtin, lambda c: c.give(c.add(op, [c.x()])), (op,))


def binary(builtin: str, op: str) -> ImportRule:
    """An operator of two broadcast tensors that ONNX has; it may have an activation fused."""
    return ImportRule(builtin, lambda c: c.give_active(c.add(op, [c.x(0), c.x(1)])), (op,))


def _extreme(builtin: str, op: str) -> ImportRule:
    """ONNX Runtime has no kernels for small integers."""

    def emit(c: Import) -> None:
        x, y, dtype = c.x(0), c.x(1), c.real_type()
        if dtype.kind in "iu" and dtype.itemsize < 4:
            c.give(c.cast(c.add(op, [c.cast(x, np.int32), c.cast(y, np.int32)]), dtype))
            return
        c.give(c.add(op, [x, y]))

    return ImportRule(builtin, emit, (op, "Cast"))


def composed(builtin: str, emit: Callable[[Import], None], gives: str, note: str = "") -> ImportRule:
    """An operator made of several."""
    return ImportRule(builtin, emit, tuple(gives.split()), note)


def _copy(c: Import) -> None:
    c.give(c.x())


def _dequantize(c: Import) -> None:
    if c.real_type() != c.out().dtype:
        c.give(c.cast(c.x(), c.out().dtype))
        return
    c.give(c.graph.dequantized(c.stored(), c.tensor(), c.origin) if c.x() != c.stored() else c.x())


def _cast(c: Import) -> None:
    # CAST takes the stored integers for what they are.
    c.give_stored(c.cast(c.stored(), c.out().dtype))


def _bitcast(c: Import) -> None:
    """A Cast between signed and unsigned integers of one width keeps the bits."""
    source, result = c.tensor().dtype, c.out().dtype
    if source.kind not in "iu" or result.kind not in "iu" or source.itemsize != result.itemsize:
        raise Refusal(f"it takes the bits of {source.name} for {result.name}, for which ONNX has no operator")
    c.give_stored(c.cast(c.stored(), result))


def _add_n(c: Import) -> None:
    c.give(c.add("Sum", c.xs()) if c.real_type().kind == "f" else _sum(c))


def _sum(c: Import) -> str:
    """Sum takes no integers."""
    total, *others = c.xs()
    for other in others:
        total = c.add("Add", [total, other])
    return total


def _squared_difference(c: Import) -> None:
    difference = c.add("Sub", [c.x(0), c.x(1)])
    c.give_active(c.add("Mul", [difference, difference]))


def _square(c: Import) -> None:
    c.give(c.add("Mul", [c.x(), c.x()]))


def _rsqrt(c: Import) -> None:
    c.give(c.add("Reciprocal", [c.add("Sqrt", [c.x()])]))


def _floor_div(c: Import) -> None:
    """Rounded down, where ONNX truncates integers."""
    if c.real_type().kind == "f":
        c.give(c.add("Floor", [c.add("Div", [c.x(0), c.x(1)])]))
        return
    rest = c.add("Mod", [c.x(0), c.x(1)])
    c.give(c.add("Div", [c.add("Sub", [c.x(0), rest]), c.x(1)]))


def _floor_mod(c: Import) -> None:
    """With the divisor's sign, which ONNX has for integers alone."""
    x, y = c.x(0), c.x(1)
    if c.real_type().kind != "f":
        c.give(c.add("Mod", [x, y]))
        return
    rest, zero = c.add("Mod", [x, y], fmod=1), c.scalar(0.0)
    signs = c.add("Xor", [c.add("Less", [rest, zero]), c.add("Less", [y, zero])])
    is_off = c.add("And", [signs, c.add("Not", [c.add("Equal", [rest, zero])])])
    c.give(c.add("Where", [is_off, c.add("Add", [rest, y]), rest]))


def _not_equal(c: Import) -> None:
    c.give(c.add("Not", [c.add("Equal", [c.x(0), c.x(1)])]))


def _atan2(c: Import) -> None:
    """By quadrant: the arc tangent of y / x is right where x > 0."""
    y, x = c.x(0), c.x(1)
    zero, pi = c.scalar(0.0), c.scalar(np.pi)
    half = c.scalar(np.pi / 2)
    is_left, is_below = c.add("Less", [x, zero]), c.add("Less", [y, zero])
    at_zero = c.add("Equal", [x, zero])
    ratio = c.add("Atan", [c.add("Div", [y, c.add("Where", [at_zero, c.scalar(1.0), x])])])
    turned = c.add("Where", [is_below, c.add("Sub", [ratio, pi]), c.add("Add", [ratio, pi])])
    upright = c.add("Mul", [c.add("Sign", [y]), half])
    c.give(c.add("Where", [at_zero, upright, c.add("Where", [is_left, turned, ratio])]))


def _clip(low: float, high: float) -> Callable[[Import], None]:
    def emit(c: Import) -> None:
        c.give(c.add("Clip", [c.x(), c.scalar(low), c.scalar(high)]))

    return emit


def _relu(c: Import) -> None:
    c.give(c.add("Relu", [c.x()]))


def _leaky_relu(c: Import) -> None:
    c.give(c.add("LeakyRelu", [c.x()], alpha=float(c.option("alpha"))))


def _gelu(c: Import) -> None:
    c.give(c.add("Gelu", [c.x()], approximate="tanh" if c.option("approximate") else "none"))


def _softmax(c: Import) -> None:
    beta, x = float(c.option("beta")), c.x()
    c.give(c.add("Softmax", [x if beta == 1.0 else c.add("Mul", [x, c.scalar(beta)])], axis=-1))


def _log_softmax(c: Import) -> None:
    c.give(c.add("LogSoftmax", [c.x()], axis=-1))


#: Whole numbers that ONNX Runtime's Where takes.
_SELECTED = frozenset({"int32", "int64", "uint8"})


def _select(c: Import) -> None:
    """The older SELECT takes one condition per row."""
    condition, rank = c.x(0), c.rank(1)
    if c.operator.builtin == "SELECT" and c.rank(0) == 1 and rank > 1:
        condition = c.reshape(condition, [-1, *[1] * (rank - 1)])
    dtype = c.real_type(1)
    if dtype.kind not in "iub" or dtype.name in _SELECTED:
        c.give(c.add("Where", [condition, c.x(1), c.x(2)]))
        return
    chosen = c.add("Where", [condition, c.cast(c.x(1), np.int64), c.cast(c.x(2), np.int64)])
    c.give(c.cast(chosen, dtype))


def _zeros_like(c: Import) -> None:
    c.give(c.add("Expand", [c.scalar(0), c.add("Shape", [c.x()])]))


def _right_shift(c: Import) -> None:
    """An arithmetic shift of signed numbers: division by a power of two, rounded down."""
    x, count, dtype = c.x(0), c.x(1), c.real_type()
    if dtype.kind == "u":
        c.give(c.add("BitShift", [x, count], direction="RIGHT"))
        return
    # A divisor of 2^63 has no place in int64; behind 62 bits only the sign is left.
    wide = c.cast(x, np.int64)
    kept = c.add("Min", [c.cast(count, np.int64), c.scalar(62, np.int64)])
    power = c.add("BitShift", [c.scalar(1, np.uint64), c.cast(kept, np.uint64)], direction="LEFT")
    divisor = c.cast(power, np.int64)
    rest = c.add("Mod", [wide, divisor])
    c.give(c.cast(c.add("Div", [c.add("Sub", [wide, rest]), divisor]), dtype))


def _fake_quant(c: Import) -> None:
    """Quantized and dequantized at once, on a grid on which 0 is a point."""
    low, high, bits = float(c.option("min")), float(c.option("max")), int(c.option("numBits"))
    if not low <= 0.0 <= high or low == high or not 2 <= bits <= 16:
        raise Refusal(f"it rounds to {bits} bits from {low:g} to {high:g}")
    first = 1 if c.option("narrowRange") else 0
    last = 2**bits - 1
    scale = (high - low) / (last - first)
    zero = float(np.clip(np.round(first - low / scale), first, last))
    lowest, highest = (first - zero) * scale, (last - zero) * scale
    within = c.add("Clip", [c.x(), c.scalar(lowest), c.scalar(highest)])
    steps = c.add("Div", [c.add("Sub", [within, c.scalar(lowest)]), c.scalar(scale)])
    whole = c.add("Floor", [c.add("Add", [steps, c.scalar(0.5)])])
    c.give(c.add("Add", [c.add("Mul", [whole, c.scalar(scale)]), c.scalar(lowest)]))


def _logical_or_bits(logical: str, bits: str) -> Callable[[Import], None]:
    def emit(c: Import) -> None:
        c.give(c.add(logical if c.real_type() == np.bool_ else bits, [c.x(0), c.x(1)]))

    return emit


_UNARY = {
    **{"ABS": "Abs", "CEIL": "Ceil", "COS": "Cos", "ELU": "Elu", "EXP": "Exp", "FLOOR": "Floor"},
    **{"HARD_SWISH": "HardSwish", "LOG": "Log", "LOGICAL_NOT": "Not", "LOGISTIC": "Sigmoid", "NEG": "Neg"},
    **{"ROUND": "Round", "SIGN": "Sign", "SIN": "Sin", "SQRT": "Sqrt", "TANH": "Tanh"},
}
_BINARY = {
    **{"ADD": "Add", "SUB": "Sub", "MUL": "Mul", "DIV": "Div", "POW": "Pow"},
    **{"EQUAL": "Equal", "GREATER": "Greater", "GREATER_EQUAL": "GreaterOrEqual", "LESS": "Less"},
    **{"LESS_EQUAL": "LessOrEqual", "LOGICAL_AND": "And", "LOGICAL_OR": "Or", "BITWISE_XOR": "BitwiseXor"},
    **{"PRELU": "PRelu", "STABLEHLO_ADD": "Add", "STABLEHLO_MULTIPLY": "Mul"},
}

RULES = (
    *(unary(builtin, op) for builtin, op in _UNARY.items()),
    *(binary(builtin, op) for builtin, op in _BINARY.items()),
    *(_extreme(f"{prefix}MAXIMUM", "Max") for prefix in ("", "STABLEHLO_")),
    *(_extreme(f"{prefix}MINIMUM", "Min") for prefix in ("", "STABLEHLO_")),
    composed("BITCAST", _bitcast, "Cast", "Between integers of one width."),
    composed("QUANTIZE", _copy, "QuantizeLinear DequantizeLinear"),
    composed("DEQUANTIZE", _dequantize, "DequantizeLinear Cast", "float16 becomes a Cast."),
    composed("CAST", _cast, "Cast"),
    composed("ADD_N", _add_n, "Sum Add"),
    composed("SQUARED_DIFFERENCE", _squared_difference, "Sub Mul"),
    composed("SQUARE", _square, "Mul"),
    composed("RSQRT", _rsqrt, "Sqrt Reciprocal"),
    composed("FLOOR_DIV", _floor_div, "Div Floor Mod Sub"),
    composed("FLOOR_MOD", _floor_mod, "Mod Less Xor Equal Not And Add Where"),
    composed("NOT_EQUAL", _not_equal, "Equal Not"),
    composed("ATAN2", _atan2, "Atan Div Less Equal Where Add Sub Sign Mul"),
    composed("RELU", _relu, "Relu"),
    composed("RELU6", _clip(0.0, 6.0), "Clip"),
    composed("RELU_N1_TO_1", _clip(-1.0, 1.0), "Clip"),
    composed("RELU_0_TO_1", _clip(0.0, 1.0), "Clip"),
    composed("LEAKY_RELU", _leaky_relu, "LeakyRelu"),
    composed("GELU", _gelu, "Gelu"),
    composed("SOFTMAX", _softmax, "Softmax Mul"),
    composed("LOG_SOFTMAX", _log_softmax, "LogSoftmax"),
    composed("SELECT", _select, "Where Reshape Cast"),
    composed("SELECT_V2", _select, "Where Cast"),
    composed("ZEROS_LIKE", _zeros_like, "Shape Expand"),
    composed("RIGHT_SHIFT", _right_shift, "BitShift Cast Min Mod Sub Div"),
    composed("FAKE_QUANT", _fake_quant, "Clip Sub Div Add Floor Mul", "Written out: it has no type of its own."),
    composed("STABLEHLO_AND", _logical_or_bits("And", "BitwiseAnd"), "And BitwiseAnd"),
    composed("STABLEHLO_OR", _logical_or_bits("Or", "BitwiseOr"), "Or BitwiseOr"),
)
