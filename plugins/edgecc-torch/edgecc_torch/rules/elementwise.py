"""Arithmetic, comparisons and activations."""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import reduce
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from edgecc_torch.rules.base import NodeView, RefusalError, Rule, numpy_type, torch_type

if TYPE_CHECKING:
    from torch.fx import Proxy


def _unary(function: Callable[[Any], Any]) -> Rule:
    return lambda n: function(n[0])


def _binary(function: Callable[[Any, Any], Any]) -> Rule:
    """Operators of Python, which take plain numbers on either side."""
    return lambda n: function(n.operand(0), n.operand(1))


def _compare(function: Callable[[Any, Any], Any]) -> Rule:
    """Functions of two tensors."""
    return lambda n: function(n.buffer(0), n.buffer(1))


def _variadic(function: Callable[[Any, Any], Any]) -> Rule:
    return lambda n: reduce(function, n.inputs)


def _divide(n: NodeView) -> Proxy:
    if n.dtype().kind in "iu":
        return torch.div(n[0], n.operand(1), rounding_mode="trunc")
    return n.operand(0) / n.operand(1)


def _mod(n: NodeView) -> Proxy:
    """With fmod the sign is the dividend's, without it the divisor's."""
    function = torch.fmod if n.attribute("fmod", 0) else torch.remainder
    return function(n.buffer(0), n.operand(1))


def _pow(n: NodeView) -> Proxy:
    if n.dtype(0).kind in "iu" and n.dtype(1).kind == "f":
        raise RefusalError("an integer is raised to a fraction, and the result is an integer")
    return torch.pow(n[0], n.operand(1))


def _mean(n: NodeView) -> Proxy:
    return reduce(operator.add, n.inputs) / len(n.inputs)


def _clip(n: NodeView) -> Proxy:
    bounds = [n.value(i).item() if n.has(i) and n.is_constant(i) else None for i in (1, 2)]
    computed = [i for i in (1, 2) if n.has(i) and not n.is_constant(i)]
    if not computed:
        return torch.clamp(n[0], bounds[0], bounds[1]) if bounds != [None, None] else n[0]
    low = torch.maximum(n[0], n.buffer(1)) if n.has(1) else n[0]
    return torch.minimum(low, n.buffer(2)) if n.has(2) else low


def _cast(n: NodeView) -> Proxy:
    return n[0].to(torch_type(numpy_type(int(n.attribute("to")))))


def _cast_like(n: NodeView) -> Proxy:
    return n[0].to(torch_type(n.output_dtype()))


def _dropout(n: NodeView) -> Proxy:
    if n.has(2) and not (n.is_constant(2) and not n.value(2).any()):
        raise RefusalError("it drops values, as in training")
    return n[0]


def _prelu(n: NodeView) -> Proxy:
    """PyTorch's own has one slope for each channel; any other shape is written out."""
    if n.is_constant(1) and n.rank() > 1 and _is_per_channel(n.value(1).shape, n.rank()):
        return functional.prelu(n[0], n.renewed(1, lambda values: values.reshape(-1)))
    return torch.where(n[0] < 0, n[0] * n[1], n[0])


def _is_per_channel(shape: tuple[int, ...], rank: int) -> bool:
    full = (1,) * (rank - len(shape)) + shape
    return all(size == 1 for axis, size in enumerate(full) if axis != 1)


def _gelu(n: NodeView) -> Proxy:
    return functional.gelu(n[0], approximate=str(n.attribute("approximate", "none")))


def _selu(n: NodeView) -> Proxy:
    alpha, gamma = n.attribute("alpha", 1.6732632423543772), n.attribute("gamma", 1.0507009873554805)
    if abs(alpha - 1.6732632) < 1e-6 and abs(gamma - 1.0507010) < 1e-6:
        return functional.selu(n[0])
    return gamma * functional.elu(n[0], alpha)


def _hard_sigmoid(n: NodeView) -> Proxy:
    alpha, beta = n.attribute("alpha", 0.2), n.attribute("beta", 0.5)
    if abs(alpha - 1 / 6) < 1e-6 and beta == 0.5:
        return functional.hardsigmoid(n[0])
    return torch.clamp(n[0] * alpha + beta, 0, 1)


def _shrink(n: NodeView) -> Proxy:
    bias, limit = n.attribute("bias", 0.0), n.attribute("lambd", 0.5)
    x = n[0]
    return torch.where(x < -limit, x + bias, torch.where(x > limit, x - bias, x * 0))


