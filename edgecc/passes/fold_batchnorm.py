"""Pass fold-batchnorm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgecc.passes.base import Loss, NodePass, PassContext, Property

if TYPE_CHECKING:
    from edgecc.model import Model, Node

_LINEAR = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_ELEMENTWISE = ("Mul", "Div", "Add", "Sub")
#: BatchNormalization's own default, as the float32 that attributes are stored in.
_EPSILON = float(np.float32(1e-5))


class FoldBatchNorm(NodePass):
    """Compute each BatchNormalization inside the Conv, ConvTranspose, Gemm or MatMul that it follows.

    Before: c = Conv(x, w, b)   y = BatchNormalization(c, scale, bias, mean, variance)
    After:  y = Conv(x, w2, b2)

    with a = scale / sqrt(variance + epsilon), w2 = w * a and b2 = (b - mean) * a + bias, one value per output channel
    and in float64. The same happens to a normalization that was exported as Mul, Div, Add and Sub with one constant
    per channel. A MatMul with a bias becomes a Gemm. Constants that others read too are copied, never written.

    Attributes:
        ignore: patterns of node names to leave alone.
    """

    name = "fold-batchnorm"
    loss = Loss.ROUNDING
    ensures = (Property.NO_BATCHNORM,)
    # What float16 rounds away before folding is lost for good.
    before = ("convert-float16",)

    def candidates(self, model: Model) -> list[Node]:
        return model.nodes("BatchNormalization", *_ELEMENTWISE, ignore=self.ignore)

    def visit(self, node: Node, model: Model, ctx: PassContext) -> bool:
        if node.op in _ELEMENTWISE and not _scales_channels(node, model):
            return False
        plan = _plan(node, model)
        if isinstance(plan, str):
            ctx.skip(node, plan)
            return False
        _apply(plan, node, model)
        return True


def foldable(node: Node, model: Model) -> str | None:
    """None if the pass folds this node, otherwise the reason why it does not."""
    plan = _plan(node, model)
    return plan if isinstance(plan, str) else None


@dataclass(frozen=True)
class _Fold:
    """The linear node that takes the normalization in, and its new weights."""

    linear: Node
    weights: np.ndarray
    bias: np.ndarray | None


@dataclass(frozen=True)
class _Affine:
    """y = x * scale + shift per channel, in float64."""

    scale: np.ndarray
    shift: np.ndarray


def _plan(node: Node, model: Model) -> _Fold | str:
    from edgecc.model import is_standard

    data = node.inputs[_data_index(node)]
    linear = model.producer(data)
    if linear is None or linear.op not in _LINEAR or not is_standard(linear):
        return f"its input comes from {_describe(linear)}, not from a {', '.join(_LINEAR[:-1])} or {_LINEAR[-1]}"
    if model.is_output(data):
        return f"its input {data.name!r} is an output of the model too"
    if model.single_consumer(data) is None:
        return f"its input {data.name!r} is read by {len(model.consumers(data))} nodes"
    weights, bias = _values(linear, 1), _values(linear, 2)
    if weights is None or (bias is None and _has(linear, 2)):
        return f"the weights of {linear.name} are not constant"
    if weights.dtype.kind != "f":
        return f"the weights of {linear.name} are {weights.dtype}"
    affine = _affine(node, linear, weights)
    return affine if isinstance(affine, str) else _fold(linear, weights, bias, affine)


def _apply(plan: _Fold, node: Node, model: Model) -> None:
    from edgecc.model import merged_origins

    linear = plan.linear
    model.set_input(linear, 1, model.constant(linear.inputs[1].name, plan.weights))
    if plan.bias is not None:
        _set_bias(linear, plan.bias, model)
    linear.origins = merged_origins((linear, node))
    # The linear node writes the normalization's tensor: a name keeps meaning the same values.
    model.set_output(linear, 0, node.outputs[0])
    model.remove(node)


def _set_bias(linear: Node, values: np.ndarray, model: Model) -> None:
    if linear.op == "MatMul":
        linear.op = "Gemm"
    linear.attrs.pop("beta", None)
    if len(linear.inputs) > 2:
        model.set_input(linear, 2, model.constant(linear.inputs[2].name or f"{linear.name}/bias", values))
    else:
        linear.inputs.append(model.constant(f"{linear.name}/bias", values))


# ---------------------------------------------------------------------------------- the normalization: scale and shift


def _affine(node: Node, linear: Node, weights: np.ndarray) -> _Affine | str:
    rank = _output_rank(linear, weights)
    if rank is None or (linear.op == "MatMul" and weights.ndim != 2):
        return f"the shape of {linear.name}'s output is not known to have one channel per column of its weights"
    channels = _channels(linear, weights)
    if node.op != "BatchNormalization":
        return _elementwise_affine(node, rank, rank - 1 if linear.op == "MatMul" else 1, channels)
    if linear.op == "MatMul" and rank != 2:
        return f"it normalizes axis 1 of a tensor with {rank} axes, and the columns of {linear.name} are the last one"
    return _batchnorm_affine(node, channels)


def _batchnorm_affine(node: Node, channels: int) -> _Affine | str:
    if node.attrs.get("training_mode", 0):
        return "it is in training mode"
    values = [_values(node, index) for index in range(1, 5)]
    if any(v is None or v.shape != (channels,) for v in values):
        return "its scale, bias, mean and variance are not constants with one value per channel"
    scale, bias, mean, variance = (np.asarray(v, np.float64) for v in values)
    variance = variance + node.attrs.get("epsilon", _EPSILON)
    if not (variance > 0).all():
        return "variance plus epsilon is not positive in every channel"
    factor = scale / np.sqrt(variance)
    return _Affine(factor, bias - mean * factor)


def _elementwise_affine(node: Node, rank: int, axis: int, channels: int) -> _Affine | str:
    index = _data_index(node)
    values = _values(node, 1 - index)
    constant = None if values is None else _per_channel(values, rank, axis, channels)
    if constant is None:
        return f"its constant {node.inputs[1 - index].name!r} is not one value per channel"
    ones, zeros = np.ones(channels), np.zeros(channels)
    if node.op == "Mul":
        return _Affine(constant, zeros)
    if node.op == "Div":
        return _Affine(1 / constant, zeros) if constant.all() else "it divides by zero"
    if node.op == "Add":
        return _Affine(ones, constant)
    return _Affine(ones, -constant) if index == 0 else _Affine(-ones, constant)


def _per_channel(values: np.ndarray, rank: int, axis: int, channels: int) -> np.ndarray | None:
    """One float64 per channel, if that is how the constant broadcasts over a tensor of that rank."""
    shape = (1,) * (rank - values.ndim) + values.shape
    if len(shape) != rank or any(dim != 1 for index, dim in enumerate(shape) if index != axis):
        return None
    if shape[axis] not in (1, channels):
        return None
    return np.broadcast_to(values.reshape(-1).astype(np.float64), (channels,))


def _scales_channels(node: Node, model: Model) -> bool:
    """Whether a Mul, Div, Add or Sub of a constant follows a linear node."""
    constants = [_values(node, index) is not None for index in (0, 1)]
    if constants.count(True) != 1 or (node.op == "Div" and constants[0]):
        return False
    linear = model.producer(node.inputs[_data_index(node)])
    return linear is not None and linear.op in _LINEAR


# ---------------------------------------------------------------------------------------- the linear node: new weights


def _channels(linear: Node, weights: np.ndarray) -> int:
    if linear.op == "Conv":
        return int(weights.shape[0])
    if linear.op == "ConvTranspose":
        return int(weights.shape[1]) * int(linear.attrs.get("group", 1))
    return int(weights.shape[0 if linear.attrs.get("transB", 0) else 1])


def _output_rank(linear: Node, weights: np.ndarray) -> int | None:
    if linear.op != "MatMul":
        return int(weights.ndim)
    shape = linear.outputs[0].shape
    return None if shape is None else len(shape)


def _fold(linear: Node, weights: np.ndarray, bias: np.ndarray | None, affine: _Affine) -> _Fold | str:
    if linear.op == "MatMul" and affine.shift.any() and _output_rank(linear, weights) != 2:
        return f"{linear.name} has no place for a bias: its output does not have two axes"
    factor = linear.attrs.get("beta", 1.0) if linear.op == "Gemm" else 1.0
    with np.errstate(over="ignore", invalid="ignore"):
        new_weights = _scaled(linear, weights, affine.scale).astype(weights.dtype)
        new_bias = None
        if bias is not None or affine.shift.any():
            old = np.zeros(()) if bias is None else bias.astype(np.float64) * factor
            new_bias = (old * affine.scale + affine.shift).astype(weights.dtype)
    if not np.isfinite(new_weights).all() or (new_bias is not None and not np.isfinite(new_bias).all()):
        return f"the new weights of {linear.name} would not be finite in {weights.dtype}"
    return _Fold(linear, new_weights, new_bias)


def _scaled(linear: Node, weights: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """The weights in float64, each output channel times its scale."""
    wide: np.ndarray = weights.astype(np.float64)
    if linear.op == "Conv":
        wide *= scale.reshape(-1, *[1] * (wide.ndim - 1))
    elif linear.op == "ConvTranspose":
        groups = int(linear.attrs.get("group", 1))
        by_group = wide.reshape(groups, wide.shape[0] // groups, *wide.shape[1:])
        by_group *= scale.reshape(groups, 1, -1, *[1] * (wide.ndim - 2))  # a view: writes into `wide`
    else:
        wide *= scale[:, None] if linear.attrs.get("transB", 0) else scale
    return wide


# -------------------------------------------------------------------------------------------------------- small things


def _data_index(node: Node) -> int:
    """Which input is normalized: the one that is not constant."""
    return 1 if node.op in _ELEMENTWISE and _values(node, 0) is not None else 0


def _has(node: Node, index: int) -> bool:
    return len(node.inputs) > index and not node.inputs[index].is_empty()


def _values(node: Node, index: int) -> np.ndarray | None:
    from edgecc.model import value_of

    return value_of(node.inputs[index]) if _has(node, index) else None


def _describe(node: Node | None) -> str:
    return "an input of the model" if node is None else f"{node.name} ({node.op})"
