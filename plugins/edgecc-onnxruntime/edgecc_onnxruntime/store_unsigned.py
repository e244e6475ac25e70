"""Pass store-unsigned."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from edgecc.passes.base import Loss, NodePass, PassContext
from edgecc.rewriting.reading import constant, has_operand, is_op

if TYPE_CHECKING:
    from edgecc.model import Model, Node, Tensor

_UINT8 = np.dtype(np.uint8)
#: Operators whose first input's stored values come out again, in some order.
_MOVES = ("Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Slice", "Split", "MaxPool", "Identity")
#: What ONNX Runtime computes with integers where its data is of 8 bits.
_WEIGHTED = ("Conv", "Gemm", "MatMul")
#: Its own kernels for these on integers scale each term in float32 beside offsets of several hundred steps: what lies
#: within 1e-5 of a half goes the wrong way. Between DequantizeLinear and QuantizeLinear it does not.
_COARSE = ("Add", "Mul")
_ACTIVATIONS = ("Relu", "Clip")


class StoreUnsigned(NodePass):
    """Store data between operators in uint8 instead of int8.

    Before: q = QuantizeLinear(x, s, z)         y = DequantizeLinear(q, s, z)         (z of type int8)
    After:  q = QuantizeLinear(x, s, z + 128)   y = DequantizeLinear(q, s, z + 128)   (z + 128 of type uint8)

    The numbers are the same. On x86 ONNX Runtime fuses a Conv between int8 data only where one node reads what another
    wrote, so that residual nets and what reads the model's input are computed in float: in twice the time (a ResNet-8,
    1.32), and with sums that are rounded. An int8 input of the model, and what Add or Mul write, stay in int8 and are
    stored again in uint8 in front of what has weights: this keeps Add and Mul themselves exact, for 3 % of the time.

    Attributes:
        ignore: patterns of node names to leave alone.
    """

    name: ClassVar[str] = "store-unsigned"
    loss: ClassVar[Loss] = Loss.EXACT
    after: ClassVar[tuple[str, ...]] = ("expand-qoperators",)

    def candidates(self, model: Model) -> list[Node]:
        return model.nodes("QuantizeLinear", "DequantizeLinear", ignore=self.ignore)

    def visit(self, node: Node, model: Model, ctx: PassContext) -> bool:
        if not _is_signed(node):
            return False
        if node.op == "DequantizeLinear":
            return _store_again(node, model, ctx)
        if _is_coarse(node, model):
            return False
        moved: list[Tensor] = []
        readers = _readers(node.outputs[0], model, moved)
        if readers is None:
            ctx.skip(node, "more than DequantizeLinear reads its integers")
            return False
        for tensor in moved:
            tensor.dtype = _UINT8
        for place in (node, *readers):
            _shift(place, model)
        ctx.done(node, "its integers are stored in uint8", [node, *readers])
        return True


def _is_signed(node: Node) -> bool:
    """Whether it speaks of int8 data with one known scale."""
    scale, zero_point = constant(node, 1), constant(node, 2)
    if scale is None or scale.size != 1 or node.attrs.get("block_size") or node.attrs.get("output_dtype"):
        return False
    if zero_point is None:
        is_int8 = node.op == "DequantizeLinear" and not has_operand(node, 2) and node.inputs[0].dtype == np.int8
        return is_int8 and constant(node, 0) is None
    return zero_point.dtype == np.int8 and zero_point.size == 1 and constant(node, 0) is None


def _readers(tensor: Tensor, model: Model, moved: list[Tensor]) -> list[Node] | None:
    """Every DequantizeLinear that reads the integers, directly or moved; None if something else does.

    Args:
        tensor: the integers.
        model: that they are of.
        moved: gets the tensors that hold them.
    """
    found: dict[int, Node] = {}
    pending = [tensor]
    while pending:
        current = pending.pop()
        moved.append(current)
        if model.is_output(current):
            return None
        for reader in model.consumers(current):
            if model.is_inner(reader) or any(t is current for t in reader.inputs[1:]):
                return None
            if is_op(reader, "DequantizeLinear") and _is_signed(reader):
                found[id(reader)] = reader
            elif is_op(reader, *_MOVES) and not (reader.op == "MaxPool" and len(reader.outputs) > 1):
                pending += reader.outputs
            else:
                return None
    return list(found.values())


def _shift(node: Node, model: Model) -> None:
    """Let a node speak of uint8."""
    model.set_input(node, 2, _shifted(node, model))


def _shifted(node: Node, model: Model) -> Tensor:
    """A node's zero point among uint8 values."""
    values, scale = constant(node, 2), constant(node, 1)
    assert scale is not None, "the caller has seen to it"
    old = np.zeros(scale.shape, np.int16) if values is None else values.astype(np.int16)
    name = node.inputs[2].name if has_operand(node, 2) else f"{node.outputs[0].name}/zero_point"
    return model.constant(name, (old + 128).astype(np.uint8))


def _is_coarse(node: Node, model: Model) -> bool:
    """Whether what a QuantizeLinear rounds is the result of an Add or Mul, maybe clamped."""
    producer = model.producer(node.inputs[0])
    while producer is not None and is_op(producer, *_ACTIVATIONS):
        producer = model.producer(producer.inputs[0])
    return producer is not None and is_op(producer, *_COARSE)


def _store_again(node: Node, model: Model, ctx: PassContext) -> bool:
    """Behind the DequantizeLinear of int8 data that stays so, store it in uint8 for what has weights."""
    source, real = node.inputs[0], node.outputs[0]
    while (producer := model.producer(source)) is not None and is_op(producer, *_MOVES):
        source = producer.inputs[0]
    if producer is not None and not (is_op(producer, "QuantizeLinear") and _is_coarse(producer, model)):
        return False
    readers = [reader for reader in model.consumers(real) if is_op(reader, *_WEIGHTED) and reader.inputs[0] is real]
    if not readers or any(model.is_inner(reader) for reader in readers):
        return False
    scale = constant(node, 1)
    if scale is None or not np.isfinite(scale).all() or (scale < np.finfo(np.float32).tiny).any():
        return False
    parameters = [node.inputs[1], _shifted(node, model)]
    stored = model.variable(f"{real.name}/unsigned", _UINT8, real.shape)
    model.add("QuantizeLinear", [real, *parameters], [stored])
    again = model.variable(f"{real.name}/again", np.dtype(np.float32), real.shape)
    model.add("DequantizeLinear", [stored, *parameters], [again])
    for reader in readers:
        model.set_input(reader, 0, again)
    ctx.done(node, "its integers are stored in uint8 for what has weights", [node, *readers])
    return True
