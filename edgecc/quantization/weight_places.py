"""Where operators have weights, and how these are read from small integers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from edgecc.model import origins
from edgecc.quantization.weights import block_weights, integer_weights
from edgecc.rewriting.reading import constant, is_op

if TYPE_CHECKING:
    from edgecc.model import Model, Node, Tensor
    from edgecc.passes.base import PassContext
    from edgecc.quantization.scheme import QuantizationScheme
    from edgecc.statistics.answers import Array

#: Operators whose weights are stored.
WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul", "Gather")
#: Rows of fewer values have no scale of their own to spare.
SHORTEST_ROW = 8
#: Smaller weights are not worth their scales.
LEAST_ELEMENTS = 1024


@dataclass(frozen=True)
class WeightPlace:
    """One node's weights.

    Attributes:
        node: that reads them.
        position: among its inputs.
        channel: axis that may have a scale for each index: output channels, or rows of a table; None for no such axis.
        summed: axis that products are summed along, or that the values of a table's row lie along.
    """

    node: Node
    position: int
    channel: int | None
    summed: int


def choose(model: Model, ctx: PassContext, refuses: Callable[[Node], str]) -> list[Node]:
    """The nodes whose weights are to be stored, after `untranspose`; of the others, why not is reported.

    Args:
        model: its transposed weights may change.
        ctx: is told.
        refuses: why a node that has weights is left alone; "" if it is not.
    """
    chosen: list[Node] = []
    for node in model.nodes(*WEIGHTED):
        if weight_place(node) is None:
            continue
        reason = refuses(node)
        if reason:
            ctx.skip(node, reason)
        else:
            chosen.append(node)
    untranspose(chosen, model)
    return chosen


def unfit(node: Node, least: int) -> str:
    """Why the node's weights are not worth storing, or cannot be; "" if neither.

    Args:
        node: has a `weight_place`.
        least: elements.
    """
    place = weight_place(node)
    assert place is not None
    values = constant(node, place.position)
    assert values is not None
    if values.size < least:
        return f"it has {values.size} weights, fewer than option min_elements"
    return "" if np.isfinite(values).all() else "its weights are not finite"


def weight_place(node: Node) -> WeightPlace | None:
    """The node's weights; None if they are computed, not float32, or no weights."""
    if not is_op(node, *WEIGHTED):
        return None
    position = 0 if node.op == "Gather" else 1
    values = constant(node, position)
    if values is None or values.dtype != np.float32 or values.ndim < 2:
        return None
    if node.op == "Gather":
        is_table = values.ndim == 2 and values.shape[1] >= SHORTEST_ROW and int(node.attrs.get("axis", 0)) == 0
        return WeightPlace(node, 0, 0, 1) if is_table else None
    if node.op == "Conv":
        return WeightPlace(node, 1, 0, 1)
    if node.op == "ConvTranspose":
        return WeightPlace(node, 1, 1 if int(node.attrs.get("group", 1)) == 1 else None, 0)
    if node.op == "Gemm" and node.attrs.get("transB", 0):
        return WeightPlace(node, 1, 0, 1)
    return WeightPlace(node, 1, values.ndim - 1, values.ndim - 2)


def untranspose(nodes: Iterable[Node], model: Model) -> None:
    """Let every Gemm read its weights as they are multiplied: kernels for stored weights want one order."""
    turned: dict[int, Tensor] = {}
    for node in nodes:
        values = constant(node, 1)
        if node.op != "Gemm" or not node.attrs.get("transB", 0) or values is None:
            continue
        old = node.inputs[1]
        if id(old) not in turned:
            turned[id(old)] = model.constant(f"{old.name}/transposed", np.ascontiguousarray(values.T))
        node.attrs["transB"] = 0
        model.set_input(node, 1, turned[id(old)])


