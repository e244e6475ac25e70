"""Normalizations: by statistics of the values themselves, or by given ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgecc_tflite.ir import Tensor
from edgecc_tflite.lowerings.base import LoweringRule
from edgecc_tflite.lowerings.constraints import (
    FLOAT,
    OPEN_DIMENSION,
    constant,
    known_rank,
    ranked,
    single_output,
    typed,
)
from edgecc_tflite.lowerings.reduce import reduce_over

if TYPE_CHECKING:
    from edgecc_tflite.lowerings.context import Lowering
    from edgecc_tflite.lowerings.node_view import NodeView


def _batch(c: Lowering) -> None:
    """Constant statistics are one factor and one addend per channel."""
    scale, bias, mean, variance = (c.values(i) for i in (1, 2, 3, 4))
    factor = scale / np.sqrt(variance + np.float32(c.node.number("epsilon", 1e-5)))
    shape = (1, -1, *(1,) * (c.x().rank - 2)) if c.x().rank > 1 else (-1,)
    scaled = c.binary("MUL", c.x(), c.constant(factor.reshape(shape), "factor"))
    c.binary("ADD", scaled, c.constant((bias - mean * factor).reshape(shape), "addend"), c.out())


def standardize(c: Lowering, x: Tensor, axes: tuple[int, ...], epsilon: float) -> Tensor:
    """Shift and scale to mean 0 and variance 1 over some axes."""
    centred = c.binary("SUB", x, reduce_over(c, "MEAN", x, axes))
    variance = reduce_over(c, "MEAN", c.unary("SQUARE", centred), axes)
    return c.binary("MUL", centred, _inverse_root(c, variance, epsilon))


def _inverse_root(c: Lowering, x: Tensor, epsilon: float) -> Tensor:
    return c.unary("RSQRT", c.binary("ADD", x, c.scalar(epsilon)))


def _affine(c: Lowering, x: Tensor, scale: Tensor | None, bias: Tensor | None, out: Tensor) -> None:
    """Scale x + bias, either of which may be missing or change nothing."""
    scale = None if _is_all(scale, 1.0) else scale
    bias = None if _is_all(bias, 0.0) else bias
    if scale is not None:
        x = c.binary("MUL", x, scale, None if bias is not None else out)
    if bias is not None:
        x = c.binary("ADD", x, bias, out)
    if scale is None and bias is None:
        c.copy(x, out)


def _is_all(tensor: Tensor | None, value: float) -> bool:
    return tensor is not None and tensor.data is not None and bool(np.all(tensor.data == value))


def _per_channel(c: Lowering, index: int) -> Tensor:
    """One value per channel, as a tensor that broadcasts over a channels-first one."""
    return c.reshape(c.x(index), (1, c.x(index).shape[0], *(1,) * (c.x().rank - 2)))


def _instance(c: Lowering) -> None:
    x = c.x()
    normal = standardize(c, x, tuple(range(2, x.rank)), c.node.number("epsilon", 1e-5))
    _affine(c, normal, _per_channel(c, 1), _per_channel(c, 2), c.out())


def _group(c: Lowering) -> None:
    x, groups = c.x(), c.node.integer("num_groups", 1)
    apart = c.reshape(x, (x.shape[0], groups, x.shape[1] // groups, *x.shape[2:]))
    normal = standardize(c, apart, tuple(range(2, apart.rank)), c.node.number("epsilon", 1e-5))
    _affine(c, c.reshape(normal, x.shape), _per_channel(c, 1), _per_channel(c, 2), c.out())


def _layer(c: Lowering) -> None:
    x = c.x()
    axes = tuple(range(c.node.axis(-1), x.rank))
    _affine(c, standardize(c, x, axes, c.node.number("epsilon", 1e-5)), c.x(1), c.optional(2), c.out())


def _rms(c: Lowering) -> None:
    x = c.x()
    square = reduce_over(c, "MEAN", c.unary("SQUARE", x), tuple(range(c.node.axis(-1), x.rank)))
    normal = c.binary("MUL", x, _inverse_root(c, square, c.node.number("epsilon", 1e-5)))
    _affine(c, normal, c.x(1), None, c.out())


def _lp(c: Lowering) -> None:
    """ONNX leaves division by a norm of 0 open; ONNX Runtime gives 0, and so does this."""
    x, axes = c.x(), (c.node.axis(-1),)
    if c.node.integer("p", 2) == 1:
        norm = reduce_over(c, "SUM", c.unary("ABS", x), axes)
    else:
        norm = c.unary("SQRT", reduce_over(c, "SUM", c.unary("SQUARE", x), axes))
    c.binary("DIV", x, c.binary("MAXIMUM", norm, c.scalar(float(np.finfo(np.float32).tiny))), c.out())


def _local_response(c: Lowering) -> None:
    """TFLite's alpha is per element, ONNX's for the whole window."""
    size = c.node.integer("size", 1)
    result = c.emit(
        "LOCAL_RESPONSE_NORMALIZATION",
        [c.to_last(c.x())],
        radius=size // 2,
        bias=c.node.number("bias", 1.0),
        alpha=c.node.number("alpha", 1e-4) / size,
        beta=c.node.number("beta", 0.75),
    )
    c.to_first(result, c.out())


def _mean_variance(c: Lowering) -> None:
    axes = c.node.ints("axes", (0, 2, 3))
    x = c.x()
    centred = c.binary("SUB", x, reduce_over(c, "MEAN", x, axes))
    deviation = c.unary("SQRT", reduce_over(c, "MEAN", c.unary("SQUARE", centred), axes))
    c.binary("DIV", centred, c.binary("ADD", deviation, c.scalar(1e-9)), c.out())


def _odd_size(node: NodeView) -> str | None:
    size = node.integer("size", 1)
    return None if size % 2 else f"size={size}; TFLite's window has the same number of channels on both sides"


def _one_open(node: NodeView) -> str | None:
    shape = node.shape()
    if shape is None or shape.count(-1) <= 1:
        return None
    return f"input {node.input(0).name!r} has more than one {OPEN_DIMENSION}"


def _trained(node: NodeView) -> str | None:
    if node.integer("training_mode", 0):
        return "training_mode=1; export the model for inference"
    return None


_ANY_RANK = (typed(FLOAT), known_rank())
_MOMENTS = ("MEAN", "SUB", "SQUARE", "ADD", "RSQRT", "MUL")

RULES = (
    LoweringRule(
        "BatchNormalization",
        _batch,
        ("MUL", "ADD"),
        (*_ANY_RANK, _trained, *(constant(i, "statistics") for i in (1, 2, 3, 4))),
        since=9,
    ),
    LoweringRule("InstanceNormalization", _instance, _MOMENTS, _ANY_RANK),
    LoweringRule("GroupNormalization", _group, (*_MOMENTS, "RESHAPE"), (*_ANY_RANK, _one_open), since=21),
    LoweringRule("LayerNormalization", _layer, _MOMENTS, (*_ANY_RANK, single_output)),
    LoweringRule("RMSNormalization", _rms, ("SQUARE", "MEAN", "ADD", "RSQRT", "MUL"), _ANY_RANK),
    LoweringRule("LpNormalization", _lp, ("ABS", "SQUARE", "SUM", "SQRT", "MAXIMUM", "DIV"), _ANY_RANK),
    LoweringRule(
        "MeanVarianceNormalization", _mean_variance, ("MEAN", "SUB", "SQUARE", "SQRT", "ADD", "DIV"), _ANY_RANK
    ),
    LoweringRule(
        "LRN", _local_response, ("LOCAL_RESPONSE_NORMALIZATION", "TRANSPOSE"), (typed(FLOAT), ranked(4, 4), _odd_size)
    ),
)
