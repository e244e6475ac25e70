"""Pass fuse-matmul-add."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgecc.passes.base import Loss, NodePass, PassContext
from edgecc.rewriting.linear import loses_digits, scaled
from edgecc.rewriting.reading import constant, describe, has_operand, is_floating, is_op, rank

if TYPE_CHECKING:
    from edgecc.model import Model, Node, Tensor


class FuseMatMulAdd(NodePass):
    """Say Gemm for a product of two matrices and what is added to it, and keep its weights free of factors.

    Before: t = Transpose(x)   p = MatMul(t, w)   y = Add(p, b)
    After:  y = Gemm<transA = 1>(x, w, b)

    A MatMul of matrices alone; one with more axes has no Gemm. A Gemm reads past a Transpose that nothing else reads,
    takes its alpha and beta into constant weights and bias, and drops a bias that beta makes zero. Constant weights
    stay as they lie, transposed or not: ONNX Runtime packs both, and TFLite's FULLY_CONNECTED gets its own order.

    Attributes:
        ignore: patterns of node names to leave alone.
    """

    name = "fuse-matmul-add"
    loss = Loss.ROUNDING
    keeps_types = True

    def candidates(self, model: Model) -> list[Node]:
        return model.nodes("MatMul", "Gemm", ignore=self.ignore)

    def visit(self, node: Node, model: Model, ctx: PassContext) -> bool:
        changed = False
        if node.op == "MatMul" and any(rank(tensor) != 2 for tensor in node.inputs):
            if _addition(node, model) is not None:
                ctx.skip(node, "its operands are not two matrices")
            return False
        if not is_floating(node.outputs[0].dtype):
            return False
        if node.op == "Gemm":
            changed |= _drop_factors(node, model, ctx)
        changed |= _read_past_transposes(node, model, ctx)
        if not (node.op == "Gemm" and has_operand(node, 2)):
            changed |= _add(node, model, ctx)
        return changed


# ------------------------------------------------------------------------------------------------------------ the sum


def _addition(node: Node, model: Model) -> Node | None:
    """The Add that reads the product, if one does."""
    return next((r for r in model.consumers(node.outputs[0]) if is_op(r, "Add") and not model.is_inner(r)), None)


def _add(node: Node, model: Model, ctx: PassContext) -> bool:
    from edgecc.model import merged_origins

    addition = _addition(node, model)
    if addition is None:
        return False
    product = node.outputs[0]
    addend = addition.inputs[1 if addition.inputs[0] is product else 0]
    reason = _addend_refused(product, addend, model)
    if reason is not None:
        ctx.skip(node, reason)
        return False
    ctx.done(addition, f"{node.op} + Add became Gemm", [addition, node])
    attributes = {key: node.attrs[key] for key in ("alpha", "transA", "transB") if key in node.attrs}
    inputs = [node.inputs[0], node.inputs[1], addend]
    origins = merged_origins((node, addition))
    if not model.is_output(addition.outputs[0]):
        addition.outputs[0].shape = product.shape
    model.replace(addition, "Gemm", inputs, attributes=attributes, origins=origins)
    model.remove(node)
    return True


def _addend_refused(product: Tensor, addend: Tensor, model: Model) -> str | None:
    """Why a Gemm cannot add it; None if it can."""
    if model.is_output(product):
        return f"its output {product.name!r} is an output of the model"
    if len(product.outputs) != 1:
        return f"its output {product.name!r} is read by {len(product.outputs)} inputs of nodes"
    sizes, shape = product.shape, addend.shape
    if sizes is None or shape is None:
        return f"the shape of {addend.name!r}, which is added to it, is not known"
    wide = [*[1] * (2 - len(shape)), *shape]
    if len(wide) != 2 or any(dim not in (1, size) for dim, size in zip(wide, sizes, strict=True)):
        return f"{addend.name!r}, which is added to it, is not known to fit its shape"
    return None


# ------------------------------------------------------------------------------------------------------ the operands


def _read_past_transposes(node: Node, model: Model, ctx: PassContext) -> bool:
    from edgecc.model import merged_origins

    changed = False
    for index, key in ((0, "transA"), (1, "transB")):
        tensor = node.inputs[index]
        producer = model.producer(tensor)
        if producer is None or not is_op(producer, "Transpose"):
            continue
        if list(producer.attrs.get("perm", (1, 0))) != [1, 0]:
            continue
        if len(tensor.outputs) != 1 or model.is_output(tensor):
            ctx.skip(node, f"{describe(producer)} stays, as {tensor.name!r} is read elsewhere too")
            continue
        ctx.done(node, f"Transpose + {node.op} became Gemm with {key}", [node, producer])
        node.op = "Gemm"
        node.attrs[key] = 1 - int(node.attrs.get(key, 0))
        node.origins = merged_origins((producer, node))
        model.set_input(node, index, producer.inputs[0])
        model.remove(producer)
        changed = True
    return changed


def _drop_factors(node: Node, model: Model, ctx: PassContext) -> bool:
    """Put alpha and beta into constants."""
    changed = False
    alpha, beta = float(node.attrs.get("alpha", 1.0)), float(node.attrs.get("beta", 1.0))
    if has_operand(node, 2) and beta == 0:
        ctx.done(node, "a bias times zero is gone")
        model.drop_input(node, 2)
        changed = True
    for key, factor, indices in (("alpha", alpha, (1, 0)), ("beta", beta, (2,))):
        if factor == 1 or not has_operand(node, indices[-1]):
            continue
        index = next((i for i in indices if constant(node, i) is not None), None)
        if index is None:
            ctx.skip(node, f"its {key} stays, as what it multiplies is not constant")
            continue
        new = scaled(_values(node, index), np.asarray(factor))
        if not np.isfinite(new).all():
            ctx.skip(node, f"its {key} stays, as {node.inputs[index].name!r} times {factor:g} would not be finite")
            continue
        if factor and loses_digits(new, _values(node, index)):
            ctx.skip(node, f"its {key} stays, as {node.inputs[index].name!r} times {factor:g} would be too small")
            continue
        ctx.done(node, f"{key} became part of {node.inputs[index].name!r}")
        model.set_input(node, index, model.constant(node.inputs[index].name, new))
        del node.attrs[key]
        changed = True
    return changed


def _values(node: Node, index: int) -> np.ndarray:
    values = constant(node, index)
    assert values is not None, "it was found to be constant"
    return values
