"""Integer weights of a layer as a matrix, with the grid that each stands on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgecc.quantization.quantized_layers import has_rows_first
from edgecc.quantization.rounding import Choices
from edgecc.quantization.weights import LARGEST
from edgecc.rewriting.reading import constant

if TYPE_CHECKING:
    from edgecc.model import Model, Node
    from edgecc.quantization.quantized_layers import QuantizedLayer
    from edgecc.statistics.answers import Array


@dataclass(frozen=True)
class StoredWeights:
    """Integer weights of a layer, as [groups, outputs, features] in the order of a `Gram`.

    Attributes:
        layer: the layer.
        integers: float32, as they are stored.
        choices: what each may become.
    """

    layer: QuantizedLayer
    integers: Array
    choices: Choices

    @staticmethod
    def of(layer: QuantizedLayer) -> StoredWeights | str:
        """Those of a layer; the reason if they are on no grid that is known."""
        values, scale, zero = (constant(layer.weights, place) for place in range(3))
        if values is None or scale is None:
            return "its weights or their scales are computed"
        linear = layer.source
        if linear.node.op == "ConvTranspose":
            return "what it sums over is not known"
        limits = _limits(values, zero)
        if limits is None:
            return f"its weights are {values.dtype}"
        low, high = (np.asarray(limit, np.float32).reshape(1, 1, 1) for limit in limits)
        spread = [
            _spread(np.zeros((), np.float32) if part is None else part, layer.weights, values.shape)
            for part in (scale, zero)
        ]
        full = (np.broadcast_to(part, values.shape) for part in (*spread, values))
        scales, zeros, integers = (_matrix(part.astype(np.float32), layer.node) for part in full)
        weights = _matrix(linear.weights.astype(np.float32), linear.node)
        gone = weights == 0
        if gone.any():  # what was pruned stays 0
            low, high = (np.where(gone, zeros, limit) for limit in (low, high))
        return StoredWeights(layer, integers, Choices(weights, scales, zeros, low, high))

    def update(self, integers: Array, model: Model) -> None:
        """Store other integers of the same type."""
        node = self.layer.weights
        old = constant(node, 0)
        assert old is not None, "it was read"
        rows = integers.reshape(-1, integers.shape[-1])
        new = rows.reshape(old.shape) if has_rows_first(self.layer.node) else np.ascontiguousarray(rows.T)
        model.set_input(node, 0, model.constant(node.inputs[0].name, new.astype(old.dtype)))


def _matrix(values: Array, node: Node) -> Array:
    groups = int(node.attrs.get("group", 1)) if node.op == "Conv" else 1
    rows = values if has_rows_first(node) else values.T
    return np.ascontiguousarray(rows.reshape(groups, rows.shape[0] // groups, -1))


def _limits(values: Array, zero: Array | None) -> tuple[int, int] | None:
    """The smallest and the largest integer; around 0, as many on both sides, as the weights that are there have it."""
    import ml_dtypes

    if values.dtype.kind not in "iu" and values.dtype.name not in ("int4", "uint4", "int2", "uint2"):
        return None
    limits = ml_dtypes.iinfo(values.dtype)  # type: ignore[no-untyped-call]
    low, high = int(limits.min), int(limits.max)
    centred = low < 0 and (zero is None or not np.asarray(zero, np.int32).any())
    if values.dtype == np.int8 and centred:
        return -LARGEST, LARGEST
    if centred and int(values.astype(np.int32).min(initial=0)) > low:
        return -high, high
    return low, high


def _spread(values: Array, node: Node, shape: tuple[int, ...]) -> Array:
    """Scales or zero points as they broadcast over the weights: one, one per index of an axis, or one per block."""
    values = values.astype(np.float32)
    if values.size == 1:
        return values.reshape((1,) * len(shape))
    axis = int(node.attrs.get("axis", 1)) % len(shape)
    if values.ndim == 1:
        return values.reshape([-1 if index == axis else 1 for index in range(len(shape))])
    block = int(node.attrs.get("block_size", 0)) or 1
    places = (slice(None),) * axis + (slice(0, shape[axis]),)
    result: Array = np.repeat(values, block, axis=axis)[places]
    return result
