"""Normalizations: by statistics of the values themselves, or by given ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgecc_tflite.ir import Tensor
from edgecc_tflite.lowerings.base import LoweringRule
from edgecc_tflite.lowerings.constraints import (
    FLOAT,
    OPEN_DIMENSION,
    known_rank,
    ranked,
    typed,
)
from edgecc_tflite.lowerings.matmul import along
from edgecc_tflite.lowerings.reduce import reduce_over

if TYPE_CHECKING:
    from edgecc_tflite.lowerings.context import Lowering
    from edgecc_tflite.lowerings.node_view import NodeView


def _batch(c: Lowering) -> None:
    """Statistics are one factor and one addend per channel, known now if the statistics are."""
    x, epsilon = c.x(), c.node.number("epsilon", 1e-5)
    scale, bias, mean, variance = (c.node.value(i) for i in (1, 2, 3, 4))
    shape = (1, -1, *(1,) * (x.rank - 2)) if x.rank > 1 else (-1,)
    if scale is not None and bias is not None and mean is not None and variance is not None:
        factors = scale / np.sqrt(variance + np.float32(epsilon))
        scaled = c.binary("MUL", x, c.constant(factors.reshape(shape), "factor"))
        c.binary("ADD", scaled, c.constant((bias - mean * factors).reshape(shape), "addend"), c.out())
        return
    factor = c.binary("MUL", c.x(1), _inverse_root(c, c.x(4), epsilon))
    addend = c.binary("SUB", c.x(2), c.binary("MUL", c.x(3), factor))
    scaled = c.binary("MUL", x, _channels(c, factor))
    c.binary("ADD", scaled, _channels(c, addend), c.out())


def _channels(c: Lowering, values: Tensor) -> Tensor:
    """One value per channel, as a tensor that broadcasts over a channels-first one."""
    return values if c.x().rank == 1 else c.reshape(values, (1, values.shape[0], *(1,) * (c.x().rank - 2)))


def _train_batch(c: Lowering) -> None:
    """With the statistics of this batch; the running ones are outputs too."""
    x, epsilon = c.x(), c.node.number("epsilon", 1e-5)
    axes = (0, *range(2, x.rank))
    mean = reduce_over(c, "MEAN", x, axes)
    centred = c.binary("SUB", x, mean)
    variance = reduce_over(c, "MEAN", c.unary("SQUARE", centred), axes)
    normal = c.binary("MUL", centred, _inverse_root(c, variance, epsilon))
    _affine(c, normal, _channels(c, c.x(1)), _channels(c, c.x(2)), c.out())
    momentum = c.node.number("momentum", 0.9)
    for index, old, new in ((1, c.x(3), mean), (2, c.x(4), variance)):
        if c.node.has_output(index):
            kept = c.binary("MUL", old, c.scalar(momentum))
            added = c.binary("MUL", c.reshape(new, old.shape), c.scalar(1.0 - momentum))
            c.binary("ADD", kept, added, c.out(index))


def _batch_normalization(c: Lowering) -> None:
    if c.node.integer("training_mode", 0):
        _train_batch(c)
    else:
        _batch(c)


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


def _instance(c: Lowering) -> None:
    """The scale goes into the factor of each channel, which is small, rather than over all of x."""
    x, axes = c.x(), tuple(range(2, c.x().rank))
    centred = c.binary("SUB", x, reduce_over(c, "MEAN", x, axes))
    variance = reduce_over(c, "MEAN", c.unary("SQUARE", centred), axes)
    factor = _inverse_root(c, variance, c.node.number("epsilon", 1e-5))
    if not _is_all(c.x(1), 1.0):
        factor = c.binary("MUL", factor, _channels(c, c.x(1)))
    _affine(c, c.binary("MUL", centred, factor), None, _channels(c, c.x(2)), c.out())


def _group(c: Lowering) -> None:
    """Means over a group are means over its channels' means, so that large tensors keep their axes and their layout."""
    x, groups = c.x(), c.node.integer("num_groups", 1)
    channels = x.shape[1]
    scale = c.reshape(c.x(1), (1, groups, channels // groups))
    ones = c.constant(np.ones((1, 1, channels // groups), np.float32), "ones")
    centred = c.binary("SUB", x, _per_group(c, _group_means(c, x, groups), ones, x))
    variance = _group_means(c, c.unary("SQUARE", centred), groups)
    factor = _per_group(c, _inverse_root(c, variance, c.node.number("epsilon", 1e-5)), scale, x)
    _affine(c, c.binary("MUL", centred, factor), None, _channels(c, c.x(2)), c.out())


def _group_means(c: Lowering, x: Tensor, groups: int) -> Tensor:
    """Means over each group, of shape (batch, groups, 1)."""
    if x.rank > 2:
        x = reduce_over(c, "MEAN", x, tuple(range(2, x.rank)))
    apart = c.reshape(x, (x.shape[0], groups, x.shape[1] // groups))
    return reduce_over(c, "MEAN", apart, (2,))


def _per_group(c: Lowering, values: Tensor, factors: Tensor, x: Tensor) -> Tensor:
    """One value per group times one factor per channel, to broadcast over x."""
    return c.reshape(c.binary("MUL", values, factors), (x.shape[0], x.shape[1], *(1,) * (x.rank - 2)))


def _layer(c: Lowering) -> None:
    """The mean and the inverse deviation are outputs too."""
    x = c.x()
    axes = tuple(range(c.node.axis(-1), x.rank))
    mean = reduce_over(c, "MEAN", x, axes, _wanted(c, 1))
    centred = c.binary("SUB", x, mean)
    variance = reduce_over(c, "MEAN", c.unary("SQUARE", centred), axes)
    shifted = c.binary("ADD", variance, c.scalar(c.node.number("epsilon", 1e-5)))
    inverse = c.unary("RSQRT", shifted, _wanted(c, 2))
    _affine(c, c.binary("MUL", centred, inverse), c.x(1), c.optional(2), c.out())


def _wanted(c: Lowering, index: int) -> Tensor | None:
    return c.out(index) if c.node.has_output(index) else None


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
    x, size = c.x(), c.node.integer("size", 1)
    alpha, beta, bias = c.node.number("alpha", 1e-4) / size, c.node.number("beta", 0.75), c.node.number("bias", 1.0)
    if x.rank == 4 and size % 2:
        options: dict[str, Any] = {"radius": size // 2, "bias": bias, "alpha": alpha, "beta": beta}
        c.to_first(c.emit("LOCAL_RESPONSE_NORMALIZATION", [c.to_last(x)], **options), c.out())
        return
    total = _band_sum(c, c.unary("SQUARE", x), (size - 1) // 2, size // 2)
    scale = c.binary("ADD", c.binary("MUL", total, c.scalar(alpha)), c.scalar(bias))
    c.binary("MUL", x, c.binary("POW", scale, c.scalar(-beta)), c.out())


def _band_sum(c: Lowering, x: Tensor, before: int, behind: int) -> Tensor:
    """The sum over neighbouring channels, as a product with a matrix of ones on a band around the diagonal."""
    channels = x.shape[1]
    away = np.arange(channels)[None] - np.arange(channels)[:, None]
    band = ((away >= -before) & (away <= behind)).astype(np.float32)
    return along(c, x, 1, c.constant(band, "band"))


def _mean_variance(c: Lowering) -> None:
    x = c.x()
    axes = tuple(sorted(axis % x.rank for axis in c.node.ints("axes", (0, 2, 3))))
    centred = c.binary("SUB", x, reduce_over(c, "MEAN", x, axes))
    deviation = c.unary("SQRT", reduce_over(c, "MEAN", c.unary("SQUARE", centred), axes))
    c.binary("DIV", centred, c.binary("ADD", deviation, c.scalar(1e-9)), c.out())


def _known_channels(node: NodeView) -> str | None:
    shape = node.shape()
    if shape is None or shape[1] >= 0:
        return None
    return f"the channels of input {node.input(0).name!r} are an {OPEN_DIMENSION}"


_ANY_RANK = (typed(FLOAT), known_rank())
_MOMENTS = ("MEAN", "SUB", "SQUARE", "ADD", "RSQRT", "MUL")

RULES = (
    LoweringRule(
        "BatchNormalization",
        _batch_normalization,
        ("MUL", "ADD", "SUB", "MEAN", "SQUARE", "RSQRT"),
        _ANY_RANK,
        since=9,
        note="Folded into one factor and one addend; training_mode computes the batch's statistics.",
    ),
    LoweringRule("InstanceNormalization", _instance, _MOMENTS, _ANY_RANK),
    LoweringRule("GroupNormalization", _group, (*_MOMENTS, "RESHAPE"), (*_ANY_RANK, _known_channels), since=21),
    LoweringRule("LayerNormalization", _layer, _MOMENTS, _ANY_RANK),
    LoweringRule("RMSNormalization", _rms, ("SQUARE", "MEAN", "ADD", "RSQRT", "MUL"), _ANY_RANK),
    LoweringRule("LpNormalization", _lp, ("ABS", "SQUARE", "SUM", "SQRT", "MAXIMUM", "DIV"), _ANY_RANK),
    LoweringRule(
        "MeanVarianceNormalization", _mean_variance, ("MEAN", "SUB", "SQUARE", "SQRT", "ADD", "DIV"), _ANY_RANK
    ),
    LoweringRule(
        "LRN",
        _local_response,
        ("LOCAL_RESPONSE_NORMALIZATION", "SQUARE", "FULLY_CONNECTED", "MUL", "ADD", "POW", "TRANSPOSE"),
        (typed(FLOAT), ranked(3, 5), _known_channels),
        note="An even window, or another rank than 4, as a product with a band of ones.",
    ),
)