def _is_inf(n: NodeView) -> Proxy:
    if n.attribute("detect_negative", 1) and n.attribute("detect_positive", 1):
        return torch.isinf(n[0])
    return torch.isneginf(n[0]) if n.attribute("detect_negative", 1) else torch.isposinf(n[0])


def _bit_shift(n: NodeView) -> Proxy:
    left = str(n.attribute("direction")) == "LEFT"
    return (torch.bitwise_left_shift if left else torch.bitwise_right_shift)(n.buffer(0), n.buffer(1))


def _softmax(function: Callable[..., Any]) -> Rule:
    return lambda n: function(n[0], dim=n.axis(-1))


RULES: dict[str, Rule] = {
    "Abs": _unary(torch.abs),
    "Acos": _unary(torch.acos),
    "Acosh": _unary(torch.acosh),
    "Add": _binary(operator.add),
    "And": _compare(torch.logical_and),
    "Asin": _unary(torch.asin),
    "Asinh": _unary(torch.asinh),
    "Atan": _unary(torch.atan),
    "Atanh": _unary(torch.atanh),
    "BitShift": _bit_shift,
    "BitwiseAnd": _compare(torch.bitwise_and),
    "BitwiseNot": _unary(torch.bitwise_not),
    "BitwiseOr": _compare(torch.bitwise_or),
    "BitwiseXor": _compare(torch.bitwise_xor),
    "Cast": _cast,
    "CastLike": _cast_like,
    "Ceil": _unary(torch.ceil),
    "Celu": lambda n: functional.celu(n[0], n.attribute("alpha", 1.0)),
    "Clip": _clip,
    "Cos": _unary(torch.cos),
    "Cosh": _unary(torch.cosh),
    "Div": _divide,
    "Dropout": _dropout,
    "Elu": lambda n: functional.elu(n[0], n.attribute("alpha", 1.0)),
    "Equal": _compare(torch.eq),
    "Erf": _unary(torch.erf),
    "Exp": _unary(torch.exp),
    "Floor": _unary(torch.floor),
    "Gelu": _gelu,
    "Greater": _binary(operator.gt),
    "GreaterOrEqual": _binary(operator.ge),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _unary(functional.hardswish),
    "Identity": lambda n: n[0],
    "IsInf": _is_inf,
    "IsNaN": _unary(torch.isnan),
    "LeakyRelu": lambda n: functional.leaky_relu(n[0], n.attribute("alpha", 0.01)),
    "Less": _binary(operator.lt),
    "LessOrEqual": _binary(operator.le),
    "Log": _unary(torch.log),
    "LogSoftmax": _softmax(torch.log_softmax),
    "Max": _variadic(torch.maximum),
    "Mean": _mean,
    "Min": _variadic(torch.minimum),
    "Mish": _unary(functional.mish),
    "Mod": _mod,
    "Mul": _binary(operator.mul),
    "Neg": _unary(torch.neg),
    "Not": _unary(torch.logical_not),
    "Or": _compare(torch.logical_or),
    "PRelu": _prelu,
    "Pow": _pow,
    "Reciprocal": _unary(torch.reciprocal),
    "Relu": _unary(torch.relu),
    "Round": _unary(torch.round),
    "Selu": _selu,
    "Shrink": _shrink,
    "Sigmoid": _unary(torch.sigmoid),
    "Sign": _unary(torch.sign),
    "Sin": _unary(torch.sin),
    "Sinh": _unary(torch.sinh),
    "Softmax": _softmax(torch.softmax),
    "Softplus": lambda n: functional.softplus(n[0], threshold=_NEVER),
    "Softsign": _unary(functional.softsign),
    "Sqrt": _unary(torch.sqrt),
    "Sub": _binary(operator.sub),
    "Sum": _variadic(operator.add),
    "Tan": _unary(torch.tan),
    "Tanh": _unary(torch.tanh),
    "ThresholdedRelu": lambda n: functional.threshold(n[0], n.attribute("alpha", 1.0), 0.0),
    "Where": lambda n: torch.where(n.buffer(0), n[1], n[2]),
    "Xor": _compare(torch.logical_xor),
}

#: Past its threshold PyTorch's Softplus is x itself; from here on float32 gives the same either way.
_NEVER = 30.0
