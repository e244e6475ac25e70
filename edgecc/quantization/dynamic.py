"""Data that is rounded to 8 bits with a scale found at run time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from edgecc.model import origins
from edgecc.rewriting.reading import constant, has_operand, is_op

if TYPE_CHECKING:
    from edgecc.model import Model, Node, Tensor
    from edgecc.quantization.weight_places import WeightPlace, WeightStore

_FLOAT32 = np.dtype(np.float32)


def rounded_at_run_time(tensor: Tensor) -> Node | None:
    """The DynamicQuantizeLinear whose result, dequantized, the tensor is; None if it is something else."""
    back = tensor.inputs[0] if tensor.inputs else None
    if back is None or not is_op(back, "DequantizeLinear") or len(back.inputs) < 3:
        return None
    source = back.inputs[0].inputs[0] if back.inputs[0].inputs else None
    if source is None or not is_op(source, "DynamicQuantizeLinear"):
        return None
    return source if all(a is b for a, b in zip(back.inputs, source.outputs, strict=False)) else None


def has_dynamic_kernel(node: Node) -> bool:
    """Whether the node multiplies data that is rounded at run time with stored weights."""
    if not is_op(node, "Conv", "Gemm", "MatMul") or rounded_at_run_time(node.inputs[0]) is None:
        return False
    weights = node.inputs[1].inputs[0] if node.inputs[1].inputs else None
    return weights is not None and is_op(weights, "DequantizeLinear") and constant(weights, 0) is not None


def reads_are_dynamic(source: Node, model: Model) -> bool:
    """Whether all that reads a DynamicQuantizeLinear multiplies its values with stored weights."""
    if any(model.is_output(tensor) for tensor in source.outputs):
        return False
    backs = [node for tensor in source.outputs for node in model.consumers(tensor)]
    if not all(rounded_at_run_time(back.outputs[0]) is source for back in backs if back.outputs):
        return False
    results = [back.outputs[0] for back in backs]
    readers = [node for tensor in results for node in model.consumers(tensor)]
    return bool(readers) and all(map(has_dynamic_kernel, readers)) and not any(map(model.is_output, results))


@dataclass
class DynamicRounding:
    """Lets nodes compute with data rounded at run time; what several nodes read is rounded once.

    Attributes:
        model: edited in place.
        store: of the weights.
    """

    model: Model
    store: WeightStore
    _rounded: dict[int, list[Tensor]] = field(default_factory=dict)
    _pairs: dict[int, Tensor] = field(default_factory=dict)

    def as_integers(self, place: WeightPlace, *, per_channel: bool) -> None:
        """Write the product as one of integers, and scales behind it."""
        model, node = self.model, place.node
        names = origins(node)
        stored, scale, zero = self.store.parts(place, per_channel=per_channel, block=0)
        data, data_scale, data_zero = self._round(node)
        out, bias = node.outputs[0], node.inputs[2] if has_operand(node, 2) else None
        shape = out.shape
        found = model.variable(f"{out.name}/integers", np.dtype(np.int32), shape)
        model.add("MatMulInteger", [data, stored, data_zero, zero], [found], origins=names)
        steps = model.variable(f"{out.name}/steps", _FLOAT32, shape)
        model.add("Cast", [found], [steps], attributes={"to": 1}, origins=names)
        unit = model.variable(f"{out.name}/scale", _FLOAT32, scale.shape)
        model.add("Mul", [data_scale, scale], [unit], origins=names)
        if bias is None:
            model.replace(node, "Mul", [steps, unit], origins=names)
            return
        product = model.variable(f"{out.name}/product", _FLOAT32, shape)
        model.add("Mul", [steps, unit], [product], origins=names)
        model.replace(node, "Add", [product, bias], origins=names)

    def as_pair(self, place: WeightPlace, *, per_channel: bool) -> None:
        """Let the float operator read rounded data and stored weights; the target knows what that means."""
        model, node = self.model, place.node
        source = node.inputs[0]
        if id(source) not in self._pairs:
            back = model.variable(f"{source.name}/dequantized", _FLOAT32, source.shape)
            model.add("DequantizeLinear", self._round(node), [back], origins=origins(node))
            self._pairs[id(source)] = back
        model.set_input(node, 0, self._pairs[id(source)])
        self.store.store(place, per_channel=per_channel, block=0)

    def _round(self, node: Node) -> list[Tensor]:
        source = node.inputs[0]
        if id(source) not in self._rounded:
            variable = self.model.variable
            outs: list[Tensor] = [
                variable(f"{source.name}/quantized", np.dtype(np.uint8), source.shape),
                variable(f"{source.name}/scale", _FLOAT32, ()),
                variable(f"{source.name}/zero_point", np.dtype(np.uint8), ()),
            ]
            self.model.add("DynamicQuantizeLinear", [source], outs, origins=origins(node))
            self._rounded[id(source)] = outs
        return self._rounded[id(source)]
