"""What TFLite's kernels do with integers: one row per operator, shared by the integer pass and the static verifier."""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from edgecc_tflite.ir import Operator


class Role(enum.Enum):
    """How an operator's stored integers relate to its inputs'."""

    MOVE = "move"  #: they are stored values of the one data input, so that the scale is the same
    CHOOSE = "choose"  #: they are stored values of several inputs, which must all have the output's scale
    AVERAGE = "average"  #: mixed from stored values without rescaling
    CLAMP = "clamp"  #: RELU and its like: rescaled where the scales differ
    COMPUTE = "compute"  #: computed from any scales to any scale
    FIXED = "fixed"  #: computed from any scale, written at one that the kernel knows
    WEIGHTED = "weighted"  #: computed with constant weights around 0 and a bias of 32 bits
    READ = "read"  #: something else, such as positions


class WeightedInputs(NamedTuple):
    """Where an operator has its data, weights and bias, and the axis of the weights that may have scales."""

    data: int
    weights: int
    bias: int
    axis: int


WEIGHTED = {
    "CONV_2D": WeightedInputs(data=0, weights=1, bias=2, axis=0),
    "DEPTHWISE_CONV_2D": WeightedInputs(data=0, weights=1, bias=2, axis=3),
    "FULLY_CONNECTED": WeightedInputs(data=0, weights=1, bias=2, axis=0),
    "TRANSPOSE_CONV": WeightedInputs(data=2, weights=1, bias=3, axis=0),
}

#: The scale and zero point that a kernel writes whatever the tensor says.
FIXED: dict[tuple[str, str], tuple[float, int]] = {
    ("SOFTMAX", "int8"): (1 / 256, -128),
    ("SOFTMAX", "uint8"): (1 / 256, 0),
    ("SOFTMAX", "int16"): (1 / 32768, 0),
    ("LOGISTIC", "int8"): (1 / 256, -128),
    ("LOGISTIC", "uint8"): (1 / 256, 0),
    ("LOGISTIC", "int16"): (1 / 32768, 0),
    # TANH on 8 bits takes any scale and computes it right (LiteRT 2.3).
    ("TANH", "int16"): (1 / 32768, 0),
    ("LOG_SOFTMAX", "int8"): (16 / 256, 127),
    ("L2_NORMALIZATION", "int8"): (1 / 128, 0),
}


#: How much the data's scales may exceed the output's. Beyond, kernels overflow silently (MUL, ADD), or the delegate
#: refuses the whole model (the weighted ones), measured with LiteRT 2.3 on both sets of kernels in steps of two.
MOST_RESCALED = {
    "MUL": 2.0,
    "ADD": 128.0,
    "BATCH_MATMUL": 256.0,
    "HARD_SWISH": 64.0,
    **dict.fromkeys(WEIGHTED, 256.0),
}


#: Kernels for int16 sum up in 64 bits and rescale into 32: the largest sum of products of 16 and 8 bits, and of 16 and
#: 16, must fit.
_LARGEST_SUMS = {**dict.fromkeys(WEIGHTED, 2**31 / (2**15 * 2**7)), "BATCH_MATMUL": 2**31 / (2**15 * 2**15)}


def most_rescaled(operator: Operator, dtype: str) -> float:
    """How much the data's scales may exceed the output's in an operator that computes with that type."""
    most = MOST_RESCALED.get(operator.builtin, math.inf)
    if dtype != "int16" or operator.builtin not in _LARGEST_SUMS:
        return most
    return min(most, _LARGEST_SUMS[operator.builtin] / _products(operator))


def rescales_too_much(operator: Operator, scales: Sequence[float], output: float, dtype: str) -> bool:
    """Whether the kernel goes wrong between these scales of its factors (or addends) and that of its output."""
    builtin, most = operator.builtin, most_rescaled(operator, dtype)
    if math.isinf(most):
        return False
    return (max(scales) if builtin == "ADD" else math.prod(scales)) >= most * output


def _products(operator: Operator) -> int:
    """How many products make up a value of the output."""
    places = WEIGHTED.get(operator.builtin)
    factor = operator.inputs[0 if places is None else places.weights]
    assert factor is not None
    if places is not None:
        return math.prod(factor.shape) // factor.shape[places.axis]
    return factor.shape[-2 if operator.options.get("adjX", False) else -1]


