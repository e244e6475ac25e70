"""Pass eliminate-expand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgecc.passes.base import Loss, NodePass, PassContext
from edgecc.rewriting.elementwise import is_elementwise
from edgecc.rewriting.reading import constant, is_op
from edgecc.rewriting.shapes import broadcast

if TYPE_CHECKING:
    from edgecc.model import Model, Node, Tensor
    from edgecc.rewriting.shapes import Shape

#: Nodes that may compute fewer elements for one Expand.
_MOST_NODES = 32


class EliminateExpand(NodePass):
    """Leave broadcasting to the operators that broadcast anyway.

    Before: a = Expand(m, shape)   y = Add(x, a)
    After:  y = Add(x, m)

    So does Tile along axes of size 1, and so do elementwise operators in between: they compute each element once. All
    readers must broadcast to the shape that they have; MatMul does so except along its last two axes.

    Attributes:
        ignore: patterns of node names to leave alone.
    """

    name = "eliminate-expand"
    loss = Loss.EXACT
    keeps_types = True

    def candidates(self, model: Model) -> list[Node]:
        return model.nodes("Expand", "Tile", ignore=self.ignore)

    def visit(self, node: Node, model: Model, ctx: PassContext) -> bool:
        source, result = node.inputs[0], node.outputs[0]
        if node.op == "Tile" and not _repeats_ones(node):
            return False
        if source.shape is None or result.shape is None:
            ctx.skip(node, f"the shape of {(result if source.shape is not None else source).name!r} is not known")
            return False
        if model.is_output(result):
            ctx.skip(node, f"its output {result.name!r} is an output of the model")
            return False
        shrunk = _shrunk(node, model)
        if isinstance(shrunk, str):
            ctx.skip(node, shrunk)
            return False
        ctx.done(node, "what reads it broadcasts by itself")
        for tensor, shape in shrunk:
            tensor.shape = list(shape)
        model.redirect(result, source)
        model.remove(node)
        return True


def _repeats_ones(node: Node) -> bool:
    repeats, shape = constant(node, 1), node.inputs[0].shape
    if repeats is None or shape is None:
        return False
    return all(count == 1 or dim == 1 for count, dim in zip(repeats.tolist(), shape, strict=True))


def _shrunk(node: Node, model: Model) -> list[tuple[Tensor, Shape]] | str:
    """Tensors behind the node that get a smaller shape without it; or why it has to stay."""
    # Several axes may be added in front, too.
    shapes: dict[int, Shape] = {id(node.outputs[0]): node.inputs[0].shape}
    pending = [node.outputs[0]]
    found: list[Tensor] = []
    while pending:
        tensor = pending.pop()
        for reader in model.consumers(tensor):
            if model.is_inner(reader):
                return f"{reader.name} ({reader.op}) in a subgraph reads {tensor.name!r}"
            shape = _shape_with(reader, shapes)
            if shape is None:
                return f"{reader.name} ({reader.op}) does not broadcast {tensor.name!r} to the shape that it has"
            result = reader.outputs[0]
            if result.shape is not None and list(shape) == list(result.shape):
                shapes.pop(id(result), None)
                continue
            if model.is_output(result):
                return f"{result.name!r} is an output of the model, and would be smaller"
            if len(found) >= _MOST_NODES:
                return f"more than {_MOST_NODES} nodes behind it would have to be smaller"
            known = shapes.get(id(result))
            if known is None or list(known) != list(shape):
                shapes[id(result)] = shape
                found.append(result)
                pending.append(result)
    return [(tensor, shapes[id(tensor)]) for tensor in found if id(tensor) in shapes]


def _shape_with(reader: Node, shapes: dict[int, Shape]) -> Shape | None:
    """Of its result, if some operands get these shapes; None if it does not work on each element."""
    operands = [shapes.get(id(tensor), tensor.shape) for tensor in reader.inputs if not tensor.is_empty()]
    if is_op(reader, "MatMul"):
        return _product_shape(operands)
    if not is_elementwise(reader) or reader.op == "PRelu":
        return None
    return broadcast(*operands)


def _product_shape(operands: list[Shape]) -> Shape | None:
    """The matrices must be whole."""
    if any(shape is None or len(shape) < 2 for shape in operands):
        return None
    first, second = operands
    batch = broadcast(first[:-2], second[:-2])
    if batch is None or first[-1] != second[-2]:
        return None
    return [*batch, first[-2], second[-1]]