@dataclass
class WeightStore:
    """Puts DequantizeLinear in front of what reads weights; weights that nodes share are stored once.

    Attributes:
        model: edited in place.
        bits: 8 or 4.
    """

    model: Model
    bits: int
    _known: dict[tuple[int, int | None, int, int], tuple[Tensor, Tensor, Tensor]] = field(default_factory=dict)
    _unpacked: dict[int, Tensor] = field(default_factory=dict)

    def store(self, place: WeightPlace, *, per_channel: bool, block: int) -> None:
        """Let the node read stored weights: with a scale for each run, each channel, or one."""
        stored, scale, zero = self.parts(place, per_channel=per_channel, block=block)
        if id(stored) not in self._unpacked:
            attributes: dict[str, object] = {}
            if block:
                attributes = {"axis": place.summed, "block_size": block}
            elif scale.shape:
                attributes = {"axis": place.channel}
            out = self.model.variable(f"{stored.name}/dequantized", np.dtype(np.float32), stored.shape)
            inputs = [stored, scale] if block else [stored, scale, zero]
            self.model.add("DequantizeLinear", inputs, [out], attributes=attributes, origins=origins(place.node))
            self._unpacked[id(stored)] = out
        self.model.set_input(place.node, place.position, self._unpacked[id(stored)])

    def store_table(self, place: WeightPlace, scheme: QuantizationScheme | None, *, per_channel: bool) -> None:
        """Let a Gather read a stored table as the target likes it."""
        if scheme is None or scheme.integer_rows:
            self.store_rows(place, per_channel=per_channel)
        else:
            self.store(place, per_channel=per_channel, block=0)

    def store_rows(self, place: WeightPlace, *, per_channel: bool) -> None:
        """Let a Gather read stored rows, and multiply what it found: unpacking the whole table is much work."""
        model, node = self.model, place.node
        stored, scale, _ = self.parts(place, per_channel=per_channel, block=0)
        indices, out = node.inputs[1], node.outputs[0]
        shape, kind = out.shape, np.dtype(np.float32)
        found = model.variable(f"{out.name}/stored", np.dtype(np.int8), shape)
        steps = model.variable(f"{out.name}/steps", kind, shape)
        names = origins(node)
        model.add("Gather", [stored, indices], [found], attributes={"axis": 0}, origins=names)
        model.add("Cast", [found], [steps], attributes={"to": 1}, origins=names)
        if scale.shape:
            column = self._column(scale)
            scale = model.variable(f"{out.name}/scale", kind, None if shape is None else [*shape[:-1], 1])
            model.add("Gather", [column, indices], [scale], attributes={"axis": 0}, origins=names)
        model.replace(node, "Mul", [steps, scale], origins=names)

    def parts(self, place: WeightPlace, *, per_channel: bool, block: int) -> tuple[Tensor, Tensor, Tensor]:
        """The stored integers, their scales, and zero points."""
        node, old = place.node, place.node.inputs[place.position]
        axis = place.channel if per_channel else None
        bits = 8 if node.op == "Gather" else self.bits
        key = id(old), place.summed if block else axis, block, bits
        if key not in self._known:
            values = constant(node, place.position)
            assert values is not None, "weight_place has seen to it"
            if block:
                steps, scales = block_weights(values, place.summed, block, bits)
            else:
                steps, scales = integer_weights(values, axis, bits=bits)
            stored = _narrow(steps, bits)
            self._known[key] = (
                self.model.constant(f"{old.name}/quantized", stored),
                self.model.constant(f"{old.name}/scale", scales),
                self.model.constant(f"{old.name}/zero_point", np.zeros(scales.shape, stored.dtype)),
            )
        return self._known[key]

    def _column(self, scale: Tensor) -> Tensor:
        if id(scale) not in self._unpacked:
            from edgecc.model import value_of

            values = value_of(scale)
            assert values is not None
            self._unpacked[id(scale)] = self.model.constant(f"{scale.name}/column", values.reshape(-1, 1))
        return self._unpacked[id(scale)]


def _narrow(steps: Array, bits: int) -> Array:
    import ml_dtypes

    return steps if bits == 8 else steps.astype(ml_dtypes.int4)
