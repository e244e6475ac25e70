"""The version of each operator: what it uses decides the oldest version that has it.

A runtime refuses a model whose operator versions it does not have, so the version says neither more nor less than the
operator needs. Most operators came with float32 and gained types: they are rows of `_BY_TYPE`. The others have a
function each in `version_rules`. An operator in neither has version 1.
"""

from __future__ import annotations

from edgecc_tflite.ir import Operator
from edgecc_tflite.schema import type_name
from edgecc_tflite.version_rules import SPECIAL

#: Version by the type of the first input; a type that is not listed takes version 1.
_BY_TYPE: dict[str, dict[str, int]] = {
    "ARG_MAX": {"int8": 2, "bool": 3},
    "ARG_MIN": {"int8": 2, "bool": 3},
    "AVERAGE_POOL_2D": {"int8": 2, "int16": 3},
    "CONCATENATION": {"int8": 2, "int16": 3, "uint32": 4, "int4": 5, "float16": 6},
    "COS": {"float16": 2},
    "DEPTH_TO_SPACE": {"int8": 2},
    "EQUAL": {"int8": 2, "int16": 5},
    "EXP": {"int8": 2, "int16": 2},
    "FLOOR_DIV": {"float32": 2, "int8": 3, "int16": 3},
    "FLOOR_MOD": {"int8": 2, "int16": 2},
    "GELU": {"int8": 2, "uint8": 2},
    "GREATER": {"int8": 2},
    "GREATER_EQUAL": {"int8": 2, "int16": 3},
    "L2_NORMALIZATION": {"int8": 2},
    "LEAKY_RELU": {"int16": 2},
    "LESS": {"int8": 2, "int16": 3},
    "LESS_EQUAL": {"int8": 2},
    "LOG": {"int8": 2, "int16": 2},
    "LOGISTIC": {"int8": 2, "int16": 3},
    "LOG_SOFTMAX": {"int8": 2},
    "MAX_POOL_2D": {"int8": 2, "int16": 3},
    "MEAN": {"int8": 2, "int16": 3},
    "MIRROR_PAD": {"int8": 2, "int16": 3},
    "NOT_EQUAL": {"int8": 2, "int16": 4},
    "PACK": {"int8": 2, "int16": 3, "uint32": 4},
    "RANGE": {"int64": 2},
    "REDUCE_MAX": {"int8": 2, "int16": 3},
    "REDUCE_MIN": {"int8": 2, "int16": 3},
    "REDUCE_PROD": {"int8": 2, "int16": 2},
    "RELU": {"int8": 2, "uint8": 2, "int16": 3},
    "RELU6": {"int8": 2, "int16": 3},
    "REVERSE_V2": {"bool": 2, "int8": 3},
    "RSQRT": {"int8": 2, "int16": 3},
    "SELECT_V2": {"uint32": 2},
    "SIGN": {"int32": 2},
    "SIN": {"float16": 2},
    "SOFTMAX": {"int8": 2, "int16": 3, "float16": 4},
    "SPACE_TO_DEPTH": {"int8": 2},
    "SPLIT_V": {"int8": 2},
    "SQRT": {"int8": 2, "int16": 2},
    "SQUARED_DIFFERENCE": {"int8": 2},
    "SUM": {"int8": 2},
    "TANH": {"int8": 2, "int16": 3},
    "TILE": {"int8": 3},
    "UNPACK": {"int8": 2, "uint8": 2, "bool": 3, "int16": 4, "float16": 5, "bfloat16": 5},
}


def operator_version(operator: Operator) -> int:
    """The lowest version of the operator's kind that runs it."""
    special = SPECIAL.get(operator.builtin)
    if special is not None:
        return special(operator)
    by_type = _BY_TYPE.get(operator.builtin)
    if by_type is None or operator.inputs[0] is None:
        return 1
    return by_type.get(type_name(operator.inputs[0].dtype), 1)
