"""The enumerations of the TFLite schema that lowerings use, so that no rule has to import the schema."""

from __future__ import annotations

from enum import IntEnum


class Activation(IntEnum):
    """`ActivationFunctionType`: what an operator applies to its own result."""

    NONE = 0
    RELU = 1
    RELU_N1_TO_1 = 2
    RELU6 = 3


class Padding(IntEnum):
    """`Padding` of convolutions and pools."""

    SAME = 0
    VALID = 1


class MirrorPadMode(IntEnum):
    """`MirrorPadMode` of MIRROR_PAD; SYMMETRIC repeats the edge value."""

    REFLECT = 0
    SYMMETRIC = 1


class TensorType(IntEnum):
    """`TensorType`, for the few options that name one."""

    FLOAT32 = 0
    FLOAT16 = 1
    INT32 = 2
    UINT8 = 3
    INT64 = 4
    BOOL = 6
    INT16 = 7
    INT8 = 9
    FLOAT64 = 10
    UINT64 = 12
    UINT32 = 15
    UINT16 = 16
