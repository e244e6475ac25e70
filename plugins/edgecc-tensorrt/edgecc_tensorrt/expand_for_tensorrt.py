"""Pass expand-for-tensorrt."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgecc.passes.base import Loss, NodePass, PassContext
from edgecc.rewriting.reading import constant, has_operand, is_op

if TYPE_CHECKING:
    from edgecc.model import Model, Node, Tensor

_FLOAT32 = np.dtype(np.float32)


class ExpandForTensorRT(NodePass):
    """Write quantization that TensorRT does not have as arithmetic: zero points other than 0, uint8, int16, int32.

    Before: q = QuantizeLinear(x, s, z)   y = DequantizeLinear(q, s, z)
    After:  a = Div(x, s)   b = Round(a)   c = Add(b, zf)   d = Clip(c, low, high)   e = Sub(d, zf)   y = Mul(e, s)

    The values are the same, rounded where the source rounds; they are computed in float. Where integers are moved in
    between, or are an input or output of the model, they are quantized with a scale of 1. Stored weights around a zero
    point, and biases, become float constants.

    Attributes:
        ignore: patterns of node names to leave alone.
    """

    name = "expand-for-tensorrt"
    loss = Loss.EXACT
    after = ("expand-qoperators",)

    def candidates(self, model: Model) -> list[Node]:
        return model.nodes("QuantizeLinear", "DequantizeLinear", ignore=self.ignore)

    def visit(self, node: Node, model: Model, ctx: PassContext) -> bool:
        if node.op == "DequantizeLinear":
            changed = _store_in_float(node, model) or _dequantize(node, model)
        else:
            changed = _quantize(node, model)
        if changed:
            ctx.done(node, "written as arithmetic")
        return changed


def _store_in_float(node: Node, model: Model) -> bool:
    """A constant that TensorRT cannot dequantize becomes a float one."""
    values, scale = constant(node, 0), constant(node, 1)
    if values is None or scale is None or node.attrs.get("block_size") or scale.dtype != _FLOAT32:
        return False
    zero_point = constant(node, 2) if has_operand(node, 2) else np.zeros((), np.int64)
    if zero_point is None or (values.dtype == np.int8 and not zero_point.any()):
        return False
    if values.dtype.name not in ("int8", "uint8", "int16", "int32") or model.is_output(node.outputs[0]):
        return False
    axis = int(node.attrs.get("axis", 1)) % max(values.ndim, 1)
    shape = [-1 if a == axis else 1 for a in range(values.ndim)] if scale.size > 1 else [1] * values.ndim
    steps = values.astype(np.int64) - zero_point.astype(np.int64).reshape(shape if zero_point.size > 1 else ())
    real = (steps.astype(np.float32) * scale.reshape(shape)).astype(np.float32)
    model.redirect(node.outputs[0], model.constant(node.outputs[0].name, real))
    model.remove(node)
    return True


def _dequantize(node: Node, model: Model) -> bool:
    dtype = np.dtype(node.inputs[0].dtype)
    if not _is_foreign(node, dtype):
        return False
    steps = _as_float(model, node.inputs[0], dtype)
    _scale(model, node, steps)
    return True


def _quantize(node: Node, model: Model) -> bool:
    out = node.outputs[0]
    dtype = np.dtype(out.dtype)
    if not _is_foreign(node, dtype) or np.dtype(node.inputs[0].dtype) != _FLOAT32:
        return False
    steps = _add(model, "Round", [_add(model, "Div", [node.inputs[0], node.inputs[1]], out)], out)
    zero_point = _zero_point(model, node)
    if zero_point is not None:
        steps = _add(model, "Add", [steps, zero_point], out)
    limits = np.iinfo(dtype)
    ends = [model.constant(f"{out.name}/limit", np.array(end, np.float32)) for end in (limits.min, limits.max)]
    steps = _add(model, "Clip", [steps, *ends], out)
    for reader in model.consumers(out):
        if reader.op == "DequantizeLinear" and _is_foreign(reader, dtype):
            _scale(model, reader, steps)
    if not model.consumers(out) and not model.is_output(out):
        model.remove(node)
    elif dtype == np.int8:
        one, zero = model.constant("one", np.ones((), np.float32)), model.constant("zero", np.zeros((), np.int8))
        model.replace(node, "QuantizeLinear", [steps, one, zero])
    else:
        model.replace(node, "Cast", [steps], attributes={"to": int(_ONNX_TYPES[dtype.name])})
    return True


_ONNX_TYPES = {"uint8": 2, "int16": 5, "uint16": 4}


def _is_foreign(node: Node, dtype: np.dtype[np.generic]) -> bool:
    """One scale for all, in a way that TensorRT does not have."""
    if dtype.name not in ("int8", *_ONNX_TYPES) or node.attrs.get("block_size"):
        return False
    if constant(node, 0) is not None or np.dtype(node.inputs[1].dtype) != _FLOAT32:
        return False
    shape = node.inputs[1].shape
    if shape is None or any(dim != 1 for dim in shape):
        return False
    zero_point = constant(node, 2) if has_operand(node, 2) else np.zeros((), np.int8)
    is_known = zero_point is not None and constant(node, 1) is not None
    return dtype != np.int8 or not is_known or bool(np.any(zero_point))


def _as_float(model: Model, tensor: Tensor, dtype: np.dtype[np.generic]) -> Tensor:
    """Stored integers as numbers; TensorRT has no cast for int8."""
    if dtype != np.int8:
        result = model.variable(f"{tensor.name}/steps", _FLOAT32, tensor.shape)
        model.add("Cast", [tensor], [result], attributes={"to": 1})
        return result
    one, zero = model.constant("one", np.ones((), np.float32)), model.constant("zero", np.zeros((), np.int8))
    return _add(model, "DequantizeLinear", [tensor, one, zero], tensor)


def _scale(model: Model, node: Node, steps: Tensor) -> None:
    """Let a DequantizeLinear compute its result from whole numbers in float."""
    zero_point, scale = _zero_point(model, node), node.inputs[1]
    if zero_point is not None:
        steps = _add(model, "Sub", [steps, zero_point], node.outputs[0])
    model.replace(node, "Mul", [steps, scale])


def _zero_point(model: Model, node: Node) -> Tensor | None:
    if not has_operand(node, 2):
        return None
    values, tensor = constant(node, 2), node.inputs[2]
    if values is None:
        producer = model.producer(tensor)
        # A zero point that is found at run time is rounded before it becomes an integer.
        if producer is not None and is_op(producer, "Cast") and _is_round(producer.inputs[0]):
            return producer.inputs[0]
        return _as_float(model, tensor, np.dtype(tensor.dtype))
    return model.constant(tensor.name, values.astype(np.float32)) if values.any() else None


def _is_round(tensor: Tensor) -> bool:
    """Whether the values are whole, maybe kept between two whole ends since."""
    producer = tensor.inputs[0] if tensor.inputs else None
    while producer is not None and is_op(producer, "Min", "Max", "Clip"):
        source = producer.inputs[0]
        producer = source.inputs[0] if source.inputs else None
    return producer is not None and is_op(producer, "Round")


def _add(model: Model, op: str, inputs: list[Tensor], like: Tensor) -> Tensor:
    result = model.variable(f"{like.name}/{op.lower()}", _FLOAT32, like.shape)
    model.add(op, inputs, [result])
    return result
