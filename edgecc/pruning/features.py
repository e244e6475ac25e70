"""A layer's weights as a matrix, and which of its columns belong to which unit."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from edgecc.deserialization import link_input
from edgecc.pruning.tracking import Layer
from edgecc.rewriting.reading import constant, has_operand, is_scaled_gemm
from edgecc.statistics.layers import gram_of
from edgecc.statistics.requests import Gram, Patches

if TYPE_CHECKING:
    from edgecc.model import Model, Node
    from edgecc.pruning.groups import Coupling
    from edgecc.pruning.ties import Labels

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Linear:
    """A layer of one group as `weights @ [row, 1]`.

    Attributes:
        node: Conv, Gemm or MatMul.
        request: how its rows are read from its input.
        weights: [outputs, features + 1], the bias last; features of a Conv are channel, then kernel position.
        taps: features for each channel that it reads.
        parts: rows of `weights` for each output; see `by_channels`.
    """

    node: Node
    request: Gram
    weights: Matrix
    taps: int
    parts: int = 1


def linear_of(node: Node, rows: int = 256) -> Linear | None:
    """The layer as a matrix; None if it is none of one group, with one bias for all rows and unscaled."""
    weights, request = constant(node, 1), gram_of(node, rows)
    if weights is None or request is None or int(node.attrs.get("group", 1)) != 1 or is_scaled_gemm(node):
        return None
    if node.op == "Conv":
        matrix, taps = weights.reshape(len(weights), -1), int(np.prod(weights.shape[2:], dtype=np.int64))
    elif weights.ndim != 2:
        return None
    else:
        matrix, taps = weights if node.op == "Gemm" and node.attrs.get("transB", 0) else weights.T, 1
    bias = constant(node, 2) if has_operand(node, 2) else np.zeros(len(matrix))
    if bias is None or bias.size not in (1, len(matrix)) or math.prod(bias.shape[:-1]) != 1:
        return None
    column = np.broadcast_to(bias.reshape(-1), len(matrix))[:, np.newaxis]
    return Linear(node, request, np.concatenate([matrix, column], axis=1).astype(np.float64), taps)


def constant_layer(node: Node) -> Linear:
    """The same of a node that is known to be such a layer."""
    linear = linear_of(node)
    assert linear is not None, "it has constant weights"
    return linear


def arrays_of(node: Node, weights: Matrix) -> list[np.ndarray]:
    """Weights [outputs, features + 1] as the node reads them: its inputs from the second on.

    A MatMul has no place for a bias; of the others, those without one are given one.
    """
    old = constant(node, 1)
    assert old is not None
    matrix = weights[:, :-1].astype(old.dtype)
    if node.op == "Conv":
        matrix = matrix.reshape(len(matrix), -1, *old.shape[2:])
    elif not (node.op == "Gemm" and node.attrs.get("transB", 0)):
        matrix = matrix.T
    matrix = np.ascontiguousarray(matrix)
    return [matrix] if node.op == "MatMul" else [matrix, weights[:, -1].astype(old.dtype)]


def set_linear(model: Model, node: Node, weights: Matrix) -> None:
    """Give the node new weights, [outputs, features + 1]; one without a bias gets one where its operator takes it."""
    arrays = arrays_of(node, weights)
    model.set_input(node, 1, model.constant(f"{node.name}/weights", arrays[0]))
    if len(arrays) < 2:
        return
    bias = model.constant(f"{node.name}/bias", arrays[1])
    if has_operand(node, 2):
        model.set_input(node, 2, bias)
        return
    if len(node.inputs) > 2:
        model.drop_input(node, 2)
    link_input(node, bias)


def by_channels(linear: Linear) -> Linear:
    """A convolution as if each position of its kernel were further outputs of one without a kernel.

    Features are then channels alone, [outputs * taps, channels + 1]: what goes for one position of the kernel goes for
    all of them, as if they read nothing in common.
    """
    request, outputs, taps = linear.request, len(linear.weights), linear.taps
    space = len(request.layout.kernel) if isinstance(request.layout, Patches) else 0
    if taps == 1 or not space:
        return linear
    matrix = linear.weights[:, :-1].reshape(outputs, -1, taps).transpose(0, 2, 1).reshape(outputs * taps, -1)
    bias = np.zeros((outputs, taps))
    bias[:, 0] = linear.weights[:, -1]
    weights = np.concatenate([matrix, bias.reshape(-1, 1)], axis=1)
    ones = (1,) * space
    layout = Patches(ones, strides=ones, dilations=ones, pads=(0,) * (2 * space), auto_pad="NOTSET", group=1)
    return Linear(linear.node, Gram(request.tensor, layout, request.rows), weights, 1, taps)


def whole(weights: Matrix, linear: Linear) -> Matrix:
    """Weights [outputs, features + 1] from those of a layer, which may be by channels."""
    outputs = len(linear.weights) // linear.parts
    parts = weights.reshape(outputs, -1, weights.shape[1])
    matrix = parts[:, :, :-1].transpose(0, 2, 1).reshape(outputs, -1)
    return np.concatenate([matrix, parts[:, :, -1].sum(axis=1)[:, np.newaxis]], axis=1)


def columns_of(layer: Layer, coupling: Coupling, roots: Labels, taps: int) -> list[Labels]:
    """For each root, the features of the layer that belong to it."""
    assert layer.reads is not None
    channels = coupling.root_of(layer.reads)
    order = np.argsort(channels, kind="stable")
    starts = np.searchsorted(channels[order], roots, side="left")
    ends = np.searchsorted(channels[order], roots, side="right")
    offsets = np.arange(taps)
    return [
        (np.sort(order[start:end])[:, np.newaxis] * taps + offsets).reshape(-1)
        for start, end in zip(starts, ends, strict=True)
    ]
