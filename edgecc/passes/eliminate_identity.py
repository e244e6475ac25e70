"""Pass eliminate-identity."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from edgecc.passes.base import Loss, NodePass, PassContext
from edgecc.rewriting.reading import constant, has_operand, is_static, same_shape, text
from edgecc.rewriting.shapes import keeps_shape, reduced_axes
from edgecc.rewriting.slices import TO_THE_END

if TYPE_CHECKING:
    from edgecc.model import Model, Node, Tensor

#: f(f(x)) is f(x).
_IDEMPOTENT = ("Abs", "Ceil", "Floor", "Relu", "Round", "Sign")
#: f(f(x)) is x.
_INVOLUTIONS = ("BitwiseNot", "Neg", "Not")


class EliminateIdentity(NodePass):
    """Remove nodes whose output is their input.

    Before: c = Identity(x)   d = Dropout(c)   e = Transpose<perm = [0, 1]>(d)   y = Relu(e)
    After:  y = Relu(x)

    Beside Identity: Dropout at inference; Cast to the type it has; Transpose, Reshape, Flatten, Squeeze, Unsqueeze,
    Expand, Tile, Pad and Slice that change nothing; Concat, Split, Sum, Max, Min and Mean of one tensor;
    multiplication and division by one, subtraction of zero, the first power; Gather of all places in order; Where of
    one side alone; Resize to the same size; MaxPool of single elements; ReduceMax and ReduceMin of axes of size 1; Abs,
    Ceil, Floor, Relu, Round and Sign done twice. Of Not, Neg and BitwiseNot done twice, both go. Concat leaves out what
    has no elements, and a Split whose other pieces have none is of one tensor. Nodes of subgraphs are left alone.

    The same by ONNX's definitions. ONNX Runtime's Where makes 0 of -0, and its MaxPool the lowest number of NaN.

    A node stays, with a reason in the report, where two names of the model's signature hang on it: an input passed
    straight to an output, or one value that is two outputs.

    Attributes:
        ignore: patterns of node names to leave alone.
    """

    name = "eliminate-identity"
    loss = Loss.EXACT

    def candidates(self, model: Model) -> list[Node]:
        # Concats first: a Split is of one tensor only once nothing reads its empty pieces.
        return sorted(
            model.nodes(*_CHECKS, *_INVOLUTIONS, "Where", ignore=self.ignore), key=lambda node: node.op != "Concat"
        )

    def visit(self, node: Node, model: Model, ctx: PassContext) -> bool:
        changed = _leave_out_empty(node, model)
        return self._remove(node, model, ctx) or changed

    def _remove(self, node: Node, model: Model, ctx: PassContext) -> bool:
        source = _same_as(node)
        if source is None or self._is_protected(source, node, model):
            return False
        if not _can_bypass(source, node, model):
            ctx.skip(node, f"{source.name!r} and {node.outputs[0].name!r} must both keep their names")
            return False
        if not _drop_mask(node, model):
            ctx.skip(node, f"its mask {node.outputs[1].name!r} is read")
            return False
        if any(model.consumers(tensor) or model.is_output(tensor) for tensor in node.outputs[1:]):
            return False
        ctx.done(node, f"it gives {source.name!r} as it is")
        model.redirect(node.outputs[0], source)
        model.remove(node)
        return True

    def _is_protected(self, source: Tensor, node: Node, model: Model) -> bool:
        """Whether it is one of two nodes that cancel, and the other one is to be ignored."""
        from edgecc.model import matches_any

        first = model.producer(node.inputs[0])
        return (
            source is not node.inputs[0]
            and node.op in _INVOLUTIONS
            and first is not None
            and matches_any(first, self.ignore)
        )


def _leave_out_empty(node: Node, model: Model) -> bool:
    """Drop the inputs of a Concat that have no elements; one stays if all are such."""
    if node.op != "Concat" or node.outputs[0].shape is None or 0 in node.outputs[0].shape:
        return False
    empty = [index for index, tensor in enumerate(node.inputs) if tensor.shape is not None and 0 in tensor.shape]
    for index in reversed(empty):
        model.drop_input(node, index)
    return bool(empty)


def _same_as(node: Node) -> Tensor | None:
    """The tensor that the node's first output equals, if there is one."""
    if node.op in _INVOLUTIONS:
        first = node.inputs[0].inputs[0] if node.inputs[0].inputs else None
        return first.inputs[0] if first is not None and first.op == node.op and first.domain == node.domain else None
    if node.op == "Where":
        return _chosen(node)
    if node.op == "Mul" and constant(node, 1) is None and _has_neutral(node, 1, place=0):
        return node.inputs[1]
    return node.inputs[0] if _CHECKS[node.op](node) else None


