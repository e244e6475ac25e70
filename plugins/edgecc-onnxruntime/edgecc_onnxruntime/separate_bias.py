"""Pass separate-bias."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from edgecc.passes.base import Loss, NodePass, PassContext

if TYPE_CHECKING:
    from edgecc.model import Model, Node


class SeparateBias(NodePass):
    """Give the bias behind a product of quantized matrices all axes of the sum.

    Before: p = MatMul(a, b)   y = Add(p, bias)
    After:  p = MatMul(a, b)   y = Add(p, bias_1_1_n)

    Only where DequantizeLinear is in front of both factors and the product has three axes or more. ONNX Runtime makes
    Gemm of a MatMul with a bias of one axis, before it looks for products of integers; that one would unpack its
    weights at every run and multiply floats (1.32: a whole encoder takes three times as long).

    Attributes:
        ignore: patterns of node names to leave alone.
    """

    name: ClassVar[str] = "separate-bias"
    loss: ClassVar[Loss] = Loss.EXACT
    keeps_types: ClassVar[bool] = True

    def candidates(self, model: Model) -> list[Node]:
        return model.nodes("MatMul", ignore=self.ignore)

    def visit(self, node: Node, model: Model, ctx: PassContext) -> bool:
        from edgecc.rewriting.reading import constant, is_op

        if not all(tensor.inputs and is_op(tensor.inputs[0], "DequantizeLinear") for tensor in node.inputs):
            return False
        product = node.outputs[0]
        add = model.single_consumer(product)
        if add is None or not is_op(add, "Add") or product.shape is None or len(product.shape) < 3:
            return False
        place = 1 if add.inputs[0] is product else 0
        bias = constant(add, place)
        if bias is None or bias.ndim != 1:
            return False
        wide = np.reshape(bias, (1,) * (len(product.shape) - 1) + bias.shape)
        ctx.done(add, "its bias has all axes")
        model.set_input(add, place, model.constant(add.inputs[place].name, wide))
        return True
