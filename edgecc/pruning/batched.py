"""Whether several samples may be run at once: nothing in the model looks along them."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from edgecc.model import value_of
from edgecc.rewriting.reading import is_op

if TYPE_CHECKING:
    from edgecc.model import Model, Node, Tensor

#: Operators that look at a shape and not at values.
_ASIDE = ("Shape", "Size")
#: Operators that look at each sample alone where samples are all along the first dimension of what they read and give,
#: unless their attribute `axis` says otherwise.
_APART = frozenset(
    [
        "Abs",
        "Add",
        "And",
        "ArgMax",
        "ArgMin",
        "Attention",
        "AveragePool",
        "BatchNormalization",
        "Cast",
        "Ceil",
        "Celu",
        "Clip",
        "Concat",
        "Conv",
        "ConvTranspose",
        "Cos",
        "DepthToSpace",
        "Div",
        "Dropout",
        "Elu",
        "Equal",
        "Erf",
        "Exp",
        "Expand",
        "Flatten",
        "Floor",
        "Gather",
        "Gelu",
        "Gemm",
        "GlobalAveragePool",
        "GlobalMaxPool",
        "Greater",
        "GreaterOrEqual",
        "GroupNormalization",
        "HardSigmoid",
        "HardSwish",
        "Identity",
        "InstanceNormalization",
        "IsNaN",
        "LRN",
        "LayerNormalization",
        "LeakyRelu",
        "Less",
        "LessOrEqual",
        "Log",
        "LogSoftmax",
        "MatMul",
        "Max",
        "MaxPool",
        "Min",
        "Mish",
        "Mul",
        "Neg",
        "Not",
        "Or",
        "PRelu",
        "Pad",
        "Pow",
        "RMSNormalization",
        "Reciprocal",
        "ReduceL2",
        "ReduceMax",
        "ReduceMean",
        "ReduceMin",
        "ReduceSum",
        "Relu",
        "Reshape",
        "Resize",
        "Round",
        "Selu",
        "Sigmoid",
        "Sign",
        "Sin",
        "Softmax",
        "Softplus",
        "Softsign",
        "SpaceToDepth",
        "Split",
        "Sqrt",
        "Squeeze",
        "Sub",
        "Sum",
        "Tanh",
        "Transpose",
        "Unsqueeze",
        "Where",
    ]
)
#: Those that look along the last axis if they have no such attribute.
_ALONG_LAST = ("LayerNormalization", "LogSoftmax", "RMSNormalization", "Softmax")
#: Size of a batch by which it is found again.
_UNLIKELY = 977


def is_batched(model: Model) -> bool:
    """Whether the first dimension of all inputs is open and counts samples that have nothing to do with one another.

    A size that is nowhere else in the model is followed through it, since the names of open dimensions begin anew
    behind a Reshape: all that the inputs reach begins with it or, where samples are taken apart into rows, a multiple
    of it; it is nowhere else than in front (attention over it has it twice), and only operators read it that are known
    not to look along it.
    """
    symbols = {_first(tensor) for tensor in model.inputs}
    if len(symbols) != 1 or not isinstance(next(iter(symbols)), str) or len(model.all_nodes()) > len(model.nodes()):
        return False
    present = {dim for tensor in model.tensors() for dim in tensor.shape or ()}
    size = next(n for n in itertools.count(_UNLIKELY) if not any(_is_multiple(dim, n) for dim in present))
    sized = model.clone()
    for node in sized.nodes():
        for tensor in node.outputs:
            tensor.shape = None
    for tensor in sized.inputs:
        tensor.shape = [size, *tensor.shape[1:]]
    sized.infer_shapes()
    if any(_first(tensor) != size for tensor in sized.outputs):
        return False
    if any(_is_multiple(other, size) for tensor in sized.tensors() for other in tuple(tensor.shape or ())[1:]):
        return False
    reading = (node for node in sized.nodes() if any(_is_multiple(_first(tensor), size) for tensor in node.inputs))
    return all(node.op in _ASIDE or _keeps_apart(node, size) for node in reading)


def _keeps_apart(node: Node, size: int) -> bool:
    """Whether an operator that reads samples gives something for each of them that depends on no other one."""
    if not is_op(node, *_APART) or not all(_is_multiple(_first(tensor), size) for tensor in node.outputs):
        return False
    if node.op == "Gather":
        return value_of(node.inputs[0]) is not None or int(node.attrs.get("axis", 0)) > 0
    axis = node.attrs.get("axis", -1 if node.op in _ALONG_LAST else None)
    return axis not in (0, *(-len(tensor.shape) for tensor in node.outputs if tensor.shape))


def _is_multiple(dim: int | str | None, size: int) -> bool:
    return isinstance(dim, int) and dim > 0 and dim % size == 0


def _first(tensor: Tensor) -> int | str | None:
    """The first dimension, 1 of a scalar; None if it is not known."""
    if tensor.shape is None:
        return None
    return tensor.shape[0] if len(tensor.shape) else 1
