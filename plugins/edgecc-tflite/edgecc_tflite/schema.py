"""What the generated TFLite schema says about operators and types, by the names that the IR uses.

The generated module is imported on first use: it takes 0.1 s, and `edgecc --help` must not pay for it.
"""

from __future__ import annotations

import functools
import inspect
from typing import Any, NamedTuple

import numpy as np

from edgecc.errors import EdgeccError

#: Builtins whose options table is not named after them. Every other builtin's table has the builtin's own name
#: (CONV_2D: Conv2DOptions), or the builtin has none (RELU).
_TABLE_OF = {
    "AVERAGE_POOL_2D": "Pool2DOptions",
    "MAX_POOL_2D": "Pool2DOptions",
    "L2_POOL_2D": "Pool2DOptions",
    "CONV_3D_TRANSPOSE": "Conv3DOptions",
    "L2_NORMALIZATION": "L2NormOptions",
    "MAXIMUM": "MaximumMinimumOptions",
    "MINIMUM": "MaximumMinimumOptions",
    "MEAN": "ReducerOptions",
    "SUM": "ReducerOptions",
    "REDUCE_ALL": "ReducerOptions",
    "REDUCE_ANY": "ReducerOptions",
    "REDUCE_MAX": "ReducerOptions",
    "REDUCE_MIN": "ReducerOptions",
    "REDUCE_PROD": "ReducerOptions",
    "MULTINOMIAL": "RandomOptions",
    "RANDOM_STANDARD_NORMAL": "RandomOptions",
    "RANDOM_UNIFORM": "RandomOptions",
    "UNIDIRECTIONAL_SEQUENCE_RNN": "SequenceRNNOptions",
}

#: numpy's name of a dtype: the schema's `TensorType`. The names without a numpy dtype of their own are ml_dtypes'.
_TENSOR_TYPE_OF = {
    "float32": "FLOAT32",
    "float16": "FLOAT16",
    "float64": "FLOAT64",
    "bfloat16": "BFLOAT16",
    "float8_e4m3fn": "FLOAT8_E4M3FN",
    "float8_e5m2": "FLOAT8_E5M2",
    "int2": "INT2",
    "int4": "INT4",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "uint4": "UINT4",
    "uint8": "UINT8",
    "uint16": "UINT16",
    "uint32": "UINT32",
    "uint64": "UINT64",
    "bool": "BOOL",
    "complex64": "COMPLEX64",
    "complex128": "COMPLEX128",
}

#: Bits of a stored value, for the types that are packed several to a byte.
PACKED_BITS = {"int2": 2, "int4": 4, "uint4": 4}


class IllFormedGraphError(EdgeccError):
    """A lowering made something that the TFLite schema cannot hold: a bug in that lowering."""


@functools.cache
def generated() -> Any:
    """The schema module that ships with LiteRT."""
    from ai_edge_litert import schema_py_generated

    return schema_py_generated


@functools.cache
def builtin_code(builtin: str) -> int:
    """The schema's number of a builtin operator."""
    code = getattr(generated().BuiltinOperator, builtin, None)
    if isinstance(code, int):
        return code
    raise IllFormedGraphError(
        f"there is no builtin operator {builtin!r} in the TFLite schema",
        why="a lowering asked for it",
        hint="names are those of BuiltinOperator in schema.fbs, such as CONV_2D",
    )


@functools.cache
def builtin_name(code: int) -> str:
    """The schema's name of a builtin operator."""
    names: dict[str, Any] = dict(vars(generated().BuiltinOperator))
    return next(name for name, value in names.items() if value == code and name.isupper())


class OptionsTable(NamedTuple):
    """Where a builtin's options go.

    Attributes:
        second_union: they belong to `BuiltinOptions2`, not to `BuiltinOptions`.
        number: their number in that union.
        table: the object API's class.
        attributes: names of its fields.
    """

    second_union: bool
    number: int
    table: type[Any]
    attributes: frozenset[str]


@functools.cache
def options_table(builtin: str) -> OptionsTable | None:
    """Where a builtin's options go; None if it has none."""
    wanted = _spelling(_TABLE_OF.get(builtin, builtin))
    schema = generated()
    for second_union, union in enumerate((schema.BuiltinOptions, schema.BuiltinOptions2)):
        for name, number in vars(union).items():
            if isinstance(number, int) and number and _spelling(name) == wanted:
                table = getattr(schema, f"{name}T")
                return OptionsTable(bool(second_union), number, table, frozenset(inspect.signature(table).parameters))
    return None


@functools.cache
def type_name(dtype: np.dtype[Any]) -> str:
    """`dtype.name`, which numpy puts together anew each time it is asked."""
    return dtype.name


@functools.cache
def tensor_type(dtype: np.dtype[Any]) -> int:
    """The schema's `TensorType` of a numpy dtype."""
    name = _TENSOR_TYPE_OF.get(dtype.name)
    if name is not None:
        return int(getattr(generated().TensorType, name))
    raise IllFormedGraphError(f"TFLite has no tensor type for {dtype.name}", why="a lowering made such a tensor")


@functools.cache
def numpy_dtype(number: int) -> np.dtype[Any]:
    """The numpy dtype of a `TensorType`; object for strings, resources and variants."""
    for name, schema_name in _TENSOR_TYPE_OF.items():
        if getattr(generated().TensorType, schema_name, None) == number:  # older schemas lack the newest types
            return _dtype_named(name)
    return np.dtype(object)


def _dtype_named(name: str) -> np.dtype[Any]:
    import ml_dtypes

    dtype: np.dtype[Any] = np.dtype(getattr(ml_dtypes, name, name))
    return dtype


def _spelling(name: str) -> str:
    """What "CONV_2D" and "Conv2DOptions" have in common."""
    return name.removesuffix("Options").replace("_", "").lower()
