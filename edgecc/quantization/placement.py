"""Writes a plan into the graph: QuantizeLinear and DequantizeLinear."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from edgecc.quantization.grids import Grid, grid_for
from edgecc.quantization.plan import is_float
from edgecc.quantization.scheme import QuantizationScheme, Role
from edgecc.quantization.weights import channel_axis, integer_bias, integer_weights, least_scales
from edgecc.rewriting.reading import constant

if TYPE_CHECKING:
    from edgecc.model import Model, Node, Tensor
    from edgecc.quantization.groups import Edge, Solution
    from edgecc.quantization.plan import Plan
    from edgecc.statistics.answers import Array


@dataclass
class Placement:
    """A model on its way to integers.

    Attributes:
        model: edited in place.
        plan: what becomes integers.
        solution: the grid of each tensor.
        scheme: of the target.
        per_channel: whether weights get a scale for each output channel where the target takes them.
    """

    model: Model
    plan: Plan
    solution: Solution
    scheme: QuantizationScheme
    per_channel: bool
    _rounded: dict[str, Tensor] = field(default_factory=dict)
    _scales: dict[float, Tensor] = field(default_factory=dict)
    _zeros: dict[tuple[str, int], Tensor] = field(default_factory=dict)

    def run(self) -> None:
        """Edit the graph: constants first, then data, then what is requantized."""
        nodes = [node for node in self.model.nodes() if id(node) in self.plan.rules]
        for node in nodes:
            if self.plan.rules[id(node)].role is Role.WEIGHTED:
                self._quantize_weights(node)
            else:
                self._quantize_constants(node)
        cut = {(edge.data, edge.node): edge for edge in self.solution.boundaries}
        for key, tensor in self.plan.tensors.items():
            self._round(tensor, key, cut)

    # ---------------------------------------------------------------------------------------------- data

    def _round(self, tensor: Tensor, key: str, cut: dict[tuple[str, str], Edge]) -> None:
        """Let those who read the tensor read it rounded; from what is rounded already, if they read another type."""
        model, producer, grid = self.model, self.model.producer(tensor), self.solution.grids[key]
        first = key == tensor.name
        source = self._rounded.get(tensor.name, tensor)
        everybody = self.scheme.rounds_results and producer is not None and id(producer) in self.plan.rules
        readers = [n for n in model.consumers(source) if (everybody and first) or self._reads(n, source, key)]
        if everybody and first and model.is_output(tensor):
            assert producer is not None
            raw = model.variable(f"{tensor.name}/raw", np.dtype(np.float32), tensor.shape)
            place = next(i for i, out in enumerate(producer.outputs) if out is tensor)
            model.set_output(producer, place, raw)
            rounded = self._pair(raw, grid, tensor)
        else:
            rounded = self._pair(source, grid)
            for node in readers:
                _exchange(model, node, source, rounded)
        if everybody and first:
            self._rounded[tensor.name] = rounded
        for node in readers:
            edge = cut.get((key, node.name))
            if edge is not None:
                _exchange(model, node, rounded, self._pair(rounded, self.solution.grids[edge.result]))

    def _reads(self, node: Node, tensor: Tensor, key: str) -> bool:
        """Whether the node reads the tensor as data, in the type of that key."""
        rule = self.plan.rules.get(id(node))
        if rule is None or self.plan.types[id(node)] != self.plan.dtypes[key]:
            return False
        return any(node.inputs[place] is tensor for place in rule.positions(node))

    def _pair(self, tensor: Tensor, grid: Grid, out: Tensor | None = None) -> Tensor:
        """The tensor rounded to a grid."""
        stored = grid.as_unsigned() if self.scheme.unsigned else grid
        q = self.model.variable(f"{tensor.name}/quantized", np.dtype(stored.dtype), tensor.shape)
        if out is None:
            out = self.model.variable(f"{tensor.name}/dequantized", np.dtype(np.float32), tensor.shape)
        scale, zero = self._scale(stored.scale), self._zero(stored.dtype, stored.zero_point)
        origins = self._origins(tensor)
        self.model.add("QuantizeLinear", [tensor, scale, zero], [q], origins=origins)
        self.model.add("DequantizeLinear", [q, scale, zero], [out], origins=origins)
        return out

    def _origins(self, tensor: Tensor) -> tuple[str, ...]:
        from edgecc.model import origins

        producer = self.model.producer(tensor)
        return () if producer is None else origins(producer)

    def _scale(self, scale: float) -> Tensor:
        if scale not in self._scales:
            self._scales[scale] = self.model.constant("scale", np.asarray(scale, np.float32))
        return self._scales[scale]

    def _zero(self, dtype: str, zero_point: int) -> Tensor:
        key = dtype, zero_point
        if key not in self._zeros:
            self._zeros[key] = self.model.constant("zero_point", np.asarray(zero_point, dtype))
        return self._zeros[key]

    # ---------------------------------------------------------------------------------------------- constants

    def _quantize_weights(self, node: Node) -> None:
        weights, bias = constant(node, 1), constant(node, 2)
        assert weights is not None, "the plan has seen to it"
        if bias is not None:
            bias = bias.reshape(bias.shape[-1:])  # that of a Gemm may be one row
        axis = channel_axis(node, self.scheme) if self.per_channel else None
        data_scale = self.solution.grids[self.plan.key(node.inputs[0], node)].scale
        integer = bias is not None and self.scheme.integer_bias and self.plan.types[id(node)] == "int8"
        least = least_scales(bias, data_scale, axis) if integer else 0.0
        values, scales = integer_weights(weights, axis, least)
        self._dequantize(node, 1, values, scales, axis)
        if integer:
            assert bias is not None
            self._dequantize(node, 2, *integer_bias(bias, data_scale, scales), axis=0)

    def _quantize_constants(self, node: Node) -> None:
        """Operands that are constant, on the result's grid where that must be the data's, or on one of their own."""
        rule, dtype = self.plan.rules[id(node)], self.plan.types[id(node)]
        if rule.role is Role.CLAMP:
            return
        for place in rule.positions(node):
            values = constant(node, place)
            if values is None or values.dtype != np.float32 or is_float(node.inputs[place]):
                continue
            key = self.plan.key(node.outputs[0], node)
            grid = self.solution.grids.get(key) if rule.role is Role.SAME else None
            if grid is None:
                interval = float(values.min(initial=0.0)), float(values.max(initial=0.0))
                symmetric = self.scheme.is_symmetric(dtype) or values.size == 1
                grid = grid_for(interval, dtype, symmetric=symmetric)
            grid = grid.as_unsigned() if self.scheme.unsigned else grid
            scale = np.asarray(grid.scale, np.float32)
            self._dequantize(node, place, grid.store(values), scale, None, grid.zero_point)

    def _dequantize(
        self, node: Node, place: int, values: Array, scales: Array, axis: int | None, zero_point: int = 0
    ) -> None:
        """Let an input of the node read stored integers."""
        from edgecc.model import origins

        old = node.inputs[place]
        stored = self.model.constant(f"{old.name}/quantized", values)
        scale = self.model.constant(f"{old.name}/scale", scales)
        zero = self.model.constant(f"{old.name}/zero_point", np.full(scales.shape, zero_point, values.dtype))
        out = self.model.variable(f"{old.name}/dequantized", np.dtype(np.float32), values.shape)
        attributes = {"axis": axis} if scales.ndim else {}
        inputs = [stored, scale, zero]
        self.model.add("DequantizeLinear", inputs, [out], attributes=attributes, origins=origins(node))
        self.model.set_input(node, place, out)


def _exchange(model: Model, node: Node, old: Tensor, new: Tensor) -> None:
    for place, tensor in enumerate(node.inputs):
        if tensor is old:
            model.set_input(node, place, new)
