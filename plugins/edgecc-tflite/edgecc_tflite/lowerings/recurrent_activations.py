"""The activation functions that LSTM, GRU and RNN name in their attributes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from edgecc_tflite.ir import Tensor
from edgecc_tflite.lowerings.context import Lowering
from edgecc_tflite.lowerings.node_view import NodeView

_DEFAULTS = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh"), "RNN": ("Tanh",)}
_MISSING = math.nan
#: By name in lower case: default alpha and beta; None for one that the function does not have, `_MISSING` where the
#: specification names no default, or ONNX Runtime takes another one.
_PARAMETERS: dict[str, tuple[float | None, float | None]] = {
    "affine": (_MISSING, 0.0),
    "elu": (1.0, None),
    "hardsigmoid": (0.2, 0.5),
    "leakyrelu": (0.01, None),
    "relu": (None, None),
    "scaledtanh": (_MISSING, _MISSING),
    "sigmoid": (None, None),
    "softplus": (None, None),
    "softsign": (None, None),
    "tanh": (None, None),
    "thresholdedrelu": (_MISSING, None),
}


@dataclass(frozen=True)
class Function:
    """An activation function with its parameters."""

    name: str
    alpha: float = 0.0
    beta: float = 0.0

    def __call__(self, c: Lowering, x: Tensor) -> Tensor:
        return _EMIT[self.name](c, x, self.alpha, self.beta)


def functions(node: NodeView, direction: int) -> tuple[Function, ...]:
    """The functions of one direction; alphas and betas are given to those that take one, in order."""
    names = _names(node)
    alphas, betas = list(node.attribute("activation_alpha", ())), list(node.attribute("activation_beta", ()))
    found = []
    for name in names:
        alpha, beta = _PARAMETERS[name]
        alpha = alphas.pop(0) if alpha is not None and alphas else alpha
        beta = betas.pop(0) if beta is not None and betas else beta
        found.append(Function(name, float(alpha or 0.0), float(beta or 0.0)))
    count = len(_DEFAULTS[node.op])
    return tuple(found[direction * count : (direction + 1) * count])


def _names(node: NodeView) -> list[str]:
    given = [n.decode() if isinstance(n, bytes) else str(n) for n in node.attribute("activations", ())]
    directions = 2 if node.text("direction", "forward") == "bidirectional" else 1
    return [name.lower() for name in given or _DEFAULTS[node.op] * directions]


def unknown_activation(node: NodeView) -> str | None:
    """Every function is one of ONNX's, and has its parameters."""
    unknown = [name for name in _names(node) if name not in _PARAMETERS]
    if unknown:
        return f"activation {unknown[0]!r} is not one of {', '.join(sorted(_PARAMETERS))}"
    directions = 2 if node.text("direction", "forward") == "bidirectional" else 1
    for function in (function for number in range(directions) for function in functions(node, number)):
        if math.isnan(function.alpha) or math.isnan(function.beta):
            return (
                f"activation {function.name!r} needs parameters that activation_alpha and activation_beta do not give"
            )
    return None


def _affine(c: Lowering, x: Tensor, alpha: float, beta: float) -> Tensor:
    return c.binary("ADD", c.binary("MUL", x, c.scalar(alpha, x.dtype)), c.scalar(beta, x.dtype))


def _elu(c: Lowering, x: Tensor, alpha: float, beta: float) -> Tensor:
    if alpha == 1.0:
        return c.unary("ELU", x)
    negative = c.unary("ELU", c.binary("MINIMUM", x, c.scalar(0.0, x.dtype)))
    return c.binary("ADD", c.unary("RELU", x), c.binary("MUL", negative, c.scalar(alpha, x.dtype)))


def _hard_sigmoid(c: Lowering, x: Tensor, alpha: float, beta: float) -> Tensor:
    return c.binary("MINIMUM", c.unary("RELU", _affine(c, x, alpha, beta)), c.scalar(1.0, x.dtype))


def _leaky_relu(c: Lowering, x: Tensor, alpha: float, beta: float) -> Tensor:
    return c.emit("LEAKY_RELU", [x], alpha=alpha)


def _scaled_tanh(c: Lowering, x: Tensor, alpha: float, beta: float) -> Tensor:
    return c.binary("MUL", c.unary("TANH", c.binary("MUL", x, c.scalar(beta, x.dtype))), c.scalar(alpha, x.dtype))


def _softplus(c: Lowering, x: Tensor, alpha: float, beta: float) -> Tensor:
    """log(1 + e^x) = max(x, 0) - log(sigmoid(|x|)): no overflow."""
    return c.binary("SUB", c.unary("RELU", x), c.unary("LOG", c.unary("LOGISTIC", c.unary("ABS", x))))


def _softsign(c: Lowering, x: Tensor, alpha: float, beta: float) -> Tensor:
    return c.binary("DIV", x, c.binary("ADD", c.unary("ABS", x), c.scalar(1.0, x.dtype)))


def _thresholded_relu(c: Lowering, x: Tensor, alpha: float, beta: float) -> Tensor:
    above = c.binary("GREATER", x, c.scalar(alpha, x.dtype), dtype=bool)
    return c.emit("SELECT_V2", [above, x, c.scalar(0.0, x.dtype)], shape=x.shape, dtype=x.dtype)


_EMIT: dict[str, Callable[[Lowering, Tensor, float, float], Tensor]] = {
    "affine": _affine,
    "elu": _elu,
    "hardsigmoid": _hard_sigmoid,
    "leakyrelu": _leaky_relu,
    "relu": lambda c, x, alpha, beta: c.unary("RELU", x),
    "scaledtanh": _scaled_tanh,
    "sigmoid": lambda c, x, alpha, beta: c.unary("LOGISTIC", x),
    "softplus": _softplus,
    "softsign": _softsign,
    "tanh": lambda c, x, alpha, beta: c.unary("TANH", x),
    "thresholdedrelu": _thresholded_relu,
}
