"""Pass merge-reshapes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from edgecc.passes.base import Loss, NodePass, PassContext
from edgecc.rewriting.elementwise import has_one_element, is_elementwise
from edgecc.rewriting.reading import constant, rank, same_shape
from edgecc.rewriting.shapes import (
    RESHAPES,
    as_integers,
    is_free,
    permutation,
    permuted,
    reshape_target,
    same_up_to_ones,
)

if TYPE_CHECKING:
    from edgecc.model import Model, Node, Tensor
    from edgecc.rewriting.shapes import Shape

#: Operators between two Reshapes at most.
_LONGEST_CHAIN = 16
#: Every target works on as many axes. Nothing is moved to more, unless it works on as many already.
_FEW_AXES = 4


class MergeReshapes(NodePass):
    """Make one Reshape of several.

    Before: a = Squeeze(x, axes)   b = Reshape(a, shape)   c = Relu(b)   y = Flatten(c)
    After:  c = Relu(x)   y = Reshape(c, shape2)

    Reshape, Flatten, Squeeze and Unsqueeze merge with those in front of them, also through elementwise operators and
    what else works on each row of the last axis alone; a Transpose that only moves axes of size 1 merges, too. Of two
    Reshapes around a Transpose, the one that only adds or drops axes of size 1 goes into the other.

    Attributes:
        ignore: patterns of node names to leave alone.
    """

    name = "merge-reshapes"
    loss = Loss.EXACT
    keeps_types = True

    def run(self, model: Model, ctx: PassContext) -> bool:
        changed = False
        # Each time around there are fewer nodes, or fewer Transposes.
        while super().run(model, ctx):
            changed = True
            ctx.forget_skips()
        return changed

    def candidates(self, model: Model) -> list[Node]:
        return model.nodes(*RESHAPES, "Transpose", ignore=self.ignore)

    def visit(self, node: Node, model: Model, ctx: PassContext) -> bool:
        if not _is_reshape(node):
            return False
        return (
            self._merge_two(node, model, ctx)
            or self._merge_around_transpose(node, model, ctx)
            or self._merge_through(node, model, ctx)
        )

    def _reshape_before(self, tensor: Tensor, model: Model) -> Node | None:
        from edgecc.model import is_standard, matches_any

        node = model.producer(tensor)
        if node is None or not is_standard(node) or not _is_reshape(node) or matches_any(node, self.ignore):
            return None
        return node

    def _merge_two(self, node: Node, model: Model, ctx: PassContext) -> bool:
        from edgecc.model import merged_origins

        first = self._reshape_before(node.inputs[0], model)
        if first is None or first.op == node.op == "Transpose":
            return False
        target = reshape_target(first.inputs[0], node.outputs[0])
        if target is None:
            ctx.skip(
                node, f"its shape cannot be said as one Reshape of {first.inputs[0].name!r}: {_shapes(first, node)}"
            )
            return False
        ctx.done(node, f"{first.op} + {node.op} became Reshape", [node, first])
        _become_reshape(node, first.inputs[0], target, model, merged_origins((first, node)))
        _drop(first, model)
        return True

    # ---------------------------------------------------------------------------------- through rows and elements

    def _merge_through(self, node: Node, model: Model, ctx: PassContext) -> bool:
        """Let what is between two Reshapes work on what the first one reads."""
        from edgecc.model import is_standard, matches_any, merged_origins

        chain: list[Node] = []
        tensor = node.inputs[0]
        while is_free(tensor, model) and len(chain) < _LONGEST_CHAIN:
            inner = model.producer(tensor)
            if inner is None or _is_reshape(inner) or not is_standard(inner) or matches_any(inner, self.ignore):
                break
            index = _data_index(inner)
            if index is None:
                return False
            chain.insert(0, inner)
            tensor = inner.inputs[index]
        first = self._reshape_before(tensor, model)
        if first is None or not chain or not is_free(tensor, model) or first.op == node.op == "Transpose":
            return False
        source = first.inputs[0]
        plans = [_operands(inner, source, first.outputs[0], model) for inner in chain]
        if any(isinstance(plan, str) for plan in plans):
            ctx.skip(node, next(plan for plan in plans if isinstance(plan, str)))
            return False
        end = _shape_behind(chain, source)
        probe = model.variable("", node.outputs[0].dtype, end)
        target = reshape_target(probe, node.outputs[0])
        if target is None:
            ctx.skip(node, f"its shape cannot be said as one Reshape of {end}: {_shapes(first, node)}")
            return False
        ctx.done(node, f"merged with {first.name} ({first.op}) through {len(chain)} nodes", [node, *chain[::-1], first])
        before = source
        for inner, plan in zip(chain, plans, strict=True):
            assert not isinstance(plan, str)
            before = _move(inner, before, plan, model)
        _become_reshape(node, before, target, model, merged_origins((first, node)))
        model.remove(first)
        return True

    # ------------------------------------------------------------------------------------------ around a Transpose

    def _merge_around_transpose(self, node: Node, model: Model, ctx: PassContext) -> bool:
        from edgecc.model import is_standard, matches_any

        middle = model.producer(node.inputs[0])
        if middle is None or middle.op != "Transpose" or not is_standard(middle) or not is_free(node.inputs[0], model):
            return False
        first = self._reshape_before(middle.inputs[0], model)
        perm = permutation(middle)
        if first is None or perm is None or matches_any(middle, self.ignore) or not is_free(middle.inputs[0], model):
            return False
        most = max(_FEW_AXES, len(perm))
        if same_up_to_ones(first.inputs[0], first.outputs[0]) and len(first.inputs[0].shape) <= most:
            return _into_last(first, middle, perm, node, model, ctx)
        if same_up_to_ones(middle.outputs[0], node.outputs[0]) and len(node.outputs[0].shape) <= most:
            return _into_first(first, middle, perm, node, model, ctx)
        return False


def _into_last(first: Node, middle: Node, perm: list[int], node: Node, model: Model, ctx: PassContext) -> bool:
    """The first Reshape only adds or drops ones: transpose what it reads, in that many axes."""
    from edgecc.model import merged_origins

    source, inner = first.inputs[0], first.outputs[0]
    places = _places(inner.shape, perm)
    order = _order(source.shape, places)
    shape = permuted(source.shape, order)
    probe = model.variable("", source.dtype, shape)
    target = reshape_target(probe, node.outputs[0])
    if target is None:
        ctx.skip(node, f"its shape cannot be said as one Reshape of {shape}: {_shapes(first, node)}")
        return False
    ctx.done(node, f"{first.name} ({first.op}) went into it", [node, middle, first])
    if order == sorted(order):
        _become_reshape(node, source, target, model, merged_origins((first, middle, node)))
        model.remove(middle)
    else:
        moved = model.variable(f"{middle.outputs[0].name}_merged", source.dtype, shape)
        model.replace(
            middle, "Transpose", [source], attributes={"perm": order}, origins=merged_origins((first, middle))
        )
        model.set_output(middle, 0, moved)
        _become_reshape(node, moved, target, model, merged_origins((node,)))
    model.remove(first)
    return True


def _into_first(first: Node, middle: Node, perm: list[int], node: Node, model: Model, ctx: PassContext) -> bool:
    """The last Reshape only adds or drops ones: the first one does that, too."""
    from edgecc.model import merged_origins

    result, inner = node.outputs[0], first.outputs[0]
    places = _places(permuted(inner.shape, perm), [perm.index(axis) for axis in range(len(perm))])
    order = _order(result.shape, places)
    shape = permuted(result.shape, order)
    before = model.variable(f"{inner.name}_merged", inner.dtype, shape)
    target = reshape_target(first.inputs[0], before)
    if target is None:
        ctx.skip(node, f"{first.name} ({first.op}) cannot do what it does, too: {_shapes(first, node)}")
        return False
    ctx.done(node, f"it went into {first.name} ({first.op})", [node, middle, first])
    back = [order.index(axis) for axis in range(len(order))]
    if back == sorted(back):
        _become_reshape(node, first.inputs[0], target, model, merged_origins((first, middle, node)))
        model.remove(first)
    else:
        _become_reshape(first, first.inputs[0], target, model, merged_origins((first,)))
        model.set_output(first, 0, before)
        model.replace(node, "Transpose", [before], attributes={"perm": back}, origins=merged_origins((middle, node)))
    model.remove(middle)
    return True


def _places(shape: Shape, perm: list[int]) -> list[int]:
    """Where a Transpose puts the axes that are not of size 1, in their order."""
    kept = [axis for axis, dim in enumerate(shape) if dim != 1]
    behind = [axis for axis in perm if axis in kept]
    return [behind.index(axis) for axis in kept]


def _order(shape: Shape, places: list[int]) -> list[int]:
    """Axes of a shape with its axes other than ones at these places; ones stay behind what they are behind."""
    keys: list[tuple[int, int]] = []
    left, last = list(places), -1
    for axis, dim in enumerate(shape):
        if dim != 1:
            last = left.pop(0)
        keys.append((last, axis))
    return sorted(range(len(keys)), key=lambda axis: keys[axis])


# ------------------------------------------------------------------------------------------------- what can be passed


def _data_index(node: Node) -> int | None:
    """The operand whose shape the result has, if the node works on each element, or each row of the last axis."""
    if len(node.outputs) != 1 or not node.inputs:
        return None
    if _is_rowwise(node):
        return 0
    if not is_elementwise(node):
        return None
    wide = [i for i, t in enumerate(node.inputs) if constant(node, i) is None and not has_one_element(t)]
    return wide[0] if len(wide) == 1 and same_shape(node.inputs[wide[0]], node.outputs[0]) else None


def _is_rowwise(node: Node) -> bool:
    if node.op == "MatMul":
        return constant(node, 1) is not None and rank(node.inputs[1]) == 2 and (rank(node.inputs[0]) or 0) >= 2
    count = rank(node.inputs[0])
    if node.op not in ("LayerNormalization", "LogSoftmax", "Softmax") or not count or len(node.outputs) > 1:
        return False
    return bool(node.attrs.get("axis", -1) % count == count - 1)


def _operands(node: Node, source: Tensor, reshaped: Tensor, model: Model) -> dict[int, Tensor] | str:
    """The operands of a node that are to be replaced where it works on the source; or why that is not possible."""
    if source.shape is None or reshaped.shape is None:
        return f"the shape of {source.name!r} is not known"
    if len(source.shape) > max(_FEW_AXES, len(reshaped.shape)):
        return f"{node.name} ({node.op}) would work on {len(source.shape)} axes"
    keeps_rows = bool(source.shape) and bool(reshaped.shape) and source.shape[-1] == reshaped.shape[-1]
    if _is_rowwise(node):
        if not keeps_rows or len(source.shape) < 2:
            return f"{node.name} ({node.op}) works on rows, and the first Reshape does not keep those"
        return {}
    found: dict[int, Tensor] = {}
    for index, tensor in enumerate(node.inputs):
        if tensor.is_empty() or index == _data_index(node):
            continue
        if has_one_element(tensor) and len(tensor.shape) <= len(source.shape):
            continue
        values = constant(node, index)
        if values is None:
            return f"{node.name} ({node.op}) reads {tensor.name!r} in the other shape"
        shape = _shape_of_constant(values.shape, keeps_rows, source, node.outputs[0], reshaped)
        if shape is None:
            return f"{node.name} ({node.op}) has a constant of one value per element or axis: {tensor.name!r}"
        if shape != values.shape:
            found[index] = model.constant(tensor.name, values.reshape(shape))
    return found


def _shape_of_constant(
    shape: tuple[int, ...], keeps_rows: bool, source: Tensor, result: Tensor, reshaped: Tensor
) -> tuple[int, ...] | None:
    """How a constant broadcasts to the source as it did to the result; None if it cannot."""
    if math.prod(shape) == 1:
        return ()
    if keeps_rows and math.prod(shape) == shape[-1]:
        return shape[-1:]
    return _fitted(shape, source, result, reshaped)


def _fitted(shape: tuple[int, ...], source: Tensor, result: Tensor, reshaped: Tensor) -> tuple[int, ...] | None:
    """The shape of a constant over the axes of the source, where the Reshape only adds or drops ones."""
    if not same_up_to_ones(source, reshaped) or not same_shape(result, reshaped):
        return None
    full = (1,) * (len(reshaped.shape) - len(shape)) + shape
    kept = [dim for dim, whole in zip(full, reshaped.shape, strict=True) if whole != 1]
    return tuple(1 if dim == 1 else kept.pop(0) for dim in source.shape)


def _shape_behind(chain: list[Node], source: Tensor) -> list[int | str]:
    shape = list(source.shape)
    for node in chain:
        if node.op == "MatMul":
            shape[-1] = node.inputs[1].shape[1]
    return shape


def _move(node: Node, source: Tensor, replacements: dict[int, Tensor], model: Model) -> Tensor:
    """Let the node work on the source; returns what it writes then."""
    index, old = _data_index(node), node.outputs[0]
    assert index is not None, "the chain is made of nodes that have one"
    moved = model.variable(f"{old.name}_reshaped", old.dtype, _shape_behind([node], source))
    if _is_rowwise(node) and node.op != "MatMul":
        node.attrs["axis"] = -1
    for place, tensor in replacements.items():
        model.set_input(node, place, tensor)
    model.set_input(node, index, source)
    model.set_output(node, 0, moved)
    return moved


# ------------------------------------------------------------------------------------------------------------ parts


def _is_reshape(node: Node) -> bool:
    """Whether it gives the same elements in the same order, as a Transpose does that only moves axes of size 1."""
    if node.op != "Transpose":
        return node.op in RESHAPES
    perm, shape = permutation(node), node.inputs[0].shape
    if perm is None or shape is None:
        return False
    moved = [axis for axis in perm if shape[axis] != 1]
    return moved == sorted(moved)


def _become_reshape(node: Node, source: Tensor, target: list[int], model: Model, origins: tuple[str, ...]) -> None:
    shape = model.constant(f"{node.outputs[0].name}_shape", as_integers(target))
    model.replace(node, "Reshape", [source, shape], origins=origins)


def _drop(node: Node, model: Model) -> None:
    if not node.outputs[0].outputs and not model.is_output(node.outputs[0]):
        model.remove(node)


def _shapes(first: Node, node: Node) -> str:
    shapes = [first.inputs[0].shape, node.outputs[0].shape]
    return " to ".join("unknown" if shape is None else str(list(shape)) for shape in shapes)
