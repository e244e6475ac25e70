"""The version of each operator for which the type of its first input does not decide: one function per operator."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgecc_tflite.ir import Operator, Tensor
from edgecc_tflite.schema import type_name


def _type(operator: Operator, index: int = 0) -> str:
    """Name of the type of an input; "" where there is none."""
    tensor = _input(operator, index)
    return "" if tensor is None else type_name(tensor.dtype)


def _input(operator: Operator, index: int) -> Tensor | None:
    return operator.inputs[index] if index < len(operator.inputs) else None


def _output_type(operator: Operator) -> str:
    return type_name(operator.outputs[0].dtype)


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
    assert data is not None
    assert filters is not None
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
    weights = operator.inputs[1]
    # Older runtimes would take runs of weights for unscaled ones.
    if types == ("int16", "int4") or (weights is not None and weights.blocks is not None):
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
    if "int16" in (_type(operator), _type(operator, 1), type_name(operator.outputs[1].dtype)):
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


#: The functions by operator; `edgecc_tflite.versions` asks them first.
SPECIAL: dict[str, Callable[[Operator], int]] = {
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
