"""Activations: fused into the operator in front where it can apply them itself."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecc_tflite.enums import Activation
from edgecc_tflite.lowerings.constraints import FLOAT, NUMERIC, known_rank, typed
from edgecc_tflite.lowerings.detours import SMALL_INTS
from edgecc_tflite.lowerings.elementwise import composed, unary

if TYPE_CHECKING:
    from edgecc_tflite.ir import Tensor
    from edgecc_tflite.lowerings.context import Lowering
    from edgecc_tflite.lowerings.node_view import NodeView

#: Bounds of a Clip: the activation that does the same.
_CLIPS = {
    (0.0, 6.0): Activation.RELU6,
    (-1.0, 1.0): Activation.RELU_N1_TO_1,
    (0.0, math.inf): Activation.RELU,
}


def _relu(c: Lowering) -> None:
    _activate(c, Activation.RELU)


def _activate(c: Lowering, activation: Activation) -> None:
    if c.x().dtype == np.float32 and not c.fuse(activation):
        c.emit(activation.name, [c.x()], c.out())
    elif c.x().dtype != np.float32:
        c.binary("MAXIMUM", c.x(), c.scalar(0), c.out())


def _clip(c: Lowering) -> None:
    low, high = _bound(c.node, 1, "min"), _bound(c.node, 2, "max")
    activation = None if low is None or high is None else _CLIPS.get((low, high))
    if activation is not None and c.x().dtype == np.float32:
        _activate(c, activation)
        return
    steps: list[tuple[str, Tensor]] = []
    if low != -math.inf:
        steps.append(("MAXIMUM", c.x(1) if low is None else c.scalar(low)))
    if high != math.inf:
        steps.append(("MINIMUM", c.x(2) if high is None else c.scalar(high)))
    if not steps:
        c.copy(c.x(), c.out())
        return
    x = c.x()
    for position, (builtin, bound) in enumerate(steps):
        x = c.binary(builtin, x, bound, c.out() if position == len(steps) - 1 else None)


def _bound(node: NodeView, index: int, name: str) -> float | None:
    """A bound of a Clip; infinite if there is none, None if it is computed at run time."""
    if node.has(index):
        value = node.value(index)
        return None if value is None else _without_extremes(float(value.reshape(())))
    return _without_extremes(node.number(name, -math.inf if name == "min" else math.inf))


def _without_extremes(value: float) -> float:
    """Exporters write the largest float32 where they mean no bound."""
    return math.copysign(math.inf, value) if abs(value) >= 3.4028e38 else value


def _leaky_relu(c: Lowering) -> None:
    c.emit("LEAKY_RELU", [c.x()], c.out(), alpha=c.node.number("alpha", 0.01))


def _prelu(c: Lowering) -> None:
    x, slope = c.same_rank([c.x(0), c.x(1)])
    if slope.is_constant:
        c.emit("PRELU", [x, slope], c.out())
        return
    negative = c.binary("MUL", c.binary("MINIMUM", x, c.scalar(0.0)), slope)
    c.binary("ADD", c.unary("RELU", x), negative, c.out())


def _elu(c: Lowering) -> None:
    alpha = c.node.number("alpha", 1.0)
    if alpha == 1.0:
        c.emit("ELU", [c.x()], c.out())
        return
    c.binary("ADD", c.unary("RELU", c.x()), _scaled_negative(c, alpha, 1.0), c.out())


def _celu(c: Lowering) -> None:
    alpha = c.node.number("alpha", 1.0)
    c.binary("ADD", c.unary("RELU", c.x()), _scaled_negative(c, alpha, 1.0 / alpha), c.out())


def _selu(c: Lowering) -> None:
    alpha, gamma = c.node.number("alpha", 1.67326319217681884765625), c.node.number("gamma", 1.05070102214813232421875)
    positive = c.binary("MUL", c.unary("RELU", c.x()), c.scalar(gamma))
    c.binary("ADD", positive, _scaled_negative(c, alpha * gamma, 1.0), c.out())


def _scaled_negative(c: Lowering, outer: float, inner: float) -> Tensor:
    """Outer * (exp(inner * min(x, 0)) - 1), which is 0 for x > 0."""
    x = c.binary("MINIMUM", c.x(), c.scalar(0.0))
    if inner != 1.0:
        x = c.binary("MUL", x, c.scalar(inner))
    return c.binary("MUL", c.unary("ELU", x), c.scalar(outer))


def _hard_sigmoid(c: Lowering) -> None:
    alpha, beta = c.node.number("alpha", 0.2), c.node.number("beta", 0.5)
    _gate(c, alpha, beta, c.out())


def _gate(c: Lowering, alpha: float, beta: float, out: Tensor | None = None) -> Tensor:
    """min(max(alpha x + beta, 0), 1); for the common alpha = 1/6 that is RELU6(x + 6 beta) / 6."""
    if math.isclose(alpha, 1 / 6, rel_tol=1e-6):
        shifted = c.emit("ADD", [c.x(), c.scalar(6 * beta)], fusedActivationFunction=Activation.RELU6)
        return c.binary("MUL", shifted, c.scalar(1 / 6), out)
    line = c.binary("ADD", c.binary("MUL", c.x(), c.scalar(alpha)), c.scalar(beta))
    return c.binary("MINIMUM", c.unary("RELU", line), c.scalar(1.0), out)


def _softplus(c: Lowering) -> None:
    _log1p_exp(c, c.x(), c.out())


def _log1p_exp(c: Lowering, x: Tensor, out: Tensor | None = None) -> Tensor:
    """log(1 + e^x) = max(x, 0) - log(sigmoid(|x|)): no overflow."""
    tail = c.unary("LOG", c.unary("LOGISTIC", c.unary("ABS", x)))
    return c.binary("SUB", c.unary("RELU", x), tail, out)


def _mish(c: Lowering) -> None:
    c.binary("MUL", c.x(), c.unary("TANH", _log1p_exp(c, c.x())), c.out())


def _softsign(c: Lowering) -> None:
    c.binary("DIV", c.x(), c.binary("ADD", c.unary("ABS", c.x()), c.scalar(1.0)), c.out())


def _gelu(c: Lowering) -> None:
    c.emit("GELU", [c.x()], c.out(), approximate=c.node.text("approximate", "none") == "tanh")


def _thresholded_relu(c: Lowering) -> None:
    above = c.binary("GREATER", c.x(), c.scalar(c.node.number("alpha", 1.0)), dtype=bool)
    c.emit("SELECT_V2", [above, c.x(), c.scalar(0.0)], c.out())


def _shrink(c: Lowering) -> None:
    bias, edge = c.node.number("bias", 0.0), c.node.number("lambd", 0.5)
    x, zero = c.x(), c.scalar(0.0)
    below = c.binary("LESS", x, c.scalar(-edge), dtype=bool)
    above = c.binary("GREATER", x, c.scalar(edge), dtype=bool)
    inner = c.emit("SELECT_V2", [above, c.binary("SUB", x, c.scalar(bias)), zero], shape=x.shape, dtype=x.dtype)
    c.emit("SELECT_V2", [below, c.binary("ADD", x, c.scalar(bias)), inner], c.out())


def _softmax(c: Lowering) -> None:
    _on_last_axis(c, "SOFTMAX", beta=1.0)


def _log_softmax(c: Lowering) -> None:
    _on_last_axis(c, "LOG_SOFTMAX")


def _on_last_axis(c: Lowering, builtin: str, **options: Any) -> None:
    """TFLite knows only the last axis; the layout solver removes the transposes where memory has it last anyway."""
    x, axis = c.x(), c.node.axis(-1)
    perm = [a for a in range(x.rank) if a != axis] + [axis]
    if axis == x.rank - 1:
        c.emit(builtin, [x], c.out(), **options)
        return
    result = c.emit(builtin, [c.transpose(x, perm)], **options)
    c.transpose(result, [perm.index(a) for a in range(x.rank)], c.out())


RULES = (
    unary("Sigmoid", "LOGISTIC"),
    unary("Tanh", "TANH"),
    unary("HardSwish", "HARD_SWISH"),
    composed("Relu", _relu, "RELU MAXIMUM", typed({"float32", "int32", "int64", "int8", "int16"}), note="Fused."),
    composed(
        "Clip",
        _clip,
        "RELU RELU6 RELU_N1_TO_1 MAXIMUM MINIMUM",
        typed(NUMERIC),
        detours=SMALL_INTS,
        note="Fused where it can be.",
    ),
    composed("LeakyRelu", _leaky_relu, "LEAKY_RELU"),
    composed("PRelu", _prelu, "PRELU MUL MINIMUM RELU ADD"),
    composed("Elu", _elu, "ELU RELU MINIMUM MUL ADD"),
    composed("Celu", _celu, "ELU RELU MINIMUM MUL ADD"),
    composed("Selu", _selu, "ELU RELU MINIMUM MUL ADD"),
    composed("HardSigmoid", _hard_sigmoid, "ADD MUL RELU MINIMUM"),
    composed("Softplus", _softplus, "ABS LOGISTIC LOG RELU SUB"),
    composed("Mish", _mish, "ABS LOGISTIC LOG RELU SUB TANH MUL"),
    composed("Softsign", _softsign, "ABS ADD DIV"),
    composed("Gelu", _gelu, "GELU"),
    composed("ThresholdedRelu", _thresholded_relu, "GREATER SELECT_V2"),
    composed("Shrink", _shrink, "LESS GREATER SUB ADD SELECT_V2"),
    composed("Softmax", _softmax, "SOFTMAX TRANSPOSE", typed(FLOAT), known_rank(), since=13),
    composed("LogSoftmax", _log_softmax, "LOG_SOFTMAX TRANSPOSE", typed(FLOAT), known_rank(), since=13),
)
