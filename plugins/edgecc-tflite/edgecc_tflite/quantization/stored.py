"""Constants behind DequantizeLinear or Cast: rules see their float32 values, later steps find the stored ones again.

A rule may transpose, reshape or slice its weights as it likes. Whatever it makes of them is still a multiple of the
scale, so that dividing by it gives the stored integers back; nothing has to be carried through the rules.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from edgecc.serialization import graphs_of
from edgecc_tflite.quantization.grid import Grid

if TYPE_CHECKING:
    from edgecc.model import Model, Node


class Stored(NamedTuple):
    """How a constant was stored.

    Attributes:
        scale: float32, one value or one per slice, of shape (n,).
        zero_point: int64, as many.
        dtype: name of the stored type.
        block: length of the runs of a matrix's rows that have a scale each, of shape (rows, runs) then; 0 for none.
        dynamic: whether what reads it rounds its data at run time.
    """

    scale: np.ndarray
    zero_point: np.ndarray
    dtype: str
    block: int = 0
    dynamic: bool = False

    @property
    def grid(self) -> Grid | None:
        """The grid that its values are on; None for several scales, and for types that kernels do not compute with."""
        if self.scale.size != 1 or self.block or self.dtype not in ("int8", "uint8", "int16"):
            return None
        shift = 128 if self.dtype == "uint8" else 0
        dtype = "int16" if self.dtype == "int16" else "int8"
        return Grid(dtype, float(self.scale[0]), int(self.zero_point[0]) - shift)


def stored_by_origin(model: Model) -> dict[str, list[Stored]]:
    """How constants were stored, by the name of the source nodes that read them."""
    from edgecc.model import origins

    result, stored = with_float_constants(model)
    found: dict[str, list[Stored]] = {}
    for node in result.all_nodes() if stored else ():
        known = [stored[tensor.name] for tensor in node.inputs if tensor.name in stored]
        for origin in origins(node) if known else ():
            found.setdefault(origin, []).extend(known)
    return found


def with_float_constants(model: Model) -> tuple[Model, dict[str, Stored]]:
    """A model whose stored weights are float32 constants, and how they were stored, by tensor name.

    The model itself is not changed; one that has none is returned as it is.
    """
    if not any(node.op == "DequantizeLinear" or _widens(node) for node in model.all_nodes() if _is_standard(node)):
        return model, {}
    result = model.clone()
    dynamic = _take_in_rounding(result)
    outputs = {tensor.name for part in graphs_of(result.graph) for tensor in part.outputs}
    stored: dict[str, Stored] = {}
    for node in result.all_nodes():
        if node.outputs[0].name in outputs or not _is_standard(node):
            continue
        if node.op == "DequantizeLinear":
            _dequantize(node, stored, dynamic)
        elif _widens(node):
            stored[node.outputs[0].name] = Stored(np.ones(1, np.float32), np.zeros(1, np.int64), "float16")
            _become_constant(node, node.inputs[0].values)
        elif node.op in ("Transpose", "Reshape", "Squeeze", "Unsqueeze", "Identity", "Flatten"):
            _move(node, stored)
    return result, stored


def _is_standard(node: Node) -> bool:
    return node.domain in (None, "", "ai.onnx")


def _widens(node: Node) -> bool:
    """A Cast of a float16 constant to float32."""
    values = getattr(node.inputs[0], "values", None) if node.op == "Cast" else None
    return values is not None and values.dtype == np.float16 and int(node.attrs["to"]) == 1


def _take_in_rounding(model: Model) -> set[str]:
    """Drop the rounding of data at run time, which kernels do by themselves; names of the weights that say so."""
    from edgecc.quantization.dynamic import reads_are_dynamic

    found: set[str] = set()
    for source in model.nodes("DynamicQuantizeLinear"):
        if not reads_are_dynamic(source, model):
            continue
        for back in model.consumers(source.outputs[0]):
            found |= {reader.inputs[1].name for reader in model.consumers(back.outputs[0])}
            model.redirect(back.outputs[0], source.inputs[0])
            model.remove(back)
        model.remove(source)
    return found


def _dequantize(node: Node, stored: dict[str, Stored], dynamic: set[str]) -> None:
    values = [getattr(tensor, "values", None) for tensor in node.inputs]
    if values[0] is None or values[1] is None or np.dtype(values[1].dtype) != np.float32:
        return
    if len(values) > 2 and values[2] is None and not node.inputs[2].is_empty():
        return
    data, scale = np.asarray(values[0]), np.asarray(values[1])
    zero_point = np.zeros(scale.shape, np.int64) if len(values) < 3 or values[2] is None else np.asarray(values[2])
    axis, block = int(node.attrs.get("axis", 1)), int(node.attrs.get("block_size", 0) or 0)
    if scale.size > 1 and axis >= data.ndim:
        return
    spread_scale, spread_zero = (_spread(part, data.shape, axis, block) for part in (scale, zero_point))
    floats = (data.astype(np.float32) - spread_zero.astype(np.float32)) * spread_scale
    name = node.outputs[0].name
    if not block:
        flat = scale.reshape(-1), zero_point.reshape(-1).astype(np.int64)
        stored[name] = Stored(*flat, data.dtype.name, dynamic=name in dynamic)
    elif data.ndim == 2 and not zero_point.any():
        rows = np.moveaxis(scale, axis, -1)
        stored[name] = Stored(rows, np.zeros(1, np.int64), data.dtype.name, block)
    _become_constant(node, floats)


def _spread(values: np.ndarray, shape: tuple[int, ...], axis: int, block: int) -> np.ndarray:
    """One value per slice or block, so that it broadcasts over the data."""
    if values.size == 1:
        return values.reshape(())
    axis %= len(shape)
    if block:
        return np.repeat(values, block, axis)[tuple(slice(0, d) for d in shape)]
    return values.reshape([-1 if a == axis else 1 for a in range(len(shape))])


def _move(node: Node, stored: dict[str, Stored]) -> None:
    """Carry on through operators that exporters put between weights and their reader."""
    source, output = node.inputs[0], node.outputs[0]
    values = getattr(source, "values", None)
    if values is None or source.name not in stored:
        return
    if node.op == "Transpose":
        moved = np.ascontiguousarray(values.transpose(node.attrs.get("perm", range(values.ndim)[::-1])))
    elif output.shape is not None and all(isinstance(d, int) for d in output.shape):
        moved = values.reshape(output.shape)
    else:
        return
    stored[output.name] = stored[source.name]
    _become_constant(node, moved)


def _become_constant(node: Node, values: np.ndarray) -> None:
    output = node.outputs[0]
    output.inputs.clear()
    output.to_constant(np.asarray(values, np.float32))
