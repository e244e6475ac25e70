"""The bias of a layer whose weights are integers: where it is, and how to add to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgecc.quantization.quantized_layers import QuantizedLayer, dequantized
from edgecc.quantization.weights import LARGEST_BIAS
from edgecc.rewriting.reading import constant, has_operand, is_op, is_scaled_gemm

if TYPE_CHECKING:
    from edgecc.model import Model, Node
    from edgecc.quantization.scheme import QuantizationScheme
    from edgecc.statistics.answers import Array


@dataclass(frozen=True)
class Bias:
    """A bias that can be added to.

    Attributes:
        holder: the node that reads it: the layer, or the Add behind a MatMul.
        place: among its inputs; there may be none yet.
        units: of the int32 that it is stored as, one or one per channel; None for a bias in float.
        stored: the DequantizeLinear of an int32 bias that is there.
    """

    holder: Node
    place: int
    units: Array | None = None
    stored: Node | None = None

    def representable(self, change: Array) -> Array:
        """The nearest change that the bias can make; none where the sum would not fit."""
        if self.units is None:
            return change
        steps = np.rint(change / self.units)
        old = 0.0 if self.stored is None else np.asarray(constant(self.stored, 0), np.float64)
        steps = np.where(np.abs(old + steps) > LARGEST_BIAS, 0.0, steps)
        result: Array = steps * self.units
        return result

    def add(self, change: Array, model: Model) -> None:
        """Add one number per channel, `representable` ones.

        Args:
            change: float64 [channels].
            model: edited.
        """
        node, place = self.holder, self.place
        if self.stored is not None:
            assert self.units is not None
            old = constant(self.stored, 0)
            assert old is not None
            steps = np.rint(change / self.units).astype(np.int64)
            new = (old.astype(np.int64) + steps.reshape(old.shape)).astype(np.int32)
            if model.single_consumer(self.stored.outputs[0]) is None:
                # Other layers read it, which lack something else.
                self._store(new, model)
            else:
                model.set_input(self.stored, 0, model.constant(self.stored.inputs[0].name, new))
            return
        if self.units is not None:
            self._store(np.rint(change / np.asarray(self.units, np.float32)).astype(np.int32), model)
            return
        values = constant(node, place)
        if values is not None:
            new = (values.astype(np.float64) + change).astype(values.dtype)
            model.set_input(node, place, model.constant(node.inputs[place].name, new))
            return
        _append(node, place, model, change.astype(np.float32))

    def _store(self, steps: Array, model: Model) -> None:
        """A bias of the layer's own, in int32."""
        from edgecc.cleanup import sort
        from edgecc.model import origins

        assert self.units is not None
        units = np.asarray(self.units, np.float32)
        stored = model.constant(f"{self.holder.name}/bias/quantized", steps)
        scale = model.constant(f"{self.holder.name}/bias/scale", units)
        zero = model.constant(f"{self.holder.name}/bias/zero_point", np.zeros(units.shape, np.int32))
        out = model.variable(f"{self.holder.name}/bias/dequantized", np.dtype(np.float32), steps.shape)
        attributes = {"axis": 0} if units.ndim else {}
        model.add("DequantizeLinear", [stored, scale, zero], [out], attributes=attributes, origins=origins(self.holder))
        if has_operand(self.holder, self.place) or len(self.holder.inputs) > self.place:
            model.set_input(self.holder, self.place, out)
        else:
            self.holder.inputs.append(out)
        # The layers behind are observed in this model before the pass is over.
        sort(model.graph)


def _append(node: Node, place: int, model: Model, values: Array) -> None:
    tensor = model.constant(f"{node.name}/bias", values)
    if len(node.inputs) > place:
        model.set_input(node, place, tensor)
    else:
        node.inputs.append(tensor)


def bias_of(layer: QuantizedLayer, model: Model, scheme: QuantizationScheme) -> Bias | str:
    """The bias of a layer, or the reason why none can be added to.

    Args:
        layer: the layer.
        model: that its node is in.
        scheme: of the target, which says how biases are stored where there is none yet.
    """
    node = layer.node
    if node.op == "MatMul":
        return _behind(layer, model)
    if is_scaled_gemm(node):
        return "it scales its product or its bias"
    if has_operand(node, 2):
        stored = dequantized(node.inputs[2])
        if stored is None:
            return Bias(node, 2) if constant(node, 2) is not None else "its bias is computed"
        values, units = constant(stored, 0), constant(stored, 1)
        if values is None or units is None or values.dtype != np.int32 or values.shape[-1:] != (layer.source.outputs,):
            return "its bias is not stored as int32, one for each channel"
        return Bias(node, 2, units.astype(np.float64), stored)
    data, scale = dequantized(node.inputs[0]), constant(layer.weights, 1)
    step = None if data is None else constant(data, 1)
    eight = data is not None and np.dtype(data.inputs[0].dtype).itemsize == 1
    if not scheme.integer_bias or step is None or not eight:
        return Bias(node, 2)
    if scale is None or scale.ndim > 1 or "block_size" in layer.weights.attrs:
        return "its weights have scales that no int32 bias can be in units of"
    return Bias(node, 2, (np.float32(step) * scale.astype(np.float32)).astype(np.float64))


def _behind(layer: QuantizedLayer, model: Model) -> Bias | str:
    """The float constant of the Add behind a MatMul, whose product may be rounded in between."""
    tensor, adder = layer.node.outputs[0], layer.source.adder
    reader = model.single_consumer(tensor)
    while reader is not None and is_op(reader, "QuantizeLinear", "DequantizeLinear"):
        reader = model.single_consumer(reader.outputs[0])
    if adder is None or reader is None or not is_op(reader, "Add") or model.is_inner(reader):
        return "it has no bias to add to"
    for place in (0, 1):
        values = constant(reader, place)
        if values is not None and values.dtype == np.float32:
            return Bias(reader, place)
    return "its bias is stored in few bits"