def _can_bypass(source: Tensor, node: Node, model: Model) -> bool:
    result = node.outputs[0]
    return not model.is_output(result) or (model.producer(source) is not None and not model.is_output(source))


def _drop_mask(node: Node, model: Model) -> bool:
    """Let readers of a Dropout's mask read ones; False if that is not possible."""
    if len(node.outputs) < 2 or node.outputs[1].is_empty():
        return True
    mask = node.outputs[1]
    if model.is_output(mask):
        return False
    if not model.consumers(mask):
        return True
    if not is_static(mask):
        return False
    return model.redirect(mask, model.constant(mask.name, np.ones(mask.shape, np.bool_)))


# ---------------------------------------------------------------------------------------------- one check per operator


def _always(node: Node) -> bool:
    return bool(node.outputs)


def _is_inference(node: Node) -> bool:
    """Dropout does nothing unless its third input says that the model is being trained."""
    if len(node.inputs) < 3 or node.inputs[2].is_empty():
        return True
    training = constant(node, 2)
    return training is not None and not training.any()


def _keeps_type(node: Node) -> bool:
    source, result = node.inputs[0].dtype, node.outputs[0].dtype
    return source is not None and result is not None and np.dtype(source) == np.dtype(result)


def _keeps_order(node: Node) -> bool:
    """A permutation that moves no axis, or only axes of size one past each other."""
    perm, shape = node.attrs.get("perm"), node.inputs[0].shape
    if perm is not None and list(perm) == list(range(len(perm))):
        return True
    if shape is None:
        return False
    perm = list(range(len(shape)))[::-1] if perm is None else list(perm)
    moved = [axis for axis in perm if shape[axis] != 1]
    return moved == sorted(moved) and [shape[axis] for axis in perm] == list(shape)


def _keeps_shape(node: Node) -> bool:
    """Shapes with the same numbers and symbols."""
    source, result = node.inputs[0].shape, node.outputs[0].shape
    return source is not None and result is not None and all(source) and list(source) == list(result)


def _reshapes_to_same(node: Node) -> bool:
    """The same shape; one open dimension follows from the others, since the number of elements stays."""
    source, result = node.inputs[0].shape, node.outputs[0].shape
    if source is None or result is None or len(source) != len(result) or not all(source):
        return False
    different = [wanted for dim, wanted in zip(source, result, strict=True) if dim != wanted]
    return not different or (len(different) == 1 and isinstance(different[0], str))


def _repeats_once(node: Node) -> bool:
    repeats = constant(node, 1)
    return repeats is not None and bool((repeats == 1).all())


def _pads_nothing(node: Node) -> bool:
    pads = constant(node, 1)
    return pads is not None and not pads.any()


def _takes_all(node: Node) -> bool:
    steps = constant(node, 4) if has_operand(node, 4) else np.ones(1, np.int64)
    if steps is None or (steps != 1).any():
        return False
    if _keeps_shape(node):
        return True
    starts, ends = constant(node, 1), constant(node, 2)
    return starts is not None and ends is not None and not starts.any() and bool((ends >= TO_THE_END).all())


