"""Average pools of stored integers, as the importer writes them, get the scale back that the integers have around them.

    Before: a = DequantizeLinear(q, 1, 0)   m = AveragePool(a)   y = QuantizeLinear(m, 1 - 2^-20, 0)
    After:  a = DequantizeLinear(q, s, z)   m = AveragePool(a)   y = QuantizeLinear(m, s, z)

Lowered, that is one AVERAGE_POOL_2D on integers, whose kernels round halves as the first form says. It is no pass: as
ONNX operators the two forms round halves differently.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgecc.rewriting.reading import constant, is_op
from edgecc_tflite.quantization.pools import HALVES_AWAY, STEPS

if TYPE_CHECKING:
    from edgecc.model import Model, Node, Tensor

#: Operators that leave stored integers as they are.
_MOVES = ("Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity")


def with_pool_scales(model: Model) -> Model:
    """The model with such pools rewritten, which is to be lowered next; itself if it has none. It is not changed."""
    if not any(_pool_of_steps(node, model) for node in model.nodes("QuantizeLinear")):
        return model
    result = model.clone()
    for last in result.nodes("QuantizeLinear"):
        first = _pool_of_steps(last, result)
        if first is None:
            continue
        # Where nothing around says which scale the integers have, the pool's own is as good.
        found = _around(first, result) or _behind(last.outputs[0], result) or list(first.inputs[1:3])
        for node in (first, last):
            for index, operand in enumerate(found, start=1):
                result.set_input(node, index, operand)
    return result


def _pool_of_steps(node: Node, model: Model) -> Node | None:
    """The DequantizeLinear in front of an AveragePool of integers that this node rounds."""
    if not _has_scale(node, HALVES_AWAY.scale):
        return None
    pools, producer = 0, model.producer(node.inputs[0])
    while producer is not None and is_op(producer, "Transpose", "AveragePool"):
        if model.single_consumer(producer.outputs[0]) is None:
            return None
        pools += producer.op == "AveragePool"
        producer = model.producer(producer.inputs[0])
    if producer is None or not is_op(producer, "DequantizeLinear") or not _has_scale(producer, STEPS.scale):
        return None
    first, last = constant(producer, 2), constant(node, 2)
    is_alike = first is not None and last is not None and np.array_equal(first, last)
    return producer if pools == 1 and is_alike and model.single_consumer(producer.outputs[0]) is not None else None


def _has_scale(node: Node, wanted: np.ndarray) -> bool:
    scale, zero_point = constant(node, 1), constant(node, 2)
    return scale is not None and scale.size == 1 and zero_point is not None and bool(scale.reshape(1) == wanted)


def _around(first: Node, model: Model) -> list[Tensor] | None:
    """Scale and zero point of the integers that a node reads, from what wrote them or what else reads them."""
    tensor = first.inputs[0]
    while True:
        producer = model.producer(tensor)
        if producer is not None and is_op(producer, "QuantizeLinear"):
            return _parameters(producer, first)
        for reader in model.consumers(tensor):
            if reader is not first and is_op(reader, "DequantizeLinear") and (found := _parameters(reader, first)):
                return found
        if producer is None or not is_op(producer, *_MOVES):
            return None
        tensor = producer.inputs[0]


def _behind(tensor: Tensor, model: Model) -> list[Tensor] | None:
    """The same, from what reads the integers that a node writes."""
    pending = [tensor]
    while pending:
        for reader in model.consumers(pending.pop()):
            if is_op(reader, "DequantizeLinear") and (found := _parameters(reader, reader)):
                return found
            if is_op(reader, *_MOVES):
                pending += reader.outputs
    return None


def _parameters(node: Node, like: Node) -> list[Tensor] | None:
    """Its operands for scale and zero point: constants for the whole tensor, of the other's type, and not a pool's."""
    scale, zero_point, other = constant(node, 1), constant(node, 2), constant(like, 2)
    if scale is None or zero_point is None or other is None or scale.size != 1 or scale.dtype != np.float32:
        return None
    middle = 128 if zero_point.dtype == np.uint8 else 0
    is_steps = bool(scale.reshape(1) == STEPS.scale) and int(zero_point.reshape(1)[0]) in (0, middle)
    return None if is_steps or zero_point.dtype != other.dtype else list(node.inputs[1:3])