class IntegerKernel(NamedTuple):
    """One operator's row.

    Attributes:
        role: see `Role`.
        data: positions of the inputs that hold data; None for all.
        types: what it computes with.
    """

    role: Role
    data: tuple[int, ...] | None = (0,)
    types: frozenset[str] = frozenset({"int8"})


#: Operators of which LiteRT 2.3 has no kernel for int16, or one that is more than a step off.
_INT8_ONLY = frozenset(
    {
        *("ARG_MAX", "ARG_MIN", "DEPTH_TO_SPACE", "ELU", "EXP", "GELU", "HARD_SWISH", "L2_NORMALIZATION", "LOG"),
        *("LOG_SOFTMAX", "PRELU", "RELU_N1_TO_1", "RSQRT", "SOFTMAX", "SPACE_TO_DEPTH", "SQRT", "TANH"),
        "SQUARED_DIFFERENCE",
    }
)


def _rows(role: Role, names: str, data: tuple[int, ...] | None = (0,)) -> dict[str, IntegerKernel]:
    return {name: _row(role, name, data) for name in names.split()}


def _row(role: Role, name: str, data: tuple[int, ...] | None) -> IntegerKernel:
    return IntegerKernel(role, data, frozenset({"int8"} if name in _INT8_ONLY else {"int8", "int16"}))


KERNELS: dict[str, IntegerKernel] = {
    **_rows(Role.MOVE, "RESHAPE TRANSPOSE SQUEEZE EXPAND_DIMS TILE SLICE STRIDED_SLICE GATHER GATHER_ND REVERSE_V2"),
    **_rows(Role.MOVE, "BROADCAST_TO UNPACK SPLIT_V PAD MIRROR_PAD RESIZE_NEAREST_NEIGHBOR MAX_POOL_2D"),
    **_rows(Role.MOVE, "REDUCE_MAX REDUCE_MIN SPACE_TO_DEPTH DEPTH_TO_SPACE SPACE_TO_BATCH_ND BATCH_TO_SPACE_ND"),
    **_rows(Role.MOVE, "SPLIT", (1,)),
    **_rows(Role.CHOOSE, "CONCATENATION PACK", None),
    **_rows(Role.CHOOSE, "MAXIMUM MINIMUM", (0, 1)),
    **_rows(Role.CHOOSE, "PADV2", (0, 2)),
    **_rows(Role.CHOOSE, "SELECT_V2 SELECT", (1, 2)),
    **_rows(Role.AVERAGE, "AVERAGE_POOL_2D RESIZE_BILINEAR"),
    **_rows(Role.CLAMP, "RELU RELU6 RELU_N1_TO_1"),
    **_rows(Role.COMPUTE, "ADD SUB MUL SQUARED_DIFFERENCE BATCH_MATMUL PRELU", (0, 1)),
    **_rows(Role.COMPUTE, "MEAN SUM LEAKY_RELU HARD_SWISH GELU ELU EXP LOG SQRT RSQRT TANH ABS"),
    **_rows(Role.FIXED, "SOFTMAX LOGISTIC LOG_SOFTMAX L2_NORMALIZATION"),
    **{name: _row(Role.WEIGHTED, name, (inputs.data,)) for name, inputs in WEIGHTED.items()},
    **_rows(Role.READ, "ARG_MAX ARG_MIN"),
}

#: Operators that leave stored values at their scale.
SAME_SCALE = frozenset(
    {"DYNAMIC_UPDATE_SLICE", "TOPK_V2"}
    | {name for name, kernel in KERNELS.items() if kernel.role in (Role.MOVE, Role.CHOOSE, Role.AVERAGE)}
)

#: Operators that compute with real values, so that their quantized tensors need a scale.
ARITHMETIC = frozenset(
    {"QUANTIZE", "DEQUANTIZE", "DIV"}
    | {
        name
        for name, kernel in KERNELS.items()
        if kernel.role in (Role.AVERAGE, Role.COMPUTE, Role.FIXED, Role.WEIGHTED)
    }
)
