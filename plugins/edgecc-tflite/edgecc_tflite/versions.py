"""The version of each operator: what it uses decides the oldest version that has it.

A runtime refuses a model whose operator versions it does not have, so the version says neither more nor less than the
operator needs. Most operators came with float32 and gained types: they are rows of `_BY_TYPE`. The others have a
function each. An operator in neither table has version 1.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgecc_tflite.ir import Operator, Tensor

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
    special = _SPECIAL.get(operator.builtin)
    if special is not None:
        return special(operator)
    by_type = _BY_TYPE.get(operator.builtin)
    return 1 if by_type is None else by_type.get(_type(operator), 1)


def _type(operator: Operator, index: int = 0) -> str:
    """Name of the type of an input; "" where there is none."""
    tensor = _input(operator, index)
    return "" if tensor is None else tensor.dtype.name


def _input(operator: Operator, index: int) -> Tensor | None:
    return operator.inputs[index] if index < len(operator.inputs) else None


def _output_type(operator: Operator) -> str:
    return operator.outputs[0].dtype.name


def _rank(operator: Operator) -> int:
    """The highest rank among the inputs."""
    return max((tensor.rank for tensor in operator.inputs if tensor is not None), default=0)


def _broadcasts_beyond_four(operator: Operator) -> bool:
    shapes = {tensor.shape for tensor in operator.inputs if tensor is not None}
    return len(shapes) > 1 and _rank(operator) > 4


def _per_channel(tensor: Tensor | None) -> bool:
    return tensor is not None and tensor.quantization is not None and np.size(tensor.quantization.scale) > 1


def _scale(tensor: Tensor | None) -> float:
    """The first scale; 0 for a tensor without."""
    if tensor is None or tensor.quantization is None:
        return 0.0
    return float(np.ravel(tensor.quantization.scale)[0])


def _hybrid(operator: Operator) -> bool:
    """Float activations with int8 weights, quantized on the way in."""
    return _type(operator) == "float32" and _type(operator, 1) == "int8" and _output_type(operator) == "float32"


def _add(operator: Operator) -> int:
    if _type(operator) == "int16":
        if not _scale(operator.inputs[0]):
            return 5
        return 1 if operator.options.get("potScaleInt16", True) else 3
    return {"int8": 2, "int64": 4, "float16": 6}.get(_type(operator), 1)


def _sub(operator: Operator) -> int:
    if _type(operator) == "int16" and not operator.options.get("potScaleInt16", True):
        return 5
    if _type(operator) == "int64":
        return 4
    if _broadcasts_beyond_four(operator):
        return 3
    return 2 if _type(operator) == "int8" else 1


def _mul(operator: Operator) -> int:
    kind = _type(operator)
    if kind == "int16":
        return 4 if _scale(operator.inputs[0]) or _scale(operator.inputs[1]) else 7
    if kind in ("float16", "uint32", "complex64", "int64"):
        return {"float16": 8, "uint32": 7, "complex64": 6, "int64": 5}[kind]
    # Version 3 can multiply by a rescaling factor of one and more.
    product, result = _scale(operator.inputs[0]) * _scale(operator.inputs[1]), _scale(operator.outputs[0])
    if product and result and product / result >= 1.0:
        return 3
    return 2 if kind == "int8" else 1


def _div(operator: Operator) -> int:
    return 2 if _broadcasts_beyond_four(operator) else 1


def _extremum(operator: Operator) -> int:
    if _type(operator) == "int16":
        return 4
    if _broadcasts_beyond_four(operator):
        return 3
    return 2 if _type(operator) == "int8" else 1


def _abs(operator: Operator) -> int:
    if _type(operator) == "int16":
        return 3 if _scale(operator.inputs[0]) else 4
    return {"int8": 2, "uint8": 2, "int32": 5}.get(_type(operator), 1)


def _conv_2d(operator: Operator) -> int:
    if _type(operator) == "int16" and operator.options.get("quantizedBiasType", 0):
        return 8
    data, filters = operator.inputs[0], operator.inputs[1]
    assert data is not None and filters is not None
    if data.shape[3] != filters.shape[3]:
        return 6
    if _hybrid(operator):
        return 5 if _per_channel(filters) else 2
    if _type(operator) == "int16":
        return 4
    return _int8_by_weights(operator, int8=3, int4=7)


def _depthwise_conv_2d(operator: Operator) -> int:
    if _type(operator) == "int16":
        return 5
    if _hybrid(operator):
        return 6 if _per_channel(operator.inputs[1]) else 4
    quantized = _int8_by_weights(operator, int8=3, int4=7)
    dilated = operator.options.get("dilationWFactor", 1) != 1 or operator.options.get("dilationHFactor", 1) != 1
    return max(quantized, 2 if dilated else 1)


def _int8_by_weights(operator: Operator, *, int8: int, int4: int) -> int:
    if _type(operator) != "int8":
        return 1
    return {"int8": int8, "int4": int4}.get(_type(operator, 1), 1)


def _fully_connected(operator: Operator) -> int:
    types = _type(operator), _type(operator, 1)
    if types[1] == "int2":
        return 14
    if types == ("int16", "int4"):
        return 13
    if _hybrid(operator) and _per_channel(operator.inputs[1]):
        return 12
    if types == ("int16", "int8") and operator.options.get("quantizedBiasType", 0):
        return 11
    if types[0] == "int16":
        return 7
    if types == ("int8", "int4"):
        return 10
    if _input(operator, 2) is None:
        return 6
    if operator.options.get("keepNumDims", False):
        return 5
    if types == ("int8", "int8"):
        return 4
    if _hybrid(operator):
        return 9 if operator.options.get("asymmetricQuantizeInputs", False) else 3
    return 1


def _transpose_conv(operator: Operator) -> int:
    # Inputs: output shape, weights, data, bias.
    if _type(operator, 2) == "int16" and operator.options.get("quantizedBiasType", 0):
        return 5
    if operator.options.get("fusedActivationFunction", 0):
        return 4
    if _input(operator, 3) is not None:
        return 3
    return 2 if _type(operator, 1) == "int8" else 1


def _batch_matmul(operator: Operator) -> int:
    if _hybrid(operator) and operator.options.get("asymmetricQuantizeInputs", False):
        return 4
    return {"int8": 2, "int16": 3}.get(_type(operator), 1)


def _gather(operator: Operator) -> int:
    if _type(operator) == "int4":
        return 7
    if _type(operator, 1) == "int16":
        return 6
    if operator.options.get("batchDims", 0):
        return 5
    return {"int8": 2, "bool": 3, "int16": 4}.get(_type(operator), 1)


def _gather_nd(operator: Operator) -> int:
    if _type(operator) == "bool":
        return 5
    if _type(operator, 1) == "int16":
        return 4
    return 3 if _type(operator) == "int16" else 1


def _transpose(operator: Operator) -> int:
    kind, rank = _type(operator), _rank(operator)
    if kind == "float16":
        return 9
    if rank > 6 or kind == "bfloat16":
        return 8
    if kind == "int4":
        return 7
    if rank > 5:
        return 6
    if kind == "int16":
        return 5
    if rank > 4:
        return 4
    return {"int8": 2, "bool": 3}.get(kind, 1)


def _slice(operator: Operator) -> int:
    newest = {"float16": 8, "int4": 7, "uint32": 6}.get(_type(operator))
    if newest is not None:
        return newest
    return 5 if _rank(operator) > 4 else {"int8": 2, "int16": 4}.get(_type(operator), 1)


def _strided_slice(operator: Operator) -> int:
    if operator.options.get("offset", False):
        return 8
    if _type(operator) == "uint32":
        return 7
    if operator.options.get("ellipsisMask", 0) or operator.options.get("newAxisMask", 0):
        return 6
    return 4 if _rank(operator) > 4 else {"int8": 2, "bool": 3}.get(_type(operator), 1)


def _pad(operator: Operator) -> int:
    if _type(operator) == "bool":
        return 5
    return 4 if _rank(operator) > 4 else {"int8": 2, "int16": 3}.get(_type(operator), 1)


def _space_and_batch(operator: Operator) -> int:
    if _type(operator) == "int16":
        return 4
    data = operator.inputs[0]
    assert data is not None
    return 3 if data.rank != 4 else {"int8": 2}.get(_type(operator), 1)


def _split(operator: Operator) -> int:
    return {"int8": 2, "int32": 3, "int16": 4}.get(_type(operator, 1), 1)


def _resize_bilinear(operator: Operator) -> int:
    if _type(operator) == "int16":
        return 4
    return 3 if operator.options.get("halfPixelCenters", False) else {"int8": 2}.get(_type(operator), 1)


def _resize_nearest_neighbor(operator: Operator) -> int:
    if _type(operator) != "int16" and operator.options.get("alignCorners", False):
        return 3
    return _resize_bilinear(operator)


def _quantize(operator: Operator) -> int:
    types = {_type(operator), _output_type(operator)}
    if "uint4" in types:
        return 5
    if "int4" in types:
        return 4
    if _per_channel(operator.outputs[0]):
        return 3
    return 2 if _output_type(operator) == "int16" else 1


def _dequantize(operator: Operator) -> int:
    if _type(operator) == "int8" and _per_channel(operator.inputs[0]):
        return 5
    return {"int8": 2, "int16": 3, "float16": 3, "int4": 6, "int2": 7, "uint4": 8}.get(_type(operator), 1)


def _cast(operator: Operator) -> int:
    by_type = {"uint32": 2, "int8": 3, "uint16": 4, "float16": 5, "float64": 5, "bfloat16": 7, "int2": 8, "uint4": 8}
    if _type(operator) == "int4":
        return 6
    return max(by_type.get(_type(operator), 1), by_type.get(_output_type(operator), 1))


def _select(operator: Operator) -> int:
    if _type(operator) == "uint32":
        return 4
    return 3 if _rank(operator) == 5 else {"int8": 2}.get(_type(operator), 1)


def _fill(operator: Operator) -> int:
    return {"bool": 2, "int8": 3, "int16": 3, "float16": 4}.get(_type(operator, 1), 1)


def _topk(operator: Operator) -> int:
    if "int16" in (_type(operator), _type(operator, 1), operator.outputs[1].dtype.name):
        return 3
    return 2 if _type(operator) == "int8" else 1


def _where(operator: Operator) -> int:
    return 1 if _type(operator) == "bool" else 2


def _broadcast_to(operator: Operator) -> int:
    # Version 1 was taken back before it was released.
    return 3 if _type(operator) in ("int8", "int16") else 2


def _dynamic_update_slice(operator: Operator) -> int:
    newest = {"float16": 3, "int16": 4, "int4": 5, "bfloat16": 6}.get(_type(operator))
    if newest is not None:
        return newest
    return 2 if _type(operator, 2) == "int64" else 1


def _sparse_to_dense(operator: Operator) -> int:
    return {"int64": 2, "int8": 3, "uint8": 3}.get(_type(operator, 2), 1)


def _embedding_lookup(operator: Operator) -> int:
    if _type(operator, 1) == "int4" or _per_channel(_input(operator, 1)):
        return 4
    return 5 if _type(operator, 1) == "int2" else 1


def _fake_quant(operator: Operator) -> int:
    return 2 if operator.options.get("narrowRange", False) else 1


def _lstm(operator: Operator) -> int:
    if operator.options.get("kernelType", 0):
        return 2
    if _type(operator) == "int16":
        return 5
    if _type(operator) == "float32" and _type(operator, 2) == "int8":
        return 4 if operator.options.get("asymmetricQuantizeInputs", False) else 3
    return 1


def _unidirectional_lstm(operator: Operator) -> int:
    if _type(operator) == "int16" and _type(operator, 2) == "int8":
        return 5
    if operator.options.get("diagonalRecurrentTensors", False):
        return 4
    if _type(operator) == "float32" and _type(operator, 2) == "int8":
        return 3 if operator.options.get("asymmetricQuantizeInputs", False) else 2
    return 1


def _rnn(operator: Operator) -> int:
    if not _hybrid(operator):
        return 1
    return 3 if operator.options.get("asymmetricQuantizeInputs", False) else 2


_SPECIAL: dict[str, Callable[[Operator], int]] = {
    "ABS": _abs,
    "ADD": _add,
    "BATCH_MATMUL": _batch_matmul,
    "BATCH_TO_SPACE_ND": _space_and_batch,
    "BIDIRECTIONAL_SEQUENCE_LSTM": _rnn,
    "BROADCAST_TO": _broadcast_to,
    "CAST": _cast,
    "CONV_2D": _conv_2d,
    "DEPTHWISE_CONV_2D": _depthwise_conv_2d,
    "DEQUANTIZE": _dequantize,
    "DIV": _div,
    "DYNAMIC_UPDATE_SLICE": _dynamic_update_slice,
    "EMBEDDING_LOOKUP": _embedding_lookup,
    "FAKE_QUANT": _fake_quant,
    "FILL": _fill,
    "FULLY_CONNECTED": _fully_connected,
    "GATHER": _gather,
    "GATHER_ND": _gather_nd,
    "LSTM": _lstm,
    "MAXIMUM": _extremum,
    "MINIMUM": _extremum,
    "MUL": _mul,
    "PAD": _pad,
    "PADV2": _pad,
    "QUANTIZE": _quantize,
    "RESIZE_BILINEAR": _resize_bilinear,
    "RESIZE_NEAREST_NEIGHBOR": _resize_nearest_neighbor,
    "RNN": _rnn,
    "SELECT": _select,
    "SLICE": _slice,
    "SPACE_TO_BATCH_ND": _space_and_batch,
    "SPARSE_TO_DENSE": _sparse_to_dense,
    "SPLIT": _split,
    "STRIDED_SLICE": _strided_slice,
    "SUB": _sub,
    "TOPK_V2": _topk,
    "TRANSPOSE": _transpose,
    "TRANSPOSE_CONV": _transpose_conv,
    "UNIDIRECTIONAL_SEQUENCE_LSTM": _unidirectional_lstm,
    "UNIDIRECTIONAL_SEQUENCE_RNN": _rnn,
    "WHERE": _where,
}
