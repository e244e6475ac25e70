"""Rules of every graph: order, names, shapes, ranks, types. The runtime checks some of them, and crashes on others."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from edgecc_tflite.ir import Graph, Operator, Tensor
from edgecc_tflite.rules.violation import Violation, violation

_ANY_RANK = (0, 8)
_IMAGE = (4, 4)
_UP_TO_FIVE = (0, 5)
_UP_TO_SIX = (0, 6)

#: Lowest and highest rank of the first input that both of LiteRT's kernel sets take, where it is not `_ANY_RANK`;
#: measured with LiteRT 2.3. A rank that only the built-in kernels take makes the whole model unusable, for XNNPACK is
#: the default and refuses it instead of leaving the operator to them.
_RANKS = {
    "AVERAGE_POOL_2D": _IMAGE,
    "BATCH_MATMUL": (2, 5),
    "BATCH_TO_SPACE_ND": (3, 4),
    "CONCATENATION": _UP_TO_SIX,
    "CONV_2D": _IMAGE,
    "CONV_3D": (5, 5),
    "CONV_3D_TRANSPOSE": (5, 5),
    "DEPTHWISE_CONV_2D": _IMAGE,
    "DEPTH_TO_SPACE": _IMAGE,
    "FULLY_CONNECTED": _UP_TO_SIX,
    "L2_POOL_2D": _IMAGE,
    "LOCAL_RESPONSE_NORMALIZATION": _IMAGE,
    "MAX_POOL_2D": _IMAGE,
    "MEAN": _UP_TO_SIX,
    "PAD": _UP_TO_FIVE,
    "PADV2": _UP_TO_FIVE,
    "REDUCE_MAX": _UP_TO_SIX,
    "REDUCE_MIN": _UP_TO_SIX,
    "RESIZE_BILINEAR": _IMAGE,
    "RESIZE_NEAREST_NEIGHBOR": _IMAGE,
    "SOFTMAX": _UP_TO_SIX,
    "SPACE_TO_BATCH_ND": (3, 4),
    "SPACE_TO_DEPTH": _IMAGE,
    "SPLIT": _UP_TO_SIX,
    "SUM": _UP_TO_SIX,
}

#: Operators whose data is not their first input.
_DATA_INPUT = {"SPLIT": 1, "TRANSPOSE_CONV": 2, "CONV_3D_TRANSPOSE": 2}

_COMPARISONS = frozenset({"EQUAL", "NOT_EQUAL", "LESS", "LESS_EQUAL", "GREATER", "GREATER_EQUAL"})

#: Inputs that must have one type, which is the outputs' too except for a comparison's.
_ALIKE: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(_COMPARISONS, (0, 1)),
    **dict.fromkeys(("ADD", "SUB", "MUL", "DIV", "POW", "MAXIMUM", "MINIMUM", "FLOOR_DIV", "FLOOR_MOD"), (0, 1)),
    **dict.fromkeys(("SQUARED_DIFFERENCE", "ATAN2", "PRELU", "LOGICAL_AND", "LOGICAL_OR"), (0, 1)),
    **dict.fromkeys(("RELU", "RELU6", "RELU_0_TO_1", "RELU_N1_TO_1", "LEAKY_RELU", "ELU", "GELU"), (0,)),
    **dict.fromkeys(("HARD_SWISH", "LOGISTIC", "TANH", "SOFTMAX", "LOG_SOFTMAX", "L2_NORMALIZATION"), (0,)),
    **dict.fromkeys(("ABS", "NEG", "EXP", "LOG", "SQRT", "RSQRT", "SQUARE", "SIN", "COS", "SIGN"), (0,)),
    **dict.fromkeys(("FLOOR", "CEIL", "ROUND", "LOGICAL_NOT", "CUMSUM", "ZEROS_LIKE"), (0,)),
    **dict.fromkeys(("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD", "REDUCE_ALL", "REDUCE_ANY"), (0,)),
    **dict.fromkeys(("RESHAPE", "TRANSPOSE", "SQUEEZE", "EXPAND_DIMS", "TILE", "BROADCAST_TO", "REVERSE_V2"), (0,)),
    **dict.fromkeys(("SLICE", "STRIDED_SLICE", "GATHER", "GATHER_ND", "PAD", "MIRROR_PAD", "UNPACK", "SPLIT_V"), (0,)),
    **dict.fromkeys(("AVERAGE_POOL_2D", "MAX_POOL_2D", "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"), (0,)),
    **dict.fromkeys(("SPACE_TO_DEPTH", "DEPTH_TO_SPACE", "SPACE_TO_BATCH_ND", "BATCH_TO_SPACE_ND"), (0,)),
    **dict.fromkeys(("CONV_2D", "DEPTHWISE_CONV_2D", "CONV_3D"), (0,)),
    "DYNAMIC_UPDATE_SLICE": (0, 1),
    "PADV2": (0, 2),
    "SELECT": (1, 2),
    "SELECT_V2": (1, 2),
    "SPLIT": (1,),
    "CONV_3D_TRANSPOSE": (2,),
    "TRANSPOSE_CONV": (2,),
}

#: Operators of which every input must have the outputs' type.
_ALL_ALIKE = frozenset({"CONCATENATION", "PACK", "ADD_N"})

#: Inputs that hold dimensions, axes or positions.
_INDICES: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(("RESHAPE", "TRANSPOSE", "PAD", "PADV2", "MIRROR_PAD", "TILE", "BROADCAST_TO", "GATHER"), (1,)),
    **dict.fromkeys(("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD", "REDUCE_ALL", "REDUCE_ANY"), (1,)),
    **dict.fromkeys(("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", "REVERSE_V2", "EXPAND_DIMS", "CUMSUM"), (1,)),
    **dict.fromkeys(("ARG_MAX", "ARG_MIN", "GATHER_ND"), (1,)),
    **dict.fromkeys(("SLICE", "SPACE_TO_BATCH_ND", "BATCH_TO_SPACE_ND", "SPLIT_V"), (1, 2)),
    "STRIDED_SLICE": (1, 2, 3),
    "SPLIT": (0,),
    "CONV_3D_TRANSPOSE": (0,),
    "TRANSPOSE_CONV": (0,),
}

#: Operators that crash, compute nonsense or refuse where they would have to broadcast.
_NO_BROADCAST: dict[str, tuple[int, ...]] = {"ATAN2": (0, 1), "SELECT": (1, 2)}


def written_before_read(graph: Graph) -> Iterator[Violation]:
    """Every tensor has its value when an operator reads it, and gets it once."""
    written = set(graph.inputs)
    for operator in graph.operators:
        for tensor in operator.inputs:
            if tensor is not None and tensor not in written and not tensor.is_constant:
                message = f"reads {tensor.name!r}, which nothing has written"
                yield violation("written-before-read", operator, message, tensor.name)
        for tensor in operator.outputs:
            if tensor in written or tensor.is_constant:
                message = f"writes {tensor.name!r}, which already has a value"
                yield violation("written-before-read", operator, message, tensor.name)
            written.add(tensor)
    for tensor in graph.outputs:
        if tensor not in written and not tensor.is_constant:
            yield Violation("written-before-read", "nothing writes this output of the graph", tensor.name)


def signature_names(graph: Graph) -> Iterator[Violation]:
    """Inputs have names of their own, outputs too, and inputs carry no data."""
    for tensors, what in ((graph.inputs, "inputs"), (graph.outputs, "outputs")):
        names = [tensor.source or tensor.name for tensor in tensors]
        for name in sorted({name for name in names if names.count(name) > 1}):
            yield Violation("signature-names", f"several {what} of the graph are called {name!r}", name)
    for tensor in graph.inputs:
        if tensor.is_constant:
            yield Violation("signature-names", "an input of the graph holds data", tensor.name)


def source_names(graph: Graph) -> Iterator[Violation]:
    """Tensors that stand for a source tensor have names of their own: reports find them by these."""
    owner: dict[str, Tensor] = {}
    for tensor in _tensors(graph):
        if tensor.source and owner.setdefault(tensor.name, tensor) is not tensor:
            yield Violation("source-names", "two tensors that stand for source tensors have this name", tensor.name)


def shapes(graph: Graph) -> Iterator[Violation]:
    """Dimensions are positive, or -1 for an open one; a constant has the shape and type that it says.

    A tensor without elements that no operator reads harms nobody.
    """
    read = {tensor for operator in graph.operators for tensor in operator.inputs}
    for tensor in _tensors(graph):
        if tensor.data is None:
            if any(dim < -1 or (dim == 0 and tensor in read) for dim in tensor.shape):
                yield Violation("shapes", f"shape {tensor.shape} has a dimension without elements", tensor.name)
        elif tensor.data.shape != tensor.shape or tensor.data.dtype != tensor.dtype:
            message = (
                f"is declared as {tensor.dtype.name}{list(tensor.shape)} "
                f"and holds {tensor.data.dtype.name}{list(tensor.data.shape)}"
            )
            yield Violation("shapes", message, tensor.name)


def ranks(graph: Graph) -> Iterator[Violation]:
    """The data has a rank that the kernels take."""
    for operator in graph.operators:
        data = _data(operator)
        if data is None:
            continue
        lowest, highest = _RANKS.get(operator.builtin, _ANY_RANK)
        if not lowest <= data.rank <= highest:
            wanted = str(lowest) if lowest == highest else f"{lowest} to {highest}"
            message = f"takes rank {wanted} and reads {data.name!r} of rank {data.rank}"
            yield violation("ranks", operator, message, data.name)


def types(graph: Graph) -> Iterator[Violation]:
    """Data of one operator has one type, indices are integers."""
    for operator in graph.operators:
        positions = range(len(operator.inputs)) if operator.builtin in _ALL_ALIKE else _ALIKE.get(operator.builtin, ())
        alike = _at(operator, positions)
        if alike and operator.builtin not in _COMPARISONS:
            alike += operator.outputs
        if len({tensor.dtype for tensor in alike}) > 1:
            found = ", ".join(f"{tensor.name!r} {tensor.dtype.name}" for tensor in alike)
            yield violation("types", operator, f"wants one type and has {found}")
        if operator.builtin in _COMPARISONS and operator.outputs[0].dtype != np.bool_:
            yield violation("types", operator, f"writes bool, not {operator.outputs[0].dtype.name}")
        for tensor in _at(operator, _INDICES.get(operator.builtin, ())):
            if tensor.dtype.kind not in "iu":
                message = f"wants integers in {tensor.name!r}, which is {tensor.dtype.name}"
                yield violation("types", operator, message, tensor.name)


def broadcasting(graph: Graph) -> Iterator[Violation]:
    """Operators that cannot broadcast get inputs of one shape."""
    for operator in graph.operators:
        tensors = _at(operator, _NO_BROADCAST.get(operator.builtin, ()))
        if len({tensor.shape for tensor in tensors}) > 1:
            found = " and ".join(str(list(tensor.shape)) for tensor in tensors)
            yield violation("broadcasting", operator, f"does not broadcast and gets {found}")


def convolution_bias(graph: Graph) -> Iterator[Violation]:
    """CONV_2D refuses a missing bias; DEPTHWISE_CONV_2D kills the process."""
    for operator in graph.operators:
        if operator.builtin in ("CONV_2D", "DEPTHWISE_CONV_2D") and len(_at(operator, (2,))) == 0:
            yield violation("convolution-bias", operator, "needs a bias; give it one of zeros")


def sparse_constants(graph: Graph) -> Iterator[Violation]:
    """Sparse tensors are constants that only DENSIFY reads, which gives a dense tensor of their shape and type."""
    for operator in graph.operators:
        for tensor in _at(operator, range(len(operator.inputs))):
            if tensor.sparse and (operator.builtin != "DENSIFY" or tensor.data is None or tensor.rank < 1):
                message = f"reads {tensor.name!r}, which is sparse: constants may be, for DENSIFY"
                yield violation("sparse-constants", operator, message, tensor.name)
        if operator.builtin != "DENSIFY":
            continue
        (source,), (result,) = _at(operator, (0,)), operator.outputs
        if not source.sparse:
            yield violation("sparse-constants", operator, f"{source.name!r} is dense", source.name)
        if (source.shape, source.dtype) != (result.shape, result.dtype) or result.sparse:
            yield violation("sparse-constants", operator, f"{result.name!r} is not {source.name!r} made dense")


def _tensors(graph: Graph) -> dict[Tensor, None]:
    """Every tensor of the graph once."""
    tensors = dict.fromkeys((*graph.inputs, *graph.outputs))
    for operator in graph.operators:
        tensors.update(dict.fromkeys(tensor for tensor in operator.inputs if tensor is not None))
        tensors.update(dict.fromkeys(operator.outputs))
    return tensors


def _data(operator: Operator) -> Tensor | None:
    found = _at(operator, (_DATA_INPUT.get(operator.builtin, 0),))
    return found[0] if found else None


def _at(operator: Operator, positions: tuple[int, ...] | range) -> list[Tensor]:
    """The inputs at these positions that are there."""
    inputs = operator.inputs
    present = [inputs[position] for position in positions if position < len(inputs)]
    return [tensor for tensor in present if tensor is not None]
