"""Operators by the rule that carries labels through them; an operator without one keeps all that it reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from edgecc.pruning import rules_elementwise as elementwise
from edgecc.pruning import rules_linear as linear
from edgecc.pruning import rules_movement as movement
from edgecc.pruning import rules_recurrent as recurrent

if TYPE_CHECKING:
    from edgecc.model import Node
    from edgecc.pruning.tracking import Tracker

#: Ties the labels of a node's outputs and constants to those of its inputs, and says which axes it handles.
Rule = Callable[["Node", "Tracker"], None]


def _rows(rule: Rule, names: str) -> dict[str, Rule]:
    return dict.fromkeys(names.split(), rule)


RULES: dict[str, Rule] = {
    **_rows(linear.conv, "Conv"),
    **_rows(linear.conv_transpose, "ConvTranspose"),
    **_rows(linear.gemm, "Gemm"),
    **_rows(linear.matmul, "MatMul"),
    **_rows(linear.attention, "Attention"),
    **_rows(recurrent.recurrent, "LSTM GRU RNN"),
    **_rows(
        elementwise.same,
        "Abs Acos Acosh Asin Asinh Atan Atanh BitwiseNot Cast Ceil Celu Clip Cos Cosh Dropout Elu Erf Exp Floor Gelu "
        "HardSigmoid HardSwish Identity IsInf IsNaN LeakyRelu Log Mish Neg Not Reciprocal Relu Round Selu Shrink "
        "Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Swish Tan Tanh ThresholdedRelu",
    ),
    **_rows(
        elementwise.broadcasting,
        "Add And BitwiseAnd BitwiseOr BitwiseXor Div Equal Greater GreaterOrEqual Less LessOrEqual Max Mean Min Mod "
        "Mul Or PRelu Pow Sub Sum Where Xor",
    ),
    **_rows(elementwise.group_normalization, "GroupNormalization"),
    **_rows(elementwise.per_channel, "BatchNormalization InstanceNormalization"),
    **_rows(elementwise.spatial, "AveragePool GlobalAveragePool GlobalLpPool GlobalMaxPool LpPool MaxPool"),
    **_rows(elementwise.resize, "Resize"),
    **_rows(elementwise.along_axis, "Hardmax LogSoftmax Softmax"),
    **_rows(elementwise.normalization, "LayerNormalization RMSNormalization"),
    **_rows(
        elementwise.reduction,
        "ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum "
        "ReduceSumSquare",
    ),
    **_rows(elementwise.arg_reduction, "ArgMax ArgMin"),
    **_rows(movement.transpose, "Transpose"),
    **_rows(movement.reshape, "Flatten Reshape Squeeze Unsqueeze"),
    **_rows(movement.concat, "Concat"),
    **_rows(movement.split, "Split"),
    **_rows(movement.slice_, "Slice"),
    **_rows(movement.gather, "Gather"),
    **_rows(movement.expand, "Expand"),
    **_rows(movement.pad, "Pad"),
}