def _has_one_input(node: Node) -> bool:
    return len(node.inputs) == 1


def _has_one_output(node: Node) -> bool:
    """One piece, or one that is all of the tensor, and empty ones that nothing reads."""
    rest = node.outputs[1:]
    return not rest or (
        _keeps_shape(node) and all(t.shape is not None and 0 in t.shape and not t.outputs for t in rest)
    )


def _by_one(node: Node) -> bool:
    return _has_neutral(node, 1)


def _by_zero(node: Node) -> bool:
    return _has_neutral(node, 0)


def _has_neutral(node: Node, neutral: int, place: int = 1) -> bool:
    """Whether that input is a constant of that value, and does not broadcast the other one."""
    values, source = constant(node, place), node.inputs[1 - place]
    if values is None or not (values == neutral).all() or np.signbit(values.astype(np.float64)).any():
        return False
    return keeps_shape(source, node.inputs[place], node.outputs[0]) and source.dtype == node.outputs[0].dtype


def _chosen(node: Node) -> Tensor | None:
    """The side that a Where always takes, if it does not broadcast."""
    condition = constant(node, 0)
    if condition is None or not (condition.all() or not condition.any()):
        return None
    source: Tensor = node.inputs[1 if condition.all() else 2]
    return source if all(source.shape or ()) and same_shape(source, node.outputs[0]) else None


def _picks_all(node: Node) -> bool:
    indices, shape = constant(node, 1), node.inputs[0].shape
    if indices is None or indices.ndim != 1 or shape is None:
        return False
    size = shape[int(node.attrs.get("axis", 0))]
    return isinstance(size, int) and len(indices) == size and bool((indices % size == np.arange(size)).all())


def _reduces_ones(node: Node) -> bool:
    axes, shape = reduced_axes(node), node.inputs[0].shape
    if axes is None or shape is None or not node.attrs.get("keepdims", 1):
        return False
    return all(shape[axis] == 1 for axis in axes)


def _keeps_size(node: Node) -> bool:
    """A Resize that says scales of one, or sizes that are there already."""
    if text(node, "coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize":
        return False
    if has_operand(node, 2):
        scales = constant(node, 2)
        return scales is not None and bool((scales == 1).all())
    return has_operand(node, 3) and _keeps_shape(node)


def _pools_nothing(node: Node) -> bool:
    values = [node.attrs.get(name, default) for name, default in (("kernel_shape", [2]), ("strides", [1]))]
    return len(node.outputs) == 1 and all(size == 1 for value in values for size in value) and _keeps_shape(node)


def _done_before(node: Node) -> bool:
    first = node.inputs[0].inputs[0] if node.inputs[0].inputs else None
    return first is not None and first.op == node.op and first.domain == node.domain


_CHECKS: dict[str, Callable[[Node], bool]] = {
    "Identity": _always,
    "Dropout": _is_inference,
    "Cast": _keeps_type,
    "CastLike": _keeps_type,
    "Transpose": _keeps_order,
    "Reshape": _reshapes_to_same,
    "Flatten": _reshapes_to_same,
    "Squeeze": _reshapes_to_same,
    "Unsqueeze": _reshapes_to_same,
    "Expand": _keeps_shape,
    "Tile": _repeats_once,
    "Pad": _pads_nothing,
    "Slice": _takes_all,
    "Concat": _has_one_input,
    "Split": _has_one_output,
    "Sum": _has_one_input,
    "Max": _has_one_input,
    "Min": _has_one_input,
    "Mean": _has_one_input,
    "Mul": _by_one,
    "Div": _by_one,
    "Sub": _by_zero,
    "Pow": _by_one,
    "Gather": _picks_all,
    "ReduceMax": _reduces_ones,
    "ReduceMin": _reduces_ones,
    "Resize": _keeps_size,
    "MaxPool": _pools_nothing,
    **dict.fromkeys(_IDEMPOTENT, _done_before),
}
