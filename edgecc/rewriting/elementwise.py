"""Operators whose every element of the result depends on the same element of their operands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgecc.rewriting.reading import rank

if TYPE_CHECKING:
    from edgecc.model import Node, Tensor

#: Of one tensor; further inputs, if any, hold one element each.
UNARY = frozenset(
    {
        *("Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "BitwiseNot", "Cast", "Ceil", "Celu", "Clip"),
        *("Cos", "Cosh", "DequantizeLinear", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish"),
        *("Identity", "IsInf", "IsNaN", "LeakyRelu", "Log", "Mish", "Neg", "Not", "QuantizeLinear", "Reciprocal"),
        *("Relu", "Round", "Selu", "Shrink", "Sigmoid", "Sign", "Sin", "Sinh", "Softplus", "Softsign", "Sqrt"),
        *("Tan", "Tanh", "ThresholdedRelu"),
    }
)
#: Of several tensors that broadcast.
BROADCASTING = frozenset(
    {
        *("Add", "And", "BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Div", "Equal", "Greater"),
        *("GreaterOrEqual", "Less", "LessOrEqual", "Max", "Mean", "Min", "Mod", "Mul", "Or", "PRelu", "Pow", "Sub"),
        *("Sum", "Where", "Xor"),
    }
)


def is_elementwise(node: Node) -> bool:
    """Whether each element of the only output depends on the elements of its own place alone, after broadcasting."""
    from edgecc.model import is_standard

    if not is_standard(node) or len(node.outputs) != 1:
        return False
    if node.op in UNARY:
        # A scale per channel is bound to its axis.
        return all(tensor.is_empty() or has_one_element(tensor) for tensor in node.inputs[1:])
    return node.op in BROADCASTING


def has_one_element(tensor: Tensor) -> bool:
    """Whether every dimension is known to be 1."""
    return rank(tensor) is not None and all(dim == 1 for dim in tensor.shape)
